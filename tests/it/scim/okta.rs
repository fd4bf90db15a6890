//! What Okta sends, request by request, and what it needs back.

use serde_json::{Value, json};

use crate::support::actors::id_of;
use crate::support::people::{GROUP, USER};
use crate::support::world::world;
use crate::support::{Answer, Idp, TestApp};

const HEADERS: [(&str, &str); 4] = [
    ("User-Agent", "Okta SCIM Client 1.0.0"),
    ("Accept", "application/scim+json"),
    ("Accept-Charset", "utf-8"),
    ("Accept-Encoding", "gzip,deflate"),
];

async fn send(idp: &Idp, method: &str, path: &str, body: Value) -> Answer {
    idp.raw(method, path, &HEADERS, Some(&body.to_string()))
        .await
}

async fn get(idp: &Idp, path: &str) -> Answer {
    idp.raw("GET", path, &HEADERS, None).await
}

/// As Okta creates a user.
fn user(name: &str) -> Value {
    json!({
        "schemas": [USER],
        "userName": format!("{name}@example.com"),
        "name": {"givenName": name, "familyName": "Example"},
        "emails": [{"primary": true, "value": format!("{name}@example.com"), "type": "work"}],
        "displayName": format!("{name} Example"),
        "locale": "en-US",
        "externalId": format!("00u{name}"),
        "groups": [],
        "password": "1mz050nq",
        "active": true,
    })
}

fn patch(operations: &Value) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": operations,
    })
}

on_both! {
    an_app_of_the_catalogue_provisions_updates_deactivates_and_reactivates,
    an_app_of_the_wizard_puts_everything,
    a_pushed_group_is_matched_filled_renamed_and_deleted,
    a_rename_that_names_another_id_is_refused,
    the_test_suite_finds_its_errors_in_form,
    an_import_reads_page_after_page,
}

async fn an_app_of_the_catalogue_provisions_updates_deactivates_and_reactivates(app: TestApp) {
    let idp = app.idp().await;

    let probe = get(&idp, "/Users?startIndex=1&count=2").await.expect(200);
    assert!(probe["totalResults"].is_u64() && probe["startIndex"].is_u64());
    assert!(probe["itemsPerPage"].is_u64() && probe["Resources"].is_array());

    let query = "/Users?filter=userName%20eq%20%22ada%40example.com%22&startIndex=1&count=100";
    assert_eq!(get(&idp, query).await.expect(200)["totalResults"], 0);

    let created = send(&idp, "POST", "/Users", user("ada")).await.expect(201);
    let id = id_of(&created);
    assert_eq!(created["active"], true);
    assert!(created.get("password").is_none() && created.get("groups").is_none());
    send(&idp, "POST", "/Users", user("ada"))
        .await
        .expect_error(409, "uniqueness");

    let path = format!("/Users/{id}");
    let mut fetched = get(&idp, &path).await.expect(200);
    fetched["name"]["familyName"] = json!("Lovelace");
    fetched["displayName"] = json!("Ada Lovelace");
    let put = send(&idp, "PUT", &path, fetched).await.expect(200);
    assert_eq!(
        (id_of(&put), &put["displayName"]),
        (id.clone(), &json!("Ada Lovelace"))
    );

    let off = json!([{"op": "replace", "value": {"active": false}}]);
    assert_eq!(
        send(&idp, "PATCH", &path, patch(&off)).await.expect(200)["active"],
        false
    );
    let found = get(&idp, query).await.expect_one();
    assert_eq!(
        (&found["id"], &found["active"]),
        (&json!(id), &json!(false))
    );

    let on = json!([{"op": "replace", "value": {"active": true}}]);
    assert_eq!(
        send(&idp, "PATCH", &path, patch(&on)).await.expect(200)["active"],
        true
    );

    let password = json!([{"op": "replace", "value": {"password": "n3w-pa55word"}}]);
    let answer = send(&idp, "PATCH", &path, patch(&password)).await;
    assert!(!answer.text().contains("n3w-pa55word"), "{}", answer.text());
    answer.expect(200);

    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada@example.com active v4
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.user.updated user#1 was {"last_name":"Example","name":"ada Example"}
      4 dsync.user.updated user#1 was {"state":"active"}
      5 dsync.user.updated user#1 was {"state":"inactive"}
    "#);
}

