//! How far the events about something have come at an endpoint, read from what is written down.
//!
//! For people who ask why something is missing; the dispatcher does not come here. What a dispatcher
//! knows and has not written down yet, such as an open breaker, is inferred from what its endpoint's
//! events have gone through.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::endpoint;
use super::lanes::{Key, Mode, Subject, keys_of};
use super::stream::Exception;
use crate::clock;
use crate::events::{Kind, log};
use crate::ids::EndpointId;
use crate::storage::Store;
use crate::storage::tables::{
    attempts, deliveries, directories, endpoint_cursors, endpoints, events, exceptions,
};

/// How many exceptions are looked at for what an event waits behind.
const BLOCKERS_MAX: u64 = 500;

/// How far events about something have come at one endpoint.
#[derive(Clone, Debug)]
pub enum Standing {
    /// The endpoint takes none of their types.
    NotTaken,
    /// They are from before the endpoint.
    BeganLater,
    /// All have arrived; this is the newest. `None` if what was written down about it is gone.
    Delivered(Option<Progress>),
    /// This one was given up for a while.
    Parked(Progress),
    /// This one has not arrived yet.
    Waiting(Progress, Behind),
}

/// One event on its way to one endpoint.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The event.
    pub event: events::Model,
    /// How many requests were made.
    pub attempts: i32,
    /// The status of the last one, if there was an answer.
    pub status_code: Option<i32>,
    /// What went wrong with the last one, in a word.
    pub failure: Option<String>,
    /// The start of the last answer that was a failure.
    pub excerpt: Option<String>,
    /// When the last one was.
    pub at: Option<DateTime<Utc>>,
    /// When the next one is.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// What an event waits for.
#[derive(Clone, Debug)]
pub enum Behind {
    /// Its own next attempt.
    Retry,
    /// An earlier event about the same, which has failed.
    Event(Box<Progress>),
    /// The endpoint, which refuses other events too; this is one of them.
    Failing(Box<Progress>),
    /// Earlier events of all kinds; the oldest is from this time.
    Backlog(Option<DateTime<Utc>>),
    /// The endpoint, which is not enabled.
    Disabled,
}

/// How far `events` of `directory`, in order, have come at an endpoint.
///
/// # Errors
/// The database fails.
pub async fn standing(
    store: &Store,
    row: &endpoints::Model,
    directory: &directories::Model,
    events: &[events::Model],
) -> Result<Standing, DbErr> {
    let connection = store.reader();
    let view = endpoint::view(connection, row).await?;
    let taken: Vec<&events::Model> = events.iter().filter(|event| view.passes(event)).collect();
    if taken.is_empty() && !events.is_empty() {
        return Ok(Standing::NotTaken);
    }
    let Some(cursor) = endpoint_cursors::Entity::find_by_id((row.id, directory.shard))
        .one(connection)
        .await?
    else {
        return Ok(Standing::BeganLater);
    };
    let had_some = !taken.is_empty();
    let due: Vec<&events::Model> = taken
        .into_iter()
        .filter(|event| event.position > cursor.start)
        .collect();
    if had_some && due.is_empty() {
        return Ok(Standing::BeganLater);
    }
    let written = Written::read(connection, row.id, &due).await?;
    judge(store, row, &cursor, &written, &due).await
}

async fn judge(
    store: &Store,
    row: &endpoints::Model,
    cursor: &endpoint_cursors::Model,
    written: &Written,
    due: &[&events::Model],
) -> Result<Standing, DbErr> {
    let at_stage = |wanted: Stage| {
        due.iter()
            .find(|event| written.stage(event.position, cursor.position) == wanted)
    };
    if let Some(event) = at_stage(Stage::Parked) {
        return Ok(Standing::Parked(progress(store, written, event).await?));
    }
    if let Some(event) = at_stage(Stage::Retrying) {
        let progress = progress(store, written, event).await?;
        return Ok(Standing::Waiting(progress, Behind::Retry));
    }
    if let Some(event) = at_stage(Stage::Waiting) {
        let behind = behind(store, row, cursor, event).await?;
        let progress = progress(store, written, event).await?;
        return Ok(Standing::Waiting(progress, behind));
    }
    Ok(Standing::Delivered(match due.last() {
        Some(event) => Some(progress(store, written, event).await?),
        None => None,
    }))
}

/// How far an event has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Delivered,
    Parked,
    Retrying,
    Waiting,
}

/// What is written down about some events at an endpoint, by position.
#[derive(Debug, Default)]
struct Written {
    deliveries: BTreeMap<i64, deliveries::Model>,
    exceptions: BTreeMap<i64, exceptions::Model>,
}

impl Written {
    async fn read(
        connection: &impl ConnectionTrait,
        id: EndpointId,
        events: &[&events::Model],
    ) -> Result<Self, DbErr> {
        let positions: Vec<i64> = events.iter().map(|event| event.position).collect();
        let deliveries = deliveries::Entity::find()
            .filter(deliveries::Column::EndpointId.eq(id))
            .filter(deliveries::Column::Position.is_in(positions.iter().copied()))
            .all(connection)
            .await?;
        let exceptions = exceptions::Entity::find()
            .filter(exceptions::Column::EndpointId.eq(id))
            .filter(exceptions::Column::Position.is_in(positions))
            .all(connection)
            .await?;
        Ok(Self {
            deliveries: deliveries
                .into_iter()
                .map(|row| (row.position, row))
                .collect(),
            exceptions: exceptions
                .into_iter()
                .map(|row| (row.position, row))
                .collect(),
        })
    }

