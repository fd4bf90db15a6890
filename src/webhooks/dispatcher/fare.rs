//! How endpoints fare on this node: who may send how much, and what the other nodes are to know.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use super::messages::{Action, Now};
use super::slot::Slot;
use super::{Dispatcher, Endpoint, IN_FLIGHT_MAX, next_of};
use crate::ids::EndpointId;
use crate::webhooks::pace::Share;
use crate::webhooks::standing::{State, Written};

/// How many requests an endpoint sends before the next one has its turn.
const TURN: usize = 16;

impl Dispatcher {
    /// Takes in what the nodes have written down.
    pub(super) fn states(
        &mut self,
        states: &BTreeMap<EndpointId, State>,
        now: Now,
        dirty: &mut BTreeSet<EndpointId>,
    ) {
        for (id, state) in states {
            if let Some(endpoint) = self.endpoints.get_mut(id) {
                let failing_since = endpoint.standing.read(state);
                self.forgive(*id, failing_since, now);
                dirty.insert(*id);
            }
        }
    }

    /// Takes in how writing down has ended.
    pub(super) fn stated(&mut self, id: EndpointId, written: Option<&Written>, now: Now) {
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            let failing_since = endpoint.standing.written(written);
            self.forgive(id, failing_since, now);
        }
    }

    /// If an endpoint has turned out to be down since some time, what failed meanwhile is not to blame.
    pub(super) fn forgive(&mut self, id: EndpointId, failing_since: Option<i64>, now: Now) {
        let Some(since) = failing_since else { return };
        tracing::warn!(endpoint.id = %id, "the endpoint fails; single probes go out from now on");
        for shard in self.shards.values_mut() {
            if let Some(slot) = shard.slots.get_mut(&id) {
                slot.forgive(since, now.wall_ms);
            }
        }
    }

    /// When something is due for an endpoint that could then be sent.
    pub(super) fn due_ms(&self, id: EndpointId, endpoint: &Endpoint, now_ms: i64) -> Option<i64> {
        let share = Share::of(&endpoint.settings.options, self.nodes);
        let free_at_ms = endpoint.standing.free_at_ms(share, now_ms);
        if free_at_ms > now_ms {
            return Some(free_at_ms);
        }
        if endpoint.standing.is_closed() {
            return self.slots_of(id).filter_map(Slot::next_due_ms).min();
        }
        let probe_at_ms = self.probe_due_ms(id, endpoint)?;
        // A probe waits for something to send, for which time is no reason.
        (probe_at_ms > now_ms || self.has_next(id, now_ms)).then_some(probe_at_ms)
    }

    fn probe_due_ms(&self, id: EndpointId, endpoint: &Endpoint) -> Option<i64> {
        let is_owner = |number| {
            let shard = self.shards.get(&number);
            shard.is_some_and(|shard| !shard.is_yielding)
        };
        endpoint.standing.probe_due_ms(id, is_owner)
    }

    fn has_next(&self, id: EndpointId, now_ms: i64) -> bool {
        let shards = self.shards.values().filter(|shard| !shard.is_yielding);
        let mut slots = shards.filter_map(|shard| shard.slots.get(&id));
        slots.any(|slot| slot.has_next(now_ms))
    }

    /// Says what the other nodes are to know of an endpoint, and asks for the probe that is due.
    pub(super) fn share_standing(&mut self, id: EndpointId, now: Now, actions: &mut Vec<Action>) {
        let Some(endpoint) = self.endpoints.get(&id) else {
            return;
        };
        let probe_due_ms = self.probe_due_ms(id, endpoint);
        let is_probe_due = probe_due_ms.is_some_and(|at| at <= now.wall_ms)
            && endpoint.in_flight == 0
            && self.has_next(id, now.wall_ms);
        if let Some(Endpoint { standing, .. }) = self.endpoints.get_mut(&id) {
            let mut change = standing.change(now.wall_ms);
            if change.is_none() && is_probe_due {
                change = standing.claim(now.wall_ms);
            }
            actions.extend(change.map(|change| Action::State(id, change)));
        }
    }

    /// Lets endpoints send in turns. When a node has as much on its way as it may have, those that have
    /// nothing on their way still send one request, so that endpoints which hang stop nobody else.
    pub(super) fn send(
        &mut self,
        now: Now,
        dirty: &BTreeSet<EndpointId>,
        actions: &mut Vec<Action>,
    ) {
        let mut total = self.in_flight();
        let after = self.sent_last.map_or(Unbounded, Excluded);
        let first = dirty.range((after, Unbounded));
        let rest = self.sent_last.map(|last| dirty.range(..=last));
        let mut turns: VecDeque<EndpointId> =
            first.chain(rest.into_iter().flatten()).copied().collect();
        while let Some(id) = turns.pop_front() {
            let sent = self.send_some(id, total, now, actions);
            total += sent;
            if sent > 0 && total >= IN_FLIGHT_MAX {
                self.sent_last = Some(id);
            }
            if sent == TURN {
                turns.push_back(id);
            }
        }
    }

    /// Sends what one endpoint may in one turn, while so many requests of the node are on their way.
    fn send_some(
        &mut self,
        id: EndpointId,
        total: usize,
        now: Now,
        actions: &mut Vec<Action>,
    ) -> usize {
        let mut sent = 0;
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return sent;
        };
        let share = Share::of(&endpoint.settings.options, self.nodes);
        while sent < TURN && endpoint.in_flight < endpoint.standing.limit(share, now.wall_ms) {
            if total + sent >= IN_FLIGHT_MAX && endpoint.in_flight > 0 {
                self.short.insert(id);
                break;
            }
            let Some((stream, sending)) = next_of(&mut self.shards, id, endpoint, now) else {
                break;
            };
            endpoint.standing.sent(share, now.wall_ms);
            endpoint.in_flight += 1;
            sent += 1;
            actions.push(Action::Send(stream, sending));
        }
        sent
    }

    /// Disables the endpoints that say that they are gone, once that is written down.
    pub(super) fn disable_gone(&mut self, actions: &mut Vec<Action>) {
        let shards = &self.shards;
        let is_written = |id: &EndpointId| {
            let mut slots = shards.values().filter_map(|shard| shard.slots.get(id));
            slots.all(|slot| slot.unrecorded() == 0)
        };
        let written = self.gone.extract_if(.., |id| is_written(id));
        actions.extend(written.map(Action::Disable));
    }
}
