//! Splitting a directory off a shard's stream, and taking it back.
//!
//! A stream that is split off begins with the shard's cursor and what the shard had read of the directory;
//! the shard's stream is offered nothing of it from then on. Its row is written with the next record,
//! which is the first that may carry a cursor past what it has unfinished. It reads as far as the shard has
//! read and no further, and rejoins when it is there and nothing of it is unfinished at or below any
//! cursor that the shard may have.

use std::collections::{BTreeMap, BTreeSet};

use super::{AHEAD_MAX, Item, Place, State, Stream};
use crate::ids::DirectoryId;
use crate::webhooks::endpoint::Ordering;

/// With more exceptions than this that are not parked a directory is split off; the logs that unit tests
/// make are short.
const EXCEPTIONS_OF_ONE_MAX: usize = if cfg!(test) { 4 } else { 256 };
/// With more unfinished events than this in a stream that has no room to read on, it is split off.
const OPEN_OF_ONE_MAX: usize = AHEAD_MAX / 8;
/// It does not rejoin with more than this.
const OPEN_TO_REJOIN: usize = AHEAD_MAX / 4;

impl Stream {
    /// Makes a stream of its own of everything about a directory.
    #[must_use]
    pub fn split_off(&mut self, directory_id: DirectoryId, now_ms: i64) -> Self {
        let place = Place {
            cursor: self.cursor,
            ..Place::default()
        };
        let mut apart = Self::new(place, self.ordering, now_ms);
        apart.needs_row = true;
        apart.scan = self.scan;
        apart.exhausted = self.exhausted;
        let positions: BTreeSet<i64> = self
            .items
            .iter()
            .filter(|(_, item)| item.offer.directory_id == directory_id)
            .map(|(position, _)| *position)
            .collect();
        for position in &positions {
            if let Some(item) = self.remove(*position) {
                apart.insert(*position, item);
            }
            if let Some(row) = self.failed_rows.remove(position) {
                apart.failed_rows.insert(*position, row);
            }
        }
        (apart.attempts, self.attempts) = std::mem::take(&mut self.attempts)
            .into_iter()
            .partition(|row| positions.contains(&row.position));
        let recording = self.recording.as_mut();
        apart.recording = recording.map(|batch| batch.split_off(&positions));
        apart
    }

    /// Takes a stream back that was split off and [is there](Self::is_back_at).
    pub fn absorb(&mut self, apart: Self) {
        self.remember(&apart);
        for (position, item) in apart.items {
            self.insert(position, item);
        }
        self.attempts.extend(apart.attempts);
        self.failed_rows.extend(apart.failed_rows);
        self.orphans.extend(apart.orphans);
    }

    /// Keeps in mind what a stream that was split off has done ahead of this one.
    pub fn remember(&mut self, apart: &Self) {
        let ahead = self.scan.saturating_add(1)..;
        self.done_ahead.extend(apart.done_ahead.range(ahead));
    }

    /// Whether a stream that was split off `shard` may rejoin it.
    ///
    /// What it has unfinished must be past every cursor that the shard's row may have: once the row of
    /// the directory is gone, nothing else says that it is unfinished.
    pub fn is_back_at(&self, shard: &Self) -> bool {
        let has_met = self.scan <= shard.scan && shard.scan <= self.scan.max(self.exhausted);
        let oldest = self.open.first().copied().unwrap_or(i64::MAX);
        let is_recorded = self.recording.is_none() && shard.recording.is_none();
        has_met
            && is_recorded
            && oldest > shard.cursor_handed_out
            && self.carried().count() <= self.exceptions_to_rejoin()
            && self.open.len() <= OPEN_TO_REJOIN
    }

    fn exceptions_to_rejoin(&self) -> usize {
        match self.ordering {
            Ordering::Causal | Ordering::None => EXCEPTIONS_OF_ONE_MAX / 2,
            Ordering::Strict => 0,
        }
    }

    /// Whether it can be forgotten and loaded again without anything being lost or done twice.
    pub fn is_at_rest(&self) -> bool {
        self.is_settled() && !self.needs_row
    }

    /// How far it has read.
    pub fn scan(&self) -> i64 {
        self.scan
    }

    /// A directory whose exceptions are so many that they would keep others from being read.
    pub fn crowding(&self) -> Option<DirectoryId> {
        if self.items.len().saturating_sub(self.open.len()) <= EXCEPTIONS_OF_ONE_MAX {
            return None;
        }
        most(self.carried(), EXCEPTIONS_OF_ONE_MAX)
    }

    /// The directory that has most of what keeps others from being read up to `newest`.
    pub fn hogging(&self, newest: i64) -> Option<DirectoryId> {
        if !self.is_behind(newest, AHEAD_MAX) {
            return None;
        }
        let open = self.open.iter();
        let unfinished = open.filter_map(|position| self.items.get(position));
        most(unfinished, OPEN_OF_ONE_MAX)
    }

    /// A directory that stops because its order is strict and an event of it fails.
    pub fn stopped(&self) -> Option<DirectoryId> {
        if self.ordering != Ordering::Strict {
            return None;
        }
        let mut due = self.due.iter();
        let stopped = |item: &&Item| !item.is_late && item.first_failed_ms.is_some();
        due.find_map(|(_, position)| self.items.get(position).filter(stopped))
            .map(|item| item.offer.directory_id)
    }

    /// The exceptions that are not parked.
    fn carried(&self) -> impl Iterator<Item = &Item> {
        let items = self.items.values();
        items.filter(|item| item.written.is_some() && !item.is_late)
    }

    /// Forgets an item, whatever it is doing.
    fn remove(&mut self, position: i64) -> Option<Item> {
        let item = self.items.remove(&position)?;
        if item.is_in_lanes {
            // What waits for it is of the same directory, and comes along.
            self.lanes
                .leave(position, &item.offer.keys_in(self.ordering));
        }
        match item.state {
            State::Retrying(at) | State::Parked(Some(at)) => {
                self.due.remove(&(at, position));
            }
            State::Ready => {
                self.turns_of(item.haste).remove(&item.offer);
            }
            State::InFlight => self.in_flight -= 1,
            State::Delivered => self.arrived = self.arrived.saturating_sub(1),
            State::Waiting | State::Parked(None) => {}
        }
        if let Some(created) = item.offer.creates() {
            self.uncreated.remove(created);
        }
        self.parked = self.parked.saturating_sub(usize::from(item.is_late));
        self.open.remove(&position);
        Some(item)
    }
}

/// The directory that has most of these items, if that is more than `max`.
fn most<'a>(items: impl Iterator<Item = &'a Item>, max: usize) -> Option<DirectoryId> {
    let mut counts: BTreeMap<DirectoryId, usize> = BTreeMap::new();
    for item in items {
        *counts.entry(item.offer.directory_id).or_default() += 1;
    }
    let (directory_id, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (count > max).then_some(directory_id)
}
