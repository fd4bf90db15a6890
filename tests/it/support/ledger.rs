//! What a receiver has seen, and the judgement on it. Pure.
//!
//! Order is judged twice: by the headers (what `Rollcall-After` names must have been answered with 2xx
//! before) and by the bodies, applied to a [`Replica`] in the order in which they were accepted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::replica::Replica;

/// How many violations are shown when there are any.
const SHOWN_MAX: usize = 20;

/// One webhook request whose signatures hold.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `webhook-id`
    pub(crate) event_id: String,
    /// `Rollcall-Directory`
    pub(crate) directory: String,
    /// Whether it has no place in its directory's sequence, and none of the three headers about it.
    pub(crate) is_beside: bool,
    /// `Rollcall-Sequence`
    pub(crate) sequence: i64,
    /// `Rollcall-Previous`
    pub(crate) previous: i64,
    /// `Rollcall-After`
    pub(crate) after: String,
    /// `Rollcall-Attempt`
    pub(crate) attempt: i64,
    /// `Rollcall-Generation`
    pub(crate) generation: i64,
    /// `Rollcall-Replay`, empty if absent
    pub(crate) replay: String,
    /// `WorkOS-Signature`
    pub(crate) signed: String,
    /// All headers, with their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// The body as it came.
    pub(crate) body: Arc<str>,
    /// When it had come.
    pub(crate) arrived: Instant,
    /// When it was answered, and with which status.
    pub(crate) answered: Option<(Instant, u16)>,
}

impl Request {
    /// Whether it was accepted.
    pub(crate) fn is_accepted(&self) -> bool {
        self.answered
            .is_some_and(|(_, status)| (200..300).contains(&status))
    }
}

/// Everything that a receiver has seen.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    requests: Vec<Request>,
    /// The id and body of each event, by directory and sequence.
    events: HashMap<(String, i64), (String, Arc<str>)>,
    accepted: BTreeMap<String, BTreeSet<i64>>,
    accepted_ids: HashSet<String>,
    replicas: BTreeMap<String, Replica>,
    duplicates: usize,
    violations: Vec<String>,
}

impl Ledger {
    /// Notes a request; returns its number.
    pub(crate) fn arrive(&mut self, request: Request) -> usize {
        if !request.is_beside {
            self.check_identity(&request);
            self.check_order(&request);
        }
        if self.accepted_ids.contains(&request.event_id) {
            self.duplicates += 1;
        }
        self.requests.push(request);
        self.requests.len() - 1
    }

    /// Notes how a request is about to be answered.
    pub(crate) fn answer(&mut self, number: usize, status: u16) {
        let request = &mut self.requests[number];
        request.answered = Some((Instant::now(), status));
        if !request.is_accepted() || !self.accepted_ids.insert(request.event_id.clone()) {
            return;
        }
        if request.is_beside {
            return;
        }
        let (directory, sequence) = (request.directory.clone(), request.sequence);
        let body: Value = serde_json::from_str(&request.body).expect("bodies are JSON");
        let sequences = self.accepted.entry(directory.clone()).or_default();
        sequences.insert(sequence);
        let replica = self.replicas.entry(directory.clone()).or_default();
        if let Err(complaint) = replica.apply(&body) {
            self.blame(format!("{directory} {sequence}: {complaint}"));
        }
    }

    /// Notes something that must not happen.
    pub(crate) fn blame(&mut self, violation: String) {
        self.violations.push(violation);
    }

    fn check_identity(&mut self, request: &Request) {
        let key = (request.directory.clone(), request.sequence);
        let (id, body) = self
            .events
            .entry(key)
            .or_insert_with(|| (request.event_id.clone(), Arc::clone(&request.body)))
            .clone();
        let place = format!("{} {}", request.directory, request.sequence);
        if id != request.event_id {
            self.blame(format!("{place} is {id} and {}", request.event_id));
        } else if body != request.body {
            self.blame(format!("{place} came with another body"));
        }
        if request.previous != request.sequence - 1 {
            self.blame(format!("{place} follows {}", request.previous));
        }
        if request.generation != 1 {
            self.blame(format!("{place} is of generation {}", request.generation));
        }
    }

    /// What the event depends on must have been accepted before it arrived.
    fn check_order(&mut self, request: &Request) {
        let accepted = self.accepted.get(&request.directory);
        for part in request.after.split(", ") {
            let sequence = part
                .split_once('=')
                .and_then(|(_, number)| number.parse::<i64>().ok());
            let place = format!("{} {}", request.directory, request.sequence);
            match sequence {
                None => return self.blame(format!("{place} comes after {:?}", request.after)),
                Some(0) => {}
                Some(sequence) => {
                    if !accepted.is_some_and(|accepted| accepted.contains(&sequence)) {
                        return self.blame(format!("{place} came before {part}"));
                    }
                }
            }
        }
    }

    /// All requests in the order in which they came.
    pub(crate) fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// How many distinct events were accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted_ids.len()
    }

    /// How many requests brought an event that had been accepted before.
    pub(crate) fn duplicates(&self) -> usize {
        self.duplicates
    }

    /// The copy of a directory that the webhooks make.
    pub(crate) fn replica(&self, directory: &str) -> Option<&Replica> {
        self.replicas.get(directory)
    }

    /// Whether all events of `directory` up to `last` were accepted.
    pub(crate) fn is_complete(&self, directory: &str, last: i64) -> bool {
        let count = self.accepted.get(directory).map_or(0, BTreeSet::len);
        i64::try_from(count).is_ok_and(|count| count >= last)
    }

    /// Fails unless exactly the sequences 1 to `last` of `directory` were accepted.
    pub(crate) fn assert_complete(&self, directory: &str, last: i64) {
        let empty = BTreeSet::new();
        let accepted = self.accepted.get(directory).unwrap_or(&empty);
        let missing: Vec<i64> = (1..=last).filter(|one| !accepted.contains(one)).collect();
        assert!(missing.is_empty(), "{directory} lost {missing:?} of {last}");
        assert_eq!(
            accepted.len(),
            missing.len() + usize::try_from(last).unwrap()
        );
    }

    /// Fails if anything came that must not, in that way or in that order.
    pub(crate) fn assert_orderly(&self) {
        let shown: Vec<&String> = self.violations.iter().take(SHOWN_MAX).collect();
        let count = self.violations.len();
        assert!(shown.is_empty(), "{count} violations: {shown:#?}");
    }
}
