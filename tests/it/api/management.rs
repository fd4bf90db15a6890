//! Who is master of a directory, what was refused and what was changed by hand.

use rollcall::ids::DirectoryId;
use rollcall::storage::tables::{audit_entries, directories};
use sea_orm::{ActiveValue, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::fields;
use crate::support::people;
use crate::support::world::world;
use crate::support::{Answer, Idp, TestApp};

on_both! {
    the_provider_is_master_at_first_and_nobody_else_may_write,
    a_directory_managed_by_hand_refuses_its_provider_and_lets_it_read,
    switching_says_who_did_it_and_is_audited,
    a_refused_write_is_noted_once_for_each_person_and_counted,
    a_refused_write_is_settled_by_the_next_one_that_succeeds,
    a_refused_write_about_nobody_is_not_noted,
    refused_operations_of_bulk_are_noted_one_by_one,
    whoever_was_changed_by_hand_is_listed_until_its_provider_writes_it,
    what_was_made_and_deleted_by_hand_is_no_drift,
    somebody_deleted_by_hand_is_settled_when_the_provider_deletes_or_makes_it_again,
    a_directory_looks_for_nothing_once_all_is_settled,
    lines_say_how_their_provider_sends_them_again,
    lists_come_in_pages,
    what_is_no_mode_or_page_is_refused,
    lines_belong_to_their_directory,
}

async fn ask(app: &TestApp, idp: &Idp, method: &str, path: &str, body: Value) -> Answer {
    let body = Some(body).filter(|body| !body.is_null());
    let vendor = app.vendor();
    vendor
        .of_directory(method, &idp.directory_id, path, body)
        .await
}

async fn get(app: &TestApp, idp: &Idp, path: &str) -> Value {
    ask(app, idp, "GET", path, Value::Null).await.expect(200)
}

async fn manage(app: &TestApp, idp: &Idp, mode: &str) -> Value {
    app.vendor()
        .manage(&idp.directory_id, mode)
        .await
        .expect(200)
}

/// Has a directory refuse its provider's writes for a while, or take them again.
async fn pause(app: &TestApp, idp: &Idp, is_paused: bool) {
    let now = app.store().clock().now();
    let change = directories::ActiveModel {
        id: ActiveValue::Unchanged(DirectoryId::parse(&idp.directory_id).unwrap()),
        writes_refused_at: ActiveValue::Set(is_paused.then_some(now)),
        writes_refused_by: ActiveValue::Set(is_paused.then(|| "somebody".to_owned())),
        ..Default::default()
    };
    let writer = app.store().statement_connection();
    directories::Entity::update(change)
        .exec(writer)
        .await
        .unwrap();
}

/// The label, what happened, and how often, of each line.
async fn refused(app: &TestApp, idp: &Idp) -> Vec<(String, String, u64)> {
    let list = get(app, idp, "/refused_writes").await;
    let lines = list["data"].as_array().unwrap();
    assert_eq!(list["total"], lines.len());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines
        .iter()
        .map(|line| {
            let times = line["times"].as_u64().unwrap();
            (text(&line["label"]), text(&line["operation"]), times)
        })
        .collect()
}

/// The label and what happened, of each line.
async fn drift(app: &TestApp, idp: &Idp) -> Vec<(String, String)> {
    let list = get(app, idp, "/drift").await;
    let lines = list["data"].as_array().unwrap();
    assert_eq!(list["total"], lines.len());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines
        .iter()
        .map(|line| (text(&line["label"]), text(&line["what"])))
        .collect()
}

fn line(label: &str, what: &str) -> (String, String) {
    (label.to_owned(), what.to_owned())
}

fn titled(title: &str) -> Value {
    json!([{"op": "replace", "value": {"title": title}}])
}

async fn the_provider_is_master_at_first_and_nobody_else_may_write(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[]).await;
    let before = world(&app).await;

    let (user, members) = (format!("/users/{ada}"), format!("/groups/{group}/members"));
    let group = format!("/groups/{group}");
    for (method, path, body) in [
        ("POST", "/users", people::user("eve")),
        ("PUT", &*user, people::user("eve")),
        ("PATCH", &*user, json!({"active": false})),
        ("DELETE", &*user, Value::Null),
        ("POST", "/groups", people::group("Others", &[])),
        ("PUT", &*group, people::group("Others", &[])),
        ("PATCH", &*group, json!({"displayName": "Others"})),
        ("DELETE", &*group, Value::Null),
        ("POST", &*members, json!({"users": [ada]})),
    ] {
        let refused = ask(&app, &idp, method, path, body).await.expect(409);
        assert_eq!(refused["code"], "managed_by_provider", "{method} {path}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("set the directory's management to manual"));
    }

    assert_eq!(world(&app).await, before);
    assert_eq!(get(&app, &idp, "/management").await["mode"], "provider");
    assert_eq!(get(&app, &idp, &user).await["username"], "ada");
}

async fn a_directory_managed_by_hand_refuses_its_provider_and_lets_it_read(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[]).await;
    manage(&app, &idp, "manual").await;
    let before = world(&app).await;

    let rename = json!([{"op": "replace", "value": {"displayName": "x"}}]);
    for refused in [
        idp.create_user(people::user("eve")).await,
        idp.replace_user(&ada, people::user("eve")).await,
        idp.patch_user(&ada, titled("x")).await,
        idp.delete_user(&ada).await,
        idp.create_group(people::group("Others", &[])).await,
        idp.patch_group(&group, rename).await,
        idp.delete_group(&group).await,
    ] {
        let error = refused.expect_error(403, "");
        let detail = error["detail"].as_str().unwrap();
        assert!(
            detail.contains("managed by hand, as set by the API key"),
            "{detail}"
        );
    }

    assert_eq!(world(&app).await, before);
    let path = format!("/users/{ada}");
    let part = json!({"title": "Countess"});
    ask(&app, &idp, "PATCH", &path, part).await.expect(200);
    assert_eq!(idp.user(&ada).await.expect(200)["title"], "Countess");
    let found = idp.users(&[("filter", "title eq \"Countess\"")]).await;
    assert_eq!(found.expect_one()["id"], ada);
}

