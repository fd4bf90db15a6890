//! Receivers that cannot be trusted, cannot be understood, or mean harm, beside some that are well.

use std::time::{Duration, Instant};

use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use tokio::task::JoinSet;

use rollcall::ids::EndpointId;
use rollcall::storage::tables::attempts;

use crate::support::client::Admin;
use crate::support::hostile_receiver::{HostileReceiver, Manner};
use crate::support::postgres;
use crate::support::process::{Installation, Node};
use crate::support::receiver::Receiver;
use crate::support::tls::{Authority, Identity, TlsReceiver};
use crate::support::waiting::{eventually, settled};

const PEOPLE: usize = 25;
const CLIENTS: usize = 4;
/// How long receivers that are well may wait, whatever the others do.
const DELIVERY_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const ATTEMPT_MAX: Duration = Duration::from_secs(30);
/// What the harm may cost in memory.
const MEMORY_KIB_MAX: u64 = 100 * 1024;

/// The words that are written down about the attempts at an endpoint.
async fn failures(installation: &Installation, endpoint: &str) -> Vec<String> {
    let id = EndpointId::parse(endpoint).unwrap();
    let connection = postgres::connect(&installation.database_url())
        .await
        .unwrap();
    let rows = attempts::Entity::find()
        .filter(attempts::Column::EndpointId.eq(id))
        .all(&connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    rows.into_iter().filter_map(|row| row.failure).collect()
}

/// What the server says to whoever is not safe: an alert that the version is too old.
fn old_server() -> Manner {
    Manner::SaysAtOnce("\u{15}\u{3}\u{1}\u{0}\u{2}\u{2}\u{46}".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_tls_of_a_receiver_is_told_apart_and_no_proxy_is_asked() {
    let installation = Installation::on_sqlite();
    let mut node = installation.prepare();
    // A machine calls itself by both.
    node.set("WEBHOOKS__ALLOW_NETWORKS", "127.0.0.0/8, ::1");
    let authority = Authority::new();
    let trusted = node.directory().join("authority.pem");
    authority.write(&trusted);
    node.set_environment("SSL_CERT_FILE", trusted.display().to_string());
    let proxy = HostileReceiver::start(Manner::Says(String::new())).await;
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        node.set_environment(name, format!("http://{}", proxy.address()));
    }
    node.set_environment("NO_PROXY", String::new());
    node.start_again().await;
    let admin = Admin::new(&[node.base()], installation.api_key().await);

    let good = TlsReceiver::start(authority.vouch_for("localhost")).await;
    let expired = TlsReceiver::start(authority.vouched_for_once("localhost")).await;
    let other = TlsReceiver::start(authority.vouch_for("elsewhere.example")).await;
    let alone = TlsReceiver::start(Identity::self_signed("localhost")).await;
    let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let plain = HostileReceiver::start(Manner::SaysAtOnce(answer.to_owned())).await;
    let old = HostileReceiver::start(old_server()).await;
    let resets = HostileReceiver::start(Manner::Resets).await;
    let port = |receiver: &HostileReceiver| receiver.address().port();
    let mut expected = Vec::new();
    for (url, word) in [
        (expired.url("localhost"), "certificate_expired"),
        (other.url("localhost"), "certificate_name"),
        (alone.url("localhost"), "certificate_untrusted"),
        (format!("https://localhost:{}/", port(&plain)), "not_tls"),
        (format!("https://localhost:{}/", port(&old)), "tls_version"),
        (format!("https://localhost:{}/", port(&resets)), "tls"),
        (
            node.base().replace("http://127.0.0.1", "https://localhost"),
            "not_tls",
        ),
        ("https://127.0.0.1:1/".to_owned(), "connect"),
        ("https://no-such-name.invalid/".to_owned(), "dns"),
    ] {
        expected.push((admin.subscribe_url(&url).await.0, url, word));
    }
    let (well, _) = admin.subscribe_url(&good.url("localhost")).await;
    let scim = admin.directory().await;
    scim.create_user("ada@example.com").await;

    let mut missing = expected.len();
    let started = Instant::now();
    while missing > 0 && started.elapsed() < ATTEMPT_MAX {
        missing = 0;
        for (endpoint, ..) in &expected {
            missing += usize::from(failures(&installation, endpoint).await.is_empty());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    for (endpoint, url, word) in expected {
        let found = failures(&installation, &endpoint).await;
        let found = found.first().map(String::as_str);
        assert_eq!(found, Some(word), "{url}; {missing} without an attempt");
    }
    eventually("delivery", DELIVERY_MAX, async || {
        admin.undelivered(&well).await == 0
    })
    .await;
    assert_eq!(failures(&installation, &well).await, [""; 0]);
    assert_eq!(proxy.connections(), 0);
}

/// The most memory that a process has ever used, in KiB.
fn memory_peak(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let digits = line.unwrap().trim().trim_end_matches(" kB");
    digits.parse().unwrap()
}

fn manners() -> Vec<Manner> {
    let ok = "HTTP/1.1 200 OK\r\n";
    let page = "x".repeat(1_000);
    let text = str::to_owned;
    vec![
        Manner::SaysAndHangs(text("")),
        Manner::Drips(text(""), format!("{ok}A: b\r\n")),
        Manner::Drips(format!("{ok}Content-Length: 1000\r\n\r\n"), text("x")),
        Manner::Repeats(format!("{ok}\r\n"), page.clone()),
        Manner::Repeats(
            format!("{ok}Content-Length: 1073741824\r\n\r\n"),
            page.clone(),
        ),
        Manner::Repeats(text(ok), text("A: b\r\n")),
        Manner::Repeats(format!("{ok}A: "), page),
        Manner::Drips(text(""), text("HTTP/1.1 100 Continue\r\n\r\n")),
        Manner::SaysAndResets(format!("{ok}Content-Length: 9\r\n\r\n")),
        Manner::Resets,
        Manner::Says(text("garbage\r\n\r\n")),
        Manner::SaysAtOnce(text("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")),
        Manner::Says(text("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")),
        Manner::Says(text(
            "HTTP/1.1 429 No\r\nRetry-After: -1\r\nContent-Length: 0\r\n\r\n",
        )),
        Manner::Says(text(
            "HTTP/1.1 429 No\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n",
        )),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_are_well_get_everything_beside_those_that_mean_harm() {
    let installation = Installation::on_sqlite();
    let node = installation.start().await;
    let admin = Admin::new(&[node.base()], installation.api_key().await);
    let before = memory_peak(&node);
    let mut hostile = Vec::new();
    for manner in manners() {
        let receiver = HostileReceiver::start(manner).await;
        let (endpoint, _) = admin.subscribe_url(&receiver.url()).await;
        hostile.push((endpoint, receiver));
    }
    let well = [Receiver::start(), Receiver::start(), Receiver::start()];
    for receiver in &well {
        admin.subscribe(receiver).await;
    }

    let scim = admin.directory().await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let scim = scim.clone();
        clients.spawn(async move {
            for number in 0..PEOPLE {
                let name = format!("user-{client}-{number}@example.com");
                scim.create_user(&name).await;
            }
        });
    }
    clients.join_all().await;

    for receiver in &well {
        settled(&admin, receiver, &[scim.directory()], DELIVERY_MAX).await;
        assert_eq!(receiver.ledger().duplicates(), 0);
    }
    // Each of the others has been asked, and has been given up on where it did not take the event.
    eventually("attempts at all", ATTEMPT_MAX, async || {
        hostile
            .iter()
            .all(|(_, receiver)| receiver.connections() > 0)
    })
    .await;
    let after = memory_peak(&node);
    eprintln!("{before} KiB before, {after} KiB at most");
    assert!(after < before + MEMORY_KIB_MAX, "{before} {after}");
    assert!(!node.log().contains("panicked"), "{}", node.log());
}
