//! A seeded world for dispatchers: a database, three nodes with their keepers, receivers, and faults.
//!
//! Time is virtual and every delay drawn from one generator, so that a seed is a run. Rules are checked
//! where they could be broken: when a request leaves, when it arrives, and when a record is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::super::*;
use crate::events::Kind::{
    self, Activated, Deleted, GroupCreated, GroupDeleted, GroupUpdated, UserCreated, UserDeleted,
    UserUpdated,
};
use crate::ids::{DirectoryId, EventId, OrganizationId, ResourceId};
use crate::webhooks::endpoint::Options;
use crate::webhooks::holds::Hold;
use crate::webhooks::lanes::{Key, Mode, Subject, keys_of};
use crate::webhooks::standing::{Change, State, Written};
use crate::webhooks::stream::{AHEAD_MAX, Batch, Chain, Exception, ExceptionRow, Offer};

const NODES: usize = 3;
const SHARDS_USED: i16 = 3;
const DIRECTORIES: u64 = 4;
const PAGE_ROWS: usize = 6;
/// How many people an import brings.
const IMPORTED: u64 = 80;
/// What a stream may have unfinished at most: what is read ahead and overtakes, and a page and a chain more.
const UNFINISHED_MAX: usize = 2 * AHEAD_MAX + PAGE_ROWS + 20;
const FAULTS_UNTIL_MS: i64 = 12_000;
const DRAINED_BY_MS: i64 = 3_600_000;
const LEASE_MS: i64 = 6_000;
const LANES_ATTEMPTS: u32 = 6;
const LANES_MS: i64 = 30 * 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Faults {
    None,
    /// One event is always refused.
    Poison,
    /// Nothing fails; the deliveries of directories are held and released.
    Holds,
    /// Nothing fails; receivers are slow, and a directory imports many people.
    Import,
    /// Crashes, pauses, lost answers, late commits, refusals, outages, failing and late statements, holds.
    All,
}

/// A rule that is ignored on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Lanes,
    Horizon,
    Fence,
    /// The place of a directory that is split off is not written.
    Split,
    /// A node forgets what is held when it looks again.
    Hold,
    /// A departure overtakes without what it depends on.
    Alone,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn ms(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(to - from).unwrap())).unwrap()
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

struct Row {
    offer: Arc<Offer>,
    shard: i16,
    kind: Kind,
    user: Option<ResourceId>,
    group: Option<ResourceId>,
    drawn_ms: i64,
    visible_ms: i64,
}

#[derive(Default)]
struct Database {
    /// Epoch, token, end.
    leases: BTreeMap<i16, (i64, Uuid, i64)>,
    cursors: BTreeMap<(EndpointId, i16), i64>,
    lagging: BTreeMap<(EndpointId, DirectoryId), i64>,
    held: Held,
    states: BTreeMap<EndpointId, State>,
    deliveries: BTreeMap<(EndpointId, i64), &'static str>,
    exceptions: BTreeMap<(EndpointId, i64), ExceptionRow>,
}

#[derive(Default)]
struct Node {
    dispatcher: Dispatcher,
    /// Counts restarts.
    life: u64,
    is_down: bool,
    paused_until_ms: i64,
    held: BTreeMap<i16, (i64, Uuid)>,
    /// The directories that it knows to be held.
    holds: Held,
    given_back: BTreeMap<i16, Uuid>,
    renewed_ms: Option<i64>,
    /// When the last report so far arrives.
    reported_ms: i64,
    /// Counts aborts, by shard.
    aborts: BTreeMap<i16, u64>,
}

/// What an endpoint's receiver has seen of an event.
#[derive(Default)]
struct Seen {
    sent: u32,
    first_sent_ms: i64,
    has_arrived: bool,
    is_accepted: bool,
}

/// Something that happens at a time; the first number is the node, the second its life.
enum Happening {
    Tick(usize, u64),
    Keep(usize, u64),
    Report(usize, u64, Input),
    Load(usize, u64, u64, StreamId, Source),
    Page(usize, u64, StreamId, Stretch),
    Departures(usize, u64, i16, u64, i64, i64),
    Chain(usize, u64, StreamId, Departure, i64),
    Look(usize, u64),
    /// A directory is held, or released.
    Hold(u64, bool),
    Arrive(usize, u64, u64, StreamId, i64),
    Write(Write, Option<(usize, u64)>),
    State(usize, u64, EndpointId, Change),
    GiveBack(usize, u64, i16, Uuid),
    Start(usize),
    Endpoints(usize, u64, usize),
}

struct Write {
    shard: i16,
    visit: u64,
    lease: Lease,
    batches: Vec<(EndpointId, Batch)>,
}

pub(super) struct World {
    random: Random,
    faults: Faults,
    flaw: Option<Flaw>,
    now_ms: i64,
    agenda: BTreeMap<(i64, u64), Happening>,
    happenings: u64,
    tokens: u128,
    rows: Vec<Row>,
    /// Each departure with what it depends on, and the latter with the ends of its groups.
    chains: Vec<(i64, BTreeSet<i64>, BTreeSet<i64>)>,
    endpoints: Vec<EndpointId>,
    outages: Vec<(EndpointId, i64, i64)>,
    poison: Option<i64>,
    database: Database,
    nodes: Vec<Node>,
    seen: BTreeMap<(EndpointId, i64), Seen>,
    /// Whether a record may arrive after the one that repeats it, or after its endpoint was disabled,
    /// enabled and read again. Nothing is lost by that, but an
    /// exception that was over can be back, and its event is sent once more after a takeover.
    may_stray: bool,
    /// How many requests were about something that had arrived already.
    pub(super) repeated: usize,
    /// How often a directory's place was written as one of its own.
    pub(super) splits: usize,
}

