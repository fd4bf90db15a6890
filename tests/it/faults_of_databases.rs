//! Databases that stop, hang, break off, fill up, or hold what cannot be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rollcall::ids::{DirectoryId, EndpointId};
use rollcall::storage::tables::{endpoints, events, exceptions};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _,
};
use tokio::task::JoinSet;

use crate::support::client::{Admin, Scim};
use crate::support::postgres::{self, Private, server};
use crate::support::process::{Installation, Node};
use crate::support::proxy::{Proxy, Wire, address_of};
use crate::support::receiver::{Receiver, Reply};
use crate::support::still::StillServer;
use crate::support::waiting::{eventually, settled};

const DIRECTORIES: usize = 4;
const DELIVERY_MAX: Duration = Duration::from_mins(1);
/// No request waits for longer, whatever the database does.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How soon after the end of a fault everything works again.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

/// Clients that create users and remember what came of it.
struct Writers {
    end: Arc<AtomicBool>,
    created: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    tasks: JoinSet<Duration>,
}

impl Writers {
    fn start(directories: &[Scim], base: &str) -> Self {
        let end = Arc::<AtomicBool>::default();
        let (created, refused) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        for scim in directories {
            let scim = scim.through(base);
            let end = Arc::clone(&end);
            let (created, refused) = (Arc::clone(&created), Arc::clone(&refused));
            tasks.spawn(async move {
                let (mut number, mut longest) = (0, Duration::ZERO);
                while !end.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    let name = format!("user-{number}@example.com");
                    let status = scim.try_to_create_user(&name).await;
                    longest = longest.max(started.elapsed());
                    match status {
                        // 409: an earlier try that was not answered had come through.
                        201 | 409 => {
                            number += 1;
                            created.fetch_add(1, Ordering::Relaxed);
                        }
                        500 | 502..=599 | 0 => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        status => panic!("{status}"),
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                longest
            });
        }
        Self {
            end,
            created,
            refused,
            tasks,
        }
    }

    fn created(&self) -> usize {
        self.created.load(Ordering::Relaxed)
    }

    /// Waits until some more were created.
    async fn get_on(&self, limit: Duration) -> Duration {
        let goal = self.created() + 5 * DIRECTORIES;
        eventually("writes", limit, async || self.created() >= goal).await
    }

    /// Waits until some more were refused.
    async fn wait_until_refused(&self) {
        let goal = self.refused.load(Ordering::Relaxed) + DIRECTORIES;
        let is_reached = async || self.refused.load(Ordering::Relaxed) >= goal;
        eventually("refusals", ANSWER_MAX, is_reached).await;
    }

    /// Ends them; how many users there are, and how long the longest request took.
    async fn end(self) -> (usize, Duration) {
        self.end.store(true, Ordering::Relaxed);
        let longest = self.tasks.join_all().await.into_iter().max();
        (self.created.load(Ordering::Relaxed), longest.unwrap())
    }
}

/// A server with directories and a receiver.
struct Scene {
    // Before the installation: when a test fails, its log is shown, and then its files are removed.
    node: Node,
    installation: Installation,
    admin: Admin,
    receiver: Receiver,
    directories: Vec<Scim>,
}

impl Scene {
    async fn set(installation: Installation) -> Self {
        let node = installation.start().await;
        let admin = Admin::new(&[node.base()], installation.api_key().await);
        let receiver = Receiver::start();
        admin.subscribe(&receiver).await;
        let mut directories = Vec::new();
        for _ in 0..DIRECTORIES {
            directories.push(admin.directory().await);
        }
        Self {
            node,
            installation,
            admin,
            receiver,
            directories,
        }
    }

    fn write(&self) -> Writers {
        Writers::start(&self.directories, self.node.base())
    }

