//! `/metrics`: who may read it, and that its values follow what happens.

use std::collections::BTreeMap;
use std::time::Duration;

use rollcall::ids::EndpointId;
use rollcall::storage::tables::endpoint_states;
use sea_orm::{ActiveValue, EntityTrait as _};
use serde_json::json;

use crate::support::receiver::{Receiver, Reply};
use crate::support::waiting::eventually;
use crate::support::{Answer, Idp, TestApp};

on_both! {
    values_follow_deliveries_and_failures with [("node.dispatcher", "true")],
    what_an_endpoint_waits_for_is_counted,
    requests_of_providers_are_counted_by_method_and_status,
    with_a_token_only_whoever_shows_it_reads_them with [("metrics.token", super::TOKEN)],
    without_a_token_only_this_machine_and_allowed_networks_read_them with [
        ("trusted_proxies", "127.0.0.1"),
        ("metrics.allow_networks", "10.0.0.0/8"),
    ],
    behind_an_unknown_proxy_nobody_reads_them,
}

const TOKEN: &str = "a-token-for-prometheus";
const SOON: Duration = Duration::from_secs(20);

impl TestApp {
    async fn scrape(&self, key: &str, headers: &[(&str, &str)]) -> Answer {
        let reader = self.vendor_with(key);
        reader.raw("GET", "/metrics", headers, None).await
    }

    async fn samples(&self) -> Samples {
        let answer = self.scrape("", &[]).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let kind = answer.header("content-type").unwrap();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Samples::parse(answer.text())
    }
}

/// Values by name and labels, as they are written.
#[derive(Debug)]
struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Reads the text format strictly: a type for each name before its first value, and no value twice.
    fn parse(text: &str) -> Self {
        let mut types: BTreeMap<String, String> = BTreeMap::new();
        let mut values = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').unwrap();
                let before = types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} has one type");
                continue;
            }
            if line.starts_with("# HELP ") {
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .filter(|family| types.get(*family).is_some_and(|kind| kind == "histogram"));
            assert!(types.contains_key(family.unwrap_or(name)), "{line}");
            let before = values.insert(series.to_owned(), value.parse().unwrap());
            assert_eq!(before, None, "{series}");
        }
        Self(values)
    }

    /// The sum of the series of this name whose labels contain all of these texts.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of_name = self.0.iter().filter(|(series, _)| {
            let (known, written) = series.split_once('{').unwrap_or((series, ""));
            known == name && labels.iter().all(|label| written.contains(label))
        });
        of_name.map(|(_, value)| value).sum()
    }
}

#[track_caller]
fn assert_value(samples: &Samples, name: &str, labels: &[&str], expected: f64) {
    let found = samples.sum(name, labels);
    assert!(
        (found - expected).abs() < 0.001,
        "{name}: {found} in {samples:#?}"
    );
}

async fn endpoint(app: &TestApp, receiver: &Receiver) -> String {
    let body = json!({"endpoint_url": receiver.url()});
    let made = app.vendor().create_endpoint(body).await.expect(201);
    receiver.expect_secret(made["secret"].as_str().unwrap());
    made["id"].as_str().unwrap().to_owned()
}

async fn values_follow_deliveries_and_failures(app: TestApp) {
    const ATTEMPTS: &str = "rollcall_webhook_attempts_total";
    let receiver = Receiver::start_with(app.clock());
    let endpoint = endpoint(&app, &receiver).await;
    let idp = app.idp().await;
    idp.add_user("ada").await;
    eventually("two deliveries", SOON, async || {
        let samples = app.samples().await;
        samples.sum(ATTEMPTS, &[&endpoint, "outcome=\"delivered\""]) > 1.5
    })
    .await;
    let samples = app.samples().await;
    assert_value(&samples, ATTEMPTS, &[&endpoint], 2.0);
    assert_value(
        &samples,
        "rollcall_webhook_delivery_seconds_count",
        &[&endpoint],
        2.0,
    );
    assert!(samples.sum("rollcall_shards_taken_total", &[]) >= 16.0);
    assert!(samples.sum("process_resident_memory_bytes", &[]) > 1_000_000.0);

    receiver.behave(|_| Reply::status(503));
    idp.add_user("bob").await;
    eventually("a failure", SOON, async || {
        let samples = app.samples().await;
        samples.sum(ATTEMPTS, &[&endpoint, "outcome=\"http_5xx\""]) > 0.5
    })
    .await;
    let samples = app.samples().await;
    assert_value(&samples, ATTEMPTS, &["outcome=\"delivered\""], 2.0);
    eventually("a backlog", SOON, async || {
        app.advance_seconds(15);
        let samples = app.samples().await;
        samples.sum("rollcall_webhook_backlog_events", &[&endpoint]) > 0.5
            && samples.sum("rollcall_webhook_oldest_undelivered_seconds", &[&endpoint]) > 14.0
    })
    .await;
}

