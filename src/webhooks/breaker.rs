//! The breaker of an endpoint: what tells a dead endpoint from a poisonous event. Pure.
//!
//! It opens when ten requests in a row have failed and they were about at least five events. While it is
//! open, nothing is read for the endpoint and single probes go out, further and further apart, up to five
//! minutes. A probe that succeeds closes it, and the number of requests at once grows again from one.
//! Failures of an endpoint are not held against its events.

use std::collections::BTreeSet;

const FAILURES_TO_OPEN: u32 = 10;
const EVENTS_TO_OPEN: usize = 5;
const PROBE_DELAY_MS: i64 = 5_000;
const PROBE_DELAY_MAX_MS: i64 = 300_000;
const DOUBLINGS_MAX: u32 = 6;

/// How an endpoint fares.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Requests go out; `limit` grows with each success.
    Closed,
    /// One probe goes out at `probe_at_ms`.
    Open { probe_at_ms: i64, probes: u32 },
}

/// The breaker of one endpoint, as one node sees it.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    failures: u32,
    failed_events: BTreeSet<i64>,
    limit: usize,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed,
            failures: 0,
            failed_events: BTreeSet::new(),
            limit: usize::MAX,
        }
    }
}

impl Breaker {
    /// Whether requests go out as usual.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// How many requests may be on their way at once, out of `configured`.
    pub fn limit(&self, configured: usize, now_ms: i64) -> usize {
        match self.state {
            State::Closed => configured.min(self.limit),
            State::Open { probe_at_ms, .. } => usize::from(now_ms >= probe_at_ms),
        }
    }

    /// When the next probe is due, while it is open.
    pub fn probe_at_ms(&self) -> Option<i64> {
        match self.state {
            State::Closed => None,
            State::Open { probe_at_ms, .. } => Some(probe_at_ms),
        }
    }

    /// A request succeeded. Returns whether this closed the breaker.
    pub fn succeeded(&mut self) -> bool {
        let has_closed = !self.is_closed();
        self.failures = 0;
        self.failed_events.clear();
        self.limit = if has_closed {
            1
        } else {
            self.limit.saturating_mul(2)
        };
        self.state = State::Closed;
        has_closed
    }

    /// A request about the event at `position` failed. Returns whether this opened the breaker.
    pub fn failed(&mut self, position: i64, now_ms: i64) -> bool {
        if let State::Open {
            probe_at_ms,
            probes,
        } = self.state
        {
            // Requests that were on their way when it opened are not probes.
            if now_ms >= probe_at_ms {
                self.state = State::Open {
                    probe_at_ms: now_ms + probe_delay_ms(probes + 1),
                    probes: probes + 1,
                };
            }
            return false;
        }
        self.failures += 1;
        if self.failed_events.len() < EVENTS_TO_OPEN {
            self.failed_events.insert(position);
        }
        if self.failures < FAILURES_TO_OPEN || self.failed_events.len() < EVENTS_TO_OPEN {
            return false;
        }
        self.state = State::Open {
            probe_at_ms: now_ms + probe_delay_ms(0),
            probes: 0,
        };
        true
    }
}

fn probe_delay_ms(probes: u32) -> i64 {
    (PROBE_DELAY_MS << probes.min(DOUBLINGS_MAX)).min(PROBE_DELAY_MAX_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_poisonous_event_never_opens_it() {
        let mut breaker = Breaker::default();
        for now in 0..100 {
            assert!(!breaker.failed(7, now));
        }
        assert!(breaker.is_closed());
    }

    #[test]
    fn it_opens_on_many_events_probes_with_growing_pauses_and_ramps_up_again() {
        let mut breaker = Breaker::default();
        let opened = (0..10)
            .map(|position| breaker.failed(position, 0))
            .filter(|opened| *opened);
        assert_eq!(opened.count(), 1);
        assert_eq!(breaker.limit(32, 4_999), 0);
        assert_eq!(breaker.limit(32, 5_000), 1);

        breaker.failed(3, 5_000);
        assert_eq!(breaker.probe_at_ms(), Some(15_000));
        for _ in 0..20 {
            breaker.failed(3, breaker.probe_at_ms().unwrap());
        }
        let last = breaker.probe_at_ms().unwrap();
        breaker.failed(3, last);
        assert_eq!(breaker.probe_at_ms(), Some(last + PROBE_DELAY_MAX_MS));

        assert!(breaker.succeeded());
        assert_eq!(breaker.limit(32, 0), 1);
        breaker.succeeded();
        breaker.succeeded();
        assert_eq!(breaker.limit(32, 0), 4);
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let mut breaker = Breaker::default();
        for position in 0..1_000 {
            if position % 9 == 0 {
                breaker.succeeded();
            }
            assert!(!breaker.failed(position, 0));
        }
    }
}
