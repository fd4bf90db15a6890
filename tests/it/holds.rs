//! Directories whose deliveries are held: nothing of them goes out, everything of the others does, and
//! all that was held arrives in order when it is released.
//!
//! The server runs inside the test with a clock that the test moves, and once as a process to be killed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rollcall::actor::Actor;
use rollcall::clock::SystemClock;
use rollcall::directories::deletion;
use rollcall::directories::directory::{self, Flow};
use rollcall::ids::DirectoryId;
use rollcall::storage::tables::{endpoint_cursors, lagging};
use rollcall::storage::{Opener, Store};
use sea_orm::{ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _};

use crate::support::client::{Admin, Scim};
use crate::support::postgres::server;
use crate::support::process::Installation;
use crate::support::receiver::{Receiver, Reply};
use crate::support::still::StillServer;
use crate::support::waiting::{eventually, settled};

const MINUTE: i64 = 60_000;
const SOON: Duration = Duration::from_secs(20);
/// How soon a hold must be known to every node.
const HOLD_KNOWN: Duration = Duration::from_millis(1_500);

/// How a directory comes to be held.
#[derive(Clone, Copy, Debug)]
enum Reason {
    ByHand,
    ToBeDeleted,
}

async fn hold(store: &Store, scim: &Scim, reason: Reason) {
    let id = DirectoryId::parse(scim.directory()).unwrap();
    let actor = Actor::COMMAND;
    let held = match reason {
        Reason::ByHand => directory::stop(store, actor, id, Flow::Deliveries, "a test").await,
        Reason::ToBeDeleted => deletion::schedule(store, actor, id, TimeDelta::days(3)).await,
    };
    held.unwrap();
}

async fn release(store: &Store, scim: &Scim, reason: Reason) {
    let id = DirectoryId::parse(scim.directory()).unwrap();
    let actor = Actor::COMMAND;
    let released = match reason {
        Reason::ByHand => directory::resume(store, actor, id, Flow::Deliveries).await,
        Reason::ToBeDeleted => deletion::restore(store, actor, id).await,
    };
    released.unwrap();
}

/// Whether the place of a directory is one of its own, in the database.
async fn is_split_off(store: &Store, scim: &Scim) -> bool {
    let id = DirectoryId::parse(scim.directory()).unwrap();
    let rows = lagging::Entity::find().filter(lagging::Column::DirectoryId.eq(id));
    rows.count(store.reader()).await.unwrap() > 0
}

fn requests(receiver: &Receiver, scim: &Scim) -> usize {
    let ledger = receiver.ledger();
    let requests = ledger.requests().iter();
    requests
        .filter(|one| one.directory == scim.directory())
        .count()
}

/// A few people, two of them in a group, one of them renamed.
async fn write(scim: &Scim, prefix: &str) {
    let group = scim.create_group(&format!("{prefix}-group")).await;
    let mut ids = Vec::new();
    for number in 0..4 {
        let name = format!("{prefix}-{number}@example.com");
        ids.push(scim.create_user(&name).await);
    }
    scim.add_members(&group, &ids[..2]).await;
    let title = serde_json::json!([{"op": "replace", "path": "title", "value": prefix}]);
    scim.patch(&format!("/Users/{}", ids[0]), title).await;
}

impl StillServer {
    /// The same directory through the server that runs now.
    fn again(&self, scim: &Scim) -> Scim {
        scim.through(&format!(
            "http://{}",
            self.running.as_ref().unwrap().address
        ))
    }

    /// Holds the deliveries of a directory and waits until that is in force.
    async fn hold(&self, scim: &Scim, reason: Reason) {
        hold(self.store(), scim, reason).await;
        eventually("a place of its own", SOON, async || {
            is_split_off(self.store(), scim).await
        })
        .await;
    }

    async fn rejoined(&self, scim: &Scim) {
        eventually("the end of the split", SOON, async || {
            !is_split_off(self.store(), scim).await
        })
        .await;
    }
}

