//! One endpoint in one shard, or in a directory that is split off from it: what it has been offered, what
//! is on its way, and what is written down.
//!
//! Cast: an `Item` is an event that passes the endpoint's filter and has not ended, or has ended and is
//! not written down yet. The *cursor* is the position up to which every such event has ended or is an
//! *exception* (a row of its own: retrying, held behind one that is, slow, or parked). The *scan* is how
//! far the log has been read.
//!
//! Invariants: scan and cursor are only ever positions of rows that were read (0 before the first); an
//! item is sent only if its lanes are free; nothing but departures, which overtake, is sent more than
//! [`SPAN_MAX`] positions past the oldest event that is not written down; what [`Stream::batch`] hands out stays here until
//! [`Stream::recorded`] says that it is durable.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use self::turns::Turns;
use super::endpoint::Ordering;
use super::lanes::{Key, Lanes};
use crate::ids::OrganizationId;

mod ahead;
mod outcome;
mod record;
mod rows;
mod split;
#[cfg(test)]
mod tests;
mod turns;

pub use rows::{
    AttemptRow, Attempted, Batch, Chain, DeliveryRow, Exception, ExceptionRow, Offer, Place,
    Sending,
};

/// How many positions past its oldest unrecorded event a stream sends.
pub const SPAN_MAX: i64 = 4_096;
/// How many unfinished events a stream reads ahead; the logs that unit tests make are short.
pub const AHEAD_MAX: usize = if cfg!(test) { 24 } else { 512 };
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

/// Why an item goes before others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    /// It does not.
    None,
    /// It says that a person has left.
    Departs,
    /// Something that does depends on it.
    TakenAlong,
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
    haste: Haste,
    last: Option<Attempted>,
    /// The exception row as it stands in the database.
    written: Option<ExceptionRow>,
    /// Whether there may be an exception row: a record that was reported as failed may be durable.
    may_have_row: bool,
}

impl Item {
    fn new(offer: Arc<Offer>) -> Self {
        Self {
            offer,
            state: State::Waiting,
            attempts: 0,
            strikes: 0,
            first_failed_ms: None,
            is_in_lanes: true,
            is_late: false,
            haste: Haste::None,
            last: None,
            written: None,
            may_have_row: false,
        }
    }

    /// Whether nothing that it depends on is in `lanes` before it. What is in haste does not wait for
    /// others to give a name away.
    fn is_free(&self, lanes: &Lanes, ordering: Ordering) -> bool {
        let keys = self.offer.keys_in(ordering);
        let is_awaited = |key: &Key| self.haste == Haste::None || !key.is_name();
        let awaited = keys.iter().filter(|(key, _)| is_awaited(key));
        lanes.is_free(self.offer.position, awaited)
    }
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
    /// Events above the scan that have ended and are written down: they were sent before this node took
    /// over, or overtook.
    done_ahead: BTreeSet<i64>,
    /// Exceptions whose events are gone.
    orphans: Vec<i64>,
    items: BTreeMap<i64, Item>,
    ordering: Ordering,
    lanes: Lanes,
    ready: Turns,
    /// What may go and goes before others.
    urgent: Turns,
    /// The users and groups whose first event is parked, with its position.
    uncreated: HashMap<Key, i64>,
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
    /// Whether the last one that was sent was urgent.
    was_urgent: bool,
    attempts: VecDeque<AttemptRow>,
    failed_rows: BTreeMap<i64, DeliveryRow>,
    /// What a batch under way will have settled.
    recording: Option<Batch>,
}

