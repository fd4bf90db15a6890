//! How an endpoint stands, as one node sees it and as all of them know it. Pure.
//!
//! Cast: the [`Breaker`] tells whether the endpoint is down, the [`Pace`] how fast it may be sent to; a
//! [`State`] is the row that the nodes share. A node that finds out something of interest to the others
//! asks for a [`Change`]: one row, written only if it is still as the node knows it, so that of two nodes
//! one learns what the other has written. Before each probe goes out, its successor is written down in the
//! same way: whoever succeeds sends it, and of all nodes nobody else does. The owner of the endpoint's shard
//! of probes comes first; another node only if that one has let the probe pass, having nothing to send.
//!
//! Invariants: what is written down is only what changes for all (the breaker opens, a probe goes out, the
//! breaker closes, a failure lasts), never single results; what is read never replaces something newer.

use super::breaker::{Breaker, Probe};
use super::pace::{Pace, Share};
use super::stream::Attempted;
use crate::ids::EndpointId;
use crate::outbound::FailureKind;
use crate::storage::horizon::SHARDS;

/// How long an endpoint fails before that is written down, if its breaker stays closed.
const SHARED_AFTER_MS: i64 = 60_000;
/// How long the other nodes let the one pass whose turn it is to probe.
const PRECEDENCE_MS: i64 = 3_000;
/// Too many requests; not available: both say that it was too much, and may say until when.
const TOO_MUCH: [u16; 2] = [429, 503];
/// The endpoint is not there any more.
const GONE: u16 = 410;

/// How an endpoint stands, as all nodes know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The next probe, while its breaker is open.
    pub probe: Option<Probe>,
    /// Since when nothing has succeeded.
    pub failing_since_ms: Option<i64>,
    /// What went wrong last, in a word.
    pub last_failure: Option<String>,
    /// Tells the row from its predecessors; about the time when it was written.
    pub version: i64,
}

/// What is to be written down, if the row is still that of version `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The new row.
    pub state: State,
    /// The row before it; `None` if there is none.
    pub after: Option<i64>,
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The row as it is now.
    pub state: State,
    /// Whether the change was made, and not overtaken by another node's.
    pub is_ours: bool,
}

/// What a change under way is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// To tell.
    News,
    /// To send a probe.
    Probe,
}

/// The shard whose owner probes an endpoint.
pub fn shard_of_probes(id: EndpointId) -> i16 {
    let shards = u128::try_from(SHARDS).unwrap_or(1);
    i16::try_from(id.uuid().as_u128() % shards).unwrap_or(0)
}

/// How an endpoint stands.
#[derive(Clone, Debug)]
pub struct Standing {
    breaker: Breaker,
    pace: Pace,
    failing_since_ms: Option<i64>,
    last_failure: Option<String>,
    /// The row as it was read or written last.
    known: Option<State>,
    asked: Option<Asked>,
}

impl Standing {
    /// That of an endpoint of which nothing is known.
    pub fn of(id: EndpointId) -> Self {
        let (salt, _) = id.uuid().as_u64_pair();
        Self {
            breaker: Breaker::new(salt),
            pace: Pace::default(),
            failing_since_ms: None,
            last_failure: None,
            known: None,
            asked: None,
        }
    }

    /// Whether requests go out as usual, and not as probes.
    pub fn is_closed(&self) -> bool {
        self.breaker.is_closed()
    }

    /// How many requests may be on their way at once.
    pub fn limit(&self, share: Share, now_ms: i64) -> usize {
        if self.free_at_ms(share, now_ms) > now_ms {
            0
        } else if self.is_closed() {
            self.pace.limit(share)
        } else {
            usize::from(self.breaker.may_probe())
        }
    }

    /// When a pause or the rate limit lets the next request go; `now_ms` if it may go now.
    pub fn free_at_ms(&self, share: Share, now_ms: i64) -> i64 {
        self.pace.free_at_ms(share, now_ms)
    }

    /// When this node may send the next probe, while the breaker is open and none is under way.
    pub fn probe_due_ms(&self, id: EndpointId, is_owner: impl Fn(i16) -> bool) -> Option<i64> {
        let probe = self.breaker.next_probe()?;
        if self.asked.is_some() || self.breaker.may_probe() {
            return None;
        }
        let is_first = is_owner(shard_of_probes(id));
        let wait = if is_first { 0 } else { PRECEDENCE_MS };
        Some(probe.at_ms.saturating_add(wait))
    }

    /// A request goes out.
    pub fn sent(&mut self, share: Share, now_ms: i64) {
        self.breaker.sent();
        self.pace.sent(share, now_ms);
    }

