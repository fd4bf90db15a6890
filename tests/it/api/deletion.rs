//! Deleting directories, and taking it back.

use std::time::Duration;

use rollcall::actor::Actor;
use rollcall::directories::{deletion, directory};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::states::{actions, audited};

use crate::support::people;
use crate::support::receiver::Receiver;
use crate::support::waiting::eventually;
use crate::support::world::{events, kinds, world};
use crate::support::{Idp, TestApp};

on_both! {
    a_scheduled_deletion_answers_nobody_and_keeps_everything,
    a_restored_directory_goes_on_as_it_was,
    only_what_is_going_to_be_deleted_can_be_restored,
    deleting_twice_is_a_success_and_keeps_the_time,
    a_deletion_can_be_at_once,
    without_grace_every_deletion_is_at_once with [("directories.deletion_grace", "0")],
    a_deletion_ends_when_its_time_has_come_and_not_before,
    a_directory_that_was_never_heard_ends_in_silence_after_its_grace,
    nothing_comes_after_the_end_whoever_writes_at_that_time,
    nothing_comes_after_the_end_of_a_grace_whoever_writes_at_that_time,
    what_is_going_to_be_deleted_gets_no_tokens_and_no_settings,
    the_removal_of_rows_shows_how_far_it_is,
    the_contract_deletes_directories_likewise,
    the_last_event_arrives_after_all_others with [("node.dispatcher", "true")],
}

pub(super) const HOUR: i64 = 3_600;
/// When what is deleted at the start of a test is due.
pub(super) const DUE: &str = "2026-01-18T12:00:00.000Z";

/// Runs what the server does every few seconds.
pub(super) async fn run_jobs(app: &TestApp) -> u64 {
    let store = app.store();
    let followed = deletion::organization::follow(store, Actor::SYSTEM, None).await;
    followed.unwrap();
    deletion::end_due(store).await.unwrap()
}

/// Runs what the server does every minute, until there is nothing left to do.
pub(super) async fn remove_rows(app: &TestApp) {
    let store = app.store();
    while directory::remove_deleted(store, 500).await.unwrap() > 0 {}
    while deletion::organization::remove_due(store, 500)
        .await
        .unwrap()
        > 0
    {}
}

async fn a_scheduled_deletion_answers_nobody_and_keeps_everything(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    let user = idp.add_user("ada").await;
    let (before, log) = (world(&app).await, kinds(&app, &idp.directory_id).await);

    let deleted = vendor.delete_directory(&idp.directory_id).await.expect(202);

    assert_eq!(deleted["state"], "deleting");
    assert_eq!(deleted["deletion_due_at"], DUE);
    assert_eq!(deleted["deletion"], Value::Null);
    assert_eq!(
        vendor.directory(&idp.directory_id).await.expect(200),
        deleted
    );
    for (method, path) in [
        ("GET", "/Users".to_owned()),
        ("POST", "/Users".to_owned()),
        ("GET", format!("/Users/{user}")),
        ("DELETE", format!("/Users/{user}")),
        ("GET", "/Groups".to_owned()),
        ("POST", "/Bulk".to_owned()),
        ("POST", "/Users/.search".to_owned()),
        ("GET", String::new()),
        ("GET", "/ServiceProviderConfig".to_owned()),
        ("GET", "/Schemas".to_owned()),
        ("GET", "/nothing/at/all".to_owned()),
    ] {
        let body = people::user("eve").to_string();
        let body = (method == "POST").then_some(body.as_str());
        let refused = idp.raw(method, &path, &[], body).await;
        refused.expect_error(503, "");
        assert_eq!(
            refused.header("Retry-After"),
            Some("300"),
            "{method} {path}"
        );
        for wrong in ["", "rcst_wrong"] {
            let refused = idp.with_token(wrong).raw(method, &path, &[], body).await;
            refused.expect_error(401, "");
        }
    }
    assert_eq!(world(&app).await, before);
    assert_eq!(kinds(&app, &idp.directory_id).await, log);
    let tokens = vendor.tokens(&idp.directory_id).await.expect(200);
    assert_eq!(tokens["data"][0]["revoked_at"], Value::Null);
    let audited = audited(&app, &idp.directory_id).await;
    let (action, actor) = audited.last().unwrap();
    assert_eq!(action, "directory.deletion_scheduled");
    assert!(actor.starts_with("api_key_"), "{actor}");
}

