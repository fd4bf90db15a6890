//! Who does something, and in which request: what a write is done for.
//!
//! Rules that depend on it are in [`crate::directories`]; the log and the audit trail write it down as
//! text, ids only.

use std::fmt;

use crate::ids::{ApiKeyId, RequestId, ScimTokenId};

/// Who does something, and in which request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Who.
    pub who: Who,
    /// The HTTP request by which it was asked for.
    pub request_id: Option<RequestId>,
}

/// Somebody who can change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// An identity provider, by a SCIM token that is checked again under its directory's lock.
    Provider(ScimTokenId),
    /// A vendor's program, by an API key.
    Api(ApiKeyId),
    /// Somebody at a command line, who has the database.
    Command,
    /// The server itself, at its time.
    System,
}

impl Actor {
    /// Somebody at a command line.
    pub const COMMAND: Self = Self {
        who: Who::Command,
        request_id: None,
    };

    /// The server itself.
    pub const SYSTEM: Self = Self {
        who: Who::System,
        request_id: None,
    };
}

/// `directory_token_…`, `api_key_…`, `command` or `system`.
impl fmt::Display for Who {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(token) => token.fmt(formatter),
            Self::Api(key) => key.fmt(formatter),
            Self::Command => formatter.write_str("command"),
            Self::System => formatter.write_str("system"),
        }
    }
}
