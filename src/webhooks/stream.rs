//! One endpoint in one shard: what it has been offered, what is on its way, and what is written down.
//!
//! Cast: an [`Item`] is an event that passes the endpoint's filter and has not ended, or has ended and is
//! not written down yet. The *cursor* is the position up to which every such event has ended or is an
//! *exception* (a row of its own: retrying, held behind one that is, slow, or parked). The *scan* is how
//! far the log has been read.
//!
//! Invariants: scan and cursor are only ever positions of rows that were read (0 before the first); an
//! item is sent only if its lanes are free; nothing is sent more than [`SPAN_MAX`] positions past the
//! oldest event that is not written down; what [`Stream::batch`] hands out stays here until
//! [`Stream::recorded`] says that it is durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::lanes::{Key, Lanes, Mode};
use super::retry::{self, Next};
use crate::ids::{DirectoryId, EventId};

/// How many positions past its oldest unrecorded event a stream sends.
pub const SPAN_MAX: i64 = 4_096;
/// How many unfinished events a stream reads ahead.
const AHEAD_MAX: usize = 512;
/// How many events a stream keeps that are not written down, those that have arrived included.
const OPEN_MAX: usize = 4_096;
/// How many exceptions a stream carries before it stops reading.
const EXCEPTIONS_MAX: usize = 4_096;
/// How long a cursor that only skipped foreign events may stay unwritten.
const SKIPPED_CURSOR_MS: i64 = 30_000;

/// An event as an endpoint is offered it.
#[derive(Debug)]
pub struct Offer {
    /// Its place in the log.
    pub position: i64,
    /// Its id.
    pub event_id: EventId,
    /// Its directory.
    pub directory_id: DirectoryId,
    /// Its place in its directory, if it has one.
    pub sequence: Option<i64>,
    /// The keys that it holds.
    pub keys: Vec<(Key, Mode)>,
    /// The sequence of the event before it that passes the endpoint's filter, for the receiver.
    pub previous: i64,
    /// The sequences of the events that it causally depends on, for the receiver.
    pub after: String,
    /// The exact text on the wire.
    pub payload: Arc<str>,
}

/// How one HTTP request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// Whether it was answered 2xx.
    pub is_success: bool,
    /// The status, if there was an answer.
    pub status_code: Option<u16>,
    /// What went wrong, in a word.
    pub failure: Option<String>,
    /// The start of the answer's body, for the support staff.
    pub excerpt: Option<String>,
    /// What the receiver asked for.
    pub retry_after: Option<Duration>,
    /// How long it took.
    pub duration_ms: i32,
}

/// What an item is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// An earlier event holds a key of its.
    Waiting,
    /// It may go.
    Ready,
    /// It is on its way.
    InFlight,
    /// It failed and is tried again at this time, its keys held.
    Retrying(i64),
    /// It failed too often; its keys are free; it may be tried again.
    Parked(Option<i64>),
    /// It arrived.
    Delivered,
}

/// The state of an exception, in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exception {
    /// Tried again later.
    Retrying,
    /// Waits behind one that is.
    Held,
    /// On its way for so long that the cursor goes on without it.
    InFlight,
    /// Failed too often.
    Parked,
}

impl Exception {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retrying => "retrying",
            Self::Held => "held",
            Self::InFlight => "in_flight",
            Self::Parked => "parked",
        }
    }

    /// Reads the name in the database.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Retrying, Self::Held, Self::InFlight, Self::Parked]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A row about an exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionRow {
    /// The event's place in the log.
    pub position: i64,
    /// Its state.
    pub state: Exception,
    /// How many requests were made.
    pub attempts: u32,
    /// When the first one failed that counts against it.
    pub first_failed_ms: Option<i64>,
    /// When it is tried next.
    pub next_at_ms: Option<i64>,
}

/// A row about a delivery: it has ended, or it failed for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The event's place in the log.
    pub position: i64,
    /// Its id.
    pub event_id: EventId,
    /// Its directory.
    pub directory_id: DirectoryId,
    /// `delivered`, `retrying` or `parked`.
    pub state: &'static str,
    /// How many requests were made.
    pub attempts: u32,
    /// How the last one ended.
    pub last: Attempted,
    /// When it ended.
    pub at_ms: i64,
}