    /// An exception has not ended; a delivery says how it did; at or below the cursor without either, it
    /// has ended so long ago that nothing is left of it.
    fn stage(&self, position: i64, cursor: i64) -> Stage {
        if let Some(row) = self.exceptions.get(&position) {
            return match Exception::parse(&row.state) {
                Some(Exception::Parked) => Stage::Parked,
                Some(Exception::Retrying) => Stage::Retrying,
                Some(Exception::Held | Exception::InFlight) | None => Stage::Waiting,
            };
        }
        match self.deliveries.get(&position).map(|row| row.state.as_str()) {
            Some("delivered") => Stage::Delivered,
            Some("parked") => Stage::Parked,
            Some(_) => Stage::Retrying,
            None if position <= cursor => Stage::Delivered,
            None => Stage::Waiting,
        }
    }
}

async fn progress(
    store: &Store,
    written: &Written,
    event: &events::Model,
) -> Result<Progress, DbErr> {
    let delivery = written.deliveries.get(&event.position);
    let exception = written.exceptions.get(&event.position);
    let endpoint_id = delivery
        .map(|row| row.endpoint_id)
        .or(exception.map(|row| row.endpoint_id));
    let last = match endpoint_id {
        Some(id) => last_failure(store.reader(), id, event.position).await?,
        None => None,
    };
    let is_delivered = delivery.is_some_and(|row| row.state == "delivered");
    let failed = last.filter(|_| !is_delivered);
    let attempts = delivery
        .map(|row| row.attempts)
        .max(exception.map(|row| row.attempts));
    let next_attempt_at = exception.and_then(|row| row.next_at_ms).map(clock::from_ms);
    let last_status = delivery.and_then(|row| row.status_code);
    let last_word = delivery.and_then(|row| row.failure.clone());
    let at = delivery.map(|row| row.updated_at);
    Ok(match failed {
        Some(failed) => Progress {
            event: event.clone(),
            attempts: attempts.unwrap_or(0).max(failed.number),
            status_code: failed.status_code,
            failure: failed.failure,
            excerpt: failed.excerpt,
            at: Some(failed.at),
            next_attempt_at,
        },
        None => Progress {
            event: event.clone(),
            attempts: attempts.unwrap_or(0),
            status_code: last_status,
            failure: last_word,
            excerpt: None,
            at,
            next_attempt_at,
        },
    })
}

async fn last_failure(
    connection: &impl ConnectionTrait,
    id: EndpointId,
    position: i64,
) -> Result<Option<attempts::Model>, DbErr> {
    attempts::Entity::find()
        .filter(attempts::Column::EndpointId.eq(id))
        .filter(attempts::Column::Position.eq(position))
        .order_by_desc(attempts::Column::Number)
        .one(connection)
        .await
}

/// What an event that nothing was tried about waits behind.
async fn behind(
    store: &Store,
    row: &endpoints::Model,
    cursor: &endpoint_cursors::Model,
    event: &events::Model,
) -> Result<Behind, DbErr> {
    if !endpoint::is_enabled(row) {
        return Ok(Behind::Disabled);
    }
    let earlier = exceptions::Entity::find()
        .filter(exceptions::Column::EndpointId.eq(row.id))
        .filter(exceptions::Column::Shard.eq(cursor.shard))
        .filter(exceptions::Column::State.eq(Exception::Retrying.as_str()))
        .order_by_asc(exceptions::Column::Position)
        .limit(BLOCKERS_MAX)
        .all(store.reader())
        .await?;
    let positions: Vec<i64> = earlier.iter().map(|row| row.position).collect();
    let failed = log::read_positions(store.reader(), &positions).await?;
    let keys = keys_of_event(event);
    let blocker = failed
        .iter()
        .find(|other| other.position < event.position && conflict(&keys_of_event(other), &keys));
    let (Some(other), is_about_the_same) = (blocker.or(failed.first()), blocker.is_some()) else {
        let oldest = log::read_shard(
            store.reader(),
            cursor.shard,
            cursor.position,
            event.position,
            1,
        );
        let oldest = oldest.await?;
        return Ok(Behind::Backlog(oldest.first().map(|row| row.created_at)));
    };
    let written = Written::read(store.reader(), row.id, &[other]).await?;
    let progress = Box::new(progress(store, &written, other).await?);
    Ok(if is_about_the_same {
        Behind::Event(progress)
    } else {
        Behind::Failing(progress)
    })
}

fn keys_of_event(event: &events::Model) -> Vec<(Key, Mode)> {
    keys_of(&Subject {
        kind: Kind::parse(&event.kind),
        directory_id: event.directory_id,
        user_id: event.user_id,
        group_id: event.group_id,
        names: event.names.as_deref(),
    })
}

/// Whether two events may not be on their way at the same time.
fn conflict(one: &[(Key, Mode)], other: &[(Key, Mode)]) -> bool {
    one.iter().any(|(key, mode)| {
        other
            .iter()
            .any(|(held, how)| key == held && (*mode == Mode::Exclusive || *how == Mode::Exclusive))
    })
}
