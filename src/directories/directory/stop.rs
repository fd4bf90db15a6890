//! The two ways to stop a directory for a while: what goes out to vendors, and what providers write.
//!
//! Nothing is lost by either. Held deliveries wait in the log, and providers repeat what was refused.

use sea_orm::{ActiveValue, EntityTrait};

use super::{Error, open};
use crate::actor::Actor;
use crate::audit;
use crate::ids::DirectoryId;
use crate::storage::tables::directories;
use crate::storage::{Lane, Store, UseCase, WriteTx};

/// Something that can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Webhooks about the directory.
    Deliveries,
    /// Writes of its provider; reading goes on.
    Writes,
}

impl Flow {
    fn is_stopped(self, directory: &directories::Model) -> bool {
        match self {
            Self::Deliveries => directory.deliveries_held_at.is_some(),
            Self::Writes => directory.writes_refused_at.is_some(),
        }
    }

    /// What the audit trail calls stopping or resuming it.
    fn action(self, is_stopped: bool) -> &'static str {
        match (self, is_stopped) {
            (Self::Deliveries, true) => "directory.deliveries_held",
            (Self::Deliveries, false) => "directory.deliveries_released",
            (Self::Writes, true) => "directory.writes_refused",
            (Self::Writes, false) => "directory.writes_resumed",
        }
    }
}

/// Stops a flow, as ordered by `by`, or lets it go on.
struct Turn {
    actor: Actor,
    id: DirectoryId,
    flow: Flow,
    by: Option<String>,
}

impl UseCase for Turn {
    type Answer = directories::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<directories::Model, Error> {
        let before = open(tx, self.id)?;
        let is_stopped = self.by.is_some();
        if self.flow.is_stopped(&before) == is_stopped {
            return Ok(before);
        }
        let entry = audit::Entry::of_directory(&before, self.flow.action(is_stopped), &self.id);
        audit::record(tx, self.actor, entry).await?;
        let at = ActiveValue::Set(is_stopped.then(|| tx.now()));
        let by = ActiveValue::Set(self.by.clone());
        let mut change = directories::ActiveModel {
            id: ActiveValue::Unchanged(self.id),
            updated_at: ActiveValue::Set(tx.now()),
            ..Default::default()
        };
        match self.flow {
            Flow::Deliveries => (change.deliveries_held_at, change.deliveries_held_by) = (at, by),
            Flow::Writes => (change.writes_refused_at, change.writes_refused_by) = (at, by),
        }
        let after = directories::Entity::update(change).exec(tx).await?;
        tx.directory_changed(self.id);
        Ok(after)
    }
}

/// Stops a flow of a directory, as ordered by `by`, in words. Stopping twice is a success.
///
/// # Errors
/// There is no such directory, or the database fails.
pub async fn stop(
    store: &Store,
    actor: Actor,
    id: DirectoryId,
    flow: Flow,
    by: &str,
) -> Result<directories::Model, Error> {
    turn(store, actor, id, flow, Some(by.to_owned())).await
}

/// Lets a flow of a directory go on. Doing it twice is a success.
///
/// # Errors
/// There is no such directory, or the database fails.
pub async fn resume(
    store: &Store,
    actor: Actor,
    id: DirectoryId,
    flow: Flow,
) -> Result<directories::Model, Error> {
    turn(store, actor, id, flow, None).await
}

async fn turn(
    store: &Store,
    actor: Actor,
    id: DirectoryId,
    flow: Flow,
    by: Option<String>,
) -> Result<directories::Model, Error> {
    let turn = Turn {
        actor,
        id,
        flow,
        by,
    };
    let row = store.write(Lane::Directory(id), turn).await?;
    // Whoever sends webhooks looks at once, not the next time that it looks anyway.
    store.wake().endpoints_changed();
    Ok(row)
}
