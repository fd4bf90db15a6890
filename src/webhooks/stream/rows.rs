//! What goes into a [`Stream`](super::Stream) and comes out of it: events, answers, and the rows that are
//! written down.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::events::Kind;
use crate::ids::{DirectoryId, EventId, OrganizationId};
use crate::webhooks::endpoint::Ordering;
use crate::webhooks::lanes::{Key, Mode};

/// An event as an endpoint is offered it.
#[derive(Debug)]
pub struct Offer {
    /// Its place in the log.
    pub position: i64,
    /// Its id.
    pub event_id: EventId,
    /// Its organization.
    pub organization_id: OrganizationId,
    /// Its directory.
    pub directory_id: DirectoryId,
    /// Its place in its directory, if it has one.
    pub sequence: Option<i64>,
    /// Its type, if this binary knows it.
    pub kind: Option<Kind>,
    /// Whether it says that a person was deleted or became inactive.
    pub is_departure: bool,
    /// The keys that it holds where order is causal.
    pub keys: Vec<(Key, Mode)>,
    /// The sequence of the event before it that passes the endpoint's filter, for the receiver.
    pub previous: i64,
    /// The sequences of the events that it causally depends on, for the receiver.
    pub after: String,
    /// The exact text on the wire.
    pub payload: Arc<str>,
}

impl Offer {
    /// One that has no place in the log: it is sent by itself, and takes no turns among others.
    pub fn outside_the_log(event_id: EventId, directory_id: DirectoryId, payload: &str) -> Self {
        Self {
            position: 0,
            event_id,
            organization_id: OrganizationId::from(Uuid::nil()),
            directory_id,
            sequence: None,
            kind: None,
            is_departure: false,
            keys: Vec::new(),
            previous: 0,
            after: String::new(),
            payload: payload.into(),
        }
    }

    /// The keys that it holds in an order.
    pub fn keys_in(&self, ordering: Ordering) -> Cow<'_, [(Key, Mode)]> {
        match ordering {
            Ordering::Causal => Cow::Borrowed(&self.keys),
            Ordering::Strict => {
                Cow::Owned(vec![(Key::Directory(self.directory_id), Mode::Exclusive)])
            }
            Ordering::None => Cow::Borrowed(&[]),
        }
    }

    /// The person that it is about.
    pub fn user(&self) -> Option<&Key> {
        let mut keys = self.keys.iter().map(|(key, _)| key);
        keys.find(|key| matches!(key, Key::User(_)))
    }

    /// The group that it is about.
    pub fn group(&self) -> Option<&Key> {
        let mut keys = self.keys.iter().map(|(key, _)| key);
        keys.find(|key| matches!(key, Key::Group(_)))
    }

    /// Who or what begins with it.
    pub fn creates(&self) -> Option<&Key> {
        match self.kind {
            Some(Kind::UserCreated) => self.user(),
            Some(Kind::GroupCreated) => self.group(),
            Some(
                Kind::Activated
                | Kind::Deleted
                | Kind::UserUpdated
                | Kind::UserDeleted
                | Kind::GroupUpdated
                | Kind::GroupDeleted
                | Kind::UserAdded
                | Kind::UserRemoved
                | Kind::TokenCreated
                | Kind::TokenRevoked,
            )
            | None => None,
        }
    }
}

/// A departure and what it depends on, as far as that was not read yet.
#[derive(Debug)]
pub struct Chain {
    /// The position of the departure.
    pub departure: i64,
    /// Its directory.
    pub directory_id: DirectoryId,
    /// The position after which was looked.
    pub after: i64,
    /// What passes the endpoint's filter, in order; nothing if it is too much.
    pub offers: Vec<Arc<Offer>>,
}

/// How one HTTP request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// Whether it was answered 2xx.
    pub is_success: bool,
    /// The status, if there was an answer.
    pub status_code: Option<u16>,
    /// What went wrong, in a word.
    pub failure: Option<String>,
    /// The start of the answer's body, for the support staff.
    pub excerpt: Option<String>,
    /// What the receiver asked for.
    pub retry_after: Option<Duration>,
    /// How long it took.
    pub duration_ms: i32,
}

