//! Backups and generations: that a copy is whole although it is written meanwhile, and that nothing that
//! comes after a restore has a number that receivers have seen on something else.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rollcall::clock::{Clock as _, SystemClock};
use rollcall::first_start::generation;
use rollcall::ids::EventId;
use rollcall::storage::tables::{directories, events, facts};
use rollcall::storage::{self, Lane, Store, UseCase, WriteTx};
use sea_orm::{ActiveValue, EntityTrait as _, QueryOrder as _};
use tokio::task::JoinSet;

use crate::support::client::{Admin, Scim};
use crate::support::postgres::server;
use crate::support::process::{Installation, Node, fail, succeed};
use crate::support::receiver::Receiver;
use crate::support::store::{Fixture, draft};
use crate::support::waiting::eventually;

const DELIVERY_MAX: Duration = Duration::from_secs(30);
const STEP: i64 = 1_000_000;

/// A node with one directory and a receiver.
struct Scene {
    node: Node,
    admin: Admin,
    scim: Scim,
    receiver: Receiver,
    /// Keeps the files.
    _installation: Installation,
}

impl Scene {
    async fn start(installation: Installation) -> Self {
        let node = installation.start().await;
        let admin = Admin::new(&[node.base()], installation.api_key().await);
        let receiver = Receiver::start();
        admin.subscribe(&receiver).await;
        let scim = admin.directory().await;
        Self {
            node,
            admin,
            scim,
            receiver,
            _installation: installation,
        }
    }

    async fn create_users(&self, prefix: &str, count: usize) {
        for number in 0..count {
            let name = format!("{prefix}-{number}@example.com");
            self.scim.create_user(&name).await;
        }
    }

    async fn newest(&self) -> i64 {
        self.admin.sequence(self.scim.directory()).await
    }

    /// Waits until the event with this sequence has been accepted; its previous one and its generation.
    async fn arrival(&self, sequence: i64) -> (i64, i64) {
        let find = || {
            let ledger = self.receiver.ledger();
            let mut requests = ledger.requests().iter();
            let found =
                requests.find(|request| request.sequence == sequence && request.is_accepted());
            found.map(|request| (request.previous, request.generation))
        };
        let what = format!("event {sequence}");
        eventually(&what, DELIVERY_MAX, async || find().is_some()).await;
        find().unwrap()
    }

    /// No sequence has arrived on two events.
    fn assert_no_number_twice(&self) {
        let ledger = self.receiver.ledger();
        let mut seen: HashMap<(&str, i64), &str> = HashMap::new();
        for request in ledger.requests() {
            let place = (request.directory.as_str(), request.sequence);
            let first = seen.entry(place).or_insert(&request.event_id);
            assert_eq!(*first, request.event_id, "{place:?}");
        }
        assert!(!self.node.log().contains("gap in a directory"));
    }
}

