//! What Microsoft Entra ID sends, request by request, in both of its PATCH dialects, and what it needs
//! back.

use serde_json::{Value, json};

use crate::support::actors::id_of;
use crate::support::people::{ENTERPRISE, GROUP, USER};
use crate::support::world::{kinds, world};
use crate::support::{Answer, Idp, TestApp};

const GROUP_EXTENSION: &str =
    "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group";

async fn patch(idp: &Idp, path: &str, operations: Value) -> Answer {
    let body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": operations,
    });
    idp.raw("PATCH", path, &[], Some(&body.to_string())).await
}

/// As Entra creates a user.
fn user(name: &str) -> Value {
    json!({
        "schemas": [USER, ENTERPRISE],
        "externalId": name,
        "userName": format!("{name}@example.com"),
        "active": true,
        "emails": [{"primary": true, "type": "work", "value": format!("{name}@example.com")}],
        "meta": {"resourceType": "User"},
        "name": {"formatted": name, "familyName": "Example", "givenName": name},
        "phoneNumbers": [{"type": "mobile", "value": "+1 (555) 0100"}],
        "title": null,
        "roles": [],
    })
}

/// As Entra creates a group.
fn group(name: &str) -> Value {
    json!({
        "schemas": [GROUP, GROUP_EXTENSION],
        "externalId": format!("object-{name}"),
        "displayName": name,
        "meta": {"resourceType": "Group"},
    })
}

on_both! {
    a_test_of_the_connection_with_a_random_name_finds_nobody,
    the_older_dialect_updates_one_attribute_per_operation,
    the_newer_dialect_merges_dotted_and_qualified_names,
    a_user_without_a_work_address_gets_one,
    a_manager_is_taken_in_every_shape_and_read_back_as_one,
    disabling_with_text_and_deleting_for_good,
    a_group_is_made_asked_about_filled_and_emptied,
}

async fn a_test_of_the_connection_with_a_random_name_finds_nobody(app: TestApp) {
    let idp = app.idp().await;
    let guid = "8c8d1c3e-7d4b-4e9c-8a55-3f0c2a7a1b11";

    for filter in ["userName", "externalId", "emails[type eq \"work\"].value"] {
        let filter = format!("{filter} eq \"{guid}\"");
        let empty = idp.users(&[("filter", &filter)]).await.expect(200);
        assert_eq!(
            (&empty["totalResults"], &empty["Resources"]),
            (&json!(0), &json!([]))
        );
    }
    let filter = format!("displayName eq \"{guid}\"");
    let empty = idp
        .groups(&[("excludedAttributes", "members"), ("filter", &filter)])
        .await;

    assert_eq!(empty.expect(200)["totalResults"], 0);
    assert_eq!(kinds(&app, &idp.directory_id).await, ["dsync.activated"]);
}

async fn the_older_dialect_updates_one_attribute_per_operation(app: TestApp) {
    let idp = app.idp().await;
    let created = idp.create_user(user("ada")).await.expect(201);
    let id = id_of(&created);
    assert_eq!(created["phoneNumbers"][0]["value"], "+1 (555) 0100");
    assert!(created.get("title").is_none() && created.get("roles").is_none());
    let path = format!("/Users/{id}");

    let updated = patch(
        &idp,
        &path,
        json!([
            {"op": "Replace", "path": "displayName", "value": "Ada Lovelace"},
            {"op": "Replace", "path": "emails[type eq \"work\"].value", "value": "ada@new.example"},
            {"op": "Replace", "path": "name.givenName", "value": "Augusta"},
            {"op": "Replace", "path": "externalId", "value": "ada.l"},
            {"op": "Add", "path": format!("{ENTERPRISE}:employeeNumber"), "value": "7"},
            {"op": "Add", "path": "nickName", "value": "Ada"},
            {"op": "Add", "path": "addresses[type eq \"work\"].locality", "value": "London"},
            {"op": "Add", "path": "addresses[type eq \"work\"].country", "value": "GB"},
            {"op": "Replace", "path": "phoneNumbers[type eq \"work\"].value", "value": "1"},
        ]),
    )
    .await
    .expect(200);

    assert_eq!(
        updated["name"],
        json!({"formatted": "ada", "familyName": "Example",
        "givenName": "Augusta"})
    );
    assert_eq!(
        updated["emails"],
        json!([{"primary": true, "type": "work",
        "value": "ada@new.example"}])
    );
    assert_eq!(
        updated["addresses"],
        json!([{"type": "work", "locality": "London",
        "country": "GB"}])
    );
    assert_eq!(
        updated["phoneNumbers"][1],
        json!({"type": "work", "value": "1"})
    );
    assert_eq!(updated[ENTERPRISE]["employeeNumber"], "7");
    assert_eq!(kinds(&app, &idp.directory_id).await.len(), 3);
}

async fn the_newer_dialect_merges_dotted_and_qualified_names(app: TestApp) {
    let idp = app.idp().await;
    let id = id_of(&idp.create_user(user("ada")).await.expect(201));
    let path = format!("/Users/{id}?aadOptscim062020");

    let updated = patch(
        &idp,
        &path,
        json!([
            {"op": "replace", "path": "emails[type eq \"work\"].value", "value": "ada@new.example"},
            {"op": "replace", "value": {
                "displayName": "Ada Lovelace",
                "name.givenName": "Augusta",
                format!("{ENTERPRISE}:employeeNumber"): "7",
                format!("{ENTERPRISE}:department"): "Engines",
            }},
        ]),
    )
    .await
    .expect(200);

    assert_eq!(updated["displayName"], "Ada Lovelace");
    assert_eq!(updated["name"]["familyName"], "Example");
    assert_eq!(updated["name"]["givenName"], "Augusta");
    assert_eq!(
        updated[ENTERPRISE],
        json!({"employeeNumber": "7", "department": "Engines"})
    );
    assert!(updated.get("name.givenName").is_none());
    let off = patch(
        &idp,
        &path,
        json!([{"op": "replace", "path": "active", "value": false}]),
    );
    assert_eq!(off.await.expect(200)["active"], false);
}

