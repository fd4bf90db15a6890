//! What a refused request is explained with: each situation is brought about and read over the API.

use rollcall::ids::DirectoryId;
use rollcall::storage::tables::directories;
use sea_orm::{ActiveValue, EntityTrait as _};
use serde_json::{Value, json};

use crate::requests::logged;
use crate::support::people;
use crate::support::raw::Connection;
use crate::support::{Answer, Idp, TestApp};

on_both! {
    what_is_wrong_with_a_request_is_explained
        with [("limits.scim_user_body_bytes", "65536")],
    what_is_wrong_with_a_token_is_explained with [("directories.tokens_max", "3")],
    a_directory_that_refuses_says_why,
    a_deleted_directory_says_so,
    a_circle_of_groups_is_explained,
    too_many_requests_are_explained
        with [("limits.scim_requests_per_second", "1"), ("limits.scim_burst", "1")],
    too_many_wrong_tokens_are_explained with [("limits.failed_auth_per_minute", "1")],
    a_body_without_room_is_explained
        with [
            ("limits.scim_user_body_bytes", "2048"),
            ("limits.scim_group_body_bytes", "2048"),
            ("limits.api_body_bytes", "1024"),
            ("limits.bodies_in_flight_bytes", "2048"),
        ],
    a_body_that_does_not_come_is_explained,
    what_to_do_depends_on_the_provider,
}

/// The explanation of a refused request, which must be of this situation and contain these words.
async fn explained(
    app: &TestApp,
    idp: &Idp,
    answer: &Answer,
    situation: &str,
    says: &str,
) -> Value {
    assert!(answer.status() >= 400, "{situation}: {}", answer.text());
    let shown = logged(app, &idp.directory_id, answer).await;
    let explanation = &shown["explanation"];
    assert_eq!(explanation["situation"], situation, "{shown}");
    assert_eq!(shown["situation"], situation);
    let text = explanation["text"].as_str().unwrap();
    let action = explanation["action"].as_str().unwrap();
    assert!(text.contains(says), "{situation}: {text}");
    assert!(!action.is_empty());
    assert!(
        !format!("{text}{action}").contains(['{', '}']),
        "{text} {action}"
    );
    explanation.clone()
}

/// A request, the situation that it leads to, and words that its explanation has.
type Case<'a> = (
    &'a str,
    &'a str,
    &'a [(&'a str, &'a str)],
    String,
    &'a str,
    &'a str,
);

fn patch(operations: &Value) -> String {
    let urn = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
    json!({"schemas": [urn], "Operations": operations}).to_string()
}

