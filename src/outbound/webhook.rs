//! The client that delivers webhooks: to where customers say, within the [`AddressPolicy`].
//!
//! - Redirects are not followed, the environment's proxies not used, nothing is decompressed and
//!   no cookie kept: each would be a way around the policy or the limits.
//! - One deadline covers the request from the first lookup to the last byte of the answer; of the
//!   answer at most 64 KiB are read.
//! - Connections are kept and used again. A request is repeated on a new connection only when the
//!   kept one turned out to be closed before anything was sent on it.
//!
//! A URL that needs an allowed network (plain http, an unusual port) goes through a second client
//! with its own connections and a stricter resolver, so that a connection opened for one kind of
//! URL never serves the other.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Response, redirect};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::failure::{Failure, FailureKind};
use super::guard::AddressPolicy;
use super::resolver::{self, GuardedResolver};
use super::{SetupError, USER_AGENT};

const RESPONSE_BYTES_MAX: usize = 64 * 1024;
const EXCERPT_BYTES_MAX: usize = 4 * 1024;
const RESPONSE_HEAD_BYTES_MAX: u32 = 16 * 1024;
const RESPONSE_HEADERS_MAX: usize = 100;
/// A colon, a space and the end of the line.
const HEADER_EXTRA_BYTES: usize = 4;
const RETRY_AFTER_BYTES_MAX: usize = 64;
/// As many as one endpoint's lanes may use at a time.
const IDLE_CONNECTIONS_PER_HOST_MAX: usize = 64;
/// Common servers close idle connections after a minute; being first avoids needless retries.
const IDLE_CONNECTION_LIMIT: Duration = Duration::from_secs(50);

/// How long one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// To connect, TLS included. Fixed when the client is made.
    pub connect: Duration,
    /// Until the response's head is there, counted from the start.
    pub head: Duration,
    /// Until the response's body is there, counted from the start; a request may ask for less.
    pub total: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            head: Duration::from_secs(10),
            total: Duration::from_secs(20),
        }
    }
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The response's status, when its head arrived.
    pub status: Option<u16>,
    /// The response's `Retry-After`, as sent: seconds or a date (RFC 9110, section 10.2.3).
    pub retry_after: Option<String>,
    /// From the start to the end or the failure.
    pub duration: Duration,
    /// What went wrong, if anything. With a status, it happened while the body was read.
    pub failure: Option<Failure>,
    /// The first 4 KiB of the response's body; foreign text, to be escaped when shown.
    pub body_excerpt: String,
}

impl Outcome {
    /// Did the receiver take the event? Any 2xx says so; what becomes of the body after it
    /// does not matter.
    pub fn is_success(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }
}

/// Sends webhooks.
#[derive(Clone, Debug)]
pub struct WebhookClient {
    policy: AddressPolicy,
    limits: TimeLimits,
    usual: Client,
    allowed_networks_only: Client,
}

impl WebhookClient {
    /// Sets up the client; cheap to clone afterwards. Addresses are asked for at `name_servers`, or at
    /// those of the system if there are none.
    ///
    /// # Errors
    /// There are no trusted certificates.
    pub fn new(
        policy: AddressPolicy,
        limits: TimeLimits,
        name_servers: &[SocketAddr],
    ) -> Result<Self, SetupError> {
        let names = resolver::names(name_servers).map_err(|error| SetupError(error.to_string()))?;
        let usual = build(&policy, limits, names.clone(), false)?;
        let allowed_networks_only = build(&policy, limits, names, true)?;
        Ok(Self {
            policy,
            limits,
            usual,
            allowed_networks_only,
        })
    }

    /// Which addresses this client sends to.
    pub fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// Posts a JSON body. Never fails as such: what went wrong is part of the outcome.
    ///
    /// `headers` are added to `Content-Type` and `User-Agent`; it takes no longer than `within`.
    pub async fn post(
        &self,
        url: &Url,
        headers: &[(String, String)],
        body: &str,
        within: Duration,
    ) -> Outcome {
        let total = self.limits.total.min(within);
        let started = Instant::now();
        let mut outcome = Outcome {
            status: None,
            retry_after: None,
            duration: Duration::ZERO,
            failure: None,
            body_excerpt: String::new(),
        };
        match self.exchange(url, headers, body, started, total).await {
            Ok(response) => {
                outcome.status = Some(response.status().as_u16());
                outcome.retry_after = retry_after(response.headers());
                let mut excerpt = Vec::new();
                outcome.failure = Self::read(response, &mut excerpt, started, total)
                    .await
                    .err();
                outcome.body_excerpt = String::from_utf8_lossy(&excerpt).into_owned();
            }
            Err(failure) => outcome.failure = Some(failure),
        }
        outcome.duration = started.elapsed();
        outcome
    }

