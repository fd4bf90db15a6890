//! An endpoint's place in the log, in the database: loading it, and recording what has happened.
//!
//! A record is one statement on PostgreSQL, whose first part locks the lease row and writes nothing if
//! the lease is not ours any more; on SQLite it is one transaction of the only writer. What it writes is
//! the same if it is written twice, so that a record whose outcome is unknown is simply made again.

use std::collections::BTreeSet;
use std::sync::Arc;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Select, Value,
};
use serde_json::{Value as Json, json};

use super::dispatcher::{Lease, Recorded, Source};
use super::links::{self, View};
use super::stream::{Attempted, Batch, Exception, ExceptionRow, Place};
use crate::clock;
use crate::events::log;
use crate::ids::{DirectoryId, EndpointId};
use crate::storage::dialect::{ColumnKind, time_text};
use crate::storage::tables::{deliveries, endpoint_cursors, exceptions, lagging};
use crate::storage::{self, Dialect, Lane, Store, UseCase, WriteTx};

/// How many events one query names at most.
const ROWS_MAX: usize = 500;
/// The states of a delivery that has ended.
const ENDED: [&str; 2] = ["delivered", "parked"];

/// Loads an endpoint's place in a shard, or in a directory that is split off from it; `None` if the
/// endpoint is gone. (To begin anywhere else then, such as at the start of the log, would send a deleted
/// endpoint what it never was to have.)
///
/// # Errors
/// The database fails.
pub async fn load(
    store: &Store,
    view: &View,
    shard: i16,
    source: Source,
) -> Result<Option<Place>, DbErr> {
    match source {
        Source::Shard => load_shard(store, view, shard).await,
        Source::Directory(id) => load_directory(store, view, shard, id).await,
    }
}

async fn load_shard(store: &Store, view: &View, shard: i16) -> Result<Option<Place>, DbErr> {
    let connection = store.dispatch_reader();
    let endpoint_id = view.endpoint_id;
    let Some(endpoint_cursors::Model {
        position: cursor, ..
    }) = endpoint_cursors::Entity::find_by_id((endpoint_id, shard))
        .one(connection)
        .await?
    else {
        return Ok(None);
    };
    let apart = lagging::Entity::find()
        .filter(lagging::Column::EndpointId.eq(endpoint_id))
        .filter(lagging::Column::Shard.eq(shard))
        .all(connection)
        .await?;
    let split_off = lagging::Entity::find()
        .select_only()
        .column(lagging::Column::DirectoryId)
        .filter(lagging::Column::EndpointId.eq(endpoint_id))
        .filter(lagging::Column::Shard.eq(shard))
        .into_query();
    let rows = exceptions_of(endpoint_id)
        .filter(exceptions::Column::Shard.eq(shard))
        .filter(exceptions::Column::DirectoryId.not_in_subquery(split_off))
        .all(connection)
        .await?;
    let mut place = Place {
        cursor,
        lagging: apart.into_iter().map(|row| row.directory_id).collect(),
        ..Place::default()
    };
    load_all_events(store, view, shard, &rows, &mut place).await?;
    place.done_ahead = done_ahead(connection, endpoint_id, shard, cursor).await?;
    for (row, _) in &place.exceptions {
        place.done_ahead.remove(&row.position);
    }
    Ok(Some(place))
}

/// What was done ahead of its position is found when its pages are read.
async fn load_directory(
    store: &Store,
    view: &View,
    shard: i16,
    directory_id: DirectoryId,
) -> Result<Option<Place>, DbErr> {
    let connection = store.dispatch_reader();
    let key = (view.endpoint_id, directory_id);
    let Some(row) = lagging::Entity::find_by_id(key).one(connection).await? else {
        return Ok(None);
    };
    let rows = exceptions_of(view.endpoint_id)
        .filter(exceptions::Column::DirectoryId.eq(directory_id))
        .all(connection)
        .await?;
    let mut place = Place {
        cursor: row.position,
        ..Place::default()
    };
    load_all_events(store, view, shard, &rows, &mut place).await?;
    Ok(Some(place))
}

