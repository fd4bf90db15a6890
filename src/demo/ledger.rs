//! Which webhook answers to which SCIM request. Pure.
//!
//! Each acknowledged change is a *cause*; each first arrival of an event looks for its cause among
//! those of the same subject, in order, by kind. Either may be known first: a webhook can overtake
//! the answer that the provider is still reading. Causes that need not show in an event are passed
//! over when a later one fits.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::checker::Arrival;
use crate::simulate::{Change, ChangeKind, Phase, Step, Subject};

/// Causes and arrivals of one directory.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    causes: HashMap<Subject, VecDeque<Cause>>,
    /// Arrivals whose cause is not known yet.
    early: HashMap<Subject, VecDeque<(String, Instant)>>,
    pages: BTreeMap<Phase, Page>,
}

#[derive(Debug)]
struct Cause {
    kind: ChangeKind,
    is_required: bool,
    phase: Phase,
    at: Instant,
}

/// What one phase has brought.
#[derive(Debug, Default, Clone)]
pub(super) struct Page {
    /// Events that must still arrive.
    pub(super) outstanding: usize,
    /// Events that need not arrive, and have not.
    pub(super) optional: usize,
    /// Events that arrived.
    pub(super) arrived: usize,
    /// From the SCIM answer to the webhook, per event.
    pub(super) latencies: Vec<Duration>,
}

impl Ledger {
    /// Notes what a request has caused.
    pub(super) fn step(&mut self, step: &Step) {
        for Change {
            kind,
            subject,
            is_required,
        } in &step.changes
        {
            let page = self.pages.entry(step.phase).or_default();
            if *is_required {
                page.outstanding += 1;
            } else {
                page.optional += 1;
            }
            self.causes
                .entry(subject.clone())
                .or_default()
                .push_back(Cause {
                    kind: *kind,
                    is_required: *is_required,
                    phase: step.phase,
                    at: step.finished_at,
                });
            self.settle(subject);
        }
    }

    /// Notes an arrival.
    pub(super) fn arrive(&mut self, arrival: &Arrival) {
        let event = (arrival.event.clone(), arrival.at);
        self.early
            .entry(arrival.subject.clone())
            .or_default()
            .push_back(event);
        self.settle(&arrival.subject);
    }

    /// Matches the arrivals about a subject with their causes, as far as both are known.
    fn settle(&mut self, subject: &Subject) {
        let Some(early) = self.early.get_mut(subject) else {
            return;
        };
        let Some(causes) = self.causes.get_mut(subject) else {
            return;
        };
        while let Some((event, at)) = early.front() {
            let fits = |cause: &Cause| explains(cause.kind, subject, event);
            let Some(place) = causes.iter().position(fits) else {
                break;
            };
            if causes.iter().take(place).any(|cause| cause.is_required) {
                break;
            }
            causes.drain(..place);
            let Some(cause) = causes.pop_front() else {
                break;
            };
            let page = self.pages.entry(cause.phase).or_default();
            page.arrived += 1;
            if cause.is_required {
                page.outstanding -= 1;
            } else {
                page.optional -= 1;
            }
            if cause.kind != ChangeKind::Activated {
                page.latencies.push(at.saturating_duration_since(cause.at));
            }
            early.pop_front();
        }
        if early.is_empty() {
            self.early.remove(subject);
        }
    }

    /// What a phase has brought so far.
    pub(super) fn page(&self, phase: Phase) -> Page {
        self.pages.get(&phase).cloned().unwrap_or_default()
    }

    /// All latencies.
    pub(super) fn latencies(&self) -> Vec<Duration> {
        self.pages
            .values()
            .flat_map(|page| page.latencies.iter().copied())
            .collect()
    }

    /// How many events must still arrive.
    pub(super) fn outstanding(&self) -> usize {
        self.pages.values().map(|page| page.outstanding).sum()
    }