/// What is held waits while the others go on, and arrives once and in order when it is released; then
/// the directory goes with the others again.
async fn wait_and_arrive(world: StillServer) {
    let admin = world.admin();
    let endpoint = admin.subscribe(&world.receiver).await;
    let held = admin.directory().await;
    let other = admin.directory().await;
    write(&held, "before").await;
    settled(&admin, &world.receiver, &[held.directory()], SOON).await;
    let before = requests(&world.receiver, &held);

    world.hold(&held, Reason::ByHand).await;
    write(&held, "held").await;
    write(&other, "other").await;
    settled(&admin, &world.receiver, &[other.directory()], SOON).await;
    assert_eq!(requests(&world.receiver, &held), before);
    let last = admin.sequence(held.directory()).await;
    let waiting = last - i64::try_from(before).unwrap();
    eventually("the count of what waits", SOON, async || {
        admin.undelivered(&endpoint).await == waiting
    })
    .await;

    release(world.store(), &held, Reason::ByHand).await;
    settled(&admin, &world.receiver, &[held.directory()], SOON).await;
    world.rejoined(&held).await;
    write(&held, "after").await;
    let both = [held.directory(), other.directory()];
    settled(&admin, &world.receiver, &both, SOON).await;
    assert_eq!(world.receiver.ledger().duplicates(), 0);
    world.stop().await;
}

/// A directory that is to be deleted is held, for as long as that is not done.
async fn wait_for_deletion(world: StillServer) {
    let admin = world.admin();
    admin.subscribe(&world.receiver).await;
    let going = admin.directory().await;
    write(&going, "before").await;
    settled(&admin, &world.receiver, &[going.directory()], SOON).await;
    world.receiver.behave(|_| Reply::status(503));
    let before = requests(&world.receiver, &going);
    going.create_user("refused@example.com").await;
    eventually("a refused event", SOON, async || {
        requests(&world.receiver, &going) > before && !world.exceptions().await.is_empty()
    })
    .await;

    world.hold(&going, Reason::ToBeDeleted).await;
    world.receiver.behave(|_| Reply::OK);
    let tried = requests(&world.receiver, &going);
    world.clock.advance_ms(10 * MINUTE);
    let other = admin.directory().await;
    write(&other, "other").await;
    settled(&admin, &world.receiver, &[other.directory()], SOON).await;
    assert_eq!(requests(&world.receiver, &going), tried);

    release(world.store(), &going, Reason::ToBeDeleted).await;
    settled(&admin, &world.receiver, &[going.directory()], SOON).await;
    world.rejoined(&going).await;
    world.stop().await;
}

/// A hold outlasts a restart, and so do the exceptions of what is held.
async fn outlast_a_restart(mut world: StillServer) {
    let admin = world.admin();
    let endpoint = admin.subscribe(&world.receiver).await;
    let held = admin.directory().await;
    let poisoned = held.create_user("poisoned@example.com").await;
    settled(&admin, &world.receiver, &[held.directory()], SOON).await;
    world.receiver.behave(|request| {
        let is_poisoned = request.body.contains("poisoned");
        Reply::status(if is_poisoned { 500 } else { 200 })
    });
    let title = serde_json::json!([{"op": "replace", "path": "title", "value": "late"}]);
    held.patch(&format!("/Users/{poisoned}"), title).await;
    eventually("a record of the failure", SOON, async || {
        let rows = world.exceptions().await;
        rows.len() == 1 && rows[0].attempts == 1
    })
    .await;
    world.hold(&held, Reason::ByHand).await;
    write(&held, "held").await;

    world.restart().await;
    let admin = world.admin();
    let held = world.again(&held);
    let tried = requests(&world.receiver, &held);
    world.receiver.behave(|_| Reply::OK);
    world.clock.advance_ms(10 * MINUTE);
    let other = admin.directory().await;
    write(&other, "other").await;
    settled(&admin, &world.receiver, &[other.directory()], SOON).await;
    write(&held, "more").await;
    assert_eq!(requests(&world.receiver, &held), tried);
    assert_eq!(
        world.exceptions().await.len(),
        1,
        "nothing is kept per event"
    );
    assert!(admin.undelivered(&endpoint).await > 10);

    release(world.store(), &held, Reason::ByHand).await;
    settled(&admin, &world.receiver, &[held.directory()], SOON).await;
    world.rejoined(&held).await;
    eventually("the end of the exception", SOON, async || {
        world.exceptions().await.is_empty()
    })
    .await;
    assert_eq!(world.receiver.ledger().duplicates(), 0);
    world.stop().await;
}

