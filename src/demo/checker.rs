//! What a careful receiver can find out about its webhooks, without asking the sender. Pure.
//!
//! Two sources are held against each other. The headers say which sequence an event has, which
//! one came before it and on which ones it depends. The bodies, applied to a copy of the directory
//! as they arrive, say the same in another way: nobody may join a group before both exist. What
//! does not fit is written down as a *violation*, in words.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Instant,
};

use serde_json::Value;

use super::replica::Replica;
use crate::simulate::{Roster, Subject};

/// How many violations are kept in words; all are counted.
const VIOLATIONS_KEPT: usize = 50;

/// One webhook request, signatures verified or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery<'a> {
    /// The `webhook-id` header.
    pub(super) id: &'a str,
    /// The `Rollcall-Directory` header.
    pub(super) directory: &'a str,
    /// The `Rollcall-Sequence` header.
    pub(super) sequence: &'a str,
    /// The `Rollcall-Previous` header.
    pub(super) previous: &'a str,
    /// The `Rollcall-After` header.
    pub(super) after: &'a str,
    /// The body as it came.
    pub(super) body: &'a str,
    /// When it had come.
    pub(super) at: Instant,
}

/// An event that arrived for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    /// The directory's id.
    pub(super) directory: String,
    /// The event's place in its directory.
    pub(super) sequence: u64,
    /// The event type, such as `dsync.user.created`.
    pub(super) event: String,
    /// Whom it is about, in the provider's words.
    pub(super) subject: Subject,
    /// For people to read: a name, or a name and a group.
    pub(super) title: String,
    /// When it arrived.
    pub(super) at: Instant,
}

/// Everything that has arrived, and what was wrong with it.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// Digest of the body by event id.
    seen: HashMap<String, u64>,
    directories: HashMap<String, Directory>,
    /// Distinct events by type.
    pub(super) events: BTreeMap<String, usize>,
    /// Requests that brought an event again.
    pub(super) duplicates: usize,
    /// Signatures that were verified, two per request.
    pub(super) signatures: usize,
    violations: Vec<String>,
    violation_count: usize,
}

#[derive(Debug, Default)]
struct Directory {
    received: BTreeSet<u64>,
    /// What the `Rollcall-Previous` headers named.
    named: BTreeSet<u64>,
    replica: Replica,
}

impl Checker {
    /// Takes one request in. `None` if it is a duplicate or makes no sense.
    pub(super) fn accept(&mut self, delivery: &Delivery<'_>) -> Option<Arrival> {
        let Ok(body) = serde_json::from_str::<Value>(delivery.body) else {
            self.blame(format!("event {} has a body that is not JSON", delivery.id));
            return None;
        };
        let text = |pointer| {
            body.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let event = text("/event");
        if text("/id") != delivery.id || delivery.id.is_empty() {
            self.blame(format!(
                "webhook-id {:?} differs from the body's id",
                delivery.id
            ));
        }
        let mut hasher = DefaultHasher::new();
        delivery.body.hash(&mut hasher);
        let digest = hasher.finish();
        if let Some(before) = self.seen.get(delivery.id) {
            self.duplicates += 1;
            if *before != digest {
                self.blame(format!(
                    "event {} came again with another body",
                    delivery.id
                ));
            }
            return None;
        }
        self.seen.insert(delivery.id.to_owned(), digest);
        *self.events.entry(event.to_owned()).or_default() += 1;
        let Ok(sequence) = delivery.sequence.parse::<u64>() else {
            self.blame(format!("{event} {} has no sequence", delivery.id));
            return None;
        };
        let here = format!("{event}, sequence {sequence}");
        for complaint in self
            .directories
            .entry(delivery.directory.to_owned())
            .or_default()
            .take(sequence, delivery, event, &body)
        {
            self.blame(format!("{here}: {complaint}"));
        }
        let (subject, title) = subject(event, &body);
        Some(Arrival {
            directory: delivery.directory.to_owned(),
            sequence,
            event: event.to_owned(),
            subject,
            title,
            at: delivery.at,
        })
    }

    /// Writes a violation down.
    pub(super) fn blame(&mut self, violation: String) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push(violation);
        }
    }

    /// The violations so far, and how many there were in all.
    pub(super) fn violations(&self) -> (&[String], usize) {
        (&self.violations, self.violation_count)
    }

    /// How many distinct events have arrived.
    pub(super) fn arrived(&self) -> usize {
        self.seen.len()
    }

    /// Whether all of a directory up to a sequence has arrived.
    pub(super) fn is_complete(&self, directory: &str, last: u64) -> bool {
        self.missing(directory, last).is_empty()
    }

    /// The sequences of a directory that have not arrived, as ranges.
    pub(super) fn missing(&self, directory: &str, last: u64) -> Vec<(u64, u64)> {
        let nothing = BTreeSet::new();
        let received = self
            .directories
            .get(directory)
            .map_or(&nothing, |found| &found.received);
        let mut missing = Vec::new();
        let mut next = 1;
        for sequence in received.iter().copied().chain([last.saturating_add(1)]) {
            if sequence > next {
                missing.push((next, sequence - 1));
            }
            next = sequence + 1;
        }
        missing
    }

    /// Compares what arrived of a directory with the last sequence it has given, and the copy
    /// made of the webhooks with what the provider holds to be true. Gives back what differs.
    pub(super) fn audit(&self, directory: &str, last: u64, roster: &Roster) -> Vec<String> {
        let mut differences: Vec<String> = self
            .missing(directory, last)
            .iter()
            .map(|(from, to)| format!("sequences {from} to {to} never arrived"))
            .collect();
        if let Some(found) = self.directories.get(directory) {
            let named = found
                .named
                .difference(&found.received)
                .filter(|named| **named != 0);
            differences
                .extend(named.map(|n| format!("sequence {n} is named as previous, but missing")));
            if let Some(beyond) = found.received.range(last + 1..).next() {
                differences.push(format!("sequence {beyond} is beyond the last one, {last}"));
            }
            differences.extend(found.replica.differences(roster));
        }
        differences
    }
}

