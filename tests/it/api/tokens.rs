//! `/admin/v1/directories/{id}/tokens`.

use futures_util::future::join_all;
use rollcall::clock::{self, Clock as _};
use rollcall::directories::directory::{self, Heard};
use rollcall::ids::{DirectoryId, ScimTokenId};
use rollcall::storage::tables::audit_entries;
use sea_orm::{EntityTrait as _, QueryOrder as _};
use serde_json::{Value, json};

use super::fields;
use crate::support::{Idp, TestApp};

on_both! {
    a_token_is_shown_when_it_is_made_and_never_again,
    a_revoked_token_opens_nothing_from_the_next_request_on,
    tokens_overlap_so_that_a_provider_can_be_moved,
    what_is_wrong_with_a_token_is_named,
    a_token_belongs_to_its_directory,
    a_directory_has_so_many_tokens_and_a_new_one_may_take_the_place_of_one,
    tokens_made_at_once_are_no_more_than_there_may_be,
    a_token_that_has_expired_makes_room,
    a_rotated_token_goes_on_for_as_long_as_it_is_told,
    a_token_is_rotated_at_once,
    a_rotation_needs_room_and_never_prolongs_a_token,
    what_has_ended_is_not_rotated_and_what_is_wrong_with_a_rotation_is_named,
    the_token_that_was_used_last_is_told_exactly,
    what_is_done_with_tokens_is_written_down,
}

/// The one token of the directory that `idp` opens.
async fn only_token(app: &TestApp, idp: &Idp) -> String {
    let tokens = app.vendor().tokens(&idp.directory_id).await.expect(200);
    let tokens = tokens["data"].as_array().unwrap();
    assert_eq!(tokens.len(), 1);
    id_of(&tokens[0])
}

fn id_of(token: &Value) -> String {
    token["id"].as_str().unwrap().to_owned()
}

fn secret_of(token: &Value) -> &str {
    token["token"].as_str().unwrap()
}