type Checked = Result<(), String>;

/// Four endpoints: the second takes less, the third is strict, the fourth takes anything in any order.
const ORDERINGS: [Ordering; 4] = [
    Ordering::Causal,
    Ordering::Causal,
    Ordering::Strict,
    Ordering::None,
];
/// How long the receiver of the strict endpoint refuses what is poisonous.
const POISON_OF_STRICT_MS: i64 = 1_000_000;

/// A directory and its shard.
fn directory(number: u64) -> (DirectoryId, i16) {
    let id = DirectoryId::from(Uuid::from_u128(u128::from(number)));
    (id, i16::try_from(number).unwrap() % SHARDS_USED)
}

impl World {
    /// Runs a seed until everything has arrived; `Err` describes a violation.
    pub(super) fn run(seed: u64, faults: Faults, flaw: Option<Flaw>) -> Result<Self, String> {
        let mut world = Self::new(seed, faults, flaw);
        while let Some(((at_ms, _), happening)) = world.agenda.pop_first() {
            world.now_ms = at_ms;
            world.happen(happening)?;
            if at_ms > FAULTS_UNTIL_MS && world.is_drained() {
                return world.settled_well().map(|()| world);
            }
            if at_ms > DRAINED_BY_MS {
                let lagging = world.database.lagging.len();
                let missing = world.missing();
                return Err(format!("not everything arrived: {missing}; {lagging} lag"));
            }
        }
        Err("nothing happens any more".to_owned())
    }

    fn new(seed: u64, faults: Faults, flaw: Option<Flaw>) -> Self {
        let endpoint = |number: u128| EndpointId::from(Uuid::from_u128(number));
        let mut world = Self {
            random: Random(seed),
            faults,
            flaw,
            now_ms: 0,
            agenda: BTreeMap::new(),
            happenings: 0,
            tokens: 0,
            rows: Vec::new(),
            chains: Vec::new(),
            endpoints: (1..=4).map(endpoint).collect(),
            outages: Vec::new(),
            poison: None,
            database: Database::default(),
            nodes: (0..NODES).map(|_| Node::default()).collect(),
            seen: BTreeMap::new(),
            may_stray: seed.is_multiple_of(2),
            repeated: 0,
            splits: 0,
        };
        world.write_log();
        for shard in 0..SHARDS_USED {
            world.database.leases.insert(shard, (0, Uuid::nil(), 0));
            for endpoint in &world.endpoints {
                world.database.cursors.insert((*endpoint, shard), 0);
            }
        }
        if faults == Faults::Poison {
            let of_people = |row: &&Row| row.kind == UserCreated;
            world.poison = world
                .rows
                .iter()
                .find(of_people)
                .map(|row| row.offer.position);
        }
        if faults == Faults::All && world.random.one_in(3) {
            let from = world.random.ms(0, FAULTS_UNTIL_MS);
            let endpoint = world.endpoints[0];
            world.outages.push((endpoint, from, from + 8_000));
        }
        if [Faults::All, Faults::Holds].contains(&faults) {
            world.plan_holds();
        }
        for node in 0..NODES {
            world.schedule(0, Happening::Start(node));
        }
        world
    }

    /// Each directory is held and released now and then, and released in the end.
    fn plan_holds(&mut self) {
        for directory in 0..DIRECTORIES {
            let mut at_ms = self.random.ms(0, 6_000);
            let mut is_held = true;
            while at_ms < FAULTS_UNTIL_MS {
                self.schedule(at_ms, Happening::Hold(directory, is_held));
                is_held = !is_held;
                at_ms += self.random.ms(50, 5_000);
            }
            self.schedule(FAULTS_UNTIL_MS, Happening::Hold(directory, false));
        }
    }

    /// A log of four directories, whose rows become visible late and out of order. One of them may import
    /// many people.
    fn write_log(&mut self) {
        let (mut position, mut drawn_ms) = (0, 0);
        let count = self.random.ms(25, 55);
        let has_import = self.faults == Faults::Import || self.random.one_in(6);
        let import_at = has_import.then(|| self.random.ms(0, count / 2));
        for number in 0..count {
            position += self.random.ms(1, 4);
            drawn_ms += self.random.ms(0, 240);
            let directory = self.random.below(DIRECTORIES);
            let mut kind = Kind::SEQUENCED[usize::try_from(self.random.below(10)).unwrap()];
            if self.faults == Faults::Import && [Activated, Deleted, GroupDeleted].contains(&kind) {
                kind = UserDeleted;
            }
            let imported = import_at.is_some_and(|at| at < number) && self.random.one_in(2);
            let user = if imported {
                10 + self.random.below(IMPORTED)
            } else {
                self.random.below(3)
            };
            let group = self.random.below(2);
            self.append(position, drawn_ms, directory, kind, user, group);
            if import_at == Some(number) {
                for user in 10..10 + IMPORTED {
                    position += 1;
                    self.append(position, drawn_ms, 0, UserCreated, user, group);
                }
            }
        }
        self.link_departures();
    }