impl Directory {
    fn take(
        &mut self,
        sequence: u64,
        delivery: &Delivery<'_>,
        event: &str,
        body: &Value,
    ) -> Vec<String> {
        let mut complaints = Vec::new();
        match delivery.previous.parse::<u64>() {
            Ok(previous) if previous < sequence => {
                self.named.insert(previous);
            }
            Ok(previous) => complaints.push(format!("it names {previous} as previous")),
            Err(_) => complaints.push("it has no Rollcall-Previous".to_owned()),
        }
        for (key, after) in dependencies(delivery.after) {
            match after.parse::<u64>() {
                Ok(after) if after == 0 || self.received.contains(&after) => {}
                Ok(after) => complaints.push(format!("it came before {key}={after}")),
                Err(_) => complaints.push(format!("Rollcall-After is malformed at {key:?}")),
            }
        }
        if !self.received.insert(sequence) {
            complaints.push("another event had this sequence".to_owned());
        }
        let named = body
            .pointer("/data/directory_id")
            .or_else(|| body.pointer("/data/id"));
        if named.and_then(Value::as_str) != Some(delivery.directory) {
            complaints.push("Rollcall-Directory differs from the body".to_owned());
        }
        complaints.extend(self.replica.apply(sequence, event, body));
        complaints
    }
}

