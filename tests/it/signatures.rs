//! Signatures, as independent libraries verify them: Standard Webhooks' own for Rust, Node and Python.
//!
//! `ROLLCALL_TEST_PYTHON` names a Python that has what `signatures/requirements.txt` lists, and
//! `ROLLCALL_TEST_NODE_PATH` a directory with what `signatures/package.json` lists; without them, `python3` and
//! `target/standardwebhooks/node_modules` are taken. Where there is neither the tests say so and pass;
//! `ROLLCALL_TEST_REQUIRE_ALL=1` makes them fail instead.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rollcall::clock::{Clock as _, ManualClock, SystemClock};
use rollcall::events::Kind;
use rollcall::webhooks::signature::verify_workos;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::postgres::environment;
use crate::support::receiver::Receiver;

on_both! {
    the_libraries_accept_what_is_signed_with_one_secret_with_two_and_with_a_key,
    a_secret_is_rotated_and_receivers_of_either_go_on,
    a_second_secret_stops_signing_when_its_time_is_over,
    headers_of_ones_own_are_sent_and_never_shown,
    a_test_event_of_every_type_arrives_and_says_that_it_is_one,
    what_came_of_a_test_event_is_told,
}

/// A request as a library is given it, and whether it must accept it.
struct Case {
    secret: String,
    headers: BTreeMap<String, String>,
    body: String,
    public_key: Option<String>,
    is_good: bool,
}

/// A vendor's endpoint, at a receiver that shares the server's clock.
struct Scene {
    app: TestApp,
    receiver: Receiver,
    id: String,
    secret: String,
}

impl Scene {
    /// The clock goes to the present, since libraries judge by their own.
    async fn new(app: TestApp, settings: Value) -> Self {
        let clock: Arc<ManualClock> = app.clock();
        clock.advance_ms(SystemClock.now_ms() - clock.now_ms());
        let receiver = Receiver::start_with(clock);
        let mut body = settings;
        body["endpoint_url"] = json!(receiver.url());
        let made = app.vendor().create_endpoint(body).await.expect(201);
        let secret = made["secret"].as_str().unwrap().to_owned();
        receiver.expect_secret(&secret);
        let id = made["id"].as_str().unwrap().to_owned();
        Self {
            app,
            receiver,
            id,
            secret,
        }
    }

    async fn post(&self, path: &str, body: Value, status: u16) -> Value {
        let path = format!("/{}/{path}", self.id);
        let answer = self.app.vendor().at_endpoints("POST", &path, body).await;
        answer.expect(status)
    }

    /// Sends a test event; returns its headers and body.
    async fn send(&self) -> (BTreeMap<String, String>, String) {
        let sent = self.post("test", json!({}), 200).await;
        assert_eq!(sent["is_success"], true, "{sent}");
        let ledger = self.receiver.ledger();
        ledger.assert_orderly();
        let request = ledger.requests().last().unwrap();
        (request.headers.clone(), request.body.to_string())
    }

    fn accepts(&self, header: &str, secret: &str, body: &str) -> bool {
        let now_ms = self.app.clock().now_ms();
        verify_workos(header, secret, body, now_ms, 180_000).is_ok()
    }
}

async fn the_libraries_accept_what_is_signed_with_one_secret_with_two_and_with_a_key(app: TestApp) {
    let scene = Scene::new(app, json!({})).await;
    let mut cases = Vec::new();
    let mut add = |secret: &str, sent: &(BTreeMap<String, String>, String), is_good| {
        cases.push(Case {
            secret: secret.to_owned(),
            headers: sent.0.clone(),
            body: sent.1.clone(),
            public_key: None,
            is_good,
        });
    };
    let one = scene.send().await;
    add(&scene.secret, &one, true);
    let mut altered = one.clone();
    altered.1 = altered.1.replace("example", "exampel");
    add(&scene.secret, &altered, false);
    let next = scene.post("secrets", json!({}), 201).await;
    let next = next["secret"].as_str().unwrap();
    add(next, &one, false);
    let two = scene.send().await;
    add(&scene.secret, &two, true);
    add(next, &two, true);
    let vendor = scene.app.vendor();
    let with_key = vendor
        .configure_endpoint(&scene.id, json!({"ed25519": true}))
        .await
        .expect(200);
    let three = scene.send().await;
    add(&scene.secret, &three, true);
    add(next, &three, true);
    cases.last_mut().unwrap().public_key =
        Some(with_key["public_key"].as_str().unwrap().to_owned());
    assert_eq!(three.0["webhook-signature"].split(' ').count(), 3);

    for (number, case) in cases.iter().enumerate() {
        assert_eq!(rust_accepts(case), case.is_good, "{number}");
    }
    let judged = tokio::task::spawn_blocking(move || {
        judge_in_node(&cases);
        judge_in_python(&cases);
    });
    judged.await.unwrap();
}

