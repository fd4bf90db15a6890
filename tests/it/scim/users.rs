//! `/Users`: create, read, replace, patch and delete.

use serde_json::json;

use crate::support::actors::id_of;
use crate::support::people::{self, ENTERPRISE, USER};
use crate::support::world::{kinds, world};
use crate::support::{Answer, TestApp};

on_both! {
    a_created_user_is_answered_whole_and_can_be_read,
    a_user_needs_a_user_name_and_nothing_else,
    a_user_name_is_taken_in_any_case_and_free_after_a_deletion,
    a_user_may_change_the_case_of_its_own_name,
    of_simultaneous_creates_of_one_user_name_one_wins,
    an_equal_put_or_patch_changes_nothing_and_makes_no_event,
    a_change_moves_version_and_last_modified_and_tells_what_was,
    a_put_replaces_the_whole_user_but_not_what_the_server_assigns,
    what_is_null_unknown_or_secret_is_not_returned,
    booleans_sent_as_text_are_booleans,
    a_patch_is_applied_whole_or_not_at_all,
    what_is_read_only_or_required_cannot_be_patched_away,
    deactivation_keeps_the_user_and_its_memberships,
    a_deleted_user_leaves_its_groups_first_and_is_gone,
    users_may_share_external_ids_and_addresses,
    answers_to_writes_hold_what_was_asked_for,
}

async fn a_created_user_is_answered_whole_and_can_be_read(app: TestApp) {
    let idp = app.idp().await;

    let created = idp.create_user(people::ada()).await;

    let user = created.expect(201);
    let id = id_of(&user);
    assert_eq!(
        created.header("Content-Type"),
        Some("application/scim+json")
    );
    assert_eq!(
        created.header("Location"),
        user["meta"]["location"].as_str()
    );
    assert_eq!(
        user["meta"]["location"],
        format!("{}/Users/{id}", idp.base_url)
    );
    assert_eq!(user["meta"]["created"], "2026-01-15T12:00:00.000Z");
    assert_eq!(user["meta"]["resourceType"], "User");
    assert_eq!(user["schemas"], json!([USER, ENTERPRISE]));
    for (name, value) in people::ada().as_object().unwrap() {
        assert_eq!(user[name], *value, "{name}");
    }
    let read = idp.user(&id).await;
    assert_eq!(read.expect(200), user);
    assert_eq!(read.header("Content-Type"), Some("application/scim+json"));
}

async fn a_user_needs_a_user_name_and_nothing_else(app: TestApp) {
    let idp = app.idp().await;

    let missing = idp.create_user(json!({"schemas": [USER]})).await;
    let empty = idp.create_user(people::user("")).await;
    let blank = idp.create_user(people::user("  ")).await;
    let least = idp.create_user(json!({"userName": "ada"})).await;

    missing.expect_error(400, "invalidValue");
    empty.expect_error(400, "invalidValue");
    blank.expect_error(400, "invalidValue");
    least.expect(201);
}

async fn a_user_name_is_taken_in_any_case_and_free_after_a_deletion(app: TestApp) {
    let idp = app.idp().await;
    let first = idp.add_user("Straße.Ärger@example.com").await;
    let other = idp.add_user("other@example.com").await;

    let same = idp
        .create_user(people::user("straße.ÄRGER@Example.COM"))
        .await;
    let put = idp
        .replace_user(&other, people::user("STRAßE.ärger@example.com"))
        .await;
    let patched = idp
        .patch_user(
            &other,
            json!([{"op": "replace", "path": "userName",
            "value": "STRAßE.ärger@example.com"}]),
        )
        .await;

    same.expect_error(409, "uniqueness");
    put.expect_error(409, "uniqueness");
    patched.expect_error(409, "uniqueness");
    idp.delete_user(&first).await.expect(204);
    let again = idp.add_user("STRAßE.ärger@example.com").await;
    assert_ne!(again, first);
}

async fn a_user_may_change_the_case_of_its_own_name(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_user("ada").await;

    let renamed = idp.replace_user(&id, people::user("Ada")).await;

    assert_eq!(renamed.expect(200)["userName"], "Ada");
}