    /// A request about the event at `position` has ended, at these times on the wall clock and on the
    /// monotonic one. Returns since when the endpoint has failed if this opened the breaker.
    pub fn ended(
        &mut self,
        position: i64,
        attempted: &Attempted,
        share: Share,
        (now_ms, monotonic_ms): (i64, i64),
    ) -> Option<i64> {
        if attempted.is_success {
            self.failing_since_ms = None;
            if self.breaker.succeeded(position, now_ms) {
                self.pace.restart();
            } else {
                self.pace.succeeded(share);
            }
            return None;
        }
        let since = *self.failing_since_ms.get_or_insert(now_ms);
        self.last_failure.clone_from(&attempted.failure);
        let status = attempted.status_code;
        let says_too_much = status.is_some_and(|status| TOO_MUCH.contains(&status));
        let is_timeout = attempted
            .failure
            .as_deref()
            .is_some_and(FailureKind::is_timeout);
        if says_too_much || is_timeout {
            let sent_at_ms = monotonic_ms.saturating_sub(attempted.duration_ms.into());
            self.pace.overloaded(share, sent_at_ms, monotonic_ms);
        }
        if let Some(wait) = attempted.retry_after.filter(|_| says_too_much) {
            self.pace.pause(wait, now_ms);
        }
        let has_opened = if status == Some(GONE) {
            self.breaker.trip(now_ms)
        } else {
            self.breaker.failed(position, now_ms)
        };
        has_opened.then_some(since)
    }

    /// Whether an answer says that the endpoint is there no more.
    pub fn is_gone(attempted: &Attempted) -> bool {
        attempted.status_code == Some(GONE)
    }

    /// Takes in a row that was read. Returns since when the endpoint has failed if this opened the breaker.
    pub fn read(&mut self, state: &State) -> Option<i64> {
        let known = self.known.as_ref().map(|known| known.version);
        if self.asked.is_some() || known >= Some(state.version) {
            return None;
        }
        self.adopt(state)
    }

    fn adopt(&mut self, state: &State) -> Option<i64> {
        let was_closed = self.is_closed();
        self.known = Some(state.clone());
        self.failing_since_ms = state.failing_since_ms;
        if let Some(probe) = state.probe {
            self.breaker.open(probe);
            return state.failing_since_ms.filter(|_| was_closed);
        }
        if self.breaker.close() {
            self.pace.restart();
        }
        None
    }

    /// What the other nodes are to know, if there is something.
    pub fn change(&mut self, now_ms: i64) -> Option<Change> {
        if self.asked.is_some() {
            return None;
        }
        let known = self.known.clone().unwrap_or_default();
        let probe = self.breaker.next_probe();
        let is_worth_telling = |since: &i64| {
            probe.is_some()
                || known.failing_since_ms.is_some()
                || now_ms.saturating_sub(*since) >= SHARED_AFTER_MS
        };
        let failing_since_ms = self.failing_since_ms.filter(is_worth_telling);
        if (probe, failing_since_ms) == (known.probe, known.failing_since_ms) {
            return None;
        }
        Some(self.ask(Asked::News, probe, failing_since_ms, now_ms))
    }

    /// Asks for the right to send the probe that is due.
    pub fn claim(&mut self, now_ms: i64) -> Option<Change> {
        let next = self.breaker.next_probe()?;
        let after = self.breaker.probe_after(next, now_ms);
        Some(self.ask(Asked::Probe, Some(after), self.failing_since_ms, now_ms))
    }

    fn ask(
        &mut self,
        asked: Asked,
        probe: Option<Probe>,
        failing_since_ms: Option<i64>,
        now_ms: i64,
    ) -> Change {
        self.asked = Some(asked);
        let after = self.known.as_ref().map(|known| known.version);
        let next = after.map_or(i64::MIN, |version| version.saturating_add(1));
        Change {
            state: State {
                probe,
                failing_since_ms,
                last_failure: self.last_failure.clone(),
                version: now_ms.max(next),
            },
            after,
        }
    }

    /// A change has been written, or it is not known whether it has. Returns since when the endpoint has
    /// failed if this opened the breaker.
    pub fn written(&mut self, written: Option<&Written>) -> Option<i64> {
        let asked = self.asked.take()?;
        let Written { state, is_ours } = written?;
        if !is_ours {
            return self.adopt(state);
        }
        if let Some(probe) = state.probe.filter(|_| asked == Asked::Probe) {
            self.breaker.allow_probe(probe);
        }
        self.known = Some(state.clone());
        None
    }
}

#[cfg(test)]
mod tests;