/// Reads `user=12, group=7`.
fn dependencies(header: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = header
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// Whom an event is about: in the provider's words, and to read.
fn subject(event: &str, body: &Value) -> (Subject, String) {
    let text = |pointer: &str| {
        body.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let full = |at: &str| {
        let part = |name: &str| text(&format!("{at}/{name}"));
        format!("{} {}", part("first_name"), part("last_name"))
    };
    match event {
        "dsync.user.created" | "dsync.user.updated" | "dsync.user.deleted" => {
            (Subject::User(text("/data/idp_id")), full("/data"))
        }
        "dsync.group.created" | "dsync.group.updated" | "dsync.group.deleted" => {
            (Subject::Group(text("/data/name")), text("/data/name"))
        }
        "dsync.group.user_added" | "dsync.group.user_removed" => (
            Subject::Membership(text("/data/user/idp_id"), text("/data/group/name")),
            format!("{} · {}", full("/data/user"), text("/data/group/name")),
        ),
        _ => (Subject::Directory, text("/data/name")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Feed {
        checker: Checker,
    }

    impl Feed {
        fn new() -> Self {
            let mut feed = Self {
                checker: Checker::default(),
            };
            feed.give(1, "directory=0", "dsync.activated", &json!({"id": "d"}));
            feed
        }

        fn give(&mut self, sequence: u64, after: &str, event: &str, data: &Value) -> bool {
            let id = format!("event_{sequence}");
            let body = json!({"id": id, "event": event, "data": data}).to_string();
            let (this, previous) = (sequence.to_string(), (sequence - 1).to_string());
            let delivery = Delivery {
                id: &id,
                directory: "d",
                sequence: &this,
                previous: &previous,
                after,
                body: &body,
                at: Instant::now(),
            };
            self.checker.accept(&delivery).is_some()
        }

        fn user(&mut self, sequence: u64, event: &str) -> bool {
            self.give(sequence, "directory=1", event, &user())
        }

        fn complaints(&self) -> String {
            self.checker.violations().0.join("\n")
        }
    }

    fn user() -> Value {
        json!({
            "directory_id": "d", "id": "u", "idp_id": "00u", "state": "active",
            "first_name": "Zoë", "last_name": "Weiß",
        })
    }

    fn group() -> Value {
        json!({"directory_id": "d", "id": "g", "name": "Sales"})
    }

    fn membership() -> Value {
        json!({"directory_id": "d", "user": user(), "group": group()})
    }

    #[test]
    fn a_sound_story_has_no_violations_and_matches_the_provider() {
        let mut feed = Feed::new();
        feed.user(2, "dsync.user.created");
        feed.give(3, "directory=1", "dsync.group.created", &group());
        feed.give(
            4,
            "user=2, group=3",
            "dsync.group.user_added",
            &membership(),
        );
        assert_eq!(feed.complaints(), "");
        let mut roster = Roster::default();
        roster
            .active
            .insert("00u".to_owned(), "Zoë Weiß".to_owned());
        roster.groups.insert("Sales".to_owned());
        assert_eq!(
            feed.checker.audit("d", 4, &roster).len(),
            1,
            "a membership too many"
        );
        roster
            .memberships
            .insert(("00u".to_owned(), "Sales".to_owned()));
        assert_eq!(feed.checker.audit("d", 4, &roster), Vec::<String>::new());
    }

    #[test]
    fn a_gap_is_found() {
        let mut feed = Feed::new();
        feed.user(4, "dsync.user.created");
        assert_eq!(feed.checker.missing("d", 5), vec![(2, 3), (5, 5)]);
        assert!(!feed.checker.is_complete("d", 4));
        let audit = feed.checker.audit("d", 4, &Roster::default()).join("\n");
        assert!(audit.contains("sequences 2 to 3 never arrived"), "{audit}");
        assert!(audit.contains("sequence 3 is named as previous"), "{audit}");
    }

    #[test]
    fn a_membership_before_its_user_is_found_in_header_and_body() {
        let mut feed = Feed::new();
        feed.give(3, "directory=1", "dsync.group.created", &group());
        feed.give(
            4,
            "user=2, group=3",
            "dsync.group.user_added",
            &membership(),
        );
        let complaints = feed.complaints();
        assert!(complaints.contains("it came before user=2"), "{complaints}");
        assert!(
            complaints.contains("nobody has created the user"),
            "{complaints}"
        );
    }

    #[test]
    fn a_duplicate_counts_once() {
        let mut feed = Feed::new();
        assert!(feed.user(2, "dsync.user.created"));
        assert!(!feed.user(2, "dsync.user.created"));
        assert_eq!((feed.checker.arrived(), feed.checker.duplicates), (2, 1));
        assert_eq!(feed.complaints(), "");
        // The same id with another body is a violation.
        feed.user(2, "dsync.user.deleted");
        assert!(feed.complaints().contains("another body"));
    }

    #[test]
    fn nothing_comes_before_activation_or_after_deletion() {
        let mut feed = Feed {
            checker: Checker::default(),
        };
        feed.user(2, "dsync.user.created");
        assert!(feed.complaints().contains("before dsync.activated"));
        let mut feed = Feed::new();
        feed.user(2, "dsync.user.created");
        feed.user(3, "dsync.user.deleted");
        feed.user(4, "dsync.user.updated");
        assert!(
            feed.complaints().contains("after it was deleted"),
            "{}",
            feed.complaints()
        );
    }
}
