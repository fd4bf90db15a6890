//! `/admin/v1/directories/{id}/tokens`.

use serde_json::{Value, json};

use super::fields;
use crate::support::TestApp;

on_both! {
    a_token_is_shown_when_it_is_made_and_never_again,
    a_revoked_token_opens_nothing_from_the_next_request_on,
    tokens_overlap_so_that_a_provider_can_be_moved,
    what_is_wrong_with_a_token_is_named,
    a_token_belongs_to_its_directory,
}

async fn a_token_is_shown_when_it_is_made_and_never_again(app: TestApp) {
    let vendor = app.vendor();
    let directory = app.idp().await.directory_id;

    let body = json!({"label": "second", "expires_at": "2027-01-01T00:00:00Z"});
    let made = vendor.create_token(&directory, body).await;

    let token = made.expect(201);
    assert_eq!(made.header("Cache-Control"), Some("no-store"));
    let secret = token["token"].as_str().unwrap();
    let id = token["id"].as_str().unwrap();
    assert!(id.starts_with("directory_token_"), "{id}");
    assert_eq!(token["object"], "directory_token");
    assert_eq!(token["directory_id"], directory);
    assert_eq!(token["label"], "second");
    assert_eq!(token["expires_at"], "2027-01-01T00:00:00.000Z");
    assert!(secret.ends_with(token["token_suffix"].as_str().unwrap()));
    let shown = vendor.token(&directory, id).await;
    assert!(!shown.text().contains(secret));
    assert_eq!(shown.expect(200).get("token"), None::<&Value>);
    let list = vendor.tokens(&directory).await;
    assert!(!list.text().contains(secret));
    let list = list.expect(200);
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    assert_eq!(list["data"][1], shown.json());
    assert_eq!(
        list["list_metadata"],
        json!({"before": null, "after": null})
    );
}

async fn a_revoked_token_opens_nothing_from_the_next_request_on(app: TestApp) {
    let idp = app.idp().await;
    idp.users(&[]).await.expect(200);
    let tokens = app.vendor().tokens(&idp.directory_id).await.expect(200);
    let id = tokens["data"][0]["id"].as_str().unwrap();

    let revoked = app.vendor().revoke_token(&idp.directory_id, id).await;

    assert_eq!((revoked.status(), revoked.text()), (204, ""));
    idp.users(&[]).await.expect_error(401, "");
    let shown = app.vendor().token(&idp.directory_id, id).await.expect(200);
    assert_eq!(shown["revoked_at"], "2026-01-15T12:00:00.000Z");
    app.vendor()
        .revoke_token(&idp.directory_id, id)
        .await
        .expect(204);
}

async fn tokens_overlap_so_that_a_provider_can_be_moved(app: TestApp) {
    let idp = app.idp().await;
    let made = app
        .vendor()
        .create_token(&idp.directory_id, json!({}))
        .await
        .expect(201);
    let moved = idp.with_token(made["token"].as_str().unwrap());

    idp.users(&[]).await.expect(200);
    moved.users(&[]).await.expect(200);
}

async fn what_is_wrong_with_a_token_is_named(app: TestApp) {
    let vendor = app.vendor();
    let directory = app.idp().await.directory_id;

    let wrong = json!({"label": "", "expires_at": "2026-01-15T12:00:00Z"});
    let wrong = vendor.create_token(&directory, wrong).await.expect(422);
    let garbled = vendor
        .create_token(&directory, json!({"expires_at": "soon"}))
        .await;

    assert_eq!(fields(&wrong), ["label", "expires_at"]);
    assert_eq!(garbled.expect(422)["code"], "invalid_request_parameters");
}

async fn a_token_belongs_to_its_directory(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    let other = app.idp().await.directory_id;
    let tokens = vendor.tokens(&idp.directory_id).await.expect(200);
    let id = tokens["data"][0]["id"].as_str().unwrap();

    vendor.token(&other, id).await.expect(404);
    vendor.revoke_token(&other, id).await.expect(404);
    vendor.token(&other, "nonsense").await.expect(404);
    vendor
        .tokens("directory_01ARZ3NDEKTSV4RRFFQ69G5FAV")
        .await
        .expect(404);

    idp.users(&[]).await.expect(200);
}