    fn append(
        &mut self,
        position: i64,
        drawn_ms: i64,
        number: u64,
        kind: Kind,
        user: u64,
        group: u64,
    ) {
        let resource = |tag: u64, of: u64| {
            let id = u128::from(number * 10_000 + tag * 1_000 + of);
            ResourceId::from(Uuid::from_u128(id))
        };
        let (directory_id, shard) = directory(number);
        let is_of = |kinds: &[Kind]| kinds.contains(&kind);
        let has_user = !is_of(&[Activated, Deleted, GroupCreated, GroupUpdated, GroupDeleted]);
        let has_group = !is_of(&[Activated, Deleted, UserCreated, UserUpdated, UserDeleted]);
        let user = has_user.then(|| resource(1, user));
        let group = has_group.then(|| resource(2, group));
        let keys = keys_of(&Subject {
            kind: Some(kind),
            directory_id,
            user_id: user,
            group_id: group,
            names: None,
        });
        let is_late = self.faults == Faults::All && self.random.one_in(3);
        let late_ms = if is_late { self.random.ms(1, 1_500) } else { 0 };
        let is_departure = kind == UserDeleted || kind == UserUpdated && self.random.one_in(3);
        let offer = Offer {
            position,
            event_id: EventId::from(Uuid::from_u128(u128::from(position.unsigned_abs()))),
            organization_id: OrganizationId::from(Uuid::from_u128(u128::from(number % 3))),
            directory_id,
            sequence: None,
            kind: Some(kind),
            is_departure,
            keys,
            previous: 0,
            after: String::new(),
            payload: "{}".into(),
        };
        self.rows.push(Row {
            offer: Arc::new(offer),
            shard,
            kind,
            user,
            group,
            drawn_ms,
            visible_ms: drawn_ms + late_ms,
        });
    }

    /// What each departure depends on: the person's events, the first of their groups, the activation.
    fn link_departures(&mut self) {
        for (number, departure) in self.rows.iter().enumerate() {
            if !departure.offer.is_departure {
                continue;
            }
            let of_directory = |row: &&Row| row.offer.directory_id == departure.offer.directory_id;
            let before: Vec<&Row> = self.rows[..number].iter().filter(of_directory).collect();
            let own = before.iter().filter(|row| row.user == departure.user);
            let groups: BTreeSet<ResourceId> = own.filter_map(|row| row.group).collect();
            let is_of_group = |row: &Row, kind: Kind| {
                row.kind == kind && row.group.is_some_and(|group| groups.contains(&group))
            };
            let is_linked = |row: &Row| {
                row.user == departure.user
                    || row.kind == Activated
                    || is_of_group(row, GroupCreated)
            };
            let position = |row: &&&Row| row.offer.position;
            let linked = before.iter().filter(|row| is_linked(row));
            let linked: BTreeSet<i64> = linked.map(|row| position(&row)).collect();
            let ends = before
                .iter()
                .filter(|row| is_of_group(row, GroupDeleted) || row.kind == Deleted);
            let mut tried = linked.clone();
            tried.extend(ends.map(|row| position(&row)));
            self.chains.push((departure.offer.position, linked, tried));
        }
    }

    fn has_faults(&self) -> bool {
        self.faults == Faults::All && self.now_ms < FAULTS_UNTIL_MS
    }

    /// Whether a fault that happens once in `count` times happens now.
    fn fault(&mut self, count: u64) -> bool {
        self.has_faults() && self.random.one_in(count)
    }

    fn schedule(&mut self, in_ms: i64, happening: Happening) {
        self.happenings += 1;
        let key = (self.now_ms + in_ms, self.happenings);
        self.agenda.insert(key, happening);
    }

    fn passes(&self, endpoint: EndpointId, row: &Row) -> bool {
        endpoint != self.endpoints[1] || row.kind != UserUpdated
    }

    fn ordering(&self, endpoint: EndpointId) -> Ordering {
        let index = self.endpoints.iter().position(|id| *id == endpoint);
        ORDERINGS[index.unwrap()]
    }

    fn row(&self, position: i64) -> &Row {
        let found = self
            .rows
            .binary_search_by_key(&position, |row| row.offer.position);
        &self.rows[found.unwrap()]
    }

