//! How much of one directory has not arrived at an endpoint.

use sea_orm::{ConnectionTrait, DbErr};

use super::endpoint;
use super::stream::Exception;
use super::view::Reign;
use crate::ids::EndpointId;
use crate::storage::Store;
use crate::storage::tables::{directories, endpoints};

/// What is undelivered of one directory at one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Events that have not arrived and are still on their way.
    pub undelivered: i64,
    /// Events that were given up for a while.
    pub parked: i64,
}

/// How much of a directory has not arrived at an endpoint, as far as it is written down.
///
/// # Errors
/// The database fails.
pub async fn of(
    store: &Store,
    row: &endpoints::Model,
    directory: &directories::Model,
) -> Result<Backlog, DbErr> {
    let view = endpoint::view(store.reader(), row).await?;
    let mut backlog = exceptions_of(store, row.id, directory).await?;
    for reign in view.reigns_in(directory.shard) {
        let segment = reign.segment;
        if segment.reaches(directory.organization_id, directory.id) {
            for kind in &segment.kinds {
                backlog.undelivered += past_cursor(store, row.id, directory, kind, reign).await?;
            }
        }
    }
    Ok(backlog)
}

/// The events of one type past the cursor, where a filter is in force, that have not been delivered ahead.
async fn past_cursor(
    store: &Store,
    id: EndpointId,
    directory: &directories::Model,
    kind: &str,
    reign: Reign<'_>,
) -> Result<i64, DbErr> {
    let statement = store.dialect().statement(
        "SELECT count(*) AS waiting FROM events e WHERE e.directory_id = $2 AND e.kind = $3 \
         AND e.position > (SELECT c.position FROM endpoint_cursors c WHERE c.endpoint_id = $1 \
         AND c.shard = $4) AND e.position > $5 AND e.position <= $6 \
         AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.endpoint_id = $1 \
         AND d.position = e.position) \
         AND NOT EXISTS (SELECT 1 FROM exceptions x WHERE x.endpoint_id = $1 \
         AND x.position = e.position)",
        [
            id.into(),
            directory.id.into(),
            kind.into(),
            directory.shard.into(),
            reign.after.into(),
            reign.up_to.into(),
        ],
    );
    let row = store.reader().query_one_raw(statement).await?;
    row.map_or(Ok(0), |row| row.try_get("", "waiting"))
}

async fn exceptions_of(
    store: &Store,
    id: EndpointId,
    directory: &directories::Model,
) -> Result<Backlog, DbErr> {
    let statement = store.dialect().statement(
        "SELECT x.state AS state, count(*) AS number FROM exceptions x \
         JOIN events e ON e.position = x.position \
         WHERE x.endpoint_id = $1 AND x.shard = $2 AND e.directory_id = $3 GROUP BY x.state",
        [id.into(), directory.shard.into(), directory.id.into()],
    );
    let mut backlog = Backlog::default();
    for row in store.reader().query_all_raw(statement).await? {
        let state: String = row.try_get("", "state")?;
        let number: i64 = row.try_get("", "number")?;
        if state == Exception::Parked.as_str() {
            backlog.parked += number;
        } else {
            backlog.undelivered += number;
        }
    }
    Ok(backlog)
}
