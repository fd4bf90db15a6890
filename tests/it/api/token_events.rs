//! `dsync.token.created` and `dsync.token.revoked`: beside a directory's sequence, and only for who asks.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::receiver::Receiver;
use crate::support::waiting::eventually;

on_both! {
    token_events_go_to_endpoints_that_name_them_and_disturb_nobody
        with [("node.dispatcher", "true")],
    both_paths_take_the_types_of_token_events,
}

const SOON: Duration = Duration::from_secs(20);
const TOKEN_EVENTS: [&str; 2] = ["dsync.token.created", "dsync.token.revoked"];

/// Registers a receiver of its own for `events`, all that are usual if there are none.
async fn receiver(app: &TestApp, events: &[&str]) -> Receiver {
    let receiver = Receiver::start_with(app.clock());
    let body = json!({"endpoint_url": receiver.url(), "events": events});
    let made = app.vendor().create_endpoint(body).await.expect(201);
    receiver.expect_secret(made["secret"].as_str().unwrap());
    receiver
}

/// The events that have arrived, in that order.
fn arrived(receiver: &Receiver) -> Vec<Value> {
    let ledger = receiver.ledger();
    ledger.assert_orderly();
    let requests = ledger.requests().iter();
    requests
        .map(|request| serde_json::from_str(&request.body).unwrap())
        .collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().map(|event| event["event"].as_str().unwrap());
    kinds.collect()
}

async fn token_events_go_to_endpoints_that_name_them_and_disturb_nobody(app: TestApp) {
    let vendor = app.vendor();
    let usual = receiver(&app, &[]).await;
    let tokens = receiver(&app, &TOKEN_EVENTS).await;
    let some = [
        &TOKEN_EVENTS[..],
        &["dsync.activated", "dsync.user.created"],
    ]
    .concat();
    let some = receiver(&app, &some).await;

    let idp = app.idp().await;
    idp.add_user("ada").await;
    let list = vendor.tokens(&idp.directory_id).await.expect(200);
    let first = &list["data"][0];
    let id = first["id"].as_str().unwrap();
    let made = vendor
        .rotate_token(&idp.directory_id, id, json!({"overlap": "0"}))
        .await;
    let made = made.expect(201);
    idp.with_token(made["token"].as_str().unwrap())
        .add_user("bob")
        .await;

    let is_there = |receiver: &Receiver, count| receiver.ledger().accepted() >= count;
    eventually("all events", SOON, async || {
        is_there(&usual, 3) && is_there(&tokens, 3) && is_there(&some, 6)
    })
    .await;
    let usual = arrived(&usual);
    assert_eq!(
        kinds(&usual),
        [
            "dsync.activated",
            "dsync.user.created",
            "dsync.user.created"
        ]
    );
    let tokens = arrived(&tokens);
    let mut told = kinds(&tokens);
    told.sort_unstable();
    assert_eq!(told, [TOKEN_EVENTS[0], TOKEN_EVENTS[0], TOKEN_EVENTS[1]]);
    let revoked = tokens
        .iter()
        .find(|event| event["event"] == TOKEN_EVENTS[1]);
    let directory = vendor.directory(&idp.directory_id).await.expect(200);
    let data = json!({
        "object": "directory_token",
        "id": first["id"],
        "directory_id": idp.directory_id,
        "organization_id": directory["organization_id"],
        "token_suffix": first["token_suffix"],
        "created_at": first["created_at"],
    });
    assert_eq!(revoked.unwrap()["data"], data);
    assert_eq!(directory["sequence"], 3);
    let some = some.ledger();
    some.assert_orderly();
    let placed = some.requests().iter().filter(|request| !request.is_beside);
    let mut placed: Vec<_> = placed
        .map(|request| (request.sequence, request.previous))
        .collect();
    placed.sort_unstable();
    assert_eq!(placed, [(1, 0), (2, 1), (3, 2)]);
}

async fn both_paths_take_the_types_of_token_events(app: TestApp) {
    let vendor = app.vendor();
    let body = |path: &str| json!({"endpoint_url": format!("https://hooks.example.com/{path}"), "events": TOKEN_EVENTS});

    let contract = vendor.create_contract_endpoint(body("a")).await.expect(201);
    let own = vendor.create_endpoint(body("b")).await.expect(201);

    assert_eq!(contract["events"], json!(TOKEN_EVENTS));
    assert_eq!(own["events"], json!(TOKEN_EVENTS));
}
