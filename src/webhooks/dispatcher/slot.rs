//! One endpoint in one shard: the shard's stream, and a stream for each directory that is split off.
//!
//! A directory is split off while its deliveries are held, while so many of its events wait or fail that
//! others could not be read for them, when its order is strict and an event of it fails, and when a gap was
//! found in it. Directories that are split off take turns by organization. One that is held and has nothing on its way *rests*: nothing is kept
//! of it but its id, and its place is loaded again when it is released.
//!
//! Invariants: an event is offered to one stream only, since the shard's is offered nothing of a directory
//! that is split off, and such a directory reads no further than the shard has; whoever holds the shard's
//! cursor in a record has the place of every directory that is split off in the same record, or written.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::messages::{Departure, Page, Source, Stretch};
use super::overtaking::Departures;
use crate::ids::{DirectoryId, OrganizationId};
use crate::webhooks::endpoint::Ordering;
use crate::webhooks::stream::{AHEAD_MAX, Attempted, Batch, Chain, Place, Sending, Stream};

/// How many directories of a slot that are split off are read at once.
const READS_MAX: usize = 4;
/// How many unfinished events those directories read ahead together, and at least each.
const AHEAD_OF_ALL: usize = 4 * AHEAD_MAX;
const AHEAD_MIN: usize = AHEAD_MAX.div_ceil(32);
/// With this many directories apart no more are split off for having much.
const APART_MAX: usize = 64;

/// One endpoint's streams in one shard, or their absence.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) visit: u64,
    ordering: Ordering,
    /// `None` until its place is loaded.
    live: Option<Live>,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) shard: Stream,
    /// The position of the shard's last row.
    pub(super) newest: i64,
    /// What the page under way leaves out, while there is one.
    reading: Option<Arc<BTreeSet<DirectoryId>>>,
    pub(super) laggards: BTreeMap<DirectoryId, Laggard>,
    pub(super) departures: Departures,
    /// Directories that are back, which is yet to be written down.
    rejoined: BTreeSet<DirectoryId>,
    /// Whether the last event sent was one of a directory that is split off.
    was_laggard: bool,
    /// The organization that sent last, and for each the directory that did.
    last_organization: Option<OrganizationId>,
    last_sent: BTreeMap<OrganizationId, DirectoryId>,
    /// The directory that was read last.
    last_read: Option<DirectoryId>,
}

/// A directory that is split off.
#[derive(Debug)]
pub(super) struct Laggard {
    pub(super) is_held: bool,
    state: LaggardState,
}

#[derive(Debug)]
enum LaggardState {
    /// Held, with nothing to do.
    Resting,
    /// Its place is being loaded.
    Recovering,
    Awake {
        stream: Box<Stream>,
        is_reading: bool,
    },
}

impl Slot {
    /// A slot whose place is yet to be loaded.
    pub(super) fn recovering(visit: u64, ordering: Ordering) -> Self {
        Self {
            visit,
            ordering,
            live: None,
        }
    }

    /// Keeps events in another order from now on.
    pub(super) fn reorder(&mut self, ordering: Ordering) {
        self.ordering = ordering;
        for stream in self.streams_mut() {
            stream.reorder(ordering);
        }
    }

    /// Takes in the place of the shard or a directory. Returns the directories whose places are to be
    /// loaded too.
    pub(super) fn recovered(
        &mut self,
        source: Source,
        place: Place,
        held: &BTreeSet<DirectoryId>,
        now_ms: i64,
    ) -> Vec<DirectoryId> {
        let ordering = self.ordering;
        match (&mut self.live, source) {
            (None, Source::Shard) => {
                let live = self.live.insert(Live::new(place, ordering, now_ms));
                live.hold(held, now_ms)
            }
            (Some(live), Source::Directory(id)) => {
                if let Some(laggard) = live.laggards.get_mut(&id)
                    && matches!(laggard.state, LaggardState::Recovering)
                {
                    live.departures.look_again_after(place.cursor);
                    laggard.state = LaggardState::awake(Stream::new(place, ordering, now_ms));
                }
                Vec::new()
            }
            (None, Source::Directory(_)) | (Some(_), Source::Shard) => Vec::new(),
        }
    }

    /// Holds the deliveries of these directories, and of no others. Returns the directories whose places
    /// are to be loaded for that.
    pub(super) fn hold(&mut self, held: &BTreeSet<DirectoryId>, now_ms: i64) -> Vec<DirectoryId> {
        let live = self.live.as_mut();
        live.map_or_else(Vec::new, |live| live.hold(held, now_ms))
    }

