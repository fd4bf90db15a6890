//! Directories and who is in them: the rules, without HTTP.
//!
//! Cast: a [`directory`] belongs to an organization, is reached at its [`address`]es, and is opened by
//! SCIM [`token`]s. It holds [`user`]s and [`group`]s, and [`membership`]s as rows between them; groups
//! may be in groups ([`nesting`]). A *document* is a SCIM resource as its provider gave it, without the
//! attributes that we assign; a [`profile`] is what we read from it.
//!
//! Invariants: every write runs under the directory's row lock, as an [`Actor`] whose right to write is
//! checked under that lock; a write that changes nothing writes nothing and makes no event; every change
//! makes its events in the same transaction.

use serde_json::{Map, Value};

use crate::ids::ScimTokenId;

pub mod address;
pub mod directory;
pub mod group;
pub mod membership;
pub mod nesting;
pub mod profile;
pub mod query;
pub mod resource;
pub mod token;
mod turnover;
pub mod user;

/// A SCIM resource as its provider gave it, without `id`, `meta`, `schemas` and what else we assign.
pub type Document = Map<String, Value>;

/// Who changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The identity provider, by a SCIM token that is checked again under the lock.
    Provider(ScimTokenId),
}

/// Why a directory cannot be written to by an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no such directory.
    #[error("the directory does not exist")]
    NoDirectory,
    /// The token was revoked or has expired.
    #[error("the token is no longer valid")]
    TokenInvalid,
}
