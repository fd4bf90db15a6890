//! The webhook client against small servers on loopback that misbehave in one way each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

const BODY: &str = r#"{"id":"event_01"}"#;
/// How long the servers of the tests about time stay silent, less some room for a busy machine.
const SILENCE: Duration = Duration::from_secs(8);
const TOO_LONG: Duration = Duration::from_secs(6);

fn client(networks: &[&str]) -> WebhookClient {
    client_within(networks, TimeLimits::default())
}

/// With limits that a test can wait for.
fn hasty_client() -> WebhookClient {
    let limits = TimeLimits {
        connect: Duration::from_millis(400),
        head: Duration::from_millis(600),
        total: Duration::from_millis(1_200),
    };
    client_within(&["127.0.0.0/8"], limits)
}

fn client_within(networks: &[&str], limits: TimeLimits) -> WebhookClient {
    let allow_networks = networks.iter().map(|text| text.parse().unwrap()).collect();
    WebhookClient::new(AddressPolicy { allow_networks }, limits, &[]).unwrap()
}

/// A server that reads a request and answers with the bytes given, then with the rest after the
/// pause, on every connection. Counts its connections.
struct Receiver {
    url: Url,
    connections: Arc<AtomicUsize>,
    /// Ends with its set.
    _task: JoinSet<()>,
}

impl Receiver {
    async fn start(answer: &str, rest: &str, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let (answer, rest) = (String::from(answer), String::from(rest));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                open.spawn(serve(stream, answer.clone(), rest.clone(), pause));
            }
        });
        Self {
            url,
            connections,
            _task: task,
        }
    }

    async fn answering(answer: &str) -> Self {
        Self::start(answer, "", Duration::ZERO).await
    }
}

