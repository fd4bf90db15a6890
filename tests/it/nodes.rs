//! Several nodes on one PostgreSQL database: starting, dying, and leaving.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::client::{Admin, Scim};
use crate::support::postgres::{self, server};
use crate::support::process::{Installation, Node};
use crate::support::receiver::Receiver;
use crate::support::waiting::{eventually, settled};

const DIRECTORIES: usize = 12;
const WRITE_EVERY: Duration = Duration::from_millis(100);
/// How soon after the death of its node a shard must be delivered again.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);
const DELIVERY_MAX: Duration = Duration::from_mins(1);
/// How many clients write with one token at once, half of them at each node.
const CLIENTS: usize = 6;

/// Two nodes, a receiver, and directories of which each node delivers some.
struct Pair {
    installation: Installation,
    first: Node,
    second: Node,
    receiver: Receiver,
    admin: Admin,
    directories: Vec<Scim>,
}

impl Pair {
    async fn start() -> Option<Self> {
        let installation = Installation::on_postgres(server()?);
        let (first, second) = (installation.launch(), installation.launch());
        first.wait_until_ready().await;
        second.wait_until_ready().await;
        let key = installation.api_key().await;
        let admin = Admin::new(&[first.base(), second.base()], key);
        let receiver = Receiver::start();
        admin.subscribe(&receiver).await;
        let mut directories = Vec::new();
        for _ in 0..DIRECTORIES {
            directories.push(admin.directory().await);
        }
        let pair = Self {
            installation,
            first,
            second,
            receiver,
            admin,
            directories,
        };
        pair.wait_until_shared().await;
        Some(pair)
    }

    /// Waits until both nodes deliver some of the directories, each its half of the shards.
    async fn wait_until_shared(&self) {
        let connection = postgres::connect(&self.installation.database_url())
            .await
            .unwrap();
        let owners = "SELECT count(*) AS shards, count(DISTINCT d.shard) AS used \
                      FROM shard_leases l LEFT JOIN directories d ON d.shard = l.shard \
                      WHERE l.until_ms > EXTRACT(EPOCH FROM clock_timestamp()) * 1000 \
                      GROUP BY l.node_id";
        eventually("sharing of shards", Duration::from_secs(20), async || {
            let rows = connection
                .query_all_raw(rollcall::storage::Dialect::Postgres.statement(owners, []))
                .await
                .unwrap();
            let used = |row: &sea_orm::QueryResult| row.try_get::<i64>("", "used").unwrap();
            rows.len() == 2 && rows.iter().all(|row| used(row) > 0)
        })
        .await;
    }

    fn names(&self) -> Vec<&str> {
        self.directories.iter().map(Scim::directory).collect()
    }
}

/// Creates users in each directory until it is told to end.
struct Writers {
    end: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Writers {
    fn start(directories: &[Scim]) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for scim in directories {
            let (scim, end) = (scim.clone(), Arc::clone(&end));
            tasks.spawn(async move {
                let mut number = 0;
                while !end.load(Ordering::Relaxed) {
                    scim.create_user(&format!("user-{number}@example.com"))
                        .await;
                    number += 1;
                    tokio::time::sleep(WRITE_EVERY).await;
                }
            });
        }
        Self { end, tasks }
    }

    async fn end(self) {
        self.end.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
    }
}

/// One request to create a user.
#[derive(Clone, Copy, Debug)]
struct Sent {
    started: Instant,
    ended: Instant,
    status: u16,
}

/// Clients that create users, one after the other, and never try twice.
struct Clients {
    end: Arc<AtomicBool>,
    token: watch::Sender<Scim>,
    tasks: JoinSet<Vec<Sent>>,
}

impl Clients {
    /// Starts some at each of `nodes`.
    fn start(name: &str, scim: &Scim, nodes: [&str; 2]) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let (token, _) = watch::channel(scim.clone());
        let mut tasks = JoinSet::new();
        for (number, node) in nodes.into_iter().cycle().take(CLIENTS).enumerate() {
            let (end, token, node) = (Arc::clone(&end), token.subscribe(), node.to_owned());
            let name = format!("{name}-{number}");
            tasks.spawn(async move {
                let mut sent = Vec::new();
                while !end.load(Ordering::Relaxed) {
                    let scim = token.borrow().through(&node);
                    let started = Instant::now();
                    let user = format!("{name}-{}@example.com", sent.len());
                    let status = scim.try_to_create_user(&user).await;
                    let ended = Instant::now();
                    sent.push(Sent {
                        started,
                        ended,
                        status,
                    });
                }
                sent
            });
        }
        Self { end, token, tasks }
    }

    async fn end(self) -> Vec<Sent> {
        self.end.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.concat()
    }
}