    /// The streams that are in memory.
    pub(super) fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.live.iter().flat_map(|live| {
            let laggards = live.laggards.values().filter_map(Laggard::stream);
            std::iter::once(&live.shard).chain(laggards)
        })
    }

    fn streams_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.live.iter_mut().flat_map(|live| {
            let laggards = live.laggards.values_mut().filter_map(Laggard::stream_mut);
            std::iter::once(&mut live.shard).chain(laggards)
        })
    }

    /// When something is due that is not held.
    pub(super) fn next_due_ms(&self) -> Option<i64> {
        let live = self.live.as_ref()?;
        let laggards = live.laggards.values().filter(|laggard| !laggard.is_held);
        std::iter::once(&live.shard)
            .chain(laggards.filter_map(Laggard::stream))
            .filter_map(Stream::next_due_ms)
            .min()
    }

    /// Whether there is something to send that is not held.
    pub(super) fn has_next(&self, now_ms: i64) -> bool {
        self.live.as_ref().is_some_and(|live| {
            let laggards = live.laggards.values().filter(|laggard| !laggard.is_held);
            std::iter::once(&live.shard)
                .chain(laggards.filter_map(Laggard::stream))
                .any(|stream| stream.has_next(now_ms))
        })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.streams().map(Stream::in_flight).sum()
    }

    pub(super) fn unrecorded(&self) -> usize {
        self.streams().map(Stream::unrecorded).sum()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.streams().all(Stream::is_settled)
    }

    /// What to send next: by turns an event of the shard and one of a directory that is split off.
    pub(super) fn next(&mut self, now_ms: i64, is_probe: bool) -> Option<Sending> {
        let live = self.live.as_mut()?;
        let sending = if live.was_laggard {
            None
        } else {
            live.next_of_laggards(now_ms, is_probe)
        };
        live.was_laggard = sending.is_some();
        if sending.is_some() {
            return sending;
        }
        let sending = live.shard.next(now_ms, is_probe);
        if sending.is_some() {
            return sending;
        }
        let sending = live.next_of_laggards(now_ms, is_probe);
        live.was_laggard = sending.is_some();
        sending
    }

    /// What to read now; the shard has rows up to `newest`.
    pub(super) fn reads(&mut self, newest: i64, is_probing: bool) -> Vec<Stretch> {
        self.live
            .as_mut()
            .map_or_else(Vec::new, |live| live.reads(newest, is_probing))
    }

    /// After which position departures are to be looked for, if any.
    pub(super) fn departures_after(&self) -> Option<i64> {
        self.live.as_ref()?.departures_after()
    }

    /// Takes in the departures after `after` and up to `read_to`.
    pub(super) fn depart(&mut self, found: &[Departure], after: i64, read_to: i64) {
        if let Some(live) = &mut self.live {
            live.depart(found, after, read_to);
        }
    }

    /// The next departure whose chain is to be read, and after which position.
    pub(super) fn next_chain(&mut self) -> Option<(Departure, i64)> {
        self.live.as_mut()?.next_chain()
    }

    /// Takes in a departure with what it depends on; `None` if that could not be read.
    pub(super) fn overtake(&mut self, chain: Option<Chain>) {
        match (&mut self.live, chain) {
            (None, _) => {}
            (Some(live), Some(chain)) => live.overtake(chain),
            (Some(live), None) => live.departures.read_failed(),
        }
    }

    /// Takes in a page that was asked for.
    pub(super) fn take(&mut self, source: Source, page: Page, now_ms: i64) {
        let Some(live) = &mut self.live else { return };
        match source {
            Source::Shard => live.take(page, now_ms),
            Source::Directory(id) => {
                if let Some(stream) = live.end_reading(id) {
                    stream.take(page.offers, page.last_row, page.read_to);
                }
            }
        }
    }

    /// A page that was asked for could not be read.
    pub(super) fn read_failed(&mut self, source: Source) {
        let Some(live) = &mut self.live else { return };
        match source {
            Source::Shard => live.reading = None,
            Source::Directory(id) => {
                live.end_reading(id);
            }
        }
    }

    /// A request has ended; tells whether it was one of this slot.
    pub(super) fn ended(
        &mut self,
        position: i64,
        attempted: Attempted,
        is_counted: bool,
        now_ms: i64,
    ) -> bool {
        let stream = self
            .streams_mut()
            .find(|stream| stream.is_in_flight(position));
        let is_ours = stream.is_some();
        if let Some(stream) = stream {
            stream.ended(position, attempted, is_counted, now_ms);
        }
        is_ours
    }

    /// The endpoint as a whole was down since then.
    pub(super) fn forgive(&mut self, since_ms: i64, now_ms: i64) {
        for stream in self.streams_mut() {
            stream.forgive(since_ms, now_ms);
        }
    }

    /// Splits off, lets rest and takes back what is to be. No record of the shard is under way.
    pub(super) fn arrange(&mut self, now_ms: i64) {
        if let Some(live) = &mut self.live {
            live.arrange(now_ms);
        }
    }

    /// What is to be written down now.
    pub(super) fn batch(&mut self, now_ms: i64) -> Option<Batch> {
        let live = self.live.as_mut()?;
        let mut batch = live.shard.batch(now_ms).unwrap_or_default();
        for (id, laggard) in &mut live.laggards {
            let stream = laggard.stream_mut();
            if let Some(part) = stream.and_then(|stream| stream.batch(now_ms)) {
                batch.join(*id, part);
            }
        }
        batch.rejoined = std::mem::take(&mut live.rejoined).into_iter().collect();
        (!batch.is_empty()).then_some(batch)
    }

    /// The record under way is durable.
    pub(super) fn recorded(&mut self, now_ms: i64) {
        for stream in self.streams_mut() {
            stream.recorded(now_ms);
        }
    }

    /// The record under way was not written; what was in it will be part of the next one.
    pub(super) fn not_recorded(&mut self) {
        for stream in self.streams_mut() {
            stream.not_recorded();
        }
    }
}

