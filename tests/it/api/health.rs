//! `/admin/v1/directories/{id}/health`.

use chrono::Duration;
use rollcall::ids::RequestId;
use rollcall::storage::tables::{directories, users};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::scene::{now, request, set, write};
use crate::support::TestApp;
use crate::support::actors::id_of;
use crate::support::people::user;

on_both! {
    a_directorys_health_tells_who_is_in_it_and_what_opens_it with [("directories.tokens_max", "3")],
    requests_of_the_last_hour_and_day_are_counted,
    undelivered_events_are_counted_for_each_endpoint_and_directory,
    a_verdict_is_the_first_thing_that_is_wrong,
}

async fn health(app: &TestApp, id: &str) -> Value {
    app.vendor().health(id).await.expect(200)
}

async fn a_directorys_health_tells_who_is_in_it_and_what_opens_it(app: TestApp) {
    let idp = app.idp().await;
    let id = &idp.directory_id;
    for name in ["a", "b", "c", "d"] {
        idp.add_user(name).await;
    }
    let group = idp.add_group("Engineers", &[]).await;
    let mut inactive = user("e");
    inactive["active"] = json!(false);
    idp.create_user(inactive.clone()).await.expect(201);
    inactive["userName"] = json!("f");
    let ended = id_of(&idp.create_user(inactive).await.expect(201));
    users::Entity::update_many()
        .col_expr(users::Column::EndedAt, Expr::value(now(&app)))
        .filter(users::Column::Id.eq(rollcall::ids::ResourceId::parse(&ended).unwrap()))
        .exec(app.store().statement_connection())
        .await
        .unwrap();
    app.advance_seconds(60);
    idp.delete_group(&group).await.expect(204);
    let soon = json!({"label": "soon", "expires_at": "2026-01-20T00:00:00Z"});
    app.vendor().create_token(id, soon).await.expect(201);
    let over = json!({"label": "over", "expires_at": "2026-01-16T00:00:00Z"});
    app.vendor().create_token(id, over).await.expect(201);
    app.advance_seconds(24 * 3_600);
    idp.users(&[]).await.expect(200);
    app.write_down_activity().await;

    let health = health(&app, id).await;

    assert_eq!(health["object"], "directory_health");
    assert_eq!(
        health["users"],
        json!({"active": 4, "inactive": 1, "ended": 1})
    );
    assert_eq!(health["groups"], 0);
    assert_eq!(health["last_request_at"], "2026-01-16T12:01:00.000Z");
    assert_eq!(health["last_change_at"], "2026-01-15T12:01:00.000Z");
    assert_eq!(health["sequence"], 9);
    assert_eq!(health["tokens"]["active"], 2);
    let expiring = health["tokens"]["expiring"].as_array().unwrap();
    assert_eq!(expiring.len(), 1);
    assert_eq!(expiring[0]["label"], "soon");
    let used = &health["tokens"]["last_used"];
    assert!(
        idp.token.ends_with(used["token_suffix"].as_str().unwrap()),
        "{used}"
    );
    assert_eq!(health["verdict"], "ok");
    app.vendor().health("directory_1").await.expect(404);
}

async fn requests_of_the_last_hour_and_day_are_counted(app: TestApp) {
    let idp = app.idp().await;
    idp.users(&[]).await.expect(200);
    app.write_down_activity().await;
    app.write_down_requests().await;
    let before = health(&app, &idp.directory_id).await;
    let stranger = app.idp().await;
    // (minutes ago, status)
    for (minutes, status) in [(1, 200), (50, 409), (70, 400), (70, 201), (60 * 25, 500)] {
        let mut row = request(&app, &idp.directory_id, status);
        row.created_at = now(&app) - Duration::minutes(minutes);
        let milliseconds = u128::try_from(row.created_at.timestamp_millis()).unwrap();
        let salt = u128::try_from(status).unwrap();
        row.id = RequestId::from(uuid::Uuid::from_u128(milliseconds << 80 | 7 << 76 | salt));
        write(&app, row, Vec::new()).await;
    }

    let after = health(&app, &idp.directory_id).await;

    let more = |span: &str, name: &str| {
        let of = |health: &Value| health[span][name].as_i64().unwrap();
        of(&after) - of(&before)
    };
    assert_eq!(
        (more("last_hour", "requests"), more("last_hour", "errors")),
        (2, 1)
    );
    assert_eq!(
        (more("last_day", "requests"), more("last_day", "errors")),
        (4, 2)
    );
    let other = health(&app, &stranger.directory_id).await;
    assert_eq!(other["last_day"], json!({"requests": 0, "errors": 0}));
}

async fn undelivered_events_are_counted_for_each_endpoint_and_directory(app: TestApp) {
    let idp = app.idp().await;
    idp.add_user("before").await;
    let vendor = app.vendor();
    let all = json!({"endpoint_url": "http://127.0.0.1:9/all"});
    let all = id_of(&vendor.create_endpoint(all).await.expect(201));
    let users =
        json!({"endpoint_url": "http://127.0.0.1:9/users", "events": ["dsync.user.created"]});
    let users = id_of(&vendor.create_endpoint(users).await.expect(201));
    let ada = idp.add_user("ada").await;
    idp.add_group("Engineers", &[&ada]).await;
    let stranger = app.idp().await;
    stranger.add_user("eve").await;

    let health = health(&app, &idp.directory_id).await;

    let endpoints = health["endpoints"].as_array().unwrap();
    let of = |id: &str| {
        let found = endpoints.iter().find(|entry| entry["endpoint_id"] == id);
        found.unwrap()["undelivered"].clone()
    };
    assert_eq!(endpoints.len(), 2);
    assert_eq!((of(&all), of(&users)), (json!(3), json!(1)));
}

async fn a_verdict_is_the_first_thing_that_is_wrong(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.directory_id.as_str();
    let verdict = async || {
        let health = health(&app, id).await;
        assert!(health["text"].as_str().unwrap().ends_with('.'));
        health["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict().await, "validating");
    idp.users(&[]).await.expect(200);
    app.write_down_activity().await;
    assert_eq!(verdict().await, "ok");
    app.advance_seconds(2 * 24 * 3_600);
    assert_eq!(verdict().await, "ok");
    app.advance_seconds(2 * 24 * 3_600);
    assert_eq!(verdict().await, "silent");
    for _ in 0..9 {
        write(&app, request(&app, id, 400), Vec::new()).await;
    }
    assert_eq!(verdict().await, "failing");
    let at = Some(now(&app));
    for (row, expected) in [
        (
            directories::ActiveModel {
                management: Set("manual".to_owned()),
                ..Default::default()
            },
            "manual",
        ),
        (
            directories::ActiveModel {
                deliveries_held_at: Set(at),
                ..Default::default()
            },
            "held",
        ),
        (
            directories::ActiveModel {
                writes_refused_at: Set(at),
                ..Default::default()
            },
            "paused",
        ),
        (
            directories::ActiveModel {
                deletion_due_at: Set(at),
                ..Default::default()
            },
            "deleting",
        ),
    ] {
        set(&app, id, row).await;
        assert_eq!(verdict().await, expected);
    }
}
