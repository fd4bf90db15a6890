//! Directories and who is in them: the rules, without HTTP.
//!
//! Cast: a [`directory`] belongs to an organization, is reached at its [`address`]es, and is opened by
//! SCIM [`token`]s. It holds [`user`]s and [`group`]s, and [`membership`]s as rows between them; groups
//! may be in groups ([`nesting`]). It ends by a [`deletion`]. Who is inactive stays or ends
//! ([`inactive`]), and who is master of all of them is a matter of [`management`]. A *document* is a SCIM resource as its provider gave it, without the
//! attributes that we assign; a [`profile`] is what we read from it.
//!
//! Invariants: every write runs under the directory's row lock, as an [`Actor`](crate::actor::Actor) whose right
//! to write is checked under that lock ([`gate`]); a write that changes nothing writes nothing and makes no event; every change
//! makes its events in the same transaction.

use serde_json::{Map, Value};

pub mod address;
pub mod checksum;
pub mod deletion;
pub mod directory;
pub mod drift;
pub mod erasure;
pub mod gate;
pub mod group;
pub mod guard;
pub mod health;
pub mod inactive;
pub mod lookup;
pub mod management;
pub mod membership;
pub mod nesting;
pub mod person;
pub mod profile;
pub mod query;
pub mod refused;
pub mod resource;
pub mod sign_in;
pub mod token;
mod turnover;
pub mod user;

pub use gate::Denied;

/// A SCIM resource as its provider gave it, without `id`, `meta`, `schemas` and what else we assign.
pub type Document = Map<String, Value>;
