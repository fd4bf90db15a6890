//! `/admin/v1/explanations`: a test for each verdict.

use std::sync::Arc;
use std::time::Duration;

use rollcall::requests::Subject;
use rollcall::storage::tables::{directories, exceptions, scim_requests, users};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, EntityTrait};
use serde_json::{Value, json};

use super::scene::{now, request, set, write};
use crate::support::actors::id_of;
use crate::support::people::{ada, user};
use crate::support::receiver::{Receiver, Reply};
use crate::support::waiting::eventually;
use crate::support::{Idp, TestApp, world};

on_both! {
    who_was_never_sent_is_told_with_when_the_provider_was_heard,
    who_was_refused_is_told_with_the_reason,
    who_was_refused_by_a_pause_is_found_by_an_address_that_is_a_user_name,
    who_is_inactive_or_ended_is_told_since_when,
    who_was_deleted_is_told_when,
    what_no_endpoint_takes_is_filtered_out,
    what_a_held_directory_keeps_back_is_told,
    what_nobody_has_reached_yet_waits_behind_a_backlog,
    what_arrived_is_told_with_when_and_how with [("node.dispatcher", "true")],
    what_is_tried_again_is_told_with_when with [("node.dispatcher", "true")],
    what_waits_behind_another_event_names_it with [("node.dispatcher", "true")],
    what_is_parked_is_told_with_the_last_failure with [("node.dispatcher", "true")],
}

const EMAIL: &str = "ada@example.com";
const SOON: Duration = Duration::from_secs(30);

async fn why(app: &TestApp) -> Value {
    explain(app, &[("email", EMAIL)]).await
}

async fn explain(app: &TestApp, query: &[(&str, &str)]) -> Value {
    let explanation = app.vendor().explanation(query).await.expect(200);
    assert_eq!(explanation["object"], "explanation");
    for field in ["text", "next"] {
        let text = explanation[field].as_str().unwrap();
        assert!(text.ends_with('.'), "{text}");
    }
    explanation
}

