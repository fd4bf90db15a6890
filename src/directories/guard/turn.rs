//! Setting the guard of a directory, and releasing what it holds.

use sea_orm::{ActiveValue, EntityTrait};
use serde_json::json;

use super::{Guard, Settings};
use crate::actor::Actor;
use crate::audit;
use crate::clock;
use crate::directories::gate::{self, SettingError};
use crate::ids::DirectoryId;
use crate::storage::tables::directories;
use crate::storage::{Lane, Store, UseCase, WriteTx};

struct Set(Actor, Settings);

impl UseCase for Set {
    type Answer = directories::Model;
    type Error = SettingError;

    async fn run(&self, tx: &WriteTx) -> Result<directories::Model, SettingError> {
        let Self(actor, settings) = self;
        let directory = gate::open(tx)?;
        let before = Guard::of(&directory);
        if before.settings == *settings {
            return Ok(directory);
        }
        let after = Guard {
            settings: *settings,
            ..before
        };
        let details = json!({"guard": [before.settings, after.settings]});
        let entry = audit::Entry::of_directory(&directory, "directory.configured", &directory.id);
        audit::record(tx, *actor, entry.with(details)).await?;
        let change = directories::ActiveModel {
            id: ActiveValue::Unchanged(directory.id),
            guard: ActiveValue::Set(Some(after.text())),
            updated_at: ActiveValue::Set(tx.now()),
            ..Default::default()
        };
        let changed = directories::Entity::update(change).exec(tx).await?;
        tx.directory_changed(changed.id);
        Ok(changed)
    }
}

/// Sets the guard of a directory. What it holds stays held.
///
/// # Errors
/// There is no such directory, it is going to be deleted, or the database fails.
pub async fn set(
    store: &Store,
    actor: Actor,
    directory_id: DirectoryId,
    settings: Settings,
) -> Result<directories::Model, SettingError> {
    let use_case = Set(actor, settings);
    store.write(Lane::Directory(directory_id), use_case).await
}

struct Release(Actor);

impl UseCase for Release {
    type Answer = directories::Model;
    type Error = SettingError;

    async fn run(&self, tx: &WriteTx) -> Result<directories::Model, SettingError> {
        let directory = gate::open(tx)?;
        let Some(held_at) = directory.guard_held_at else {
            return Ok(directory);
        };
        let mut guard = Guard::of(&directory);
        if let Some(trip) = &mut guard.trip {
            trip.released_at = Some(tx.now());
        }
        let entry =
            audit::Entry::of_directory(&directory, "directory.guard_released", &directory.id);
        let details = json!({"held_at": clock::text(held_at)});
        audit::record(tx, self.0, entry.with(details)).await?;
        let change = directories::ActiveModel {
            id: ActiveValue::Unchanged(directory.id),
            guard: ActiveValue::Set(Some(guard.text())),
            guard_held_at: ActiveValue::Set(None),
            updated_at: ActiveValue::Set(tx.now()),
            ..Default::default()
        };
        let released = directories::Entity::update(change).exec(tx).await?;
        tx.directory_changed(released.id);
        Ok(released)
    }
}

/// Lets the deliveries go out that the guard of a directory holds. Doing it twice is a success.
///
/// # Errors
/// There is no such directory, it is going to be deleted, or the database fails.
pub async fn release(
    store: &Store,
    actor: Actor,
    directory_id: DirectoryId,
) -> Result<directories::Model, SettingError> {
    let lane = Lane::Directory(directory_id);
    let row = store.write(lane, Release(actor)).await?;
    store.wake().endpoints_changed();
    Ok(row)
}
