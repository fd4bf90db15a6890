//! What becomes of an event whose request has ended.

use super::{AttemptRow, Attempted, DeliveryRow, Haste, Item, PARKED_MAX, State, Stream};
use crate::webhooks::endpoint::Ordering;
use crate::webhooks::retry::{self, Next};

/// How often what a departure depends on may fail before it is parked.
const STRIKES_OF_TAKEN_ALONG: u32 = 2;

impl Stream {
    /// A request about the event at `position` has ended. `is_counted` says whether a failure is held
    /// against the event, and not against its endpoint.
    pub fn ended(&mut self, position: i64, attempted: Attempted, is_counted: bool, now_ms: i64) {
        let Some(item) = self.items.get_mut(&position) else {
            return;
        };
        if item.state != State::InFlight {
            return;
        }
        self.in_flight -= 1;
        if attempted.is_success {
            item.state = State::Delivered;
            item.last = Some(attempted);
            self.arrived += 1;
            if let Some(created) = item.offer.creates() {
                self.uncreated.remove(created);
            }
            self.free(position);
            return;
        }
        if is_counted {
            item.strikes += 1;
            item.first_failed_ms.get_or_insert(now_ms);
        }
        let Some(item) = self.items.get(&position) else {
            return;
        };
        let next = self.after_failure(item, &attempted, is_counted, now_ms);
        self.failed(position, attempted, next, now_ms);
        if is_counted && next == Next::RetryAt(now_ms) {
            self.hasten(position, Haste::TakenAlong);
        }
    }

    fn after_failure(
        &self,
        item: &Item,
        attempted: &Attempted,
        is_counted: bool,
        now_ms: i64,
    ) -> Next {
        // What does not count is tried again as after a first failure, and never parks the event.
        let (strikes, first_failed_ms) = match item.first_failed_ms {
            Some(first) if is_counted || item.is_late => (item.strikes, first),
            _ => (1, now_ms),
        };
        let position = u64::try_from(item.offer.position).unwrap_or(0);
        let salt = position << 8 | u64::from(item.attempts & 0xff);
        let late = || Next::Park(retry::late_after(first_failed_ms, now_ms));
        let retry_after = attempted.retry_after;
        if item.is_late {
            return late();
        }
        if self.ordering == Ordering::Strict {
            let at = retry::without_end(strikes, now_ms, retry_after, salt);
            return Next::RetryAt(at);
        }
        if is_counted && self.is_about_uncreated(item) {
            return late();
        }
        if is_counted && item.haste == Haste::TakenAlong {
            return if strikes < STRIKES_OF_TAKEN_ALONG {
                Next::RetryAt(now_ms)
            } else {
                late()
            };
        }
        retry::after_failure(strikes, first_failed_ms, now_ms, retry_after, salt)
    }

    /// Whether it is about a user or group of which the receiver has not been told, because that is
    /// parked: there is no hope for it.
    fn is_about_uncreated(&self, item: &Item) -> bool {
        let about = item.offer.user().into_iter().chain(item.offer.group());
        let mut created = about.filter_map(|key| self.uncreated.get(key));
        created.any(|position| *position < item.offer.position)
    }

    fn failed(&mut self, position: i64, attempted: Attempted, next: Next, now_ms: i64) {
        let has_room = self.parked < PARKED_MAX;
        let Some(item) = self.items.get_mut(&position) else {
            return;
        };
        self.attempts.push_back(AttemptRow {
            position,
            number: item.attempts,
            attempted: attempted.clone(),
            at_ms: now_ms,
        });
        let (state, at, name) = match next {
            Next::RetryAt(at) => (State::Retrying(at), Some(at), "retrying"),
            Next::Park(_) if !item.is_late && !has_room => (State::Parked(None), None, "parked"),
            Next::Park(at) => (State::Parked(at), at, "parked"),
        };
        item.state = state;
        self.due.extend(at.map(|at| (at, position)));
        let row = DeliveryRow {
            position,
            event_id: item.offer.event_id,
            directory_id: item.offer.directory_id,
            state: name,
            attempts: item.attempts,
            last: attempted.clone(),
            at_ms: now_ms,
        };
        item.last = Some(attempted);
        self.failed_rows.insert(position, row);
        if name == "parked" {
            self.parked(position);
        }
    }

    /// An event is parked now, perhaps again.
    fn parked(&mut self, position: i64) {
        let Some(item) = self.items.get_mut(&position) else {
            return;
        };
        if !std::mem::replace(&mut item.is_late, true) {
            self.parked += 1;
        }
        if let Some(created) = item.offer.creates() {
            self.uncreated.insert(created.clone(), position);
        }
        self.free(position);
    }

    /// The endpoint as a whole was down: what failed meanwhile is not to blame and may go at once.
    pub fn forgive(&mut self, since_ms: i64, now_ms: i64) {
        let forgiven: Vec<(i64, i64)> = self
            .due
            .iter()
            .filter(|(_, position)| {
                self.items.get(position).is_some_and(|item| {
                    !item.is_late && item.first_failed_ms.is_some_and(|first| first >= since_ms)
                })
            })
            .copied()
            .collect();
        for (at, position) in forgiven {
            self.due.remove(&(at, position));
            if let Some(item) = self.items.get_mut(&position) {
                item.strikes = 0;
                item.first_failed_ms = None;
                item.state = State::Retrying(now_ms);
                self.due.insert((now_ms, position));
            }
        }
    }
}
