//! The dispatcher: what a node does for the shards that it owns, as a pure state machine.
//!
//! [`Dispatcher::step`] takes an [`Input`] and says what is to be done as [`Action`]s. There is no clock,
//! no randomness and no I/O in here; [`super::driver`] brings those. Times come in two kinds: the wall
//! clock, which the retry schedule in the database is written in, and the node's own monotonic clock,
//! which leases are judged by.
//!
//! Invariants: nothing is sent for a shard whose lease has less than two seconds left; what was sent is
//! recorded under the lease that it was sent under; one record per shard is under way at a time; a
//! failing endpoint stops its own reading and nobody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::breaker::Breaker;
use super::stream::{Attempted, Batch, Offer, Place, Sending, Stream};
use crate::ids::EndpointId;
use crate::storage::horizon::SHARDS;

/// How long results may wait to be written down.
const RECORD_EVERY_MS: i64 = 250;
/// How many results are written down without waiting.
const RECORD_ROWS: usize = 500;
/// How many requests a node has on their way at most.
const IN_FLIGHT_MAX: usize = 1_024;
/// With less of its lease left than this a shard sends nothing new.
const SEND_MARGIN_MS: i64 = 2_000;
/// With less of its lease left than this a shard is given up and its requests are aborted.
const ABORT_MARGIN_MS: i64 = 1_000;
/// How often every stream looks whether its cursor should be written.
const SWEEP_EVERY_MS: i64 = 5_000;

/// The two clocks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970.
    pub wall_ms: i64,
    /// Milliseconds since some moment, never going back.
    pub monotonic_ms: i64,
}

/// The right to dispatch a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Counts the owners of the shard.
    pub epoch: i64,
    /// A random number, because an epoch alone can repeat after a failover that lost something.
    pub token: Uuid,
    /// When it ends, on the node's monotonic clock, counted from before it was asked for.
    pub until_ms: i64,
}

/// What the dispatcher needs to know of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many requests may be on their way at once.
    pub max_in_flight: usize,
}

/// What has happened.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// These are the enabled endpoints now, and so many nodes share the work.
    Endpoints(BTreeMap<EndpointId, Settings>, usize),
    /// A shard is ours, or still ours, under this lease.
    Leased(i16, Lease),
    /// A shard is no longer ours.
    Lost(i16),
    /// An endpoint's place in a shard, as the database has it.
    Recovered(EndpointId, i16, Place),
    /// Where the log of each shard ends, as far as it may be read.
    Tail([i64; SHARDS]),
    /// Rows after `after` of a shard, for an endpoint.
    Page(EndpointId, i16, Page),
    /// A read failed; it will be asked for again.
    ReadFailed(EndpointId, i16),
    /// A request has ended.
    Ended(EndpointId, i16, i64, Attempted),
    /// The record of a shard has ended.
    Recorded(i16, Recorded),
    /// Send and read nothing more for a shard, and give it back once all is written down.
    Yield(i16),
}

/// A page of the log, as one endpoint is offered it.
#[derive(Debug)]
pub struct Page {
    /// The rows that pass the endpoint's filter.
    pub offers: Vec<Arc<Offer>>,
    /// The position of the last row read.
    pub last_row: Option<i64>,
    /// Up to where there is nothing more, if that is known.
    pub read_to: Option<i64>,
}

/// How writing a record has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is durable.
    Written,
    /// The lease was not ours any more; nothing was written.
    Fenced,
    /// The database failed; it may have been written or not.
    Failed,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Load an endpoint's place in a shard.
    Recover(EndpointId, i16),
    /// Read a shard after a position, up to another, for an endpoint.
    Read(EndpointId, i16, i64, i64),
    /// Send an event.
    Send(EndpointId, i16, Sending),
    /// Write down what has happened in a shard, if the lease still holds.
    Record(i16, Lease, Vec<(EndpointId, Batch)>),
    /// Abort the requests of a shard: it may belong to another node soon.
    Abort(i16),
    /// Give a shard back: everything about it is written down.
    GiveBack(i16),
}

/// One endpoint's stream in one shard, or its absence.
#[derive(Debug)]
enum Slot {
    Recovering,
    Live {
        stream: Box<Stream>,
        is_reading: bool,
    },
}

#[derive(Debug)]
struct Shard {
    lease: Lease,
    slots: BTreeMap<EndpointId, Slot>,
    touched: BTreeSet<EndpointId>,
    recording: Option<Vec<EndpointId>>,
    recorded_at_ms: i64,
    is_yielding: bool,
}

#[derive(Debug)]
struct Endpoint {
    settings: Settings,
    breaker: Breaker,
    in_flight: usize,
    /// When the current run of failures began.
    failing_since_ms: Option<i64>,
    /// The shard that is asked first next time.
    next_shard: i16,
}