/// The exceptions of an endpoint that are still tried, in order. What is parked for good waits for a
/// replay, and there may be much of it.
fn exceptions_of(endpoint_id: EndpointId) -> Select<exceptions::Entity> {
    exceptions::Entity::find()
        .filter(exceptions::Column::EndpointId.eq(endpoint_id))
        .filter(
            Condition::any()
                .add(exceptions::Column::State.ne(Exception::Parked.as_str()))
                .add(exceptions::Column::NextAtMs.is_not_null()),
        )
        .order_by_asc(exceptions::Column::Position)
}

/// Those of `positions` whose events have ended for an endpoint.
///
/// # Errors
/// The database fails.
pub async fn ended(
    store: &Store,
    endpoint_id: EndpointId,
    positions: &[i64],
) -> Result<BTreeSet<i64>, DbErr> {
    // A look at the key for each position: asked for all at once, PostgreSQL would rather read whatever
    // the endpoint has received, as long as it believes that this is little.
    let dialect = store.dialect();
    let sql = format!(
        "SELECT (SELECT d.position FROM deliveries d WHERE d.endpoint_id = $1 \
         AND d.position = r.position AND d.state IN ('delivered', 'parked')) AS ended FROM {}",
        dialect.rows(2, &[("position", ColumnKind::Integer)])
    );
    let rows: Vec<Json> = positions
        .iter()
        .map(|position| json!({"position": position}))
        .collect();
    let values: [Value; 2] = [endpoint_id.into(), Json::Array(rows).to_string().into()];
    let mut ended = BTreeSet::new();
    for row in store
        .dispatch_reader()
        .query_all_raw(dialect.statement(&sql, values))
        .await?
    {
        ended.extend(row.try_get::<Option<i64>>("", "ended")?);
    }
    Ok(ended)
}

async fn load_all_events(
    store: &Store,
    view: &View,
    shard: i16,
    rows: &[exceptions::Model],
    place: &mut Place,
) -> Result<(), DbErr> {
    for chunk in rows.chunks(ROWS_MAX) {
        load_events(store, view, shard, chunk, place).await?;
    }
    Ok(())
}

async fn load_events(
    store: &Store,
    view: &View,
    shard: i16,
    rows: &[exceptions::Model],
    place: &mut Place,
) -> Result<(), DbErr> {
    let live: Vec<ExceptionRow> = rows.iter().filter_map(exception_row).collect();
    let positions: Vec<i64> = live.iter().map(|row| row.position).collect();
    let events = log::read_positions(store.dispatch_reader(), &positions).await?;
    let mut offers = links::offers(store, view, shard, events)
        .await?
        .into_iter()
        .map(|offer| (offer.position, Arc::new(offer)))
        .collect::<std::collections::BTreeMap<_, _>>();
    for row in live {
        match offers.remove(&row.position) {
            Some(offer) => place.exceptions.push((row, offer)),
            None => place.orphans.push(row.position),
        }
    }
    Ok(())
}

fn exception_row(row: &exceptions::Model) -> Option<ExceptionRow> {
    Some(ExceptionRow {
        position: row.position,
        directory_id: row.directory_id,
        state: Exception::parse(&row.state)?,
        attempts: u32::try_from(row.attempts).unwrap_or(0),
        first_failed_ms: row.first_failed_at_ms,
        next_at_ms: row.next_at_ms,
    })
}

async fn done_ahead(
    connection: &impl ConnectionTrait,
    endpoint_id: EndpointId,
    shard: i16,
    cursor: i64,
) -> Result<BTreeSet<i64>, DbErr> {
    let positions = deliveries::Entity::find()
        .select_only()
        .column(deliveries::Column::Position)
        .filter(deliveries::Column::EndpointId.eq(endpoint_id))
        .filter(deliveries::Column::Shard.eq(shard))
        .filter(deliveries::Column::Position.gt(cursor))
        .filter(deliveries::Column::State.is_in(ENDED))
        .into_tuple::<i64>()
        .all(connection)
        .await?;
    Ok(positions.into_iter().collect())
}

/// Writes down what has happened in a shard, if `lease` still holds.
pub async fn record(
    store: &Store,
    shard: i16,
    lease: Lease,
    batches: Vec<(EndpointId, Batch)>,
) -> Recorded {
    let record = Record {
        shard,
        lease,
        parts: parts(store.dialect(), shard, &batches),
    };
    let outcome = if store.dialect().writes_in_with() {
        record.in_one_statement(store).await
    } else {
        store
            .write(Lane::System, record)
            .await
            .map_err(|error| error.to_string())
    };
    match outcome {
        Ok(true) => Recorded::Written,
        Ok(false) => Recorded::Fenced,
        Err(error) => {
            tracing::warn!(
                shard,
                error,
                "results could not be recorded and will be again"
            );
            Recorded::Failed
        }
    }
}

