//! How endpoints fare that are down, that ask for a pause, that are gone, or that want to be spared.
//!
//! The server runs inside the test with a clock that the test moves. Beside the endpoint there is a
//! witness, another endpoint that always answers: what it gets shows that the server has had its chance to
//! send to the first one as well.

use std::sync::Arc;
use std::time::Duration;

use rollcall::actor::Actor;
use rollcall::clock::{Clock as _, ManualClock};
use rollcall::ids::EndpointId;
use rollcall::storage::tables::{attempts, audit_entries, endpoint_states, endpoints};
use rollcall::webhooks::endpoint;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _};

use crate::support::client::Scim;
use crate::support::receiver::{Receiver, Reply};
use crate::support::still::StillServer;
use crate::support::waiting::{eventually, settled};

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;
const SOON: Duration = Duration::from_secs(20);
const DIRECTORIES_OF_NODES: usize = 12;

/// A server with an endpoint, the witness beside it, and directories whose first events have arrived.
struct Scene {
    world: StillServer,
    witness: Receiver,
    id: EndpointId,
    directories: Vec<Scim>,
    users: usize,
}

impl Scene {
    async fn set(world: StillServer, directories: usize) -> Self {
        let admin = world.admin();
        let id = admin.subscribe(&world.receiver).await;
        let witness = Receiver::start_with(Arc::<ManualClock>::clone(&world.clock));
        admin.subscribe(&witness).await;
        let mut made = Vec::new();
        for _ in 0..directories {
            let scim = admin.directory().await;
            scim.create_group("Everybody").await;
            made.push(scim);
        }
        let scene = Self {
            world,
            witness,
            id: EndpointId::parse(&id).unwrap(),
            directories: made,
            users: 0,
        };
        settled(&admin, &scene.world.receiver, &scene.names(), SOON).await;
        scene
    }

    fn names(&self) -> Vec<&str> {
        self.directories.iter().map(Scim::directory).collect()
    }

    fn count(&self) -> usize {
        self.world.receiver.ledger().requests().len()
    }

    async fn wait_for_count(&self, count: usize) {
        eventually(&format!("request {count}"), SOON, async || {
            self.count() >= count
        })
        .await;
        assert_eq!(self.count(), count);
    }

    /// Creates users in each directory, and waits until the witness has heard of all of them.
    async fn create_users(&mut self, count: usize) {
        let base = self.world.base();
        for _ in 0..count {
            self.users += 1;
            let name = format!("user-{}@example.com", self.users);
            for scim in &self.directories {
                scim.through(&base).create_user(&name).await;
            }
        }
        let admin = self.world.admin();
        settled(&admin, &self.witness, &self.names(), SOON).await;
    }

    /// Makes sure that nothing more is sent to the endpoint for the time being.
    async fn is_silent(&mut self, count: usize) {
        self.create_users(1).await;
        assert_eq!(self.count(), count, "nothing is sent now");
    }

    async fn state(&self) -> Option<endpoint_states::Model> {
        let row = endpoint_states::Entity::find_by_id(self.id);
        row.one(self.world.store().reader()).await.unwrap()
    }

    async fn row(&self) -> endpoints::Model {
        let row = endpoints::Entity::find_by_id(self.id);
        row.one(self.world.store().reader()).await.unwrap().unwrap()
    }

    /// Waits until the breaker is open and all that was on its way then has ended; returns the row.
    async fn wait_until_open(&mut self) -> endpoint_states::Model {
        eventually("an open breaker", SOON, async || {
            self.state().await.is_some_and(|row| row.breaker == "open")
        })
        .await;
        loop {
            let before = self.count();
            self.create_users(1).await;
            if self.count() == before {
                return self.state().await.unwrap();
            }
        }
    }

    fn advance_to(&self, at_ms: i64) {
        let wait = at_ms - self.world.clock.now_ms();
        assert!(wait >= 0, "{wait}");
        self.world.clock.advance_ms(wait);
    }

    /// Lets time pass until everything has arrived, in order.
    async fn drain(&self) {
        let admin = self.world.admin();
        let mut expected = Vec::new();
        for name in self.names() {
            expected.push((name, admin.sequence(name).await));
        }
        eventually("everything", SOON, async || {
            self.world.clock.advance_ms(SECOND);
            tokio::time::sleep(Duration::from_millis(30)).await;
            let ledger = self.world.receiver.ledger();
            expected
                .iter()
                .all(|(name, last)| ledger.is_complete(name, *last))
        })
        .await;
        settled(&admin, &self.world.receiver, &self.names(), SOON).await;
        assert_eq!(self.world.receiver.ledger().duplicates(), 0);
    }

    /// How many audit entries about the endpoint there are of this kind.
    async fn entries(&self, action: &str) -> usize {
        audit_entries::Entity::find()
            .filter(audit_entries::Column::Action.eq(action))
            .filter(audit_entries::Column::Subject.eq(self.id.to_string()))
            .all(self.world.store().reader())
            .await
            .unwrap()
            .len()
    }
}

