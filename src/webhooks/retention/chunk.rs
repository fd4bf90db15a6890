//! What of a shard's front is to go together, and who still needs it.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, Statement};

use super::{Limits, STEP};
use crate::ids::{DirectoryId, EndpointId, OrganizationId};
use crate::storage::tables::audit_cursors;
use crate::storage::{Dialect, Store};
use crate::webhooks::endpoint;

/// An event as far as retention is concerned.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) position: i64,
    pub(super) organization_id: OrganizationId,
    pub(super) directory_id: DirectoryId,
    pub(super) kind: String,
    pub(super) created_at: DateTime<Utc>,
}

/// The first events of a shard after `after` that may go, oldest first.
pub(super) async fn read(
    store: &Store,
    shard: i16,
    after: i64,
    limits: Limits,
) -> Result<Vec<Row>, DbErr> {
    let statement = front_statement(store.dialect(), shard, after);
    let mut rows = Vec::new();
    for row in store.reader().query_all_raw(statement).await? {
        let created_at: DateTime<Utc> = row.try_get("", "created_at")?;
        if created_at >= limits.events {
            break;
        }
        rows.push(Row {
            position: row.try_get("", "position")?,
            organization_id: row.try_get("", "organization_id")?,
            directory_id: row.try_get("", "directory_id")?,
            kind: row.try_get("", "kind")?,
            created_at,
        });
    }
    if rows.is_empty() {
        return Ok(rows);
    }
    let audited = audited(store, shard).await?;
    let needed = needed_after(store, shard).await?;
    let goes = |row: &&Row| {
        row.position <= audited && (row.position <= needed || row.created_at < limits.events_max)
    };
    let count = rows.iter().take_while(goes).count();
    rows.truncate(count);
    Ok(rows)
}

/// Asks for the first events of a shard after `after`, as many as one step looks at.
pub fn front_statement(dialect: Dialect, shard: i16, after: i64) -> Statement {
    dialect.statement(
        "SELECT position, organization_id, directory_id, kind, created_at FROM events \
         WHERE shard = $1 AND position > $2 ORDER BY position LIMIT $3",
        [shard.into(), after.into(), STEP.into()],
    )
}

/// Up to where the audit trail has read a shard.
async fn audited(store: &Store, shard: i16) -> Result<i64, DbErr> {
    let cursor = audit_cursors::Entity::find_by_id(shard).one(store.reader());
    Ok(cursor.await?.map_or(0, |cursor| cursor.position))
}

/// The position in a shard up to which no live endpoint needs anything.
async fn needed_after(store: &Store, shard: i16) -> Result<i64, DbErr> {
    let mut after = i64::MAX;
    for row in endpoint::list(store.reader()).await? {
        if endpoint::is_enabled(&row) {
            let floor = floor(store.reader(), store.dialect(), row.id, shard).await?;
            after = after.min(floor.unwrap_or(i64::MAX));
        }
    }
    Ok(after)
}

/// The position in a shard up to which an endpoint needs nothing: what ended, or is parked for good.
pub(super) async fn floor(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    endpoint_id: EndpointId,
    shard: i16,
) -> Result<Option<i64>, DbErr> {
    let statement = dialect.statement(
        "SELECT (SELECT position FROM endpoint_cursors WHERE endpoint_id = $1 AND shard = $2) \
         AS cursor_at, \
         (SELECT min(position) FROM lagging WHERE endpoint_id = $1 AND shard = $2) AS apart_at, \
         (SELECT min(position) FROM exceptions WHERE endpoint_id = $1 AND shard = $2 \
         AND (state <> 'parked' OR next_at_ms IS NOT NULL)) AS exception_at",
        [endpoint_id.into(), shard.into()],
    );
    let Some(row) = connection.query_one_raw(statement).await? else {
        return Ok(None);
    };
    let cursor: Option<i64> = row.try_get("", "cursor_at")?;
    let apart: Option<i64> = row.try_get("", "apart_at")?;
    let exception: Option<i64> = row.try_get("", "exception_at")?;
    let places = [cursor, apart, exception.map(|position| position - 1)];
    Ok(places.into_iter().flatten().min())
}