/// How long after `since` the first event past `sequence` of a directory arrived.
fn resumed(
    receiver: &Receiver,
    directory: &str,
    sequence: i64,
    since: Instant,
) -> Option<Duration> {
    let ledger = receiver.ledger();
    let mut requests = ledger.requests().iter();
    let first = requests.find(|one| one.directory == directory && one.sequence > sequence);
    first.map(|request| request.arrived.saturating_duration_since(since))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_start_at_once_on_an_empty_database_both_become_ready() {
    let Some(server) = server() else { return };
    let installation = Installation::on_postgres(server);

    let (first, second) = (installation.launch(), installation.launch());

    first.wait_until_ready().await;
    second.wait_until_ready().await;
    let key = installation.api_key().await;
    for node in [&first, &second] {
        Admin::new(&[node.base()], key.clone()).directory().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shards_of_a_killed_node_are_delivered_by_the_other_within_ten_seconds() {
    let Some(mut pair) = Pair::start().await else {
        return;
    };
    let writers = Writers::start(&pair.directories);
    eventually("deliveries", DELIVERY_MAX, async || {
        pair.receiver.ledger().accepted() > 20 * DIRECTORIES
    })
    .await;

    pair.second.kill_9();
    let killed = Instant::now();
    let mut sequences = Vec::new();
    for scim in &pair.directories {
        let sequence = pair.admin.sequence(scim.directory()).await;
        sequences.push((scim.directory().to_owned(), sequence));
    }
    let resumed_all = || {
        sequences
            .iter()
            .map(|(directory, last)| resumed(&pair.receiver, directory, *last, killed))
            .collect::<Option<Vec<Duration>>>()
    };
    eventually("takeover", DELIVERY_MAX, async || resumed_all().is_some()).await;
    writers.end().await;

    let takeover = resumed_all().unwrap().into_iter().max().unwrap();
    settled(&pair.admin, &pair.receiver, &pair.names(), DELIVERY_MAX).await;
    let ledger = pair.receiver.ledger();
    eprintln!(
        "takeover after {takeover:?}; {} events, {} duplicates",
        ledger.accepted(),
        ledger.duplicates()
    );
    assert!(takeover < TAKEOVER_MAX, "{takeover:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_stopped_hands_its_shards_over_without_a_duplicate() {
    let Some(mut pair) = Pair::start().await else {
        return;
    };
    let remaining = pair.first.base().to_owned();
    let directories: Vec<Scim> = pair
        .directories
        .iter()
        .map(|scim| scim.through(&remaining))
        .collect();
    let writers = Writers::start(&directories);
    eventually("deliveries", DELIVERY_MAX, async || {
        pair.receiver.ledger().accepted() > 20 * DIRECTORIES
    })
    .await;

    let told = Instant::now();
    pair.second.terminate().await;
    let took = told.elapsed();
    let mut sequences = Vec::new();
    for scim in &directories {
        let sequence = pair.admin.sequence(scim.directory()).await;
        sequences.push((scim.directory().to_owned(), sequence));
    }
    let resumed_all = || {
        sequences
            .iter()
            .map(|(directory, last)| resumed(&pair.receiver, directory, *last, told))
            .collect::<Option<Vec<Duration>>>()
    };
    eventually("handover", DELIVERY_MAX, async || resumed_all().is_some()).await;
    writers.end().await;

    let handover = resumed_all().unwrap().into_iter().max().unwrap();
    settled(&pair.admin, &pair.receiver, &pair.names(), DELIVERY_MAX).await;
    let ledger = pair.receiver.ledger();
    eprintln!(
        "stopped within {took:?}, handed over within {handover:?}; {} events",
        ledger.accepted()
    );
    assert_eq!(ledger.duplicates(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_rotated_under_load_without_a_failure_and_revoked_on_every_node_at_once() {
    let Some(server) = server() else { return };
    let installation = Installation::on_postgres(server);
    let (first, second) = (installation.launch(), installation.launch());
    first.wait_until_ready().await;
    second.wait_until_ready().await;
    let nodes = [first.base(), second.base()];
    let admin = Admin::new(&nodes, installation.api_key().await);
    let old = admin.directory().await;
    let directory = old.directory();
    let id = admin.tokens(directory).await.remove(0);
    let pause = || tokio::time::sleep(Duration::from_millis(700));

    let moving = Clients::start("moving", &old, nodes);
    let staying = Clients::start("staying", &old, nodes);
    pause().await;
    let new = old.with_token(&admin.rotate_token(directory, &id).await);
    pause().await;
    moving.token.send_replace(new);
    pause().await;
    let asked = Instant::now();
    admin.revoke_token(directory, &id).await;
    let revoked = Instant::now();
    let mut at_once = Vec::new();
    for node in nodes {
        let user = format!("late-{}@example.com", at_once.len());
        at_once.push(old.through(node).try_to_create_user(&user).await);
    }
    pause().await;
    let (moving, staying) = (moving.end().await, staying.end().await);

    assert_eq!(at_once, [401, 401]);
    let failed = moving.iter().filter(|sent| sent.status != 201).count();
    assert_eq!(failed, 0, "of {}", moving.len());
    let before: Vec<&Sent> = staying.iter().filter(|sent| sent.ended < asked).collect();
    let after: Vec<&Sent> = staying
        .iter()
        .filter(|sent| sent.started > revoked)
        .collect();
    assert!(before.len() > CLIENTS && after.len() > CLIENTS && moving.len() > 3 * CLIENTS);
    assert!(before.iter().all(|sent| sent.status == 201));
    assert!(after.iter().all(|sent| sent.status == 401));
    eprintln!(
        "{} requests moved; {} before and {} after the revocation, which took {:?}",
        moving.len(),
        before.len(),
        after.len(),
        revoked - asked
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_users_with_one_name_on_two_nodes_one_is_created() {
    let Some(server) = server() else { return };
    let installation = Installation::on_postgres(server);
    let (first, second) = (installation.launch(), installation.launch());
    first.wait_until_ready().await;
    second.wait_until_ready().await;
    let nodes = [first.base(), second.base()];
    let admin = Admin::new(&nodes, installation.api_key().await);
    let scim = admin.directory().await;

    for round in 0..3 {
        let mut clients = JoinSet::new();
        for node in nodes.into_iter().cycle().take(16) {
            let scim = scim.through(node);
            clients.spawn(async move {
                let name = format!("user-{round}@example.com");
                scim.try_to_create_user(&name).await
            });
        }
        let mut statuses = clients.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses[0], 201);
        assert_eq!(statuses[1..], [409; 15]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_added_at_once_on_two_nodes_are_all_in_the_group() {
    let Some(server) = server() else { return };
    let installation = Installation::on_postgres(server);
    let (first, second) = (installation.launch(), installation.launch());
    first.wait_until_ready().await;
    second.wait_until_ready().await;
    let nodes = [first.base(), second.base()];
    let admin = Admin::new(&nodes, installation.api_key().await);
    let receiver = Receiver::start();
    admin.subscribe(&receiver).await;
    let scim = admin.directory().await;
    let group = scim.create_group("everybody").await;

    let mut clients = JoinSet::new();
    for (number, node) in nodes.into_iter().cycle().take(8).enumerate() {
        let (scim, group) = (scim.through(node), group.clone());
        clients.spawn(async move {
            for round in 0..5 {
                let name = format!("user-{number}-{round}@example.com");
                let user = scim.create_user(&name).await;
                scim.add_members(&group, &[user]).await;
            }
        });
    }
    clients.join_all().await;

    settled(&admin, &receiver, &[scim.directory()], DELIVERY_MAX).await;
    let shown = scim.picture().await;
    assert_eq!(shown.memberships.len(), 8 * 5);
    let ledger = receiver.ledger();
    assert_eq!(ledger.replica(scim.directory()).unwrap().picture(), shown);
    assert_eq!(ledger.duplicates(), 0);
}