/// A statement of a record, and the JSON rows that it takes as its last parameter.
struct Part {
    sql: String,
    rows: String,
}

struct Record {
    shard: i16,
    lease: Lease,
    parts: Vec<Part>,
}

/// Selects the lease row if it is still ours. `$1` shard, `$2` epoch, `$3` token.
const LEASE: &str = "SELECT shard FROM shard_leases WHERE shard = $1 AND epoch = $2 AND token = $3";

impl Record {
    fn lease_values(&self) -> [Value; 3] {
        [
            self.shard.into(),
            self.lease.epoch.into(),
            self.lease.token.into(),
        ]
    }

    /// `WITH lease AS (… FOR SHARE), p0 AS (…), … SELECT count(*) FROM lease`; each part writes only
    /// if the lease is there.
    async fn in_one_statement(&self, store: &Store) -> Result<bool, String> {
        let mut sql = format!("WITH lease AS MATERIALIZED ({LEASE} FOR SHARE)");
        let mut values: Vec<Value> = self.lease_values().into();
        for (number, part) in self.parts.iter().enumerate() {
            values.push(part.rows.clone().into());
            let guarded = part
                .sql
                .replace("$1", &format!("${}", values.len()))
                .replace("/*guard*/", "AND EXISTS (SELECT 1 FROM lease)");
            sql.extend([", p", &number.to_string(), " AS (", &guarded, ")"]);
        }
        sql.push_str(" SELECT count(*) AS held FROM lease");
        let row = store
            .statement_connection()
            .query_one_raw(store.dialect().statement(&sql, values))
            .await
            .map_err(|error| error.to_string())?;
        let held: i64 = row
            .map_or(Ok(0), |row| row.try_get("", "held"))
            .map_err(|error| error.to_string())?;
        Ok(held == 1)
    }
}

impl UseCase for Record {
    type Answer = bool;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, storage::Error> {
        let dialect = tx.dialect();
        if tx
            .query_one_raw(dialect.statement(LEASE, self.lease_values()))
            .await?
            .is_none()
        {
            return Ok(false);
        }
        for part in &self.parts {
            tx.execute_raw(dialect.statement(&part.sql, [part.rows.clone().into()]))
                .await?;
        }
        Ok(true)
    }
}

/// The statements that a record consists of; those without rows are left out.
fn parts(dialect: Dialect, shard: i16, batches: &[(EndpointId, Batch)]) -> Vec<Part> {
    let all = [
        deliveries_part(dialect, shard, batches),
        attempts_part(dialect, batches),
        exceptions_part(dialect, shard, batches),
        settled_part(dialect, batches),
        cursors_part(dialect, shard, batches),
        lagging_part(dialect, shard, batches),
        rejoined_part(dialect, batches),
    ];
    all.into_iter().flatten().collect()
}

fn part(rows: Vec<Json>, sql: impl FnOnce() -> String) -> Option<Part> {
    (!rows.is_empty()).then(|| Part {
        sql: sql(),
        rows: Json::Array(rows).to_string(),
    })
}