async fn of_simultaneous_creates_of_one_user_name_one_wins(app: TestApp) {
    let idp = app.idp().await;

    let creates = (0..16).map(|_| idp.create_user(people::user("ada@example.com")));
    let answers = futures_util::future::join_all(creates).await;

    let mut statuses: Vec<u16> = answers.iter().map(Answer::status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert_eq!(statuses[1..], [409; 15]);
    assert_eq!(
        kinds(&app, &idp.directory_id).await,
        ["dsync.activated", "dsync.user.created"]
    );
}

async fn an_equal_put_or_patch_changes_nothing_and_makes_no_event(app: TestApp) {
    let idp = app.idp().await;
    let created = idp.create_user(people::ada()).await.expect(201);
    let id = id_of(&created);
    app.advance_seconds(60);

    let put = idp.replace_user(&id, people::ada()).await;
    let echoed = idp.replace_user(&id, created.clone()).await;
    let patched = idp
        .patch_user(&id, json!([
            {"op": "replace", "path": "active", "value": true},
            {"op": "Add", "path": "emails", "value": [{"value": "ada@home.example", "type": "home"}]},
            {"op": "replace", "value": {"name": {"givenName": "Ada"}, "title": "Countess"}},
        ]))
        .await;

    assert_eq!(put.expect(200), created);
    assert_eq!(echoed.expect(200), created);
    assert_eq!(patched.expect(200), created);
    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada@example.com active v1
      1 dsync.activated
      2 dsync.user.created user#1
    "#);
}

async fn a_change_moves_version_and_last_modified_and_tells_what_was(app: TestApp) {
    let idp = app.idp().await;
    let created = idp.create_user(people::ada()).await.expect(201);
    let id = id_of(&created);
    app.advance_seconds(60);

    let patched = idp
        .patch_user(
            &id,
            json!([{"op": "replace", "path": "title", "value": "Analyst"}]),
        )
        .await
        .expect(200);

    assert_eq!(patched["title"], "Analyst");
    assert_eq!(patched["meta"]["created"], created["meta"]["created"]);
    assert_eq!(patched["meta"]["lastModified"], "2026-01-15T12:01:00.000Z");
    assert_ne!(patched["meta"]["version"], created["meta"]["version"]);
    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada@example.com active v2
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.user.updated user#1 was {"custom_attributes":{"job_title":"Countess"},"job_title":"Countess"}
    "#);
}

async fn a_put_replaces_the_whole_user_but_not_what_the_server_assigns(app: TestApp) {
    let idp = app.idp().await;
    let id = id_of(&idp.create_user(people::ada()).await.expect(201));

    let replaced = idp
        .replace_user(
            &id,
            json!({
                "id": "another",
                "userName": "ada@example.com",
                "groups": [{"value": "another"}],
                "meta": {"location": "https://example.com/another"},
            }),
        )
        .await
        .expect(200);

    assert_eq!(replaced["id"], id);
    assert_eq!(
        replaced["meta"]["location"],
        format!("{}/Users/{id}", idp.base_url)
    );
    for gone in ["title", "emails", "name", "groups", ENTERPRISE] {
        assert!(replaced.get(gone).is_none(), "{gone}: {replaced}");
    }
    assert_eq!(replaced["schemas"], json!([USER]));
}

async fn what_is_null_unknown_or_secret_is_not_returned(app: TestApp) {
    let idp = app.idp().await;

    let created = idp
        .create_user(json!({
            "schemas": [USER, "urn:okta:unknown:1.0"],
            "userName": "ada",
            "nickName": null,
            "password": "hunter2-hunter2",
            "favouriteColour": "blue",
            "emails": [],
        }))
        .await;

    let user = created.expect(201);
    for gone in ["nickName", "password", "favouriteColour", "emails"] {
        assert!(user.get(gone).is_none(), "{gone}: {user}");
    }
    assert!(!world(&app).await.contains("hunter2"));
}

async fn booleans_sent_as_text_are_booleans(app: TestApp) {
    let idp = app.idp().await;

    let created = idp
        .create_user(json!({"userName": "ada", "active": "False",
            "emails": [{"value": "a@example.com", "primary": "True"}]}))
        .await
        .expect(201);
    let nonsense = idp
        .create_user(json!({"userName": "bob", "active": "perhaps"}))
        .await;

    assert_eq!(created["active"], false);
    assert_eq!(created["emails"][0]["primary"], true);
    nonsense.expect_error(400, "invalidValue");
}

async fn a_patch_is_applied_whole_or_not_at_all(app: TestApp) {
    let idp = app.idp().await;
    let created = idp.create_user(people::ada()).await.expect(201);
    let id = id_of(&created);

    let patched = idp
        .patch_user(
            &id,
            json!([
                {"op": "replace", "path": "title", "value": "Analyst"},
                {"op": "replace", "path": "emails[type eq \"nonsense\"].value", "value": "x"},
            ]),
        )
        .await;

    patched.expect_error(400, "noTarget");
    assert_eq!(idp.user(&id).await.expect(200), created);
    assert_eq!(kinds(&app, &idp.directory_id).await.len(), 2);
}

async fn what_is_read_only_or_required_cannot_be_patched_away(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_user("ada").await;

    let read_only = idp
        .patch_user(
            &id,
            json!([{"op": "replace", "path": "id", "value": "another"}]),
        )
        .await;
    let required = idp
        .patch_user(&id, json!([{"op": "remove", "path": "userName"}]))
        .await;
    let nothing = idp.patch_user(&id, json!([{"op": "remove"}])).await;
    let path = idp
        .patch_user(
            &id,
            json!([{"op": "replace", "path": "emails[", "value": 1}]),
        )
        .await;
    let op = idp
        .patch_user(&id, json!([{"op": "move", "path": "title", "value": "x"}]))
        .await;

    read_only.expect_error(400, "mutability");
    required.expect_error(400, "mutability");
    nothing.expect_error(400, "noTarget");
    path.expect_error(400, "invalidPath");
    op.expect_error(400, "invalidSyntax");
}

async fn deactivation_keeps_the_user_and_its_memberships(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&ada]).await;

    let off = idp
        .patch_user(&ada, json!([{"op": "replace", "value": {"active": false}}]))
        .await;

    assert_eq!(off.expect(200)["active"], false);
    assert_eq!(
        idp.user(&ada).await.expect(200)["groups"][0]["value"],
        group
    );
    assert_eq!(
        idp.users(&[("filter", "userName eq \"ADA\"")])
            .await
            .expect_one()["id"],
        ada
    );
    assert_eq!(idp.members_of(&group).await, std::slice::from_ref(&ada));
    let on = idp
        .patch_user(&ada, json!([{"op": "replace", "value": {"active": true}}]))
        .await;
    assert_eq!(on.expect(200)["id"], ada);
    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada active v3
      group#1 "engineers" v1 [user#1]
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.group.created group#1
      4 dsync.group.user_added user#1 group#1
      5 dsync.user.updated user#1 was {"state":"active"}
      6 dsync.user.updated user#1 was {"state":"inactive"}
    "#);
}

