//! Every HTTP request that leaves this process; the only place that names the HTTP client.
//!
//! Two clients for two kinds of address. [`WebhookClient`] goes where customers say, and therefore
//! only where [`AddressPolicy`] lets it, within [`TimeLimits`], without redirects, proxies or
//! cookies. [`ApiClient`] goes where the person at the keyboard says (the command line towards a
//! remote server, the simulated identity provider) and is not restricted.
//!
//! Neither returns the HTTP client's types or errors: an answer is plain data, and a [`Failure`]
//! says in one word what went wrong.

mod certificate;
mod failure;
mod guard;
mod peer;
mod reach;
mod resolver;
mod webhook;

pub use failure::{Failure, FailureKind};
pub use guard::{AddressPolicy, Forbidden, Target, UrlError};
pub use peer::{ApiClient, ApiError, ApiResponse};
pub use reach::{Reached, reach};
pub use webhook::{Outcome, TimeLimits, WebhookClient};

/// What receivers see as `User-Agent`.
const USER_AGENT: &str = concat!("rollcall/", env!("CARGO_PKG_VERSION"));

/// The HTTP client cannot be set up; in practice, the machine has no trusted certificates.
#[derive(Debug, thiserror::Error)]
#[error(
    "the HTTP client cannot be set up: {0}; \
     if it says that there are no certificates, install the package ca-certificates"
)]
pub struct SetupError(String);

impl SetupError {
    fn new(error: &reqwest::Error) -> Self {
        Self(failure::deepest_message(error))
    }
}