async fn an_app_of_the_wizard_puts_everything(app: TestApp) {
    let idp = app.idp().await;
    let id = id_of(&send(&idp, "POST", "/Users", user("ada")).await.expect(201));
    let path = format!("/Users/{id}");

    let mut fetched = get(&idp, &path).await.expect(200);
    fetched["active"] = json!(false);
    let off = send(&idp, "PUT", &path, fetched).await.expect(200);

    assert_eq!(off["active"], false);
    let group = json!({"schemas": [GROUP], "displayName": "Engineers", "members": []});
    let group = id_of(&send(&idp, "POST", "/Groups", group).await.expect(201));
    let whole = json!({"schemas": [GROUP], "id": group, "displayName": "Makers",
        "members": [{"value": id, "display": "ada@example.com"}]});
    let path = format!("/Groups/{group}");
    let put = send(&idp, "PUT", &path, whole).await.expect(200);
    assert_eq!(put["members"][0]["display"], "ada@example.com");
    let emptied = json!({"schemas": [GROUP], "id": group, "displayName": "Makers"});
    let put = send(&idp, "PUT", &path, emptied).await.expect(200);
    assert!(put.get("members").is_none());
    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada@example.com inactive v2
      group#1 "makers" v3 []
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.user.updated user#1 was {"state":"active"}
      4 dsync.group.created group#1
      5 dsync.group.updated group#1 was {"name":"Engineers"}
      6 dsync.group.user_added user#1 group#1
      7 dsync.group.user_removed user#1 group#1
    "#);
}

async fn a_pushed_group_is_matched_filled_renamed_and_deleted(app: TestApp) {
    let idp = app.idp().await;
    let ada = id_of(&send(&idp, "POST", "/Users", user("ada")).await.expect(201));
    let bob = id_of(&send(&idp, "POST", "/Users", user("bob")).await.expect(201));

    let query = "/Groups?filter=displayName%20eq%20%22Engineers%22&startIndex=1&count=100";
    assert_eq!(get(&idp, query).await.expect(200)["totalResults"], 0);
    let group = json!({"schemas": [GROUP], "displayName": "Engineers", "members": []});
    let id = id_of(&send(&idp, "POST", "/Groups", group).await.expect(201));
    let path = format!("/Groups/{id}");

    // Every change of members comes with the name, unchanged.
    let first = json!([
        {"op": "replace", "value": {"id": id, "displayName": "Engineers"}},
        {"op": "add", "path": "members",
            "value": [{"value": ada, "display": "ada@example.com"}]},
    ]);
    send(&idp, "PATCH", &path, patch(&first)).await.expect(204);
    let swap = json!([
        {"op": "remove", "path": format!("members[value eq \"{ada}\"]")},
        {"op": "add", "path": "members",
            "value": [{"value": bob, "display": "bob@example.com"}]},
    ]);
    send(&idp, "PATCH", &path, patch(&swap)).await.expect(204);
    let rename = json!([{"op": "replace", "value": {"id": id, "displayName": "Makers"}}]);
    send(&idp, "PATCH", &path, patch(&rename)).await.expect(204);
    let full = json!([{"op": "replace", "path": "members",
        "value": [{"value": ada, "display": "ada@example.com"}]}]);
    send(&idp, "PATCH", &path, patch(&full)).await.expect(204);
    let empty = json!([{"op": "replace", "path": "members", "value": []}]);
    send(&idp, "PATCH", &path, patch(&empty)).await.expect(204);
    send(&idp, "DELETE", &path, Value::Null).await.expect(204);

    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada@example.com active v1
      user#2 bob@example.com active v1
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.user.created user#2
      4 dsync.group.created group#1
      5 dsync.group.user_added user#1 group#1
      6 dsync.group.user_removed user#1 group#1
      7 dsync.group.user_added user#2 group#1
      8 dsync.group.updated group#1 was {"name":"Engineers"}
      9 dsync.group.user_removed user#2 group#1
      10 dsync.group.user_added user#1 group#1
      11 dsync.group.user_removed user#1 group#1
      12 dsync.group.deleted group#1
    "#);
}

async fn a_rename_that_names_another_id_is_refused(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_group("Engineers", &[]).await;

    let other = json!([{"op": "replace", "value": {"id": "another", "displayName": "Makers"}}]);
    let refused = send(&idp, "PATCH", &format!("/Groups/{id}"), patch(&other)).await;

    refused.expect_error(400, "mutability");
}

async fn the_test_suite_finds_its_errors_in_form(app: TestApp) {
    let idp = app.idp().await;

    let unknown = get(&idp, "/Users/919191").await.expect_error(404, "");
    let stranger = idp.with_token("non-token");
    let refused = get(&stranger, "/Users?startIndex=1&count=1")
        .await
        .expect_error(401, "");

    assert!(unknown["detail"].is_string());
    assert!(refused["detail"].is_string());
}

async fn an_import_reads_page_after_page(app: TestApp) {
    let idp = app.idp().await;
    for number in 0..5 {
        idp.add_user(&format!("user{number}")).await;
        idp.add_group(&format!("group{number}"), &[]).await;
    }

    for kind in ["Users", "Groups"] {
        let mut seen = std::collections::BTreeSet::new();
        for start in [1, 3, 5] {
            let page = get(&idp, &format!("/{kind}?startIndex={start}&count=2"))
                .await
                .expect(200);
            assert_eq!(page["totalResults"], 5);
            seen.extend(page["Resources"].as_array().unwrap().iter().map(id_of));
        }
        assert_eq!(seen.len(), 5, "{kind}");
    }
}