async fn serve(mut stream: TcpStream, answer: String, rest: String, pause: Duration) {
    let mut request = Vec::new();
    loop {
        request.clear();
        while !request.ends_with(BODY.as_bytes()) {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        if answer.is_empty() && rest.is_empty() && pause.is_zero() {
            return;
        }
        let echo = String::from_utf8_lossy(&request).into_owned();
        let answer = answer
            .replace("ECHO", &echo)
            .replace("LENGTH", &echo.len().to_string());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
        drop(stream.write_all(rest.as_bytes()).await);
    }
}

async fn post(client: &WebhookClient, url: &str) -> Outcome {
    client
        .post(&url.parse().unwrap(), &[], BODY, Duration::MAX)
        .await
}

fn kind(outcome: &Outcome) -> Option<FailureKind> {
    outcome.failure.as_ref().map(|failure| failure.kind)
}

#[tokio::test]
async fn a_webhook_arrives_with_its_headers_and_the_connection_is_kept() {
    let receiver =
        Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\n\r\nECHO").await;
    let client = client(&["127.0.0.0/8"]);
    let headers = [(String::from("WorkOS-Signature"), String::from("t=1, v1=00"))];
    let outcome = client
        .post(&receiver.url, &headers, BODY, Duration::MAX)
        .await;
    assert!(outcome.is_success(), "{outcome:?}");
    assert_eq!(outcome.failure, None);
    let request = outcome.body_excerpt.to_lowercase();
    assert!(request.starts_with("post /hooks http/1.1\r\n"), "{request}");
    assert!(request.contains("workos-signature: t=1, v1=00\r\n"));
    assert!(request.contains("content-type: application/json\r\n"));
    assert!(request.contains(&format!("user-agent: {USER_AGENT}\r\n")));
    assert!(request.ends_with(BODY));
    for _ in 0..5 {
        assert!(
            client
                .post(&receiver.url, &headers, BODY, Duration::MAX)
                .await
                .is_success()
        );
    }
    assert_eq!(receiver.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_redirect_and_a_refusal_are_reported_and_not_followed() {
    let redirect = "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://10.0.0.1/\r\n\
                    Retry-After: 120\r\nContent-Length: 2\r\n\r\nno";
    let receiver = Receiver::answering(redirect).await;
    let outcome = client(&["127.0.0.0/8"])
        .post(&receiver.url, &[], BODY, Duration::MAX)
        .await;
    assert_eq!(outcome.status, Some(307));
    assert!(!outcome.is_success());
    assert_eq!(outcome.retry_after.as_deref(), Some("120"));
    assert_eq!(outcome.body_excerpt, "no");
}

#[tokio::test]
async fn forbidden_addresses_are_not_dialled() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = receiver.url.port().unwrap();
    let strict = client(&[]);
    let elsewhere = client(&["10.0.0.0/8"]);
    for (client, url) in [
        (&strict, receiver.url.to_string()),
        (&strict, String::from("https://127.0.0.1/")),
        (&strict, String::from("https://[::ffff:127.0.0.1]/")),
        (&elsewhere, receiver.url.to_string()),
        // Names: refused when resolved.
        (&elsewhere, format!("http://localhost:{port}/")),
        (&elsewhere, String::from("https://localhost/")),
    ] {
        let outcome = post(client, &url).await;
        assert_eq!(
            kind(&outcome),
            Some(FailureKind::ForbiddenAddress),
            "{url} {outcome:?}"
        );
        let message = outcome.failure.unwrap().message;
        assert!(message.contains("allow_networks"), "{message}");
    }
    assert_eq!(receiver.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_in_an_allowed_network_is_dialled() {
    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let url = format!("http://localhost:{}/", receiver.url.port().unwrap());
    let outcome = post(&client(&["127.0.0.0/8", "::1/128"]), &url).await;
    assert_eq!(outcome.status, Some(204), "{outcome:?}");
}

#[tokio::test]
async fn failures_are_told_apart() {
    let client = client(&["127.0.0.0/8"]);

    let outcome = post(&client, "https://no-such-host.invalid/").await;
    assert_eq!(kind(&outcome), Some(FailureKind::Dns), "{outcome:?}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    for scheme in ["http", "https"] {
        let outcome = post(&client, &format!("{scheme}://{closed}/secret")).await;
        assert_eq!(kind(&outcome), Some(FailureKind::Connect), "{outcome:?}");
        assert!(!outcome.failure.unwrap().message.contains("secret"));
    }

    let hangs_up = Receiver::answering("").await;
    let outcome = client.post(&hangs_up.url, &[], BODY, Duration::MAX).await;
    assert_eq!(kind(&outcome), Some(FailureKind::Protocol), "{outcome:?}");

    let garbage = Receiver::answering("SMTP ready\r\n\r\n").await;
    let outcome = client.post(&garbage.url, &[], BODY, Duration::MAX).await;
    assert_eq!(kind(&outcome), Some(FailureKind::Protocol), "{outcome:?}");

    let bad_header = [(String::from("bad name"), String::new())];
    let outcome = client
        .post(&garbage.url, &bad_header, BODY, Duration::MAX)
        .await;
    assert_eq!(kind(&outcome), Some(FailureKind::Protocol), "{outcome:?}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_a_tls_failure() {
    for (answer, expected) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            FailureKind::NotTls,
        ),
        (b"", FailureKind::Tls),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let client = client(&["127.0.0.0/8"]);
        let plain = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 2_048];
            assert_ne!(stream.read(&mut hello).await.unwrap(), 0);
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let (outcome, ()) = tokio::join!(post(&client, &url), plain);
        assert_eq!(kind(&outcome), Some(expected), "{outcome:?}");
    }
}

#[tokio::test]
async fn silence_before_the_head_ends_at_the_head_limit() {
    let receiver = Receiver::start("", "HTTP/1.1 200 OK\r\n\r\n", SILENCE).await;
    let outcome = hasty_client()
        .post(&receiver.url, &[], BODY, Duration::MAX)
        .await;
    assert_eq!(
        (outcome.status, kind(&outcome)),
        (None, Some(FailureKind::HeadTimeout))
    );
    assert!(outcome.duration >= Duration::from_millis(600));
    assert!(outcome.duration < TOO_LONG, "{outcome:?}");
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_at_the_connect_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let outcome = post(&hasty_client(), &url).await;
    assert_eq!(
        kind(&outcome),
        Some(FailureKind::ConnectTimeout),
        "{outcome:?}"
    );
    assert!(outcome.duration < TOO_LONG, "{outcome:?}");
    drop(listener);
}

#[tokio::test]
async fn a_body_that_never_ends_ends_at_the_total_limit_and_the_answer_counts() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal";
    let receiver = Receiver::start(head, "fway...", SILENCE).await;
    let outcome = hasty_client()
        .post(&receiver.url, &[], BODY, Duration::MAX)
        .await;
    assert_eq!(
        (outcome.status, kind(&outcome)),
        (Some(200), Some(FailureKind::BodyTimeout))
    );
    assert!(outcome.is_success());
    assert_eq!(outcome.body_excerpt, "hal");
    assert!(outcome.duration < TOO_LONG, "{outcome:?}");
}

#[tokio::test]
async fn of_a_long_body_only_the_start_is_kept() {
    let long = "x".repeat(1024 * 1024);
    let head = format!(
        "HTTP/1.1 500 Oops\r\nContent-Length: {}\r\n\r\n{long}",
        long.len()
    );
    let receiver = Receiver::answering(&head).await;
    let outcome = client(&["127.0.0.0/8"])
        .post(&receiver.url, &[], BODY, Duration::MAX)
        .await;
    assert_eq!((outcome.status, kind(&outcome)), (Some(500), None));
    assert_eq!(outcome.body_excerpt.len(), EXCERPT_BYTES_MAX);
}
