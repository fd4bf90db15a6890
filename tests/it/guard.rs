//! The guard against mass deprovisioning: it tells, or holds, when many people leave a directory at once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::actors::Idp;
use crate::support::receiver::Receiver;
use crate::support::waiting::{eventually, settled};
use crate::support::{Answer, TestApp};

const SOON: Duration = Duration::from_secs(30);
const HOUR: i64 = 3_600;

on_both! {
    the_guard_tells_once_within_its_span,
    the_guard_takes_more_than_a_share_of_the_people_and_enough_of_them,
    the_guard_holds_the_event_that_trips_it_until_it_is_released with [("node.dispatcher", "true")],
    whoever_takes_people_out_is_judged,
    the_guard_is_set_and_refuses_what_does_not_fit,
}

async fn guard(app: &TestApp, id: &str, method: &str, body: Option<Value>) -> Answer {
    app.vendor().of_directory(method, id, "/guard", body).await
}

async fn set(app: &TestApp, id: &str, settings: Value) -> Value {
    guard(app, id, "PATCH", Some(settings)).await.expect(200)
}

async fn seen(app: &TestApp, id: &str) -> Value {
    app.vendor().health(id).await.expect(200)["guard"].clone()
}

/// How often the guard of a directory has told.
async fn told(app: &TestApp, id: &str) -> usize {
    let query = format!("directory_id={id}&action=directory.guard_tripped&limit=100");
    let found = app.vendor().audit_entries(&query).await.expect(200);
    found["data"].as_array().unwrap().len()
}

async fn people(idp: &Idp, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(idp.add_user(&format!("user-{number}")).await);
    }
    ids
}

async fn deactivate(idp: &Idp, user: &str) {
    let off = json!([{"op": "replace", "path": "active", "value": false}]);
    idp.patch_user(user, off).await.expect(200);
}

async fn the_guard_tells_once_within_its_span(app: TestApp) {
    let idp = app.idp().await;
    let id = &idp.directory_id;
    set(&app, id, json!({"people": 3, "percent": 20})).await;
    let ids = people(&idp, 20).await;
    for user in &ids[..4] {
        deactivate(&idp, user).await;
    }
    assert_eq!(told(&app, id).await, 0, "4 of 20 are not more than a fifth");

    idp.delete_user(&ids[4]).await.expect(204);
    assert_eq!(told(&app, id).await, 1);
    let guard = seen(&app, id).await;
    assert_eq!(guard["departures"], 5);
    assert_eq!(guard["active"], 15);
    assert_eq!(guard["tripped_at"], "2026-01-15T12:00:00.000Z");
    assert_eq!(guard["held_at"], Value::Null);
    for user in &ids[5..12] {
        deactivate(&idp, user).await;
    }
    assert_eq!(told(&app, id).await, 1, "once within the span");

    app.advance_seconds(2 * HOUR);
    for user in &ids[12..14] {
        deactivate(&idp, user).await;
    }
    assert_eq!(told(&app, id).await, 1, "2 are not enough");
    deactivate(&idp, &ids[14]).await;
    assert_eq!(told(&app, id).await, 2);
}

async fn the_guard_takes_more_than_a_share_of_the_people_and_enough_of_them(app: TestApp) {
    let idp = app.idp().await;
    let id = &idp.directory_id;
    let ids = people(&idp, 30).await;
    for user in &ids[..19] {
        deactivate(&idp, user).await;
        deactivate(&idp, user).await;
    }
    assert_eq!(told(&app, id).await, 0, "19 are fewer than usual");
    app.advance_seconds(HOUR / 2);
    deactivate(&idp, &ids[19]).await;
    assert_eq!(told(&app, id).await, 1);
}