#[expect(
    clippy::too_many_lines,
    reason = "a table, of which each line is one situation"
)]
async fn what_is_wrong_with_a_request_is_explained(app: TestApp) {
    let idp = app.idp().await;
    let user = format!("/Users/{}", idp.add_user("ada").await);
    idp.add_group("Engineers", &[]).await;
    let nobody = "/Users/01a9fbd0-5d7c-7d3a-8000-000000000001";
    let no_group = "/Groups/01a9fbd0-5d7c-7d3a-8000-000000000001";
    let stale = [("If-Match", "W/\"0\"")];
    let zipped = [("Content-Encoding", "gzip")];
    let plain = [("Content-Type", "text/plain")];
    let none = String::new;
    let replace =
        |path: &str, value: Value| patch(&json!([{"op": "replace", "path": path, "value": value}]));
    let many = patch(&Value::Array(vec![
        json!({"op": "remove", "path": "title"});
        1_001
    ]));
    let emails = |emails: Value| json!({"userName": "x", "emails": emails}).to_string();
    let large = json!({"userName": "x", "title": "x".repeat(70_000)}).to_string();
    let long = "x".repeat(1_025);
    let member = json!({"displayName": "x", "members": [{"display": "x"}]}).to_string();

    let cases: Vec<Case<'_>> = vec![
        (
            "POST",
            "/Users",
            &[],
            people::user("ADA").to_string(),
            "user_name_taken",
            "userName",
        ),
        (
            "POST",
            "/Groups",
            &[],
            people::group("engineers", &[]).to_string(),
            "group_taken",
            "displayName",
        ),
        (
            "POST",
            "/Users",
            &[],
            "{\"name\": {}}".to_owned(),
            "user_name_missing",
            "no userName",
        ),
        (
            "POST",
            "/Groups",
            &[],
            "{\"members\": []}".to_owned(),
            "display_name_missing",
            "no displayName",
        ),
        (
            "POST",
            "/Users",
            &[],
            emails(json!([1])),
            "email_invalid",
            "e-mail",
        ),
        (
            "POST",
            "/Users",
            &[],
            "{\"userName\": \"x\", \"active\": \"perhaps\"}".to_owned(),
            "value_invalid",
            "'active'",
        ),
        (
            "POST",
            "/Users",
            &[],
            json!({"userName": long}).to_string(),
            "value_too_long",
            "1024",
        ),
        ("POST", "/Groups", &[], member, "member_invalid", "member"),
        ("POST", "/Users", &[], large, "body_too_large", "65536"),
        ("POST", "/Users", &[], none(), "body_empty", "no body"),
        (
            "POST",
            "/Users",
            &[],
            "{'userName': 'x'}".to_owned(),
            "not_json",
            "not valid JSON",
        ),
        (
            "POST",
            "/Users",
            &[],
            "[]".to_owned(),
            "not_json",
            "not an object",
        ),
        (
            "POST",
            "/Users",
            &[],
            "{\"userName\": \"x\", \"username\": \"y\"}".to_owned(),
            "syntax_invalid",
            "twice",
        ),
        (
            "POST",
            "/Users",
            &plain,
            none(),
            "content_type",
            "something else than JSON",
        ),
        (
            "POST",
            "/Users",
            &zipped,
            "{}".to_owned(),
            "body_compressed",
            "compressed",
        ),
        ("PATCH", &user, &[], many, "too_many_operations", "1000"),
        (
            "PATCH",
            &user,
            &[],
            replace("emails[", json!(1)),
            "path_invalid",
            "malformed",
        ),
        (
            "PATCH",
            &user,
            &[],
            replace("emails[type eq \"nonexistent\"].value", json!("x")),
            "no_target",
            "emails",
        ),
        (
            "PATCH",
            &user,
            &[],
            replace("meta", json!({"x": 1})),
            "read_only",
            "'meta'",
        ),
        (
            "PATCH",
            &user,
            &[],
            patch(&json!([{"op": "remove", "path": "userName"}])),
            "required_removed",
            "'userName'",
        ),
        (
            "PUT",
            &user,
            &stale,
            people::user("ada").to_string(),
            "precondition_failed",
            "changed",
        ),
        ("GET", nobody, &[], none(), "user_not_found", "no user"),
        (
            "DELETE",
            no_group,
            &[],
            none(),
            "group_not_found",
            "no group",
        ),
        (
            "GET",
            "/Users?filter=userName%20is%20x",
            &[],
            none(),
            "filter_invalid",
            "malformed",
        ),
        (
            "GET",
            "/Users?count=many",
            &[],
            none(),
            "query_invalid",
            "'count'",
        ),
        (
            "GET",
            "/Users?cursor=x",
            &[],
            none(),
            "cursor_invalid",
            "cursor",
        ),
        (
            "GET",
            "/Users?cursor&count=5000",
            &[],
            none(),
            "count_invalid",
            "1000",
        ),
        (
            "GET",
            "/Schemas?filter=id%20pr",
            &[],
            none(),
            "discovery_filter",
            "filter",
        ),
        (
            "GET",
            "/Schemas/none",
            &[],
            none(),
            "document_not_found",
            "schema",
        ),
        (
            "GET",
            "/v2/Users",
            &[],
            none(),
            "base_url_repeated",
            "/v2/Users",
        ),
        ("GET", "/Userz", &[], none(), "endpoint_unknown", "/Userz"),
        ("POST", "", &[], "{}".to_owned(), "base_url_written", "POST"),
        (
            "PATCH",
            "/Users",
            &[],
            "{}".to_owned(),
            "method_not_allowed",
            "PATCH",
        ),
        ("GET", "/Me", &[], none(), "me_not_served", "/Me"),
    ];
    for (method, path, headers, body, situation, says) in cases {
        let body = Some(body).filter(|body| !body.is_empty());
        let answer = idp.raw(method, path, headers, body.as_deref()).await;
        explained(&app, &idp, &answer, situation, says).await;
    }
}

