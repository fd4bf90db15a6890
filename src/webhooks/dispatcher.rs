//! The dispatcher: what a node does for the shards that it owns, as a pure state machine.
//!
//! [`Dispatcher::step`] takes an [`Input`] and says what is to be done as [`Action`]s. There is no clock,
//! no randomness and no I/O in here; [`super::driver`] brings those. Times come in two kinds: the wall
//! clock, which the retry schedule in the database is written in, and the node's own monotonic clock,
//! which leases are judged by.
//!
//! Invariants: nothing is sent for a shard whose lease has less than two seconds left; what was sent is
//! recorded under the lease that it was sent under; one record per shard is under way at a time; a
//! failing endpoint stops its own reading and nobody else's; nothing is sent of a directory whose
//! deliveries are held, which keeps nobody else's back; what an earlier visit to a shard or endpoint asked
//! for is never taken for an answer to the present one.

use std::collections::{BTreeMap, BTreeSet};

use self::slot::Slot;
use super::endpoint::Ordering;
use super::holds::{self, Held};
use super::pace::Share;
use super::standing::Standing;
use super::stream::{Attempted, Place, Sending, Stream};
use crate::ids::{DirectoryId, EndpointId};
use crate::storage::horizon::SHARDS;

mod fare;
mod messages;
mod overtaking;
mod slot;
#[cfg(test)]
mod tests;

pub use messages::{
    Action, Departure, Input, Lease, Now, Page, Recorded, Settings, Source, StreamId, Stretch,
};

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
/// How often departures are looked for in a shard.
const LOOK_EVERY_MS: i64 = 250;

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four things that come and go independently"
)]
struct Shard {
    visit: u64,
    lease: Lease,
    slots: BTreeMap<EndpointId, Slot>,
    touched: BTreeSet<EndpointId>,
    recording: Option<Vec<EndpointId>>,
    /// Endpoints whose places are to be loaded again when what is being recorded is.
    stale: BTreeSet<EndpointId>,
    /// Whether the last record says of directories that they are not split off any more.
    ends_splits: bool,
    /// Whether a record was reported as failed, which may come late after all.
    has_failed: bool,
    recorded_at_ms: i64,
    is_yielding: bool,
    /// Whether departures are being looked for, and when that began last.
    is_looking: bool,
    looked_at_ms: i64,
}

#[derive(Debug)]
struct Endpoint {
    settings: Settings,
    standing: Standing,
    in_flight: usize,
    /// The shard that is asked first next time.
    next_shard: i16,
}

/// The state of a node's webhook delivery.
#[derive(Debug)]
pub struct Dispatcher {
    shards: BTreeMap<i16, Shard>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    held: Held,
    newest: [i64; SHARDS],
    nodes: usize,
    /// The endpoint that sent last, when there was not room for all.
    sent_last: Option<EndpointId>,
    /// The endpoints that there was no room for.
    short: BTreeSet<EndpointId>,
    /// The endpoints that are to be disabled once what they said is written down.
    gone: BTreeSet<EndpointId>,
    swept_at_ms: i64,
    /// How many visits there have been.
    visits: u64,
}

impl Default for Dispatcher {
    fn default() -> Self {
        Self {
            shards: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            held: Held::new(),
            newest: [0; SHARDS],
            nodes: 1,
            sent_last: None,
            short: BTreeSet::new(),
            gone: BTreeSet::new(),
            swept_at_ms: 0,
            visits: 0,
        }
    }
}

