//! How an endpoint wants its events.

use std::time::Duration;

use crate::storage::tables::endpoints;

/// How many requests an endpoint gets at once, unless it says otherwise.
pub const MAX_IN_FLIGHT: i32 = 32;
/// How long one request may take, unless it says otherwise.
pub const TIMEOUT_MS: i32 = 20_000;

/// What is kept in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// An event after those that it depends on.
    #[default]
    Causal,
    /// All events of a directory.
    Strict,
    /// Nothing.
    None,
}

impl Ordering {
    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Causal => "causal",
            Self::Strict => "strict",
            Self::None => "none",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Causal, Self::Strict, Self::None]
            .into_iter()
            .find(|ordering| ordering.as_str() == text)
    }
}

/// How an endpoint wants its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is kept in order.
    pub ordering: Ordering,
    /// How many requests may be on their way at once, over all nodes.
    pub max_in_flight: usize,
    /// How many requests may be sent a second, over all nodes.
    pub rate_per_second: Option<u32>,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Options {
    /// Those of an endpoint.
    pub fn of(row: &endpoints::Model) -> Self {
        let positive = |number: i32| u32::try_from(number).ok().filter(|number| *number > 0);
        Self {
            ordering: Ordering::parse(&row.ordering).unwrap_or_default(),
            max_in_flight: usize::try_from(row.max_in_flight).unwrap_or(1).max(1),
            rate_per_second: row.rate_per_second.and_then(positive),
            timeout: Duration::from_millis(u64::from(
                positive(row.timeout_ms).unwrap_or(TIMEOUT_MS.unsigned_abs()),
            )),
        }
    }
}