    fn newest(&self) -> [i64; SHARDS] {
        let mut newest = [0; SHARDS];
        let mut hidden = BTreeSet::new();
        for row in self.rows.iter().filter(|row| row.drawn_ms <= self.now_ms) {
            if row.visible_ms > self.now_ms {
                hidden.insert(row.shard);
            } else if !hidden.contains(&row.shard) || self.flaw == Some(Flaw::Horizon) {
                newest[usize::try_from(row.shard).unwrap()] = row.offer.position;
            }
        }
        newest
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each thing that happens")]
    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Start(node) => {
                self.start(node);
                Ok(())
            }
            Happening::Tick(node, life) if self.is_alive(node, life) => self.tick(node, life),
            Happening::Keep(node, life) if self.is_alive(node, life) => {
                self.keep(node);
                let pause_ms = if self.now_ms < FAULTS_UNTIL_MS {
                    500
                } else {
                    1_500
                };
                self.schedule(pause_ms, Happening::Keep(node, life));
                Ok(())
            }
            Happening::Endpoints(node, life, count) if self.is_alive(node, life) => {
                let settings = |ordering: Ordering| Settings {
                    options: Options {
                        ordering,
                        max_in_flight: 4 * NODES,
                        rate_per_second: None,
                        timeout: Duration::from_secs(20),
                    },
                    filter_number: 1,
                };
                let chosen = self.endpoints.iter().zip(ORDERINGS).take(count);
                let endpoints = chosen.map(|(id, ordering)| (*id, settings(ordering)));
                let endpoints = endpoints.collect();
                self.step(node, Input::Endpoints(endpoints, NODES))
            }
            Happening::Report(node, life, input) if self.is_alive(node, life) => {
                let paused_ms = self.nodes[node].paused_until_ms - self.now_ms;
                if paused_ms > 0 {
                    self.schedule(paused_ms, Happening::Report(node, life, input));
                    return Ok(());
                }
                if let Input::Leased(shard, lease) = &input
                    && self.nodes[node].given_back.get(shard) == Some(&lease.token)
                {
                    return Ok(());
                }
                self.step(node, input)
            }
            Happening::Load(node, life, abort, id, source) if self.is_alive(node, life) => {
                if self.aborts(node, id.shard) == abort
                    && let Some(place) = self.load(id, source)
                {
                    self.report(node, life, Input::Recovered(id, source, place));
                }
                Ok(())
            }
            Happening::Page(node, life, id, stretch) if self.is_alive(node, life) => {
                let input = if self.fault(20) {
                    Input::ReadFailed(id, stretch.source)
                } else {
                    Input::Page(id, stretch.source, self.page(id, &stretch))
                };
                self.report(node, life, input);
                Ok(())
            }
            Happening::Departures(node, life, shard, visit, after, up_to)
                if self.is_alive(node, life) =>
            {
                let input = self.departures(shard, visit, after, up_to);
                self.report(node, life, input);
                Ok(())
            }
            Happening::Chain(node, life, id, departure, after) if self.is_alive(node, life) => {
                let chain = (!self.fault(20)).then(|| self.chain(id, &departure, after));
                self.report(node, life, Input::Chain(id, chain));
                Ok(())
            }
            Happening::Look(node, life) if self.is_alive(node, life) => self.look(node, life),
            Happening::Hold(number, is_held) => {
                let (directory_id, shard) = directory(number);
                let held = self.database.held.entry(shard).or_default();
                // Every other directory is held for one endpoint alone, as while it gets a snapshot.
                let endpoint_id = number.is_multiple_of(2).then(|| self.endpoints[0]);
                let hold = Hold {
                    directory_id,
                    endpoint_id,
                };
                if is_held {
                    held.insert(hold);
                } else {
                    held.remove(&hold);
                }
                Ok(())
            }
            Happening::Arrive(node, life, abort, id, position) => {
                self.arrive(node, life, abort, id, position)
            }
            Happening::Write(write, reporter) => self.write(&write, reporter),
            Happening::State(node, life, id, change) => {
                let written = self.change_state(id, change);
                self.report(node, life, Input::Stated(id, written));
                Ok(())
            }
            Happening::GiveBack(node, life, shard, token) if self.is_alive(node, life) => {
                if self.nodes[node]
                    .held
                    .get(&shard)
                    .is_some_and(|held| held.1 == token)
                {
                    self.nodes[node].held.remove(&shard);
                    let lease = self.database.leases.get_mut(&shard).unwrap();
                    if lease.1 == token {
                        lease.2 = 0;
                    }
                }
                Ok(())
            }
            Happening::Tick(..)
            | Happening::Keep(..)
            | Happening::Report(..)
            | Happening::Load(..)
            | Happening::Page(..)
            | Happening::Departures(..)
            | Happening::Chain(..)
            | Happening::Look(..)
            | Happening::GiveBack(..)
            | Happening::Endpoints(..) => Ok(()),
        }
    }

    fn is_alive(&self, node: usize, life: u64) -> bool {
        !self.nodes[node].is_down && self.nodes[node].life == life
    }

    fn aborts(&self, node: usize, shard: i16) -> u64 {
        self.nodes[node].aborts.get(&shard).copied().unwrap_or(0)
    }

    fn start(&mut self, node: usize) {
        let life = self.nodes[node].life + 1;
        self.nodes[node] = Node {
            life,
            ..Node::default()
        };
        let all = self.endpoints.len();
        self.schedule(0, Happening::Look(node, life));
        self.schedule(0, Happening::Endpoints(node, life, all));
        self.schedule(1, Happening::Keep(node, life));
        self.schedule(2, Happening::Tick(node, life));
    }

    /// A node looks what is held.
    fn look(&mut self, node: usize, life: u64) -> Checked {
        let paused_ms = self.nodes[node].paused_until_ms - self.now_ms;
        let again_ms = self.random.ms(100, 1_500);
        self.schedule(again_ms.max(paused_ms), Happening::Look(node, life));
        if paused_ms > 0 {
            return Ok(());
        }
        let held = self.database.held.clone();
        let told = if self.flaw == Some(Flaw::Hold) {
            Held::new()
        } else {
            held.clone()
        };
        self.nodes[node].holds = held;
        let states = self.database.states.clone();
        self.step(node, Input::States(states))?;
        self.step(node, Input::Held(told))
    }

    /// What a node has found out about an endpoint is written down, unless another was first; now and then
    /// nobody learns of it.
    fn change_state(&mut self, id: EndpointId, change: Change) -> Option<Written> {
        let known = self.database.states.get(&id).map(|state| state.version);
        let is_ours = known == change.after;
        if is_ours {
            self.database.states.insert(id, change.state);
        }
        let state = self.database.states.get(&id).cloned().unwrap_or_default();
        let written = Written { state, is_ours };
        (!self.fault(10)).then_some(written)
    }

    fn tick(&mut self, node: usize, life: u64) -> Checked {
        if self.fault(60) {
            self.nodes[node].is_down = true;
            let down_ms = self.random.ms(1, 9_000);
            self.schedule(down_ms, Happening::Start(node));
            return Ok(());
        }
        if self.fault(60) {
            self.nodes[node].paused_until_ms = self.now_ms + self.random.ms(100, 9_000);
        }
        if self.may_stray && self.fault(80) {
            let again_ms = self.random.ms(1, 900);
            let all = self.endpoints.len();
            self.schedule(0, Happening::Endpoints(node, life, all - 1));
            self.schedule(again_ms, Happening::Endpoints(node, life, all));
        }
        let pause_ms = if self.now_ms < FAULTS_UNTIL_MS {
            150
        } else {
            700
        };
        let paused_ms = self.nodes[node].paused_until_ms - self.now_ms;
        self.schedule(pause_ms.max(paused_ms), Happening::Tick(node, life));
        if paused_ms > 0 {
            return Ok(());
        }
        let newest = self.newest();
        self.step(node, Input::Tail(newest))?;
        self.step(node, Input::Tick)
    }

    /// What a keeper does in one turn.
    fn keep(&mut self, node: usize) {
        if self.nodes[node].paused_until_ms > self.now_ms || self.fault(4) {
            return;
        }
        let (now_ms, life) = (self.now_ms, self.nodes[node].life);
        let mut leased = Vec::new();
        if self.nodes[node]
            .renewed_ms
            .is_none_or(|at| now_ms - at >= 2_000)
        {
            for (shard, (epoch, token)) in self.nodes[node].held.clone() {
                let row = self.database.leases.get_mut(&shard).unwrap();
                if (row.0, row.1) == (epoch, token) {
                    row.2 = now_ms + LEASE_MS;
                    leased.push((shard, epoch, token));
                } else {
                    self.nodes[node].held.remove(&shard);
                    self.report(node, life, Input::Lost(shard));
                }
            }
            self.nodes[node].renewed_ms = Some(now_ms);
        }
        for shard in 0..SHARDS_USED {
            let wants_more = self.nodes[node].held.len() < 2 || !self.random.one_in(4);
            let row = self.database.leases.get_mut(&shard).unwrap();
            if row.2 <= now_ms && wants_more && !self.nodes[node].held.contains_key(&shard) {
                self.tokens += 1;
                *row = (row.0 + 1, Uuid::from_u128(self.tokens), now_ms + LEASE_MS);
                self.nodes[node].held.insert(shard, (row.0, row.1));
                leased.push((shard, row.0, row.1));
            }
        }
        for (shard, epoch, token) in leased {
            let until_ms = now_ms + LEASE_MS;
            let lease = Lease {
                epoch,
                token,
                until_ms,
            };
            self.report(node, life, Input::Leased(shard, lease));
        }
        if self.fault(15)
            && let Some(shard) = self.nodes[node].held.keys().next().copied()
        {
            self.report(node, life, Input::Yield(shard));
        }
    }

    /// A node's reports come through one channel, in the order in which they were made.
    fn report(&mut self, node: usize, life: u64, input: Input) {
        let delay_ms = if self.fault(10) {
            self.random.ms(1, 4_000)
        } else {
            1
        };
        let at_ms = (self.now_ms + delay_ms).max(self.nodes[node].reported_ms);
        self.nodes[node].reported_ms = at_ms;
        self.schedule(at_ms - self.now_ms, Happening::Report(node, life, input));
    }

    /// The directories of a shard that are split off for an endpoint.
    fn lagging(&self, id: StreamId) -> Vec<DirectoryId> {
        let lagging = self.database.lagging.keys();
        lagging
            .filter(|(endpoint, _)| *endpoint == id.endpoint)
            .map(|(_, directory_id)| *directory_id)
            .filter(|directory_id| {
                (0..DIRECTORIES).any(|number| directory(number) == (*directory_id, id.shard))
            })
            .collect()
    }

    fn load(&self, id: StreamId, source: Source) -> Option<Place> {
        let lagging = self.lagging(id);
        let cursor = match source {
            Source::Shard => self.database.cursors[&(id.endpoint, id.shard)],
            Source::Directory(of) => *self.database.lagging.get(&(id.endpoint, of))?,
        };
        let of_stream = |(endpoint, position): &(EndpointId, i64)| {
            let row = self.row(*position);
            let is_of_source = match source {
                Source::Shard => !lagging.contains(&row.offer.directory_id),
                Source::Directory(of) => row.offer.directory_id == of,
            };
            *endpoint == id.endpoint && row.shard == id.shard && is_of_source
        };
        let exceptions: Vec<_> = self
            .database
            .exceptions
            .iter()
            .filter(|(key, row)| {
                of_stream(key) && (row.state != Exception::Parked || row.next_at_ms.is_some())
            })
            .map(|((_, position), row)| (row.clone(), self.offer(*position)))
            .collect();
        let of_shard = |(endpoint, position): &(EndpointId, i64)| {
            *endpoint == id.endpoint && self.row(*position).shard == id.shard
        };
        let done_ahead = self
            .database
            .deliveries
            .iter()
            .filter(|(key, state)| of_shard(key) && key.1 > cursor && **state != "retrying")
            .map(|((_, position), _)| *position)
            .filter(|position| exceptions.iter().all(|(row, _)| row.position != *position));
        let is_shard = source == Source::Shard;
        Some(Place {
            cursor,
            orphans: Vec::new(),
            done_ahead: done_ahead.filter(|_| is_shard).collect(),
            exceptions,
            lagging: if is_shard { lagging } else { Vec::new() },
        })
    }

    fn offer(&self, position: i64) -> Arc<Offer> {
        let offer = &self.row(position).offer;
        if self.flaw != Some(Flaw::Lanes) {
            return Arc::clone(offer);
        }
        Arc::new(Offer {
            position,
            event_id: offer.event_id,
            organization_id: offer.organization_id,
            directory_id: offer.directory_id,
            sequence: None,
            kind: offer.kind,
            is_departure: offer.is_departure,
            keys: Vec::new(),
            previous: 0,
            after: String::new(),
            payload: Arc::clone(&offer.payload),
        })
    }

    fn departures(&self, shard: i16, visit: u64, after: i64, up_to: i64) -> Input {
        let is_meant = |row: &&Row| {
            let position = row.offer.position;
            row.shard == shard && row.offer.is_departure && after < position && position <= up_to
        };
        let found = self.rows.iter().filter(is_meant).map(|row| Departure {
            position: row.offer.position,
            directory_id: row.offer.directory_id,
            user_id: row.user,
        });
        Input::Departures(shard, visit, found.collect(), after, up_to)
    }

    /// What a departure depends on, as it is read for an endpoint.
    fn chain(&self, id: StreamId, departure: &Departure, after: i64) -> Chain {
        let chain = self
            .chains
            .iter()
            .find(|chain| chain.0 == departure.position);
        let mut positions = chain.unwrap().1.clone();
        if self.flaw == Some(Flaw::Alone) {
            positions.clear();
        }
        positions.insert(departure.position);
        let left = positions.into_iter().filter(|position| {
            let state = self.database.deliveries.get(&(id.endpoint, *position));
            *position > after
                && self.passes(id.endpoint, self.row(*position))
                && state.is_none_or(|state| *state == "retrying")
        });
        Chain {
            departure: departure.position,
            directory_id: departure.directory_id,
            after,
            offers: left.map(|position| self.offer(position)).collect(),
        }
    }

    fn page(&mut self, id: StreamId, stretch: &Stretch) -> Page {
        let may_gap = stretch.source == Source::Shard && self.fault(30);
        let is_of_source = |row: &&Row| match stretch.source {
            Source::Shard => row.shard == id.shard,
            Source::Directory(of) => row.offer.directory_id == of,
        };
        let is_offered = |row: &&Row| {
            let key = (id.endpoint, row.offer.position);
            let has_ended = self.database.deliveries.get(&key);
            let has_ended = has_ended.is_some_and(|state| *state != "retrying");
            match stretch.source {
                Source::Shard => !stretch.without.contains(&row.offer.directory_id),
                Source::Directory(_) => !has_ended,
            }
        };
        let mut rows: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| is_of_source(row) && row.visible_ms <= self.now_ms)
            .filter(|row| row.offer.position > stretch.after && row.offer.position <= stretch.up_to)
            .take(PAGE_ROWS.min(stretch.rows))
            .collect();
        let is_last = rows.len() < PAGE_ROWS.min(stretch.rows);
        let is_wanted = |row: &&&Row| !stretch.without.contains(&row.offer.directory_id);
        let gap = rows.iter().filter(|_| may_gap).find(is_wanted);
        let gap = gap.map(|row| (row.offer.position, row.offer.directory_id));
        if let Some((position, _)) = gap {
            rows.retain(|row| row.offer.position < position);
        }
        Page {
            last_row: rows.last().map(|row| row.offer.position),
            read_to: (is_last && gap.is_none()).then_some(stretch.up_to),
            gap: gap.map(|(_, id)| id),
            offers: rows
                .into_iter()
                .filter(|row| self.passes(id.endpoint, row))
                .filter(is_offered)
                .map(|row| self.offer(row.offer.position))
                .collect(),
        }
    }

    fn step(&mut self, node: usize, input: Input) -> Checked {
        // Nodes disagree about the time of day.
        let now = Now {
            wall_ms: self.now_ms + 700 * i64::try_from(node).unwrap(),
            monotonic_ms: self.now_ms,
        };
        for action in self.nodes[node].dispatcher.step(now, input) {
            self.act(node, action)?;
        }
        let (unfinished, streams) = self.nodes[node].dispatcher.unfinished();
        let directories = usize::try_from(DIRECTORIES).unwrap();
        let shards = usize::try_from(SHARDS_USED).unwrap();
        let streams_max = self.endpoints.len() * (shards + directories);
        if unfinished > UNFINISHED_MAX || streams > streams_max {
            return Err(format!(
                "{unfinished} events kept of a stream, {streams} streams"
            ));
        }
        Ok(())
    }

    fn act(&mut self, node: usize, action: Action) -> Checked {
        let life = self.nodes[node].life;
        let mut delay_ms = self.random.ms(1, 30);
        if self.fault(10) {
            delay_ms += self.random.ms(1, 3_000);
        }
        match action {
            Action::Recover(id, source) => {
                let abort = self.aborts(node, id.shard);
                self.schedule(delay_ms, Happening::Load(node, life, abort, id, source));
            }
            Action::Read(id, stretch) => {
                self.schedule(delay_ms, Happening::Page(node, life, id, stretch));
            }
            Action::ReadDepartures(shard, visit, after, up_to) => {
                let read = Happening::Departures(node, life, shard, visit, after, up_to);
                self.schedule(delay_ms, read);
            }
            Action::ReadChain(id, departure, after) => {
                let read = Happening::Chain(node, life, id, departure, after);
                self.schedule(delay_ms, read);
            }
            Action::Send(id, sending) => {
                if self.faults == Faults::Import {
                    delay_ms += 200;
                }
                let (position, now_ms) = (sending.offer.position, self.now_ms);
                let held = self.nodes[node].held.get(&id.shard);
                let lease = self.database.leases[&id.shard];
                let is_ours = held.is_some_and(|held| held.1 == lease.1);
                if !is_ours || lease.2 - now_ms < SEND_MARGIN_MS {
                    return Err(format!("{position} was sent without a lease"));
                }
                let held = holds::of(&self.nodes[node].holds, id.shard, id.endpoint);
                if held.contains(&sending.offer.directory_id) {
                    return Err(format!("{position} was sent while it was held"));
                }
                let seen = self.seen.entry((id.endpoint, position)).or_default();
                if seen.sent == 0 {
                    seen.first_sent_ms = now_ms;
                }
                seen.sent += 1;
                self.repeated += usize::from(seen.is_accepted);
                let abort = self.aborts(node, id.shard);
                let arrive = Happening::Arrive(node, life, abort, id, position);
                self.schedule(delay_ms, arrive);
            }
            Action::Record(shard, visit, lease, batches) => {
                if self.fault(6) {
                    delay_ms += self.random.ms(0, 8_000);
                }
                let write = Write {
                    shard,
                    visit,
                    lease,
                    batches,
                };
                if self.fault(8) {
                    // Reported as failed; it is carried out nevertheless, perhaps later than the next.
                    let failed = Input::Recorded(shard, visit, Recorded::Failed);
                    self.schedule(delay_ms, Happening::Report(node, life, failed));
                    if self.random.one_in(2) {
                        let until_ms = if self.may_stray {
                            2 * delay_ms + 600
                        } else {
                            delay_ms
                        };
                        let late_ms = self.random.ms(0, until_ms);
                        self.schedule(late_ms, Happening::Write(write, None));
                    }
                } else {
                    self.schedule(delay_ms, Happening::Write(write, Some((node, life))));
                }
            }
            Action::State(id, change) => {
                self.schedule(delay_ms, Happening::State(node, life, id, change));
            }
            Action::Disable(id) => return Err(format!("{id} never said that it is gone")),
            Action::Abort(shard, lease) | Action::GiveBack(shard, lease) => {
                *self.nodes[node].aborts.entry(shard).or_default() += 1;
                self.nodes[node].given_back.insert(shard, lease.token);
                let give_back = Happening::GiveBack(node, life, shard, lease.token);
                self.schedule(delay_ms, give_back);
            }
        }
        Ok(())
    }

    /// A request reaches the receiver, or fails on the way.
    fn arrive(&mut self, node: usize, life: u64, abort: u64, id: StreamId, at: i64) -> Checked {
        let is_aborted = !self.is_alive(node, life) || self.aborts(node, id.shard) != abort;
        if is_aborted && self.random.one_in(2) {
            return Ok(());
        }
        let now_ms = self.now_ms;
        let is_out = self.outages.iter().any(|(endpoint, from, until)| {
            *endpoint == id.endpoint && (*from..*until).contains(&now_ms)
        });
        let is_cured =
            self.ordering(id.endpoint) == Ordering::Strict && now_ms > POISON_OF_STRICT_MS;
        let is_poison = self.poison == Some(at) && !is_cured;
        let is_accepted = !is_out && !is_poison && !self.fault(6);
        if !self.seen[&(id.endpoint, at)].has_arrived {
            self.check_order(id.endpoint, at)?;
        }
        let seen = self.seen.get_mut(&(id.endpoint, at)).unwrap();
        seen.has_arrived = true;
        seen.is_accepted |= is_accepted;
        if is_aborted {
            return Ok(());
        }
        let is_success = is_accepted && !self.fault(12);
        let attempted = Attempted {
            is_success,
            status_code: None,
            failure: None,
            excerpt: None,
            retry_after: None,
            duration_ms: 0,
        };
        self.report(node, life, Input::Ended(id, at, attempted));
        Ok(())
    }

    /// Everything earlier that the event at `position` depends on has arrived or may have been parked, unless
    /// it may overtake it.
    fn check_order(&self, endpoint: EndpointId, position: i64) -> Checked {
        let ordering = self.ordering(endpoint);
        let offer = &self.row(position).offer;
        let before = self.rows.iter().filter(|row| {
            row.offer.directory_id == offer.directory_id && row.offer.position < position
        });
        for earlier in before.filter(|row| self.passes(endpoint, row)) {
            let depends = match ordering {
                Ordering::Causal => {
                    is_in_conflict(&earlier.offer.keys, &offer.keys)
                        && !self.may_overtake(position, earlier.offer.position)
                }
                Ordering::Strict => true,
                Ordering::None => false,
            };
            if depends && !self.has_ended(endpoint, ordering, earlier) {
                return Err(format!("{position} overtook {}", earlier.offer.position));
            }
        }
        Ok(())
    }

    /// Whether an event is a departure, or taken along by one, that does not depend on an earlier event.
    fn may_overtake(&self, position: i64, earlier: i64) -> bool {
        self.chains.iter().any(|(departure, linked, _)| {
            let is_taken = *departure == position || linked.contains(&position);
            is_taken && !linked.contains(&earlier)
        })
    }

    fn has_ended(&self, endpoint: EndpointId, ordering: Ordering, row: &Row) -> bool {
        let position = row.offer.position;
        let Some(seen) = self.seen.get(&(endpoint, position)) else {
            return false;
        };
        let is_uncreated = || {
            let before = self
                .rows
                .iter()
                .take_while(|one| one.offer.position < position);
            let mut created = before.filter(|one| {
                one.kind == UserCreated && one.user == row.user
                    || one.kind == GroupCreated && one.group == row.group
            });
            created.any(|one| self.may_be_parked(endpoint, one.offer.position))
        };
        seen.is_accepted
            || ordering != Ordering::Strict
                && (self.may_be_parked(endpoint, position) || seen.sent > 0 && is_uncreated())
    }

    /// Whether an event has failed so often that it may be parked.
    fn may_be_parked(&self, endpoint: EndpointId, position: i64) -> bool {
        let Some(seen) = self.seen.get(&(endpoint, position)) else {
            return false;
        };
        let is_taken_along = || {
            self.chains
                .iter()
                .any(|(_, _, tried)| tried.contains(&position))
        };
        seen.sent >= LANES_ATTEMPTS
            || seen.sent > 0 && self.now_ms - seen.first_sent_ms >= LANES_MS
            || seen.sent > 1 && is_taken_along()
    }

    /// What one fenced statement does.
    fn write(&mut self, write: &Write, reporter: Option<(usize, u64)>) -> Checked {
        let lease = self.database.leases[&write.shard];
        let is_ours = (lease.0, lease.1) == (write.lease.epoch, write.lease.token);
        let is_written = is_ours || self.flaw == Some(Flaw::Fence);
        if is_written {
            for (endpoint, batch) in &write.batches {
                self.apply(*endpoint, write.shard, batch)?;
            }
        }
        if let Some((node, life)) = reporter {
            let outcome = if is_written {
                Recorded::Written
            } else {
                Recorded::Fenced
            };
            self.report(
                node,
                life,
                Input::Recorded(write.shard, write.visit, outcome),
            );
        }
        Ok(())
    }

    fn apply(&mut self, endpoint: EndpointId, shard: i16, batch: &Batch) -> Checked {
        for row in &batch.deliveries {
            if row.state == "parked" && self.ordering(endpoint) == Ordering::Strict {
                return Err(format!("{} is parked in a strict order", row.position));
            }
            let seen = self.seen.get(&(endpoint, row.position));
            if row.state == "delivered" && !seen.is_some_and(|seen| seen.is_accepted) {
                return Err(format!(
                    "{} is said to have arrived and did not",
                    row.position
                ));
            }
            let deliveries = &mut self.database.deliveries;
            let state = deliveries
                .entry((endpoint, row.position))
                .or_insert(row.state);
            if row.state != "retrying" {
                *state = row.state;
            }
        }
        for row in &batch.exceptions {
            self.database
                .exceptions
                .insert((endpoint, row.position), row.clone());
        }
        for position in &batch.settled {
            self.database.exceptions.remove(&(endpoint, *position));
        }
        let cursor = self.database.cursors.get_mut(&(endpoint, shard)).unwrap();
        *cursor = batch
            .cursor
            .map_or(*cursor, |position| position.max(*cursor));
        let cursor = *cursor;
        self.splits += batch.lagging.len();
        for (directory_id, position) in &batch.lagging {
            if self.flaw != Some(Flaw::Split) {
                let places = &mut self.database.lagging;
                let place = places.entry((endpoint, *directory_id)).or_default();
                *place = (*place).max(*position);
            }
        }
        for directory_id in &batch.rejoined {
            self.database.lagging.remove(&(endpoint, *directory_id));
        }
        let unfinished = self.rows.iter().find(|row| {
            let key = (endpoint, row.offer.position);
            let place = (endpoint, row.offer.directory_id);
            row.shard == shard
                && row.offer.position <= *self.database.lagging.get(&place).unwrap_or(&cursor)
                && row.drawn_ms <= self.now_ms
                && self.passes(endpoint, row)
                && !matches!(
                    self.database.deliveries.get(&key),
                    Some(&("delivered" | "parked"))
                )
                && !self.database.exceptions.contains_key(&key)
        });
        unfinished.map_or(Ok(()), |row| {
            Err(format!("the cursor {cursor} passed {}", row.offer.position))
        })
    }

    fn unfinished(&self) -> impl Iterator<Item = (EndpointId, i64)> {
        self.endpoints.iter().flat_map(move |endpoint| {
            let rows = self.rows.iter().filter(move |row| {
                let state = self
                    .database
                    .deliveries
                    .get(&(*endpoint, row.offer.position));
                self.passes(*endpoint, row) && !matches!(state, Some(&("delivered" | "parked")))
            });
            rows.map(move |row| (*endpoint, row.offer.position))
        })
    }

    fn is_drained(&self) -> bool {
        let is_quiet = |node: &Node| !node.is_down && node.dispatcher.is_settled();
        self.nodes.iter().all(is_quiet)
            && self.unfinished().next().is_none()
            && (self.may_stray || self.database.lagging.is_empty())
    }

    fn missing(&self) -> String {
        let missing: Vec<_> = self
            .unfinished()
            .map(|key| {
                (
                    key.0.uuid().as_u128(),
                    self.database.exceptions.get(&key),
                    key.1,
                )
            })
            .collect();
        format!("{missing:?}")
    }

    /// Nothing that has arrived is left to be sent again by the next owner, and no counter leaks.
    fn settled_well(&self) -> Checked {
        for ((_, position), row) in &self.database.exceptions {
            if row.state != Exception::Parked && !self.may_stray {
                return Err(format!(
                    "{position} is still {:?} though it has ended",
                    row.state
                ));
            }
        }
        let in_flight: usize = self
            .nodes
            .iter()
            .map(|node| node.dispatcher.in_flight())
            .sum();
        if in_flight > 0 {
            return Err(format!("{in_flight} requests are said to be on their way"));
        }
        Ok(())
    }

    /// How long an event of some kind waited at most until it was sent to the first endpoint.
    pub(super) fn longest_ms(&self, is_meant: impl Fn(&Offer) -> bool) -> i64 {
        let rows = self.rows.iter().filter(|row| is_meant(&row.offer));
        let waited = rows.map(|row| {
            let seen = &self.seen[&(self.endpoints[0], row.offer.position)];
            seen.first_sent_ms - row.visible_ms
        });
        waited.max().unwrap_or(0)
    }

    /// The directory that imports.
    pub(super) fn importing() -> DirectoryId {
        directory(0).0
    }

    /// How many deliveries are parked.
    pub(super) fn parked(&self) -> usize {
        let states = self.database.deliveries.values();
        states.filter(|state| **state == "parked").count()
    }
}

fn is_in_conflict(one: &[(Key, Mode)], other: &[(Key, Mode)]) -> bool {
    one.iter().any(|(key, mode)| {
        let mut same = other.iter().filter(|(held, _)| held == key);
        same.any(|(_, held)| [*mode, *held] != [Mode::Shared; 2])
    })
}