async fn the_guard_holds_the_event_that_trips_it_until_it_is_released(app: TestApp) {
    let admin = crate::support::client::Admin::new(&[app.url()], app.api_key().to_owned());
    let receiver = Receiver::start_with(app.clock());
    admin.subscribe(&receiver).await;
    let scim = admin.directory().await;
    let (id, other) = (scim.directory(), admin.directory().await);
    let settings = json!({"people": 3, "percent": 20, "action": "hold"});
    set(&app, id, settings).await;
    let mut ids = Vec::new();
    for number in 0..9 {
        ids.push(scim.create_user(&format!("{number}@example.com")).await);
    }
    settled(&admin, &receiver, &[id], SOON).await;
    for user in &ids[..2] {
        scim.delete(&format!("/Users/{user}")).await;
    }
    settled(&admin, &receiver, &[id], SOON).await;
    let before = admin.sequence(id).await;
    for user in &ids[2..] {
        scim.delete(&format!("/Users/{user}")).await;
    }
    other.create_user("other@example.com").await;
    settled(&admin, &receiver, &[other.directory()], SOON).await;
    eventually("a hold that is shown", SOON, async || {
        !seen(&app, id).await["held_at"].is_null()
    })
    .await;
    assert_eq!(app.vendor().health(id).await.expect(200)["verdict"], "held");
    let count = |receiver: &Receiver| {
        let ledger = receiver.ledger();
        let requests = ledger.requests().iter();
        let of_directory = requests.filter(|request| request.directory == id);
        of_directory.map(|request| request.sequence).max()
    };
    assert_eq!(
        count(&receiver),
        Some(before),
        "the third departure is held"
    );
    assert_eq!(told(&app, id).await, 1);

    let released = app
        .vendor()
        .of_directory("POST", id, "/guard/release", None)
        .await
        .expect(200);
    assert_eq!(released["held_at"], Value::Null);
    settled(&admin, &receiver, &[id], SOON).await;
    let query = format!("directory_id={id}&action=directory.guard_released");
    let audited = app.vendor().audit_entries(&query).await.expect(200);
    assert_eq!(audited["data"].as_array().unwrap().len(), 1);
}

async fn whoever_takes_people_out_is_judged(app: TestApp) {
    let vendor = app.vendor();
    let (bulk, manual, policy, deleted) = (
        app.idp().await,
        app.idp().await,
        app.idp().await,
        app.idp().await,
    );
    for idp in [&bulk, &manual, &policy, &deleted] {
        set(&app, &idp.directory_id, json!({"people": 3, "percent": 20})).await;
    }

    let ids = people(&bulk, 6).await;
    let operations: Vec<Value> = ids[..4]
        .iter()
        .map(|id| json!({"method": "DELETE", "path": format!("/Users/{id}")}))
        .collect();
    let body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
        "Operations": operations,
    });
    let sent = bulk
        .raw("POST", "/Bulk", &[], Some(&body.to_string()))
        .await;
    sent.expect(200);
    assert_eq!(told(&app, &bulk.directory_id).await, 1);

    let ids = people(&manual, 6).await;
    vendor
        .manage(&manual.directory_id, "manual")
        .await
        .expect(200);
    for id in &ids[..4] {
        let path = format!("/users/{id}");
        let directory = &manual.directory_id;
        let gone = vendor.of_directory("DELETE", directory, &path, None).await;
        assert!(gone.status() < 300, "{}", gone.text());
    }
    assert_eq!(told(&app, &manual.directory_id).await, 1);

    for id in &people(&policy, 6).await[..4] {
        deactivate(&policy, id).await;
    }
    assert_eq!(told(&app, &policy.directory_id).await, 1);
    app.advance_seconds(2 * HOUR);
    let switched = vendor.set_inactive_users(&policy.directory_id, "delete");
    switched.await.expect(200);
    assert_eq!(told(&app, &policy.directory_id).await, 2);

    people(&deleted, 3).await;
    let gone = vendor.delete_directory(&deleted.directory_id).await;
    gone.expect(202);
    assert_eq!(told(&app, &deleted.directory_id).await, 1);
}

async fn the_guard_is_set_and_refuses_what_does_not_fit(app: TestApp) {
    let idp = app.idp().await;
    let id = &idp.directory_id;
    let usual = guard(&app, id, "GET", None).await.expect(200);
    assert_eq!(
        [&usual["percent"], &usual["people"], &usual["within"]],
        [&json!(20), &json!(20), &json!("1h")]
    );
    assert_eq!(usual["action"], "tell");
    for unfit in [
        json!({"percent": 100}),
        json!({"percent": -1}),
        json!({"people": 0}),
        json!({"people": i64::MAX}),
        json!({"within": "0"}),
        json!({"within": "31d"}),
        json!({"within": "soon"}),
        json!({"action": "shout"}),
        json!({"persons": 3}),
    ] {
        let refused = guard(&app, id, "PUT", Some(unfit)).await;
        refused.expect(422);
    }
    let settings = json!({"percent": 5, "people": 7, "within": "90m", "action": "hold"});
    let changed = set(&app, id, settings).await;
    assert_eq!(changed["within"], "90m");
    assert_eq!(changed["action"], "hold");
    assert_eq!(guard(&app, id, "GET", None).await.expect(200), changed);
    let missing = guard(&app, "directory_0", "GET", None).await;
    missing.expect(404);
}