async fn what_an_endpoint_waits_for_is_counted(app: TestApp) {
    const BACKLOG: &str = "rollcall_webhook_backlog_events";
    let receiver = Receiver::start_with(app.clock());
    let endpoint = endpoint(&app, &receiver).await;
    let samples = app.samples().await;
    assert_value(&samples, BACKLOG, &[&endpoint], 0.0);
    let idp = app.idp().await;
    for name in ["ada", "bob", "cleo"] {
        idp.add_user(name).await;
    }
    let state = endpoint_states::ActiveModel {
        endpoint_id: ActiveValue::Set(EndpointId::parse(&endpoint).unwrap()),
        breaker: ActiveValue::Set("open".to_owned()),
        failing_since_ms: ActiveValue::Set(None),
        probe_at_ms: ActiveValue::Set(None),
        probes: ActiveValue::Set(0),
        last_failure: ActiveValue::Set(None),
        told: ActiveValue::Set(0),
        changed_at_ms: ActiveValue::Set(0),
    };
    endpoint_states::Entity::insert(state)
        .exec_without_returning(app.store().statement_connection())
        .await
        .unwrap();

    app.advance_seconds(14);
    let samples = app.samples().await;
    assert_value(&samples, BACKLOG, &[&endpoint], 0.0);
    app.advance_seconds(1);
    let samples = app.samples().await;

    // With the one about a token, which does not pass its filter.
    assert_value(&samples, BACKLOG, &[&endpoint], 5.0);
    let oldest = "rollcall_webhook_oldest_undelivered_seconds";
    assert_value(&samples, oldest, &[&endpoint], 15.0);
    assert_value(&samples, "rollcall_webhook_breaker_open", &[&endpoint], 1.0);
    assert_value(
        &samples,
        "rollcall_webhook_parked_events",
        &[&endpoint],
        0.0,
    );
}

async fn requests_of_providers_are_counted_by_method_and_status(app: TestApp) {
    const REQUESTS: &str = "rollcall_scim_requests_total";
    let idp = app.idp().await;
    let user = idp.add_user("ada").await;
    idp.user(&user).await.expect(200);
    idp.user("nobody").await.expect(404);
    stranger(&idp).await;

    let samples = app.samples().await;

    for (method, status, expected) in [
        ("POST", "2xx", 1.0),
        ("GET", "2xx", 1.0),
        ("GET", "4xx", 2.0),
    ] {
        let labels = [
            format!("method=\"{method}\""),
            format!("status=\"{status}\""),
        ];
        let labels = [labels[0].as_str(), labels[1].as_str()];
        assert_value(&samples, REQUESTS, &labels, expected);
    }
    assert_value(&samples, REQUESTS, &[], 4.0);
}

async fn stranger(idp: &Idp) {
    let answer = idp.with_token("rc_scim_wrong").user("x").await;
    assert_eq!(answer.status(), 401);
}

async fn with_a_token_only_whoever_shows_it_reads_them(app: TestApp) {
    for wrong in ["", "a-token", app.api_key()] {
        assert_eq!(app.scrape(wrong, &[]).await.status(), 401, "{wrong}");
    }
    let answer = app.scrape(TOKEN, &[]).await;
    assert_eq!(answer.status(), 200);
    assert!(!answer.text().contains(TOKEN));
}

async fn without_a_token_only_this_machine_and_allowed_networks_read_them(app: TestApp) {
    for (client, status) in [("203.0.113.9", 403), ("10.1.2.3", 200), ("127.0.0.2", 200)] {
        let answer = app.scrape("", &[("X-Forwarded-For", client)]).await;
        assert_eq!(answer.status(), status, "{client}");
        if status == 403 {
            assert!(answer.text().contains("metrics.allow_networks"));
        }
    }
}

async fn behind_an_unknown_proxy_nobody_reads_them(app: TestApp) {
    assert_eq!(app.scrape("", &[]).await.status(), 200);
    for name in ["X-Forwarded-For", "Forwarded"] {
        let answer = app.scrape("", &[(name, "for=127.0.0.1")]).await;
        assert_eq!(answer.status(), 403, "{name}");
    }
}