async fn switching_says_who_did_it_and_is_audited(app: TestApp) {
    let idp = app.idp().await;

    let switched = manage(&app, &idp, "manual").await;
    app.advance_seconds(60);
    let again = manage(&app, &idp, "manual").await;

    assert_eq!(switched["mode"], "manual");
    assert_eq!(switched["changed_at"], "2026-01-15T12:00:00.000Z");
    let by = switched["changed_by"].as_str().unwrap();
    assert!(by.starts_with("the API key"), "{by}");
    assert_eq!(again, switched, "nothing was switched");
    assert_eq!(get(&app, &idp, "/management").await, switched);
    let entries = audit_entries::Entity::find()
        .filter(audit_entries::Column::Action.eq("directory.configured"))
        .all(app.store().reader())
        .await
        .unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        entries[0].details,
        r#"{"management":["provider","manual"]}"#
    );
    assert_eq!(entries[0].subject, idp.directory_id);
}

async fn a_refused_write_is_noted_once_for_each_person_and_counted(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("Ada").await;
    pause(&app, &idp, true).await;

    idp.patch_user(&ada, titled("x"))
        .await
        .expect_error(503, "");
    app.advance_seconds(60);
    idp.delete_user(&ada).await.expect_error(503, "");
    idp.create_user(people::user("Bob"))
        .await
        .expect_error(503, "");
    idp.create_user(people::user("bob"))
        .await
        .expect_error(503, "");
    let group = people::group("Engineers", &[]);
    idp.create_group(group).await.expect_error(503, "");

    let lines = get(&app, &idp, "/refused_writes").await;
    let first = &lines["data"][0];
    assert_eq!(first["object"], "refused_write");
    assert_eq!(first["kind"], "user");
    assert_eq!(first["label"], "Ada");
    assert_eq!(first["resource_id"], ada);
    assert_eq!(
        (&first["times"], &first["operation"]),
        (&json!(2), &json!("delete"))
    );
    assert_eq!(first["reason"], "paused");
    assert_eq!(first["first_at"], "2026-01-15T12:00:00.000Z");
    assert_eq!(first["last_at"], "2026-01-15T12:01:00.000Z");
    assert!(first["request_id"].as_str().unwrap().starts_with("req_"));
    assert!(
        first["token_id"]
            .as_str()
            .unwrap()
            .starts_with("directory_token_")
    );
    let second = &lines["data"][1];
    assert_eq!(
        (&second["label"], &second["times"]),
        (&json!("bob"), &json!(2))
    );
    assert_eq!(second["resource_id"], Value::Null);
    assert_eq!(lines["data"][2]["kind"], "group");
    assert_eq!(lines["total"], 3);
    let shown = get(&app, &idp, "/management").await;
    assert_eq!(
        (&shown["refused_writes"], &shown["drift"]),
        (&json!(3), &json!(0))
    );
}

