use super::*;
use crate::events::Kind;
use crate::ids::{DirectoryId, EventId, OrganizationId, ResourceId};
use crate::webhooks::lanes::{Subject, keys_of};

const MINUTE: i64 = 60_000;

fn offer(position: i64, user: ResourceId) -> Arc<Offer> {
    offer_of(DirectoryId::generate(), position, user)
}

fn offer_of(directory_id: DirectoryId, position: i64, user: ResourceId) -> Arc<Offer> {
    Arc::new(Offer {
        position,
        event_id: EventId::generate(),
        organization_id: OrganizationId::from(directory_id.uuid()),
        directory_id,
        sequence: Some(position),
        kind: Some(Kind::UserUpdated),
        is_departure: false,
        keys: keys_of(&Subject {
            kind: Some(Kind::UserUpdated),
            directory_id,
            user_id: Some(user),
            group_id: None,
            names: None,
        }),
        previous: 0,
        after: String::new(),
        payload: "{}".into(),
    })
}

/// A stream that has read events of different people at these positions.
fn reading(positions: impl IntoIterator<Item = i64>) -> Stream {
    let mut stream = Stream::new(Place::default(), Ordering::Causal, 0);
    take(&mut stream, positions);
    stream
}

fn take(stream: &mut Stream, positions: impl IntoIterator<Item = i64>) {
    let offers: Vec<_> = positions
        .into_iter()
        .map(|position| offer(position, ResourceId::generate()))
        .collect();
    let last = offers.last().map(|offer| offer.position);
    stream.take(offers, last, last);
}

fn answered(is_success: bool) -> Attempted {
    Attempted {
        is_success,
        status_code: None,
        failure: None,
        excerpt: None,
        retry_after: None,
        duration_ms: 1,
    }
}

fn send(stream: &mut Stream, now_ms: i64) -> Option<i64> {
    stream
        .next(now_ms, false)
        .map(|sending| sending.offer.position)
}

#[test]
fn the_cursor_stops_before_what_is_unfinished_and_passes_what_is_an_exception() {
    let mut stream = reading(1..=4);
    while send(&mut stream, 0).is_some() {}
    stream.ended(1, answered(true), true, 0);
    stream.ended(2, answered(false), true, 0);
    stream.ended(4, answered(true), true, 0);
    let batch = stream.batch(0).unwrap();
    assert_eq!(batch.cursor, Some(2), "3 is on its way");
    assert_eq!(batch.exceptions.len(), 1);
    assert_eq!(batch.exceptions[0].position, 2);
    stream.recorded(0);
    stream.ended(3, answered(true), true, 0);
    assert_eq!(stream.batch(0).unwrap().cursor, Some(4));
}

#[test]
fn what_waits_behind_an_exception_is_held_and_the_cursor_goes_on() {
    let user = ResourceId::generate();
    let mut stream = Stream::new(Place::default(), Ordering::Causal, 0);
    stream.take(vec![offer(1, user), offer(2, user)], Some(2), Some(2));
    assert_eq!(send(&mut stream, 0), Some(1));
    assert_eq!(send(&mut stream, 0), None);
    stream.ended(1, answered(false), true, 0);
    let batch = stream.batch(0).unwrap();
    let states: Vec<_> = batch.exceptions.iter().map(|row| row.state).collect();
    assert_eq!(states, [Exception::Retrying, Exception::Held]);
    assert_eq!(batch.cursor, Some(2));
}

#[test]
fn an_exception_whose_record_was_reported_as_failed_is_settled_all_the_same() {
    let mut stream = reading([1]);
    send(&mut stream, 0);
    stream.ended(1, answered(false), true, 0);
    assert_eq!(stream.batch(0).unwrap().exceptions.len(), 1);
    stream.not_recorded();
    send(&mut stream, MINUTE);
    stream.ended(1, answered(true), true, MINUTE);
    assert_eq!(stream.batch(MINUTE).unwrap().settled, [1]);
}

#[test]
fn failures_that_do_not_count_never_park() {
    let mut stream = reading([1]);
    let mut now_ms = 0;
    for _ in 0..5 {
        assert_eq!(send(&mut stream, now_ms), Some(1));
        stream.ended(1, answered(false), true, now_ms);
        now_ms = stream.next_due_ms().unwrap();
    }
    for _ in 0..100 {
        assert_eq!(send(&mut stream, now_ms), Some(1));
        stream.ended(1, answered(false), false, now_ms);
        now_ms = stream.next_due_ms().unwrap() + 5 * MINUTE;
        assert!(stream.batch(now_ms).unwrap().exceptions[0].state == Exception::Retrying);
        stream.recorded(now_ms);
    }
}

