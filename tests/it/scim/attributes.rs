//! Every attribute of RFC 7643 comes out as it went in, and so does what nobody here knows; only a
//! password stays out.

use std::collections::BTreeSet;

use rollcall::storage::Dialect;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::actors::{Answer, id_of};
use crate::support::people::{self, ENTERPRISE, GROUP, USER};

const FOREIGN: &str = "urn:acme:params:scim:2.0:Badge";
const SECRET: &str = "t1meMaSheen";

on_both! {
    the_full_user_leaves_no_attribute_out,
    a_created_user_keeps_every_attribute,
    a_replaced_user_keeps_every_attribute,
    a_user_patched_without_a_path_keeps_every_attribute,
    a_user_patched_attribute_by_attribute_keeps_every_attribute,
    a_user_patched_part_by_part_keeps_every_part_of_its_name_and_manager,
    a_group_keeps_its_attributes_and_extensions,
    a_password_is_neither_returned_nor_stored,
}

/// The user of RFC 7643, sections 8.2 and 8.3, without what is the server's to say, and with a value
/// for those attributes that the RFC's user has none for.
fn full_user() -> Value {
    serde_json::from_str(include_str!("full_user.json")).unwrap()
}

/// Fails unless the answer is the resource as it is read again, and that is what was sent.
#[track_caller]
fn assert_kept(answer: &Answer, read: &Answer, sent: &Value) {
    assert_eq!(answer.json(), read.json());
    assert_told(read, sent);
}

/// Fails unless a resource is what was sent, but for what the server alone says about it.
#[track_caller]
fn assert_told(read: &Answer, sent: &Value) {
    let mut told = read.expect(200);
    for name in ["id", "meta"] {
        let own = told.as_object_mut().unwrap().remove(name);
        assert!(own.is_some(), "{name}");
    }
    let urns = |resource: &Value| -> BTreeSet<String> {
        serde_json::from_value(resource["schemas"].clone()).unwrap()
    };
    assert_eq!(urns(&told), urns(sent));
    told["schemas"] = sent["schemas"].clone();
    assert_eq!(&told, sent);
}

async fn the_full_user_leaves_no_attribute_out(app: TestApp) {
    let idp = app.idp().await;
    let user = full_user();

    for (urn, values) in [(USER, &user), (ENTERPRISE, &user[ENTERPRISE])] {
        let schema = idp.raw("GET", &format!("/Schemas/{urn}"), &[], None).await;
        let missing = missing_in(values, &schema.expect(200)["attributes"]);
        assert!(missing.is_empty(), "{missing:?}");
    }
}

/// The names of a schema's attributes, and of their parts, that no value is there for.
fn missing_in(values: &Value, attributes: &Value) -> Vec<String> {
    let attributes = attributes.as_array().unwrap().iter();
    let writable = attributes.filter(|attribute| attribute["mutability"] != "readOnly");
    let mut missing = Vec::new();
    for attribute in writable {
        let name = attribute["name"].as_str().unwrap();
        let value = &values[name];
        let first = value.get(0).unwrap_or(value);
        if first.is_null() {
            missing.push(name.to_owned());
        } else if attribute["type"] == "complex" {
            let parts = missing_in(first, &attribute["subAttributes"]);
            missing.extend(parts.into_iter().map(|part| format!("{name}.{part}")));
        }
    }
    missing
}

async fn a_created_user_keeps_every_attribute(app: TestApp) {
    let idp = app.idp().await;

    let created = idp.create_user(full_user()).await;

    let read = idp.user(&id_of(&created.expect(201))).await;
    assert_kept(&created, &read, &full_user());
    let listed = idp.users(&[("filter", "userName pr")]).await;
    assert_eq!(listed.expect_one(), read.json());
    let id = id_of(&read.json());
    let unchanged = idp.replace_user(&id, full_user()).await;
    assert_eq!(unchanged.expect(200), read.json());
}

async fn a_replaced_user_keeps_every_attribute(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_user("ada").await;

    let replaced = idp.replace_user(&id, full_user()).await;

    assert_kept(&replaced, &idp.user(&id).await, &full_user());
    let least = idp.replace_user(&id, people::user("ada")).await;
    assert_kept(&least, &idp.user(&id).await, &people::user("ada"));
}

async fn a_user_patched_without_a_path_keeps_every_attribute(app: TestApp) {
    let idp = app.idp().await;
    for op in ["add", "replace"] {
        let id = idp.add_user(op).await;
        let mut user = full_user();
        user["userName"] = op.into();

        let patched = idp
            .patch_user(&id, json!([{"op": op, "value": user}]))
            .await;

        assert_kept(&patched, &idp.user(&id).await, &user);
    }
}

async fn a_user_patched_attribute_by_attribute_keeps_every_attribute(app: TestApp) {
    let idp = app.idp().await;
    for op in ["add", "replace"] {
        let id = idp.add_user(op).await;
        let mut user = full_user();
        user["userName"] = op.into();

        let patched = idp.patch_user(&id, one_by_one(op, &user)).await;

        patched.expect(200);
        assert_kept(&patched, &idp.user(&id).await, &user);
    }
}