impl Dispatcher {
    /// Takes in what has happened and says what is to be done.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut dirty = BTreeSet::new();
        match input {
            Input::Tick => {
                self.tick(now, &mut dirty, &mut actions);
                self.look(now, &mut actions);
            }
            Input::Endpoints(settings, nodes) => self.configure(settings, nodes, &mut actions),
            Input::States(states) => self.states(&states, now, &mut dirty),
            Input::Stated(id, written) => {
                self.stated(id, written.as_ref(), now);
                dirty.insert(id);
            }
            Input::Held(held) => self.hold(held, now, &mut dirty, &mut actions),
            Input::Leased(shard, lease) => self.leased(shard, lease, now, &mut actions),
            Input::Lost(shard) => self.drop_shard(shard, &mut actions),
            Input::Recovered(id, source, place) => {
                self.recovered(id, source, place, now, &mut actions);
                dirty.insert(id.endpoint);
            }
            Input::Tail(newest) => self.tail(newest, &mut dirty),
            Input::Page(id, source, page) => {
                if let Some(slot) = self.slot(id) {
                    slot.take(source, page, now.wall_ms);
                    // What waits behind an exception is to be written down without being sent.
                    self.touch(id);
                }
                dirty.insert(id.endpoint);
            }
            Input::ReadFailed(id, source) => {
                if let Some(slot) = self.slot(id) {
                    slot.read_failed(source);
                    self.touch(id);
                    dirty.insert(id.endpoint);
                }
            }
            Input::Departures(shard, visit, found, after, read_to) => {
                self.depart(shard, visit, &found, after, read_to);
                self.look(now, &mut actions);
            }
            Input::Chain(id, chain) => {
                if let Some(slot) = self.slot(id) {
                    slot.overtake(chain);
                    self.touch(id);
                    dirty.insert(id.endpoint);
                }
                self.look(now, &mut actions);
            }
            Input::Ended(id, position, attempted) => {
                self.ended(id, position, attempted, now);
                dirty.insert(id.endpoint);
            }
            Input::Recorded(shard, visit, outcome) => {
                self.recorded(shard, visit, outcome, now, &mut dirty, &mut actions);
            }
            Input::Yield(shard) => {
                if let Some(shard) = self.shards.get_mut(&shard) {
                    shard.is_yielding = true;
                    shard.touched.extend(shard.slots.keys());
                }
            }
        }
        self.send_and_read(now, dirty, &mut actions);
        self.record(now, &mut actions);
        self.disable_gone(&mut actions);
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

    /// When the next event is due again, the next probe may go, or a pause ends, on the wall clock.
    pub fn next_due_ms(&self, now_ms: i64) -> Option<i64> {
        let endpoints = self.endpoints.iter();
        endpoints
            .filter_map(|(id, endpoint)| self.due_ms(*id, endpoint, now_ms))
            .min()
    }

    fn slots_of(&self, id: EndpointId) -> impl Iterator<Item = &Slot> {
        let shards = self.shards.values();
        shards.filter_map(move |shard| shard.slots.get(&id))
    }