/// A row about a request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// The event's place in the log.
    pub position: i64,
    /// Its number, from 1.
    pub number: u32,
    /// How it ended.
    pub attempted: Attempted,
    /// When it ended.
    pub at_ms: i64,
}

/// What is to be written down about a stream, in one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The new cursor.
    pub cursor: Option<i64>,
    /// Deliveries that ended or failed first.
    pub deliveries: Vec<DeliveryRow>,
    /// Requests that failed.
    pub attempts: Vec<AttemptRow>,
    /// Exceptions that are new or changed.
    pub exceptions: Vec<ExceptionRow>,
    /// Exceptions that are over.
    pub settled: Vec<i64>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many rows it writes.
    pub fn rows(&self) -> usize {
        usize::from(self.cursor.is_some())
            + self.deliveries.len()
            + self.attempts.len()
            + self.exceptions.len()
            + self.settled.len()
    }
}

#[derive(Debug)]
struct Item {
    offer: Arc<Offer>,
    state: State,
    attempts: u32,
    /// Failures that count against it; those of a dead endpoint do not.
    strikes: u32,
    first_failed_ms: Option<i64>,
    /// Whether it holds its keys.
    is_in_lanes: bool,
    /// Whether this try is one after parking.
    is_late: bool,
    last: Option<Attempted>,
    /// The exception row as it stands in the database.
    written: Option<ExceptionRow>,
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct Sending {
    /// The event.
    pub offer: Arc<Offer>,
    /// The number of this request, from 1.
    pub attempt: u32,
    /// Whether the event was parked before.
    pub is_late: bool,
}

/// One endpoint's place in one shard.
#[derive(Debug)]
pub struct Stream {
    scan: i64,
    cursor: i64,
    cursor_written_at_ms: i64,
    /// The highest position up to which a read found nothing more.
    exhausted: i64,
    /// Events above the cursor that had ended before this node took over.
    done_ahead: BTreeSet<i64>,
    /// Exceptions whose events are gone.
    orphans: Vec<i64>,
    items: BTreeMap<i64, Item>,
    lanes: Lanes,
    ready: BTreeSet<i64>,
    due: BTreeSet<(i64, i64)>,
    /// The items without an exception row: what the cursor cannot pass yet.
    open: BTreeSet<i64>,
    /// How many items have arrived and are not written down.
    arrived: usize,
    in_flight: usize,
    attempts: VecDeque<AttemptRow>,
    failed_rows: BTreeMap<i64, DeliveryRow>,
    /// What a batch under way will have settled.
    recording: Option<Batch>,
}

/// A stream's place as the database has it.
#[derive(Debug, Default)]
pub struct Place {
    /// The cursor.
    pub cursor: i64,
    /// The exceptions whose events still exist, with their events.
    pub exceptions: Vec<(ExceptionRow, Arc<Offer>)>,
    /// The exceptions whose events are gone.
    pub orphans: Vec<i64>,
    /// Events above the cursor that have ended.
    pub done_ahead: BTreeSet<i64>,
}

impl Stream {
    /// Continues at `place`.
    pub fn new(place: Place, now_ms: i64) -> Self {
        let mut stream = Self {
            scan: place.cursor,
            cursor: place.cursor,
            cursor_written_at_ms: now_ms,
            exhausted: 0,
            done_ahead: place.done_ahead,
            orphans: place.orphans,
            items: BTreeMap::new(),
            lanes: Lanes::default(),
            ready: BTreeSet::new(),
            due: BTreeSet::new(),
            open: BTreeSet::new(),
            arrived: 0,
            in_flight: 0,
            attempts: VecDeque::new(),
            failed_rows: BTreeMap::new(),
            recording: None,
        };
        for (row, offer) in place.exceptions {
            stream.resume(row, offer);
        }
        stream
    }

    /// Puts an exception back where it was.
    fn resume(&mut self, row: ExceptionRow, offer: Arc<Offer>) {
        let position = row.position;
        let state = match row.state {
            Exception::Retrying => State::Retrying(row.next_at_ms.unwrap_or(0)),
            Exception::Parked => State::Parked(row.next_at_ms),
            Exception::Held | Exception::InFlight => State::Waiting,
        };
        let is_parked = matches!(state, State::Parked(_));
        let item = Item {
            offer,
            attempts: row.attempts,
            strikes: row.attempts,
            first_failed_ms: row.first_failed_ms,
            is_in_lanes: !is_parked,
            is_late: is_parked,
            last: None,
            written: Some(row),
            state,
        };
        self.insert(position, item);
    }