async fn a_refused_write_is_settled_by_the_next_one_that_succeeds(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let eve = idp.add_user("eve").await;
    let group = idp.add_group("Engineers", &[]).await;
    pause(&app, &idp, true).await;
    let members = json!([{"op": "add", "path": "members", "value": [{"value": ada}]}]);
    idp.patch_user(&ada, titled("x")).await.expect(503);
    idp.create_user(people::user("bob")).await.expect(503);
    idp.delete_user(&eve).await.expect(503);
    idp.patch_group(&group, members.clone()).await.expect(503);
    assert_eq!(refused(&app, &idp).await.len(), 4);
    pause(&app, &idp, false).await;

    // A read settles nothing, nor does a write that is wrong.
    idp.user(&ada).await.expect(200);
    idp.patch_user(&ada, json!([{"op": "remove", "path": "userName"}]))
        .await
        .expect(400);
    assert_eq!(refused(&app, &idp).await.len(), 4);
    // One that finds nothing to change does.
    idp.replace_user(&ada, people::user("ada"))
        .await
        .expect(200);
    assert_eq!(refused(&app, &idp).await.len(), 3);
    idp.create_user(people::user("BOB")).await.expect(201);
    assert_eq!(refused(&app, &idp).await.len(), 2);
    idp.patch_group(&group, members).await.expect(204);
    assert_eq!(
        refused(&app, &idp).await,
        [("eve".to_owned(), "delete".to_owned(), 1)]
    );
    idp.delete_user(&eve).await.expect(204);
    assert!(refused(&app, &idp).await.is_empty());
}

async fn a_refused_write_about_nobody_is_not_noted(app: TestApp) {
    let idp = app.idp().await;
    idp.add_user("ada").await;
    pause(&app, &idp, true).await;

    let nobody = "01912345-0000-7000-8000-000000000000";
    idp.patch_user(nobody, titled("x")).await.expect(503);
    idp.delete_group(nobody).await.expect(503);
    idp.create_user(json!({"title": "no name"}))
        .await
        .expect(400);

    assert!(refused(&app, &idp).await.is_empty());
}

async fn refused_operations_of_bulk_are_noted_one_by_one(app: TestApp) {
    let idp = app.idp().await;
    manage(&app, &idp, "manual").await;

    let create = |name: &str| json!({"method": "POST", "path": "/Users", "bulkId": name, "data": people::user(name)});
    let bulk = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
        "Operations": [create("ada"), create("bob")],
    });
    let sent = idp.raw("POST", "/Bulk", &[], Some(&bulk.to_string())).await;

    let answer = sent.expect(200);
    assert_eq!(answer["Operations"][0]["status"], "403");
    let one = |name: &str| (name.to_owned(), "create".to_owned(), 1);
    assert_eq!(refused(&app, &idp).await, [one("ada"), one("bob")]);
    let lines = get(&app, &idp, "/refused_writes").await;
    assert_eq!(lines["data"][0]["reason"], "manual");
}