fn rust_accepts(case: &Case) -> bool {
    let webhook = standardwebhooks::Webhook::new(&case.secret).unwrap();
    let headers = case.headers.iter();
    let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    webhook
        .verify(case.body.as_bytes(), &headers.collect())
        .is_ok()
}

/// What a library says of each case must be what is expected.
fn judge(mut program: Command, cases: &[Case]) {
    let given: Vec<Value> = cases
        .iter()
        .map(|case| {
            json!({
                "secret": case.secret, "headers": case.headers, "body": case.body,
                "public_key": case.public_key,
            })
        })
        .collect();
    let mut running = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = json!(given).to_string();
    running
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = running.wait_with_output().unwrap();
    let said: Vec<bool> = serde_json::from_slice(&output.stdout).unwrap();
    let expected: Vec<bool> = cases.iter().map(|case| case.is_good).collect();
    assert_eq!(said, expected);
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/signatures")
        .join(name)
}

fn judge_in_node(cases: &[Case]) {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/standardwebhooks/node_modules");
    let modules = environment("ROLLCALL_TEST_NODE_PATH")
        .unwrap_or_else(|| usual.to_str().unwrap().to_owned());
    let node = || {
        let mut node = Command::new("node");
        node.env("NODE_PATH", &modules);
        node
    };
    let tried = node().args(["-e", "require('standardwebhooks')"]).output();
    if tried.is_ok_and(|output| output.status.success()) {
        let mut node = node();
        node.arg(script("verify.js"));
        judge(node, cases);
    } else {
        skip("Node's standardwebhooks; run `npm ci` on tests/it/signatures/package.json");
    }
}

fn judge_in_python(cases: &[Case]) {
    let python = environment("ROLLCALL_TEST_PYTHON").unwrap_or_else(|| "python3".to_owned());
    let tried = Command::new(&python)
        .args(["-c", "import standardwebhooks"])
        .output();
    if tried.is_ok_and(|output| output.status.success()) {
        let mut python = Command::new(python);
        python.arg(script("verify.py"));
        judge(python, cases);
    } else {
        skip("Python's standardwebhooks; install tests/it/signatures/requirements.txt with pip");
    }
}