    fn insert(&mut self, position: i64, item: Item) {
        if item.is_in_lanes {
            self.lanes.enter(position, &item.offer.keys);
        }
        match &item.state {
            State::Retrying(at) | State::Parked(Some(at)) => {
                self.due.insert((*at, position));
            }
            State::Waiting if self.lanes.is_free(position, &item.offer.keys) => {
                self.ready.insert(position);
            }
            _ => {}
        }
        if item.written.is_none() {
            self.open.insert(position);
        }
        let is_ready = self.ready.contains(&position);
        let state = if is_ready { State::Ready } else { item.state };
        self.items.insert(position, Item { state, ..item });
    }

    /// The position after which to read, if there is room and the log has more than has been seen.
    pub fn wants(&self, newest: i64) -> Option<i64> {
        let exceptions = self.items.len().saturating_sub(self.open.len());
        let has_room = self.open.len().saturating_sub(self.arrived) < AHEAD_MAX
            && self.open.len() < OPEN_MAX
            && exceptions < EXCEPTIONS_MAX
            && self.scan < self.span_end();
        (has_room && newest > self.scan.max(self.exhausted)).then_some(self.scan)
    }

    /// The position up to which events may be sent.
    fn span_end(&self) -> i64 {
        self.open
            .first()
            .map_or(i64::MAX, |oldest| oldest.saturating_add(SPAN_MAX))
    }

    /// Takes events that were read after the scan, up to `read_to`; `last_row` is the last position
    /// among all rows read, whether or not they pass the filter.
    pub fn take(&mut self, offers: Vec<Arc<Offer>>, last_row: Option<i64>, read_to: Option<i64>) {
        for offer in offers {
            let position = offer.position;
            if position <= self.scan
                || self.items.contains_key(&position)
                || self.done_ahead.remove(&position)
            {
                continue;
            }
            let item = Item {
                offer,
                state: State::Waiting,
                attempts: 0,
                strikes: 0,
                first_failed_ms: None,
                is_in_lanes: true,
                is_late: false,
                last: None,
                written: None,
            };
            self.insert(position, item);
        }
        if let Some(last_row) = last_row {
            self.scan = self.scan.max(last_row);
        }
        if let Some(read_to) = read_to {
            self.exhausted = read_to;
        }
    }

    /// What to send next, if anything may go: first what is due again, then the oldest that is ready.
    pub fn next(&mut self, now_ms: i64) -> Option<Sending> {
        let position = match self.due.first().copied() {
            Some((at, position)) if at <= now_ms => {
                self.due.remove(&(at, position));
                position
            }
            _ => {
                let end = self.span_end();
                self.ready.first().filter(|position| **position < end)?;
                self.ready.pop_first()?
            }
        };
        let item = self.items.get_mut(&position)?;
        item.state = State::InFlight;
        item.attempts += 1;
        self.in_flight += 1;
        Some(Sending {
            offer: Arc::clone(&item.offer),
            attempt: item.attempts,
            is_late: item.is_late,
        })
    }

