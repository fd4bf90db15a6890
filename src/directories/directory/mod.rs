//! Directories: making them, finding them, their settings and their states.
//!
//! A directory is `validating` until its provider is heard for the first time; then it is `linked`, and
//! `dsync.activated` is the first event of its log. Its deliveries can be held, and the writes of its
//! provider refused, for a while ([`stop()`]). How it ends is in [`crate::directories::deletion`].

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde_json::Value;

use super::address::LABELS_MAX;
use crate::clock;
use crate::events::{self, Event, Kind};
use crate::ids::{DirectoryId, OrganizationId};
use crate::storage::tables::directories;
use crate::storage::{self, WriteTx};

mod configure;
mod contact;
mod create;
mod removal;
mod signs;
mod stop;

pub use configure::{Change, Changes, configure, remove_label};
pub(super) use contact::enter;
pub use contact::{ActivateError, Heard, activity, contact, record_activity};
pub use create::{NewDirectory, create};
pub use removal::remove_deleted;
pub use signs::{Signs, signs};
pub use stop::{Flow, resume, stop};

/// The directory types of the wire contract that a SCIM provider can have.
pub const KINDS: [&str; 9] = [
    "azure scim v2.0",
    "cyberark scim v2.0",
    "generic scim v2.0",
    "jump cloud scim v2.0",
    "okta scim v2.0",
    "onelogin scim v2.0",
    "pingfederate scim v2.0",
    "rippling",
    "sailpoint scim v2.0",
];

/// The state of a directory, in the vocabulary of the REST API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The provider has not been heard yet.
    Validating,
    /// The provider has been heard.
    Linked,
    /// It has been deleted; its rows go bit by bit.
    Deleting,
    /// It has been deleted, and only its own row is left.
    Deleted,
}

impl State {
    /// The name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Linked => "linked",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }

    /// Whether `directory` has not been deleted.
    pub fn is_open(directory: &directories::Model) -> bool {
        Self::Validating.is_of(directory) || Self::Linked.is_of(directory)
    }

    /// The state that `directory` shows: one that is going to be deleted is `deleting` already.
    pub fn shown(directory: &directories::Model) -> &str {
        if directory.deletion_due_at.is_some() {
            return Self::Deleting.as_str();
        }
        &directory.state
    }

    /// Whether `directory` is in this state.
    pub fn is_of(self, directory: &directories::Model) -> bool {
        directory.state == self.as_str()
    }
}

/// Why a directory was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such organization.
    #[error("Organization not found: '{0}'.")]
    NoOrganization(OrganizationId),
    /// There is no such directory.
    #[error("Directory not found: '{0}'.")]
    NoDirectory(DirectoryId),
    /// The organization is going to be deleted.
    #[error("the organization will be deleted at {}; restore it first", clock::text(*.0))]
    OrganizationDeleting(DateTime<Utc>),
    /// The directory is going to be deleted.
    #[error("the directory will be deleted at {}; restore it first", clock::text(*.0))]
    Deleting(DateTime<Utc>),
    /// The directory has been deleted.
    #[error("the directory has been deleted, which cannot be taken back any more")]
    Ended,
    /// The directory is not going to be deleted.
    #[error("the directory is not going to be deleted, so that there is nothing to restore")]
    NotDeleting,
    /// The label is, or was, another directory's, or an external key.
    #[error("the label {0:?} belongs to another directory; choose another one")]
    LabelTaken(String),
    /// The host name is another directory's.
    #[error("the host name {0:?} belongs to another directory; choose another one")]
    HostNameTaken(String),
    /// The directory has as many labels as it can have.
    #[error("the directory has {LABELS_MAX} labels; remove former ones first")]
    TooManyLabels,
    /// The directory has no such label.
    #[error("the directory has no label {0:?}")]
    NoLabel(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Storage(error.into())
    }
}

/// Finds a directory by its id.
///
/// # Errors
/// The database fails.
pub async fn find(
    connection: &impl ConnectionTrait,
    id: DirectoryId,
) -> Result<Option<directories::Model>, DbErr> {
    directories::Entity::find_by_id(id).one(connection).await
}

/// The directories of an organization, or all, with ids after `after`, at most `limit` of them, oldest
/// first.
///
/// # Errors
/// The database fails.
pub async fn list(
    connection: &impl ConnectionTrait,
    organization_id: Option<OrganizationId>,
    after: Option<DirectoryId>,
    limit: u64,
) -> Result<Vec<directories::Model>, DbErr> {
    let mut found = directories::Entity::find()
        .filter(directories::Column::State.ne(State::Deleted.as_str()))
        .order_by_asc(directories::Column::Id)
        .limit(limit);
    if let Some(id) = organization_id {
        found = found.filter(directories::Column::OrganizationId.eq(id));
    }
    if let Some(id) = after {
        found = found.filter(directories::Column::Id.gt(id));
    }
    found.all(connection).await
}

/// The locked directory, unless it has been deleted and nothing is left of it.
pub(super) fn present(tx: &WriteTx, id: DirectoryId) -> Result<directories::Model, Error> {
    tx.directory()
        .map(|locked| locked.row.clone())
        .filter(|row| !State::Deleted.is_of(row))
        .ok_or(Error::NoDirectory(id))
}

/// The locked directory, unless it has been deleted.
fn open(tx: &WriteTx, id: DirectoryId) -> Result<directories::Model, Error> {
    present(tx, id).and_then(|row| {
        if State::is_open(&row) {
            Ok(row)
        } else {
            Err(Error::NoDirectory(id))
        }
    })
}

/// The locked directory, unless it has been deleted or is going to be.
fn standing(tx: &WriteTx, id: DirectoryId) -> Result<directories::Model, Error> {
    let directory = open(tx, id)?;
    match directory.deletion_due_at {
        Some(due_at) => Err(Error::Deleting(due_at)),
        None => Ok(directory),
    }
}

async fn set_state(
    tx: &WriteTx,
    id: DirectoryId,
    state: State,
) -> Result<directories::Model, DbErr> {
    let change = directories::ActiveModel {
        id: ActiveValue::Unchanged(id),
        state: ActiveValue::Set(state.as_str().to_owned()),
        updated_at: ActiveValue::Set(tx.now()),
        ..Default::default()
    };
    directories::Entity::update(change).exec(tx).await
}

/// Appends an event about the directory as a whole.
pub(super) fn append(tx: &WriteTx, directory: &directories::Model, kind: Kind, data: Value) {
    let event = Event {
        kind,
        user_id: None,
        group_id: None,
        names: Vec::new(),
        data,
    };
    events::append(tx, directory, &event);
}
