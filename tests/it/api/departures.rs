//! Deleting organizations with all their directories, and taking it back.

use std::time::Duration;

use rollcall::actor::Actor;
use rollcall::directories::deletion;
use rollcall::ids::OrganizationId;
use rollcall::tenancy::organization;
use serde_json::{Value, json};

use super::deletion::{DUE, HOUR, assert_ended, remove_rows, run_jobs};
use crate::support::waiting::eventually;
use crate::support::world::kinds;
use crate::support::{Idp, TestApp};

on_both! {
    an_organization_goes_with_its_directories_and_comes_back_with_them,
    an_organization_that_is_going_to_be_deleted_gets_no_directories,
    an_organization_is_gone_when_its_directories_are,
    what_was_interrupted_follows_later,
    the_server_ends_and_removes_what_is_due_by_itself with [("node.scheduler", "true")],
    organizations_can_be_deleted_at_once with [("directories.deletion_grace", "0")],
}

/// An organization with a domain, an external id and these many directories, each heard.
async fn organization_of(app: &TestApp, count: usize) -> (String, Vec<Idp>) {
    let body = json!({"name": "Acme", "external_id": "c1", "domains": ["acme.example"]});
    let made = app.vendor().create_organization(body).await.expect(201);
    let mut idps = Vec::new();
    for _ in 0..count {
        let idp = app.idp_of(&made["id"]).await;
        idp.add_user("ada").await;
        idps.push(idp);
    }
    (made["id"].as_str().unwrap().to_owned(), idps)
}

async fn an_organization_goes_with_its_directories_and_comes_back_with_them(app: TestApp) {
    let vendor = app.vendor();
    let (id, idps) = organization_of(&app, 3).await;
    let stranger = app.idp().await;
    // This one goes by itself, and does not come back with the others.
    vendor
        .delete_directory(&idps[0].directory_id)
        .await
        .expect(202);
    app.advance_seconds(HOUR);

    for _ in 0..2 {
        let deleted = vendor.delete_organization(&id).await.expect(202);
        assert_eq!(deleted["deletion_due_at"], "2026-01-18T13:00:00.000Z");
        assert_eq!(vendor.organization(&id).await.expect(200), deleted);
    }
    for idp in &idps {
        idp.users(&[]).await.expect_error(503, "");
    }
    let alone = &idps[1].directory_id;
    let refused = vendor.turn_directory(alone, "restore").await.expect(409);
    assert_eq!(refused["code"], "deletion_scheduled");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("organization"), "{message}");
    stranger.users(&[]).await.expect(200);

    let restored = vendor.restore_organization(&id).await.expect(200);

    assert_eq!(restored["deletion_due_at"], Value::Null);
    let refused = vendor.restore_organization(&id).await.expect(409);
    assert_eq!(refused["code"], "deletion_not_scheduled");
    idps[0].users(&[]).await.expect_error(503, "");
    for idp in &idps[1..] {
        idp.users(&[]).await.expect(200);
    }
    app.advance_seconds(100 * HOUR);
    assert_eq!(run_jobs(&app).await, 1);
    remove_rows(&app).await;
    idps[1].add_user("eve").await;
    vendor.organization(&id).await.expect(200);
}

async fn an_organization_that_is_going_to_be_deleted_gets_no_directories(app: TestApp) {
    let vendor = app.vendor();
    let (id, _) = organization_of(&app, 0).await;
    vendor.delete_organization(&id).await.expect(202);
    let body = json!({"organization_id": id, "name": "x", "type": "generic scim v2.0"});

    let refused = vendor.create_directory(body.clone()).await.expect(409);

    assert_eq!(refused["code"], "deletion_scheduled");
    assert!(refused["message"].as_str().unwrap().contains(DUE));
    vendor.restore_organization(&id).await.expect(200);
    vendor.create_directory(body).await.expect(201);
    for nowhere in ["org_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"] {
        vendor.delete_organization(nowhere).await.expect(404);
        vendor.restore_organization(nowhere).await.expect(404);
    }
}

async fn an_organization_is_gone_when_its_directories_are(app: TestApp) {
    let vendor = app.vendor();
    let (id, idps) = organization_of(&app, 2).await;
    vendor
        .end_directory(&idps[0].directory_id)
        .await
        .expect(202);
    vendor.delete_organization(&id).await.expect(202);
    let same = json!({"name": "B", "external_id": "c1", "domains": ["acme.example"]});
    app.advance_seconds(72 * HOUR);

    assert_eq!(run_jobs(&app).await, 1);

    assert_ended(&app, &idps[1]).await;
    let late = vendor.restore_organization(&id).await.expect(409);
    assert_eq!(late["code"], "already_deleted");
    // Rows of its directories are left, and it keeps what is its own.
    let removed = deletion::organization::remove_due(app.store(), 500).await;
    assert_eq!(removed.unwrap(), 0);
    vendor.create_organization(same.clone()).await.expect(400);
    vendor.organization(&id).await.expect(200);

    remove_rows(&app).await;

    vendor.organization(&id).await.expect(404);
    vendor.directory(&idps[1].directory_id).await.expect(404);
    vendor.create_organization(same).await.expect(201);
    let log = kinds(&app, &idps[1].directory_id).await;
    assert_eq!(log.last().map(String::as_str), Some("dsync.deleted"));
}

/// What would be left if the server died between the organization's row and its directories.
async fn what_was_interrupted_follows_later(app: TestApp) {
    let (id, idps) = organization_of(&app, 2).await;
    let organization_id = OrganizationId::parse(&id).unwrap();
    let (store, actor) = (app.store(), Actor::COMMAND);
    let grace = chrono::TimeDelta::hours(72);
    organization::schedule_deletion(store, actor, organization_id, grace)
        .await
        .unwrap();
    idps[0].users(&[]).await.expect(200);

    run_jobs(&app).await;
    for idp in &idps {
        idp.users(&[]).await.expect_error(503, "");
    }
    app.advance_seconds(72 * HOUR - 1);
    organization::restore(store, actor, organization_id)
        .await
        .unwrap();
    app.advance_seconds(HOUR);

    // Their time has come, and yet they must not end.
    assert_eq!(deletion::end_due(store).await.unwrap(), 0);
    assert_eq!(run_jobs(&app).await, 0);
    for idp in &idps {
        idp.add_user("eve").await;
    }
}

async fn organizations_can_be_deleted_at_once(app: TestApp) {
    let vendor = app.vendor();
    let (id, idps) = organization_of(&app, 2).await;

    vendor.delete_organization(&id).await.expect(202);

    for idp in &idps {
        assert_ended(&app, idp).await;
    }
    remove_rows(&app).await;
    vendor.organization(&id).await.expect(404);
}

async fn the_server_ends_and_removes_what_is_due_by_itself(app: TestApp) {
    let vendor = app.vendor();
    let (id, idps) = organization_of(&app, 1).await;
    vendor.delete_organization(&id).await.expect(202);

    eventually("the end", Duration::from_mins(1), async || {
        app.advance_seconds(HOUR);
        vendor.organization(&id).await.status() == 404
    })
    .await;

    let log = kinds(&app, &idps[0].directory_id).await;
    assert_eq!(log.last().map(String::as_str), Some("dsync.deleted"));
}