#[test]
fn after_a_takeover_attempts_that_did_not_count_still_do_not() {
    let row = ExceptionRow {
        position: 1,
        directory_id: DirectoryId::generate(),
        state: Exception::Retrying,
        attempts: 90,
        first_failed_ms: None,
        next_at_ms: Some(0),
    };
    let place = Place {
        cursor: 1,
        exceptions: vec![(row, offer(1, ResourceId::generate()))],
        ..Place::default()
    };
    let mut stream = Stream::new(place, Ordering::Causal, 0);
    assert_eq!(send(&mut stream, 0), Some(1));
    stream.ended(1, answered(false), true, 0);
    let batch = stream.batch(0).unwrap();
    assert_eq!(batch.exceptions[0].state, Exception::Retrying);
}

#[test]
fn a_probe_tries_what_has_not_failed_yet_and_reads_when_there_is_no_such_event() {
    let mut stream = reading(1..=10);
    while let Some(position) = send(&mut stream, 0) {
        stream.ended(position, answered(false), false, 0);
    }
    assert_eq!(stream.wants(20, true, AHEAD_MAX), Some(10));
    take(&mut stream, [11, 12]);
    assert_eq!(
        stream.wants(20, true, AHEAD_MAX),
        None,
        "11 has not been tried"
    );
    let probed = stream.next(MINUTE, true).unwrap();
    assert_eq!(probed.offer.position, 11, "though ten others are due");
}

#[test]
fn what_is_due_again_and_what_is_new_take_turns() {
    let mut stream = reading(1..=3);
    while let Some(position) = send(&mut stream, 0) {
        stream.ended(position, answered(false), true, 0);
    }
    take(&mut stream, 4..=6);
    let order: Vec<_> = std::iter::from_fn(|| send(&mut stream, MINUTE)).collect();
    let new = order.iter().map(|position| *position > 3);
    assert!(new.eq([true, false, true, false, true, false]) || order[0] <= 3 && order[1] > 3);
}

#[test]
fn a_slow_event_becomes_an_exception_before_the_span_is_exceeded() {
    let mut stream = reading([1]);
    assert_eq!(send(&mut stream, 0), Some(1));
    let mut sent_max = 1;
    for position in 2..=3 * SPAN_MAX {
        take(&mut stream, [position]);
        while let Some(sent) = send(&mut stream, 0) {
            sent_max = sent_max.max(sent);
            stream.ended(sent, answered(true), true, 0);
        }
        if position == SPAN_MAX + 1 {
            assert!(sent_max <= SPAN_MAX, "{sent_max}");
            let batch = stream.batch(0).unwrap();
            assert_eq!(batch.exceptions[0].state, Exception::InFlight);
            assert_eq!(batch.cursor, Some(SPAN_MAX));
            stream.recorded(0);
        } else if position % 500 == 0 {
            stream.batch(0);
            stream.recorded(0);
        }
    }
    assert_eq!(sent_max, 3 * SPAN_MAX);
}

#[test]
fn what_a_stream_keeps_is_bounded_even_if_everything_is_refused_and_parked() {
    let mut stream = Stream::new(Place::default(), Ordering::Causal, 0);
    let (mut read_to, mut now_ms) = (0, 0);
    for _ in 0..32 {
        while let Some(after) = stream.wants(i64::MAX, false, AHEAD_MAX) {
            take(&mut stream, after + 1..=after + 500);
            read_to = after + 500;
        }
        while let Some(position) = send(&mut stream, now_ms) {
            stream.ended(position, answered(false), true, now_ms);
        }
        stream.batch(now_ms);
        stream.recorded(now_ms);
        now_ms += 10 * MINUTE;
        assert!(stream.items.len() <= EXCEPTIONS_MAX + PARKED_MAX + OPEN_MAX);
        assert_eq!(
            stream.parked,
            stream.items.values().filter(|item| item.is_late).count()
        );
    }
    assert!(
        read_to > 12_000,
        "reading goes on past what is parked: {read_to}"
    );
}