async fn whoever_was_changed_by_hand_is_listed_until_its_provider_writes_it(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[]).await;
    let other = idp.add_group("Others", &[]).await;
    manage(&app, &idp, "manual").await;
    let path = format!("/users/{ada}");
    ask(&app, &idp, "PATCH", &path, json!({"title": "Countess"}))
        .await
        .expect(200);
    ask(&app, &idp, "POST", "/users", people::user("bob"))
        .await
        .expect(201);
    let members = format!("/groups/{group}/members");
    ask(&app, &idp, "POST", &members, json!({"users": [ada]}))
        .await
        .expect(200);
    let path = format!("/groups/{other}");
    ask(&app, &idp, "PATCH", &path, json!({"displayName": "Rest"}))
        .await
        .expect(200);

    let back = manage(&app, &idp, "provider").await;
    let all = drift(&app, &idp).await;
    let first = get(&app, &idp, "/drift").await["data"][0].clone();
    idp.patch_user(&ada, titled("Countess")).await.expect(200);
    idp.replace_group(&group, people::group("Engineers", &[]))
        .await
        .expect(200);
    let rest = drift(&app, &idp).await;
    let bob = idp.users(&[("filter", "userName eq \"bob\"")]).await;
    let bob = bob.expect_one()["id"].as_str().unwrap().to_owned();
    idp.delete_user(&bob).await.expect(204);
    let rename = json!([{"op": "replace", "value": {"displayName": "Others"}}]);
    idp.patch_group(&other, rename).await.expect(204);

    assert_eq!(
        all,
        [
            line("ada", "changed"),
            line("bob", "created"),
            line("Engineers", "members"),
            line("Rest", "changed")
        ]
    );
    assert_eq!(
        (&back["mode"], &back["drift"]),
        (&json!("provider"), &json!(4))
    );
    assert_eq!(first["object"], "drift");
    assert_eq!(first["resource_id"], ada);
    assert_eq!(first["changed_at"], "2026-01-15T12:00:00.000Z");
    assert!(
        first["changed_by"]
            .as_str()
            .unwrap()
            .starts_with("api_key_")
    );
    assert_eq!(rest, [line("bob", "created"), line("Rest", "changed")]);
    assert!(drift(&app, &idp).await.is_empty());
}

async fn what_was_made_and_deleted_by_hand_is_no_drift(app: TestApp) {
    let idp = app.idp().await;
    manage(&app, &idp, "manual").await;
    let made = ask(&app, &idp, "POST", "/users", people::user("bob"))
        .await
        .expect(201);
    let path = format!("/users/{}", made["resource_id"].as_str().unwrap());
    ask(&app, &idp, "PATCH", &path, json!({"title": "x"}))
        .await
        .expect(200);
    let between = drift(&app, &idp).await;

    ask(&app, &idp, "DELETE", &path, Value::Null)
        .await
        .expect(204);

    assert_eq!(between, [line("bob", "created")]);
    assert!(drift(&app, &idp).await.is_empty());
}