impl Stream {
    /// Continues at `place`.
    pub fn new(place: Place, ordering: Ordering, now_ms: i64) -> Self {
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
            ordering,
            lanes: Lanes::default(),
            ready: Turns::default(),
            urgent: Turns::default(),
            uncreated: HashMap::new(),
            due: BTreeSet::new(),
            open: BTreeSet::new(),
            arrived: 0,
            parked: 0,
            in_flight: 0,
            was_due: false,
            was_urgent: false,
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
            attempts: row.attempts,
            strikes,
            first_failed_ms: row.first_failed_ms,
            is_in_lanes: !is_parked,
            is_late: is_parked,
            written: Some(row),
            may_have_row: true,
            state,
            ..Item::new(offer)
        };
        self.insert(position, item);
    }

    fn insert(&mut self, position: i64, mut item: Item) {
        if item.is_in_lanes {
            let keys = item.offer.keys_in(self.ordering);
            self.lanes.enter(position, &keys);
        }
        match item.state {
            State::Retrying(at) | State::Parked(Some(at)) => {
                self.due.insert((at, position));
            }
            State::Waiting | State::Ready => {
                item.state = State::Waiting;
                if item.is_free(&self.lanes, self.ordering) {
                    item.state = State::Ready;
                    self.turns_of(item.haste).insert(&item.offer);
                }
            }
            State::InFlight => self.in_flight += 1,
            State::Delivered => self.arrived += 1,
            State::Parked(None) => {}
        }
        self.parked += usize::from(item.is_late);
        if item.written.is_none() {
            self.open.insert(position);
        }
        if let Some(created) = item.offer.creates().filter(|_| item.is_late) {
            self.uncreated.insert(created.clone(), position);
        }
        let departs = item.offer.is_departure && item.is_in_lanes;
        self.items.insert(position, item);
        if departs {
            self.hurry(position);
        }
    }

    fn turns_of(&mut self, haste: Haste) -> &mut Turns {
        match haste {
            Haste::None => &mut self.ready,
            Haste::Departs | Haste::TakenAlong => &mut self.urgent,
        }
    }

    /// Keeps events in another order from now on.
    pub fn reorder(&mut self, ordering: Ordering) {
        if ordering == self.ordering {
            return;
        }
        self.ordering = ordering;
        self.lanes = Lanes::default();
        (self.ready, self.urgent) = (Turns::default(), Turns::default());
        (self.due, self.open) = (BTreeSet::new(), BTreeSet::new());
        (self.arrived, self.parked, self.in_flight) = (0, 0, 0);
        for (position, item) in std::mem::take(&mut self.items) {
            self.insert(position, item);
        }
    }

    /// The position after which to read, if there is room and the log has more than has been seen; `ahead`
    /// is how many unfinished events leave room.
    ///
    /// For probes it reads only what gives them an event to try that has not failed yet: else an
    /// endpoint that refuses the few events at hand would never be found to take others.
    pub fn wants(&self, newest: i64, is_probing: bool, ahead: usize) -> Option<i64> {
        let has_none = self.ready.is_empty() && self.urgent.is_empty();
        let is_needed = !is_probing || (has_none && self.items.len() < AHEAD_MAX);
        (self.has_room(ahead) && is_needed && newest > self.scan.max(self.exhausted))
            .then_some(self.scan)
    }

    fn has_room(&self, ahead: usize) -> bool {
        let exceptions = self.items.len().saturating_sub(self.open.len());
        self.unfinished() < ahead
            && self.open.len() < OPEN_MAX
            && exceptions.saturating_sub(self.parked) < EXCEPTIONS_MAX
            && self.scan < self.span_end()
    }

    /// Whether the log goes on up to `newest` and there is no room to read it, or that is far.
    pub fn is_behind(&self, newest: i64, ahead: usize) -> bool {
        let is_far = newest.saturating_sub(self.scan) > SPAN_MAX;
        newest > self.scan.max(self.exhausted) && (is_far || !self.has_room(ahead))
    }

    /// The organization that what it has is of, if it has anything.
    pub fn organization(&self) -> Option<OrganizationId> {
        let first = self.items.values().next();
        first.map(|item| item.offer.organization_id)
    }

    /// How many events are kept that have neither ended nor an exception.
    pub fn unfinished(&self) -> usize {
        self.open.len().saturating_sub(self.arrived)
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
            self.insert(position, Item::new(offer));
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

    /// What to send next, if anything may go.
    pub fn next(&mut self, now_ms: i64, is_probe: bool) -> Option<Sending> {
        let position = self.pick(now_ms, is_probe)?;
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

    /// By turns what is urgent and what is not.
    fn pick(&mut self, now_ms: i64, is_probe: bool) -> Option<i64> {
        let picked = if self.was_urgent {
            self.pick_usual(now_ms, is_probe)
        } else {
            None
        };
        let urgent = picked.map_or_else(|| self.urgent.take(i64::MAX), |_| None);
        self.was_urgent = urgent.is_some();
        picked
            .or(urgent)
            .or_else(|| self.pick_usual(now_ms, is_probe))
    }

    /// By turns what is due again and what is ready, so that events which keep failing do not keep others
    /// waiting. A probe tries a new event first.
    fn pick_usual(&mut self, now_ms: i64, is_probe: bool) -> Option<i64> {
        let due = self.due.first().copied().filter(|(at, _)| *at <= now_ms);
        let end = self.span_end();
        let takes_ready = due.is_none() || is_probe || self.was_due;
        if takes_ready && let Some(position) = self.ready.take(end) {
            self.was_due = false;
            return Some(position);
        }
        let (at, position) = due?;
        self.due.remove(&(at, position));
        self.was_due = true;
        Some(position)
    }

    /// Whether [`Self::next`] would find something.
    pub fn has_next(&self, now_ms: i64) -> bool {
        self.due.first().is_some_and(|(at, _)| *at <= now_ms)
            || self.urgent.has(i64::MAX)
            || self.ready.has(self.span_end())
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

    /// Frees the keys of an event; those that waited for it become ready.
    fn free(&mut self, position: i64) {
        let Some(item) = self.items.get_mut(&position) else {
            return;
        };
        if !std::mem::take(&mut item.is_in_lanes) {
            return;
        }
        let offer = Arc::clone(&item.offer);
        for candidate in self.lanes.leave(position, &offer.keys_in(self.ordering)) {
            self.try_free(candidate);
        }
    }

    /// Lets an event that waits go if nothing is in its way any more.
    fn try_free(&mut self, position: i64) {
        if let Some(item) = self.items.get_mut(&position)
            && item.state == State::Waiting
            && item.is_free(&self.lanes, self.ordering)
        {
            item.state = State::Ready;
            let (haste, offer) = (item.haste, Arc::clone(&item.offer));
            self.turns_of(haste).insert(&offer);
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
