//! Two nodes and the row between them.

use std::time::Duration;

use uuid::Uuid;

use super::*;

const SHARE: Share = Share {
    in_flight: 32,
    rate: None,
};

fn answer(status: u16, retry_after: Option<Duration>) -> Attempted {
    Attempted {
        is_success: status == 200,
        status_code: Some(status),
        failure: (status != 200).then(|| "http".to_owned()),
        excerpt: None,
        retry_after,
        duration_ms: 5,
    }
}

fn standing() -> (EndpointId, Standing) {
    let id = EndpointId::from(Uuid::from_u128(5));
    (id, Standing::of(id))
}

/// The row, and what writing to it does.
#[derive(Default)]
struct Row(Option<State>);

impl Row {
    fn write(&mut self, change: Change) -> Written {
        let is_ours = self.0.as_ref().map(|state| state.version) == change.after;
        if is_ours {
            self.0 = Some(change.state);
        }
        Written {
            state: self.0.clone().unwrap(),
            is_ours,
        }
    }
}

fn fail(standing: &mut Standing, now_ms: i64) {
    for position in 0..10 {
        standing.ended(position, &answer(500, None), SHARE, (now_ms, now_ms));
    }
}

#[test]
fn a_node_that_opens_its_breaker_stops_the_others_and_one_of_them_probes() {
    let (id, mut first) = standing();
    let mut second = first.clone();
    let mut row = Row::default();
    fail(&mut first, 1_000);
    assert_eq!(first.limit(SHARE, 1_000), 0);
    let written = row.write(first.change(1_000).unwrap());
    first.written(Some(&written));
    assert_eq!(first.change(1_001), None, "only what is new is written");

    second.read(row.0.as_ref().unwrap());
    assert_eq!(second.limit(SHARE, 1_000), 0);
    let due = first.probe_due_ms(id, |shard| shard == 5).unwrap();
    assert_eq!(
        second.probe_due_ms(id, |_| false),
        Some(due + PRECEDENCE_MS)
    );

    let late = due + PRECEDENCE_MS;
    let claims = [first.claim(late).unwrap(), second.claim(late).unwrap()];
    let [won, lost] = claims.map(|claim| row.write(claim));
    first.written(Some(&won));
    second.written(Some(&lost));
    assert_eq!(
        (first.limit(SHARE, late), second.limit(SHARE, late)),
        (1, 0)
    );
    first.sent(SHARE, late);
    assert_eq!(first.limit(SHARE, late), 0);
    assert!(first.probe_due_ms(id, |_| true) > Some(late));
}

#[test]
fn when_the_probe_succeeds_all_nodes_ramp_up() {
    let (_, mut first) = standing();
    let mut second = first.clone();
    let mut row = Row::default();
    fail(&mut first, 1_000);
    let change = first.change(1_000).unwrap();
    first.written(Some(&row.write(change)));
    second.read(row.0.as_ref().unwrap());

    first.ended(1, &answer(200, None), SHARE, (9_000, 9_000));
    let closed = row.write(first.change(9_000).unwrap());
    first.written(Some(&closed));
    second.read(&closed.state);

    assert_eq!(closed.state.failing_since_ms, None);
    assert_eq!(first.limit(SHARE, 9_000), 1);
    assert_eq!(second.limit(SHARE, 9_000), 1);
}

#[test]
fn what_is_read_late_does_not_undo_what_was_written_since() {
    let (_, mut node) = standing();
    let mut row = Row::default();
    fail(&mut node, 1_000);
    let change = node.change(1_000).unwrap();
    node.written(Some(&row.write(change)));
    let old = State::default();
    node.read(&old);
    assert!(!node.is_closed());
}

#[test]
fn a_takeover_goes_on_where_the_last_owner_was() {
    let (id, mut node) = standing();
    let state = State {
        probe: Some(Probe {
            at_ms: 500_000,
            number: 4,
        }),
        failing_since_ms: Some(7),
        last_failure: None,
        version: 400_000,
    };
    node.read(&state);
    assert_eq!(node.probe_due_ms(id, |_| true), Some(500_000));
    let claim = node.claim(500_000).unwrap();
    assert_eq!(claim.state.failing_since_ms, Some(7));
    assert_eq!(claim.state.probe.unwrap().number, 5);
}

#[test]
fn a_failure_that_lasts_is_written_down_though_the_breaker_stays_closed() {
    let (_, mut node) = standing();
    let mut row = Row::default();
    node.ended(1, &answer(500, None), SHARE, (1_000, 1_000));
    assert_eq!(node.change(2_000), None);
    let change = node.change(61_000).unwrap();
    assert_eq!(change.state.failing_since_ms, Some(1_000));
    node.written(Some(&row.write(change)));
    node.ended(2, &answer(200, None), SHARE, (62_000, 62_000));
    let change = node.change(62_000).unwrap();
    assert_eq!(change.state.failing_since_ms, None);
}

#[test]
fn retry_after_pauses_the_endpoint_on_429_and_503_only() {
    let wait = Some(Duration::from_secs(30));
    for (status, until) in [(429, 31_000), (503, 31_000), (500, 1_000)] {
        let (_, mut node) = standing();
        node.ended(1, &answer(status, wait), SHARE, (1_000, 1_000));
        assert_eq!(node.free_at_ms(SHARE, 1_000), until, "{status}");
    }
}

#[test]
fn what_is_too_much_or_too_slow_halves_the_limit() {
    let mut hanging = answer(500, None);
    hanging.failure = Some("head_timeout".to_owned());
    for (attempted, limit) in [
        (answer(429, None), 16),
        (answer(503, None), 16),
        (hanging, 16),
        (answer(500, None), 32),
    ] {
        let (_, mut node) = standing();
        node.ended(1, &attempted, SHARE, (1_000, 1_000));
        assert_eq!(node.limit(SHARE, 1_000), limit, "{attempted:?}");
    }
}

#[test]
fn an_endpoint_that_is_gone_is_not_sent_to_at_once() {
    let (_, mut node) = standing();
    let since = node.ended(1, &answer(410, None), SHARE, (1_000, 1_000));
    assert_eq!(since, Some(1_000));
    assert_eq!(node.limit(SHARE, 1_000), 0);
}
