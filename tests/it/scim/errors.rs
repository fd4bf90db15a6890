//! What is refused, with which status, and that nothing of it is written.

use serde_json::json;

use crate::support::TestApp;
use crate::support::people;
use crate::support::world::{kinds, world};

on_both! {
    a_token_that_does_not_open_the_directory_is_challenged,
    a_token_is_taken_with_and_without_its_scheme,
    a_token_that_expires_is_valid_until_then,
    a_body_that_is_no_json_object_is_refused,
    values_of_the_wrong_type_are_refused,
    a_patch_that_is_none_is_refused,
    what_does_not_exist_is_404_and_what_cannot_be_done_is_405,
    a_body_of_another_kind_is_refused,
}

async fn a_token_that_does_not_open_the_directory_is_challenged(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;
    let vendor = app.vendor();
    let revoked = vendor
        .create_token(&idp.directory_id, json!({}))
        .await
        .expect(201);
    let revoked_id = revoked["id"].as_str().unwrap();
    vendor
        .revoke_token(&idp.directory_id, revoked_id)
        .await
        .expect(204);
    let expiring = json!({"expires_at": "2026-01-15T12:05:00Z"});
    let expired = vendor
        .create_token(&idp.directory_id, expiring)
        .await
        .expect(201);
    app.advance_seconds(600);

    for token in [
        "",
        "wrong",
        other.token.as_str(),
        expired["token"].as_str().unwrap(),
        revoked["token"].as_str().unwrap(),
    ] {
        let refused = idp.with_token(token).users(&[]).await;
        refused.expect_error(401, "");
        let challenge = refused.header("WWW-Authenticate").unwrap();
        assert!(challenge.starts_with("Bearer"), "{challenge}");
        let written = idp.with_token(token).create_user(people::user("eve")).await;
        written.expect_error(401, "");
    }
    assert!(!world(&app).await.contains("dsync"));
}

async fn a_token_is_taken_with_and_without_its_scheme(app: TestApp) {
    let idp = app.idp().await;
    let anonymous = idp.with_token("");

    for value in [
        idp.token.clone(),
        format!("bearer {}", idp.token),
        format!("BEARER  {}", idp.token),
    ] {
        let list = anonymous
            .raw("GET", "/Users", &[("Authorization", &value)], None)
            .await;
        list.expect(200);
    }
    let basic = format!("Basic {}", idp.token);
    let refused = anonymous
        .raw("GET", "/Users", &[("Authorization", &basic)], None)
        .await;
    refused.expect_error(401, "");
}

async fn a_token_that_expires_is_valid_until_then(app: TestApp) {
    let idp = app.idp().await;
    let expiring = json!({"expires_at": "2026-01-15T12:05:00Z"});
    let token = app
        .vendor()
        .create_token(&idp.directory_id, expiring)
        .await
        .expect(201);
    let idp = idp.with_token(token["token"].as_str().unwrap());

    idp.users(&[]).await.expect(200);
    app.advance_seconds(300);
    idp.users(&[]).await.expect_error(401, "");
}

async fn a_body_that_is_no_json_object_is_refused(app: TestApp) {
    let idp = app.idp().await;

    for body in [
        "",
        " ",
        "{",
        "[]",
        "null",
        "\"x\"",
        "{}{}",
        "{'userName': 'ada'}",
        r#"{"userName": "ada", "userName": "bob"}"#,
        r#"{"userName": "ada", "USERNAME": "bob"}"#,
        r#"{"userName": "ada", "name": {"givenName": "a", "givenname": "b"}}"#,
    ] {
        for path in ["/Users", "/Groups"] {
            let refused = idp.raw("POST", path, &[], Some(body)).await;
            refused.expect_error(400, "invalidSyntax");
        }
    }
    assert_eq!(kinds(&app, &idp.directory_id).await, ["dsync.activated"]);
}

async fn values_of_the_wrong_type_are_refused(app: TestApp) {
    let idp = app.idp().await;

    for user in [
        json!({"userName": 1}),
        json!({"userName": ["ada"]}),
        json!({"userName": "ada", "name": "Ada"}),
        json!({"userName": "ada", "active": "perhaps"}),
        json!({"userName": "ada", "emails": [1]}),
        json!({"userName": "ada", "title": "nul \u{0}"}),
    ] {
        idp.create_user(user)
            .await
            .expect_error(400, "invalidValue");
    }
    for group in [
        json!({"displayName": {}}),
        json!({"displayName": "x", "members": [1]}),
        json!({"displayName": "x", "members": [{"display": "nobody"}]}),
    ] {
        idp.create_group(group)
            .await
            .expect_error(400, "invalidValue");
    }
    assert_eq!(kinds(&app, &idp.directory_id).await, ["dsync.activated"]);
}

async fn a_patch_that_is_none_is_refused(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_user("ada").await;

    for body in [
        json!({}),
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"]}),
        json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "Operations": [{"op": "replace", "path": "title", "value": "x"}]}),
        json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": {}}),
    ] {
        let path = format!("/Users/{id}");
        let refused = idp.raw("PATCH", &path, &[], Some(&body.to_string())).await;
        refused.expect_error(400, "invalidSyntax");
    }
    assert_eq!(kinds(&app, &idp.directory_id).await.len(), 2);
}

async fn what_does_not_exist_is_404_and_what_cannot_be_done_is_405(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_user("ada").await;

    for path in [
        "/Users/x",
        "/Groups/x",
        "/Users/01912345-0000-7000-8000-000000000000",
        "/Nothing",
        "/Schemas/urn:x",
        "/ResourceTypes/Device",
    ] {
        idp.raw("GET", path, &[], None).await.expect_error(404, "");
    }
    idp.raw("GET", "/Me", &[], None).await.expect_error(501, "");
    let user = format!("/Users/{id}");
    for (method, path) in [
        ("GET", "/Bulk"),
        ("GET", "/Users/.search"),
        ("POST", ""),
        ("PUT", "/Users"),
        ("PATCH", "/Users"),
        ("DELETE", "/Users"),
        ("POST", user.as_str()),
        ("DELETE", "/Groups"),
        ("PUT", "/Groups"),
    ] {
        idp.raw(method, path, &[], Some("{}"))
            .await
            .expect_error(405, "");
    }
}

async fn a_body_of_another_kind_is_refused(app: TestApp) {
    let idp = app.idp().await;
    let client = rollcall::outbound::ApiClient::new().unwrap();
    let url = format!("{}/Users", idp.base_url);

    for (content_type, status) in [
        ("application/json", 201),
        ("application/scim+json; charset=utf-8", 201),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
    ] {
        let name = format!("user of {content_type}");
        let body = Some(people::user(&name).to_string());
        let token = Some(idp.token.as_str());
        let answer = client
            .send("POST", &url, token, content_type, body, &[])
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{content_type}");
        assert_eq!(answer.header("Content-Type"), Some("application/scim+json"));
    }
    let body = people::user("zipped").to_string();
    let zipped = idp
        .raw(
            "POST",
            "/Users",
            &[("Content-Encoding", "gzip")],
            Some(&body),
        )
        .await;
    zipped.expect_error(415, "");
}