async fn somebody_deleted_by_hand_is_settled_when_the_provider_deletes_or_makes_it_again(
    app: TestApp,
) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let bob = idp.add_user("bob").await;
    manage(&app, &idp, "manual").await;
    idp.delete_user(&ada).await.expect(403);
    for id in [&ada, &bob] {
        let path = format!("/users/{id}");
        ask(&app, &idp, "DELETE", &path, Value::Null)
            .await
            .expect(204);
    }
    let back = manage(&app, &idp, "provider").await;
    let all = drift(&app, &idp).await;

    idp.delete_user(&ada).await.expect(404);
    let settled = refused(&app, &idp).await;
    let rest = drift(&app, &idp).await;
    idp.patch_user(&bob, titled("x")).await.expect(404);
    let still = drift(&app, &idp).await;
    idp.create_user(people::user("bob")).await.expect(201);

    assert_eq!(
        (&back["refused_writes"], &back["drift"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(all, [line("ada", "deleted"), line("bob", "deleted")]);
    assert!(settled.is_empty());
    assert_eq!(rest, [line("bob", "deleted")]);
    assert_eq!(still, rest);
    assert!(drift(&app, &idp).await.is_empty());
}

async fn a_directory_looks_for_nothing_once_all_is_settled(app: TestApp) {
    let idp = app.idp().await;
    let looks = async || {
        let id = DirectoryId::parse(&idp.directory_id).unwrap();
        let row = directories::Entity::find_by_id(id)
            .one(app.store().reader())
            .await
            .unwrap();
        row.unwrap().has_unsettled
    };
    let ada = idp.add_user("ada").await;
    assert!(!looks().await);
    pause(&app, &idp, true).await;
    idp.create_user(people::user("bob")).await.expect(503);
    idp.patch_user(&ada, titled("x")).await.expect(503);
    pause(&app, &idp, false).await;
    assert!(looks().await);

    idp.create_user(people::user("bob")).await.expect(201);
    let between = looks().await;
    idp.patch_user(&ada, titled("x")).await.expect(200);

    assert!(between, "ada is not settled yet");
    assert!(!looks().await);
}

async fn lines_say_how_their_provider_sends_them_again(app: TestApp) {
    let vendor = app.vendor();
    let organization = vendor.create_organization(json!({"name": "Acme"})).await;
    let organization = organization.expect(201)["id"].clone();
    for (kind, words) in [
        ("okta scim v2.0", "retry the failed tasks"),
        ("azure scim v2.0", "Provision on demand"),
        ("jump cloud scim v2.0", "the provider's administrator"),
    ] {
        let idp = app.idp_of(&organization).await;
        let change = directories::ActiveModel {
            id: ActiveValue::Unchanged(DirectoryId::parse(&idp.directory_id).unwrap()),
            kind: ActiveValue::Set(kind.to_owned()),
            ..Default::default()
        };
        let writer = app.store().statement_connection();
        directories::Entity::update(change)
            .exec(writer)
            .await
            .unwrap();
        manage(&app, &idp, "manual").await;
        idp.create_user(people::user("ada")).await.expect(403);

        let lines = get(&app, &idp, "/refused_writes").await;

        let resend = lines["data"][0]["resend"].as_str().unwrap();
        assert!(resend.contains(words), "{kind}: {resend}");
    }
}

async fn lists_come_in_pages(app: TestApp) {
    let idp = app.idp().await;
    manage(&app, &idp, "manual").await;
    for name in ["ada", "bob", "eve"] {
        idp.create_user(people::user(name)).await.expect(403);
        let body = people::user(&format!("hand-{name}"));
        ask(&app, &idp, "POST", "/users", body).await.expect(201);
    }

    for (list, prefix) in [("/refused_writes", ""), ("/drift", "hand-")] {
        let mut seen = Vec::new();
        let mut path = format!("{list}?limit=2");
        loop {
            let page = get(&app, &idp, &path).await;
            assert_eq!(
                (&page["object"], &page["total"]),
                (&json!("list"), &json!(3))
            );
            let lines = page["data"].as_array().unwrap();
            seen.extend(
                lines
                    .iter()
                    .map(|line| line["label"].as_str().unwrap().to_owned()),
            );
            let Some(after) = page["list_metadata"]["after"].as_str() else {
                break;
            };
            path = format!("{list}?limit=2&after={after}");
        }
        let expected = ["ada", "bob", "eve"].map(|name| format!("{prefix}{name}"));
        assert_eq!(seen, expected, "{list}");
    }
}

async fn what_is_no_mode_or_page_is_refused(app: TestApp) {
    let idp = app.idp().await;

    let mode = app.vendor().manage(&idp.directory_id, "nobody").await;
    let missing = app.vendor().manage("directory_none", "manual").await;

    assert_eq!(fields(&mode.expect(422)), ["mode"]);
    missing.expect(404);
    for (query, field) in [
        ("limit=0", Some("limit")),
        ("limit=101", Some("limit")),
        ("after=x", Some("after")),
        ("limit=x", None),
    ] {
        for list in ["/drift", "/refused_writes"] {
            let path = format!("{list}?{query}");
            let refused = ask(&app, &idp, "GET", &path, Value::Null).await.expect(422);
            if let Some(field) = field {
                assert_eq!(fields(&refused), [field]);
            }
        }
    }
}

async fn lines_belong_to_their_directory(app: TestApp) {
    let (idp, other) = (app.idp().await, app.idp().await);
    for idp in [&idp, &other] {
        pause(&app, idp, true).await;
        idp.create_user(people::user("ada")).await.expect(503);
        pause(&app, idp, false).await;
    }

    other.create_user(people::user("ada")).await.expect(201);

    assert_eq!(refused(&app, &idp).await.len(), 1);
    assert!(refused(&app, &other).await.is_empty());
}
