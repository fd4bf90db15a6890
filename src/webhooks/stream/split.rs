//! Splitting a directory off a shard's stream, and taking it back.
//!
//! A stream that is split off begins with the shard's cursor and what the shard had read of the directory;
//! the shard's stream is offered nothing of it from then on. Its row is written with the next record,
//! which is the first that may carry a cursor past what it has unfinished. It reads as far as the shard has
//! read and no further, and rejoins when it is there and nothing of it is unfinished at or below any
//! cursor that the shard may have.

use std::collections::{BTreeMap, BTreeSet};

use super::{Item, Place, State, Stream};
use crate::ids::DirectoryId;

/// With more exceptions than this that are not parked a directory is split off; the logs that unit tests
/// make are short.
const EXCEPTIONS_OF_ONE_MAX: usize = if cfg!(test) { 4 } else { 256 };
/// It does not rejoin with more than this.
const EXCEPTIONS_TO_REJOIN: usize = EXCEPTIONS_OF_ONE_MAX / 2;

impl Stream {
    /// Makes a stream of its own of everything about a directory.
    #[must_use]
    pub fn split_off(&mut self, directory_id: DirectoryId, now_ms: i64) -> Self {
        let place = Place {
            cursor: self.cursor,
            ..Place::default()
        };
        let mut apart = Self::new(place, now_ms);
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
        for (position, item) in apart.items {
            self.insert(position, item);
        }
        self.attempts.extend(apart.attempts);
        self.failed_rows.extend(apart.failed_rows);
        self.orphans.extend(apart.orphans);
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
            && self.carried().count() <= EXCEPTIONS_TO_REJOIN
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
        let mut counts: BTreeMap<DirectoryId, usize> = BTreeMap::new();
        for item in self.carried() {
            *counts.entry(item.offer.directory_id).or_default() += 1;
        }
        let (directory_id, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        (count > EXCEPTIONS_OF_ONE_MAX).then_some(directory_id)
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
            self.lanes.leave(position, &item.offer.keys);
        }
        match item.state {
            State::Retrying(at) | State::Parked(Some(at)) => {
                self.due.remove(&(at, position));
            }
            State::Ready => {
                self.ready.remove(&position);
            }
            State::InFlight => self.in_flight -= 1,
            State::Delivered => self.arrived = self.arrived.saturating_sub(1),
            State::Waiting | State::Parked(None) => {}
        }
        self.parked = self.parked.saturating_sub(usize::from(item.is_late));
        self.open.remove(&position);
        Some(item)
    }
}