fn deliveries_part(dialect: Dialect, shard: i16, batches: &[(EndpointId, Batch)]) -> Option<Part> {
    use ColumnKind::{Integer, Text, Time, Uuid};
    let rows = batches.iter().flat_map(|(endpoint, batch)| {
        batch.deliveries.iter().map(move |row| {
            let at = time_text(clock::from_ms(row.at_ms));
            json!({
                "endpoint_id": endpoint.uuid(), "position": row.position, "shard": shard,
                "event_id": row.event_id.uuid(), "directory_id": row.directory_id.uuid(),
                "state": row.state, "attempts": row.attempts,
                "status_code": row.last.status_code, "failure": row.last.failure,
                "duration_ms": row.last.duration_ms, "at": at,
            })
        })
    });
    part(rows.collect(), || {
        let rows = dialect.rows(
            1,
            &[
                ("endpoint_id", Uuid),
                ("position", Integer),
                ("shard", Integer),
                ("event_id", Uuid),
                ("directory_id", Uuid),
                ("state", Text),
                ("attempts", Integer),
                ("status_code", Integer),
                ("failure", Text),
                ("duration_ms", Integer),
                ("at", Time),
            ],
        );
        // A record that was given up on may still arrive, after a later one.
        format!(
            "INSERT INTO deliveries (endpoint_id, position, shard, event_id, directory_id, state, \
             attempts, status_code, failure, duration_ms, created_at, updated_at) \
             SELECT endpoint_id, position, shard, event_id, directory_id, state, attempts, \
             status_code, failure, duration_ms, at, at FROM {rows} WHERE true /*guard*/ \
             ON CONFLICT (endpoint_id, position) DO UPDATE SET state = excluded.state, \
             attempts = excluded.attempts, status_code = excluded.status_code, \
             failure = excluded.failure, duration_ms = excluded.duration_ms, \
             updated_at = excluded.updated_at \
             WHERE excluded.state <> 'retrying' OR deliveries.state = 'retrying'"
        )
    })
}

fn attempts_part(dialect: Dialect, batches: &[(EndpointId, Batch)]) -> Option<Part> {
    use ColumnKind::{Integer, Text, Time, Uuid};
    let rows = batches.iter().flat_map(|(endpoint, batch)| {
        batch.attempts.iter().map(move |row| {
            let Attempted {
                status_code,
                failure,
                excerpt,
                duration_ms,
                ..
            } = &row.attempted;
            json!({
                "endpoint_id": endpoint.uuid(), "position": row.position, "number": row.number,
                "status_code": status_code, "failure": failure,
                "excerpt": excerpt.as_deref().map(without_nul),
                "duration_ms": duration_ms, "at": time_text(clock::from_ms(row.at_ms)),
            })
        })
    });
    part(rows.collect(), || {
        let rows = dialect.rows(
            1,
            &[
                ("endpoint_id", Uuid),
                ("position", Integer),
                ("number", Integer),
                ("status_code", Integer),
                ("failure", Text),
                ("excerpt", Text),
                ("duration_ms", Integer),
                ("at", Time),
            ],
        );
        format!(
            "INSERT INTO attempts (endpoint_id, position, number, status_code, failure, excerpt, \
             duration_ms, at) SELECT endpoint_id, position, number, status_code, failure, excerpt, \
             duration_ms, at FROM {rows} WHERE true /*guard*/ \
             ON CONFLICT (endpoint_id, position, number) DO NOTHING"
        )
    })
}

/// PostgreSQL's text has no NUL, and its jsonb refuses one: a receiver that answers with one would keep
/// the whole shard from being recorded.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn exceptions_part(dialect: Dialect, shard: i16, batches: &[(EndpointId, Batch)]) -> Option<Part> {
    use ColumnKind::{Integer, Text, Uuid};
    let rows = batches.iter().flat_map(|(endpoint, batch)| {
        batch.exceptions.iter().map(move |row| {
            json!({
                "endpoint_id": endpoint.uuid(), "position": row.position, "shard": shard,
                "directory_id": row.directory_id.uuid(),
                "state": row.state.as_str(), "attempts": row.attempts,
                "first_failed_at_ms": row.first_failed_ms, "next_at_ms": row.next_at_ms,
            })
        })
    });
    part(rows.collect(), || {
        let rows = dialect.rows(
            1,
            &[
                ("endpoint_id", Uuid),
                ("position", Integer),
                ("shard", Integer),
                ("directory_id", Uuid),
                ("state", Text),
                ("attempts", Integer),
                ("first_failed_at_ms", Integer),
                ("next_at_ms", Integer),
            ],
        );
        format!(
            "INSERT INTO exceptions (endpoint_id, position, shard, directory_id, state, attempts, \
             first_failed_at_ms, next_at_ms) SELECT endpoint_id, position, shard, directory_id, \
             state, attempts, first_failed_at_ms, next_at_ms FROM {rows} WHERE true /*guard*/ \
             ON CONFLICT (endpoint_id, position) DO UPDATE SET state = excluded.state, \
             attempts = excluded.attempts, first_failed_at_ms = excluded.first_failed_at_ms, \
             next_at_ms = excluded.next_at_ms"
        )
    })
}