async fn a_restored_directory_goes_on_as_it_was(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    let id = idp.directory_id.as_str();
    let user = idp.add_user("ada").await;
    let shown = idp.user(&user).await.expect(200);
    let mut before = vendor.directory(id).await.expect(200);
    vendor.delete_directory(id).await.expect(202);
    app.advance_seconds(71 * HOUR);
    assert_eq!(run_jobs(&app).await, 0);

    let restored = vendor.turn_directory(id, "restore").await.expect(200);

    // Only the times tell that something was.
    for time in [
        "updated_at",
        "first_request_at",
        "last_request_at",
        "lights",
    ] {
        before[time] = restored[time].clone();
    }
    assert_eq!(restored, before);
    assert_eq!(idp.user(&user).await.expect(200), shown);
    let eve = idp.add_user("eve").await;
    app.advance_seconds(100 * HOUR);
    assert_eq!(run_jobs(&app).await, 0);
    idp.user(&eve).await.expect(200);
    let log = events(&app, id).await;
    let sequences: Vec<_> = log.iter().filter_map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    let actions = actions(&app, id).await;
    assert_eq!(
        actions,
        ["directory.deletion_scheduled", "directory.restored"]
    );
}

async fn only_what_is_going_to_be_deleted_can_be_restored(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    idp.add_user("ada").await;
    let id = idp.directory_id.as_str();
    let restore = || async { vendor.turn_directory(id, "restore").await };

    assert_eq!(
        restore().await.expect(409)["code"],
        "deletion_not_scheduled"
    );
    vendor.end_directory(id).await.expect(202);
    let late = restore().await.expect(409);
    remove_rows(&app).await;

    assert_eq!(late["code"], "already_deleted");
    assert_eq!(restore().await.expect(404)["code"], "entity_not_found");
    for nowhere in ["directory_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"] {
        vendor.turn_directory(nowhere, "restore").await.expect(404);
        vendor.delete_directory(nowhere).await.expect(404);
    }
}

async fn deleting_twice_is_a_success_and_keeps_the_time(app: TestApp) {
    let vendor = app.vendor();
    let id = app.idp().await.directory_id;
    let first = vendor.delete_directory(&id).await.expect(202);
    app.advance_seconds(HOUR);

    assert_eq!(vendor.delete_directory(&id).await.expect(202), first);
    let ended = vendor.end_directory(&id).await.expect(202);
    assert_eq!(vendor.delete_directory(&id).await.expect(202), ended);

    assert_eq!(ended["deletion_due_at"], Value::Null);
    assert_eq!(ended["deletion"], json!({"rows_removed": 0}));
    let actions = actions(&app, &id).await;
    assert_eq!(
        actions,
        ["directory.deletion_scheduled", "directory.deleted"]
    );
    let path = format!("/admin/v1/directories/{id}?immediately=perhaps");
    vendor.raw("DELETE", &path, &[], None).await.expect(422);
}

/// That a directory which was heard has ended.
pub(super) async fn assert_ended(app: &TestApp, idp: &Idp) {
    idp.users(&[]).await.expect_error(401, "");
    let log = kinds(app, &idp.directory_id).await;
    assert_eq!(log.last().map(String::as_str), Some("dsync.deleted"));
    let shown = app.vendor().directory(&idp.directory_id).await.expect(200);
    assert_eq!(shown["state"], "deleting");
    assert_eq!(shown["deletion_due_at"], Value::Null);
}

async fn a_deletion_can_be_at_once(app: TestApp) {
    let idp = app.idp().await;
    idp.add_user("ada").await;

    app.vendor()
        .end_directory(&idp.directory_id)
        .await
        .expect(202);

    assert_ended(&app, &idp).await;
}

async fn without_grace_every_deletion_is_at_once(app: TestApp) {
    let idp = app.idp().await;
    idp.add_user("ada").await;

    app.vendor()
        .delete_directory(&idp.directory_id)
        .await
        .expect(202);

    assert_ended(&app, &idp).await;
}

