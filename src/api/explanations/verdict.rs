//! The verdict on somebody who is missing. Pure.
//!
//! The first that applies is the verdict, from the provider to the app:
//!
//! | verdict | when |
//! | --- | --- |
//! | `never_sent` | nobody here knows the person, and no request was to change them |
//! | `refused` | the newest request to change them was refused |
//! | `deleted` | they were here and have been deleted |
//! | `ended` | they were deactivated, which ends people in this directory |
//! | `inactive` | they were deactivated |
//! | `filtered_out` | no endpoint takes what the log says of them |
//! | `held` | it waits because the deliveries of the directory are held, or it will be deleted |
//! | `parked` | an endpoint kept refusing it, so that it was given up for a while |
//! | `waiting_behind` | it is on its way to an endpoint, behind what the text names |
//! | `delivered` | every endpoint that takes it has accepted it |

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Facts;
use crate::clock;
use crate::storage::tables::{endpoints, events, scim_requests};
use crate::webhooks::explain::{Behind, Progress, Standing};

/// Why somebody is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    NeverSent,
    Refused,
    Deleted,
    Ended,
    Inactive,
    FilteredOut,
    Held,
    Parked,
    WaitingBehind,
    Delivered,
}

/// The verdict on `facts`.
pub(super) fn decide(facts: &Facts) -> Verdict {
    if facts.person.is_none() && facts.refusal.is_none() {
        return Verdict::NeverSent;
    }
    let is_gone = facts.person.is_some() && facts.user.is_none();
    // Asking again for the deletion of somebody who is gone explains nothing.
    if facts
        .refusal
        .as_ref()
        .is_some_and(|request| !(is_gone && request.status == 404))
    {
        return Verdict::Refused;
    }
    match &facts.user {
        None => Verdict::Deleted,
        Some(user) if user.ended_at.is_some() => Verdict::Ended,
        Some(user) if !user.active => Verdict::Inactive,
        Some(_) => decide_delivery(facts),
    }
}

fn decide_delivery(facts: &Facts) -> Verdict {
    let is_any = |test: fn(&Standing) -> bool| facts.endpoints.iter().any(|(_, at)| test(at));
    let is_waiting = is_any(|at| matches!(at, Standing::Waiting(..)));
    let is_held = facts.directory.as_ref().is_some_and(|directory| {
        directory.deliveries_held_at.is_some()
            || directory.guard_held_at.is_some()
            || directory.deletion_due_at.is_some()
    });
    if !is_any(|at| !matches!(at, Standing::NotTaken | Standing::BeganLater)) {
        Verdict::FilteredOut
    } else if is_held && is_waiting {
        Verdict::Held
    } else if is_any(|at| matches!(at, Standing::Parked(_))) {
        Verdict::Parked
    } else if is_waiting {
        Verdict::WaitingBehind
    } else {
        Verdict::Delivered
    }
}

impl Verdict {
    /// The name on the wire.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NeverSent => "never_sent",
            Self::Refused => "refused",
            Self::Deleted => "deleted",
            Self::Ended => "ended",
            Self::Inactive => "inactive",
            Self::FilteredOut => "filtered_out",
            Self::Held => "held",
            Self::Parked => "parked",
            Self::WaitingBehind => "waiting_behind",
            Self::Delivered => "delivered",
        }
    }

    /// What can be done.
    pub(super) fn next(self) -> &'static str {
        match self {
            Self::NeverSent => {
                "Assign the person to the app in the identity provider, and see that its job runs."
            }
            Self::Refused => {
                "Have the reason corrected in the identity provider; it sends the person again."
            }
            Self::Deleted => "Assign the person to the app in the identity provider again.",
            Self::Ended | Self::Inactive => {
                "Activate the person in the identity provider, and see that the app is still assigned."
            }
            Self::FilteredOut => {
                "Make a webhook endpoint that takes dsync.user.created; what is older can be read from the API."
            }
            Self::Held => "Release the deliveries of the directory, or restore it.",
            Self::Parked => {
                "Make the endpoint accept the event; it is still tried now and then for seven days."
            }
            Self::WaitingBehind => {
                "Make the endpoint accept what it refuses; what waits goes out by itself then."
            }
            Self::Delivered => {
                "Look in the app: it has accepted the event, and it may be that it did nothing with it."
            }
        }
    }

    /// What has happened, in plain words.
    pub(super) fn text(self, facts: &Facts) -> String {
        match self {
            Self::NeverSent => never_sent(facts),
            Self::Refused => facts
                .refusal
                .as_ref()
                .map(refused)
                .map_or_else(String::new, |text| {
                    format!("The newest request was refused: {text}.")
                }),
            Self::Deleted => since("The person was deleted", facts.events.last()),
            Self::Ended => {
                let at = facts.user.as_ref().and_then(|user| user.ended_at);
                format!(
                    "The person was deactivated and has ended at {}.",
                    moment(at)
                )
            }
            Self::Inactive => inactive(facts),
            Self::FilteredOut => filtered_out(facts),
            Self::Held => held(facts),
            Self::Parked => at_endpoints(facts, parked),
            Self::WaitingBehind => at_endpoints(facts, waiting),
            Self::Delivered => at_endpoints(facts, delivered),
        }
    }
}

fn moment(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "an unknown time".to_owned(), clock::text)
}