async fn what_is_wrong_with_a_token_is_explained(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;
    let elsewhere = format!("…{}", other.token_suffix());
    let vendor = app.vendor();
    let ends = json!({"expires_at": "2026-01-15T12:05:00Z"});
    let expiring = vendor
        .create_token(&idp.directory_id, ends)
        .await
        .expect(201);
    let revoked = vendor
        .create_token(&idp.directory_id, json!({}))
        .await
        .expect(201);
    vendor
        .revoke_token(&idp.directory_id, revoked["id"].as_str().unwrap())
        .await
        .expect(204);
    app.advance_seconds(300);
    let ending = |token: &Value| format!("ends in …{}", token["token_suffix"].as_str().unwrap());
    let was_revoked = format!(
        "{} was revoked on 2026-01-15T12:00:00.000Z",
        ending(&revoked)
    );
    let has_expired = format!("{} expired on 2026-01-15T12:05:00.000Z", ending(&expiring));
    let damaged = idp.token.split_at(idp.token.len() - 1).0;
    let unknown = "rc_scim_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg0OAPgj";
    let key = vendor
        .create_api_key(json!({"name": "x"}))
        .await
        .expect(201);

    for (token, situation, says) in [
        ("", "token_missing", "without a token"),
        ("password", "token_foreign", "not made by this server"),
        (damaged, "token_damaged", "not whole"),
        (unknown, "token_unknown", "none of this server's"),
        (key["key"].as_str().unwrap(), "api_key_sent", "API key"),
        (
            revoked["token"].as_str().unwrap(),
            "token_revoked",
            &was_revoked,
        ),
        (
            expiring["token"].as_str().unwrap(),
            "token_expired",
            &has_expired,
        ),
        (&other.token, "token_elsewhere", &elsewhere),
    ] {
        let answer = idp.with_token(token).users(&[]).await;
        answer.expect(401);
        explained(&app, &idp, &answer, situation, says).await;
    }
    let anonymous = idp.with_token("");
    let basic = [("Authorization", "Basic YWRhOmFkYQ==")];
    let basic = anonymous.raw("GET", "/Users", &basic, None).await;
    explained(&app, &idp, &basic, "scheme_not_bearer", "Basic").await;
    let again = format!("Bearer {}", idp.token);
    let again = idp
        .raw("GET", "/Users", &[("Authorization", &again)], None)
        .await;
    explained(&app, &idp, &again, "token_several", "several").await;
}

/// Sets columns of the directory, as whoever administers it would.
async fn set(app: &TestApp, idp: &Idp, change: directories::ActiveModel) {
    let id = DirectoryId::parse(&idp.directory_id).unwrap();
    let change = directories::ActiveModel {
        id: ActiveValue::Unchanged(id),
        ..change
    };
    directories::Entity::update(change)
        .exec(app.store().statement_connection())
        .await
        .unwrap();
}

async fn a_directory_that_refuses_says_why(app: TestApp) {
    let now = rollcall::clock::from_ms(1_768_478_400_000);
    let by = || ActiveValue::Set(Some("Grace at the help desk".to_owned()));
    for (change, situation, says) in [
        (
            directories::ActiveModel {
                writes_refused_at: ActiveValue::Set(Some(now)),
                writes_refused_by: by(),
                ..Default::default()
            },
            "writes_paused",
            "Grace at the help desk",
        ),
        (
            directories::ActiveModel {
                management: ActiveValue::Set("manual".to_owned()),
                management_changed_by: by(),
                ..Default::default()
            },
            "managed_by_hand",
            "Grace at the help desk",
        ),
        (
            directories::ActiveModel {
                deletion_due_at: ActiveValue::Set(Some(now)),
                ..Default::default()
            },
            "directory_deleting",
            "\"Acme's directory\" is going to be deleted",
        ),
    ] {
        let idp = app.idp().await;
        set(&app, &idp, change).await;
        let answer = idp.create_user(people::user("ada")).await;
        explained(&app, &idp, &answer, situation, says).await;
    }
}

