//! Whose turn it is among events that may go: organizations take turns, within them their directories, and
//! within a directory the oldest event comes first. Deficit round robin; pure.
//!
//! Who has the turn sends until its credit is used up, which is a few events, or one large one.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::Offer;
use crate::ids::{DirectoryId, OrganizationId};

/// What a turn is worth, and the most that an event costs.
const CREDIT: i64 = 16 * 1_024;
/// The least that an event costs.
const COST_MIN: i64 = 4 * 1_024;

/// Events that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Turns(Ring<OrganizationId, Ring<DirectoryId, Oldest>>);

impl Turns {
    pub(super) fn insert(&mut self, offer: &Offer) {
        let cost = i64::try_from(offer.payload.len()).unwrap_or(CREDIT);
        let organization = self.0.members.entry(offer.organization_id).or_default();
        let directories = &mut organization.queue.members;
        let directory = directories.entry(offer.directory_id).or_default();
        let oldest = &mut directory.queue.0;
        oldest.insert(offer.position, cost.clamp(COST_MIN, CREDIT));
    }

    pub(super) fn remove(&mut self, offer: &Offer) {
        let Some(organization) = self.0.members.get_mut(&offer.organization_id) else {
            return;
        };
        let directories = &mut organization.queue.members;
        if let Some(directory) = directories.get_mut(&offer.directory_id) {
            directory.queue.0.remove(&offer.position);
            if directory.queue.is_empty() {
                directories.remove(&offer.directory_id);
            }
        }
        if directories.is_empty() {
            self.0.members.remove(&offer.organization_id);
        }
    }

    /// Takes out the event whose turn it is, among those before `end`.
    pub(super) fn take(&mut self, end: i64) -> Option<i64> {
        self.0.take(end).map(|(position, _)| position)
    }

    /// Whether there is one before `end`.
    pub(super) fn has(&self, end: i64) -> bool {
        let organizations = self.0.members.values();
        let mut directories = organizations.flat_map(|member| member.queue.members.values());
        directories.any(|member| {
            let oldest = member.queue.0.first_key_value();
            oldest.is_some_and(|(position, _)| *position < end)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Something that events are taken from, with what each costs.
trait Queue: Default {
    fn take(&mut self, end: i64) -> Option<(i64, i64)>;
    fn is_empty(&self) -> bool;
}

/// The events of a directory by their positions, and what each costs.
#[derive(Debug, Default)]
struct Oldest(BTreeMap<i64, i64>);

impl Queue for Oldest {
    fn take(&mut self, end: i64) -> Option<(i64, i64)> {
        let oldest = self.0.first_entry()?;
        (*oldest.key() < end).then(|| oldest.remove_entry())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Those that take turns.
#[derive(Debug)]
struct Ring<K, Q> {
    members: BTreeMap<K, Member<Q>>,
    /// Who has the turn, or had it last.
    current: Option<K>,
}

#[derive(Debug, Default)]
struct Member<Q> {
    credit: i64,
    queue: Q,
}

impl<K, Q> Default for Ring<K, Q> {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            current: None,
        }
    }
}

impl<K: Copy + Ord, Q: Queue> Ring<K, Q> {
    /// Takes from one member, if it has credit and something before `end`.
    fn take_from(&mut self, key: K, end: i64) -> Option<(i64, i64)> {
        let member = self.members.get_mut(&key)?;
        if member.credit <= 0 {
            return None;
        }
        let (position, cost) = member.queue.take(end)?;
        member.credit -= cost;
        if member.queue.is_empty() {
            self.members.remove(&key);
        }
        self.current = Some(key);
        Some((position, cost))
    }

    /// All members, the one after the current one first.
    fn in_turn(&self) -> Vec<K> {
        let after = self.current.map_or(Unbounded, Excluded);
        let first = self.members.range((after, Unbounded));
        let rest = self.current.map(|current| self.members.range(..=current));
        let all = first.chain(rest.into_iter().flatten());
        all.map(|(key, _)| *key).collect()
    }
}

impl<K: Copy + Ord, Q: Queue> Queue for Ring<K, Q> {
    fn take(&mut self, end: i64) -> Option<(i64, i64)> {
        let current = self.current;
        let taken = current.and_then(|current| self.take_from(current, end));
        if taken.is_some() {
            return taken;
        }
        for key in self.in_turn() {
            if let Some(member) = self.members.get_mut(&key) {
                // No event costs more than a turn is worth, so that nobody is in debt after this.
                member.credit = (member.credit + CREDIT).min(CREDIT);
            }
            let taken = self.take_from(key, end);
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}
