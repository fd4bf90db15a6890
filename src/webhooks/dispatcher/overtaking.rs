//! Departures beyond what an endpoint was offered: those that are known of, and what is to be read so that
//! they can go first.
//!
//! They are looked for once for all endpoints of a shard, and what each depends on is read for each endpoint
//! that is behind. Nothing overtakes where order is strict, or in a directory whose deliveries are held.

use std::collections::BTreeMap;

use super::messages::Departure;
use super::slot::Live;
use crate::ids::DirectoryId;
use crate::webhooks::stream::{AHEAD_MAX, Chain, Stream};

/// How many departures are kept in mind.
const KNOWN_MAX: usize = 1_000;

/// The departures that a slot knows of.
#[derive(Debug, Default)]
pub(super) struct Departures {
    waiting: BTreeMap<i64, Departure>,
    /// Up to where they have been looked for.
    seen_to: i64,
    is_reading: bool,
}

impl Departures {
    /// Looks again from `position` on.
    pub(super) fn look_again_after(&mut self, position: i64) {
        self.seen_to = self.seen_to.min(position);
    }

    /// What was asked for could not be read.
    pub(super) fn read_failed(&mut self) {
        self.is_reading = false;
    }
}

impl Live {
    /// After which position departures are to be looked for, if any stream is behind.
    pub(super) fn departures_after(&self) -> Option<i64> {
        if self.departures.waiting.len() >= KNOWN_MAX {
            return None;
        }
        let ahead = self.ahead();
        let shard = Some(&self.shard).filter(|shard| shard.is_behind(self.newest, AHEAD_MAX));
        let apart = self.laggards.values().filter(|laggard| !laggard.is_held);
        let apart = apart.filter_map(|laggard| laggard.stream());
        let behind = apart.filter(|stream| stream.is_behind(self.newest, ahead));
        let scan = shard.into_iter().chain(behind).map(Stream::scan).min()?;
        let after = scan.max(self.departures.seen_to);
        (after < self.newest).then_some(after)
    }

    /// Takes in the departures after `after` and up to `read_to`.
    pub(super) fn depart(&mut self, found: &[Departure], after: i64, read_to: i64) {
        if self.departures_after().is_none_or(|from| from < after) {
            return;
        }
        for departure in found {
            if departure.position <= self.departures.seen_to {
                continue;
            }
            if self.departures.waiting.len() >= KNOWN_MAX {
                return;
            }
            self.departures.seen_to = departure.position;
            let waiting = &mut self.departures.waiting;
            waiting.insert(departure.position, departure.clone());
        }
        self.departures.seen_to = self.departures.seen_to.max(read_to);
    }

    /// The next departure whose chain is to be read, and after which position.
    pub(super) fn next_chain(&mut self) -> Option<(Departure, i64)> {
        if self.departures.is_reading {
            return None;
        }
        while let Some((position, departure)) = self.departures.waiting.pop_first() {
            let stream = self.stream_of(departure.directory_id);
            let stream = stream.filter(|stream| stream.may_overtake(position));
            let Some((scan, has_room)) =
                stream.map(|stream| (stream.scan(), stream.has_room_ahead()))
            else {
                continue;
            };
            if !has_room {
                self.departures.waiting.insert(position, departure);
                return None;
            }
            self.departures.is_reading = true;
            return Some((departure, scan));
        }
        None
    }

    /// Takes in a departure with what it depends on.
    pub(super) fn overtake(&mut self, chain: Chain) {
        self.departures.is_reading = false;
        let (departure, id) = (chain.departure, chain.directory_id);
        let stream = self.stream_of_mut(id);
        let is_done = stream.is_none_or(|stream| stream.overtake(chain));
        if !is_done {
            // The directory was loaded again meanwhile, from further back.
            self.departures
                .look_again_after(departure.saturating_sub(1));
        }
    }

    /// The stream that a directory's events go through, unless they are held or not loaded.
    fn stream_of(&self, id: DirectoryId) -> Option<&Stream> {
        match self.laggards.get(&id) {
            None => Some(&self.shard),
            Some(laggard) if laggard.is_held => None,
            Some(laggard) => laggard.stream(),
        }
    }

    fn stream_of_mut(&mut self, id: DirectoryId) -> Option<&mut Stream> {
        match self.laggards.get_mut(&id) {
            None => Some(&mut self.shard),
            Some(laggard) if laggard.is_held => None,
            Some(laggard) => laggard.stream_mut(),
        }
    }
}
