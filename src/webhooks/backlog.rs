//! How much has not arrived at an endpoint: of one directory, or in all, counted to a bound, so that a
//! look is cheap however much there is.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Value,
};

use super::endpoint;
use super::links::View;
use super::stream::Exception;
use super::view::Reign;
use crate::ids::{DirectoryId, EndpointId};
use crate::storage::Store;
use crate::storage::sql::Sql;
use crate::storage::tables::{directories, endpoint_cursors, endpoints, events, lagging};

/// How many rows are looked at for each count.
const LOOK_MAX: i64 = 10_000;
/// How many places in directories that are split off are looked at.
const PLACES_MAX: u64 = 200;

/// What has not arrived of one directory, and from where on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    waiting: i64,
    oldest: Option<i64>,
}

/// What has not arrived at an endpoint.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Events that have not arrived and are not parked.
    pub undelivered: i64,
    /// Whether all were counted.
    pub is_exact: bool,
    /// Since when the oldest of them waits.
    pub oldest_at: Option<DateTime<Utc>>,
    /// Events that were given up for a while, up to the same bound.
    pub parked: i64,
    /// Events that wait behind one that failed, up to the same bound.
    pub held: i64,
    /// The directories with most of what has not arrived, most first.
    pub directories: Vec<(DirectoryId, i64)>,
}

/// Counts what has not arrived at an endpoint, as far as it is written down.
///
/// # Errors
/// The database fails.
pub async fn summary(store: &Store, row: &endpoints::Model) -> Result<Summary, DbErr> {
    let view = endpoint::view(store.reader(), row).await?;
    let mut parts: BTreeMap<DirectoryId, Part> = BTreeMap::new();
    let mut summary = Summary::default();
    let mut room = LOOK_MAX;
    let cursors =
        endpoint_cursors::Entity::find().filter(endpoint_cursors::Column::EndpointId.eq(row.id));
    for cursor in cursors.all(store.reader()).await? {
        let place = Place::Shard(cursor.shard, cursor.position);
        room -= past(store, &view, place, room, &mut parts).await?;
    }
    let places = lagging::Entity::find()
        .filter(lagging::Column::EndpointId.eq(row.id))
        .order_by_asc(lagging::Column::DirectoryId)
        .limit(PLACES_MAX);
    let places = places.all(store.reader()).await?;
    let has_all = u64::try_from(places.len()).is_ok_and(|count| count < PLACES_MAX);
    for apart in places {
        let place = Place::Directory(apart.directory_id, apart.position);
        room -= past(store, &view, place, room, &mut parts).await?;
    }
    summary.is_exact = has_all && room > 0;
    for state in [Exception::Retrying, Exception::InFlight, Exception::Held] {
        let number = exceptions_in(store, row.id, state, &mut parts).await?;
        summary.is_exact &= number < LOOK_MAX;
        if state == Exception::Held {
            summary.held = number;
        }
    }
    let mut parked = BTreeMap::new();
    summary.parked = exceptions_in(store, row.id, Exception::Parked, &mut parked).await?;
    summary.undelivered = parts.values().map(|part| part.waiting).sum();
    summary.oldest_at = oldest(store, &parts).await?;
    summary.directories = parts
        .into_iter()
        .map(|(id, part)| (id, part.waiting))
        .collect();
    summary
        .directories
        .sort_by_key(|(_, waiting)| std::cmp::Reverse(*waiting));
    Ok(summary)
}

async fn oldest(
    store: &Store,
    parts: &BTreeMap<DirectoryId, Part>,
) -> Result<Option<DateTime<Utc>>, DbErr> {
    let Some(position) = parts.values().filter_map(|part| part.oldest).min() else {
        return Ok(None);
    };
    let event = events::Entity::find_by_id(position)
        .one(store.reader())
        .await?;
    Ok(event.map(|event| event.created_at))
}

/// How far an endpoint is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Shard(i16, i64),
    Directory(DirectoryId, i64),
}

