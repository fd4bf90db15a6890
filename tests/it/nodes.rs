//! Several nodes on one PostgreSQL database: starting, dying, and leaving.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait as _;
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
