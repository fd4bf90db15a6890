//! The settings of webhook endpoints, and the wire contract's way to change them.

use serde_json::{Value, json};

use super::fields;
use crate::support::TestApp;

on_both! {
    settings_are_kept_changed_one_at_a_time_and_shown,
    settings_that_do_not_fit_are_named,
    organizations_and_directories_must_exist,
    endpoints_are_listed_a_page_at_a_time_without_secrets,
    the_contract_lists_changes_and_deletes,
    an_endpoint_is_held_and_disabled_and_back,
    changes_are_in_the_audit_trail,
}

fn url(number: usize) -> String {
    format!("https://hooks.example.com/{number}")
}

async fn made(app: &TestApp, number: usize, settings: Value) -> Value {
    let mut body = settings;
    body["endpoint_url"] = json!(url(number));
    app.vendor().create_endpoint(body).await.expect(201)
}

fn id(view: &Value) -> &str {
    view["id"].as_str().unwrap()
}

async fn settings_are_kept_changed_one_at_a_time_and_shown(app: TestApp) {
    let idp = app.idp().await;
    let settings = json!({
        "description": "Zoë's ☎", "ordering": "strict", "max_in_flight": 256,
        "rate_per_second": 10_000, "timeout": "1s", "events": ["dsync.user.created"],
        "directories": [idp.directory_id], "ed25519": true,
    });
    let made = made(&app, 1, settings.clone()).await;
    let vendor = app.vendor();

    let shown = vendor.endpoint(id(&made)).await.expect(200);
    for name in [
        "description",
        "ordering",
        "max_in_flight",
        "timeout",
        "events",
        "directories",
    ] {
        assert_eq!(shown[name], settings[name], "{name}");
    }
    assert_eq!(shown["rate_per_second"], 10_000);
    let key = shown["public_key"].as_str().unwrap();
    assert!(key.starts_with("whpk_") && key.len() == 49, "{key}");

    let changes = json!({"rate_per_second": null, "max_in_flight": 1, "ed25519": true});
    let changed = vendor
        .configure_endpoint(id(&made), changes)
        .await
        .expect(200);
    assert_eq!(changed["rate_per_second"], Value::Null);
    assert_eq!(
        (&changed["max_in_flight"], &changed["ordering"]),
        (&json!(1), &json!("strict"))
    );
    assert_eq!(changed["public_key"], key, "the key stays");
    let changes = json!({"ed25519": false, "description": null, "endpoint_url": url(2)});
    let changed = vendor
        .configure_endpoint(id(&made), changes)
        .await
        .expect(200);
    assert_eq!(changed["public_key"], Value::Null);
    assert_eq!(changed["description"], Value::Null);
    assert_eq!(changed["endpoint_url"], url(2));
}

async fn settings_that_do_not_fit_are_named(app: TestApp) {
    let vendor = app.vendor();
    let made = made(&app, 1, json!({})).await;
    let many: serde_json::Map<String, Value> = (0..21)
        .map(|number| (format!("x-{number}"), json!("x")))
        .collect();

    for (field, value) in [
        ("ordering", json!("sorted")),
        ("max_in_flight", json!(0)),
        ("max_in_flight", json!(257)),
        ("rate_per_second", json!(0)),
        ("rate_per_second", json!(10_001)),
        ("timeout", json!("0")),
        ("timeout", json!("21s")),
        ("timeout", json!("soon")),
        ("description", json!("x".repeat(1_001))),
        ("events", json!(["dsync.user.suspended"])),
        ("headers", json!({"Host": "x"})),
        ("headers", json!({"Webhook-Id": "x"})),
        ("headers", json!({"X-Line": "a\r\nb: c"})),
        ("headers", json!({"X-Number": 5})),
        ("headers", Value::Object(many)),
        ("status", json!("paused")),
        ("start_at", json!("beginning")),
    ] {
        let refused = vendor
            .configure_endpoint(id(&made), json!({field: value}))
            .await
            .expect(422);
        assert_eq!(fields(&refused), [field], "{refused}");
    }
    for body in [json!({"colour": "red"}), json!({"max_in_flight": "many"})] {
        vendor.configure_endpoint(id(&made), body).await.expect(422);
    }
    let later = json!({"endpoint_url": url(2), "start_at": "yesterday"});
    let refused = vendor.create_endpoint(later).await.expect(422);
    assert_eq!(fields(&refused), ["start_at"]);
    let refused = vendor.create_endpoint(json!({})).await.expect(422);
    assert_eq!(fields(&refused), ["endpoint_url"]);
    let unchanged = vendor.endpoint(id(&made)).await.expect(200);
    assert_eq!(unchanged["updated_at"], made["updated_at"]);
}