async fn a_deletion_ends_when_its_time_has_come_and_not_before(app: TestApp) {
    let vendor = app.vendor();
    let (idp, other) = (app.idp().await, app.idp().await);
    let id = idp.directory_id.as_str();
    idp.add_user("ada").await;
    other.add_user("bob").await;
    vendor.turn_directory(id, "hold").await.expect(200);
    vendor.delete_directory(id).await.expect(202);
    app.advance_seconds(72 * HOUR - 1);
    assert_eq!(run_jobs(&app).await, 0);
    idp.users(&[]).await.expect_error(503, "");
    app.advance_seconds(1);

    assert_eq!(run_jobs(&app).await, 1);
    assert_eq!(run_jobs(&app).await, 0);

    assert_ended(&app, &idp).await;
    let shown = vendor.directory(id).await.expect(200);
    // Else the last events would never arrive.
    assert_eq!(shown["deliveries_held_at"], Value::Null);
    let log = kinds(&app, id).await;
    assert_eq!(
        log,
        ["dsync.activated", "dsync.user.created", "dsync.deleted"]
    );
    let tokens = vendor.tokens(id).await.expect(200);
    assert!(tokens["data"][0]["revoked_at"].is_string());
    let audited = audited(&app, id).await;
    let last = audited.last().unwrap();
    assert_eq!(*last, ("directory.deleted".to_owned(), "system".to_owned()));
    other.add_user("eve").await;
}

async fn a_directory_that_was_never_heard_ends_in_silence_after_its_grace(app: TestApp) {
    let idp = app.idp().await;
    app.vendor()
        .delete_directory(&idp.directory_id)
        .await
        .expect(202);
    // Whoever comes now does not bring it to life.
    idp.users(&[]).await.expect_error(503, "");
    app.advance_seconds(72 * HOUR);

    assert_eq!(run_jobs(&app).await, 1);

    idp.users(&[]).await.expect_error(401, "");
    assert!(kinds(&app, &idp.directory_id).await.is_empty());
}

/// Adds users until the directory is gone, and returns how many.
async fn write_until_the_end(idp: Idp, writer: usize) -> usize {
    let mut written = 0;
    for number in 0..100_000 {
        let user = people::user(&format!("{writer}-{number}"));
        match idp.create_user(user).await.status() {
            201 => written += 1,
            503 => tokio::time::sleep(Duration::from_millis(5)).await,
            401 => return written,
            status => panic!("{status}"),
        }
    }
    panic!("the directory does not end");
}

/// Runs `end` while several write, and looks at what comes last.
async fn race(app: &TestApp, end: impl AsyncFnOnce(&str)) {
    let idp = app.idp().await;
    let id = idp.directory_id.as_str();
    idp.add_user("ada").await;
    let mut writers = JoinSet::new();
    for writer in 0..6 {
        writers.spawn(write_until_the_end(idp.clone(), writer));
    }
    let sequence = || async {
        let shown = app.vendor().directory(id).await.expect(200);
        shown["sequence"].as_i64().unwrap()
    };
    let busy = async || sequence().await > 20;
    eventually("some writes", Duration::from_secs(30), busy).await;

    end(id).await;

    let written = 1 + writers.join_all().await.into_iter().sum::<usize>();
    let log = events(app, id).await;
    let sequences: Vec<i64> = log.iter().filter_map(|event| event.sequence).collect();
    let expected: Vec<i64> = (1..).take(log.len()).collect();
    assert_eq!(sequences, expected);
    let count = |kind: &str| log.iter().filter(|event| event.kind == kind).count();
    assert_eq!(log.last().unwrap().kind, "dsync.deleted");
    assert_eq!(count("dsync.deleted"), 1);
    assert_eq!(count("dsync.user.created"), written);
}

async fn nothing_comes_after_the_end_whoever_writes_at_that_time(app: TestApp) {
    race(&app, async |id| {
        app.vendor().end_directory(id).await.expect(202);
    })
    .await;
}