on_both_still! {
    a_restart_keeps_a_breaker_open_and_its_probes_go_on_where_they_were,
    a_receiver_that_asks_for_a_pause_gets_nothing_until_it_is_over,
    an_endpoint_that_says_it_is_gone_is_disabled_at_once_and_goes_on_where_it_was_when_enabled,
    an_endpoint_that_fails_for_a_week_is_told_of_three_times_and_then_disabled,
    an_endpoint_gets_no_more_in_a_second_than_it_wants,
}

async fn a_restart_keeps_a_breaker_open_and_its_probes_go_on_where_they_were(world: StillServer) {
    let mut scene = Scene::set(world, 1).await;
    scene.world.receiver.behave(|_| Reply::status(500));
    scene.create_users(12).await;
    let opened = scene.wait_until_open().await;
    let sent = scene.count();

    scene.world.restart().await;
    scene.is_silent(sent).await;
    assert_eq!(scene.state().await.unwrap(), opened);

    scene.advance_to(opened.probe_at_ms.unwrap() - 1);
    scene.is_silent(sent).await;
    scene.advance_to(opened.probe_at_ms.unwrap());
    scene.wait_for_count(sent + 1).await;
    scene.is_silent(sent + 1).await;
    let probed = scene.state().await.unwrap();
    assert_eq!((opened.probes, probed.probes), (0, 1));
    assert_eq!(probed.failing_since_ms, opened.failing_since_ms);
    let pause = probed.probe_at_ms.unwrap() - opened.probe_at_ms.unwrap();
    assert!((8 * SECOND..=12 * SECOND).contains(&pause), "{pause}");

    scene.world.receiver.behave(|_| Reply::OK);
    scene.advance_to(probed.probe_at_ms.unwrap());
    scene.drain().await;
    let closed = scene.state().await.unwrap();
    assert_eq!((closed.breaker.as_str(), closed.probes), ("closed", 0));
    assert_eq!(closed.failing_since_ms, None);
    scene.world.stop().await;
}

async fn a_receiver_that_asks_for_a_pause_gets_nothing_until_it_is_over(world: StillServer) {
    let mut scene = Scene::set(world, 1).await;
    let before = scene.count();
    scene.world.receiver.behave(|_| Reply::wait(429, 120));
    scene.create_users(1).await;
    eventually("a record of the refusal", SOON, async || {
        !scene.world.exceptions().await.is_empty()
    })
    .await;

    scene.is_silent(before + 1).await;
    scene.world.clock.advance_ms(119 * SECOND);
    scene.is_silent(before + 1).await;

    scene.world.receiver.behave(|_| Reply::OK);
    scene.world.clock.advance_ms(SECOND);
    scene.wait_for_count(before + 4).await;
    scene.drain().await;
    scene.world.stop().await;
}

async fn an_endpoint_that_says_it_is_gone_is_disabled_at_once_and_goes_on_where_it_was_when_enabled(
    world: StillServer,
) {
    let mut scene = Scene::set(world, 1).await;
    scene.world.receiver.behave(|_| Reply::status(410));
    scene.create_users(3).await;
    eventually("a disabled endpoint", SOON, async || {
        scene.row().await.status == "disabled"
    })
    .await;

    let sent = scene.count();
    assert_eq!(scene.row().await.disabled_because.as_deref(), Some("gone"));
    scene.is_silent(sent).await;
    assert_eq!(scene.entries("webhook_endpoint.disabled").await, 1);
    assert_eq!(scene.entries("webhook_endpoint.failing").await, 1);
    let failed = attempts::Entity::find()
        .all(scene.world.store().reader())
        .await;
    assert_eq!(failed.unwrap()[0].status_code, Some(410));
    let path = format!("/admin/v1/directories/{}/health", scene.names()[0]);
    let health = scene.world.admin().get(&path).await;
    let shown = &health["endpoints"][0];
    assert_eq!(shown["disabled_because"], "gone");
    assert_eq!(shown["breaker"], "open");
    assert!(shown["failing_since"].is_string(), "{shown}");
    assert_eq!(health["endpoints"][1]["breaker"], "closed");

    scene.world.receiver.behave(|_| Reply::OK);
    let store = scene.world.store();
    let enable = async || {
        endpoint::enable(store, Actor::COMMAND, scene.id)
            .await
            .unwrap()
    };
    assert!(enable().await);
    assert!(!enable().await, "it is enabled already");
    scene.drain().await;
    assert_eq!(scene.entries("webhook_endpoint.enabled").await, 1);
    assert_eq!(scene.state().await.unwrap().breaker, "closed");
    scene.world.stop().await;
}