    /// When something is due that is not due yet.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How many requests are on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A request about the event at `position` has ended. `is_counted` says whether a failure is held
    /// against the event, and not against its endpoint.
    pub fn ended(&mut self, position: i64, attempted: Attempted, is_counted: bool, now_ms: i64) {
        let Some(item) = self.items.get_mut(&position) else {
            return;
        };
        if item.state != State::InFlight {
            return;
        }
        self.in_flight -= 1;
        if attempted.is_success {
            item.state = State::Delivered;
            item.last = Some(attempted);
            self.arrived += 1;
            self.free(position);
            return;
        }
        if is_counted {
            item.strikes += 1;
            item.first_failed_ms.get_or_insert(now_ms);
        }
        let first_failed_ms = item.first_failed_ms.unwrap_or(now_ms);
        let salt = u64::try_from(position).unwrap_or(0) << 8 | u64::from(item.attempts & 0xff);
        let next = if item.is_late {
            Next::Park(retry::late_after(first_failed_ms, now_ms))
        } else {
            retry::after_failure(
                item.strikes.max(1),
                first_failed_ms,
                now_ms,
                attempted.retry_after,
                salt,
            )
        };
        self.attempts.push_back(AttemptRow {
            position,
            number: item.attempts,
            attempted: attempted.clone(),
            at_ms: now_ms,
        });
        let (state, at, name) = match next {
            Next::RetryAt(at) => (State::Retrying(at), Some(at), "retrying"),
            Next::Park(at) => (State::Parked(at), at, "parked"),
        };
        let is_parked = matches!(state, State::Parked(_));
        item.state = state;
        item.is_late |= is_parked;
        self.due.extend(at.map(|at| (at, position)));
        let row = DeliveryRow {
            position,
            event_id: item.offer.event_id,
            directory_id: item.offer.directory_id,
            state: name,
            attempts: item.attempts,
            last: attempted.clone(),
            at_ms: now_ms,
        };
        item.last = Some(attempted);
        self.failed_rows.insert(position, row);
        if is_parked {
            self.free(position);
        }
    }

    /// The endpoint as a whole was down: what failed meanwhile is not to blame and may go at once.
    pub fn forgive(&mut self, since_ms: i64, now_ms: i64) {
        let forgiven: Vec<(i64, i64)> = self
            .due
            .iter()
            .filter(|(at, position)| {
                *at > now_ms
                    && self.items.get(position).is_some_and(|item| {
                        !item.is_late && item.first_failed_ms.is_some_and(|first| first >= since_ms)
                    })
            })
            .copied()
            .collect();
        for (at, position) in forgiven {
            self.due.remove(&(at, position));
            if let Some(item) = self.items.get_mut(&position) {
                item.strikes = 0;
                item.first_failed_ms = None;
                item.state = State::Retrying(now_ms);
                self.due.insert((now_ms, position));
            }
        }
    }

    /// Frees the keys of an event; those that waited for it become ready.
    fn free(&mut self, position: i64) {
        let Some(item) = self.items.get_mut(&position) else {
            return;
        };
        if !std::mem::take(&mut item.is_in_lanes) {
            return;
        }
        let offer = Arc::clone(&item.offer);
        for candidate in self.lanes.leave(position, &offer.keys) {
            if let Some(waiting) = self.items.get_mut(&candidate)
                && waiting.state == State::Waiting
                && self.lanes.is_free(candidate, &waiting.offer.keys)
            {
                waiting.state = State::Ready;
                self.ready.insert(candidate);
            }
        }
    }

    /// What is to be written down now; `None` while a batch is under way or if there is nothing.
    pub fn batch(&mut self, now_ms: i64) -> Option<Batch> {
        if self.recording.is_some() {
            return None;
        }
        let mut batch = Batch {
            attempts: self.attempts.iter().cloned().collect(),
            settled: self.orphans.clone(),
            ..Batch::default()
        };
        let mut failed = self.failed_rows.clone();
        let mut stuck = Lanes::default();
        let mut cursor = self.cursor;
        let mut is_open_before = false;
        for (position, item) in &self.items {
            if item.state == State::Delivered {
                batch.deliveries.push(delivered(*position, item, now_ms));
                failed.remove(position);
                if item.written.is_some() {
                    batch.settled.push(*position);
                }
                continue;
            }
            let row = exception_of(*position, item, &stuck, is_open_before, self.scan);
            match row {
                Some(row) => {
                    if !matches!(item.state, State::Parked(_)) {
                        stuck.enter(*position, &item.offer.keys);
                    }
                    if item.written.as_ref() != Some(&row) {
                        batch.exceptions.push(row);
                    }
                }
                None if !is_open_before => {
                    is_open_before = true;
                    cursor = cursor.max(self.last_row_before(*position));
                }
                None => {}
            }
        }
        batch.deliveries.extend(failed.into_values());
        if !is_open_before {
            cursor = cursor.max(self.scan);
        }
        let is_overdue = now_ms - self.cursor_written_at_ms >= SKIPPED_CURSOR_MS;
        if cursor > self.cursor && (is_overdue || !batch.is_empty()) {
            batch.cursor = Some(cursor);
        }
        if batch.is_empty() {
            return None;
        }
        self.recording = Some(batch.clone());
        Some(batch)
    }

