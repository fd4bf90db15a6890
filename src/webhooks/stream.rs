//! One endpoint in one shard, or in a directory that is split off from it: what it has been offered, what
//! is on its way, and what is written down.
//!
//! Cast: an `Item` is an event that passes the endpoint's filter and has not ended, or has ended and is
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

use super::lanes::Lanes;
use super::retry::{self, Next};

mod record;
mod rows;
mod split;
#[cfg(test)]
mod tests;

pub use rows::{
    AttemptRow, Attempted, Batch, DeliveryRow, Exception, ExceptionRow, Offer, Place, Sending,
};

/// How many positions past its oldest unrecorded event a stream sends.
pub const SPAN_MAX: i64 = 4_096;
/// How many unfinished events a stream reads ahead.
const AHEAD_MAX: usize = 512;
/// How many events a stream keeps that are not written down, those that have arrived included.
const OPEN_MAX: usize = 4_096;
/// How many exceptions that are not parked a stream carries before it stops reading.
const EXCEPTIONS_MAX: usize = 4_096;
/// How many parked events a stream still tries; what is parked beyond that waits for a replay.
const PARKED_MAX: usize = 4_096;

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
    /// Whether there may be an exception row: a record that was reported as failed may be durable.
    may_have_row: bool,
}

/// One endpoint's place in one shard, or in one directory.
#[derive(Debug)]
pub struct Stream {
    scan: i64,
    cursor: i64,
    cursor_written_at_ms: i64,
    /// The highest cursor ever handed out: what the database may have, whatever was reported.
    cursor_handed_out: i64,
    /// Whether its row is yet to be written, as that of a directory that has just been split off.
    needs_row: bool,
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
    /// How many items are tried although they were parked.
    parked: usize,
    in_flight: usize,
    /// Whether the last one that was sent was due again, and not a new one.
    was_due: bool,
    attempts: VecDeque<AttemptRow>,
    failed_rows: BTreeMap<i64, DeliveryRow>,
    /// What a batch under way will have settled.
    recording: Option<Batch>,
}

impl Stream {
    /// Continues at `place`.
    pub fn new(place: Place, now_ms: i64) -> Self {
        let mut stream = Self {
            scan: place.cursor,
            cursor: place.cursor,
            cursor_written_at_ms: now_ms,
            cursor_handed_out: place.cursor,
            needs_row: false,
            exhausted: 0,
            done_ahead: place.done_ahead,
            orphans: place.orphans,
            items: BTreeMap::new(),
            lanes: Lanes::default(),
            ready: BTreeSet::new(),
            due: BTreeSet::new(),
            open: BTreeSet::new(),
            arrived: 0,
            parked: 0,
            in_flight: 0,
            was_due: false,
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
        // Without a first failure that counts, none of the attempts did.
        let strikes = row.first_failed_ms.map_or(0, |_| row.attempts);
        let item = Item {
            offer,
            attempts: row.attempts,
            strikes,
            first_failed_ms: row.first_failed_ms,
            is_in_lanes: !is_parked,
            is_late: is_parked,
            last: None,
            written: Some(row),
            may_have_row: true,
            state,
        };
        self.insert(position, item);
    }

    fn insert(&mut self, position: i64, mut item: Item) {
        if item.is_in_lanes {
            self.lanes.enter(position, &item.offer.keys);
        }
        match item.state {
            State::Retrying(at) | State::Parked(Some(at)) => {
                self.due.insert((at, position));
            }
            State::Waiting | State::Ready => {
                item.state = if self.lanes.is_free(position, &item.offer.keys) {
                    self.ready.insert(position);
                    State::Ready
                } else {
                    State::Waiting
                };
            }
            State::InFlight => self.in_flight += 1,
            State::Delivered => self.arrived += 1,
            State::Parked(None) => {}
        }
        self.parked += usize::from(item.is_late);
        if item.written.is_none() {
            self.open.insert(position);
        }
        self.items.insert(position, item);
    }

    /// The position after which to read, if there is room and the log has more than has been seen.
    ///
    /// For probes it reads only what gives them an event to try that has not failed yet: else an
    /// endpoint that refuses the few events at hand would never be found to take others.
    pub fn wants(&self, newest: i64, is_probing: bool) -> Option<i64> {
        let exceptions = self.items.len().saturating_sub(self.open.len());
        let has_room = self.open.len().saturating_sub(self.arrived) < AHEAD_MAX
            && self.open.len() < OPEN_MAX
            && exceptions.saturating_sub(self.parked) < EXCEPTIONS_MAX
            && self.scan < self.span_end();
        let is_needed = !is_probing || (self.ready.is_empty() && self.items.len() < AHEAD_MAX);
        (has_room && is_needed && newest > self.scan.max(self.exhausted)).then_some(self.scan)
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
                may_have_row: false,
            };
            self.insert(position, item);
        }
        if let Some(last_row) = last_row {
            self.scan = self.scan.max(last_row);
            // What others take of it, in directories that are split off, is never offered here.
            self.done_ahead = self.done_ahead.split_off(&self.scan);
        }
        if let Some(read_to) = read_to {
            self.exhausted = read_to;
        }
    }

    /// What to send next, if anything may go: by turns what is due again and the oldest that is ready,
    /// so that events which keep failing do not keep others waiting. A probe tries a new event first.
    pub fn next(&mut self, now_ms: i64, is_probe: bool) -> Option<Sending> {
        let due = self.due.first().copied().filter(|(at, _)| *at <= now_ms);
        let end = self.span_end();
        let ready = self.ready.first().copied().filter(|first| *first < end);
        let takes_ready = due.is_none() || is_probe || self.was_due;
        let position = match (due, ready) {
            (_, Some(position)) if takes_ready => {
                self.ready.remove(&position);
                self.was_due = false;
                position
            }
            (Some((at, position)), _) => {
                self.due.remove(&(at, position));
                self.was_due = true;
                position
            }
            (None, _) => return None,
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

    /// Whether [`Self::next`] would find something.
    pub fn has_next(&self, now_ms: i64) -> bool {
        let end = self.span_end();
        self.due.first().is_some_and(|(at, _)| *at <= now_ms)
            || self.ready.first().is_some_and(|first| *first < end)
    }

    /// When something is due that is not due yet.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How many requests are on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether the event at `position` is on its way.
    pub fn is_in_flight(&self, position: i64) -> bool {
        let item = self.items.get(&position);
        item.is_some_and(|item| item.state == State::InFlight)
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
        // What does not count is tried again as after a first failure, and never parks the event.
        let (strikes, first_failed_ms) = match item.first_failed_ms {
            Some(first) if is_counted || item.is_late => (item.strikes, first),
            _ => (1, now_ms),
        };
        let salt = u64::try_from(position).unwrap_or(0) << 8 | u64::from(item.attempts & 0xff);
        let next = if item.is_late {
            Next::Park(retry::late_after(first_failed_ms, now_ms))
        } else {
            retry::after_failure(
                strikes,
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
            Next::Park(_) if !item.is_late && self.parked >= PARKED_MAX => {
                (State::Parked(None), None, "parked")
            }
            Next::Park(at) => (State::Parked(at), at, "parked"),
        };
        let is_parked = matches!(state, State::Parked(_));
        item.state = state;
        if is_parked && !std::mem::replace(&mut item.is_late, true) {
            self.parked += 1;
        }
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
            .filter(|(_, position)| {
                self.items.get(position).is_some_and(|item| {
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
}