fn skip(what: &str) {
    let is_required = environment("ROLLCALL_TEST_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!is_required, "there is no {what}");
    eprintln!("skipped: no {what}");
}

async fn a_secret_is_rotated_and_receivers_of_either_go_on(app: TestApp) {
    let scene = Scene::new(app, json!({})).await;
    let (headers, _) = scene.send().await;
    assert!(
        !headers
            .keys()
            .any(|name| name.starts_with("rollcall-signature"))
    );
    let old = scene.secret.clone();

    let added = scene.post("secrets", json!({}), 201).await;
    let new = added["secret"].as_str().unwrap();
    assert_eq!(added["role"], "next");
    let again = scene.post("secrets", json!({}), 409).await;
    assert_eq!(again["code"], "second_secret_exists");
    let (headers, body) = scene.send().await;
    assert!(scene.accepts(&headers["workos-signature"], &old, &body));
    assert!(scene.accepts(&headers["rollcall-signature-next"], new, &body));

    let promoted = scene
        .post("secrets/promote", json!({"overlap": "1h"}), 200)
        .await;
    assert_eq!(promoted["second_secret"]["role"], "previous");
    assert!(!promoted.to_string().contains("whsec_"));
    scene.receiver.expect_secret(new);
    let (headers, body) = scene.send().await;
    assert!(scene.accepts(&headers["workos-signature"], new, &body));
    assert!(scene.accepts(&headers["rollcall-signature-previous"], &old, &body));
    assert_eq!(headers.get("rollcall-signature-next"), None);
    let none = scene.post("secrets/promote", json!({}), 409).await;
    assert_eq!(none["code"], "no_such_secret");

    let path = format!("/{}/secrets/", scene.id);
    let vendor = scene.app.vendor();
    let end = async |role| {
        let path = format!("{path}{role}");
        vendor
            .at_endpoints("DELETE", &path, Value::Null)
            .await
            .status()
    };
    assert_eq!(
        (end("next").await, end("other").await, end("previous").await),
        (404, 404, 204)
    );
    let (headers, _) = scene.send().await;
    assert_eq!(headers.get("rollcall-signature-previous"), None);
    let trail = vendor.audit_entries("limit=100").await;
    assert!(!trail.text().contains("whsec_"));
    for action in [
        "secret_created",
        "secret_promoted",
        "secret_ended",
        "tested",
    ] {
        let action = format!("webhook_endpoint.{action}");
        assert!(trail.text().contains(&action), "{action}");
    }
}

async fn a_second_secret_stops_signing_when_its_time_is_over(app: TestApp) {
    let scene = Scene::new(app, json!({})).await;
    let added = scene.post("secrets", json!({}), 201).await;
    for overlap in ["31d", "soon"] {
        scene
            .post("secrets/promote", json!({"overlap": overlap}), 422)
            .await;
    }
    scene
        .post("secrets/promote", json!({"overlap": "60s"}), 200)
        .await;
    scene
        .receiver
        .expect_secret(added["secret"].as_str().unwrap());

    scene.app.advance_seconds(59);
    let (during, _) = scene.send().await;
    scene.app.advance_seconds(1);
    let (after, _) = scene.send().await;

    assert!(during.contains_key("rollcall-signature-previous"));
    assert!(!after.contains_key("rollcall-signature-previous"));
    assert_eq!(after["webhook-signature"].split(' ').count(), 1);
    let shown = scene.app.vendor().endpoint(&scene.id).await.expect(200);
    assert_eq!(shown["second_secret"], Value::Null);
    scene.post("secrets", json!({}), 201).await;
    let promoted = scene
        .post("secrets/promote", json!({"overlap": "0"}), 200)
        .await;
    assert_eq!(promoted["second_secret"], Value::Null);
}

async fn headers_of_ones_own_are_sent_and_never_shown(app: TestApp) {
    let headers = json!({"X-Gateway-Key": "s3cret value", "authorization": "Bearer s3cret"});
    let scene = Scene::new(app, json!({"headers": headers})).await;

    let (sent, _) = scene.send().await;

    assert_eq!(sent["x-gateway-key"], "s3cret value");
    assert_eq!(sent["authorization"], "Bearer s3cret");
    let vendor = scene.app.vendor();
    let shown = vendor.endpoint(&scene.id).await;
    assert!(!shown.text().contains("s3cret"));
    assert_eq!(
        shown.expect(200)["headers"],
        json!(["authorization", "x-gateway-key"])
    );
    let changed = vendor
        .configure_endpoint(&scene.id, json!({"headers": {"x-other": "s3cret 2"}}))
        .await;
    assert!(!changed.text().contains("s3cret"));
    let (sent, _) = scene.send().await;
    assert_eq!(
        (sent.get("authorization"), &*sent["x-other"]),
        (None, "s3cret 2")
    );
    let trail = vendor.audit_entries("limit=100").await;
    assert!(trail.text().contains("headers") && !trail.text().contains("s3cret"));
    let none = vendor
        .configure_endpoint(&scene.id, json!({"headers": null}))
        .await
        .expect(200);
    assert_eq!(none["headers"], json!([]));
}

async fn a_test_event_of_every_type_arrives_and_says_that_it_is_one(app: TestApp) {
    let scene = Scene::new(app, json!({"events": ["dsync.user.created"]})).await;

    for kind in Kind::all() {
        let sent = scene
            .post("test", json!({"type": kind.as_str()}), 200)
            .await;
        assert_eq!(
            (&sent["is_success"], &sent["status"]),
            (&json!(true), &json!(200))
        );
    }

    let ledger = scene.receiver.ledger();
    ledger.assert_orderly();
    for (request, kind) in ledger.requests().iter().zip(Kind::all()) {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["event"], kind.as_str());
        assert_eq!(
            (&*request.replay, &body["id"]),
            ("test", &json!(request.event_id))
        );
        assert_eq!(request.headers.get("rollcall-sequence"), None);
    }
    assert_eq!(ledger.requests().len(), Kind::all().count());
}

async fn what_came_of_a_test_event_is_told(app: TestApp) {
    let mut scene = Scene::new(app, json!({})).await;
    scene
        .post("test", json!({"type": "dsync.nothing"}), 422)
        .await;
    let vendor = scene.app.vendor();
    let path = "/we_01ARZ3NDEKTSV4RRFFQ69G5FAV/test";
    vendor
        .at_endpoints("POST", path, json!({}))
        .await
        .expect(404);

    scene.receiver.expect_secret("whsec_another_secret_of_mine");
    let refused = scene.post("test", json!({}), 200).await;
    scene.receiver.stop();
    let unheard = scene.post("test", json!({}), 200).await;

    assert_eq!(
        (&refused["is_success"], &refused["status"]),
        (&json!(false), &json!(400))
    );
    assert_eq!(
        (&unheard["is_success"], &unheard["status"]),
        (&json!(false), &Value::Null)
    );
    assert!(
        unheard["failure"].is_string() && unheard["message"].is_string(),
        "{unheard}"
    );
}