    /// The last offered event before `position`: a row that was read. (Rows between the two that do not
    /// pass the filter are read again after a takeover, which costs little.)
    fn last_row_before(&self, position: i64) -> i64 {
        self.items
            .range(..position)
            .next_back()
            .map_or(self.cursor, |(before, _)| *before)
    }

    /// The batch under way is durable.
    pub fn recorded(&mut self, now_ms: i64) {
        let Some(batch) = self.recording.take() else {
            return;
        };
        if let Some(cursor) = batch.cursor {
            self.cursor = cursor;
            self.cursor_written_at_ms = now_ms;
        }
        for row in &batch.deliveries {
            if self.failed_rows.get(&row.position) == Some(row) {
                self.failed_rows.remove(&row.position);
            }
            if row.state == "delivered" {
                self.failed_rows.remove(&row.position);
                if self.items.remove(&row.position).is_some() {
                    self.open.remove(&row.position);
                    self.arrived = self.arrived.saturating_sub(1);
                }
            }
        }
        self.orphans.clear();
        self.attempts
            .drain(..batch.attempts.len().min(self.attempts.len()));
        for row in batch.exceptions {
            if let Some(item) = self.items.get_mut(&row.position) {
                self.open.remove(&row.position);
                item.written = Some(row);
            }
        }
        self.forget_ended_parked();
    }

    /// The batch under way was not written; it will be part of the next one.
    pub fn not_recorded(&mut self) {
        self.recording = None;
    }

    /// How many rows the next batch would write at least.
    pub fn unrecorded(&self) -> usize {
        self.attempts.len() + self.arrived
    }

    /// Whether everything that happened is written down and nothing is on its way.
    pub fn is_settled(&self) -> bool {
        self.in_flight == 0
            && self.recording.is_none()
            && self.attempts.is_empty()
            && self.failed_rows.is_empty()
            && self.arrived == 0
    }

    /// A parked event that is not tried again stays in its delivery row and its exception row only.
    fn forget_ended_parked(&mut self) {
        self.items.retain(|_, item| {
            !(item.state == State::Parked(None)
                && item
                    .written
                    .as_ref()
                    .is_some_and(|row| row.next_at_ms.is_none() && row.state == Exception::Parked))
        });
    }
}

fn delivered(position: i64, item: &Item, now_ms: i64) -> DeliveryRow {
    DeliveryRow {
        position,
        event_id: item.offer.event_id,
        directory_id: item.offer.directory_id,
        state: "delivered",
        attempts: item.attempts,
        last: item.last.clone().unwrap_or(Attempted {
            is_success: true,
            status_code: None,
            failure: None,
            excerpt: None,
            retry_after: None,
            duration_ms: 0,
        }),
        at_ms: now_ms,
    }
}

/// The exception that an unfinished item is, if the cursor may pass it.
///
/// `stuck` are the lanes of the exceptions before it; `has_open_before` says that an earlier event is
/// neither finished nor an exception, so that the cursor stays before it anyway.
fn exception_of(
    position: i64,
    item: &Item,
    stuck: &Lanes,
    has_open_before: bool,
    scan: i64,
) -> Option<ExceptionRow> {
    let (state, next_at_ms) = match item.state {
        State::Retrying(at) => (Exception::Retrying, Some(at)),
        State::Parked(at) => (Exception::Parked, at),
        State::Waiting if !has_open_before && is_held(position, item, stuck) => {
            (Exception::Held, None)
        }
        State::InFlight if item.written.is_some() => return item.written.clone(),
        State::InFlight if !has_open_before && scan >= position + SPAN_MAX => {
            (Exception::InFlight, None)
        }
        _ if item.written.is_some() => return item.written.clone(),
        _ => return None,
    };
    Some(ExceptionRow {
        position,
        state,
        attempts: item.attempts,
        first_failed_ms: item.first_failed_ms,
        next_at_ms,
    })
}

fn is_held(position: i64, item: &Item, stuck: &Lanes) -> bool {
    !stuck.is_free(position, &item.offer.keys)
}