fn copies_in(directory: &Path, part: &str) -> usize {
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().contains(part))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_while_writing_is_restored_into_a_new_generation() {
    let mut scene = Scene::start(Installation::on_sqlite()).await;
    scene.create_users("before", 20).await;
    let scim = scene.scim.clone();
    let mut writer = JoinSet::new();
    writer.spawn(async move {
        for number in 0..60 {
            scim.create_user(&format!("during-{number}@example.com"))
                .await;
        }
    });
    let told = succeed(scene.node.verb(&["backup", "copy.sqlite3"]));
    assert!(told.contains("master.key"), "{told}");
    writer.join_all().await;
    let copy = scene.node.directory().join("copy.sqlite3");
    let mode = fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = fail(scene.node.verb(&["backup", "copy.sqlite3"]));
    assert!(again.contains("exists already"), "{again}");

    // What the backup does not know, and receivers have seen.
    scene.create_users("lost", 5).await;
    let seen = scene.newest().await;
    scene.arrival(seen).await;
    let refused = fail(scene.node.verb(&["restore", "copy.sqlite3", "--force"]));
    assert!(refused.contains("another server is running"), "{refused}");

    scene.node.terminate().await;
    let refused = fail(scene.node.verb(&["restore", "copy.sqlite3"]));
    assert!(refused.contains("--force"), "{refused}");
    let told = succeed(scene.node.verb(&["restore", "copy.sqlite3", "--force"]));
    assert!(told.contains("Generation 2 begins"), "{told}");
    assert!(told.contains(scene.scim.directory()), "{told}");
    assert_eq!(copies_in(scene.node.directory(), ".replaced-"), 1);
    assert_eq!(copies_in(scene.node.directory(), ".restoring"), 0);

    scene.node.start_again().await;
    let kept = scene.newest().await;
    assert!((21..seen).contains(&kept), "{kept} of {seen}");
    scene.create_users("after", 2).await;
    assert_eq!(scene.newest().await, kept + STEP + 2);
    assert_eq!(scene.arrival(kept + STEP + 1).await, (kept, 2));
    assert_eq!(scene.arrival(kept + STEP + 2).await, (kept + STEP + 1, 2));

    // The same backup once more: what it replaces knows that there has been a second generation.
    scene.node.terminate().await;
    let told = succeed(scene.node.verb(&["restore", "copy.sqlite3", "--force"]));
    assert!(told.contains("Generation 3 begins"), "{told}");
    scene.node.start_again().await;
    scene.create_users("again", 1).await;
    assert_eq!(scene.arrival(kept + 2 * STEP + 1).await, (kept, 3));
    scene.assert_no_number_twice();
    let shown = scene.admin.get("/admin/v1/generations").await;
    assert_eq!(shown["data"][0]["number"], 3);
    assert_eq!(shown["data"][0]["directories"], 1);
    assert_eq!(shown["data"][1]["cause"], "first start");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_backup_of_this_installation_is_refused_and_nothing_touched() {
    let mut scene = Scene::start(Installation::on_sqlite()).await;
    scene.create_users("user", 3).await;
    succeed(scene.node.verb(&["backup", "copy.sqlite3"]));
    let newest = scene.newest().await;
    scene.node.terminate().await;
    let directory = scene.node.directory().to_owned();
    let whole = fs::read(directory.join("copy.sqlite3")).unwrap();
    let mut damaged = whole.clone();
    for byte in damaged.iter_mut().skip(8 * 4_096).take(4_096) {
        *byte = 0xa5;
    }
    fs::write(directory.join("damaged"), damaged).unwrap();
    fs::write(directory.join("cut"), &whole[..whole.len() / 2]).unwrap();
    fs::write(directory.join("text"), "this is not a database at all").unwrap();
    fs::write(directory.join("empty"), "").unwrap();
    for file in ["damaged", "cut", "text", "empty", "missing"] {
        let refused = fail(scene.node.verb(&["restore", file, "--force"]));
        assert!(refused.contains(file), "{refused}");
    }
    let mut other_key = scene.node.verb(&["restore", "copy.sqlite3", "--force"]);
    let key = succeed(scene.node.verb(&["key", "new"]));
    other_key.env("ROLLCALL_MASTER_KEY", key.trim());
    let refused = fail(other_key);
    assert!(refused.contains("master key is not the one"), "{refused}");
    assert!(!refused.contains(key.trim()));
    for left in [".replaced-", ".restoring", ".part"] {
        assert_eq!(copies_in(&directory, left), 0, "{left}");
    }
    scene.node.start_again().await;
    assert_eq!(scene.newest().await, newest);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_backed_up_by_its_own_tools_and_told_that_it_was_restored() {
    let Some(server) = server() else { return };
    let mut scene = Scene::start(Installation::on_postgres(server)).await;
    scene.create_users("before", 3).await;
    let told = fail(scene.node.verb(&["backup", "copy.dump"]));
    assert!(told.contains("pg_dump --format=custom"), "{told}");
    let told = fail(scene.node.verb(&["restore", "copy.dump"]));
    assert!(told.contains("--new-generation"), "{told}");
    let told = fail(scene.node.verb(&["restore", "--new-generation"]));
    assert!(told.contains("stop all servers"), "{told}");

    let kept = scene.newest().await;
    scene.node.terminate().await;
    // A node that has just stopped counts as running for a few seconds.
    let mut last = String::new();
    eventually("a generation", DELIVERY_MAX, async || {
        let mut restore = scene
            .node
            .verb(&["restore", "--new-generation", "--above", "6"]);
        let output = restore.output().unwrap();
        last = String::from_utf8(output.stdout).unwrap();
        output.status.success()
    })
    .await;
    assert!(last.contains("Generation 7 begins"), "{last}");
    scene.node.start_again().await;
    scene.create_users("after", 1).await;
    assert_eq!(scene.arrival(kept + 6 * STEP + 1).await, (kept, 7));
    scene.assert_no_number_twice();
}

/// Appends an event.
struct Append(directories::Model);

impl UseCase for Append {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        tx.buffer(draft(&self.0, EventId::generate()));
        Ok(())
    }
}

/// The sequences and positions of all events, oldest first.
async fn places(store: &Store) -> Vec<(i64, i64)> {
    let rows = events::Entity::find().order_by_asc(events::Column::Position);
    let rows = rows.all(store.reader()).await.unwrap();
    rows.iter()
        .map(|row| (row.sequence.unwrap(), row.position))
        .collect()
}

async fn is_on_another_timeline(store: &Store) {
    let fact = facts::ActiveModel {
        name: ActiveValue::Unchanged("timeline".to_owned()),
        value: ActiveValue::Set("of another server".to_owned()),
    };
    let updated = facts::Entity::update(fact).exec(store.statement_connection());
    updated.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lossy_failover_begins_one_generation_however_often_servers_start() {
    let Some(fixture) = Fixture::on_postgres(1).await else {
        return;
    };
    let (store, directory) = (&fixture.store, &fixture.directories[0]);
    let start = async |is_lossy| {
        generation::at_start(store, SystemClock.now(), is_lossy)
            .await
            .unwrap()
    };
    let append = async || {
        let lane = Lane::Directory(directory.id);
        store.write(lane, Append(directory.clone())).await.unwrap();
    };
    assert_eq!(start(true).await, 1);
    append().await;
    is_on_another_timeline(store).await;
    assert_eq!(start(false).await, 1);
    append().await;
    let (one, other) = tokio::join!(start(true), start(true));
    assert_eq!((one, other), (2, 2));
    assert_eq!(start(true).await, 2);
    append().await;
    append().await;

    let places = places(store).await;
    let last = places.len() - 3;
    let (before, position) = places[last];
    assert_eq!(places[last + 1].0, before + STEP + 1);
    assert_eq!(places[last + 2].0, before + STEP + 2);
    assert!(places[last + 1].1 >= position + 1_000_000_000);
    store.close().await;
}
