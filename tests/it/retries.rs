//! Deliveries that fail: the schedule, what is written down, and an endpoint that is down as a whole.
//!
//! The server runs inside the test with a clock that the test moves.

use std::time::Duration;

use rollcall::clock::Clock as _;
use rollcall::storage::tables::{attempts, deliveries};
use sea_orm::{EntityTrait as _, QueryOrder as _};

use crate::support::client::Scim;
use crate::support::ledger::Request;
use crate::support::receiver::Reply;
use crate::support::still::StillServer;
use crate::support::waiting::{eventually, settled};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const SOON: Duration = Duration::from_secs(20);
const POISONED: &str = "poisoned@example.com";

impl StillServer {
    /// The requests about the poisoned user.
    fn tries(&self) -> Vec<Request> {
        let ledger = self.receiver.ledger();
        let requests = ledger.requests().iter();
        requests
            .filter(|one| one.body.contains(POISONED))
            .cloned()
            .collect()
    }

    async fn wait_for_try(&self, number: usize) {
        eventually(&format!("try {number}"), SOON, async || {
            self.tries().len() >= number
        })
        .await;
    }

    async fn deliveries(&self) -> Vec<deliveries::Model> {
        let rows = deliveries::Entity::find().order_by_asc(deliveries::Column::Position);
        rows.all(self.store().reader()).await.unwrap()
    }

    /// Waits until the failure number `count` is written down; returns when the next try is.
    async fn wait_for_record(&self, count: i32) -> i64 {
        eventually("a record of the failure", SOON, async || {
            let rows = self.exceptions().await;
            rows.len() == 1 && rows[0].attempts == count
        })
        .await;
        let row = self.exceptions().await.remove(0);
        assert_eq!(row.state, "retrying");
        row.next_at_ms.unwrap() - self.clock.now_ms()
    }
}

async fn follow_the_schedule(mut world: StillServer) {
    let admin = world.admin();
    admin.subscribe(&world.receiver).await;
    let scim = admin.directory().await;
    world.receiver.behave(|request| {
        let is_poisoned = request.body.contains(POISONED);
        Reply::status(if is_poisoned { 500 } else { 200 })
    });

    scim.create_user(POISONED).await;
    scim.create_user("fine@example.com").await;

    world.wait_for_try(1).await;
    let wait = world.wait_for_record(1).await;
    assert!((4 * SECOND..=6 * SECOND).contains(&wait), "{wait}");
    eventually("the other user", SOON, async || {
        world.receiver.ledger().accepted() == 2
    })
    .await;

    world.clock.advance_ms(wait - 1);
    scim.create_user("later@example.com").await;
    eventually("a third event", SOON, async || {
        world.receiver.ledger().accepted() == 3
    })
    .await;
    assert_eq!(world.tries().len(), 1, "nothing is sent before its time");

    world.clock.advance_ms(1);
    world.wait_for_try(2).await;
    let wait = world.wait_for_record(2).await;
    assert!((20 * SECOND..=30 * SECOND).contains(&wait), "{wait}");

    world.restart().await;
    assert_eq!(world.tries().len(), 2, "a restart is not a reason to send");
    world.clock.advance_ms(wait);
    world.wait_for_try(3).await;
    let wait = world.wait_for_record(3).await;
    assert!((72 * SECOND..=108 * SECOND).contains(&wait), "{wait}");

    world.receiver.behave(|_| Reply::OK);
    world.clock.advance_ms(wait);
    world.wait_for_try(4).await;
    let admin = world.admin();
    settled(&admin, &world.receiver, &[scim.directory()], SOON).await;
    check_tries(&world);
    check_rows(&world).await;
    world.stop().await;
}

/// Each try has its number and a signature of its own.
fn check_tries(world: &StillServer) {
    let tries = world.tries();
    let numbers: Vec<i64> = tries.iter().map(|one| one.attempt).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let mut signatures: Vec<&str> = tries.iter().map(|one| one.signed.as_str()).collect();
    signatures.dedup();
    assert_eq!(signatures.len(), 4);
    assert!(tries.iter().all(|one| one.replay.is_empty()));
}

