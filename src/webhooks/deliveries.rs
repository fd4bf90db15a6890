//! Deliveries to look at: which events went to an endpoint, how each request ended, and what is next.
//!
//! A list is walked newest first along an index, a bounded number of rows per page. What no index knows
//! (types over all directories, exact times) is judged on the way; a walk that finds little ends early, and
//! says so.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QueryResult,
    Statement,
};

use super::stream::{Attempted, Exception};
use crate::clock;
use crate::events::log;
use crate::ids::{DirectoryId, EndpointId, EventId};
use crate::storage::sql::Sql;
use crate::storage::tables::attempts;
use crate::storage::{Dialect, Store};

/// How many rows one statement looks at, and how many statements make a page at most.
const STEP: i64 = 500;
const STEPS_MAX: usize = 20;

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It arrived.
    Delivered,
    /// It failed and is tried again.
    Retrying,
    /// It failed too often.
    Parked,
    /// It waits behind one that failed.
    Held,
}

impl Status {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retrying => "retrying",
            Self::Parked => "parked",
            Self::Held => "held",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Delivered, Self::Retrying, Self::Parked, Self::Held]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// The exceptions that stand so; `None` for what is no exception.
    fn exception(self) -> Option<Exception> {
        match self {
            Self::Delivered => None,
            Self::Retrying => Some(Exception::Retrying),
            Self::Parked => Some(Exception::Parked),
            Self::Held => Some(Exception::Held),
        }
    }
}

/// Which deliveries.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those that stand so.
    pub status: Option<Status>,
    /// Those of events of this type.
    pub kind: Option<String>,
    /// Those of this directory.
    pub directory_id: Option<DirectoryId>,
    /// Those of events from this time on.
    pub since: Option<DateTime<Utc>>,
    /// Those of events before this time.
    pub until: Option<DateTime<Utc>>,
}

/// One event to one endpoint.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The event's place in the log.
    pub position: i64,
    /// Its id.
    pub event_id: EventId,
    /// Its directory.
    pub directory_id: DirectoryId,
    /// Its type.
    pub kind: String,
    /// Its place in its directory, if it has one.
    pub sequence: Option<i64>,
    /// When it happened.
    pub happened_at: DateTime<Utc>,
    /// How it stands; `None` while it has neither failed nor arrived.
    pub status: Option<Status>,
    /// How many requests were made.
    pub attempts: i32,
    /// The status of the last one, if there was an answer.
    pub status_code: Option<i32>,
    /// What went wrong with the last one, in a word.
    pub failure: Option<String>,
    /// How long the last one took.
    pub duration_ms: Option<i32>,
    /// When the last one ended.
    pub at: Option<DateTime<Utc>>,
    /// When it is tried next.
    pub next_at: Option<DateTime<Utc>>,
}

/// Some deliveries, newest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The deliveries.
    pub rows: Vec<Delivery>,
    /// The position before which to go on, if there may be more.
    pub before: Option<i64>,
}

const COLUMNS: &str = "SELECT e.position, e.id AS event_id, e.directory_id, e.kind, e.sequence, \
     e.created_at AS happened_at, d.state AS state, d.attempts AS attempts, d.status_code, \
     d.failure, d.duration_ms, d.updated_at AS at, x.state AS exception, x.attempts AS tries, \
     x.next_at_ms ";

/// Shows deliveries of an endpoint before a position, newest first.
///
/// # Errors
/// The database fails.
pub async fn list(
    store: &Store,
    endpoint_id: EndpointId,
    filter: &Filter,
    before: Option<i64>,
    limit: usize,
) -> Result<Page, DbErr> {
    let mut place = before.unwrap_or(i64::MAX);
    let mut after = 0;
    if let Some(since) = filter.since {
        after = log::position_before(store.reader(), since).await?;
    }
    let mut page = Page::default();
    for _ in 0..STEPS_MAX {
        let statement = statement(store.dialect(), endpoint_id, filter, (after, place));
        let rows = store.reader().query_all_raw(statement).await?;
        let is_last = i64::try_from(rows.len()).is_ok_and(|count| count < STEP);
        for row in &rows {
            let delivery = read(row)?;
            place = delivery.position;
            if delivery.status.is_some() && fits(filter, &delivery) {
                page.rows.push(delivery);
                if page.rows.len() == limit {
                    page.before = Some(place);
                    return Ok(page);
                }
            }
        }
        if is_last {
            return Ok(page);
        }
    }
    page.before = Some(place);
    Ok(page)
}

/// What the rows of a statement are judged by besides.
fn fits(filter: &Filter, delivery: &Delivery) -> bool {
    filter
        .status
        .is_none_or(|status| delivery.status == Some(status))
        && filter
            .kind
            .as_ref()
            .is_none_or(|kind| delivery.kind == *kind)
        && filter
            .since
            .is_none_or(|since| delivery.happened_at >= since)
        && filter
            .until
            .is_none_or(|until| delivery.happened_at < until)
}

