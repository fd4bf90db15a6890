//! Where the pages of a list begin, so that reading one page after the other does not walk the rows of
//! all pages before it.
//!
//! An anchor is right only while nothing in the directory has changed: it holds the sequence of the
//! directory's log at which the page before was read. Anything else is found by walking. In memory, per
//! node, and bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::cursor::Fingerprint;
use super::sort::Spot;

/// How many anchors are kept; one per list that somebody is paging through is enough.
const ANCHORS_MAX: usize = 1_024;

/// The anchors of a node.
#[derive(Debug, Default)]
pub(in crate::scim) struct Anchors(Mutex<Kept>);

type Key = (Fingerprint, u64);

#[derive(Debug, Default)]
struct Kept {
    spots: HashMap<Key, (i64, Spot)>,
    /// The keys, the oldest first.
    order: VecDeque<Key>,
}

impl Anchors {
    /// The last spot before row number `start_index` of a list, if it was noted at `sequence`.
    pub(super) fn find(&self, list: Fingerprint, start_index: u64, sequence: i64) -> Option<Spot> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (noted_at, spot) = kept.spots.get(&(list, start_index))?;
        (*noted_at == sequence).then(|| spot.clone())
    }

    /// Notes the last spot before row number `start_index` of a list as it is at `sequence`.
    pub(super) fn note(&self, list: Fingerprint, start_index: u64, sequence: i64, spot: Spot) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (list, start_index);
        if kept.spots.insert(key, (sequence, spot)).is_some() {
            return;
        }
        kept.order.push_back(key);
        if kept.order.len() > ANCHORS_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.spots.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ANCHORS_MAX, Anchors};
    use crate::directories::query::ResourceKind;
    use crate::ids::ResourceId;
    use crate::scim::search::cursor::Fingerprint;
    use crate::scim::search::sort::Spot;

    fn spot() -> Spot {
        Spot {
            kind: ResourceKind::User,
            key: None,
            id: ResourceId::generate(),
        }
    }

    #[test]
    fn an_anchor_holds_until_the_directory_changes() {
        let anchors = Anchors::default();
        let list = Fingerprint::of(&["a"]);
        let spot = spot();
        anchors.note(list, 101, 7, spot.clone());
        assert_eq!(anchors.find(list, 101, 7), Some(spot));
        assert_eq!(anchors.find(list, 101, 8), None);
        assert_eq!(anchors.find(list, 201, 7), None);
        assert_eq!(anchors.find(Fingerprint::of(&["b"]), 101, 7), None);
    }

    #[test]
    fn the_oldest_anchors_make_room() {
        let anchors = Anchors::default();
        let list = Fingerprint::of(&["a"]);
        for start_index in 0..=u64::try_from(ANCHORS_MAX).unwrap() {
            anchors.note(list, start_index, 1, spot());
        }
        assert!(anchors.find(list, 0, 1).is_none());
        assert!(anchors.find(list, 1, 1).is_some());
    }
}
