//! Whether a webhook's receiver can be reached at all, without sending it an event.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::tls::TlsInfo;
use tokio::time::timeout;
use url::Url;

use super::failure::{Failure, FailureKind};
use super::guard::AddressPolicy;
use super::webhook::{TimeLimits, builder};
use super::{SetupError, certificate, resolver};

/// A receiver that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// With which status; any shows that somebody is there.
    pub status: u16,
    /// Until when its certificate is valid, where there is one.
    pub certificate_ends: Option<DateTime<Utc>>,
}

/// Asks a receiver for nothing (`HEAD`), within the rules and limits for webhooks.
///
/// # Errors
/// It cannot be reached, or its certificate is not trusted.
pub async fn reach(
    policy: &AddressPolicy,
    name_servers: &[SocketAddr],
    url: &str,
    within: Duration,
) -> Result<Reached, Failure> {
    let target = policy
        .check_url(url)
        .map_err(|error| Failure::forbidden(&error))?;
    let names = resolver::names(name_servers)
        .map_err(|error| Failure::new(FailureKind::Dns, &error.to_string()))?;
    let only = target.allowed_networks_only;
    let client = builder(policy, TimeLimits::default(), names, only)
        .tls_info(true)
        .build()
        .map_err(|error| Failure::new(FailureKind::Tls, &SetupError::new(&error).to_string()))?;
    let url: Url = target.url;
    match timeout(within, client.head(url).send()).await {
        Ok(Ok(response)) => Ok(Reached {
            status: response.status().as_u16(),
            certificate_ends: response
                .extensions()
                .get::<TlsInfo>()
                .and_then(TlsInfo::peer_certificate)
                .and_then(certificate::ends_at),
        }),
        Ok(Err(error)) => Err(Failure::of(&error)),
        Err(_elapsed) => Err(Failure::no_head(within)),
    }
}
