//! `/webhook_endpoints` and `/admin/v1/webhook_endpoints`.

use serde_json::{Value, json};

use super::fields;
use crate::support::TestApp;

on_both! {
    an_endpoint_is_made_and_its_secret_shown_once,
    an_endpoint_without_event_types_takes_all,
    the_contract_wants_event_types,
    a_url_is_an_endpoint_once,
    urls_that_may_not_be_called_are_refused with [("webhooks.allow_networks", "")],
    networks_that_are_allowed_may_be_called_without_tls,
    a_deleted_endpoint_is_gone,
}

const URL: &str = "https://hooks.example.com/rollcall";

async fn an_endpoint_is_made_and_its_secret_shown_once(app: TestApp) {
    let vendor = app.vendor();

    let body = json!({"endpoint_url": URL, "events": ["dsync.user.created", "dsync.user.deleted"]});
    let made = vendor
        .create_contract_endpoint(body.clone())
        .await
        .expect(201);

    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("we_"), "{id}");
    assert_eq!(made["object"], "webhook_endpoint");
    assert_eq!(
        (&made["endpoint_url"], &made["events"]),
        (&body["endpoint_url"], &body["events"])
    );
    assert_eq!(made["status"], "enabled");
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    let shown = vendor.endpoint(id).await;
    assert!(!shown.text().contains(secret));
    let shown = shown.expect(200);
    assert_eq!(shown.get("secret"), None::<&Value>);
    assert_eq!(shown["undelivered"], 0);
}

async fn an_endpoint_without_event_types_takes_all(app: TestApp) {
    let made = app
        .vendor()
        .create_endpoint(json!({"endpoint_url": URL}))
        .await
        .expect(201);

    assert_eq!(made["events"].as_array().unwrap().len(), 10);
}

async fn the_contract_wants_event_types(app: TestApp) {
    let vendor = app.vendor();

    let none = vendor
        .create_contract_endpoint(json!({"endpoint_url": URL}))
        .await
        .expect(422);
    let empty = vendor
        .create_contract_endpoint(json!({"endpoint_url": URL, "events": []}))
        .await
        .expect(422);
    let unknown = vendor
        .create_contract_endpoint(json!({"endpoint_url": URL, "events": ["dsync.user.suspended"]}))
        .await
        .expect(422);

    assert_eq!(fields(&none), ["events"]);
    assert_eq!(fields(&empty), ["events"]);
    assert_eq!(unknown["code"], "invalid_request_parameters");
    assert_eq!(
        unknown["errors"],
        json!([{"field": "events", "code": "unknown_event_type"}])
    );
}

async fn a_url_is_an_endpoint_once(app: TestApp) {
    let vendor = app.vendor();
    vendor
        .create_endpoint(json!({"endpoint_url": URL}))
        .await
        .expect(201);

    let again = vendor.create_endpoint(json!({"endpoint_url": URL})).await;

    assert_eq!(again.expect(409)["code"], "duplicate_endpoint");
}

async fn urls_that_may_not_be_called_are_refused(app: TestApp) {
    let vendor = app.vendor();

    for url in [
        "",
        "nonsense",
        "ftp://hooks.example.com/",
        "http://hooks.example.com/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[fd00::1]/",
        "https://0x0a000001/",
        "https://user:password@hooks.example.com/",
    ] {
        let refused = vendor
            .create_endpoint(json!({"endpoint_url": url}))
            .await
            .expect(422);
        assert_eq!(refused["code"], "invalid_url", "{url}");
    }
}

async fn networks_that_are_allowed_may_be_called_without_tls(app: TestApp) {
    let vendor = app.vendor();

    for (url, status) in [
        ("http://127.0.0.1:8099/", 201),
        ("http://127.0.0.1:8099/other", 201),
        ("http://10.0.0.1/", 422),
        ("https://[::1]/", 422),
    ] {
        let answer = vendor.create_endpoint(json!({"endpoint_url": url})).await;
        assert_eq!(answer.status(), status, "{url}");
    }
}

async fn a_deleted_endpoint_is_gone(app: TestApp) {
    let vendor = app.vendor();
    let made = vendor
        .create_endpoint(json!({"endpoint_url": URL}))
        .await
        .expect(201);
    let id = made["id"].as_str().unwrap();

    let deleted = vendor.delete_endpoint(id).await;

    assert_eq!((deleted.status(), deleted.text()), (204, ""));
    assert_eq!(
        vendor.endpoint(id).await.expect(404)["code"],
        "entity_not_found"
    );
    vendor.delete_endpoint(id).await.expect(404);
    vendor
        .create_endpoint(json!({"endpoint_url": URL}))
        .await
        .expect(201);
}
