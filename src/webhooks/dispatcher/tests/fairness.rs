//! Endpoints beside each other on one node.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::super::*;
use crate::ids::EventId;
use crate::webhooks::endpoint::{Options, Ordering};
use crate::webhooks::stream::Offer;

const SHARD: i16 = 0;
const NOW: Now = Now {
    wall_ms: 1_000_000,
    monotonic_ms: 1_000,
};
const EVENTS: i64 = 100;
const MAX_IN_FLIGHT: usize = 32;

fn endpoint(number: usize) -> EndpointId {
    EndpointId::from(Uuid::from_u128(u128::try_from(number).unwrap()))
}

/// A node with so many endpoints, whose pages are yet to be read, and what reads them.
fn node(endpoints: usize) -> (Dispatcher, Vec<StreamId>) {
    let settings = Settings {
        options: Options {
            ordering: Ordering::Causal,
            max_in_flight: MAX_IN_FLIGHT,
            rate_per_second: None,
            timeout: Duration::from_secs(20),
        },
        filter_number: 1,
    };
    let all = (1..=endpoints).map(|number| (endpoint(number), settings.clone()));
    let mut dispatcher = Dispatcher::default();
    dispatcher.step(NOW, Input::Endpoints(all.collect(), 1));
    let lease = Lease {
        epoch: 1,
        token: Uuid::nil(),
        until_ms: i64::MAX / 2,
    };
    let mut newest = [0; SHARDS];
    newest[0] = EVENTS;
    dispatcher.step(NOW, Input::Tail(newest));
    let mut streams = Vec::new();
    for action in dispatcher.step(NOW, Input::Leased(SHARD, lease)) {
        if let Action::Recover(id, source) = action {
            dispatcher.step(NOW, Input::Recovered(id, source, Place::default()));
            streams.push(id);
        }
    }
    assert_eq!(streams.len(), endpoints);
    (dispatcher, streams)
}

/// Events that have nothing to do with each other.
fn page() -> Page {
    let offer = |position: i64| {
        let event_id = EventId::from(Uuid::from_u128(u128::from(position.unsigned_abs())));
        let directory_id = DirectoryId::from(Uuid::nil());
        Arc::new(Offer {
            position,
            ..Offer::outside_the_log(event_id, directory_id, "{}")
        })
    };
    Page {
        offers: (1..=EVENTS).map(offer).collect(),
        last_row: Some(EVENTS),
        read_to: Some(EVENTS),
        gap: None,
    }
}

fn sent(actions: &[Action]) -> Vec<(StreamId, i64)> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send(id, sending) => Some((*id, sending.offer.position)),
        Action::Recover(..)
        | Action::Read(..)
        | Action::ReadDepartures(..)
        | Action::ReadChain(..)
        | Action::Record(..)
        | Action::State(..)
        | Action::Disable(..)
        | Action::Abort(..)
        | Action::GiveBack(..) => None,
    });
    sent.collect()
}

fn ended(is_success: bool) -> Attempted {
    Attempted {
        is_success,
        status_code: is_success.then_some(200),
        failure: (!is_success).then(|| "head_timeout".to_owned()),
        excerpt: None,
        retry_after: None,
        duration_ms: 10,
    }
}

#[test]
fn an_endpoint_that_hangs_has_no_more_on_its_way_than_it_may() {
    let (mut dispatcher, streams) = node(2);
    let hanging = dispatcher.step(NOW, Input::Page(streams[0], Source::Shard, page()));
    assert_eq!(sent(&hanging).len(), MAX_IN_FLIGHT);
    assert_eq!(sent(&dispatcher.step(NOW, Input::Tick)).len(), 0);

    let mut waiting = sent(&dispatcher.step(NOW, Input::Page(streams[1], Source::Shard, page())));
    let mut arrived = 0;
    while let Some((id, position)) = waiting.pop() {
        arrived += 1;
        let input = Input::Ended(id, position, ended(true));
        waiting.extend(sent(&dispatcher.step(NOW, input)));
    }
    assert_eq!(arrived, EVENTS, "the other one gets everything meanwhile");
}

#[test]
fn when_so_many_endpoints_hang_that_a_node_is_full_the_others_still_get_theirs() {
    const ENDPOINTS: usize = 40;
    let (mut dispatcher, streams) = node(ENDPOINTS);
    let (healthy, hanging) = streams.split_last().unwrap();
    for id in hanging {
        dispatcher.step(NOW, Input::Page(*id, Source::Shard, page()));
    }
    assert!(dispatcher.in_flight() >= IN_FLIGHT_MAX);
    assert!(dispatcher.in_flight() < IN_FLIGHT_MAX + ENDPOINTS);

    let mut waiting = sent(&dispatcher.step(NOW, Input::Page(*healthy, Source::Shard, page())));
    assert_eq!(waiting.len(), 1);
    let mut arrived = 0;
    while let Some((id, position)) = waiting.pop() {
        arrived += 1;
        let actions = dispatcher.step(NOW, Input::Ended(id, position, ended(true)));
        let of_healthy = |(id, _): &(StreamId, i64)| id == healthy;
        waiting.extend(sent(&actions).into_iter().filter(of_healthy));
    }
    assert_eq!(arrived, EVENTS);
}

#[test]
fn what_becomes_free_is_taken_in_turns() {
    let (mut dispatcher, streams) = node(40);
    let mut on_their_way = Vec::new();
    for id in &streams {
        let actions = dispatcher.step(NOW, Input::Page(*id, Source::Shard, page()));
        on_their_way.extend(sent(&actions));
    }
    let last = streams.last().unwrap();
    let of_first = on_their_way.iter().filter(|(id, _)| *id == streams[0]);
    let ending: Vec<(StreamId, i64)> = of_first.copied().collect();
    assert_eq!(ending.len(), MAX_IN_FLIGHT);

    let mut gained = BTreeSet::new();
    for (id, position) in ending {
        let actions = dispatcher.step(NOW, Input::Ended(id, position, ended(true)));
        gained.extend(sent(&actions).into_iter().map(|(id, _)| id.endpoint));
    }

    assert!(
        gained.contains(&last.endpoint),
        "those that were short go on"
    );
    assert!(gained.len() >= 5, "{gained:?}");
}