async fn a_user_without_a_work_address_gets_one(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_user("ada").await;

    let updated = patch(
        &idp,
        &format!("/Users/{id}"),
        json!([
            {"op": "Replace", "path": "emails[type eq \"work\"].value", "value": "ada@example.com"},
            {"op": "Add", "path": "roles[primary eq \"True\"].value", "value": "admin"},
        ]),
    )
    .await
    .expect(200);

    assert_eq!(
        updated["emails"],
        json!([{"type": "work", "value": "ada@example.com"}])
    );
    assert_eq!(
        updated["roles"],
        json!([{"primary": true, "value": "admin"}])
    );
}

async fn a_manager_is_taken_in_every_shape_and_read_back_as_one(app: TestApp) {
    let idp = app.idp().await;
    let ada = id_of(&idp.create_user(user("ada")).await.expect(201));
    let boss = id_of(&idp.create_user(user("boss")).await.expect(201));
    let path = format!("/Users/{ada}");
    let manager = format!("{ENTERPRISE}:manager");

    for (path_of, value) in [
        (manager.as_str(), json!(boss)),
        (&manager, json!({"value": boss})),
        ("manager", json!([{"$ref": null, "value": boss}])),
    ] {
        let operations = json!([{"op": "Add", "path": path_of, "value": value}]);
        let updated = patch(&idp, &path, operations).await.expect(200);
        assert_eq!(
            updated[ENTERPRISE]["manager"]["value"],
            json!(boss),
            "{updated}"
        );
        let filter = format!("id eq \"{ada}\" and manager eq \"{boss}\"");
        let found = idp
            .users(&[("filter", &filter), ("attributes", "id")])
            .await
            .expect_one();
        assert_eq!(found["id"], ada);
        let cleared = json!([{"op": "Replace", "path": manager, "value": ""}]);
        let updated = patch(&idp, &path, cleared).await.expect(200);
        assert!(updated.get(ENTERPRISE).is_none(), "{updated}");
    }
}

async fn disabling_with_text_and_deleting_for_good(app: TestApp) {
    let idp = app.idp().await;
    let id = id_of(&idp.create_user(user("ada")).await.expect(201));
    let path = format!("/Users/{id}");

    let off = patch(
        &idp,
        &path,
        json!([{"op": "Replace", "path": "active", "value": "False"}]),
    );
    assert_eq!(off.await.expect(200)["active"], false);
    assert_eq!(idp.user(&id).await.expect(200)["active"], false);
    idp.delete_user(&id).await.expect(204);
    idp.user(&id).await.expect_error(404, "");
    let again = id_of(&idp.create_user(user("ada")).await.expect(201));

    assert_ne!(again, id);
    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#2 ada@example.com active v1
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.user.updated user#1 was {"state":"active"}
      4 dsync.user.deleted user#1
      5 dsync.user.created user#2
    "#);
}

async fn a_group_is_made_asked_about_filled_and_emptied(app: TestApp) {
    let idp = app.idp().await;
    let ada = id_of(&idp.create_user(user("ada")).await.expect(201));
    let bob = id_of(&idp.create_user(user("bob")).await.expect(201));

    let created = idp.create_group(group("Engineers")).await.expect(201);
    let id = id_of(&created);
    let path = format!("/Groups/{id}");
    let read = idp
        .get(&path, &[("excludedAttributes", "members")])
        .await
        .expect(200);
    assert_eq!(read["externalId"], "object-Engineers");
    patch(
        &idp,
        &path,
        json!([
            {"op": "Add", "path": "members", "value": [{"$ref": null, "value": ada},
                {"$ref": null, "value": bob}]},
        ]),
    )
    .await
    .expect(204);
    let filter = format!("id eq \"{id}\" and members eq \"{ada}\"");
    let query = [
        ("excludedAttributes", "members"),
        ("filter", filter.as_str()),
    ];
    idp.groups(&query).await.expect_one();

    patch(
        &idp,
        &path,
        json!([
            {"op": "Remove", "path": "members", "value": [{"$ref": null, "value": ada}]},
        ]),
    )
    .await
    .expect(204);
    assert_eq!(idp.groups(&query).await.expect(200)["totalResults"], 0);
    assert_eq!(idp.members_of(&id).await, std::slice::from_ref(&bob));
    patch(
        &idp,
        &path,
        json!([
            {"op": "remove", "path": format!("members[value eq \"{bob}\"]")},
        ]),
    )
    .await
    .expect(204);
    patch(
        &idp,
        &path,
        json!([
            {"op": "Replace", "path": "displayName", "value": "Makers"},
        ]),
    )
    .await
    .expect(204);
    idp.delete_group(&id).await.expect(204);

    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada@example.com active v1
      user#2 bob@example.com active v1
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.user.created user#2
      4 dsync.group.created group#1
      5 dsync.group.user_added user#1 group#1
      6 dsync.group.user_added user#2 group#1
      7 dsync.group.user_removed user#1 group#1
      8 dsync.group.user_removed user#2 group#1
      9 dsync.group.updated group#1 was {"name":"Engineers"}
      10 dsync.group.deleted group#1
    "#);
}