/// The delivery has ended, with a row for each failure, and the exception is gone.
async fn check_rows(world: &StillServer) {
    eventually("the record of the success", SOON, async || {
        world.exceptions().await.is_empty()
    })
    .await;
    let deliveries = world.deliveries().await;
    assert!(deliveries.iter().all(|row| row.state == "delivered"));
    let row = deliveries.iter().find(|row| row.attempts > 1).unwrap();
    assert_eq!((row.attempts, row.status_code), (4, Some(200)));
    let attempts = attempts::Entity::find()
        .order_by_asc(attempts::Column::Number)
        .all(world.store().reader())
        .await
        .unwrap();
    let of_row: Vec<_> = attempts
        .iter()
        .filter(|one| one.position == row.position)
        .map(|one| (one.number, one.status_code))
        .collect();
    let failures = [(1, Some(500)), (2, Some(500)), (3, Some(500))];
    assert_eq!(of_row[..3], failures);
}

/// Many events for an endpoint that fails as a whole.
async fn come_back(mut world: StillServer) {
    const PEOPLE: usize = 120;
    let admin = world.admin();
    let endpoint = admin.subscribe(&world.receiver).await;
    let scim = admin.directory().await;
    scim.create_group("Everybody").await;
    settled(&admin, &world.receiver, &[scim.directory()], SOON).await;

    world.receiver.behave(|_| Reply::status(503));
    fill(&scim, PEOPLE).await;
    let count = || world.receiver.ledger().requests().len();
    eventually("an open breaker", SOON, async || count() >= 10).await;
    let mut probes = 0;
    let mut last = usize::MAX;
    for step in 0..12 {
        // The requests that were on their way when the breaker opened end first.
        eventually("silence", SOON, async || {
            let was = std::mem::replace(&mut last, count());
            tokio::time::sleep(Duration::from_millis(700)).await;
            was == count()
        })
        .await;
        let before = count();
        world.clock.advance_ms(5 * MINUTE);
        eventually("a probe", SOON, async || count() > before).await;
        assert!(count() <= before + 1 || step == 0, "one probe at a time");
        probes += 1;
    }
    world.receiver.stop();
    world.clock.advance_ms(60 * MINUTE);
    let waiting = admin.undelivered(&endpoint).await;
    assert!(waiting >= 2 * i64::try_from(PEOPLE).unwrap(), "{waiting}");
    assert!(
        world
            .deliveries()
            .await
            .iter()
            .all(|row| row.state != "parked"),
        "what the endpoint does is not held against its events"
    );

    world.receiver.behave(|_| Reply::OK);
    world.receiver.start_again();
    let last = admin.sequence(scim.directory()).await;
    eventually("everything", Duration::from_mins(1), async || {
        world.clock.advance_ms(MINUTE);
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.receiver.ledger().is_complete(scim.directory(), last)
    })
    .await;

    settled(&admin, &world.receiver, &[scim.directory()], SOON).await;
    eprintln!("{probes} probes; {waiting} events waited");
    assert_eq!(world.receiver.ledger().duplicates(), 0);
    world.stop().await;
}

/// Creates people and makes them members.
async fn fill(scim: &Scim, people: usize) {
    let group = scim.create_group("Everybody").await;
    let mut ids = Vec::new();
    for number in 0..people {
        ids.push(
            scim.create_user(&format!("user-{number}@example.com"))
                .await,
        );
    }
    scim.add_members(&group, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_a_failing_event_follows_the_schedule_through_a_restart() {
    follow_the_schedule(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_failing_event_follows_the_schedule_through_a_restart() {
    if let Some(world) = StillServer::on_postgres().await {
        follow_the_schedule(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_an_endpoint_that_was_down_gets_everything_in_order_when_it_is_back() {
    come_back(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_an_endpoint_that_was_down_gets_everything_in_order_when_it_is_back() {
    if let Some(world) = StillServer::on_postgres().await {
        come_back(world).await;
    }
}