async fn organizations_and_directories_must_exist(app: TestApp) {
    let made = made(&app, 1, json!({})).await;
    let vendor = app.vendor();

    for (field, id_of_none) in [
        ("organizations", "org_01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("organizations", "nonsense"),
        ("directories", "directory_01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("directories", "nonsense"),
    ] {
        let refused = vendor
            .configure_endpoint(id(&made), json!({field: [id_of_none]}))
            .await
            .expect(422);
        assert_eq!(fields(&refused), [field]);
    }
}

async fn endpoints_are_listed_a_page_at_a_time_without_secrets(app: TestApp) {
    let vendor = app.vendor();
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(id(&made(&app, number, json!({})).await).to_owned());
    }
    let page = async |query: String| {
        let answer = vendor.at_endpoints("GET", &query, Value::Null).await;
        assert!(!answer.text().contains("whsec_"));
        answer.expect(200)
    };
    let ids_of = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().unwrap().iter();
        data.map(|one| id(one).to_owned()).collect()
    };

    let first = page("?limit=2".to_owned()).await;
    assert_eq!(ids_of(&first), ids[..2]);
    assert_eq!(
        first["list_metadata"],
        json!({"before": null, "after": ids[1]})
    );
    let second = page(format!("?limit=2&after={}", ids[1])).await;
    assert_eq!(ids_of(&second), ids[2..4]);
    assert_eq!(
        second["list_metadata"],
        json!({"before": ids[2], "after": ids[3]})
    );
    let last = page(format!("?limit=2&after={}", ids[3])).await;
    assert_eq!(ids_of(&last), ids[4..]);
    assert_eq!(
        last["list_metadata"],
        json!({"before": ids[4], "after": null})
    );
    let back = page(format!("?limit=2&before={}", ids[4])).await;
    assert_eq!(ids_of(&back), ids[2..4]);
    let newest = page(format!("?limit=1&order=desc&after={}", ids[3])).await;
    assert_eq!(ids_of(&newest), [ids[2].clone()]);
    for query in ["?limit=0", "?limit=101", "?after=nonsense", "?order=up"] {
        let refused = vendor.at_endpoints("GET", query, Value::Null).await;
        assert_eq!(refused.status(), 422, "{query}");
    }
}

async fn the_contract_lists_changes_and_deletes(app: TestApp) {
    let vendor = app.vendor();
    let made = made(&app, 1, json!({"ordering": "none"})).await;
    let other = made_at_contract(&app, 2).await;
    let contract = async |method: &str, path: &str, body: Option<Value>| {
        let body = body.map(|body| body.to_string());
        let path = format!("/webhook_endpoints{path}");
        vendor.raw(method, &path, &[], body.as_deref()).await
    };

    let list = contract("GET", "", None).await.expect(200);
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][0], other, "newest first, with secrets");
    assert_eq!(list["data"][1]["secret"], made["secret"]);
    let path = format!("/{}", id(&other));
    let changes = json!({
        "endpoint_url": url(3), "status": "disabled", "events": ["dsync.user.deleted"], "new": 1,
    });
    let changed = contract("PATCH", &path, Some(changes.clone()))
        .await
        .expect(200);
    for name in ["endpoint_url", "status", "events"] {
        assert_eq!(changed[name], changes[name], "{name}");
    }
    assert_eq!(changed["secret"], other["secret"]);
    assert_eq!(changed.as_object().unwrap().len(), 8, "{changed}");

    for (body, status, code) in [
        (json!({"endpoint_url": url(1)}), 409, "duplicate_endpoint"),
        (json!({"endpoint_url": "ftp://x"}), 422, "invalid_url"),
        (json!({"status": "off"}), 422, "invalid_request_parameters"),
        (json!({"events": []}), 422, "invalid_request_parameters"),
        (json!({"events": ["x"]}), 422, "invalid_request_parameters"),
    ] {
        let refused = contract("PATCH", &path, Some(body)).await.expect(status);
        assert_eq!(refused["code"], code);
    }
    let nobody = "/we_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for (method, body) in [("PATCH", Some(json!({}))), ("DELETE", None)] {
        let missing = contract(method, nobody, body).await.expect(404);
        assert_eq!(missing["code"], "entity_not_found");
    }
    assert_eq!(contract("DELETE", &path, None).await.status(), 204);
}

async fn made_at_contract(app: &TestApp, number: usize) -> Value {
    let body = json!({"endpoint_url": url(number), "events": ["dsync.user.created"]});
    let made = app.vendor().create_contract_endpoint(body).await;
    made.expect(201)
}

async fn an_endpoint_is_held_and_disabled_and_back(app: TestApp) {
    let vendor = app.vendor();
    let made = made(&app, 1, json!({"held": true})).await;
    assert_eq!(made["held_at"], made["created_at"]);
    let set = async |settings: Value| {
        let changed = vendor.configure_endpoint(id(&made), settings).await;
        changed.expect(200)
    };

    app.advance_seconds(1);
    assert_eq!(set(json!({"held": true})).await["held_at"], made["held_at"]);
    assert_eq!(set(json!({"held": false})).await["held_at"], Value::Null);
    let disabled = set(json!({"status": "disabled"})).await;
    assert_eq!(disabled["status"], "disabled");
    let because = disabled["disabled_because"].as_str().unwrap();
    assert!(because.contains("the API key"), "{because}");
    assert!(disabled["disabled_at"].is_string());
    let enabled = set(json!({"status": "enabled"})).await;
    assert_eq!(
        (&enabled["status"], &enabled["disabled_at"]),
        (&json!("enabled"), &Value::Null)
    );
}

async fn changes_are_in_the_audit_trail(app: TestApp) {
    let made = made(&app, 1, json!({})).await;
    let vendor = app.vendor();
    let changes = json!({"max_in_flight": 2, "events": ["dsync.deleted"], "description": "ours"});
    vendor
        .configure_endpoint(id(&made), changes)
        .await
        .expect(200);

    let trail = vendor
        .audit_entries("action=webhook_endpoint.configured")
        .await
        .expect(200);

    let entry = &trail["data"][0];
    assert_eq!(entry["subject"], made["id"], "{entry}");
    let details = &entry["details"];
    assert_eq!(details["max_in_flight"], json!([32, 2]));
    assert_eq!(details["filter"][1]["events"], json!(["dsync.deleted"]));
    assert_eq!(details["description"], "changed");
}
