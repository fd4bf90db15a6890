//! How fast an endpoint is sent to. Pure.
//!
//! The number of requests at once halves when the endpoint says that it is too much (429, 503) or does not
//! answer in time, at most once per round trip, and grows by one with each success; that is also how it
//! doubles from round to round after an endpoint was down. A `Retry-After` pauses the endpoint as a whole,
//! but not for long: a mistaken header must not stop it for a day. A rate limit is a bucket that holds the
//! requests of one second.

use std::time::Duration;

use super::endpoint::Options;

/// How long a receiver can pause its endpoint.
const PAUSE_MAX_MS: i64 = 300_000;
/// What one request takes out of the bucket, which fills by the rate each millisecond.
const REQUEST: i64 = 1_000;

/// What one node may use of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Requests at once.
    pub in_flight: usize,
    /// Requests a second.
    pub rate: Option<u32>,
}

impl Share {
    /// What each of so many nodes may use.
    pub fn of(options: &Options, nodes: usize) -> Self {
        let nodes = nodes.max(1);
        let divisor = u32::try_from(nodes).unwrap_or(u32::MAX);
        Self {
            in_flight: (options.max_in_flight / nodes).max(1),
            rate: options.rate_per_second.map(|rate| (rate / divisor).max(1)),
        }
    }
}

/// How fast one node sends to an endpoint.
#[derive(Clone, Debug)]
pub struct Pace {
    limit: usize,
    /// When the limit was halved, on the monotonic clock.
    halved_at_ms: i64,
    paused_until_ms: i64,
    bucket: i64,
    filled_at_ms: i64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            limit: usize::MAX,
            halved_at_ms: i64::MIN,
            paused_until_ms: i64::MIN,
            bucket: i64::MAX,
            filled_at_ms: 0,
        }
    }
}

impl Pace {
    /// How many requests may be on their way at once.
    pub fn limit(&self, share: Share) -> usize {
        self.limit.min(share.in_flight)
    }

    /// A request succeeded.
    pub fn succeeded(&mut self, share: Share) {
        self.limit = self.limit(share).saturating_add(1).min(share.in_flight);
    }

    /// A request was too much. It left at `sent_at_ms` on the monotonic clock, which shows now `now_ms`:
    /// requests that left before the limit was halved say nothing about the new one.
    pub fn overloaded(&mut self, share: Share, sent_at_ms: i64, now_ms: i64) {
        if sent_at_ms >= self.halved_at_ms {
            self.limit = (self.limit(share) / 2).max(1);
            self.halved_at_ms = now_ms;
        }
    }

    /// The receiver asks for a pause.
    pub fn pause(&mut self, wait: Duration, now_ms: i64) {
        let wait = i64::try_from(wait.as_millis()).unwrap_or(PAUSE_MAX_MS);
        let until = now_ms.saturating_add(wait.min(PAUSE_MAX_MS));
        self.paused_until_ms = self.paused_until_ms.max(until);
    }

    /// Begins again with one request at once.
    pub fn restart(&mut self) {
        self.limit = 1;
        self.paused_until_ms = i64::MIN;
    }

    /// When the next request may leave; `now_ms` if it may now.
    pub fn free_at_ms(&self, share: Share, now_ms: i64) -> i64 {
        // A clock that was set back must not make the pause longer.
        let pause = self.paused_until_ms.saturating_sub(now_ms);
        let pause = if pause > PAUSE_MAX_MS {
            0
        } else {
            pause.max(0)
        };
        let missing = share.rate.map_or(0, |rate| {
            let missing = REQUEST.saturating_sub(self.filled(rate, now_ms)).max(0);
            let rate = i64::from(rate.max(1));
            missing.saturating_add(rate - 1) / rate
        });
        now_ms.saturating_add(pause.max(missing))
    }

    /// A request leaves.
    pub fn sent(&mut self, share: Share, now_ms: i64) {
        if let Some(rate) = share.rate {
            self.bucket = self.filled(rate, now_ms).saturating_sub(REQUEST);
            self.filled_at_ms = now_ms;
        }
    }

