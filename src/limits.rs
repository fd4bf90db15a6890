//! How much anybody may ask for: rates per directory, per key, and of failed authentications; sizes; and
//! how much may be under way at once.
//!
//! The limits are per node and in memory. A failed authentication counts per address *and* directory,
//! because providers share addresses among tenants, and it never refuses a valid token.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config;
use crate::ids::{ApiKeyId, DirectoryId};

/// How much of a directory's name in a URL tells it from others.
const DIRECTORY_CHARS_MAX: usize = 64;

/// The limits of a node.
#[derive(Debug)]
pub struct Limits {
    scim: Rate<DirectoryId>,
    api: Rate<ApiKeyId>,
    failures: Rate<(String, String)>,
    /// A permit for each byte that bodies may have together.
    bodies: Arc<Semaphore>,
    /// How many bytes the path and the query of a request may have.
    pub request_target_bytes: usize,
    /// How many bytes the body of a SCIM request about users may have.
    pub scim_user_body_bytes: usize,
    /// How many bytes the body of a SCIM request about groups may have.
    pub scim_group_body_bytes: usize,
    /// How many bytes the body of an API request may have.
    pub api_body_bytes: usize,
}

impl Limits {
    /// Reads the limits from the configuration; 0 means no limit.
    pub fn new(settings: &config::Limits) -> Self {
        let scim_burst = settings.scim_burst;
        Self {
            scim: Rate::per_second(settings.scim_requests_per_second, scim_burst),
            api: Rate::per_second(settings.api_requests_per_second, 0),
            failures: Rate::per_minute(settings.failed_auth_per_minute),
            bodies: Arc::new(Semaphore::new(settings.bodies_in_flight_bytes)),
            request_target_bytes: settings.request_target_bytes,
            scim_user_body_bytes: settings.scim_user_body_bytes,
            scim_group_body_bytes: settings.scim_group_body_bytes,
            api_body_bytes: settings.api_body_bytes,
        }
    }

    /// Counts a SCIM request of a directory.
    ///
    /// # Errors
    /// The directory asks too often; the answer is how long to wait.
    pub fn scim(&self, directory_id: DirectoryId) -> Result<(), Duration> {
        self.scim.check(&directory_id)
    }

    /// Counts an API request of a key.
    ///
    /// # Errors
    /// The key asks too often; the answer is how long to wait.
    pub fn api(&self, key_id: ApiKeyId) -> Result<(), Duration> {
        self.api.check(&key_id)
    }

    /// Counts a failed authentication from an address at a directory (or at the API, which is `""`).
    ///
    /// # Errors
    /// There were too many; the answer is how long to wait.
    pub fn failed_authentication(&self, address: &str, directory: &str) -> Result<(), Duration> {
        // The directory is what a stranger wrote into a URL; no more of it is kept than a key is long.
        let directory = directory.chars().take(DIRECTORY_CHARS_MAX).collect();
        self.failures.check(&(address.to_owned(), directory))
    }

    /// Makes room for a body beside those that are there, until the permit is dropped; `None` if there
    /// is no room.
    pub fn room_for_body(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.bodies).try_acquire_many_owned(bytes).ok()
    }

    /// Forgets who has not asked for long.
    pub fn forget_idle(&self) {
        self.scim.forget_idle();
        self.api.forget_idle();
        self.failures.forget_idle();
    }
}

/// A rate per key, or none.
#[derive(Debug)]
struct Rate<K: std::hash::Hash + Eq + Clone>(Option<DefaultKeyedRateLimiter<K>>);

impl<K: std::hash::Hash + Eq + Clone> Rate<K> {
    /// So many a second, and at least so many at once.
    fn per_second(rate: u32, burst: u32) -> Self {
        Self(NonZeroU32::new(rate).map(|rate| {
            let burst = NonZeroU32::new(burst).map_or(rate, |burst| burst.max(rate));
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))
        }))
    }

    fn per_minute(rate: u32) -> Self {
        Self(NonZeroU32::new(rate).map(|rate| RateLimiter::keyed(Quota::per_minute(rate))))
    }

    fn check(&self, key: &K) -> Result<(), Duration> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        limiter
            .check_key(key)
            .map_err(|refused| refused.wait_time_from(DefaultClock::default().now()))
    }

    fn forget_idle(&self) {
        if let Some(limiter) = &self.0 {
            limiter.retain_recent();
        }
    }
}

/// `Retry-After` in whole seconds, at least one: Okta reads nothing else.
pub fn retry_after(wait: Duration) -> String {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    seconds.max(1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_means_no_limit() {
        let rate = Rate::per_second(0, 0);
        assert!((0..10_000).all(|_| rate.check(&1).is_ok()));
    }

    #[test]
    fn a_rate_is_counted_per_key() {
        let rate = Rate::per_minute(3);
        assert!((0..3).all(|_| rate.check(&1).is_ok()));
        assert!(rate.check(&1).is_err());
        assert!(rate.check(&2).is_ok());
    }

    #[test]
    fn retry_after_is_rounded_up() {
        assert_eq!(retry_after(Duration::from_millis(1)), "1");
        assert_eq!(retry_after(Duration::from_millis(2_001)), "3");
        assert_eq!(retry_after(Duration::ZERO), "1");
    }
}