    /// Everything that was said has been delivered, and what was created is there.
    async fn assert_whole(&self, created: usize) {
        let names: Vec<&str> = self.directories.iter().map(Scim::directory).collect();
        settled(&self.admin, &self.receiver, &names, DELIVERY_MAX).await;
        let mut found = 0;
        for scim in &self.directories {
            let shown = scim.picture().await;
            let ledger = self.receiver.ledger();
            assert_eq!(
                ledger
                    .replica(scim.directory())
                    .unwrap()
                    .picture()
                    .users
                    .len(),
                shown.users.len()
            );
            found += shown.users.len();
        }
        // The last write of each client may have been cut off after it was made.
        assert!(
            (created..=created + DIRECTORIES).contains(&found),
            "{created} {found}"
        );
        assert!(!self.node.log().contains("panicked"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_server_that_crashes_under_load_loses_nothing_that_was_acknowledged() {
    let Some(mut server) = Private::start() else {
        return;
    };
    let scene = Scene::set(Installation::at(server.url())).await;
    let writers = scene.write();
    for _ in 0..2 {
        writers.get_on(DELIVERY_MAX).await;
        tokio::task::block_in_place(|| server.stop_immediately());
        writers.wait_until_refused().await;
        tokio::task::block_in_place(|| server.start_again());
        let recovery = writers.get_on(RECOVERY_MAX).await;
        eprintln!("writes again after {recovery:?}");
    }
    let (created, longest) = writers.end().await;

    assert!(longest < ANSWER_MAX, "{longest:?}");
    scene.assert_whole(created).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_to_the_database_that_fails_in_any_way_loses_nothing_and_holds_nobody_up() {
    let Some(server) = server() else { return };
    let url = server.create_database();
    let proxy = Proxy::to(address_of(&url)).await;
    let scene = Scene::set(Installation::at(proxy.url(&url))).await;
    let writers = scene.write();
    for wire in [
        Wire::Broken,
        Wire::Dead,
        Wire::DeadFromServer,
        Wire::Slow(Duration::from_millis(20)),
    ] {
        writers.get_on(DELIVERY_MAX).await;
        proxy.turn(wire);
        if matches!(wire, Wire::Slow(_)) {
            writers.get_on(DELIVERY_MAX).await;
        } else {
            writers.wait_until_refused().await;
        }
        proxy.turn(Wire::Fine);
        let recovery = writers.get_on(RECOVERY_MAX).await;
        eprintln!("{wire:?}: writes again after {recovery:?}");
    }
    let (created, longest) = writers.end().await;

    eprintln!("{created} users, the longest request took {longest:?}");
    assert!(longest < ANSWER_MAX, "{longest:?}");
    scene.assert_whole(created).await;
}

async fn is_ready(node: &Node) -> bool {
    let client = rollcall::outbound::ApiClient::new().unwrap();
    let url = format!("{}/readyz", node.base());
    let answer = client.send("GET", &url, None, "", None, &[]).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_refuses_writes_until_there_is_room_again() {
    let installation = Installation::on_sqlite();
    let mut scene = Scene::set(installation).await;
    // Room for the database as it is and for little more; the file size counts as the disk's.
    scene.node.limit("trap '' XFSZ; ulimit -S -f 6000");
    scene.node.start_again().await;
    let writers = scene.write();
    let refused = async || writers.refused.load(Ordering::Relaxed) > 2 * DIRECTORIES;
    eventually("a full disk", DELIVERY_MAX, refused).await;

    let freed = std::process::Command::new("prlimit")
        .args([
            "--pid",
            &scene.node.pid().to_string(),
            "--fsize=unlimited:unlimited",
        ])
        .status()
        .unwrap();
    assert!(freed.success());
    let recovery = writers.get_on(RECOVERY_MAX).await;
    let (created, _) = writers.end().await;

    eprintln!("writes again after {recovery:?}; {created} users");
    assert!(is_ready(&scene.node).await);
    scene.assert_whole(created).await;
    let connection = postgres::connect(&scene.installation.database_url())
        .await
        .unwrap();
    let check = connection
        .query_one_raw(rollcall::storage::Dialect::Sqlite.statement("PRAGMA integrity_check", []))
        .await
        .unwrap();
    assert_eq!(check.unwrap().try_get_by_index::<String>(0).unwrap(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_few_file_descriptors_connections_wait_and_nothing_is_lost() {
    let mut scene = Scene::set(Installation::on_sqlite()).await;
    scene.node.limit("ulimit -n 64");
    scene.node.start_again().await;
    let address = scene.node.base().trim_start_matches("http://").to_owned();
    let mut held = Vec::new();
    for _ in 0..80 {
        held.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    drop(held);
    let writers = scene.write();
    writers.get_on(DELIVERY_MAX).await;
    let (created, _) = writers.end().await;
    scene.assert_whole(created).await;
}

// ---- stopping -----------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_ends_well_and_loses_and_repeats_nothing() {
    let mut scene = Scene::set(Installation::on_sqlite()).await;
    let writers = scene.write();
    for _ in 0..2 {
        writers.get_on(DELIVERY_MAX).await;
        let started = Instant::now();
        scene.node.terminate().await;
        assert!(started.elapsed() < Duration::from_secs(25));
        scene.node.start_again().await;
    }
    writers.get_on(DELIVERY_MAX).await;
    let (created, _) = writers.end().await;

    scene.assert_whole(created).await;
    assert_eq!(scene.receiver.ledger().duplicates(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_or_a_kill_while_it_stops_loses_nothing() {
    let mut scene = Scene::set(Installation::on_sqlite()).await;
    scene
        .receiver
        .behave(|_| Reply::slow(Duration::from_millis(500)));
    let writers = scene.write();
    writers.get_on(DELIVERY_MAX).await;

    scene.node.signal("-TERM");
    scene.node.signal("-TERM");
    scene.node.wait_until_ended().await;
    scene.node.start_again().await;
    writers.get_on(DELIVERY_MAX).await;
    scene.node.signal("-TERM");
    scene.node.kill_9();
    scene.node.start_again().await;
    writers.get_on(DELIVERY_MAX).await;
    let (created, _) = writers.end().await;

    scene.receiver.behave(|_| Reply::OK);
    scene.assert_whole(created).await;
}

// ---- what cannot be read ------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_needs_a_newer_server_is_refused_at_the_start() {
    let installation = Installation::on_sqlite();
    let mut node = installation.start().await;
    node.terminate().await;
    let connection = postgres::connect(&installation.database_url())
        .await
        .unwrap();
    let later =
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99991231_000001_later', 0)";
    connection.execute_unprepared(later).await.unwrap();
    let oldest = "UPDATE facts SET value = '999.0.0' WHERE name = 'oldest_binary'";
    connection.execute_unprepared(oldest).await.unwrap();

    let said = node.fail_to_start().await;

    assert!(said.contains("newer") || said.contains("999.0.0"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    connection.close().await.unwrap();
}

/// Leaves rows behind as a broken disk or a newer version would, all about `directory` and `endpoint`.
async fn damage(server: &StillServer, directory: &str, endpoint: &str) {
    let endpoint = EndpointId::parse(endpoint).unwrap();
    let directory = DirectoryId::parse(directory).unwrap();
    let connection = postgres::connect(&server.database_url).await.unwrap();
    endpoints::Entity::update_many()
        .col_expr(
            endpoints::Column::SealedSecret,
            Expr::value(vec![1_u8, 2, 3]),
        )
        .filter(endpoints::Column::Id.eq(endpoint))
        .exec(&connection)
        .await
        .unwrap();
    let rows = events::Entity::find()
        .filter(events::Column::DirectoryId.eq(directory))
        .order_by_desc(events::Column::Position)
        .all(&connection)
        .await
        .unwrap();
    for (row, (column, value)) in rows.iter().zip([
        (events::Column::Kind, "dsync.from.the.future"),
        (events::Column::Payload, "{\"id\":\"ev"),
        (events::Column::Names, "\u{1}"),
    ]) {
        events::Entity::update_many()
            .col_expr(column, Expr::value(value))
            .filter(events::Column::Position.eq(row.position))
            .exec(&connection)
            .await
            .unwrap();
    }
    let failing = exceptions::Entity::update_many()
        .col_expr(exceptions::Column::State, Expr::value("unheard of"))
        .filter(exceptions::Column::DirectoryId.eq(directory))
        .exec(&connection)
        .await
        .unwrap();
    assert!(failing.rows_affected > 0);
    connection.close().await.unwrap();
}

/// One directory and one endpoint are damaged; the other directory reaches the other endpoint.
async fn assert_that_others_flow(mut server: StillServer) {
    let admin = server.admin();
    let (well, damaged) = (admin.directory().await, admin.directory().await);
    admin.subscribe(&server.receiver).await;
    let unreadable = Receiver::start();
    let endpoint = admin.subscribe(&unreadable).await;
    well.create_user("before@example.com").await;
    settled(&admin, &server.receiver, &[well.directory()], DELIVERY_MAX).await;
    let refused = damaged.directory().to_owned();
    server.receiver.behave(move |request| {
        Reply::status(if request.directory == refused {
            503
        } else {
            200
        })
    });
    for number in 0..4 {
        damaged
            .create_user(&format!("user-{number}@example.com"))
            .await;
    }
    let id = DirectoryId::parse(damaged.directory()).unwrap();
    eventually("failures that are written down", DELIVERY_MAX, async || {
        let exceptions = server.exceptions().await;
        exceptions.iter().any(|row| row.directory_id == id)
    })
    .await;

    damage(&server, damaged.directory(), &endpoint).await;
    server.restart().await;
    let admin = server.admin();
    let base = format!("http://{}", server.running.as_ref().unwrap().address);
    well.through(&base).create_user("after@example.com").await;

    let last = admin.sequence(well.directory()).await;
    eventually("delivery to the others", DELIVERY_MAX, async || {
        server.receiver.ledger().is_complete(well.directory(), last)
    })
    .await;
    // Nothing was signed with a secret that cannot be read.
    let stopped = unreadable.ledger().requests().len();
    well.through(&base).create_user("later@example.com").await;
    let last = admin.sequence(well.directory()).await;
    eventually("delivery to the others", DELIVERY_MAX, async || {
        server.receiver.ledger().is_complete(well.directory(), last)
    })
    .await;
    assert_eq!(unreadable.ledger().requests().len(), stopped);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_what_cannot_be_read_stops_only_what_it_is_about() {
    assert_that_others_flow(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_what_cannot_be_read_stops_only_what_it_is_about() {
    if let Some(server) = StillServer::on_postgres().await {
        assert_that_others_flow(server).await;
    }
}

// ---- clocks -------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_neither_stops_deliveries_nor_repeats_them() {
    const HOUR_MS: i64 = 3_600_000;
    let server = StillServer::on_sqlite().await;
    let admin = server.admin();
    let scim = admin.directory().await;
    admin.subscribe(&server.receiver).await;

    let mut count = 0;
    for jump in [HOUR_MS, -HOUR_MS, -HOUR_MS, 24 * 365 * 10 * HOUR_MS] {
        server.clock.advance_ms(jump);
        for _ in 0..3 {
            scim.create_user(&format!("user-{count}@example.com")).await;
            count += 1;
        }
        settled(&admin, &server.receiver, &[scim.directory()], DELIVERY_MAX).await;
    }

    assert_eq!(server.receiver.ledger().duplicates(), 0);
    server.stop().await;
}
