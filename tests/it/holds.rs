//! Directories whose deliveries are held: nothing of them goes out, everything of the others does, and
//! all that was held arrives in order when it is released.
//!
//! The server runs inside the test with a clock that the test moves, and once as a process to be killed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rollcall::actor::Actor;
use rollcall::app::{self, Running};
use rollcall::clock::{ManualClock, SystemClock};
use rollcall::config::Config;
use rollcall::directories::deletion;
use rollcall::directories::directory::{self, Flow};
use rollcall::ids::DirectoryId;
use rollcall::storage::tables::{endpoint_cursors, exceptions, lagging};
use rollcall::storage::{Opener, Store};
use sea_orm::{ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _};
use tempfile::TempDir;

use crate::support::client::{Admin, Scim};
use crate::support::postgres::server;
use crate::support::process::Installation;
use crate::support::receiver::{Receiver, Reply};
use crate::support::waiting::{eventually, settled};

const NOW_MS: i64 = 1_790_000_000_000;
const MINUTE: i64 = 60_000;
const SOON: Duration = Duration::from_secs(20);
/// How soon a hold must be known to every node.
const HOLD_KNOWN: Duration = Duration::from_millis(1_500);
const MASTER_KEY: &str = "rcmk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

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

/// A server in this process whose clock stands still.
struct World {
    clock: Arc<ManualClock>,
    files: TempDir,
    database_url: String,
    running: Option<Running>,
    key: String,
    receiver: Receiver,
}

impl World {
    async fn on_sqlite() -> Self {
        let files = TempDir::with_prefix("rollcall-test-").unwrap();
        let url = format!("sqlite:{}", files.path().join("test.sqlite3").display());
        Self::start(files, url).await
    }

    async fn on_postgres() -> Option<Self> {
        let files = TempDir::with_prefix("rollcall-test-").unwrap();
        Some(Self::start(files, server()?.create_database()).await)
    }

    async fn start(files: TempDir, database_url: String) -> Self {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let running = run(files.path(), &database_url, &clock).await;
        let receiver = Receiver::start_with(Arc::<ManualClock>::clone(&clock));
        Self {
            key: running.first_api_key().unwrap(),
            running: Some(running),
            clock,
            files,
            database_url,
            receiver,
        }
    }

    async fn restart(&mut self) {
        self.running.take().unwrap().stop().await;
        let running = run(self.files.path(), &self.database_url, &self.clock).await;
        self.running = Some(running);
    }

    async fn stop(mut self) {
        self.running.take().unwrap().stop().await;
    }

    fn admin(&self) -> Admin {
        let base = format!("http://{}", self.running.as_ref().unwrap().address);
        Admin::new(&[&base], self.key.clone())
    }

    fn store(&self) -> &Store {
        &self.running.as_ref().unwrap().context.store
    }

    /// The same directory through the server that runs now.
    fn again(&self, scim: &Scim) -> Scim {
        scim.through(&format!(
            "http://{}",
            self.running.as_ref().unwrap().address
        ))
    }

    async fn exceptions(&self) -> Vec<exceptions::Model> {
        let rows = exceptions::Entity::find();
        rows.all(self.store().reader()).await.unwrap()
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

async fn run(directory: &Path, database_url: &str, clock: &Arc<ManualClock>) -> Running {
    let settings = [
        ("DATA_DIR", directory.to_str().unwrap()),
        ("DATABASE_URL", database_url),
        ("MASTER_KEY", MASTER_KEY),
        ("LISTEN", "127.0.0.1:0"),
        ("NODE__SCHEDULER", "false"),
        ("WEBHOOKS__ALLOW_NETWORKS", "127.0.0.0/8"),
        ("LIMITS__SCIM_REQUESTS_PER_SECOND", "0"),
        ("LIMITS__API_REQUESTS_PER_SECOND", "0"),
    ];
    let environment = settings
        .into_iter()
        .map(|(name, value)| (format!("ROLLCALL_{name}"), value.to_owned()));
    let config = Config::load_from(None, environment).unwrap();
    app::start_with(config, Arc::<ManualClock>::clone(clock))
        .await
        .unwrap()
}

/// What is held waits while the others go on, and arrives once and in order when it is released; then
/// the directory goes with the others again.
async fn wait_and_arrive(world: World) {
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
async fn wait_for_deletion(world: World) {
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
async fn outlast_a_restart(mut world: World) {
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
async fn pile_up(world: World) {
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

async fn shard_of(world: &World, scim: &Scim) -> i16 {
    let id = DirectoryId::parse(scim.directory()).unwrap();
    let row = rollcall::storage::tables::directories::Entity::find_by_id(id);
    row.one(world.store().reader())
        .await
        .unwrap()
        .unwrap()
        .shard
}

/// Another directory of the same shard.
async fn neighbour(world: &World, admin: &Admin, of: &Scim) -> Scim {
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
    wait_and_arrive(World::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_what_is_held_waits_and_arrives_in_order_when_it_is_released() {
    if let Some(world) = World::on_postgres().await {
        wait_and_arrive(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_a_directory_that_is_to_be_deleted_is_held_retries_included() {
    wait_for_deletion(World::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_directory_that_is_to_be_deleted_is_held_retries_included() {
    if let Some(world) = World::on_postgres().await {
        wait_for_deletion(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_a_hold_outlasts_a_restart_and_so_does_what_waits_for_a_retry() {
    outlast_a_restart(World::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_hold_outlasts_a_restart_and_so_does_what_waits_for_a_retry() {
    if let Some(world) = World::on_postgres().await {
        outlast_a_restart(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_what_piles_up_of_a_held_directory_is_kept_in_the_log_alone() {
    pile_up(World::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_what_piles_up_of_a_held_directory_is_kept_in_the_log_alone() {
    if let Some(world) = World::on_postgres().await {
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