/// The state of a node's webhook delivery.
#[derive(Debug)]
pub struct Dispatcher {
    shards: BTreeMap<i16, Shard>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    newest: [i64; SHARDS],
    nodes: usize,
    swept_at_ms: i64,
}

impl Default for Dispatcher {
    fn default() -> Self {
        Self {
            shards: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            newest: [0; SHARDS],
            nodes: 1,
            swept_at_ms: 0,
        }
    }
}

impl Dispatcher {
    /// Takes in what has happened and says what is to be done.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut dirty = BTreeSet::new();
        match input {
            Input::Tick => self.tick(now, &mut dirty, &mut actions),
            Input::Endpoints(settings, nodes) => self.configure(settings, nodes, &mut actions),
            Input::Leased(shard, lease) => self.leased(shard, lease, now, &mut actions),
            Input::Lost(shard) => self.drop_shard(shard, &mut actions),
            Input::Recovered(endpoint, shard, place) => {
                self.recovered(endpoint, shard, place, now);
                dirty.insert(endpoint);
            }
            Input::Tail(newest) => self.tail(newest, &mut dirty),
            Input::Page(endpoint, shard, page) => {
                if let Some((stream, is_reading)) = self.stream(shard, endpoint) {
                    *is_reading = false;
                    stream.take(page.offers, page.last_row, page.read_to);
                }
                dirty.insert(endpoint);
            }
            Input::ReadFailed(endpoint, shard) => {
                if let Some((_, is_reading)) = self.stream(shard, endpoint) {
                    *is_reading = false;
                }
            }
            Input::Ended(endpoint, shard, position, attempted) => {
                self.ended(endpoint, shard, position, attempted, now);
                dirty.insert(endpoint);
            }
            Input::Recorded(shard, outcome) => {
                self.recorded(shard, outcome, now, &mut dirty, &mut actions)
            }
            Input::Yield(shard) => {
                if let Some(shard) = self.shards.get_mut(&shard) {
                    shard.is_yielding = true;
                    shard.touched.extend(shard.slots.keys());
                }
            }
        }
        self.send_and_read(now, &dirty, &mut actions);
        self.record(now, &mut actions);
        self.give_back(&mut actions);
        actions
    }

    /// Whether everything that was sent is written down and nothing is on its way.
    pub fn is_settled(&self) -> bool {
        self.shards.values().all(Shard::is_settled)
    }

    /// Whether time matters to it soon: something is on its way or not written down.
    pub fn is_busy(&self) -> bool {
        !self.is_settled()
    }

    /// When the next event is due again or the next probe may go, on the wall clock.
    pub fn next_due_ms(&self) -> Option<i64> {
        let due = self.shards.values().flat_map(|shard| {
            shard.slots.values().filter_map(|slot| match slot {
                Slot::Recovering => None,
                Slot::Live { stream, .. } => stream.next_due_ms(),
            })
        });
        let probes = self
            .endpoints
            .values()
            .filter_map(|endpoint| endpoint.breaker.probe_at_ms());
        due.chain(probes).min()
    }

    /// The shards that it serves.
    pub fn shards(&self) -> impl Iterator<Item = i16> + '_ {
        self.shards.keys().copied()
    }

    /// How many requests are on their way.
    pub fn in_flight(&self) -> usize {
        self.endpoints
            .values()
            .map(|endpoint| endpoint.in_flight)
            .sum()
    }

    fn stream(&mut self, shard: i16, endpoint: EndpointId) -> Option<(&mut Stream, &mut bool)> {
        match self.shards.get_mut(&shard)?.slots.get_mut(&endpoint)? {
            Slot::Recovering => None,
            Slot::Live { stream, is_reading } => Some((stream, is_reading)),
        }
    }

    fn tick(&mut self, now: Now, dirty: &mut BTreeSet<EndpointId>, actions: &mut Vec<Action>) {
        let expired: Vec<i16> = self
            .shards
            .iter()
            .filter(|(_, shard)| now.monotonic_ms >= shard.lease.until_ms - ABORT_MARGIN_MS)
            .map(|(number, _)| *number)
            .collect();
        for shard in expired {
            self.drop_shard(shard, actions);
        }
        dirty.extend(self.endpoints.keys());
        if now.monotonic_ms - self.swept_at_ms >= SWEEP_EVERY_MS {
            self.swept_at_ms = now.monotonic_ms;
            for shard in self.shards.values_mut() {
                shard.touched.extend(shard.slots.keys());
            }
        }
    }

    fn configure(
        &mut self,
        settings: BTreeMap<EndpointId, Settings>,
        nodes: usize,
        actions: &mut Vec<Action>,
    ) {
        self.nodes = nodes.max(1);
        self.endpoints.retain(|id, _| settings.contains_key(id));
        for shard in self.shards.values_mut() {
            shard.slots.retain(|id, _| settings.contains_key(id));
        }
        for (id, settings) in settings {
            if let Some(known) = self.endpoints.get_mut(&id) {
                known.settings = settings;
                continue;
            }
            let endpoint = Endpoint {
                settings,
                breaker: Breaker::default(),
                in_flight: 0,
                failing_since_ms: None,
                next_shard: 0,
            };
            self.endpoints.insert(id, endpoint);
            for (number, shard) in &mut self.shards {
                shard.slots.insert(id, Slot::Recovering);
                actions.push(Action::Recover(id, *number));
            }
        }
    }

    fn leased(&mut self, number: i16, lease: Lease, now: Now, actions: &mut Vec<Action>) {
        if let Some(shard) = self.shards.get_mut(&number) {
            if shard.lease.epoch == lease.epoch && shard.lease.token == lease.token {
                shard.lease = lease;
                return;
            }
            self.drop_shard(number, actions);
        }
        let slots = self
            .endpoints
            .keys()
            .map(|endpoint| {
                actions.push(Action::Recover(*endpoint, number));
                (*endpoint, Slot::Recovering)
            })
            .collect();
        let shard = Shard {
            lease,
            slots,
            touched: BTreeSet::new(),
            recording: None,
            recorded_at_ms: now.monotonic_ms,
            is_yielding: false,
        };
        self.shards.insert(number, shard);
    }

    fn drop_shard(&mut self, number: i16, actions: &mut Vec<Action>) {
        let Some(shard) = self.shards.remove(&number) else {
            return;
        };
        for (id, slot) in shard.slots {
            if let (Slot::Live { stream, .. }, Some(endpoint)) = (slot, self.endpoints.get_mut(&id))
            {
                endpoint.in_flight = endpoint.in_flight.saturating_sub(stream.in_flight());
            }
        }
        actions.push(Action::Abort(number));
    }

    fn recovered(&mut self, endpoint: EndpointId, shard: i16, place: Place, now: Now) {
        if let Some(slot) = self
            .shards
            .get_mut(&shard)
            .and_then(|shard| shard.slots.get_mut(&endpoint))
        {
            *slot = Slot::Live {
                stream: Box::new(Stream::new(place, now.wall_ms)),
                is_reading: false,
            };
        }
    }

    fn tail(&mut self, newest: [i64; SHARDS], dirty: &mut BTreeSet<EndpointId>) {
        if newest != self.newest {
            self.newest = newest;
            dirty.extend(self.endpoints.keys());
        }
    }

    fn ended(&mut self, id: EndpointId, shard: i16, position: i64, attempted: Attempted, now: Now) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let was_closed = endpoint.breaker.is_closed();
        let mut forgive_since = None;
        if attempted.is_success {
            endpoint.failing_since_ms = None;
            endpoint.breaker.succeeded();
        } else {
            let since = *endpoint.failing_since_ms.get_or_insert(now.wall_ms);
            if endpoint.breaker.failed(position, now.wall_ms) {
                tracing::warn!(endpoint.id = %id, "the endpoint fails; single probes go out from now on");
                forgive_since = Some(since);
            }
        }
        if let Some((stream, _)) = self.stream(shard, id) {
            let before = stream.in_flight();
            stream.ended(position, attempted, was_closed, now.wall_ms);
            let is_ours = stream.in_flight() < before;
            if let Some(endpoint) = self.endpoints.get_mut(&id).filter(|_| is_ours) {
                endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
            }
            if let Some(shard) = self.shards.get_mut(&shard) {
                shard.touched.insert(id);
            }
        }
        if let Some(since) = forgive_since {
            for shard in self.shards.values_mut() {
                if let Some(Slot::Live { stream, .. }) = shard.slots.get_mut(&id) {
                    stream.forgive(since, now.wall_ms);
                }
            }
        }
    }

    fn recorded(
        &mut self,
        number: i16,
        outcome: Recorded,
        now: Now,
        dirty: &mut BTreeSet<EndpointId>,
        actions: &mut Vec<Action>,
    ) {
        if outcome == Recorded::Fenced {
            self.drop_shard(number, actions);
            return;
        }
        let Some(shard) = self.shards.get_mut(&number) else {
            return;
        };
        for id in shard.recording.take().into_iter().flatten() {
            if let Some(Slot::Live { stream, .. }) = shard.slots.get_mut(&id) {
                if outcome == Recorded::Written {
                    stream.recorded(now.wall_ms);
                } else {
                    stream.not_recorded();
                }
                shard.touched.insert(id);
                dirty.insert(id);
            }
        }
    }

    /// Lets `dirty` endpoints send and read what they may.
    fn send_and_read(&mut self, now: Now, dirty: &BTreeSet<EndpointId>, actions: &mut Vec<Action>) {
        let mut total = self.in_flight();
        for id in dirty {
            let Some(endpoint) = self.endpoints.get_mut(id) else {
                continue;
            };
            let share = (endpoint.settings.max_in_flight / self.nodes).max(1);
            let limit = endpoint.breaker.limit(share, now.wall_ms);
            while endpoint.in_flight < limit && total < IN_FLIGHT_MAX {
                let Some((shard, sending)) = next_of(&mut self.shards, *id, endpoint, now) else {
                    break;
                };
                endpoint.in_flight += 1;
                total += 1;
                actions.push(Action::Send(*id, shard, sending));
            }
            if endpoint.breaker.is_closed() {
                self.read(*id, actions);
            }
        }
    }

    fn read(&mut self, id: EndpointId, actions: &mut Vec<Action>) {
        let newest = self.newest;
        for (number, shard) in &mut self.shards {
            let end = usize::try_from(*number)
                .ok()
                .and_then(|index| newest.get(index))
                .copied()
                .unwrap_or(0);
            if let Some(Slot::Live { stream, is_reading }) = shard.slots.get_mut(&id)
                && !*is_reading
                && !shard.is_yielding
                && let Some(after) = stream.wants(end)
            {
                *is_reading = true;
                shard.touched.insert(id);
                actions.push(Action::Read(id, *number, after, end));
            }
        }
    }

    /// Gives up the shards that are to be given back and have nothing left to write down.
    fn give_back(&mut self, actions: &mut Vec<Action>) {
        let settled: Vec<i16> = self
            .shards
            .iter()
            .filter(|(_, shard)| shard.is_yielding && shard.is_settled())
            .map(|(number, _)| *number)
            .collect();
        for number in settled {
            self.shards.remove(&number);
            actions.push(Action::GiveBack(number));
        }
    }

    /// Starts the records that are due.
    fn record(&mut self, now: Now, actions: &mut Vec<Action>) {
        for (number, shard) in &mut self.shards {
            if shard.recording.is_some() || shard.touched.is_empty() {
                continue;
            }
            let is_due =
                shard.is_yielding || now.monotonic_ms - shard.recorded_at_ms >= RECORD_EVERY_MS;
            if !is_due && shard.unrecorded() < RECORD_ROWS {
                continue;
            }
            shard.recorded_at_ms = now.monotonic_ms;
            let touched = std::mem::take(&mut shard.touched);
            let mut batches = Vec::new();
            for id in touched {
                if let Some(Slot::Live { stream, .. }) = shard.slots.get_mut(&id)
                    && let Some(batch) = stream.batch(now.wall_ms)
                {
                    batches.push((id, batch));
                }
            }
            if !batches.is_empty() {
                shard.recording = Some(batches.iter().map(|(id, _)| *id).collect());
                actions.push(Action::Record(*number, shard.lease, batches));
            }
        }
    }
}