    /// Events that no acknowledged change explains.
    pub(super) fn unexplained(&self) -> Vec<String> {
        let all = self.early.iter().flat_map(|(subject, events)| {
            events
                .iter()
                .map(move |(event, _)| format!("{event} about {subject} has no cause"))
        });
        all.collect()
    }
}

/// Whether a change of this kind shows as this event. Deactivation may mean deletion from the
/// directory and reactivation a new directory user, or both an update: as the directory is set.
fn explains(kind: ChangeKind, subject: &Subject, event: &str) -> bool {
    match (subject, kind) {
        (Subject::Directory, _) => event == "dsync.activated",
        (Subject::User(_), ChangeKind::Created) => event == "dsync.user.created",
        (Subject::User(_), ChangeKind::Updated) => event == "dsync.user.updated",
        (Subject::User(_), ChangeKind::Deleted) => event == "dsync.user.deleted",
        (Subject::User(_), ChangeKind::Deactivated) => {
            matches!(event, "dsync.user.deleted" | "dsync.user.updated")
        }
        (Subject::User(_), ChangeKind::Reactivated) => {
            matches!(event, "dsync.user.created" | "dsync.user.updated")
        }
        (Subject::Group(_), ChangeKind::Created) => event == "dsync.group.created",
        (Subject::Group(_), ChangeKind::Updated) => event == "dsync.group.updated",
        (Subject::Group(_), ChangeKind::Deleted) => event == "dsync.group.deleted",
        (Subject::Membership(..), ChangeKind::Added) => event == "dsync.group.user_added",
        (Subject::Membership(..), ChangeKind::Removed) => event == "dsync.group.user_removed",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(phase: Phase, at: Instant, changes: Vec<Change>) -> Step {
        Step {
            phase,
            subject: String::new(),
            method: "POST",
            path: "/Users".to_owned(),
            status: 201,
            took: Duration::ZERO,
            finished_at: at,
            changes,
        }
    }

    fn change(kind: ChangeKind, is_required: bool) -> Change {
        Change {
            kind,
            subject: Subject::User("a".to_owned()),
            is_required,
        }
    }

    fn arrival(event: &str, at: Instant) -> Arrival {
        Arrival {
            directory: "d".to_owned(),
            sequence: 1,
            event: event.to_owned(),
            subject: Subject::User("a".to_owned()),
            title: String::new(),
            at,
        }
    }

    #[test]
    fn latency_is_from_answer_to_arrival_and_never_negative() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.step(&step(
            Phase::Users,
            now,
            vec![change(ChangeKind::Created, true)],
        ));
        assert_eq!(ledger.outstanding(), 1);
        ledger.arrive(&arrival(
            "dsync.user.created",
            now + Duration::from_millis(5),
        ));
        // This webhook arrives before its answer has been read.
        ledger.arrive(&arrival("dsync.user.updated", now));
        assert_eq!(ledger.unexplained().len(), 1);
        let later = now + Duration::from_millis(1);
        ledger.step(&step(
            Phase::Profiles,
            later,
            vec![change(ChangeKind::Updated, true)],
        ));
        assert_eq!((ledger.outstanding(), ledger.unexplained().len()), (0, 0));
        assert_eq!(
            ledger.latencies(),
            vec![Duration::from_millis(5), Duration::ZERO]
        );
    }

    #[test]
    fn optional_causes_are_passed_over_and_required_ones_are_not() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let causes = vec![
            change(ChangeKind::Updated, false),
            change(ChangeKind::Deleted, true),
        ];
        ledger.step(&step(Phase::Deletions, now, causes));
        ledger.arrive(&arrival("dsync.user.deleted", now));
        assert_eq!((ledger.outstanding(), ledger.unexplained().len()), (0, 0));
        let causes = vec![
            change(ChangeKind::Created, true),
            change(ChangeKind::Deleted, true),
        ];
        ledger.step(&step(Phase::Deletions, now, causes));
        ledger.arrive(&arrival("dsync.user.deleted", now));
        assert_eq!((ledger.outstanding(), ledger.unexplained().len()), (2, 1));
    }
}
