//! The audit trail: who changed what, in the transaction that changed it.
//!
//! Cast: an [`Entry`] is written with the change. A [`Sealer`] gives it its place in the chain of its
//! organization a moment later, and makes the entries about what providers write from the event log.
//! [`Heads`] notes outside the database how far the chains are; [`verify`] recomputes them with the
//! [`Key`], which the database does not hold; [`retention`] shortens them from the front; [`search`] reads
//! them.
//!
//! Invariants: entries are only ever added, and removed only by retention; they hold ids and the names of
//! settings, never personal data or secrets.

mod chain;
mod heads;
mod key;
pub mod retention;
mod seal;
pub mod search;
pub mod verify;

pub use heads::{Heads, HeadsError};
pub use key::Key;
pub use seal::Sealer;

use sea_orm::{ActiveValue, DbErr, EntityTrait};
use serde_json::Value;

use crate::actor::Actor;
use crate::ids::{AuditEntryId, DirectoryId, OrganizationId};
use crate::storage::WriteTx;
use crate::storage::tables::{audit_entries, audit_waiting, directories};

/// What providers do, as entries say it.
const PROVIDER_WRITE: &str = "scim.write";

/// Something that was done.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was done, such as `directory.configured`.
    pub action: &'static str,
    /// The organization that it concerns, if it is one's own affair.
    pub organization_id: Option<OrganizationId>,
    /// The directory that it concerns.
    pub directory_id: Option<DirectoryId>,
    /// The id of what it was done to.
    pub subject: String,
    /// What else there is to know; no personal data, no secrets.
    pub details: Value,
}

impl Entry {
    /// `action` on `subject`, which is something of `directory` or the directory itself.
    pub fn of_directory(
        directory: &directories::Model,
        action: &'static str,
        subject: &impl ToString,
    ) -> Self {
        Self {
            action,
            organization_id: Some(directory.organization_id),
            directory_id: Some(directory.id),
            subject: subject.to_string(),
            details: Value::Null,
        }
    }

    /// `action` on `subject`, which belongs to no organization.
    pub fn of_installation(action: &'static str, subject: &impl ToString) -> Self {
        Self {
            action,
            organization_id: None,
            directory_id: None,
            subject: subject.to_string(),
            details: Value::Null,
        }
    }

    /// The entry with these details.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }
}

/// Adds an entry about what `actor` does in this transaction.
///
/// # Errors
/// The database fails.
pub async fn record(tx: &WriteTx, actor: Actor, entry: Entry) -> Result<(), DbErr> {
    let id = AuditEntryId::generate();
    let row = audit_entries::ActiveModel {
        id: ActiveValue::Set(id),
        organization_id: ActiveValue::Set(entry.organization_id),
        directory_id: ActiveValue::Set(entry.directory_id),
        actor: ActiveValue::Set(actor.who.to_string()),
        request_id: ActiveValue::Set(actor.request_id),
        action: ActiveValue::Set(entry.action.to_owned()),
        subject: ActiveValue::Set(entry.subject),
        details: ActiveValue::Set(entry.details.to_string()),
        created_at: ActiveValue::Set(tx.now()),
    };
    audit_entries::Entity::insert(row)
        .exec_without_returning(tx)
        .await?;
    let waiting = audit_waiting::ActiveModel {
        entry_id: ActiveValue::Set(id),
    };
    audit_waiting::Entity::insert(waiting)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}