fn never_sent(facts: &Facts) -> String {
    let heard = match (&facts.directory, facts.last_heard) {
        (None, _) => "No directory is known to be in charge of them".to_owned(),
        (Some(_), None) => "It has not been heard at all yet".to_owned(),
        (Some(_), Some(at)) => format!("It was last heard at {}", clock::text(at)),
    };
    format!("The provider has never sent this person. {heard}.")
}

/// `POST /Users was answered 409 (uniqueness): …`, without the query.
pub(super) fn refused(request: &scim_requests::Model) -> String {
    let path = request.path.split('?').next().unwrap_or_default();
    let kind = request
        .scim_type
        .as_deref()
        .or(request.situation.as_deref());
    let kind = kind.map_or_else(String::new, |kind| format!(" ({kind})"));
    let detail = request
        .detail
        .as_deref()
        .unwrap_or("no reason was written down");
    let detail = detail.trim_end_matches('.');
    format!(
        "{} {path} at {} was answered {}{kind}: {detail}",
        request.method,
        clock::text(request.created_at),
        request.status
    )
}

fn since(what: &str, event: Option<&events::Model>) -> String {
    format!("{what} at {}.", moment(event.map(|event| event.created_at)))
}

/// Since the newest event that made them inactive; without one, since they were changed last.
fn inactive(facts: &Facts) -> String {
    let made_inactive = facts.events.iter().rev().find(|event| {
        let payload: Value = serde_json::from_str(&event.payload).unwrap_or_default();
        payload.pointer("/data/previous_attributes/state") == Some(&Value::from("active"))
    });
    let changed = facts.user.as_ref().map(|user| user.updated_at);
    let at = made_inactive.map(|event| event.created_at).or(changed);
    format!("The person has been inactive since {}.", moment(at))
}

fn filtered_out(facts: &Facts) -> String {
    if facts.endpoints.is_empty() {
        return "There is no webhook endpoint.".to_owned();
    }
    let reasons = facts.endpoints.iter().map(|(row, at)| {
        let reason = match at {
            Standing::NotTaken => "takes none of the event types",
            Standing::BeganLater
            | Standing::Delivered(_)
            | Standing::Parked(_)
            | Standing::Waiting(..) => "was made after the events",
        };
        format!("{} {reason}", row.url)
    });
    let reasons: Vec<String> = reasons.collect();
    format!("No endpoint is sent what happened: {}.", reasons.join("; "))
}

fn held(facts: &Facts) -> String {
    let directory = facts.directory.as_ref();
    let due_at = directory.and_then(|directory| directory.deletion_due_at);
    if let Some(at) = due_at {
        return format!(
            "The directory will be deleted at {}, and sends nothing.",
            clock::text(at)
        );
    }
    let at = directory.and_then(|directory| {
        let by_hand = directory.deliveries_held_at;
        by_hand.or(directory.guard_held_at)
    });
    format!(
        "The deliveries of the directory have been held since {}.",
        moment(at)
    )
}

/// One sentence for each endpoint about which there is one to say.
fn at_endpoints(facts: &Facts, say: fn(&endpoints::Model, &Standing) -> Option<String>) -> String {
    let said = facts.endpoints.iter().filter_map(|(row, at)| say(row, at));
    said.collect::<Vec<_>>().join(" ")
}

/// `answered 500` or `failed (timeout)`.
fn outcome(progress: &Progress) -> String {
    match (progress.status_code, &progress.failure) {
        (Some(status), _) => format!("answered {status}"),
        (None, Some(failure)) => format!("failed ({failure})"),
        (None, None) => "failed".to_owned(),
    }
}

fn parked(row: &endpoints::Model, at: &Standing) -> Option<String> {
    let Standing::Parked(progress) = at else {
        return None;
    };
    Some(format!(
        "{} was given up at {} after {} attempts; the last one at {} {}.",
        progress.event.kind,
        row.url,
        progress.attempts,
        moment(progress.at),
        outcome(progress)
    ))
}

fn waiting(row: &endpoints::Model, at: &Standing) -> Option<String> {
    let Standing::Waiting(progress, behind) = at else {
        return None;
    };
    let other = |other: &Progress| {
        format!(
            "{} of {}, which {} after {} attempts",
            other.event.kind,
            clock::text(other.event.created_at),
            outcome(other),
            other.attempts
        )
    };
    let reason = match behind {
        Behind::Retry => format!(
            "its own next attempt at {}, after {} of which the last one {}",
            moment(progress.next_attempt_at),
            progress.attempts,
            outcome(progress)
        ),
        Behind::Event(before) => format!("an earlier event about the same, {}", other(before)),
        Behind::Failing(before) => format!("the endpoint, which refuses {}", other(before)),
        Behind::Backlog(Some(oldest)) => {
            format!("earlier events, the oldest of {}", clock::text(*oldest))
        }
        Behind::Backlog(None) => "what is on its way already".to_owned(),
        Behind::Disabled => "the endpoint's being enabled again".to_owned(),
    };
    Some(format!(
        "{} has waited for {} since {}, behind {reason}.",
        progress.event.kind,
        row.url,
        clock::text(progress.event.created_at)
    ))
}

fn delivered(row: &endpoints::Model, at: &Standing) -> Option<String> {
    let Standing::Delivered(progress) = at else {
        return None;
    };
    let Some(progress) = progress else {
        return Some(format!("{} accepted everything long ago.", row.url));
    };
    let status = progress
        .status_code
        .map_or_else(String::new, |status| format!(" with {status}"));
    Some(format!(
        "{} accepted {} at {}{status}, at attempt {}.",
        row.url,
        progress.event.kind,
        moment(progress.at),
        progress.attempts.max(1)
    ))
}