    /// The shards that it serves.
    pub fn shards(&self) -> impl Iterator<Item = i16> + '_ {
        self.shards.keys().copied()
    }

    /// How many unfinished events it keeps at most of one stream, and of how many streams it keeps any.
    pub fn unfinished(&self) -> (usize, usize) {
        let slots = self.shards.values().flat_map(|shard| shard.slots.values());
        let counts = slots.flat_map(Slot::streams).map(Stream::unfinished);
        counts.fold((0, 0), |(most, streams), count| {
            (most.max(count), streams + 1)
        })
    }

    /// How many requests are on their way.
    pub fn in_flight(&self) -> usize {
        self.endpoints
            .values()
            .map(|endpoint| endpoint.in_flight)
            .sum()
    }

    fn slot(&mut self, id: StreamId) -> Option<&mut Slot> {
        let slots = &mut self.shards.get_mut(&id.shard)?.slots;
        let slot = slots.get_mut(&id.endpoint);
        slot.filter(|slot| slot.visit == id.visit)
    }

    /// Notes that a slot may have something to write down.
    fn touch(&mut self, id: StreamId) {
        if let Some(shard) = self.shards.get_mut(&id.shard) {
            shard.touched.insert(id.endpoint);
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
        // An endpoint that goes may be back before a record under way is durable, and read what that is
        // about to change.
        let ends = |shard: &Shard| {
            let mut recording = shard.recording.iter().flatten();
            shard.has_failed && shard.slots.keys().any(|id| !settings.contains_key(id))
                || recording.any(|id| !settings.contains_key(id))
        };
        let numbers = self.shards.iter().filter(|(_, shard)| ends(shard));
        let numbers: BTreeSet<i16> = numbers.map(|(number, _)| *number).collect();
        for number in numbers {
            self.drop_shard(number, actions);
        }
        for shard in self.shards.values_mut() {
            shard.slots.retain(|id, _| settings.contains_key(id));
        }
        for (id, settings) in settings {
            if let Some(known) = self.endpoints.get_mut(&id) {
                for slot in self.shards.values_mut() {
                    if let Some(slot) = slot.slots.get_mut(&id) {
                        slot.reorder(settings.options.ordering);
                    }
                }
                let is_refiltered = known.settings.filter_number != settings.filter_number;
                known.settings = settings;
                if is_refiltered {
                    self.reload(id, actions);
                }
                continue;
            }
            let ordering = settings.options.ordering;
            let endpoint = Endpoint {
                settings,
                standing: Standing::of(id),
                in_flight: 0,
                next_shard: 0,
            };
            self.endpoints.insert(id, endpoint);
            for (number, shard) in &mut self.shards {
                let (slot, recover) = recovering(id, *number, ordering, &mut self.visits);
                shard.slots.insert(id, slot);
                actions.push(recover);
            }
        }
    }

    /// Loads an endpoint's places again, but not while something about them is being recorded.
    fn reload(&mut self, id: EndpointId, actions: &mut Vec<Action>) {
        let Some(settings) = self.endpoints.get(&id).map(|endpoint| &endpoint.settings) else {
            return;
        };
        let ordering = settings.options.ordering;
        for (number, shard) in &mut self.shards {
            let (slot, recover) = recovering(id, *number, ordering, &mut self.visits);
            if let Some(former) = shard.slots.insert(id, slot)
                && let Some(endpoint) = self.endpoints.get_mut(&id)
            {
                endpoint.in_flight = endpoint.in_flight.saturating_sub(former.in_flight());
            }
            if shard
                .recording
                .as_ref()
                .is_some_and(|ids| ids.contains(&id))
            {
                shard.stale.insert(id);
            } else {
                actions.push(recover);
            }
        }
    }

    fn hold(
        &mut self,
        held: Held,
        now: Now,
        dirty: &mut BTreeSet<EndpointId>,
        actions: &mut Vec<Action>,
    ) {
        self.held = held;
        dirty.extend(self.endpoints.keys());
        for (number, shard) in &mut self.shards {
            for (endpoint, slot) in &mut shard.slots {
                let held = holds::of(&self.held, *number, *endpoint);
                let recover = slot.hold(&held, now.wall_ms);
                let id = StreamId {
                    endpoint: *endpoint,
                    shard: *number,
                    visit: slot.visit,
                };
                actions.extend(recover_directories(id, recover));
                shard.touched.insert(*endpoint);
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
            .iter()
            .map(|(endpoint, known)| {
                let ordering = known.settings.options.ordering;
                let (slot, recover) = recovering(*endpoint, number, ordering, &mut self.visits);
                actions.push(recover);
                (*endpoint, slot)
            })
            .collect();
        self.visits += 1;
        let shard = Shard {
            visit: self.visits,
            lease,
            slots,
            touched: BTreeSet::new(),
            recording: None,
            stale: BTreeSet::new(),
            ends_splits: false,
            has_failed: false,
            recorded_at_ms: now.monotonic_ms,
            is_yielding: false,
            is_looking: false,
            looked_at_ms: i64::MIN / 2,
        };
        self.shards.insert(number, shard);
    }

    fn drop_shard(&mut self, number: i16, actions: &mut Vec<Action>) {
        let Some(shard) = self.shards.remove(&number) else {
            return;
        };
        for (id, slot) in shard.slots {
            if let Some(endpoint) = self.endpoints.get_mut(&id) {
                endpoint.in_flight = endpoint.in_flight.saturating_sub(slot.in_flight());
            }
        }
        actions.push(Action::Abort(number, shard.lease));
    }

    fn recovered(
        &mut self,
        id: StreamId,
        source: Source,
        place: Place,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let held = holds::of(&self.held, id.shard, id.endpoint);
        if let Some(slot) = self.slot(id) {
            let recover = slot.recovered(source, place, &held, now.wall_ms);
            actions.extend(recover_directories(id, recover));
            self.touch(id);
        }
    }

    fn tail(&mut self, newest: [i64; SHARDS], dirty: &mut BTreeSet<EndpointId>) {
        if newest != self.newest {
            self.newest = newest;
            dirty.extend(self.endpoints.keys());
        }
    }

    fn ended(&mut self, id: StreamId, position: i64, attempted: Attempted, now: Now) {
        let Some(endpoint) = self.endpoints.get_mut(&id.endpoint) else {
            return;
        };
        let was_closed = endpoint.standing.is_closed();
        let share = Share::of(&endpoint.settings.options, self.nodes);
        let times = (now.wall_ms, now.monotonic_ms);
        let failing_since = endpoint.standing.ended(position, &attempted, share, times);
        if Standing::is_gone(&attempted) {
            self.gone.insert(id.endpoint);
        }
        if let Some(slot) = self.slot(id) {
            let is_ours = slot.ended(position, attempted, was_closed, now.wall_ms);
            if let Some(endpoint) = self.endpoints.get_mut(&id.endpoint).filter(|_| is_ours) {
                endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
            }
            self.touch(id);
        }
        self.forgive(id.endpoint, failing_since, now);
    }

    fn recorded(
        &mut self,
        number: i16,
        visit: u64,
        outcome: Recorded,
        now: Now,
        dirty: &mut BTreeSet<EndpointId>,
        actions: &mut Vec<Action>,
    ) {
        let shard = self.shards.get_mut(&number);
        let Some(shard) = shard.filter(|shard| shard.visit == visit) else {
            return;
        };
        // If a record that ends a split came late after all, it would end a later split of the same
        // directory, whose events would be lost: under another lease it cannot come.
        shard.has_failed |= outcome == Recorded::Failed;
        let could_stray = outcome == Recorded::Failed && shard.ends_splits;
        if outcome == Recorded::Fenced || could_stray {
            self.drop_shard(number, actions);
            return;
        }
        for id in shard.recording.take().into_iter().flatten() {
            if let Some(slot) = shard.slots.get_mut(&id) {
                if shard.stale.remove(&id) {
                    let stream = StreamId {
                        endpoint: id,
                        shard: number,
                        visit: slot.visit,
                    };
                    actions.push(Action::Recover(stream, Source::Shard));
                    continue;
                }
                if outcome == Recorded::Written {
                    slot.recorded(now.wall_ms);
                } else {
                    slot.not_recorded();
                }
                shard.touched.insert(id);
                dirty.insert(id);
            }
        }
    }

    /// Lets `dirty` endpoints, and those that there was no room for, send and read what they may, and say
    /// how they fare.
    fn send_and_read(
        &mut self,
        now: Now,
        mut dirty: BTreeSet<EndpointId>,
        actions: &mut Vec<Action>,
    ) {
        dirty.append(&mut self.short);
        self.send(now, &dirty, actions);
        for id in dirty {
            self.share_standing(id, now, actions);
            let endpoint = self.endpoints.get(&id);
            let is_probing = endpoint.is_some_and(|endpoint| !endpoint.standing.is_closed());
            self.read(id, is_probing, actions);
        }
    }

    /// Looks for departures where endpoints are behind, and reads what those found depend on.
    fn look(&mut self, now: Now, actions: &mut Vec<Action>) {
        let endpoints = &self.endpoints;
        let is_well = |id: &EndpointId| {
            endpoints
                .get(id)
                .is_some_and(|one| one.standing.is_closed())
        };
        let shards = self.shards.iter_mut();
        for (number, shard) in shards.filter(|(_, shard)| !shard.is_yielding) {
            let is_due = now.monotonic_ms - shard.looked_at_ms >= LOOK_EVERY_MS;
            let well = shard.slots.iter().filter(|(id, _)| is_well(id));
            let after = well.filter_map(|(_, slot)| slot.departures_after()).min();
            if let Some(after) = after.filter(|_| is_due && !shard.is_looking) {
                (shard.is_looking, shard.looked_at_ms) = (true, now.monotonic_ms);
                let index = usize::try_from(*number).unwrap_or(SHARDS);
                let newest = self.newest.get(index).copied().unwrap_or(0);
                actions.push(Action::ReadDepartures(*number, shard.visit, after, newest));
            }
            for (endpoint, slot) in shard.slots.iter_mut().filter(|(id, _)| is_well(id)) {
                let id = StreamId {
                    endpoint: *endpoint,
                    shard: *number,
                    visit: slot.visit,
                };
                let chain = slot.next_chain();
                let read = chain.map(|(departure, after)| Action::ReadChain(id, departure, after));
                actions.extend(read);
            }
        }
    }

    fn depart(&mut self, number: i16, visit: u64, found: &[Departure], after: i64, read_to: i64) {
        let shard = self.shards.get_mut(&number);
        if let Some(shard) = shard.filter(|shard| shard.visit == visit) {
            shard.is_looking = false;
            for slot in shard.slots.values_mut() {
                slot.depart(found, after, read_to);
            }
        }
    }

    fn read(&mut self, endpoint: EndpointId, is_probing: bool, actions: &mut Vec<Action>) {
        for (number, shard) in &mut self.shards {
            let end = usize::try_from(*number)
                .ok()
                .and_then(|index| self.newest.get(index))
                .copied()
                .unwrap_or(0);
            if let Some(slot) = shard.slots.get_mut(&endpoint)
                && !shard.is_yielding
            {
                let id = StreamId {
                    endpoint,
                    shard: *number,
                    visit: slot.visit,
                };
                let stretches = slot.reads(end, is_probing).into_iter();
                actions.extend(stretches.map(|stretch| Action::Read(id, stretch)));
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
            if let Some(shard) = self.shards.remove(&number) {
                actions.push(Action::GiveBack(number, shard.lease));
            }
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
                let Some(slot) = shard.slots.get_mut(&id) else {
                    continue;
                };
                slot.arrange(now.wall_ms);
                if let Some(mut batch) = slot.batch(now.wall_ms) {
                    let endpoint = self.endpoints.get(&id);
                    batch.filter_number =
                        endpoint.map_or(0, |endpoint| endpoint.settings.filter_number);
                    batches.push((id, batch));
                }
            }
            if !batches.is_empty() {
                shard.ends_splits = batches.iter().any(|(_, batch)| !batch.rejoined.is_empty());
                shard.recording = Some(batches.iter().map(|(id, _)| *id).collect());
                actions.push(Action::Record(*number, shard.visit, shard.lease, batches));
            }
        }
    }
}

impl Shard {
    fn is_settled(&self) -> bool {
        self.recording.is_none() && self.slots.values().all(Slot::is_settled)
    }

    fn unrecorded(&self) -> usize {
        self.touched
            .iter()
            .filter_map(|id| self.slots.get(id))
            .map(Slot::unrecorded)
            .sum()
    }
}

/// A slot whose place is yet to be loaded, and what loads it.
fn recovering(
    endpoint: EndpointId,
    shard: i16,
    ordering: Ordering,
    visits: &mut u64,
) -> (Slot, Action) {
    *visits += 1;
    let slot = Slot::recovering(*visits, ordering);
    let id = StreamId {
        endpoint,
        shard,
        visit: *visits,
    };
    (slot, Action::Recover(id, Source::Shard))
}

fn recover_directories(
    id: StreamId,
    directories: Vec<DirectoryId>,
) -> impl Iterator<Item = Action> {
    let sources = directories.into_iter().map(Source::Directory);
    sources.map(move |source| Action::Recover(id, source))
}

/// The next event of an endpoint, its shards taking turns.
fn next_of(
    shards: &mut BTreeMap<i16, Shard>,
    id: EndpointId,
    endpoint: &mut Endpoint,
    now: Now,
) -> Option<(StreamId, Sending)> {
    let is_probe = !endpoint.standing.is_closed();
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
        if let Some(slot) = shard.slots.get_mut(&id)
            && let Some(sending) = slot.next(now.wall_ms, is_probe)
        {
            endpoint.next_shard = number + 1;
            let id = StreamId {
                endpoint: id,
                shard: number,
                visit: slot.visit,
            };
            return Some((id, sending));
        }
    }
    None
}
