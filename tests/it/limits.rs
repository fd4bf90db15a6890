//! What is too much: rates, sizes and protocols.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::TestApp;
use crate::support::people;

on_both! {
    a_directory_that_asks_too_often_has_to_wait_and_others_do_not
        with [("limits.scim_requests_per_second", "1"), ("limits.scim_burst", "5")],
    a_key_that_asks_too_often_has_to_wait with [("limits.api_requests_per_second", "3")],
    wrong_tokens_are_limited_and_a_valid_one_is_never_refused
        with [("limits.failed_auth_per_minute", "3")],
    wrong_keys_are_limited_and_a_valid_one_is_never_refused
        with [("limits.failed_auth_per_minute", "3")],
    a_body_that_is_too_large_is_refused
        with [
            ("limits.scim_user_body_bytes", "2048"),
            ("limits.scim_group_body_bytes", "4096"),
            ("limits.api_body_bytes", "1024"),
        ],
    upgrades_are_not_served,
    more_operations_than_one_patch_may_carry_are_refused,
}

/// Whole seconds: Okta reads nothing else.
fn seconds(retry_after: Option<&str>) -> u64 {
    retry_after.unwrap().parse().unwrap()
}

async fn a_directory_that_asks_too_often_has_to_wait_and_others_do_not(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;

    let answers = join_all((0..20).map(|_| idp.users(&[]))).await;

    let refused = answers.iter().find(|answer| answer.status() == 429);
    let refused = refused.unwrap();
    refused.expect_error(429, "");
    assert!((1..=20).contains(&seconds(refused.header("Retry-After"))));
    assert!(answers.iter().any(|answer| answer.status() == 200));
    other.users(&[]).await.expect(200);
}

async fn a_key_that_asks_too_often_has_to_wait(app: TestApp) {
    let vendor = app.vendor();
    let made = vendor
        .create_api_key(json!({"name": "another"}))
        .await
        .expect(201);
    let another = app.vendor_with(made["key"].as_str().unwrap());

    let answers = join_all((0..40).map(|_| another.endpoint("we_x"))).await;

    let refused = answers.iter().find(|answer| answer.status() == 429);
    let refused = refused.unwrap();
    assert_eq!(refused.expect(429)["code"], "rate_limit_exceeded");
    assert!(seconds(refused.header("Retry-After")) >= 1);
    assert_ne!(vendor.endpoint("we_x").await.status(), 429);
}

async fn wrong_tokens_are_limited_and_a_valid_one_is_never_refused(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;
    let stranger = idp.with_token("wrong");

    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(stranger.users(&[]).await.status());
        idp.users(&[]).await.expect(200);
    }

    assert_eq!(statuses, [401, 401, 401, 429, 429, 429]);
    let refused = stranger.create_user(people::user("eve")).await;
    refused.expect_error(429, "");
    assert!(seconds(refused.header("Retry-After")) >= 1);
    // Providers share addresses among their customers.
    other
        .with_token("wrong")
        .users(&[])
        .await
        .expect_error(401, "");
}

async fn wrong_keys_are_limited_and_a_valid_one_is_never_refused(app: TestApp) {
    let stranger = app.vendor_with("sk_wrong");

    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(stranger.endpoint("we_x").await.status());
        app.vendor().endpoint("we_x").await.expect(404);
    }

    assert_eq!(statuses, [401, 401, 401, 429, 429]);
}

async fn a_body_that_is_too_large_is_refused(app: TestApp) {
    let idp = app.idp().await;
    let long = |bytes: usize| "x".repeat(bytes);

    let user = idp
        .create_user(json!({"userName": "ada", "title": long(2_048)}))
        .await;
    let smaller = idp
        .create_user(json!({"userName": "ada", "title": long(1_900)}))
        .await;
    let group = idp.create_group(json!({"displayName": "E", "externalId": "e", "x": long(4_096)}));
    let smaller_group = idp.create_group(json!({"displayName": "E", "x": long(3_900)}));
    let vendor = app.vendor();
    let organization = vendor.create_organization(json!({"name": "E", "x": long(1_024)}));

    user.expect_error(413, "");
    smaller.expect(201);
    group.await.expect_error(413, "");
    smaller_group.await.expect(201);
    assert_eq!(organization.await.expect(413)["code"], "invalid_body");
}

async fn upgrades_are_not_served(app: TestApp) {
    let idp = app.idp().await;
    let headers = [("Upgrade", "websocket"), ("Connection", "Upgrade")];

    let body = people::user("ada").to_string();
    let refused = idp.raw("POST", "/Users", &headers, Some(&body)).await;
    let trace = idp.raw("TRACE", "/Users", &[], None).await;

    assert_eq!(refused.expect(501)["code"], "not_implemented");
    assert_eq!(trace.expect(501)["code"], "not_implemented");
    assert_eq!(idp.users(&[]).await.expect(200)["totalResults"], 0);
}

async fn more_operations_than_one_patch_may_carry_are_refused(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_user("ada").await;
    let operation = json!({"op": "replace", "path": "title", "value": "x"});

    let operations = vec![operation; 1_001];
    let refused = idp.patch_user(&id, json!(operations)).await;

    refused.expect_error(413, "tooMany");
}