/// The states of a directory's tokens, oldest first.
async fn states(app: &TestApp, idp: &Idp) -> Vec<String> {
    let tokens = app.vendor().tokens(&idp.directory_id).await.expect(200);
    let tokens = tokens["data"].as_array().unwrap();
    let states = tokens.iter().map(|token| token["state"].as_str().unwrap());
    states.map(str::to_owned).collect()
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

async fn a_directory_has_so_many_tokens_and_a_new_one_may_take_the_place_of_one(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    let first = only_token(&app, &idp).await;
    idp.users(&[]).await.expect(200);
    app.write_down_activity().await;
    let second = json!({"label": "Okta, new"});
    let second = vendor
        .create_token(&idp.directory_id, second)
        .await
        .expect(201);

    let third = vendor
        .create_token(&idp.directory_id, json!({}))
        .await
        .expect(409);
    let other = app.idp().await;
    let foreign = json!({"replace": only_token(&app, &other).await});
    let foreign = vendor.create_token(&idp.directory_id, foreign).await;
    let path = format!(
        "/admin/v1/directories/{}/tokens?replace={first}",
        idp.directory_id
    );
    let in_place = vendor.raw("POST", &path, &[], None).await.expect(201);

    assert_eq!(third["code"], "too_many_tokens");
    let candidates = json!([
        {"field": "replace", "code": first},
        {"field": "replace", "code": id_of(&second)},
    ]);
    assert_eq!(third["errors"], candidates);
    let message = third["message"].as_str().unwrap();
    let suffix = idp.token_suffix();
    let suffixes = [suffix, second["token_suffix"].as_str().unwrap()];
    for word in suffixes.into_iter().chain([
        "\"Okta, new\"), never used",
        "last used at 2026-01-15T12:00:00.000Z",
    ]) {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    foreign.expect(404);
    idp.users(&[]).await.expect_error(401, "");
    for token in [&second, &in_place] {
        idp.with_token(secret_of(token))
            .users(&[])
            .await
            .expect(200);
    }
    other.users(&[]).await.expect(200);
    assert_eq!(states(&app, &idp).await, ["revoked", "active", "active"]);
}

async fn tokens_made_at_once_are_no_more_than_there_may_be(app: TestApp) {
    let idp = app.idp().await;
    let vendor = app.vendor();

    let made = (0..8).map(|_| vendor.create_token(&idp.directory_id, json!({})));
    let made = join_all(made).await;

    let count = |status| made.iter().filter(|made| made.status() == status).count();
    assert_eq!((count(201), count(409)), (1, 7));
    assert_eq!(states(&app, &idp).await, ["active", "active"]);
}

async fn a_token_that_has_expired_makes_room(app: TestApp) {
    let idp = app.idp().await;
    let vendor = app.vendor();
    let short = json!({"expires_at": "2026-01-15T12:05:00Z"});
    vendor
        .create_token(&idp.directory_id, short)
        .await
        .expect(201);
    assert_eq!(states(&app, &idp).await, ["active", "expiring"]);
    vendor
        .create_token(&idp.directory_id, json!({}))
        .await
        .expect(409);

    app.advance_seconds(300);

    let later = json!({"expires_at": "2027-01-15T12:05:00Z"});
    vendor
        .create_token(&idp.directory_id, later)
        .await
        .expect(201);
    assert_eq!(states(&app, &idp).await, ["active", "expired", "active"]);
}

async fn a_rotated_token_goes_on_for_as_long_as_it_is_told(app: TestApp) {
    let vendor = app.vendor();
    let usual = app.idp().await;
    let brief = app.idp().await;

    let by_itself = format!(
        "/admin/v1/directories/{}/tokens/{}/rotate",
        usual.directory_id,
        only_token(&app, &usual).await
    );
    let by_itself = vendor.raw("POST", &by_itself, &[], None).await;
    let old = only_token(&app, &brief).await;
    let body = json!({"overlap": "90s", "label": "new", "expires_at": "2028-01-01T00:00:00Z"});
    let told = vendor.rotate_token(&brief.directory_id, &old, body).await;

    assert_eq!(by_itself.header("Cache-Control"), Some("no-store"));
    let by_itself = by_itself.expect(201);
    assert_eq!(
        by_itself["replaces"]["expires_at"],
        "2026-01-16T12:00:00.000Z"
    );
    let told = told.expect(201);
    let replaces = json!({
        "id": old,
        "token_suffix": brief.token_suffix(),
        "expires_at": "2026-01-15T12:01:30.000Z",
    });
    assert_eq!(told["replaces"], replaces);
    assert_eq!(
        (&told["label"], &told["state"]),
        (&json!("new"), &json!("active"))
    );
    assert_eq!(told["expires_at"], "2028-01-01T00:00:00.000Z");
    let moved = brief.with_token(secret_of(&told));
    moved.users(&[]).await.expect(200);
    brief.users(&[]).await.expect(200);
    assert_eq!(states(&app, &brief).await, ["expiring", "active"]);
    app.advance_seconds(90);
    brief.users(&[]).await.expect_error(401, "");
    moved.users(&[]).await.expect(200);
    usual.users(&[]).await.expect(200);
    assert_eq!(states(&app, &brief).await, ["expired", "active"]);
    app.advance_seconds(86_400);
    usual.users(&[]).await.expect_error(401, "");
}

async fn a_token_is_rotated_at_once(app: TestApp) {
    let vendor = app.vendor();
    for named in [false, true] {
        let idp = app.idp().await;
        let old = only_token(&app, &idp).await;
        let body = if named {
            json!({"replace": old})
        } else {
            json!({"overlap": "0"})
        };

        let made = vendor.rotate_token(&idp.directory_id, &old, body).await;

        let made = made.expect(201);
        assert_eq!(made["replaces"]["expires_at"], "2026-01-15T12:00:00.000Z");
        idp.users(&[]).await.expect_error(401, "");
        idp.with_token(secret_of(&made))
            .users(&[])
            .await
            .expect(200);
        assert_eq!(states(&app, &idp).await, ["revoked", "active"]);
    }
}

async fn a_rotation_needs_room_and_never_prolongs_a_token(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    let first = only_token(&app, &idp).await;
    let soon = json!({"expires_at": "2026-01-15T13:00:00Z"});
    let second = vendor
        .create_token(&idp.directory_id, soon)
        .await
        .expect(201);
    let rotate =
        |body| vendor.rotate_token(&idp.directory_id, second["id"].as_str().unwrap(), body);

    let full = rotate(json!({})).await.expect(409);
    assert_eq!(full["code"], "too_many_tokens");
    assert_eq!(states(&app, &idp).await, ["active", "expiring"]);
    let third = rotate(json!({"replace": first})).await.expect(201);

    assert_eq!(third["replaces"]["expires_at"], "2026-01-15T13:00:00.000Z");
    assert_eq!(states(&app, &idp).await, ["revoked", "expiring", "active"]);
}

async fn what_has_ended_is_not_rotated_and_what_is_wrong_with_a_rotation_is_named(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    let id = only_token(&app, &idp).await;
    let other = app.idp().await;
    let directory = idp.directory_id.as_str();

    for overlap in ["", "31d", "721h", "1", "-1h", "1w", "soon"] {
        let body = json!({"overlap": overlap, "label": ""});
        let refused = vendor.rotate_token(directory, &id, body).await.expect(422);
        assert_eq!(fields(&refused), ["label", "overlap"], "{overlap}");
    }
    let number = vendor
        .rotate_token(directory, &id, json!({"overlap": 3}))
        .await;
    number.expect(422);
    for (directory, id) in [
        (other.directory_id.as_str(), id.as_str()),
        (directory, "nonsense"),
        ("directory_01ARZ3NDEKTSV4RRFFQ69G5FAV", id.as_str()),
    ] {
        vendor
            .rotate_token(directory, id, json!({}))
            .await
            .expect(404);
    }
    assert_eq!(states(&app, &idp).await, ["active"]);
    vendor.revoke_token(directory, &id).await.expect(204);
    let ended = vendor
        .rotate_token(directory, &id, json!({}))
        .await
        .expect(409);
    assert_eq!(ended["code"], "token_ended");
    let message = ended["message"].as_str().unwrap();
    assert!(message.contains("2026-01-15T12:00:00.000Z"), "{message}");
}

async fn the_token_that_was_used_last_is_told_exactly(app: TestApp) {
    let vendor = app.vendor();
    let old = app.idp().await;
    let made = vendor
        .create_token(&old.directory_id, json!({}))
        .await
        .expect(201);
    let new = old.with_token(secret_of(&made));
    let last = async |at: &str| {
        app.write_down_activity().await;
        let tokens = vendor.tokens(&old.directory_id).await.expect(200);
        let tokens = tokens["data"].as_array().unwrap().clone();
        let last: Vec<bool> = tokens
            .iter()
            .map(|token| token["is_last_used"] == true)
            .collect();
        let token = tokens.iter().find(|token| token["is_last_used"] == true);
        let used_at = token.map(|token| token["last_used_at"].as_str().unwrap());
        assert_eq!(used_at.unwrap_or(""), at);
        last
    };

    assert_eq!(last("").await, [false, false]);
    old.users(&[]).await.expect(200);
    assert_eq!(last("2026-01-15T12:00:00.000Z").await, [true, false]);
    app.advance_seconds(5);
    new.users(&[]).await.expect(200);
    assert_eq!(last("2026-01-15T12:00:05.000Z").await, [false, true]);
    app.advance_seconds(5);
    old.users(&[]).await.expect(200);
    assert_eq!(last("2026-01-15T12:00:10.000Z").await, [true, false]);
    // Another node writes down later what it heard earlier.
    let earlier = clock::from_ms(app.clock().now_ms() - 1);
    let heard = Heard {
        directory_id: DirectoryId::parse(&old.directory_id).unwrap(),
        first: earlier,
        last: earlier,
        token_id: ScimTokenId::parse(&id_of(&made)).unwrap(),
    };
    let written = directory::record_activity(app.store(), vec![heard]).await;
    written.unwrap();
    assert_eq!(last("2026-01-15T12:00:10.000Z").await, [true, false]);
}

async fn what_is_done_with_tokens_is_written_down(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    let first = only_token(&app, &idp).await;
    let second = vendor
        .rotate_token(&idp.directory_id, &first, json!({}))
        .await
        .expect(201);
    let body = json!({"overlap": "0", "replace": first});
    let third = vendor
        .rotate_token(&idp.directory_id, &id_of(&second), body)
        .await
        .expect(201);
    vendor
        .revoke_token(&idp.directory_id, &id_of(&third))
        .await
        .expect(204);
    vendor
        .revoke_token(&idp.directory_id, &id_of(&third))
        .await
        .expect(204);

    let entries = audit_entries::Entity::find()
        .order_by_asc(audit_entries::Column::Id)
        .all(app.store().reader())
        .await
        .unwrap();

    let acts: Vec<(&str, &str)> = entries
        .iter()
        .filter(|entry| entry.action.starts_with("token."))
        .map(|entry| (entry.action.as_str(), entry.subject.as_str()))
        .collect();
    let (second_id, third_id) = (id_of(&second), id_of(&third));
    let expected = [
        ("token.created", first.as_str()),
        ("token.created", &second_id),
        ("token.rotated", &first),
        ("token.created", &third_id),
        ("token.rotated", &second_id),
        ("token.revoked", &second_id),
        ("token.revoked", &first),
        ("token.revoked", &third_id),
    ];
    assert_eq!(acts, expected);
    for entry in &entries {
        for token in [&second, &third] {
            assert!(!format!("{entry:?}").contains(secret_of(token)));
        }
    }
}