impl Live {
    fn new(mut place: Place, ordering: Ordering, now_ms: i64) -> Self {
        let resting = || Laggard {
            is_held: true,
            state: LaggardState::Resting,
        };
        let split_off = std::mem::take(&mut place.lagging).into_iter();
        Self {
            shard: Stream::new(place, ordering, now_ms),
            newest: 0,
            departures: Departures::default(),
            reading: None,
            laggards: split_off.map(|id| (id, resting())).collect(),
            rejoined: BTreeSet::new(),
            was_laggard: false,
            last_organization: None,
            last_sent: BTreeMap::new(),
            last_read: None,
        }
    }

    fn hold(&mut self, held: &BTreeSet<DirectoryId>, now_ms: i64) -> Vec<DirectoryId> {
        for id in held {
            if !self.laggards.contains_key(id) {
                self.split_off(*id, now_ms);
            }
        }
        let mut recover = Vec::new();
        for (id, laggard) in &mut self.laggards {
            laggard.is_held = held.contains(id);
            if !laggard.is_held && matches!(laggard.state, LaggardState::Resting) {
                laggard.state = LaggardState::Recovering;
                recover.push(*id);
            }
        }
        recover
    }

    fn split_off(&mut self, id: DirectoryId, now_ms: i64) {
        // If its former row is still there, it stays, and its position moves on.
        self.rejoined.remove(&id);
        let laggard = Laggard {
            is_held: false,
            state: LaggardState::awake(self.shard.split_off(id, now_ms)),
        };
        self.laggards.insert(id, laggard);
    }

    fn arrange(&mut self, now_ms: i64) {
        let hogging = self.shard.hogging(self.newest);
        let hogging = hogging.filter(|_| self.awake() < APART_MAX);
        let apart = self.shard.crowding().or_else(|| self.shard.stopped());
        if let Some(id) = apart.or(hogging) {
            self.split_off(id, now_ms);
        }
        for laggard in self.laggards.values_mut() {
            if laggard.is_held
                && laggard.is_idle()
                && let Some(stream) = laggard.stream()
                && stream.is_at_rest()
            {
                self.shard.remember(stream);
                laggard.state = LaggardState::Resting;
            }
        }
        let shard = &self.shard;
        let back = self.laggards.extract_if(.., |_, laggard| {
            let is_back = |stream: &Stream| stream.is_back_at(shard);
            !laggard.is_held && laggard.is_idle() && laggard.stream().is_some_and(is_back)
        });
        let back: Vec<(DirectoryId, Laggard)> = back.collect();
        for (id, laggard) in back {
            if let LaggardState::Awake { stream, .. } = laggard.state {
                self.shard.absorb(*stream);
                self.rejoined.insert(id);
            }
        }
    }

    fn take(&mut self, mut page: Page, now_ms: i64) {
        let Some(without) = self.reading.take() else {
            return;
        };
        // A directory that has rejoined since is missing in the page: it is to be read again.
        if without.iter().all(|id| self.laggards.contains_key(id)) {
            let laggards = &self.laggards;
            page.offers
                .retain(|offer| !laggards.contains_key(&offer.directory_id));
            self.shard.take(page.offers, page.last_row, page.read_to);
        }
        if let Some(id) = page.gap
            && !self.laggards.contains_key(&id)
        {
            self.split_off(id, now_ms);
        }
    }

    /// How many directories that are split off are neither held nor being loaded.
    fn awake(&self) -> usize {
        let awake = |laggard: &&Laggard| !laggard.is_held && laggard.stream().is_some();
        self.laggards.values().filter(awake).count()
    }

