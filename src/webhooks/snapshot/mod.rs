//! Snapshots: the whole state of a directory, sent to one endpoint.
//!
//! A snapshot is *started* under the directory's lock: what there is of it is noted row by row in the
//! order in which it is sent, with the sequence at which that is exact. From then on the live events of the
//! directory to that endpoint are held ([`super::holds`]); a node sends the rows ([`run`]), and when the last
//! has arrived the live events go on where they were.
//!
//! What is sent are `dsync.activated`, a `dsync.user.created` for each person, a `dsync.group.created` for each
//! group and a `dsync.group.user_added` for each membership, numbered from 1, as far as the endpoint takes
//! these types. They are not in the log: they have ids of their own, the same on every attempt, and no
//! sequence. Each shows its resource as it is when it is sent. If that has changed since the snapshot was
//! started, an event with a higher sequence is still to come and tells so; what is gone by then is left
//! out, with its number. `dsync.activated` goes in the place of the last one if that is gone, so that the end
//! is always marked.
//!
//! A receiver that takes every event as the state that it shows, whether it knew of it or not, and drops
//! events whose sequence is not above the snapshot's, has the directory as it is at every sequence from
//! then on. What it knew before, and neither the snapshot nor a later event has named by the end, is gone.
//!
//! Invariant: an endpoint gets one snapshot of a directory at a time.

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder};
use sea_orm::{QuerySelect, Select};

use crate::ids::{DirectoryId, EndpointId, SnapshotId};
use crate::storage;
use crate::storage::tables::snapshots;

mod cancel;
mod message;
mod rows;
mod sender;
mod start;
mod work;

pub use cancel::cancel;
pub use sender::run;
pub use start::{of_everything, start};

/// The state of one that is on its way.
pub const RUNNING: &str = "running";
/// The state of one that has arrived.
pub const DONE: &str = "done";
/// The state of one that somebody has ended.
pub const CANCELLED: &str = "cancelled";
/// The state of one that has been given up.
pub const FAILED: &str = "failed";

/// How many rows are sent, read or removed in one go.
const PAGE_ROWS: u64 = 500;

/// Why a snapshot was not started or cancelled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such endpoint.
    #[error("Webhook endpoint not found: '{0}'.")]
    NoEndpoint(EndpointId),
    /// There is no such directory.
    #[error("Directory not found: '{0}'.")]
    NoDirectory(DirectoryId),
    /// There is no such snapshot.
    #[error("Snapshot not found: '{0}'.")]
    NoSnapshot(SnapshotId),
    /// The provider has not been heard, so that there is no state yet.
    #[error("the directory has no state yet: its provider has not been heard")]
    NotLinked,
    /// The directory is going to be deleted.
    #[error("the directory is going to be deleted; restore it first")]
    Deleting,
    /// The endpoint does not take events of the directory.
    #[error(
        "the endpoint's filter does not pass events of this directory; change the filter first"
    )]
    NotTaken,
    /// The endpoint is disabled.
    #[error("the endpoint is disabled; enable it first")]
    Disabled,
    /// One is on its way already.
    #[error(
        "the snapshot {0} of this directory is still on its way to the endpoint; cancel it or wait"
    )]
    Running(SnapshotId),
    /// It has ended.
    #[error("the snapshot has ended already, as {0}")]
    Ended(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Storage(error.into())
    }
}

/// Finds a snapshot.
///
/// # Errors
/// The database fails.
pub async fn find(
    connection: &impl ConnectionTrait,
    id: SnapshotId,
) -> Result<Option<snapshots::Model>, DbErr> {
    snapshots::Entity::find_by_id(id).one(connection).await
}

/// The snapshots for an endpoint that were started before `before`, newest first, at most `limit` of them.
///
/// # Errors
/// The database fails.
pub async fn list(
    connection: &impl ConnectionTrait,
    endpoint_id: EndpointId,
    before: Option<SnapshotId>,
    limit: u64,
) -> Result<Vec<snapshots::Model>, DbErr> {
    let mut found = snapshots::Entity::find()
        .filter(snapshots::Column::EndpointId.eq(endpoint_id))
        .order_by_desc(snapshots::Column::Id)
        .limit(limit);
    if let Some(before) = before {
        found = found.filter(snapshots::Column::Id.lt(before));
    }
    found.all(connection).await
}

/// The one of a directory that is on its way to an endpoint.
fn running(endpoint_id: EndpointId, directory_id: DirectoryId) -> Select<snapshots::Entity> {
    snapshots::Entity::find()
        .filter(snapshots::Column::EndpointId.eq(endpoint_id))
        .filter(snapshots::Column::DirectoryId.eq(directory_id))
        .filter(snapshots::Column::State.eq(RUNNING))
}
