//! What users and groups have in common when they are written.

use std::sync::Arc;

use sea_orm::DbErr;

use super::{Denied, Document, nesting};
use crate::storage;

/// The two kinds of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// A person.
    User,
    /// A set of people and of groups.
    Group,
}

impl ResourceKind {
    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// Why a user or a group was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The actor may not write here.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// There is no such resource in this directory.
    #[error("there is no such resource")]
    NotFound,
    /// Another user of the directory has the userName, or another group the same external id or name.
    #[error("another resource of this directory has the same identity")]
    Taken,
    /// A group cannot be a member of this one.
    #[error(transparent)]
    Nesting(#[from] nesting::Error),
    /// The change was refused by whoever asked for it.
    #[error("the change was refused")]
    Refused(#[source] Refusal),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if storage::is_unique_violation(&error) {
            Self::Taken
        } else {
            Self::Storage(error.into())
        }
    }
}

/// Why whoever asked for a change refuses it once it sees what is there.
pub type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// Computes a new document from the current resource; called again if the write is run again.
pub type Change<R> = Arc<dyn Fn(&R) -> Result<Document, Refusal> + Send + Sync>;

/// Looks at the current resource before it is deleted; called again if the write is run again.
pub type Check<R> = Arc<dyn Fn(&R) -> Result<(), Refusal> + Send + Sync>;

/// Reads a stored document.
pub(super) fn read_document(text: &str) -> Result<Document, DbErr> {
    serde_json::from_str(text).map_err(|error| DbErr::Json(error.to_string()))
}
