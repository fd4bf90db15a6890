//! `Idempotency-Key` on every `POST`.

use futures_util::future::join_all;
use rollcall::storage::tables::{api_keys, idempotency_keys, organizations};
use rollcall::tenancy::idempotency;
use sea_orm::sea_query::Expr;
use sea_orm::{ConnectionTrait as _, EntityTrait as _, PaginatorTrait as _, QueryOrder as _};
use serde_json::{Value, json};

use super::fields;
use crate::support::raw::{Connection, exchange};
use crate::support::{Answer, TestApp};

on_both! {
    a_post_that_is_sent_again_is_answered_as_before,
    secrets_are_answered_again_and_lie_sealed,
    refusals_are_answered_again,
    a_key_belongs_to_one_request_of_one_api_key,
    every_post_of_the_api_takes_a_key,
    a_key_that_is_none_is_refused,
    requests_at_once_are_carried_out_once,
    a_client_that_hangs_up_finds_the_answer_when_it_asks_again,
    a_request_that_is_under_way_for_long_is_told_of_and_taken_over_when_nobody_is_left,
    answers_are_kept_for_a_day,
    what_failed_is_carried_out_again,
}

const REPLAYED: &str = "Idempotent-Replayed";

async fn post(app: &TestApp, key: &str, path: &str, body: &Value) -> Answer {
    let headers = [("Idempotency-Key", key)];
    let body = body.to_string();
    app.vendor().raw("POST", path, &headers, Some(&body)).await
}

async fn organization(app: &TestApp, key: &str, name: &str) -> Answer {
    post(app, key, "/organizations", &json!({"name": name})).await
}

async fn count(app: &TestApp) -> u64 {
    let organizations = organizations::Entity::find();
    organizations.count(app.store().reader()).await.unwrap()
}

async fn a_post_that_is_sent_again_is_answered_as_before(app: TestApp) {
    let first = organization(&app, "key-1", "Acme").await;
    let again = organization(&app, "key-1", "Acme").await;
    let without = app
        .vendor()
        .create_organization(json!({"name": "Acme"}))
        .await;

    assert_eq!(first.status(), 201);
    assert_eq!((again.status(), again.text()), (201, first.text()));
    assert_eq!(again.header("Content-Type"), Some("application/json"));
    assert_eq!(first.header(REPLAYED), None);
    assert_eq!(again.header(REPLAYED), Some("true"));
    assert_ne!(first.header("X-Request-ID"), again.header("X-Request-ID"));
    assert_ne!(without.expect(201)["id"], first.json()["id"]);
    assert_eq!(count(&app).await, 2);
}

