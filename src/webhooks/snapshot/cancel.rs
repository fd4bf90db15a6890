//! Cancelling a snapshot.

use sea_orm::{ActiveValue, EntityTrait};
use serde_json::json;

use super::{CANCELLED, Error, RUNNING, find, rows};
use crate::actor::Actor;
use crate::audit;
use crate::ids::SnapshotId;
use crate::storage::tables::snapshots;
use crate::storage::{Lane, Store, UseCase, WriteTx};

struct Cancel(Actor, SnapshotId);

impl UseCase for Cancel {
    type Answer = snapshots::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<snapshots::Model, Error> {
        let Self(actor, id) = self;
        let row = find(tx, *id).await?.ok_or(Error::NoSnapshot(*id))?;
        if row.state != RUNNING {
            return Err(Error::Ended(row.state));
        }
        let change = snapshots::ActiveModel {
            id: ActiveValue::Unchanged(*id),
            state: ActiveValue::Set(CANCELLED.to_owned()),
            lease_token: ActiveValue::Set(None),
            ended_at: ActiveValue::Set(Some(tx.now())),
            updated_at: ActiveValue::Set(tx.now()),
            ..Default::default()
        };
        let cancelled = snapshots::Entity::update(change).exec(tx).await?;
        if let Some(locked) = tx.directory() {
            let entry = audit::Entry::of_directory(&locked.row, "snapshot.cancelled", id);
            let details = json!({"endpoint_id": row.endpoint_id});
            audit::record(tx, *actor, entry.with(details)).await?;
        }
        Ok(cancelled)
    }
}

/// Cancels a snapshot: nothing more of it is sent, and the live events go on.
///
/// # Errors
/// There is no such snapshot, it has ended, or the database fails.
pub async fn cancel(
    store: &Store,
    actor: Actor,
    id: SnapshotId,
) -> Result<snapshots::Model, Error> {
    let row = find(store.reader(), id)
        .await?
        .ok_or(Error::NoSnapshot(id))?;
    let lane = Lane::Directory(row.directory_id);
    let cancelled = store.write(lane, Cancel(actor, id)).await?;
    store.wake().endpoints_changed();
    rows::remove_all(store, id, cancelled.total).await?;
    Ok(cancelled)
}
