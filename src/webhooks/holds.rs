//! Which directories' deliveries are held, as the dispatchers of all nodes find out by looking.
//!
//! They are held by hand, by the guard against mass deprovisioning, and while a directory that is to be
//! deleted may still be restored: nothing of it goes out until it is clear whether `dsync.deleted` is to
//! follow. For one endpoint alone they are held while a snapshot is on its way to it.
//!
//! A hold that was written together with events is known before these events are sent: whoever has read
//! events looks what is held before passing them on.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect, Select};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::snapshot::RUNNING;
use crate::directories::directory::State;
use crate::ids::{DirectoryId, EndpointId};
use crate::storage::Store;
use crate::storage::tables::directories::{Column, Entity};

/// A directory whose deliveries are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hold {
    /// The directory.
    pub directory_id: DirectoryId,
    /// The endpoint to which they are held; all, if it is none.
    pub endpoint_id: Option<EndpointId>,
}

/// What is held, by shard.
pub type Held = BTreeMap<i16, BTreeSet<Hold>>;

/// The directories of a shard whose deliveries to an endpoint are held.
pub fn of(held: &Held, shard: i16, endpoint: EndpointId) -> BTreeSet<DirectoryId> {
    let holds = held.get(&shard).into_iter().flatten();
    holds
        .filter(|hold| hold.endpoint_id.is_none_or(|only| only == endpoint))
        .map(|hold| hold.directory_id)
        .collect()
}

/// What this node knows of the holds. Those who look take turns, so that what is told is never older than
/// what was told before.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Look>);

#[derive(Debug, Default)]
struct Look {
    begun_at: Option<Instant>,
    held: Option<Held>,
}

impl Known {
    /// Looks what is held, and tells it if that has changed. If somebody else has looked since this was
    /// called, that is as good.
    ///
    /// # Errors
    /// The database fails.
    pub(super) async fn look(&self, store: &Store, tell: impl FnOnce(Held)) -> Result<(), DbErr> {
        let asked_at = Instant::now();
        let mut last = self.0.lock().await;
        if last.begun_at.is_some_and(|begun_at| begun_at > asked_at) {
            return Ok(());
        }
        let begun_at = Instant::now();
        let held = list(store).await?;
        last.begun_at = Some(begun_at);
        if last.held.as_ref() != Some(&held) {
            last.held = Some(held.clone());
            tell(held);
        }
        Ok(())
    }
}

/// Looks which directories' deliveries are held.
///
/// # Errors
/// The database fails.
pub(super) async fn list(store: &Store) -> Result<Held, DbErr> {
    let connection = store.dispatch_reader();
    // Questions each of which has an index of a few rows. Asked for the states that are open, SQLite
    // would rather read all directories by their states.
    let gone = [State::Deleting.as_str(), State::Deleted.as_str()];
    let by_hand = Entity::find().filter(Column::DeliveriesHeldAt.is_not_null());
    let by_guard = Entity::find().filter(Column::GuardHeldAt.is_not_null());
    let in_grace = Entity::find()
        .filter(Column::DeletionDueAt.is_not_null())
        .filter(Column::State.is_not_in(gone));
    let mut held = Held::new();
    for question in [by_hand, by_guard, in_grace] {
        for (directory_id, shard) in places(question, connection).await? {
            let hold = Hold {
                directory_id,
                endpoint_id: None,
            };
            held.entry(shard).or_default().insert(hold);
        }
    }
    for (hold, shard) in snapshots(store).await? {
        held.entry(shard).or_default().insert(hold);
    }
    Ok(held)
}

async fn places(
    question: Select<Entity>,
    connection: &impl ConnectionTrait,
) -> Result<Vec<(DirectoryId, i16)>, DbErr> {
    question
        .select_only()
        .columns([Column::Id, Column::Shard])
        .into_tuple()
        .all(connection)
        .await
}

/// The directories of which a snapshot is on its way.
async fn snapshots(store: &Store) -> Result<Vec<(Hold, i16)>, DbErr> {
    let running = "SELECT s.directory_id, s.endpoint_id, d.shard FROM snapshots s \
                   JOIN directories d ON d.id = s.directory_id WHERE s.state = $1";
    let statement = store.dialect().statement(running, [RUNNING.into()]);
    let rows = store.dispatch_reader().query_all_raw(statement).await?;
    rows.iter()
        .map(|row| {
            let hold = Hold {
                directory_id: row.try_get("", "directory_id")?,
                endpoint_id: Some(row.try_get("", "endpoint_id")?),
            };
            Ok((hold, row.try_get("", "shard")?))
        })
        .collect()
}
