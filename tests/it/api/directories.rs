//! `/admin/v1/directories`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fields;
use crate::support::TestApp;

on_both! {
    a_directory_is_made_and_shown,
    what_is_wrong_with_a_directory_is_named,
    a_directory_needs_an_organization,
    a_directory_tells_when_its_provider_was_heard,
    nothing_opens_a_deleted_directory_again,
}

async fn a_directory_is_made_and_shown(app: TestApp) {
    let vendor = app.vendor();
    let organization = vendor
        .create_organization(json!({"name": "Acme"}))
        .await
        .expect(201);

    let directory = vendor
        .create_directory(
            json!({"organization_id": organization["id"], "name": "Okta",
            "type": "okta scim v2.0"}),
        )
        .await
        .expect(201);

    let id = directory["id"].as_str().unwrap();
    assert!(id.starts_with("directory_"), "{id}");
    assert_eq!(directory["object"], "directory");
    assert_eq!(directory["organization_id"], organization["id"]);
    assert_eq!(directory["type"], "okta scim v2.0");
    assert_eq!(directory["state"], "validating");
    assert_eq!(directory["sequence"], 0);
    assert_eq!(directory["first_request_at"], Value::Null);
    let key = directory["external_key"].as_str().unwrap();
    // Okta's form refuses an underscore in a base URL.
    assert!(!key.contains('_'), "{key}");
    let base_url = directory["scim_base_url"].as_str().unwrap();
    assert!(base_url.ends_with(&format!("/scim/v2/{key}")), "{base_url}");
    assert_eq!(vendor.directory(id).await.expect(200), directory);
}

async fn what_is_wrong_with_a_directory_is_named(app: TestApp) {
    let vendor = app.vendor();
    let organization = vendor
        .create_organization(json!({"name": "Acme"}))
        .await
        .expect(201);

    let wrong = vendor
        .create_directory(
            json!({"organization_id": organization["id"], "name": "", "type": "ldap"}),
        )
        .await
        .expect(422);
    let missing = vendor
        .create_directory(json!({"name": "x"}))
        .await
        .expect(422);

    assert_eq!(fields(&wrong), ["name", "type"]);
    assert_eq!(missing["code"], "invalid_request_parameters");
}

async fn a_directory_needs_an_organization(app: TestApp) {
    for id in ["org_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"] {
        let body = json!({"organization_id": id, "name": "x", "type": "generic scim v2.0"});
        let refused = app.vendor().create_directory(body).await.expect(404);
        assert_eq!(refused["code"], "entity_not_found");
        assert!(refused["message"].as_str().unwrap().contains(id));
    }
}

const LATER: &str = "2026-01-15T13:00:00.000Z";

async fn a_directory_tells_when_its_provider_was_heard(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;

    idp.users(&[]).await.expect(200);
    app.advance_seconds(3_600);
    idp.users(&[]).await.expect(200);

    // The server writes it down by itself too, and may be at it.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        app.write_down_activity().await;
        let directory = vendor.directory(&idp.directory_id).await.expect(200);
        let tokens = vendor.tokens(&idp.directory_id).await.expect(200);
        let heard = [
            &directory["first_request_at"],
            &directory["last_request_at"],
            &tokens["data"][0]["last_used_at"],
        ];
        if heard == ["2026-01-15T12:00:00.000Z", LATER, LATER] {
            break;
        }
        assert!(Instant::now() < deadline, "{heard:?}");
    }
}

async fn nothing_opens_a_deleted_directory_again(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    idp.add_user("ada").await;

    vendor.delete_directory(&idp.directory_id).await.expect(202);
    let token = vendor.create_token(&idp.directory_id, json!({})).await;

    assert_eq!(token.expect(404)["code"], "entity_not_found");
    idp.users(&[]).await.expect_error(401, "");
}
