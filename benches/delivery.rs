//! How fast webhooks go out: as a ratio to what one HTTP client can send on this machine in the same run.
//!
//! `cargo bench --bench delivery` on SQLite, and on PostgreSQL where it is installed. A backlog of 50,000
//! events, most of them memberships of one group, is written while nothing is delivered; then it is
//! delivered to one endpoint. The second figure is what a healthy endpoint costs those who write.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark prints, and one that cannot go on says so by panicking"
)]
#![expect(dead_code, reason = "the tests use more of what they share")]

#[path = "../tests/it/support"]
mod support {
    pub(crate) mod client;
    pub(crate) mod ledger;
    pub(crate) mod postgres;
    pub(crate) mod process;
    pub(crate) mod receiver;
    pub(crate) mod replica;
    pub(crate) mod waiting;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::client::{Admin, Scim};
use support::postgres::server;
use support::process::Installation;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const PEOPLE: usize = 10_000;
/// Everybody joins and leaves one group, twice over.
const TURNS: usize = 4;
const EVENTS: u64 = 50_000;
const IN_FLIGHT: u64 = 32;
const CLIENTS: usize = 32;
const MEMBERS_AT_ONCE: usize = 1_000;
const CREATES: usize = 4_000;

/// Answers every request with 200 and counts; in a thread of its own, as a receiver elsewhere would be.
struct Sink {
    url: String,
    count: Arc<AtomicU64>,
}

impl Sink {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let count = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&count);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(answer(stream, Arc::clone(&counting)));
                }
            });
        });
        Self { url, count }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How many a second came in until there were `wanted` more than `before`, from the first one on.
    async fn rate(&self, before: u64, wanted: u64) -> f64 {
        let until = |count| async move {
            while self.count() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        until(before + 1).await;
        let started = Instant::now();
        until(before + wanted).await;
        per_second(wanted, started)
    }
}

async fn answer(mut stream: TcpStream, count: Arc<AtomicU64>) {
    let mut bytes = Vec::new();
    loop {
        let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            if matches!(stream.read_buf(&mut bytes).await, Ok(0) | Err(_)) {
                return;
            }
            continue;
        };
        let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
        let length: usize = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let end = head + 4 + length;
        while bytes.len() < end {
            if matches!(stream.read_buf(&mut bytes).await, Ok(0) | Err(_)) {
                return;
            }
        }
        bytes.drain(..end);
        count.fetch_add(1, Ordering::Relaxed);
        let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(reply).await.is_err() {
            return;
        }
    }
}

fn per_second(count: u64, since: Instant) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / since.elapsed().as_secs_f64()
}

/// What the HTTP client alone sends: a body as long as an event, nothing signed, nothing written down.
#[expect(
    clippy::disallowed_methods,
    reason = "the client as it is, without what we put around it"
)]
async fn floor() -> f64 {
    let sink = Sink::start();
    let client = reqwest::Client::new();
    let body = "x".repeat(700);
    let mut senders = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (client, url, body) = (client.clone(), sink.url.clone(), body.clone());
        senders.spawn(async move {
            for _ in 0..EVENTS / IN_FLIGHT {
                let sent = client.post(&url).body(body.clone()).send().await.unwrap();
                sent.bytes().await.unwrap();
            }
        });
    }
    let rate = sink.rate(0, EVENTS / IN_FLIGHT * IN_FLIGHT).await;
    senders.join_all().await;
    rate
}

async fn create_people(scim: &Scim, prefix: &'static str, count: usize) -> Vec<String> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let scim = scim.clone();
        clients.spawn(async move {
            let mut ids = Vec::new();
            for number in (client..count).step_by(CLIENTS) {
                ids.push(
                    scim.create_user(&format!("{prefix}{number}@example.com"))
                        .await,
                );
            }
            ids
        });
    }
    clients.join_all().await.into_iter().flatten().collect()
}

async fn creates(scim: &Scim, prefix: &'static str) -> f64 {
    let started = Instant::now();
    create_people(scim, prefix, CREATES).await;
    per_second(CREATES.try_into().unwrap(), started)
}

async fn measure(name: &str, installation: &Installation) {
    let mut node = installation.start().await;
    node.set("LOG__LEVEL", "error");
    node.set("LIMITS__SCIM_REQUESTS_PER_SECOND", "0");
    node.start_again().await;
    let admin = Admin::new(&[node.base()], installation.api_key().await);
    let scim = admin.directory().await;
    let alone = creates(&scim, "alone").await;
    let sink = Sink::start();
    admin.subscribe_url(&sink.url).await;
    let beside = creates(&scim, "beside").await;
    println!(
        "{name}: creates {beside:.0}/s with an endpoint, {alone:.0}/s without: {:.2}",
        beside / alone
    );

    node.set("NODE__DISPATCHER", "false");
    node.terminate().await;
    node.start_again().await;
    let scim = admin.directory().await;
    let people = create_people(&scim, "person", PEOPLE).await;
    let group = scim.create_group("Everybody").await;
    for turn in 0..TURNS {
        for some in people.chunks(MEMBERS_AT_ONCE) {
            if turn % 2 == 0 {
                scim.add_members(&group, some).await;
            } else {
                let members: Vec<_> = some
                    .iter()
                    .map(|id| serde_json::json!({"value": id}))
                    .collect();
                let operation =
                    serde_json::json!([{"op": "remove", "path": "members", "value": members}]);
                scim.patch(&format!("/Groups/{group}"), operation).await;
            }
        }
    }
    let before = floor().await;
    node.set("NODE__DISPATCHER", "true");
    node.terminate().await;
    let start = sink.count();
    node.start_again().await;
    let rate = sink.rate(start, EVENTS).await;
    let after = floor().await;
    let floor = f64::midpoint(before, after);
    println!(
        "{name}: {rate:.0} events/s, the client alone {before:.0} and {after:.0}/s: {:.2}",
        rate / floor
    );
    node.terminate().await;
}

#[tokio::main]
async fn main() {
    measure("SQLite", &Installation::on_sqlite()).await;
    if let Some(server) = server() {
        measure("PostgreSQL", &Installation::on_postgres(server)).await;
    }
}
