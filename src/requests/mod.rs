//! The request log: what identity providers asked of each directory, and what they were answered.
//!
//! Cast: a [`Record`] is one request with its [`Subject`]s, the names by which somebody may look for the
//! person or group that it was about, also when it was refused. Records wait in a [`Queue`] and are
//! written in batches, off the path of the requests themselves. What became of a refused request is
//! one of the [`situations`], which say in plain words what happened and what to do.
//!
//! Invariants: no record makes a request wait or fail; no secret gets into a record ([`redact`]).

mod queue;
pub mod read;
pub mod redact;
pub mod retention;
pub mod situations;
mod write;

pub use queue::Queue;

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::ids::{DirectoryId, RequestId, ResourceId, ScimTokenId};
use crate::secrets::{Token, TokenKind};

/// Longer names are not looked for by: no index holds them.
const SUBJECT_BYTES_MAX: usize = 2_000;

/// A request that has been answered.
#[derive(Clone, Debug)]
pub struct Record {
    /// The id that its answer carries.
    pub id: RequestId,
    /// When it was answered.
    pub at: DateTime<Utc>,
    /// The directory that it was for.
    pub directory: Place,
    /// The HTTP method.
    pub method: String,
    /// Path and query, redacted.
    pub path: String,
    /// What follows the directory's base URL in the path.
    pub endpoint: String,
    /// The HTTP status.
    pub status: u16,
    /// How long it took.
    pub duration: Duration,
    /// The token that came with it.
    pub token: Presented,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The client's address.
    pub address: Option<String>,
    /// The `scimType` of an error.
    pub scim_type: Option<String>,
    /// The text of an error.
    pub detail: Option<String>,
    /// What was sent, redacted.
    pub request_body: Option<String>,
    /// What was answered, if it was an error.
    pub response_body: Option<String>,
    /// Whom it was about.
    pub subjects: Vec<Subject>,
}

/// The directory that a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The one that its token opened.
    Known(DirectoryId),
    /// Whichever has this address, if any.
    At(String),
}

/// How a request tried to open a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// With a token that opened it.
    Opened(ScimTokenId),
    /// With no token at all.
    Nothing,
    /// With several `Authorization` headers.
    Several,
    /// By another scheme than `Bearer`.
    OtherScheme,
    /// With an API key.
    ApiKey,
    /// With a SCIM token that was cut off or mistyped.
    Damaged,
    /// With something that is no token of ours.
    Foreign,
    /// With a well-formed SCIM token that did not open it.
    Token {
        /// What it is looked up by.
        digest: Vec<u8>,
        /// Its last characters.
        suffix: String,
    },
}

impl Presented {
    /// Tells what the text of a refused token is.
    pub fn refused(text: &str) -> Self {
        if let Some(token) = Token::parse(TokenKind::Scim, text) {
            return Self::Token {
                digest: token.digest().to_vec(),
                suffix: token.suffix().to_owned(),
            };
        }
        if text.is_empty() {
            Self::Nothing
        } else if text.starts_with(TokenKind::ApiKey.prefix()) {
            Self::ApiKey
        } else if text.contains(TokenKind::Scim.prefix()) {
            Self::Damaged
        } else {
            Self::Foreign
        }
    }
}

impl Record {
    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let texts = [
            Some(&self.method),
            Some(&self.path),
            Some(&self.endpoint),
            self.user_agent.as_ref(),
            self.detail.as_ref(),
            self.request_body.as_ref(),
            self.response_body.as_ref(),
        ];
        let subjects = self.subjects.iter().map(Subject::bytes);
        size_of::<Self>()
            + texts.into_iter().flatten().map(String::len).sum::<usize>()
            + subjects.sum::<usize>()
    }
}

/// A name by which a person or a group is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The folded userName.
    UserName(String),
    /// A folded e-mail address.
    Email(String),
    /// The folded name of a group.
    DisplayName(String),
    /// The provider's own id.
    ExternalId(String),
    /// The SCIM resource.
    Resource(ResourceId),
}

impl Subject {
    fn bytes(&self) -> usize {
        let text = match self {
            Self::UserName(text)
            | Self::Email(text)
            | Self::DisplayName(text)
            | Self::ExternalId(text) => text.len(),
            Self::Resource(_) => 0,
        };
        size_of::<Self>() + text
    }

    /// As it is stored and compared; `None` if it is too long for that, or holds a secret.
    fn key(&self) -> Option<String> {
        let key = self.to_string().replace('\0', "");
        (key.len() <= SUBJECT_BYTES_MAX && !redact::has_token(&key)).then_some(key)
    }
}

/// As it is stored and compared.
impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserName(key) => write!(formatter, "user_name:{key}"),
            Self::Email(key) => write!(formatter, "email:{key}"),
            Self::DisplayName(key) => write!(formatter, "display_name:{key}"),
            Self::ExternalId(id) => write!(formatter, "external_id:{id}"),
            Self::Resource(id) => write!(formatter, "id:{id}"),
        }
    }
}