/// The state of an exception, in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exception {
    /// Tried again later.
    Retrying,
    /// Waits behind one that is.
    Held,
    /// On its way for so long that the cursor goes on without it.
    InFlight,
    /// Failed too often.
    Parked,
}

impl Exception {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retrying => "retrying",
            Self::Held => "held",
            Self::InFlight => "in_flight",
            Self::Parked => "parked",
        }
    }

    /// Reads the name in the database.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Retrying, Self::Held, Self::InFlight, Self::Parked]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A row about an exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionRow {
    /// The event's place in the log.
    pub position: i64,
    /// Its directory.
    pub directory_id: DirectoryId,
    /// Its state.
    pub state: Exception,
    /// How many requests were made.
    pub attempts: u32,
    /// When the first one failed that counts against it.
    pub first_failed_ms: Option<i64>,
    /// When it is tried next.
    pub next_at_ms: Option<i64>,
}

/// A row about a delivery: it has ended, or it failed for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The event's place in the log.
    pub position: i64,
    /// Its id.
    pub event_id: EventId,
    /// Its directory.
    pub directory_id: DirectoryId,
    /// `delivered`, `retrying` or `parked`.
    pub state: &'static str,
    /// How many requests were made.
    pub attempts: u32,
    /// How the last one ended.
    pub last: Attempted,
    /// When it ended.
    pub at_ms: i64,
}

/// A row about a request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// The event's place in the log.
    pub position: i64,
    /// Its number, from 1.
    pub number: u32,
    /// How it ended.
    pub attempted: Attempted,
    /// When it ended.
    pub at_ms: i64,
}

/// What is to be written down about a stream, in one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// By which of the endpoint's filters the cursors were moved.
    pub filter_number: i32,
    /// The new cursor.
    pub cursor: Option<i64>,
    /// Deliveries that ended or failed first.
    pub deliveries: Vec<DeliveryRow>,
    /// Requests that failed.
    pub attempts: Vec<AttemptRow>,
    /// Exceptions that are new or changed.
    pub exceptions: Vec<ExceptionRow>,
    /// Exceptions that are over.
    pub settled: Vec<i64>,
    /// Places in directories that are split off, new ones included.
    pub lagging: Vec<(DirectoryId, i64)>,
    /// Directories that are not split off any more.
    pub rejoined: Vec<DirectoryId>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes out what is about the events at `positions`.
    pub(super) fn split_off(&mut self, positions: &BTreeSet<i64>) -> Self {
        let (deliveries, attempts) = (&mut self.deliveries, &mut self.attempts);
        let (exceptions, settled) = (&mut self.exceptions, &mut self.settled);
        Self {
            deliveries: deliveries
                .extract_if(.., |row| positions.contains(&row.position))
                .collect(),
            attempts: attempts
                .extract_if(.., |row| positions.contains(&row.position))
                .collect(),
            exceptions: exceptions
                .extract_if(.., |row| positions.contains(&row.position))
                .collect(),
            settled: settled
                .extract_if(.., |position| positions.contains(position))
                .collect(),
            ..Self::default()
        }
    }

    /// Takes in what is to be written about a directory that is split off.
    pub fn join(&mut self, directory_id: DirectoryId, other: Self) {
        self.lagging
            .extend(other.cursor.map(|position| (directory_id, position)));
        self.deliveries.extend(other.deliveries);
        self.attempts.extend(other.attempts);
        self.exceptions.extend(other.exceptions);
        self.settled.extend(other.settled);
    }
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct Sending {
    /// The event.
    pub offer: Arc<Offer>,
    /// The number of this request, from 1.
    pub attempt: u32,
    /// Whether the event was parked before.
    pub is_late: bool,
}

/// A stream's place as the database has it.
#[derive(Debug, Default)]
pub struct Place {
    /// The cursor.
    pub cursor: i64,
    /// The exceptions whose events still exist, with their events.
    pub exceptions: Vec<(ExceptionRow, Arc<Offer>)>,
    /// The exceptions whose events are gone.
    pub orphans: Vec<i64>,
    /// Events above the cursor that have ended.
    pub done_ahead: BTreeSet<i64>,
    /// The directories that are split off.
    pub lagging: Vec<DirectoryId>,
}