async fn secrets_are_answered_again_and_lie_sealed(app: TestApp) {
    let directory = app.idp().await.directory_id;
    let path = format!("/admin/v1/directories/{directory}/tokens");

    let made = post(&app, "key-1", &path, &json!({})).await;
    let again = post(&app, "key-1", &path, &json!({})).await;

    assert_eq!((again.status(), again.text()), (201, made.text()));
    assert_eq!(again.header("Cache-Control"), Some("no-store"));
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let rows = idempotency_keys::Entity::find();
    let row = rows.one(app.store().reader()).await.unwrap().unwrap();
    assert_eq!(row.status, Some(201));
    let sealed = row.sealed_answer.unwrap();
    let is_there = |text: &str| {
        sealed
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(!is_there(&token) && !is_there("directory_token"));
}

async fn refusals_are_answered_again(app: TestApp) {
    let refused = organization(&app, "key-1", "").await;
    let again = organization(&app, "key-1", "").await;
    let missing = post(&app, "key-2", "/admin/v1/nothing", &json!({})).await;

    assert_eq!(fields(&refused.expect(422)), ["name"]);
    assert_eq!((again.status(), again.text()), (422, refused.text()));
    assert_eq!(again.header(REPLAYED), Some("true"));
    missing.expect(404);
}

async fn a_key_belongs_to_one_request_of_one_api_key(app: TestApp) {
    let made = organization(&app, "key-1", "Acme").await.expect(201);
    let key = app.vendor().create_api_key(json!({"name": "other"})).await;
    let other = app.vendor_with(key.expect(201)["key"].as_str().unwrap());

    let another_body = organization(&app, "key-1", "Other").await;
    let body = json!({"name": "Acme"});
    let another_path = post(&app, "key-1", "/admin/v1/api_keys", &body).await;
    let another_query = post(&app, "key-1", "/organizations?x=1", &body).await;
    let headers = [("Idempotency-Key", "key-1")];
    let text = body.to_string();
    let another_caller = other
        .raw("POST", "/organizations", &headers, Some(&text))
        .await;

    for refused in [another_body, another_path, another_query] {
        assert_eq!(refused.expect(422)["code"], "idempotency_key_reused");
    }
    assert_ne!(another_caller.expect(201)["id"], made["id"]);
    let keys = api_keys::Entity::find().count(app.store().reader()).await;
    assert_eq!((keys.unwrap(), count(&app).await), (2, 2));
}

async fn every_post_of_the_api_takes_a_key(app: TestApp) {
    let idp = app.idp().await;
    let tokens = format!("/admin/v1/directories/{}/tokens", idp.directory_id);
    let list = app.vendor().tokens(&idp.directory_id).await.expect(200);
    let rotate = format!(
        "{tokens}/{}/rotate",
        list["data"][0]["id"].as_str().unwrap()
    );
    let directory = app.vendor().directory(&idp.directory_id).await.expect(200);
    let directory = json!({
        "organization_id": directory["organization_id"],
        "name": "Entra",
        "type": "azure scim v2.0",
    });
    let contract = json!({
        "endpoint_url": "https://a.example.com/",
        "events": ["dsync.activated"],
    });
    let own = json!({"endpoint_url": "https://b.example.com/"});

    for (number, (path, body)) in [
        ("/organizations", json!({"name": "x"})),
        ("/webhook_endpoints", contract),
        ("/admin/v1/webhook_endpoints", own),
        ("/admin/v1/api_keys", json!({"name": "x"})),
        ("/admin/v1/directories", directory),
        (rotate.as_str(), json!({})),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("key-{number}");
        let first = post(&app, &key, path, &body).await;
        let again = post(&app, &key, path, &body).await;
        assert_eq!(first.status(), 201, "{path}: {}", first.text());
        assert_eq!(
            (again.status(), again.text()),
            (201, first.text()),
            "{path}"
        );
        assert_eq!(again.header(REPLAYED), Some("true"), "{path}");
    }
}

async fn a_key_that_is_none_is_refused(app: TestApp) {
    let vendor = app.vendor();
    let longest = "k".repeat(255);
    let too_long = "k".repeat(256);
    let body = Some(r#"{"name": "Acme"}"#);

    for headers in [
        &[("Idempotency-Key", "")][..],
        &[("Idempotency-Key", &too_long)],
        &[("Idempotency-Key", "one"), ("Idempotency-Key", "two")],
    ] {
        let refused = vendor.raw("POST", "/organizations", headers, body).await;
        assert_eq!(fields(&refused.expect(422)), ["Idempotency-Key"]);
    }
    assert_eq!(count(&app).await, 0);
    organization(&app, &longest, "Acme").await.expect(201);
    let raw = format!(
        "POST /organizations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Idempotency-Key: schlüssel\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        app.api_key()
    );
    exchange(app.address(), &raw).await.expect(422);
    // Nobody learns of keys without an API key.
    let stranger = app.vendor_with("sk_wrong");
    let headers = [("Idempotency-Key", longest.as_str())];
    let stranger = stranger.raw("POST", "/organizations", &headers, body).await;
    stranger.expect(401);
    // Elsewhere a key means nothing.
    let shown = vendor
        .raw("GET", "/organizations/x", &[("Idempotency-Key", "")], None)
        .await;
    shown.expect(404);
}

async fn requests_at_once_are_carried_out_once(app: TestApp) {
    let answers = join_all((0..12).map(|_| organization(&app, "key-1", "Acme"))).await;

    let first = answers
        .iter()
        .filter(|answer| answer.header(REPLAYED).is_none());
    assert_eq!(first.count(), 1);
    for answer in &answers {
        assert_eq!((answer.status(), answer.text()), (201, answers[0].text()));
    }
    assert_eq!(count(&app).await, 1);
}

async fn a_client_that_hangs_up_finds_the_answer_when_it_asks_again(app: TestApp) {
    const REQUESTS: usize = 40;
    let key = app.api_key();
    let body = r#"{"name":"Acme"}"#;

    for number in 0..REQUESTS {
        let mut connection = Connection::to(app.address()).await;
        let request = format!(
            "POST /organizations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
             Idempotency-Key: key-{number}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.send(request.as_bytes()).await;
        // Hung up at different moments of the request.
        let pause = std::time::Duration::from_micros(u64::try_from(number).unwrap() * 200);
        tokio::time::sleep(pause).await;
    }
    let vendor = app.vendor();
    for number in 0..REQUESTS {
        let header = format!("key-{number}");
        let headers = [("Idempotency-Key", header.as_str())];
        let answer = vendor
            .raw("POST", "/organizations", &headers, Some(body))
            .await;
        answer.expect(201);
    }

    assert_eq!(count(&app).await, u64::try_from(REQUESTS).unwrap());
}

async fn a_request_that_is_under_way_for_long_is_told_of_and_taken_over_when_nobody_is_left(
    app: TestApp,
) {
    let first = organization(&app, "key-1", "Acme").await.expect(201);
    // As a process leaves it that dies before it has kept the answer.
    idempotency_keys::Entity::update_many()
        .col_expr(
            idempotency_keys::Column::SealedAnswer,
            Expr::value(None::<Vec<u8>>),
        )
        .exec(app.store().statement_connection())
        .await
        .unwrap();

    app.advance_seconds(59);
    let busy = organization(&app, "key-1", "Acme").await;
    app.advance_seconds(1);
    let another = organization(&app, "key-1", "Other").await;
    let second = organization(&app, "key-1", "Acme").await;
    let again = organization(&app, "key-1", "Acme").await;

    assert_eq!(busy.header("Retry-After"), Some("1"));
    assert_eq!(busy.expect(409)["code"], "idempotency_key_in_use");
    assert_eq!(another.expect(422)["code"], "idempotency_key_reused");
    assert_eq!(second.header(REPLAYED), None);
    assert_ne!(second.expect(201)["id"], first["id"]);
    assert_eq!(
        (again.header(REPLAYED), again.text()),
        (Some("true"), second.text())
    );
}

async fn answers_are_kept_for_a_day(app: TestApp) {
    for number in 0..3 {
        organization(&app, &format!("key-{number}"), "Acme")
            .await
            .expect(201);
    }
    app.advance_seconds(86_399);
    organization(&app, "later", "Acme").await.expect(201);
    assert_eq!(idempotency::forget(app.store(), 500).await.unwrap(), 0);
    let kept = organization(&app, "key-0", "Acme").await;
    app.advance_seconds(1);

    // Forgotten or not, the key is free again.
    let anew = organization(&app, "key-0", "Other").await;
    let forgotten = idempotency::forget(app.store(), 1).await.unwrap();
    let rest = idempotency::forget(app.store(), 500).await.unwrap();

    assert_eq!(kept.header(REPLAYED), Some("true"));
    assert_eq!((anew.status(), anew.header(REPLAYED)), (201, None));
    assert_eq!((forgotten, rest), (1, 1));
    let left = idempotency_keys::Entity::find()
        .order_by_asc(idempotency_keys::Column::IdempotencyKey)
        .all(app.store().reader())
        .await
        .unwrap();
    let left: Vec<&str> = left
        .iter()
        .map(|row| row.idempotency_key.as_str())
        .collect();
    assert_eq!(left, ["key-0", "later"]);
}

async fn what_failed_is_carried_out_again(app: TestApp) {
    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        let renamed = app
            .store()
            .statement_connection()
            .execute_unprepared(&sql)
            .await;
        renamed.unwrap();
    };

    rename("organizations", "away").await;
    let failed = organization(&app, "key-1", "Acme").await;
    rename("away", "organizations").await;
    let again = organization(&app, "key-1", "Acme").await;

    failed.expect(500);
    assert_eq!((again.status(), again.header(REPLAYED)), (201, None));
    assert_eq!(count(&app).await, 1);
}
