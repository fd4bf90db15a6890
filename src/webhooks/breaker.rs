//! The breaker of an endpoint: what tells a dead endpoint from a poisonous event. Pure.
//!
//! It opens when ten requests in a row have failed and they were about at least five events, or when of at
//! least twenty events tried within half a minute half have failed. Each event counts once there, so that a
//! few poisonous ones, however often they are tried, do not open it among healthy ones. While it is open,
//! nothing is read for the endpoint and single probes go out, further and further apart, up to five
//! minutes; a probe that succeeds closes it. Failures of an endpoint are not held against its events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::retry;

const FAILURES_TO_OPEN: u32 = 10;
const EVENTS_TO_OPEN: usize = 5;
const WINDOW_MS: i64 = 30_000;
const WINDOW_EVENTS_MIN: usize = 20;
/// How many results are remembered at most.
const WINDOW_RESULTS_MAX: usize = 256;
const PROBE_DELAY_MS: i64 = 5_000;
const PROBE_DELAY_MAX_MS: i64 = 300_000;
const DOUBLINGS_MAX: u32 = 6;

/// How an endpoint fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Requests go out.
    Closed,
    /// Nothing goes out but probes.
    Open { next: Probe, may_probe: bool },
}

/// When the next probe goes out, and how many went before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it is due.
    pub at_ms: i64,
    /// How many went before it.
    pub number: u32,
}

/// How one request ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    at_ms: i64,
    position: i64,
    is_success: bool,
}

/// The breaker of one endpoint, as one node sees it.
#[derive(Clone, Debug)]
pub struct Breaker {
    /// Makes the jitter of the probes.
    salt: u64,
    state: State,
    failures: u32,
    failed_events: BTreeSet<i64>,
    recent: VecDeque<Ended>,
}

impl Breaker {
    /// A closed one.
    pub fn new(salt: u64) -> Self {
        Self {
            salt,
            state: State::Closed,
            failures: 0,
            failed_events: BTreeSet::new(),
            recent: VecDeque::new(),
        }
    }

    /// Whether requests go out as usual.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The next probe, while it is open.
    pub fn next_probe(&self) -> Option<Probe> {
        match self.state {
            State::Closed => None,
            State::Open { next, .. } => Some(next),
        }
    }

    /// The probe after the next one, if that goes out now.
    pub fn probe_after(&self, next: Probe, now_ms: i64) -> Probe {
        self.probe(next.number.saturating_add(1), now_ms)
    }

    /// Whether a probe may go out now.
    pub fn may_probe(&self) -> bool {
        matches!(
            self.state,
            State::Open {
                may_probe: true,
                ..
            }
        )
    }

    /// Lets one probe go out, if it is open; `next` is the one after it.
    pub fn allow_probe(&mut self, next: Probe) {
        if !self.is_closed() {
            self.state = State::Open {
                next,
                may_probe: true,
            };
        }
    }

    /// A request goes out.
    pub fn sent(&mut self) {
        if let State::Open { may_probe, .. } = &mut self.state {
            *may_probe = false;
        }
    }

    /// Opens it, as another node has done.
    pub fn open(&mut self, next: Probe) {
        self.forget();
        self.state = State::Open {
            next,
            may_probe: false,
        };
    }

    /// Opens it at once. Returns whether it was closed.
    pub fn trip(&mut self, now_ms: i64) -> bool {
        let was_closed = self.is_closed();
        if was_closed {
            self.open(self.probe(0, now_ms));
        }
        was_closed
    }

    /// Closes it. Returns whether it was open.
    pub fn close(&mut self) -> bool {
        let was_open = !self.is_closed();
        self.forget();
        self.state = State::Closed;
        was_open
    }

    /// A request about the event at `position` succeeded. Returns whether this closed the breaker.
    pub fn succeeded(&mut self, position: i64, now_ms: i64) -> bool {
        if !self.is_closed() {
            return self.close();
        }
        self.failures = 0;
        self.failed_events.clear();
        self.remember(position, true, now_ms);
        false
    }

    /// A request about the event at `position` failed. Returns whether this opened the breaker.
    pub fn failed(&mut self, position: i64, now_ms: i64) -> bool {
        if !self.is_closed() {
            return false;
        }
        self.failures += 1;
        if self.failed_events.len() < EVENTS_TO_OPEN {
            self.failed_events.insert(position);
        }
        self.remember(position, false, now_ms);
        let is_row =
            self.failures >= FAILURES_TO_OPEN && self.failed_events.len() >= EVENTS_TO_OPEN;
        (is_row || self.fails_often()) && self.trip(now_ms)
    }

    fn remember(&mut self, position: i64, is_success: bool, now_ms: i64) {
        self.recent.push_back(Ended {
            at_ms: now_ms,
            position,
            is_success,
        });
        while self.recent.len() > WINDOW_RESULTS_MAX
            || (self.recent.front()).is_some_and(|first| now_ms - first.at_ms > WINDOW_MS)
        {
            self.recent.pop_front();
        }
    }