#[track_caller]
fn assert_says(explanation: &Value, verdict: &str, words: &[&str]) {
    assert_eq!(explanation["verdict"], verdict, "{explanation}");
    let text = explanation["text"].as_str().unwrap();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

/// A receiver for these event types, none meaning all.
async fn subscribe(app: &TestApp, kinds: &[&str]) -> Receiver {
    let receiver = Receiver::start_with(Arc::clone(app.store().clock()));
    let body = json!({"endpoint_url": receiver.url(), "events": kinds});
    let endpoint = app.vendor().create_endpoint(body).await.expect(201);
    receiver.expect_secret(endpoint["secret"].as_str().unwrap());
    receiver
}

/// A refused creation of Ada.
fn refusal(app: &TestApp, idp: &Idp) -> scim_requests::Model {
    scim_requests::Model {
        path: "/Users?x=secret".to_owned(),
        scim_type: Some("uniqueness".to_owned()),
        detail: Some("userName is taken.".to_owned()),
        ..request(app, &idp.directory_id, 409)
    }
}

async fn who_was_never_sent_is_told_with_when_the_provider_was_heard(app: TestApp) {
    assert_says(&why(&app).await, "never_sent", &["No directory"]);
    let idp = app.idp().await;
    let query = [("email", EMAIL), ("directory", idp.directory_id.as_str())];
    assert_says(
        &explain(&app, &query).await,
        "never_sent",
        &["not been heard"],
    );
    idp.add_user("bob@example.com").await;
    app.write_down_activity().await;

    let told = explain(&app, &query).await;

    assert_says(
        &told,
        "never_sent",
        &["last heard at 2026-01-15T12:00:00.000Z"],
    );
    assert_eq!(told["directory_id"], idp.directory_id);
    assert_eq!(told["user_id"], Value::Null);
    app.vendor()
        .explanation(&[("user_name", "ada")])
        .await
        .expect(422);
    app.vendor().explanation(&[]).await.expect(422);
}

async fn who_was_refused_is_told_with_the_reason(app: TestApp) {
    let idp = app.idp().await;
    let stranger = app.idp().await;
    let subject = || vec![Subject::Email(EMAIL.to_owned())];
    write(&app, refusal(&app, &idp), subject()).await;
    let looked_up = scim_requests::Model {
        method: "GET".to_owned(),
        ..request(&app, &idp.directory_id, 200)
    };
    write(&app, looked_up, subject()).await;

    let told = why(&app).await;

    let words = [
        "POST /Users",
        "2026-01-15T12:00:00.000Z",
        "409",
        "uniqueness",
        "userName is taken",
    ];
    assert_says(&told, "refused", &words);
    assert!(!told.to_string().contains("secret"), "queries hold names");
    assert_eq!(told["directory_id"], idp.directory_id);
    let elsewhere = [
        ("email", EMAIL),
        ("directory", stranger.directory_id.as_str()),
    ];
    assert_says(&explain(&app, &elsewhere).await, "never_sent", &[]);
    write(&app, request(&app, &idp.directory_id, 201), subject()).await;
    assert_says(&why(&app).await, "never_sent", &[]);
}

async fn who_was_refused_by_a_pause_is_found_by_an_address_that_is_a_user_name(app: TestApp) {
    let idp = app.idp().await;
    let vendor = app.vendor();
    let id = &idp.directory_id;
    vendor.turn_directory(id, "pause").await.expect(200);
    idp.create_user(user(EMAIL)).await.expect(503);
    app.write_down_requests().await;

    assert_says(&why(&app).await, "refused", &["503", "refused at present"]);

    vendor.turn_directory(id, "resume").await.expect(200);
    idp.create_user(user(EMAIL)).await.expect(201);
    app.write_down_requests().await;
    assert_says(&why(&app).await, "filtered_out", &["no webhook endpoint"]);
    let check = vendor.sign_in_check(&[("email", EMAIL)]).await.expect(200);
    assert_eq!(
        (&check["allowed"], &check["reason"]),
        (&json!(true), &json!("active"))
    );
}

async fn who_is_inactive_or_ended_is_told_since_when(app: TestApp) {
    let idp = app.idp().await;
    let id = id_of(&idp.create_user(ada()).await.expect(201));
    app.advance_seconds(60);
    let off = json!([{"op": "replace", "path": "active", "value": false}]);
    idp.patch_user(&id, off).await.expect(200);
    app.advance_seconds(60);
    let title = json!([{"op": "replace", "path": "title", "value": "Duchess"}]);
    idp.patch_user(&id, title).await.expect(200);

    assert_says(
        &why(&app).await,
        "inactive",
        &["since 2026-01-15T12:01:00.000Z"],
    );

    users::Entity::update_many()
        .col_expr(users::Column::EndedAt, Expr::value(now(&app)))
        .exec(app.store().statement_connection())
        .await
        .unwrap();
    assert_says(&why(&app).await, "ended", &["at 2026-01-15T12:02:00.000Z"]);
}

async fn who_was_deleted_is_told_when(app: TestApp) {
    let idp = app.idp().await;
    let id = id_of(&idp.create_user(ada()).await.expect(201));
    let user_id = world::last_event(&app, &idp.directory_id).await["data"]["id"].clone();
    app.advance_seconds(60);
    idp.delete_user(&id).await.expect(204);
    let at = ["deleted at 2026-01-15T12:01:00.000Z"];

    let place = ("directory", idp.directory_id.as_str());
    let user = ("user", user_id.as_str().unwrap());
    assert_says(
        &explain(&app, &[("email", EMAIL), place]).await,
        "deleted",
        &at,
    );
    assert_says(&explain(&app, &[user, place]).await, "deleted", &at);
    assert_says(
        &explain(&app, &[("idp_id", "00u1"), place]).await,
        "deleted",
        &at,
    );

    // Without a directory it is the request log that knows.
    app.write_down_requests().await;
    assert_says(&why(&app).await, "deleted", &at);
    let again = scim_requests::Model {
        method: "DELETE".to_owned(),
        ..request(&app, &idp.directory_id, 404)
    };
    write(&app, again, vec![Subject::Email(EMAIL.to_owned())]).await;
    assert_says(&why(&app).await, "deleted", &at);
}

async fn what_no_endpoint_takes_is_filtered_out(app: TestApp) {
    let idp = app.idp().await;
    idp.create_user(ada()).await.expect(201);
    assert_says(&why(&app).await, "filtered_out", &["no webhook endpoint"]);
    let groups = subscribe(&app, &["dsync.group.created"]).await;
    let late = subscribe(&app, &[]).await;

    let told = why(&app).await;

    assert_says(
        &told,
        "filtered_out",
        &[&groups.url(), &late.url(), "made after"],
    );
    let causes = told["per_endpoint"].as_array().unwrap();
    let causes: Vec<&Value> = causes.iter().map(|entry| &entry["cause"]).collect();
    assert_eq!(causes, ["event_types", "began_later"]);
}

async fn what_a_held_directory_keeps_back_is_told(app: TestApp) {
    let receiver = subscribe(&app, &[]).await;
    let idp = app.idp().await;
    idp.create_user(ada()).await.expect(201);
    let held = directories::ActiveModel {
        deliveries_held_at: Set(Some(now(&app))),
        ..Default::default()
    };
    set(&app, &idp.directory_id, held).await;

    let told = why(&app).await;

    assert_says(&told, "held", &["since 2026-01-15T12:00:00.000Z"]);
    assert_eq!(told["per_endpoint"][0]["endpoint_url"], receiver.url());
    assert_eq!(told["per_endpoint"][0]["state"], "waiting");
}

async fn what_nobody_has_reached_yet_waits_behind_a_backlog(app: TestApp) {
    let receiver = subscribe(&app, &[]).await;
    let idp = app.idp().await;
    idp.add_user("bob@example.com").await;
    app.advance_seconds(60);
    idp.create_user(ada()).await.expect(201);

    let told = why(&app).await;

    let words = [
        &receiver.url(),
        "since 2026-01-15T12:01:00.000Z",
        "oldest of 2026-01-15T12:00:00.000Z",
    ];
    assert_says(&told, "waiting_behind", &words);
    assert_eq!(told["per_endpoint"][0]["cause"], "backlog");
    assert_eq!(
        told["per_endpoint"][0]["event"]["event"],
        "dsync.user.created"
    );
}

async fn what_arrived_is_told_with_when_and_how(app: TestApp) {
    let receiver = subscribe(&app, &[]).await;
    let groups = subscribe(&app, &["dsync.group.created"]).await;
    let idp = app.idp().await;
    idp.create_user(ada()).await.expect(201);
    eventually("a delivery", SOON, async || {
        why(&app).await["verdict"] == "delivered"
    })
    .await;

    let told = why(&app).await;

    let url = receiver.url();
    assert_says(
        &told,
        "delivered",
        &[&url, "dsync.user.created", "with 200", "attempt 1"],
    );
    assert!(!told["text"].as_str().unwrap().contains(&groups.url()));
    let user = world::last_event(&app, &idp.directory_id).await;
    assert_eq!(told["user_id"], user["data"]["id"]);
    assert_eq!(told["per_endpoint"][0]["event"]["id"], user["id"]);
    assert_eq!(told["per_endpoint"][1]["state"], "filtered_out");
}

/// Refuses what holds `text`.
fn refuse(receiver: &Receiver, text: &'static str) {
    receiver.behave(move |request| {
        Reply::status(if request.body.contains(text) {
            500
        } else {
            200
        })
    });
}

/// Waits until something at the endpoint is written down as failed.
async fn wait_for_exceptions(app: &TestApp, count: usize) {
    eventually("a record of the failure", SOON, async || {
        let rows = exceptions::Entity::find().all(app.store().reader()).await;
        rows.unwrap().len() >= count
    })
    .await;
}

async fn what_is_tried_again_is_told_with_when(app: TestApp) {
    let receiver = subscribe(&app, &[]).await;
    refuse(&receiver, EMAIL);
    let idp = app.idp().await;
    idp.create_user(ada()).await.expect(201);
    wait_for_exceptions(&app, 1).await;

    let told = why(&app).await;

    let words = [&receiver.url(), "next attempt", "after 1", "answered 500"];
    assert_says(&told, "waiting_behind", &words);
    let at = &told["per_endpoint"][0];
    assert_eq!(
        (&at["cause"], &at["event"]["status_code"]),
        (&json!("retry"), &json!(500))
    );
    assert!(at["event"]["next_attempt_at"].is_string());
}

async fn what_waits_behind_another_event_names_it(app: TestApp) {
    let receiver = subscribe(&app, &[]).await;
    refuse(&receiver, "dsync.activated");
    let idp = app.idp().await;
    idp.create_user(ada()).await.expect(201);
    wait_for_exceptions(&app, 2).await;

    let told = why(&app).await;

    assert_says(
        &told,
        "waiting_behind",
        &["dsync.activated", "answered 500", "earlier event"],
    );
    let at = &told["per_endpoint"][0];
    assert_eq!(
        (&at["state"], &at["cause"]),
        (&json!("waiting"), &json!("earlier_event"))
    );
    assert_eq!(at["behind"]["event"], "dsync.activated");
    assert_eq!(at["event"]["event"], "dsync.user.created");
}

async fn what_is_parked_is_told_with_the_last_failure(app: TestApp) {
    let receiver = subscribe(&app, &[]).await;
    refuse(&receiver, EMAIL);
    let idp = app.idp().await;
    idp.create_user(ada()).await.expect(201);
    wait_for_exceptions(&app, 1).await;
    let mut others = 0;
    eventually("parking", Duration::from_mins(1), async || {
        app.advance_seconds(300);
        // Others succeed, so that it is not held against the endpoint.
        others += 1;
        idp.add_user(&format!("user-{others}")).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        why(&app).await["verdict"] == "parked"
    })
    .await;

    let told = why(&app).await;

    assert_says(
        &told,
        "parked",
        &[&receiver.url(), "answered 500", "attempts"],
    );
    let event = &told["per_endpoint"][0]["event"];
    assert!(event["attempts"].as_i64().unwrap() >= 2, "{event}");
}