/// One operation for each attribute, those of extensions behind their URN.
fn one_by_one(op: &str, user: &Value) -> Value {
    let mut operations = Vec::new();
    for (name, value) in user.as_object().unwrap() {
        if name.starts_with("urn:") {
            let parts = value.as_object().unwrap().iter();
            operations.extend(parts.map(
                |(part, value)| json!({"op": op, "path": format!("{name}:{part}"), "value": value}),
            ));
        } else if name != "schemas" {
            operations.push(json!({"op": op, "path": name, "value": value}));
        }
    }
    operations.into()
}

async fn a_user_patched_part_by_part_keeps_every_part_of_its_name_and_manager(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_user("ada").await;
    let manager = format!("{ENTERPRISE}:manager");
    let full = full_user();
    let wholes = [
        ("name", &full["name"]),
        (&*manager, &full[ENTERPRISE]["manager"]),
    ];

    for (path, whole) in wholes {
        for (part, value) in whole.as_object().unwrap() {
            let path = format!("{path}.{part}");
            let operation = json!([{"op": "replace", "path": path, "value": value}]);
            idp.patch_user(&id, operation).await.expect(200);
        }
    }

    let user = idp.user(&id).await.expect(200);
    assert_eq!(user["name"], full["name"]);
    assert_eq!(
        user[ENTERPRISE],
        json!({"manager": full[ENTERPRISE]["manager"]})
    );
}

async fn a_group_keeps_its_attributes_and_extensions(app: TestApp) {
    let idp = app.idp().await;
    let group = |name: &str| {
        let mut group = full_group();
        group["displayName"] = name.into();
        group["externalId"] = name.into();
        group
    };

    let created = idp.create_group(group("created")).await;
    let id = id_of(&created.expect(201));
    assert_kept(&created, &idp.group(&id).await, &group("created"));

    let id = idp.add_group("replaced", &[]).await;
    let replaced = idp.replace_group(&id, group("replaced")).await;
    assert_kept(&replaced, &idp.group(&id).await, &group("replaced"));

    let id = idp.add_group("patched", &[]).await;
    let patch = one_by_one("add", &group("patched"));
    let patched = idp.patch_group(&id, patch).await;
    assert_eq!(patched.status(), 204);
    assert_told(&idp.group(&id).await, &group("patched"));
}

fn full_group() -> Value {
    json!({
        "schemas": [GROUP, FOREIGN],
        "externalId": "e9e30dba-f08f-4109-8486-d5c6a331660a",
        "displayName": "Tour Guides",
        FOREIGN: full_user()[FOREIGN],
    })
}

async fn a_password_is_neither_returned_nor_stored(app: TestApp) {
    let idp = app.idp().await;
    let with = |name: &str| {
        let mut user = people::user("ada@example.com");
        user[name] = SECRET.into();
        user
    };
    let created = idp.create_user(with("password")).await;
    let id = id_of(&created.expect(201));
    let replaced = idp.replace_user(&id, with("PassWord")).await;
    let qualified = format!("{USER}:password");
    let again = idp.replace_user(&id, with(&qualified)).await;
    let core = json!({USER: {"password": SECRET}});
    let patched = idp
        .patch_user(
            &id,
            json!([
                {"op": "add", "path": "password", "value": SECRET},
                {"op": "replace", "path": qualified, "value": SECRET},
                {"op": "replace", "value": {"password": SECRET, "title": "Countess"}},
                {"op": "add", "value": core},
            ]),
        )
        .await;
    let asked = idp.users(&[("attributes", "password,userName")]).await;

    for answer in [&created, &replaced, &again, &patched, &asked] {
        assert!((200..300).contains(&answer.status()), "{}", answer.text());
        assert!(!answer.text().contains(SECRET), "{}", answer.text());
        assert!(!answer.text().contains("assword"), "{}", answer.text());
    }
    assert_eq!(patched.json()["title"], "Countess");
    assert_eq!(columns_with(&app, SECRET).await, Vec::<String>::new());
    let found = columns_with(&app, "Countess").await;
    assert!(found.contains(&"users.document".to_owned()), "{found:?}");
}

/// The columns of all tables, whatever their type, that hold a text somewhere.
async fn columns_with(app: &TestApp, text: &str) -> Vec<String> {
    let store = app.store();
    let ask = async |sql: &str| {
        let statement = store.dialect().statement(sql, []);
        store.reader().query_all_raw(statement).await.unwrap()
    };
    let columns = match store.dialect() {
        Dialect::Sqlite => {
            "SELECT t.name AS place, c.name AS part FROM sqlite_schema t, pragma_table_info(t.name) c \
             WHERE t.type = 'table'"
        }
        Dialect::Postgres => {
            "SELECT table_name::text AS place, column_name::text AS part \
             FROM information_schema.columns WHERE table_schema = current_schema()"
        }
    };
    let mut found = Vec::new();
    for row in ask(columns).await {
        let place: String = row.try_get("", "place").unwrap();
        let part: String = row.try_get("", "part").unwrap();
        let holding = format!(
            "SELECT 1 AS found FROM \"{place}\" WHERE CAST(\"{part}\" AS TEXT) LIKE '%{text}%'"
        );
        if !ask(&holding).await.is_empty() {
            found.push(format!("{place}.{part}"));
        }
    }
    found
}