async fn a_deleted_directory_says_so(app: TestApp) {
    let idp = app.idp().await;
    app.vendor()
        .end_directory(&idp.directory_id)
        .await
        .expect(202);

    let answer = idp.users(&[]).await;

    explained(&app, &idp, &answer, "directory_deleted", "has been deleted").await;
}

async fn a_circle_of_groups_is_explained(app: TestApp) {
    let idp = app.idp().await;
    let inner = idp.add_group("Inner", &[]).await;
    let outer = idp.add_group("Outer", &[&inner]).await;

    let add = json!([{"op": "add", "path": "members", "value": [{"value": outer}]}]);
    let answer = idp.patch_group(&inner, add).await;

    explained(&app, &idp, &answer, "groups_in_circle", "member of itself").await;
}

async fn too_many_requests_are_explained(app: TestApp) {
    let idp = app.idp().await;
    let mut answer = idp.users(&[]).await;
    while answer.status() == 200 {
        answer = idp.users(&[]).await;
    }

    explained(&app, &idp, &answer, "too_many_requests", "more requests").await;
}

async fn too_many_wrong_tokens_are_explained(app: TestApp) {
    let idp = app.idp().await;
    let stranger = idp.with_token("wrong");
    let mut answer = stranger.users(&[]).await;
    while answer.status() == 401 {
        answer = stranger.users(&[]).await;
    }

    explained(&app, &idp, &answer, "too_many_wrong_tokens", "one address").await;
}

/// The head of a `POST` of a user that announces a body.
fn head(app: &TestApp, idp: &Idp, length: usize) -> String {
    let path = idp.base_url.strip_prefix(app.url()).unwrap();
    format!(
        "POST {path}/Users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Length: {length}\r\n\r\n",
        idp.token
    )
}

async fn a_body_without_room_is_explained(app: TestApp) {
    let idp = app.idp().await;
    let mut waiting = Connection::to(app.address()).await;
    waiting.send(head(&app, &idp, 2_048).as_bytes()).await;

    let mut answer = idp.create_user(people::user("ada")).await;
    for number in 0..1_000 {
        if answer.status() == 503 {
            break;
        }
        answer = idp
            .create_user(people::user(&format!("ada-{number}")))
            .await;
    }

    explained(&app, &idp, &answer, "bodies_wait", "no room").await;
}

async fn a_body_that_does_not_come_is_explained(app: TestApp) {
    let idp = app.idp().await;
    let mut slow = Connection::to(app.address()).await;
    slow.send(head(&app, &idp, 10).as_bytes()).await;
    drop(slow.rest().await);

    app.write_down_requests().await;
    let list = app
        .vendor()
        .requests(&idp.directory_id, &[])
        .await
        .expect(200);

    assert_eq!(list["data"][0]["status"], 408);
    assert_eq!(list["data"][0]["situation"], "body_too_slow");
}

async fn what_to_do_depends_on_the_provider(app: TestApp) {
    let mut actions = Vec::new();
    for kind in ["okta scim v2.0", "azure scim v2.0", "generic scim v2.0"] {
        let idp = app.idp().await;
        let change = directories::ActiveModel {
            kind: ActiveValue::Set(kind.to_owned()),
            ..Default::default()
        };
        set(&app, &idp, change).await;
        let answer = idp.with_token("").users(&[]).await;
        let explanation = explained(&app, &idp, &answer, "token_missing", "without a token").await;
        actions.push(explanation["action"].as_str().unwrap().to_owned());
    }
    assert!(actions[0].contains("In Okta"), "{actions:?}");
    assert!(actions[1].contains("In Entra ID"), "{actions:?}");
    assert!(actions[2].contains("\"Acme's directory\""), "{actions:?}");
}