fn settled_part(dialect: Dialect, batches: &[(EndpointId, Batch)]) -> Option<Part> {
    let rows = batches.iter().flat_map(|(endpoint, batch)| {
        batch
            .settled
            .iter()
            .map(move |position| json!({"endpoint_id": endpoint.uuid(), "position": position}))
    });
    part(rows.collect(), || {
        let rows = dialect.rows(
            1,
            &[
                ("endpoint_id", ColumnKind::Uuid),
                ("position", ColumnKind::Integer),
            ],
        );
        format!(
            "DELETE FROM exceptions WHERE (endpoint_id, position) IN \
             (SELECT endpoint_id, position FROM {rows}) /*guard*/"
        )
    })
}

/// Whether the filter by which a cursor was moved is still the newest one: what it made the cursor pass may
/// be taken by the next.
const UNDER_FILTER: &str = "EXISTS (SELECT 1 FROM endpoints n WHERE n.id = r.endpoint_id \
     AND n.filter_number = r.filter_number)";

fn cursors_part(dialect: Dialect, shard: i16, batches: &[(EndpointId, Batch)]) -> Option<Part> {
    let rows = batches.iter().filter_map(|(endpoint, batch)| {
        let position = batch.cursor?;
        Some(json!({
            "endpoint_id": endpoint.uuid(), "shard": shard, "position": position,
            "filter_number": batch.filter_number,
        }))
    });
    part(rows.collect(), || {
        let rows = dialect.rows(
            1,
            &[
                ("endpoint_id", ColumnKind::Uuid),
                ("shard", ColumnKind::Integer),
                ("position", ColumnKind::Integer),
                ("filter_number", ColumnKind::Integer),
            ],
        );
        // A record that was given up on may still arrive, after a later one.
        format!(
            "UPDATE endpoint_cursors SET position = r.position FROM {rows} \
             WHERE endpoint_cursors.endpoint_id = r.endpoint_id \
             AND endpoint_cursors.shard = r.shard AND endpoint_cursors.position < r.position \
             AND {UNDER_FILTER} /*guard*/"
        )
    })
}

/// Places in directories that are split off, new ones included.
fn lagging_part(dialect: Dialect, shard: i16, batches: &[(EndpointId, Batch)]) -> Option<Part> {
    let rows = batches.iter().flat_map(|(endpoint, batch)| {
        batch.lagging.iter().map(move |(directory_id, position)| {
            json!({
                "endpoint_id": endpoint.uuid(), "directory_id": directory_id.uuid(),
                "shard": shard, "position": position, "filter_number": batch.filter_number,
            })
        })
    });
    part(rows.collect(), || {
        let rows = dialect.rows(
            1,
            &[
                ("endpoint_id", ColumnKind::Uuid),
                ("directory_id", ColumnKind::Uuid),
                ("shard", ColumnKind::Integer),
                ("position", ColumnKind::Integer),
                ("filter_number", ColumnKind::Integer),
            ],
        );
        format!(
            "INSERT INTO lagging (endpoint_id, directory_id, shard, position) \
             SELECT endpoint_id, directory_id, shard, position FROM {rows} WHERE {UNDER_FILTER} /*guard*/ \
             ON CONFLICT (endpoint_id, directory_id) DO UPDATE SET position = excluded.position \
             WHERE lagging.position < excluded.position"
        )
    })
}

/// Directories that are not split off any more.
fn rejoined_part(dialect: Dialect, batches: &[(EndpointId, Batch)]) -> Option<Part> {
    let rows = batches.iter().flat_map(|(endpoint, batch)| {
        batch.rejoined.iter().map(move |directory_id| {
            json!({"endpoint_id": endpoint.uuid(), "directory_id": directory_id.uuid()})
        })
    });
    part(rows.collect(), || {
        let rows = dialect.rows(
            1,
            &[
                ("endpoint_id", ColumnKind::Uuid),
                ("directory_id", ColumnKind::Uuid),
            ],
        );
        format!(
            "DELETE FROM lagging WHERE (endpoint_id, directory_id) IN \
             (SELECT endpoint_id, directory_id FROM {rows}) /*guard*/"
        )
    })
}

#[cfg(test)]
mod tests;