/// Nodes that were killed know what is held as soon as they are back, and other processes' holds.
async fn survive_kills(installation: &Installation) {
    let mut node = installation.start().await;
    let admin = Admin::new(&[node.base()], installation.api_key().await);
    let receiver = Receiver::start();
    admin.subscribe(&receiver).await;
    let (held, other) = (admin.directory().await, admin.directory().await);
    write(&held, "before").await;
    settled(&admin, &receiver, &[held.directory()], SOON).await;
    let url = installation.database_url();
    let beside = Store::open(&url, Opener::Command, Arc::new(SystemClock))
        .await
        .unwrap();
    hold(&beside, &held, Reason::ByHand).await;
    tokio::time::sleep(HOLD_KNOWN).await;
    let before = requests(&receiver, &held);

    for round in 0..3 {
        write(&held, &format!("held-{round}")).await;
        write(&other, &format!("other-{round}")).await;
        if round == 1 {
            settled(&admin, &receiver, &[other.directory()], SOON).await;
        }
        node.kill_9();
        node.start_again().await;
    }
    settled(&admin, &receiver, &[other.directory()], SOON).await;
    assert_eq!(requests(&receiver, &held), before);

    release(&beside, &held, Reason::ByHand).await;
    let both = [held.directory(), other.directory()];
    settled(&admin, &receiver, &both, SOON).await;
    eventually("the end of the split", SOON, async || {
        !is_split_off(&beside, &held).await
    })
    .await;
    beside.close().await;
}

/// What piles up of a directory that is held neither makes rows nor keeps the others' cursor back.
async fn pile_up(world: StillServer) {
    const PEOPLE: usize = 300;
    let admin = world.admin();
    admin.subscribe(&world.receiver).await;
    let held = admin.directory().await;
    let other = neighbour(&world, &admin, &held).await;
    world.hold(&held, Reason::ByHand).await;
    let group = held.create_group("everybody").await;
    let mut ids = Vec::new();
    for number in 0..PEOPLE {
        let name = format!("user-{number}@example.com");
        ids.push(held.create_user(&name).await);
    }
    held.add_members(&group, &ids).await;
    write(&other, "other").await;
    settled(&admin, &world.receiver, &[other.directory()], SOON).await;
    assert_eq!(requests(&world.receiver, &held), 0);
    assert!(world.exceptions().await.is_empty());
    let shard = shard_of(&world, &held).await;
    eventually("a cursor past what is held", SOON, async || {
        let cursor = endpoint_cursors::Entity::find()
            .filter(endpoint_cursors::Column::Shard.eq(shard))
            .one(world.store().reader())
            .await;
        usize::try_from(cursor.unwrap().unwrap().position).unwrap() > 2 * PEOPLE
    })
    .await;

    release(world.store(), &held, Reason::ByHand).await;
    let both = [held.directory(), other.directory()];
    settled(&admin, &world.receiver, &both, Duration::from_mins(1)).await;
    world.rejoined(&held).await;
    assert_eq!(world.receiver.ledger().duplicates(), 0);
    world.stop().await;
}

async fn shard_of(world: &StillServer, scim: &Scim) -> i16 {
    let id = DirectoryId::parse(scim.directory()).unwrap();
    let row = rollcall::storage::tables::directories::Entity::find_by_id(id);
    row.one(world.store().reader())
        .await
        .unwrap()
        .unwrap()
        .shard
}

/// Another directory of the same shard.
async fn neighbour(world: &StillServer, admin: &Admin, of: &Scim) -> Scim {
    let shard = shard_of(world, of).await;
    let mut seen = BTreeSet::new();
    loop {
        let other = admin.directory().await;
        if shard_of(world, &other).await == shard {
            return other;
        }
        assert!(seen.insert(other.directory().to_owned()) && seen.len() < 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_what_is_held_waits_and_arrives_in_order_when_it_is_released() {
    wait_and_arrive(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_what_is_held_waits_and_arrives_in_order_when_it_is_released() {
    if let Some(world) = StillServer::on_postgres().await {
        wait_and_arrive(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_a_directory_that_is_to_be_deleted_is_held_retries_included() {
    wait_for_deletion(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_directory_that_is_to_be_deleted_is_held_retries_included() {
    if let Some(world) = StillServer::on_postgres().await {
        wait_for_deletion(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_a_hold_outlasts_a_restart_and_so_does_what_waits_for_a_retry() {
    outlast_a_restart(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_hold_outlasts_a_restart_and_so_does_what_waits_for_a_retry() {
    if let Some(world) = StillServer::on_postgres().await {
        outlast_a_restart(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_what_piles_up_of_a_held_directory_is_kept_in_the_log_alone() {
    pile_up(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_what_piles_up_of_a_held_directory_is_kept_in_the_log_alone() {
    if let Some(world) = StillServer::on_postgres().await {
        pile_up(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_a_hold_set_beside_the_server_survives_its_being_killed() {
    survive_kills(&Installation::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_hold_set_beside_the_server_survives_its_being_killed() {
    if let Some(server) = server() {
        survive_kills(&Installation::on_postgres(server)).await;
    }
}
