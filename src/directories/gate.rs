//! Who may write to the users and groups of a directory, and when. Pure.
//!
//! Reading is never a matter of this: whoever the master is, providers see the state as it is.

use chrono::{DateTime, Utc};
use sea_orm::DbErr;

use super::directory::State;
use crate::actor::Who;
use crate::clock;
use crate::storage::tables::directories;
use crate::storage::{self, LockedDirectory, WriteTx};

/// Why a directory cannot be written to by an actor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no such directory.
    #[error("the directory does not exist")]
    NoDirectory,
    /// The token was revoked or has expired.
    #[error("the token is no longer valid")]
    TokenInvalid,
    /// The directory is going to be deleted.
    #[error("the directory will be deleted at {}; restore it first", clock::text(*.0))]
    Deleting(DateTime<Utc>),
    /// Writes are refused for a while.
    #[error("writes to the directory are refused at present, as set by {0}")]
    Paused(String),
    /// The users and groups are managed by hand, so that the provider may not write.
    #[error("the directory is managed by hand, as set by {0}")]
    ManagedByHand(String),
    /// The users and groups are the provider's, so that nobody else may write.
    #[error(
        "the users and groups of this directory are managed by its identity provider: change them \
         there, or set the directory's management to manual first"
    )]
    ManagedByProvider,
}

/// Why a setting of a directory was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// The directory is gone, or going to go.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for SettingError {
    fn from(error: DbErr) -> Self {
        Self::Storage(error.into())
    }
}

/// Who is master of the users and groups of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Management {
    /// The identity provider.
    Provider,
    /// The vendor, by the API.
    Manual,
}

impl Management {
    /// The name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Manual => "manual",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Provider, Self::Manual]
            .into_iter()
            .find(|management| management.as_str() == text)
    }

    /// Whether it is in force in `directory`.
    pub fn is_of(self, directory: &directories::Model) -> bool {
        directory.management == self.as_str()
    }
}

/// The locked directory, if its settings can be changed: it is there, and is going to stay.
pub(super) fn open(tx: &WriteTx) -> Result<directories::Model, Denied> {
    let locked = tx.directory().map(|locked| &locked.row);
    let row = locked
        .filter(|row| State::is_open(row))
        .ok_or(Denied::NoDirectory)?;
    match row.deletion_due_at {
        Some(due_at) => Err(Denied::Deleting(due_at)),
        None => Ok(row.clone()),
    }
}

/// Whether `who` may be heard at all: the directory is there and stays, and the token opens it.
pub(super) fn admit(locked: &LockedDirectory, who: Who) -> Result<(), Denied> {
    if let Who::Provider(token) = who
        && !locked.accepts(token)
    {
        return Err(Denied::TokenInvalid);
    }
    if !State::is_open(&locked.row) {
        return Err(Denied::NoDirectory);
    }
    match locked.row.deletion_due_at {
        Some(due_at) => Err(Denied::Deleting(due_at)),
        None => Ok(()),
    }
}

/// Whether `who` may write to the users and groups now.
pub(super) fn check(directory: &directories::Model, who: Who) -> Result<(), Denied> {
    let named = |who: &Option<String>| who.clone().unwrap_or_else(|| "an operator".to_owned());
    match who {
        Who::Provider(_) if Management::Manual.is_of(directory) => Err(Denied::ManagedByHand(
            named(&directory.management_changed_by),
        )),
        Who::Provider(_) if directory.writes_refused_at.is_some() => {
            Err(Denied::Paused(named(&directory.writes_refused_by)))
        }
        Who::Api(_) | Who::Command if Management::Provider.is_of(directory) => {
            Err(Denied::ManagedByProvider)
        }
        Who::Provider(_) | Who::Api(_) | Who::Command | Who::System => Ok(()),
    }
}