    /// How many unfinished events a directory that is split off reads ahead: the more of them there are,
    /// the fewer.
    pub(super) fn ahead(&self) -> usize {
        (AHEAD_OF_ALL / self.awake().max(1)).clamp(AHEAD_MIN, AHEAD_MAX)
    }

    fn end_reading(&mut self, id: DirectoryId) -> Option<&mut Stream> {
        match &mut self.laggards.get_mut(&id)?.state {
            LaggardState::Resting | LaggardState::Recovering => None,
            LaggardState::Awake { stream, is_reading } => {
                *is_reading = false;
                Some(stream)
            }
        }
    }

    fn next_of_laggards(&mut self, now_ms: i64, is_probe: bool) -> Option<Sending> {
        let mut organizations: BTreeMap<OrganizationId, BTreeSet<DirectoryId>> = BTreeMap::new();
        for (id, laggard) in &self.laggards {
            let stream = laggard.stream().filter(|_| !laggard.is_held);
            if let Some(organization) = stream.and_then(Stream::organization) {
                organizations.entry(organization).or_default().insert(*id);
            }
        }
        let is_there = |id: &OrganizationId, _: &mut DirectoryId| organizations.contains_key(id);
        self.last_sent.retain(is_there);
        for (organization, directories) in in_turn(&organizations, self.last_organization) {
            let last = self.last_sent.get(organization).copied();
            for id in in_turn_of(directories, last) {
                let laggard = self.laggards.get_mut(id);
                let stream = laggard.and_then(Laggard::stream_mut);
                if let Some(sending) = stream.and_then(|stream| stream.next(now_ms, is_probe)) {
                    self.last_organization = Some(*organization);
                    self.last_sent.insert(*organization, *id);
                    return Some(sending);
                }
            }
        }
        None
    }

    fn reads(&mut self, newest: i64, is_probing: bool) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        self.newest = newest;
        if self.reading.is_none()
            && let Some(after) = self.shard.wants(newest, is_probing, AHEAD_MAX)
        {
            let without = Arc::new(self.laggards.keys().copied().collect());
            self.reading = Some(Arc::clone(&without));
            stretches.push(Stretch {
                source: Source::Shard,
                after,
                up_to: newest,
                without,
                rows: AHEAD_MAX,
            });
        }
        let laggards = self.laggards.values();
        let mut reads = laggards.filter(|laggard| !laggard.is_idle()).count();
        let up_to = self.shard.scan();
        let ahead = self.ahead();
        let order: Vec<DirectoryId> = in_turn(&self.laggards, self.last_read)
            .filter(|(_, laggard)| !laggard.is_held && laggard.stream().is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in order {
            if reads >= READS_MAX {
                break;
            }
            if let Some(laggard) = self.laggards.get_mut(&id)
                && let LaggardState::Awake { stream, is_reading } = &mut laggard.state
                && !*is_reading
                && let Some(after) = stream.wants(up_to, is_probing, ahead)
            {
                *is_reading = true;
                reads += 1;
                self.last_read = Some(id);
                stretches.push(Stretch {
                    source: Source::Directory(id),
                    after,
                    up_to,
                    without: Arc::default(),
                    rows: ahead,
                });
            }
        }
        stretches
    }
}

/// All entries, the one after `last` first.
fn in_turn<K: Copy + Ord, V>(
    map: &BTreeMap<K, V>,
    last: Option<K>,
) -> impl Iterator<Item = (&K, &V)> {
    let after = last.map_or(Unbounded, Excluded);
    let first = map.range((after, Unbounded));
    let rest = last.map(|last| map.range(..=last));
    first.chain(rest.into_iter().flatten())
}

/// Those of a set, the one after `last` first.
fn in_turn_of<K: Copy + Ord>(set: &BTreeSet<K>, last: Option<K>) -> impl Iterator<Item = &K> {
    let after = last.map_or(Unbounded, Excluded);
    let rest = last.map(|last| set.range(..=last));
    set.range((after, Unbounded))
        .chain(rest.into_iter().flatten())
}

impl Laggard {
    pub(super) fn stream(&self) -> Option<&Stream> {
        match &self.state {
            LaggardState::Resting | LaggardState::Recovering => None,
            LaggardState::Awake { stream, .. } => Some(stream),
        }
    }

    pub(super) fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.state {
            LaggardState::Resting | LaggardState::Recovering => None,
            LaggardState::Awake { stream, .. } => Some(stream),
        }
    }

    /// Whether nothing is being read for it.
    fn is_idle(&self) -> bool {
        !matches!(
            self.state,
            LaggardState::Awake {
                is_reading: true,
                ..
            }
        )
    }
}

impl LaggardState {
    fn awake(stream: Stream) -> Self {
        Self::Awake {
            stream: Box::new(stream),
            is_reading: false,
        }
    }
}
