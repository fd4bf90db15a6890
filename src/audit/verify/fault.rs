//! What verifying finds, in words.

use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::clock;
use crate::ids::{AuditEntryId, OrganizationId};

/// What has been verified, up to the first fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries that are in their places.
    pub entries: usize,
    /// Lines of the file of heads whose signatures are right.
    pub heads: usize,
    /// The first thing that is wrong.
    pub fault: Option<Fault>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An entry is not what was sealed in its place.
    Altered(Place, AuditEntryId),
    /// A seal is left of an entry.
    EntryDeleted(Place, AuditEntryId),
    /// Nothing has this number, and later ones are there.
    SealDeleted(Place),
    /// The front of a chain was removed, and not by retention.
    FrontRemoved(Place),
    /// A chain ends earlier than it did.
    Truncated(Place),
    /// A chain is another one than when a head was written.
    Replaced(Place),
    /// An entry is in no chain.
    Unsealed(AuditEntryId),
    /// An entry has waited for its place for too long.
    Waiting(AuditEntryId, DateTime<Utc>),
    /// A line of the file of heads is not what was signed.
    HeadAltered(usize),
}

/// A number in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The organization; the nil id stands for none.
    pub organization_id: OrganizationId,
    /// The number.
    pub number: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.organization_id.uuid().is_nil() {
            write!(formatter, "number {} of no organization", self.number)
        } else {
            write!(
                formatter,
                "number {} of {}",
                self.number, self.organization_id
            )
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered(place, id) => write!(
                formatter,
                "{id}, {place}, is not what was sealed there: the entry was altered, or its seal was \
                 altered or moved"
            ),
            Self::EntryDeleted(place, id) => {
                write!(formatter, "{id}, {place}, was deleted: its seal is left")
            }
            Self::SealDeleted(place) => write!(
                formatter,
                "{place} is missing: its seal was deleted or moved"
            ),
            Self::FrontRemoved(place) => write!(
                formatter,
                "entries up to {place} were removed, and not by retention"
            ),
            Self::Truncated(place) => write!(
                formatter,
                "{place} is missing, and everything after it: the chain was cut off, or the database \
                 was restored from a backup"
            ),
            Self::Replaced(place) => write!(
                formatter,
                "{place} is another entry than a signed head says: the chain was cut off and has grown \
                 again, or the database was restored from a backup"
            ),
            Self::Unsealed(id) => write!(
                formatter,
                "{id} is in no chain: it was inserted past the server, or its seal was deleted"
            ),
            Self::Waiting(id, since) => write!(
                formatter,
                "{id} has waited since {} for its place: is a node with node.scheduler running?",
                clock::text(*since)
            ),
            Self::HeadAltered(line) => write!(
                formatter,
                "line {line} of the file of heads is not what was signed"
            ),
        }
    }
}

impl Report {
    /// As JSON.
    pub fn view(&self) -> Value {
        json!({
            "object": "audit_verification",
            "entries": self.entries,
            "heads": self.heads,
            "fault": self.fault.as_ref().map(ToString::to_string),
        })
    }
}