/// A stream with an event of its own directory at each of these positions.
fn with(offers: &[Arc<Offer>]) -> Stream {
    let mut stream = Stream::new(Place::default(), Ordering::Causal, 0);
    let last = offers.last().map(|offer| offer.position);
    stream.take(offers.to_vec(), last, last);
    stream
}

#[test]
fn what_is_split_off_keeps_the_cursor_and_the_cursor_of_the_others_goes_on() {
    let offers: Vec<_> = (1..=4)
        .map(|position| offer(position, ResourceId::generate()))
        .collect();
    let mut stream = with(&offers);
    while let Some(position) = send(&mut stream, 0) {
        if position != 3 {
            stream.ended(position, answered(true), true, 0);
        }
    }
    assert_eq!(stream.batch(0).unwrap().cursor, Some(2));
    let mut apart = stream.split_off(offers[2].directory_id, 0);
    assert!(apart.is_in_flight(3) && !stream.is_in_flight(3));
    stream.recorded(0);
    apart.recorded(0);

    let place = apart.batch(0).unwrap();
    assert_eq!(place.cursor, Some(0), "as far as was durable");
    let rest = stream.batch(60_000).unwrap();
    assert_eq!(rest.cursor, Some(4), "3 is no longer in the way");
    stream.recorded(60_000);
    apart.recorded(60_000);

    assert!(!apart.is_back_at(&stream), "3 is before the cursor");
    apart.ended(3, answered(true), true, 60_000);
    assert_eq!(apart.batch(60_000).unwrap().cursor, Some(4));
    apart.recorded(60_000);
    assert!(apart.is_back_at(&stream));
}

#[test]
fn a_record_under_way_is_settled_on_both_sides_of_a_split() {
    let offers: Vec<_> = (1..=3)
        .map(|position| offer(position, ResourceId::generate()))
        .collect();
    let mut stream = with(&offers);
    while send(&mut stream, 0).is_some() {}
    stream.ended(1, answered(true), true, 0);
    stream.ended(2, answered(false), true, 0);
    assert_eq!(stream.batch(0).unwrap().cursor, Some(2));
    let mut apart = stream.split_off(offers[1].directory_id, 0);
    stream.ended(3, answered(true), true, 0);
    stream.recorded(0);
    apart.recorded(0);

    let place = apart.batch(0).unwrap();
    assert!(place.exceptions.is_empty() && place.attempts.is_empty());
    assert_eq!(place.cursor, Some(3), "2 is written down as an exception");
    let rest = stream.batch(0).unwrap();
    assert_eq!(rest.deliveries.len(), 1);
    assert_eq!(rest.cursor, Some(3));
}

#[test]
fn what_is_taken_back_is_sent_in_its_order() {
    let (directory_id, user) = (DirectoryId::generate(), ResourceId::generate());
    let offers = [
        offer(1, ResourceId::generate()),
        offer_of(directory_id, 2, user),
        offer_of(directory_id, 3, user),
        offer(4, ResourceId::generate()),
    ];
    let mut stream = with(&offers);
    let held = stream.split_off(directory_id, 0);
    assert_eq!(send(&mut stream, 0), Some(1));
    assert_eq!(send(&mut stream, 0), Some(4));
    assert_eq!(send(&mut stream, 0), None);
    assert!(held.is_back_at(&stream));
    stream.absorb(held);
    assert_eq!(send(&mut stream, 0), Some(2));
    assert_eq!(send(&mut stream, 0), None, "3 is about the same person");
    stream.ended(2, answered(true), true, 0);
    assert_eq!(send(&mut stream, 0), Some(3));
    assert_eq!(stream.in_flight(), 3);
}

/// An event of a person who is imported, or leaves.
fn about(offer: &Arc<Offer>, kind: Kind, is_departure: bool) -> Arc<Offer> {
    Arc::new(Offer {
        position: offer.position,
        event_id: offer.event_id,
        organization_id: offer.organization_id,
        directory_id: offer.directory_id,
        sequence: offer.sequence,
        kind: Some(kind),
        is_departure,
        keys: offer.keys.clone(),
        previous: 0,
        after: String::new(),
        payload: Arc::clone(&offer.payload),
    })
}