/// One step of a list: rows between two positions, found along one index.
pub fn statement(
    dialect: Dialect,
    endpoint_id: EndpointId,
    filter: &Filter,
    (after, before): (i64, i64),
) -> Statement {
    let mut sql = Sql::default();
    sql.push(COLUMNS);
    let exception = filter.status.and_then(Status::exception);
    let walked = match (exception, filter.directory_id) {
        (Some(exception), directory_id) => {
            sql.push(
                "FROM exceptions x JOIN events e ON e.position = x.position \
                 LEFT JOIN deliveries d ON d.endpoint_id = x.endpoint_id \
                 AND d.position = x.position WHERE x.endpoint_id = ",
            )
            .bind(endpoint_id)
            .push(" AND x.state = ")
            .bind(exception.as_str());
            if let Some(directory_id) = directory_id {
                sql.push(" AND x.directory_id = ").bind(directory_id);
            }
            "x.position"
        }
        (None, Some(directory_id)) => {
            sql.push("FROM events e LEFT JOIN deliveries d ON d.endpoint_id = ")
                .bind(endpoint_id)
                .push(" AND d.position = e.position LEFT JOIN exceptions x ON x.endpoint_id = ")
                .bind(endpoint_id)
                .push(" AND x.position = e.position WHERE e.directory_id = ")
                .bind(directory_id);
            if let Some(kind) = &filter.kind {
                sql.push(" AND e.kind = ").bind(kind.as_str());
            }
            "e.position"
        }
        (None, None) => {
            sql.push(
                "FROM deliveries d JOIN events e ON e.position = d.position \
                 LEFT JOIN exceptions x ON x.endpoint_id = d.endpoint_id \
                 AND x.position = d.position WHERE d.endpoint_id = ",
            )
            .bind(endpoint_id);
            "d.position"
        }
    };
    sql.push(" AND ").push(walked).push(" > ").bind(after);
    sql.push(" AND ").push(walked).push(" < ").bind(before);
    sql.push(" ORDER BY ")
        .push(walked)
        .push(" DESC LIMIT ")
        .bind(STEP);
    sql.statement(dialect)
}

/// The delivery of the event at a position; `None` if the log has no such event.
///
/// # Errors
/// The database fails.
pub async fn find(
    store: &Store,
    endpoint_id: EndpointId,
    position: i64,
) -> Result<Option<Delivery>, DbErr> {
    let mut sql = Sql::default();
    sql.push(COLUMNS)
        .push("FROM events e LEFT JOIN deliveries d ON d.endpoint_id = ")
        .bind(endpoint_id)
        .push(" AND d.position = e.position LEFT JOIN exceptions x ON x.endpoint_id = ")
        .bind(endpoint_id)
        .push(" AND x.position = e.position WHERE e.position = ")
        .bind(position);
    let statement = sql.statement(store.dialect());
    let row = store.reader().query_one_raw(statement).await?;
    row.as_ref().map(read).transpose()
}

/// The requests that failed, oldest first.
///
/// # Errors
/// The database fails.
pub async fn failures(
    store: &Store,
    endpoint_id: EndpointId,
    position: i64,
) -> Result<Vec<attempts::Model>, DbErr> {
    attempts::Entity::find()
        .filter(attempts::Column::EndpointId.eq(endpoint_id))
        .filter(attempts::Column::Position.eq(position))
        .order_by_asc(attempts::Column::Number)
        .all(store.reader())
        .await
}

/// How a replay delivered an event that was parked; `None` if none did.
pub(super) async fn delivered_by_replay(
    store: &Store,
    endpoint_id: EndpointId,
    position: i64,
) -> Result<Option<Attempted>, DbErr> {
    let statement = store.dialect().statement(
        "SELECT d.status_code, d.duration_ms FROM deliveries d WHERE d.endpoint_id = $1 \
         AND d.position = $2 AND d.state = 'delivered' AND NOT EXISTS (SELECT 1 FROM exceptions x \
         WHERE x.endpoint_id = $1 AND x.position = $2)",
        [endpoint_id.into(), position.into()],
    );
    let row = store.dispatch_reader().query_one_raw(statement).await?;
    row.map(|row| {
        let status_code: Option<i32> = row.try_get("", "status_code")?;
        Ok(Attempted {
            is_success: true,
            status_code: status_code.and_then(|code| u16::try_from(code).ok()),
            failure: None,
            excerpt: None,
            retry_after: None,
            duration_ms: row.try_get("", "duration_ms")?,
        })
    })
    .transpose()
}

fn read(row: &QueryResult) -> Result<Delivery, DbErr> {
    let exception: Option<String> = row.try_get("", "exception")?;
    let state: Option<String> = row.try_get("", "state")?;
    let status = match exception.as_deref().and_then(Exception::parse) {
        Some(Exception::Retrying) => Some(Status::Retrying),
        Some(Exception::Parked) => Some(Status::Parked),
        Some(Exception::Held | Exception::InFlight) => Some(Status::Held),
        None => state.as_deref().and_then(Status::parse),
    };
    let attempts: Option<i32> = row.try_get("", "attempts")?;
    let tries: Option<i32> = row.try_get("", "tries")?;
    let next_at_ms: Option<i64> = row.try_get("", "next_at_ms")?;
    Ok(Delivery {
        position: row.try_get("", "position")?,
        event_id: row.try_get("", "event_id")?,
        directory_id: row.try_get("", "directory_id")?,
        kind: row.try_get("", "kind")?,
        sequence: row.try_get("", "sequence")?,
        happened_at: row.try_get("", "happened_at")?,
        status,
        attempts: attempts.max(tries).unwrap_or(0),
        status_code: row.try_get("", "status_code")?,
        failure: row.try_get("", "failure")?,
        duration_ms: row.try_get("", "duration_ms")?,
        at: row.try_get("", "at")?,
        next_at: next_at_ms.map(clock::from_ms),
    })
}