    fn forget(&mut self) {
        self.failures = 0;
        self.failed_events.clear();
        self.recent.clear();
    }

    /// Whether half of the events tried lately failed when they were tried last.
    fn fails_often(&self) -> bool {
        let ended = self.recent.iter();
        let events: BTreeMap<i64, bool> = ended
            .map(|ended| (ended.position, ended.is_success))
            .collect();
        let failed = events.values().filter(|is_success| !**is_success).count();
        events.len() >= WINDOW_EVENTS_MIN
            && failed >= EVENTS_TO_OPEN
            && failed.saturating_mul(2) >= events.len()
    }

    fn probe(&self, number: u32, now_ms: i64) -> Probe {
        let delay = (PROBE_DELAY_MS << number.min(DOUBLINGS_MAX)).min(PROBE_DELAY_MAX_MS);
        let jittered = retry::jittered(delay, self.salt.wrapping_add(u64::from(number)));
        Probe {
            at_ms: now_ms.saturating_add(jittered.min(PROBE_DELAY_MAX_MS)),
            number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_poisonous_event_never_opens_it() {
        let mut breaker = Breaker::new(1);
        for now in 0..100 {
            assert!(!breaker.failed(7, now));
        }
        assert!(breaker.is_closed());
    }

    #[test]
    fn it_opens_once_on_ten_failures_about_many_events() {
        let mut breaker = Breaker::new(1);
        let opened = (0..12).map(|position| breaker.failed(position, 0));
        assert_eq!(opened.filter(|opened| *opened).count(), 1);
        assert!(!breaker.is_closed());
        assert!(!breaker.may_probe(), "until it is told to");
    }

    #[test]
    fn probes_go_further_and_further_apart_with_a_jitter_of_a_fifth() {
        for salt in 0..200 {
            let mut breaker = Breaker::new(salt);
            breaker.trip(0);
            let mut now = 0;
            for number in 0..20 {
                let probe = breaker.next_probe().unwrap();
                let delay = (5_000 << number.min(6)).min(300_000);
                let waited = probe.at_ms - now;
                assert!(waited >= delay * 4 / 5 && waited <= (delay * 6 / 5).min(300_000));
                now = probe.at_ms;
                breaker.allow_probe(breaker.probe_after(probe, now));
                assert!(breaker.may_probe());
                breaker.sent();
                assert!(!breaker.may_probe());
                assert!(!breaker.failed(3, now));
            }
        }
    }

    #[test]
    fn after_the_first_minute_at_most_three_probes_go_out_in_a_minute() {
        for salt in 0..200 {
            let mut breaker = Breaker::new(salt);
            breaker.trip(0);
            let mut sent = Vec::new();
            while sent.last().is_none_or(|at| *at < 3_600_000) {
                let probe = breaker.next_probe().unwrap();
                sent.push(probe.at_ms);
                breaker.allow_probe(breaker.probe_after(probe, probe.at_ms));
            }
            let late: Vec<i64> = sent.into_iter().filter(|at| *at >= 60_000).collect();
            let within = |from: i64| {
                late.iter()
                    .filter(move |at| (from..from + 60_000).contains(*at))
            };
            assert!(late.iter().all(|at| within(*at).count() <= 3), "{late:?}");
        }
    }

    #[test]
    fn a_success_closes_it() {
        let mut breaker = Breaker::new(1);
        breaker.trip(0);
        assert!(breaker.succeeded(1, 9_000));
        assert!(breaker.is_closed());
        assert!(!breaker.succeeded(2, 9_000));
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let mut breaker = Breaker::new(1);
        for position in 0..1_000_i64 {
            // The failures are about few events, so that only their number could open it.
            if position % 9 == 0 {
                breaker.succeeded(position, 0);
            }
            assert!(!breaker.failed(-(position % 6), 0));
        }
    }

    #[test]
    fn it_opens_when_half_of_the_events_of_half_a_minute_fail() {
        let mut breaker = Breaker::new(1);
        let opened = (0..40).find(|number| {
            breaker.succeeded(1_000 + number, number * 100);
            breaker.failed(*number, number * 100)
        });
        assert_eq!(opened, Some(9), "the tenth failure among twenty events");

        let mut slow = Breaker::new(1);
        for number in 0..100 {
            slow.succeeded(1_000 + number, number * 4_000);
            assert!(!slow.failed(number, number * 4_000), "too few at a time");
        }
    }

    #[test]
    fn a_few_poisonous_events_among_healthy_ones_do_not_open_it_however_often_they_fail() {
        let mut breaker = Breaker::new(1);
        for number in 0..2_000 {
            breaker.succeeded(1_000 + number, number * 10);
            for poison in 0..6 {
                assert!(!breaker.failed(poison, number * 10));
            }
        }
    }
}