    /// Sends the request and waits for the response's head.
    async fn exchange(
        &self,
        url: &Url,
        headers: &[(String, String)],
        body: &str,
        started: Instant,
        total: Duration,
    ) -> Result<Response, Failure> {
        // Again before every request: the configuration may have changed since the URL was
        // entered, and an address in the URL never passes the resolver.
        let target = self
            .policy
            .check_url(url.as_str())
            .map_err(|error| Failure::forbidden(&error))?;
        let client = if target.allowed_networks_only {
            &self.allowed_networks_only
        } else {
            &self.usual
        };
        let request = client
            .post(target.url)
            .headers(header_map(headers)?)
            .body(String::from(body))
            .send();
        let limit = self.limits.head.min(total);
        match timeout_at(started + limit, request).await {
            Ok(Ok(response)) => check_head(response),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_elapsed) => Err(Failure::no_head(limit)),
        }
    }

    /// Reads the body up to the limit. A body read to its end leaves the connection fit for the
    /// next request; of a longer one the rest is dropped together with the connection.
    async fn read(
        mut response: Response,
        excerpt: &mut Vec<u8>,
        started: Instant,
        within: Duration,
    ) -> Result<(), Failure> {
        let mut total = 0;
        while total < RESPONSE_BYTES_MAX {
            match timeout_at(started + within, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    total += chunk.len();
                    let room = EXCERPT_BYTES_MAX.saturating_sub(excerpt.len());
                    excerpt.extend(chunk.iter().take(room));
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(Failure::of(&error)),
                Err(_elapsed) => return Err(Failure::no_end(within)),
            }
        }
        Ok(())
    }
}

fn build(
    policy: &AddressPolicy,
    limits: TimeLimits,
    names: TokioResolver,
    allowed_networks_only: bool,
) -> Result<Client, SetupError> {
    builder(policy, limits, names, allowed_networks_only)
        .build()
        .map_err(|error| SetupError::new(&error))
}

/// A client that goes only where the policy lets it, and nowhere else than it is told.
pub(super) fn builder(
    policy: &AddressPolicy,
    limits: TimeLimits,
    names: TokioResolver,
    allowed_networks_only: bool,
) -> ClientBuilder {
    let resolver = GuardedResolver::new(names, policy.clone(), allowed_networks_only);
    ClientBuilder::new()
        .user_agent(USER_AGENT)
        .dns_resolver(resolver)
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(limits.connect)
        .tcp_nodelay(true)
        .http1_max_headers(RESPONSE_HEADERS_MAX)
        .http2_max_header_list_size(RESPONSE_HEAD_BYTES_MAX)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST_MAX)
        .pool_idle_timeout(IDLE_CONNECTION_LIMIT)
}

/// HTTP/2 is told the limit; of HTTP/1 more has been read by now, but no more than some 400 KiB.
fn check_head(response: Response) -> Result<Response, Failure> {
    let bytes = response.headers().iter().fold(0, |sum, (name, value)| {
        sum + name.as_str().len() + value.len() + HEADER_EXTRA_BYTES
    });
    if bytes <= RESPONSE_HEAD_BYTES_MAX as usize {
        return Ok(response);
    }
    let message = format!("the response's headers are longer than {RESPONSE_HEAD_BYTES_MAX} bytes");
    Err(Failure::new(FailureKind::Protocol, &message))
}

fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::with_capacity(headers.len() + 1);
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        let parsed = (HeaderName::try_from(name), HeaderValue::try_from(value));
        let (Ok(header), Ok(value)) = parsed else {
            let message = format!("the header {name:?} cannot be sent: not a valid name or value");
            return Err(Failure::new(FailureKind::Protocol, &message));
        };
        map.insert(header, value);
    }
    Ok(map)
}

fn retry_after(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= RETRY_AFTER_BYTES_MAX).then(|| String::from(text))
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
