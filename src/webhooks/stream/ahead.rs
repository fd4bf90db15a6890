//! Departures go before what waits: that a person was deleted or became inactive, with what that depends
//! on and about nobody else.
//!
//! What it depends on is the same person's earlier events, memberships included, that the groups of these
//! were created, and that the directory was activated. None of it waits for events about others, and what
//! waits for a retry is tried at once and parked if it fails again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Chain, Haste, Item, Offer, State, Stream};
use crate::webhooks::endpoint::Ordering;
use crate::webhooks::lanes::Key;

/// How many events that have ended ahead of the scan a stream remembers before nothing more overtakes.
const DONE_AHEAD_MAX: usize = 4_096;

impl Stream {
    /// Whether a departure at `position` is yet to be read, and may be taken before its turn.
    pub fn may_overtake(&self, position: i64) -> bool {
        self.ordering != Ordering::Strict
            && position > self.scan
            && !self.items.contains_key(&position)
            && !self.done_ahead.contains(&position)
    }

    /// Whether there is room for something that overtakes.
    pub fn has_room_ahead(&self) -> bool {
        let is_past = self.items.range(self.scan.saturating_add(1)..);
        is_past.count() < super::AHEAD_MAX && self.done_ahead.len() < DONE_AHEAD_MAX
    }

    /// Takes in a departure from beyond the scan and what it depends on. `false` if it is not known any more
    /// whether that is all.
    pub fn overtake(&mut self, chain: Chain) -> bool {
        if chain.after > self.scan {
            return false;
        }
        let is_passed = |offer: &Arc<Offer>| offer.position == chain.departure;
        if !chain.offers.last().is_some_and(is_passed) || !self.may_overtake(chain.departure) {
            return true;
        }
        for offer in chain.offers {
            let position = offer.position;
            let is_known = position <= self.scan
                || self.items.contains_key(&position)
                || self.done_ahead.contains(&position);
            if !is_known {
                self.insert(position, Item::new(offer));
            }
        }
        true
    }

    /// Lets a departure and what it depends on go first.
    pub(super) fn hurry(&mut self, position: i64) {
        let Some(item) = self.items.get(&position) else {
            return;
        };
        if self.ordering == Ordering::Strict {
            return;
        }
        let offer = Arc::clone(&item.offer);
        let mut chain = BTreeSet::new();
        let mut groups = BTreeSet::new();
        if let Some(user) = offer.user() {
            chain = self.lanes.before(position, user, true);
        }
        for taken in chain.iter().filter_map(|taken| self.items.get(taken)) {
            if let Some(group) = taken.offer.group() {
                groups.extend(self.lanes.before(position, group, false));
            }
        }
        let directory = Key::Directory(offer.directory_id);
        chain.extend(groups);
        chain.extend(self.lanes.before(position, &directory, false));
        for taken in chain {
            self.hasten(taken, Haste::TakenAlong);
        }
        let item = self.items.get(&position);
        if item.is_some_and(|item| item.haste == Haste::None) {
            self.hasten(position, Haste::Departs);
        }
    }

    /// Lets an event go before others; if it waits for a retry, now.
    pub(super) fn hasten(&mut self, position: i64, haste: Haste) {
        let Some(item) = self.items.get_mut(&position) else {
            return;
        };
        let offer = Arc::clone(&item.offer);
        let former = std::mem::replace(&mut item.haste, haste);
        match item.state {
            State::Ready => {
                self.turns_of(former).remove(&offer);
                self.turns_of(haste).insert(&offer);
            }
            State::Retrying(at) if haste == Haste::TakenAlong => {
                item.state = State::Waiting;
                self.due.remove(&(at, position));
                self.try_free(position);
            }
            State::Waiting => self.try_free(position),
            State::Retrying(_) | State::InFlight | State::Parked(_) | State::Delivered => {}
        }
    }
}