impl Shard {
    fn is_settled(&self) -> bool {
        self.recording.is_none()
            && self.slots.values().all(|slot| match slot {
                Slot::Recovering => true,
                Slot::Live { stream, .. } => stream.is_settled(),
            })
    }

    fn unrecorded(&self) -> usize {
        self.touched
            .iter()
            .filter_map(|id| match self.slots.get(id) {
                Some(Slot::Live { stream, .. }) => Some(stream.unrecorded()),
                Some(Slot::Recovering) | None => None,
            })
            .sum()
    }
}

/// The next event of an endpoint, its shards taking turns.
fn next_of(
    shards: &mut BTreeMap<i16, Shard>,
    id: EndpointId,
    endpoint: &mut Endpoint,
    now: Now,
) -> Option<(i16, Sending)> {
    let from = endpoint.next_shard;
    let order: Vec<i16> = shards
        .range(from..)
        .chain(shards.range(..from))
        .map(|(number, _)| *number)
        .collect();
    for number in order {
        let Some(shard) = shards.get_mut(&number) else {
            continue;
        };
        if shard.is_yielding || now.monotonic_ms >= shard.lease.until_ms - SEND_MARGIN_MS {
            continue;
        }
        if let Some(Slot::Live { stream, .. }) = shard.slots.get_mut(&id)
            && let Some(sending) = stream.next(now.wall_ms)
        {
            endpoint.next_shard = number + 1;
            return Some((number, sending));
        }
    }
    None
}