#[test]
fn one_event_of_a_directory_goes_soon_though_another_has_ten_thousand_waiting() {
    let many = DirectoryId::generate();
    let mut offers: Vec<_> = (1..=10_000)
        .map(|position| offer_of(many, position, ResourceId::generate()))
        .collect();
    offers.push(offer(10_001, ResourceId::generate()));
    let mut turns = Turns::default();
    for offer in &offers {
        turns.insert(offer);
    }
    let before = std::iter::from_fn(|| turns.take(i64::MAX)).position(|sent| sent == 10_001);
    assert!(before.unwrap() <= 8);
}

#[test]
fn an_organization_with_many_directories_gets_no_more_turns_than_one_with_one() {
    let busy = OrganizationId::generate();
    let mut turns = Turns::default();
    for position in 1..=1_000 {
        let one = offer(position, ResourceId::generate());
        let of_busy = Offer {
            organization_id: busy,
            ..Arc::into_inner(one).unwrap()
        };
        turns.insert(&of_busy);
    }
    let single = DirectoryId::generate();
    for position in 1_001..=1_100 {
        turns.insert(&offer_of(single, position, ResourceId::generate()));
    }
    let first: Vec<i64> = std::iter::from_fn(|| turns.take(i64::MAX))
        .take(100)
        .collect();
    let of_single = first.iter().filter(|position| **position > 1_000).count();
    assert!((40..=60).contains(&of_single), "{of_single}");
}

#[test]
fn a_departure_goes_after_what_it_depends_on_and_before_everything_else() {
    let (directory, leaver) = (DirectoryId::generate(), ResourceId::generate());
    let created = about(&offer_of(directory, 3, leaver), Kind::UserCreated, false);
    let deleted = about(&offer_of(directory, 900, leaver), Kind::UserDeleted, true);
    let mut stream = reading([1, 2]);
    let chain = Chain {
        departure: 900,
        directory_id: directory,
        after: 2,
        offers: vec![Arc::clone(&created), deleted],
    };
    assert!(stream.may_overtake(900) && stream.overtake(chain));
    assert_eq!(send(&mut stream, 0), Some(3));
    stream.ended(3, answered(false), true, 0);
    assert!(
        send(&mut stream, 0).is_some_and(|sent| sent < 3),
        "others take turns"
    );
    assert_eq!(send(&mut stream, 0), Some(3), "it is tried again at once");
    stream.ended(3, answered(false), true, 0);
    let rest: Vec<_> = std::iter::from_fn(|| send(&mut stream, 0)).collect();
    assert!(rest.contains(&900), "what failed twice is parked: {rest:?}");
    stream.ended(900, answered(false), true, 0);
    let batch = stream.batch(0).unwrap();
    let parked = batch
        .exceptions
        .iter()
        .all(|row| row.state == Exception::Parked);
    assert!(parked, "there is no hope without its first event");
    assert_eq!(batch.cursor, None, "1 and 2 are on their way");
    stream.recorded(0);
    stream.take(vec![created], Some(4), None);
    assert_eq!(send(&mut stream, 0), None, "it is not taken in twice");
}

#[test]
fn where_order_is_strict_a_directory_stops_for_an_event_and_nothing_is_parked() {
    let directory = DirectoryId::generate();
    let mut stream = Stream::new(Place::default(), Ordering::Strict, 0);
    let offers = (1..=9).map(|position| offer_of(directory, position, ResourceId::generate()));
    stream.take(offers.collect(), Some(9), Some(9));
    let mut now_ms = 0;
    for _ in 0..20 {
        assert_eq!(send(&mut stream, now_ms), Some(1));
        assert_eq!(send(&mut stream, now_ms), None);
        stream.ended(1, answered(false), true, now_ms);
        let rows = stream
            .batch(now_ms)
            .map_or_else(Vec::new, |batch| batch.exceptions);
        assert!(rows.iter().all(|row| row.state == Exception::Retrying));
        stream.recorded(now_ms);
        assert_eq!(stream.stopped(), Some(directory));
        let due_ms = stream.next_due_ms().unwrap();
        assert!(due_ms - now_ms <= 30 * MINUTE);
        now_ms = due_ms;
    }
    send(&mut stream, now_ms);
    stream.ended(1, answered(true), true, now_ms);
    assert_eq!(send(&mut stream, now_ms), Some(2));
    stream.reorder(Ordering::None);
    assert_eq!(
        send(&mut stream, now_ms),
        Some(3),
        "nothing is kept in order"
    );
}