    /// How full the bucket is.
    fn filled(&self, rate: u32, now_ms: i64) -> i64 {
        let rate = i64::from(rate);
        let full = rate.saturating_mul(REQUEST);
        let elapsed = now_ms.saturating_sub(self.filled_at_ms);
        // What a clock that was set back means is not known, but a second is enough to fill it.
        let gained = if elapsed < 0 {
            full
        } else {
            elapsed.saturating_mul(rate)
        };
        self.bucket.saturating_add(gained).min(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Share = Share {
        in_flight: 32,
        rate: None,
    };

    fn rate(rate: u32) -> Share {
        Share {
            in_flight: 32,
            rate: Some(rate),
        }
    }

    #[test]
    fn the_nodes_share_what_an_endpoint_takes_and_each_has_at_least_one() {
        let options = |rate_per_second| Options {
            ordering: crate::webhooks::endpoint::Ordering::Causal,
            max_in_flight: 32,
            rate_per_second,
            timeout: Duration::from_secs(20),
        };
        assert_eq!(Share::of(&options(None), 1), SHARE);
        let third = Share::of(&options(Some(10)), 3);
        assert_eq!((third.in_flight, third.rate), (10, Some(3)));
        let many = Share::of(&options(Some(10)), 100);
        assert_eq!((many.in_flight, many.rate), (1, Some(1)));
    }

    #[test]
    fn the_limit_halves_once_per_round_trip_and_grows_by_one() {
        let mut pace = Pace::default();
        assert_eq!(pace.limit(SHARE), 32);
        for late in 0..10 {
            pace.overloaded(SHARE, 100 + late, 200 + late);
        }
        assert_eq!(pace.limit(SHARE), 16, "all of them left before it halved");
        pace.overloaded(SHARE, 300, 400);
        assert_eq!(pace.limit(SHARE), 8);
        pace.succeeded(SHARE);
        assert_eq!(pace.limit(SHARE), 9);
        for _ in 0..100 {
            pace.succeeded(SHARE);
        }
        assert_eq!(pace.limit(SHARE), 32);
        for round in 0..100 {
            pace.overloaded(SHARE, 1_000 + round, 1_000 + round);
        }
        assert_eq!(pace.limit(SHARE), 1, "never nothing");
    }

    #[test]
    fn after_a_restart_it_doubles_from_round_to_round() {
        let mut pace = Pace::default();
        pace.restart();
        let mut rounds = Vec::new();
        for _ in 0..7 {
            let round = pace.limit(SHARE);
            rounds.push(round);
            for _ in 0..round {
                pace.succeeded(SHARE);
            }
        }
        assert_eq!(rounds, [1, 2, 4, 8, 16, 32, 32]);
    }

    #[test]
    fn a_pause_ends_after_five_minutes_at_the_latest() {
        let mut pace = Pace::default();
        pace.pause(Duration::from_secs(7), 1_000);
        assert_eq!(pace.free_at_ms(SHARE, 1_000), 8_000);
        assert_eq!(pace.free_at_ms(SHARE, 8_000), 8_000);
        assert_eq!(pace.free_at_ms(SHARE, 9_000), 9_000);
        pace.pause(Duration::from_hours(24), 10_000);
        assert_eq!(pace.free_at_ms(SHARE, 10_000), 310_000);
        assert_eq!(pace.free_at_ms(SHARE, -1_000_000), -1_000_000, "set back");
    }

    #[test]
    fn no_second_sees_more_than_the_rate_beyond_one_burst() {
        for rate_per_second in [1, 3, 7, 100] {
            let share = rate(rate_per_second);
            let mut pace = Pace::default();
            let mut sent = Vec::new();
            let mut now = 0;
            while now < 10_000 {
                while pace.free_at_ms(share, now) <= now {
                    pace.sent(share, now);
                    sent.push(now);
                }
                let free = pace.free_at_ms(share, now);
                assert!(free > now, "time goes on");
                now = free;
            }
            let per_second = usize::try_from(rate_per_second).unwrap();
            let first = sent.iter().filter(|at| **at == 0).count();
            assert_eq!(first, per_second, "one burst");
            assert!(sent.len() <= 11 * per_second, "{}", sent.len());
            assert!(sent.len() >= 10 * per_second, "{}", sent.len());
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_it() {
        let share = rate(2);
        let mut pace = Pace::default();
        pace.sent(share, 1_000_000);
        pace.sent(share, 1_000_000);
        assert!(pace.free_at_ms(share, 1_000_000) > 1_000_000);
        assert_eq!(pace.free_at_ms(share, 5), 5);
    }
}
