//! How endpoints fare, for whoever watches from outside: cheap, and bounded however much waits.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait};

use super::endpoint;
use super::stream::Exception;
use crate::ids::EndpointId;
use crate::metrics::Figures;
use crate::storage::Store;
use crate::storage::tables::endpoint_states;

/// Further than this nothing is counted.
const COUNT_MAX: i64 = 10_000;
/// The breaker of an endpoint that gets its events as usual.
const CLOSED: &str = "closed";

/// How the enabled endpoints fare, held ones included.
///
/// # Errors
/// The database fails.
pub async fn all(store: &Store) -> Result<Vec<Figures>, DbErr> {
    let mut all = Vec::new();
    for row in endpoint::list(store.reader()).await? {
        if endpoint::is_enabled(&row) {
            all.push(of(store, row.id).await?);
        }
    }
    Ok(all)
}

async fn of(store: &Store, endpoint_id: EndpointId) -> Result<Figures, DbErr> {
    let now_ms = store.clock().now_ms();
    let (past, oldest_past) = past(store, endpoint_id).await?;
    let (unfinished, parked, oldest_unfinished) = exceptions(store, endpoint_id).await?;
    let oldest = [oldest_past, oldest_unfinished].into_iter().flatten().min();
    let state = endpoint_states::Entity::find_by_id(endpoint_id)
        .one(store.reader())
        .await?;
    Ok(Figures {
        endpoint_id,
        backlog: past + unfinished,
        parked,
        oldest_ms: oldest.map_or(0, |at| now_ms - at.timestamp_millis()),
        is_breaker_open: state.is_some_and(|state| state.breaker != CLOSED),
    })
}

/// How many events are past an endpoint's cursors, whether they pass its filter or not, and since when; a
/// cursor that has nothing to write passes foreign events within half a minute.
async fn past(
    store: &Store,
    endpoint_id: EndpointId,
) -> Result<(i64, Option<DateTime<Utc>>), DbErr> {
    let statement = store.dialect().statement(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM events e WHERE e.shard = c.shard \
         AND e.position > c.position LIMIT $2) waiting) AS number, \
         (SELECT e.created_at FROM events e WHERE e.shard = c.shard \
         AND e.position > c.position ORDER BY e.position LIMIT 1) AS oldest \
         FROM endpoint_cursors c WHERE c.endpoint_id = $1",
        [endpoint_id.into(), COUNT_MAX.into()],
    );
    let mut count = 0;
    let mut oldest: Option<DateTime<Utc>> = None;
    for row in store.reader().query_all_raw(statement).await? {
        count += row.try_get::<i64>("", "number")?;
        let first: Option<DateTime<Utc>> = row.try_get("", "oldest")?;
        oldest = [oldest, first].into_iter().flatten().min();
    }
    Ok((count.min(COUNT_MAX), oldest))
}

/// How many exceptions are tried again or held, how many are parked, and since when the first of the former
/// waits.
async fn exceptions(
    store: &Store,
    endpoint_id: EndpointId,
) -> Result<(i64, i64, Option<DateTime<Utc>>), DbErr> {
    let statement = store.dialect().statement(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM exceptions WHERE endpoint_id = $1 \
         AND state <> $3 LIMIT $2) unfinished) AS unfinished, \
         (SELECT count(*) FROM (SELECT 1 FROM exceptions WHERE endpoint_id = $1 \
         AND state = $3 LIMIT $2) parked) AS parked, \
         (SELECT e.created_at FROM events e WHERE e.position = (SELECT min(x.position) \
         FROM exceptions x WHERE x.endpoint_id = $1 AND x.state <> $3)) AS oldest",
        [
            endpoint_id.into(),
            COUNT_MAX.into(),
            Exception::Parked.as_str().into(),
        ],
    );
    let Some(row) = store.reader().query_one_raw(statement).await? else {
        return Ok((0, 0, None));
    };
    Ok((
        row.try_get("", "unfinished")?,
        row.try_get("", "parked")?,
        row.try_get("", "oldest")?,
    ))
}