async fn a_deleted_user_leaves_its_groups_first_and_is_gone(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let bob = idp.add_user("bob").await;
    let engineers = idp.add_group("Engineers", &[&ada, &bob]).await;
    idp.add_group("Countesses", &[&ada]).await;

    let deleted = idp.delete_user(&ada).await;

    assert_eq!((deleted.status(), deleted.text()), (204, ""));
    idp.delete_user(&ada).await.expect_error(404, "");
    idp.user(&ada).await.expect_error(404, "");
    idp.replace_user(&ada, people::user("ada"))
        .await
        .expect_error(404, "");
    let patch = json!([{"op": "replace", "path": "title", "value": "x"}]);
    idp.patch_user(&ada, patch).await.expect_error(404, "");
    assert_eq!(idp.members_of(&engineers).await, [bob]);
    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#2 bob active v1
      group#1 "engineers" v2 [user#2]
      group#2 "countesses" v2 []
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.user.created user#2
      4 dsync.group.created group#1
      5 dsync.group.user_added user#1 group#1
      6 dsync.group.user_added user#2 group#1
      7 dsync.group.created group#2
      8 dsync.group.user_added user#1 group#2
      9 dsync.group.user_removed user#1 group#1
      10 dsync.group.user_removed user#1 group#2
      11 dsync.user.deleted user#1
    "#);
}

async fn users_may_share_external_ids_and_addresses(app: TestApp) {
    let idp = app.idp().await;
    let shared = |name| {
        json!({"userName": name, "externalId": "e1",
        "emails": [{"value": "team@example.com", "primary": true}]})
    };

    idp.create_user(shared("ada")).await.expect(201);
    idp.create_user(shared("bob")).await.expect(201);

    let by_id = idp.users(&[("filter", "externalId eq \"e1\"")]).await;
    let by_address = idp
        .users(&[("filter", "emails.value eq \"TEAM@example.com\"")])
        .await;
    assert_eq!(by_id.expect(200)["totalResults"], 2);
    assert_eq!(by_address.expect(200)["totalResults"], 2);
}

async fn answers_to_writes_hold_what_was_asked_for(app: TestApp) {
    let idp = app.idp().await;

    let body = people::ada().to_string();
    let created = idp
        .raw("POST", "/Users?attributes=userName", &[], Some(&body))
        .await;
    let created = created.expect(201);
    let path = format!(
        "/Users/{}?excludedAttributes=emails,name.givenName",
        id_of(&created)
    );
    let read = idp.raw("GET", &path, &[], None).await.expect(200);

    let mut names: Vec<&String> = created.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["id", "schemas", "userName"]);
    assert!(read.get("emails").is_none());
    assert_eq!(read["name"], json!({"familyName": "Lovelace"}));
}