/// Adds what lies past a place, of at most `room` rows; how many were looked at.
async fn past(
    store: &Store,
    view: &View,
    place: Place,
    room: i64,
    parts: &mut BTreeMap<DirectoryId, Part>,
) -> Result<i64, DbErr> {
    if room <= 0 {
        return Ok(0);
    }
    let id = view.endpoint_id;
    let mut sql = Sql::default();
    sql.push(
        "SELECT w.directory_id, count(*) AS looked, count(w.waiting) AS waiting, \
         min(w.waiting) AS oldest FROM (SELECT e.directory_id, CASE WHEN (",
    );
    for (index, reign) in view.reigns().into_iter().enumerate() {
        sql.push(if index == 0 { "" } else { " OR " });
        push_passes(&mut sql, reign);
    }
    sql.push(")");
    for table in ["deliveries", "exceptions"] {
        sql.push(" AND NOT EXISTS (SELECT 1 FROM ")
            .push(table)
            .push(" d WHERE d.endpoint_id = ")
            .bind(id)
            .push(" AND d.position = e.position)");
    }
    if matches!(place, Place::Shard(..)) {
        sql.push(" AND NOT EXISTS (SELECT 1 FROM lagging l WHERE l.endpoint_id = ")
            .bind(id)
            .push(" AND l.directory_id = e.directory_id)");
    }
    sql.push(" THEN e.position END AS waiting FROM (SELECT position, kind, organization_id, directory_id ")
        .push("FROM events WHERE ");
    match place {
        Place::Shard(shard, position) => {
            sql.push("shard = ")
                .bind(shard)
                .push(" AND position > ")
                .bind(position);
        }
        Place::Directory(directory_id, position) => {
            sql.push("directory_id = ").bind(directory_id);
            sql.push(" AND position > ").bind(position);
        }
    }
    sql.push(" ORDER BY position LIMIT ").bind(room);
    sql.push(") e) w GROUP BY w.directory_id");
    let statement = sql.statement(store.dialect());
    let mut looked = 0;
    for row in store.reader().query_all_raw(statement).await? {
        looked += row.try_get::<i64>("", "looked")?;
        let waiting: i64 = row.try_get("", "waiting")?;
        if waiting > 0 {
            add(
                parts,
                row.try_get("", "directory_id")?,
                waiting,
                row.try_get("", "oldest")?,
            );
        }
    }
    Ok(looked)
}

/// That an event lies where a filter is in force, and passes it.
fn push_passes(sql: &mut Sql, reign: Reign<'_>) {
    let segment = reign.segment;
    sql.push("(e.position > ").bind(reign.after);
    sql.push(" AND e.position <= ").bind(reign.up_to);
    push_among(sql, "e.kind", segment.kinds.iter().copied());
    if !segment.organizations.is_empty() {
        push_among(
            sql,
            "e.organization_id",
            segment.organizations.iter().copied(),
        );
    }
    if !segment.directories.is_empty() {
        push_among(sql, "e.directory_id", segment.directories.iter().copied());
    }
    sql.push(")");
}

fn push_among<V: Into<Value>>(sql: &mut Sql, column: &str, values: impl Iterator<Item = V>) {
    sql.push(" AND ").push(column).push(" IN (NULL");
    for value in values {
        sql.push(", ").bind(value);
    }
    sql.push(")");
}

fn add(
    parts: &mut BTreeMap<DirectoryId, Part>,
    directory_id: DirectoryId,
    waiting: i64,
    oldest: i64,
) {
    let part = parts.entry(directory_id).or_default();
    part.waiting += waiting;
    part.oldest = Some(part.oldest.map_or(oldest, |known| known.min(oldest)));
}

/// Adds the exceptions of one state; how many there are.
async fn exceptions_in(
    store: &Store,
    id: EndpointId,
    state: Exception,
    parts: &mut BTreeMap<DirectoryId, Part>,
) -> Result<i64, DbErr> {
    let statement = store.dialect().statement(
        "SELECT x.directory_id, count(*) AS number, min(x.position) AS oldest FROM \
         (SELECT directory_id, position FROM exceptions WHERE endpoint_id = $1 AND state = $2 \
         ORDER BY position LIMIT $3) x GROUP BY x.directory_id",
        [id.into(), state.as_str().into(), LOOK_MAX.into()],
    );
    let mut total = 0;
    for row in store.reader().query_all_raw(statement).await? {
        let number: i64 = row.try_get("", "number")?;
        total += number;
        add(
            parts,
            row.try_get("", "directory_id")?,
            number,
            row.try_get("", "oldest")?,
        );
    }
    Ok(total)
}

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