async fn nothing_comes_after_the_end_of_a_grace_whoever_writes_at_that_time(app: TestApp) {
    race(&app, async |id| {
        app.vendor().delete_directory(id).await.expect(202);
        app.vendor().turn_directory(id, "restore").await.expect(200);
        app.vendor().delete_directory(id).await.expect(202);
        app.advance_seconds(72 * HOUR);
        // Two nodes may be at it.
        let ended = tokio::join!(
            deletion::end_due(app.store()),
            deletion::end_due(app.store())
        );
        assert_eq!(ended.0.unwrap() + ended.1.unwrap(), 1);
    })
    .await;
}

async fn what_is_going_to_be_deleted_gets_no_tokens_and_no_settings(app: TestApp) {
    let vendor = app.vendor();
    let id = app.idp().await.directory_id;
    let before = vendor.delete_directory(&id).await.expect(202);

    for refused in [
        vendor.create_token(&id, json!({})).await,
        vendor.configure_directory(&id, json!({"name": "x"})).await,
    ] {
        let refused = refused.expect(409);
        assert_eq!(refused["code"], "deletion_scheduled");
        let message = refused["message"].as_str().unwrap();
        assert!(
            message.contains(DUE) && message.contains("restore"),
            "{message}"
        );
    }

    assert_eq!(vendor.directory(&id).await.expect(200), before);
    let tokens = vendor.tokens(&id).await.expect(200);
    assert_eq!(tokens["data"].as_array().unwrap().len(), 1);
}

async fn the_removal_of_rows_shows_how_far_it_is(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    for number in 0..5 {
        idp.add_user(&format!("user-{number}")).await;
    }
    let shown = || async {
        let shown = vendor.directory(&idp.directory_id).await.expect(200);
        shown["deletion"]["rows_removed"].as_u64()
    };
    assert_eq!(shown().await, None);
    vendor.end_directory(&idp.directory_id).await.expect(202);

    let mut removed = 0;
    loop {
        assert_eq!(shown().await, Some(removed));
        match directory::remove_deleted(app.store(), 3).await.unwrap() {
            0 => break,
            rows => removed += rows,
        }
    }

    assert!(removed >= 7, "{removed}");
    vendor.directory(&idp.directory_id).await.expect(404);
}

async fn the_contract_deletes_directories_likewise(app: TestApp) {
    let vendor = app.vendor();
    let id = app.idp().await.directory_id;
    let path = format!("/directories/{id}");

    for _ in 0..2 {
        let deleted = vendor.raw("DELETE", &path, &[], None).await;
        assert_eq!(deleted.expect(202), json!({}));
    }

    let shown = vendor.directory(&id).await.expect(200);
    assert_eq!(shown["deletion_due_at"], DUE);
    let nowhere = "/directories/directory_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    vendor.raw("DELETE", nowhere, &[], None).await.expect(404);
}

async fn the_last_event_arrives_after_all_others(app: TestApp) {
    let receiver = Receiver::start_with(app.clock());
    let vendor = app.vendor();
    let endpoint = json!({"endpoint_url": receiver.url()});
    let endpoint = vendor.create_endpoint(endpoint).await.expect(201);
    receiver.expect_secret(endpoint["secret"].as_str().unwrap());
    let idp = app.idp().await;
    let id = idp.directory_id.as_str();
    let ada = idp.add_user("ada").await;
    idp.add_group("Engineers", &[&ada]).await;
    vendor.turn_directory(id, "hold").await.expect(200);
    for number in 0..20 {
        idp.add_user(&format!("user-{number}")).await;
    }
    vendor.delete_directory(id).await.expect(202);
    app.advance_seconds(72 * HOUR);

    assert_eq!(run_jobs(&app).await, 1);

    let last = i64::try_from(events(&app, id).await.len()).unwrap();
    assert_eq!(last, 25);
    eventually("all events", Duration::from_secs(30), async || {
        receiver.ledger().is_complete(id, last)
    })
    .await;
    let ledger = receiver.ledger();
    ledger.assert_complete(id, last);
    ledger.assert_orderly();
    let mut accepted = ledger.requests().iter().filter(|one| one.is_accepted());
    let body: Value = serde_json::from_str(&accepted.next_back().unwrap().body).unwrap();
    assert_eq!(body["event"], "dsync.deleted");
}