async fn an_endpoint_that_fails_for_a_week_is_told_of_three_times_and_then_disabled(
    world: StillServer,
) {
    let mut scene = Scene::set(world, 1).await;
    scene.world.receiver.behave(|_| Reply::status(500));
    scene.create_users(1).await;
    eventually("a record of the failure", SOON, async || {
        !scene.world.exceptions().await.is_empty()
    })
    .await;
    let since = scene.world.clock.now_ms();
    scene.world.clock.advance_ms(61 * SECOND);
    eventually("a failure of the endpoint", SOON, async || {
        let state = scene.state().await;
        state.is_some_and(|row| row.failing_since_ms == Some(since))
    })
    .await;

    let follow = async || {
        let store = scene.world.store();
        // Two nodes at once tell once.
        let both = tokio::join!(
            endpoint::follow_failing(store),
            endpoint::follow_failing(store)
        );
        both.0.unwrap() + both.1.unwrap()
    };
    for (after, acts) in [
        (HOUR - SECOND, 0),
        (HOUR, 1),
        (2 * HOUR, 0),
        (DAY, 1),
        (6 * DAY, 1),
        (7 * DAY - SECOND, 0),
        (7 * DAY, 1),
        (8 * DAY, 0),
    ] {
        scene.advance_to(since + after);
        assert_eq!(follow().await, acts, "after {after} ms");
    }
    assert_eq!(scene.entries("webhook_endpoint.failing").await, 4);
    assert_eq!(scene.entries("webhook_endpoint.disabled").await, 1);
    let row = scene.row().await;
    assert_eq!(row.disabled_because.as_deref(), Some("failing"));

    scene.world.receiver.behave(|_| Reply::OK);
    scene.create_users(1).await;
    let store = scene.world.store();
    assert!(
        endpoint::enable(store, Actor::COMMAND, scene.id)
            .await
            .unwrap()
    );
    eventually("what came while it was disabled", SOON, async || {
        let ledger = scene.world.receiver.ledger();
        let mut accepted = ledger.requests().iter().filter(|one| one.is_accepted());
        accepted.any(|one| one.body.contains("user-2@example.com"))
    })
    .await;
    scene.world.stop().await;
}

async fn an_endpoint_gets_no_more_in_a_second_than_it_wants(world: StillServer) {
    const RATE: i32 = 3;
    let mut scene = Scene::set(world, 1).await;
    endpoints::Entity::update_many()
        .col_expr(endpoints::Column::RatePerSecond, Expr::value(RATE))
        .filter(endpoints::Column::Id.eq(scene.id))
        .exec(scene.world.store().statement_connection())
        .await
        .unwrap();
    scene.world.restart().await;
    let before = scene.count();

    scene.create_users(12).await;
    for second in 1..=3 {
        scene.wait_for_count(before + second * 3).await;
        scene.is_silent(before + second * 3).await;
        scene.world.clock.advance_ms(SECOND);
    }
    scene.drain().await;
    scene.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_a_breaker_and_one_of_them_probes() {
    let Some(world) = StillServer::on_postgres().await else {
        return;
    };
    let (other, _files) = world.another().await;
    let mut scene = Scene::set(world, DIRECTORIES_OF_NODES).await;
    wait_until_shared(&scene.world).await;
    scene.world.receiver.behave(|_| Reply::status(503));
    scene.create_users(2).await;
    let opened = scene.wait_until_open().await;
    let sent = scene.count();

    // If the node whose turn it is has nothing to send, the other one probes a little later.
    scene.advance_to(opened.probe_at_ms.unwrap() + 3 * SECOND);
    scene.wait_for_count(sent + 1).await;
    scene.is_silent(sent + 1).await;
    let probed = scene.state().await.unwrap();
    assert_eq!(probed.probes, opened.probes + 1);

    scene.world.receiver.behave(|_| Reply::OK);
    scene.advance_to(probed.probe_at_ms.unwrap() + 3 * SECOND);
    scene.drain().await;
    assert_eq!(scene.state().await.unwrap().breaker, "closed");
    other.stop().await;
    scene.world.stop().await;
}

/// Waits until both nodes deliver some of the directories.
async fn wait_until_shared(world: &StillServer) {
    let owners = "SELECT l.node_id, count(DISTINCT d.shard) AS used \
                  FROM shard_leases l LEFT JOIN directories d ON d.shard = l.shard \
                  WHERE l.until_ms > EXTRACT(EPOCH FROM clock_timestamp()) * 1000 \
                  GROUP BY l.node_id HAVING count(DISTINCT l.shard) = 8";
    eventually("sharing of shards", SOON, async || {
        let store = world.store();
        let rows = store
            .reader()
            .query_all_raw(store.dialect().statement(owners, []))
            .await
            .unwrap();
        let used = |row: &sea_orm::QueryResult| row.try_get::<i64>("", "used").unwrap();
        rows.len() == 2 && rows.iter().all(|row| used(row) > 0)
    })
    .await;
}
