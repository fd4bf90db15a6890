//! The log: what each of the ten events says, in which order, and byte for byte how.

use futures_util::future::join_all;
use serde_json::{Value, json};

use rollcall::clock;
use rollcall::directories::directory;
use rollcall::events::Kind;
use rollcall::json::canonical;
use rollcall::storage::tables::{groups, memberships, scim_tokens, user_emails, users};
use sea_orm::{EntityTrait, PaginatorTrait};

use crate::support::people::{self, ENTERPRISE};
use crate::support::world::{events, kinds, last_event};
use crate::support::{Idp, TestApp};

on_both! {
    a_first_request_activates_the_directory_even_if_it_only_reads,
    simultaneous_first_requests_activate_once,
    refused_requests_do_not_activate,
    an_activation_shows_the_directory_with_its_domains,
    a_user_is_shown_with_all_that_the_contract_names,
    a_user_without_much_is_shown_with_nulls,
    an_update_shows_what_was_before,
    a_deletion_shows_the_user_as_it_was,
    groups_are_shown_with_their_raw_attributes,
    memberships_show_user_and_group,
    sequences_have_no_gap_and_bodies_are_fixed_points,
    a_deleted_directory_says_so_last_and_its_rows_go,
    a_directory_that_was_never_heard_ends_in_silence,
    a_write_that_fails_leaves_no_event,
}

/// An event with its ids replaced by words and its times checked and left out.
fn shown(event: &Value, idp: &Idp) -> String {
    let mut event = event.clone();
    redact(&mut event);
    event.sort_all_objects();
    let text = serde_json::to_string_pretty(&event).unwrap();
    text.replace(&idp.directory_id, "[directory]")
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                match (name.as_str(), &value) {
                    ("created_at" | "updated_at", Value::String(text)) => {
                        assert!(
                            text.len() == 24 && text.starts_with("2026-01-15T12:"),
                            "{text}"
                        );
                        *value = json!("[time]");
                    }
                    ("external_key", Value::String(key)) => {
                        assert_eq!(key.len(), 26, "{key}");
                        *value = json!("[key]");
                    }
                    _ => redact(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) => {
            if let Some(word) = word_of_id(text) {
                *text = word;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `[prefix]` for our ids, `[uuid]` for ids of SCIM resources.
fn word_of_id(text: &str) -> Option<String> {
    let is_uuid = text.len() == 36 && text.matches('-').count() == 4;
    if is_uuid {
        return Some("[uuid]".to_owned());
    }
    let (prefix, id) = text.rsplit_once('_')?;
    let is_ours = id.len() == 26 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_ours.then(|| format!("[{prefix}]"))
}

async fn a_first_request_activates_the_directory_even_if_it_only_reads(app: TestApp) {
    let reading = app.idp().await;
    let writing = app.idp().await;
    let silent = app.idp().await;

    reading.users(&[]).await.expect(200);
    reading.users(&[]).await.expect(200);
    writing.add_user("ada").await;

    let activated = ["dsync.activated"];
    assert_eq!(kinds(&app, &reading.directory_id).await, activated);
    let both = ["dsync.activated", "dsync.user.created"];
    assert_eq!(kinds(&app, &writing.directory_id).await, both);
    assert!(kinds(&app, &silent.directory_id).await.is_empty());
    let view = app
        .vendor()
        .directory(&reading.directory_id)
        .await
        .expect(200);
    assert_eq!(
        (&view["state"], &view["sequence"]),
        (&json!("linked"), &json!(1))
    );
    let view = app
        .vendor()
        .directory(&silent.directory_id)
        .await
        .expect(200);
    assert_eq!(
        (&view["state"], &view["sequence"]),
        (&json!("validating"), &json!(0))
    );
}

async fn simultaneous_first_requests_activate_once(app: TestApp) {
    let idp = app.idp().await;
    let names: Vec<String> = (0..4).map(|number| format!("user{number}")).collect();

    let reads = (0..8).map(|_| idp.users(&[]));
    let writes = names.iter().map(|name| idp.add_user(name));
    let (reads, _) = tokio::join!(join_all(reads), join_all(writes));

    assert!(reads.iter().all(|answer| answer.status() == 200));
    let kinds = kinds(&app, &idp.directory_id).await;
    assert_eq!(kinds[0], "dsync.activated");
    assert_eq!(kinds[1..], ["dsync.user.created"; 4]);
}

async fn refused_requests_do_not_activate(app: TestApp) {
    let idp = app.idp().await;

    idp.with_token("wrong")
        .users(&[])
        .await
        .expect_error(401, "");

    assert!(kinds(&app, &idp.directory_id).await.is_empty());
}

async fn an_activation_shows_the_directory_with_its_domains(app: TestApp) {
    let organization = app
        .vendor()
        .create_organization(json!({"name": "Acme", "domains": ["acme.example"]}))
        .await
        .expect(201);
    let idp = app.idp_of(&organization["id"]).await;

    idp.users(&[]).await.expect(200);

    let event = last_event(&app, &idp.directory_id).await;
    insta::assert_snapshot!(shown(&event, &idp), @r#"
    {
      "created_at": "[time]",
      "data": {
        "created_at": "[time]",
        "domains": [
          {
            "domain": "acme.example",
            "id": "[org_domain]",
            "object": "organization_domain",
            "organization_id": "[org]"
          }
        ],
        "external_key": "[key]",
        "id": "[directory]",
        "name": "Acme's directory",
        "object": "directory",
        "organization_id": "[org]",
        "state": "active",
        "type": "generic scim v2.0",
        "updated_at": "[time]"
      },
      "event": "dsync.activated",
      "id": "[event]",
      "object": "event"
    }
    "#);
}

async fn a_user_is_shown_with_all_that_the_contract_names(app: TestApp) {
    let idp = app.idp().await;

    idp.create_user(people::ada()).await.expect(201);

    let event = last_event(&app, &idp.directory_id).await;
    insta::assert_snapshot!(shown(&event, &idp), @r#"
    {
      "created_at": "[time]",
      "data": {
        "created_at": "[time]",
        "custom_attributes": {
          "department_name": "Engines",
          "employee_number": "1",
          "job_title": "Countess"
        },
        "directory_id": "[directory]",
        "email": "ada@example.com",
        "emails": [
          {
            "primary": true,
            "type": "work",
            "value": "ada@example.com"
          },
          {
            "primary": false,
            "type": "home",
            "value": "ada@home.example"
          }
        ],
        "first_name": "Ada",
        "id": "[directory_user]",
        "idp_id": "00u1",
        "job_title": "Countess",
        "last_name": "Lovelace",
        "name": "Ada Lovelace",
        "object": "directory_user",
        "organization_id": "[org]",
        "raw_attributes": {
          "active": true,
          "displayName": "Ada Lovelace",
          "emails": [
            {
              "primary": true,
              "type": "work",
              "value": "ada@example.com"
            },
            {
              "type": "home",
              "value": "ada@home.example"
            }
          ],
          "externalId": "00u1",
          "id": "[uuid]",
          "name": {
            "familyName": "Lovelace",
            "givenName": "Ada"
          },
          "title": "Countess",
          "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {
            "department": "Engines",
            "employeeNumber": "1"
          },
          "userName": "ada@example.com"
        },
        "state": "active",
        "updated_at": "[time]",
        "username": "ada@example.com"
      },
      "event": "dsync.user.created",
      "id": "[event]",
      "object": "event"
    }
    "#);
}

async fn a_user_without_much_is_shown_with_nulls(app: TestApp) {
    let idp = app.idp().await;

    let id = idp.add_user("ada").await;

    let event = last_event(&app, &idp.directory_id).await;
    assert_eq!(event["data"]["idp_id"], id);
    insta::assert_snapshot!(shown(&event, &idp), @r#"
    {
      "created_at": "[time]",
      "data": {
        "created_at": "[time]",
        "custom_attributes": {},
        "directory_id": "[directory]",
        "email": null,
        "emails": [],
        "first_name": null,
        "id": "[directory_user]",
        "idp_id": "[uuid]",
        "job_title": null,
        "last_name": null,
        "name": null,
        "object": "directory_user",
        "organization_id": "[org]",
        "raw_attributes": {
          "id": "[uuid]",
          "userName": "ada"
        },
        "state": "active",
        "updated_at": "[time]",
        "username": "ada"
      },
      "event": "dsync.user.created",
      "id": "[event]",
      "object": "event"
    }
    "#);
}

async fn an_update_shows_what_was_before(app: TestApp) {
    let idp = app.idp().await;
    let created = idp.create_user(people::ada()).await.expect(201);
    let id = created["id"].as_str().unwrap();
    let first = last_event(&app, &idp.directory_id).await;
    app.advance_seconds(60);

    let mut changed = people::ada();
    changed["active"] = json!(false);
    changed["userName"] = json!("ada@new.example");
    changed["name"]["familyName"] = json!("King");
    changed[ENTERPRISE] = json!({"department": "Analysis", "division": "North"});
    idp.replace_user(id, changed).await.expect(200);

    let event = last_event(&app, &idp.directory_id).await;
    let data = &event["data"];
    assert_eq!(data["id"], first["data"]["id"]);
    assert_eq!(data["created_at"], first["data"]["created_at"]);
    assert_eq!(data["updated_at"], "2026-01-15T12:01:00.000Z");
    assert_eq!(
        (&data["state"], &data["last_name"]),
        (&json!("inactive"), &json!("King"))
    );
    assert!(data.get("groups").is_none());
    let mut previous = data["previous_attributes"].clone();
    previous.sort_all_objects();
    let previous = serde_json::to_string_pretty(&previous).unwrap();
    insta::assert_snapshot!(previous, @r#"
    {
      "custom_attributes": {
        "department_name": "Engines",
        "division_name": null,
        "employee_number": "1"
      },
      "last_name": "Lovelace",
      "raw_attributes": {
        "active": true,
        "name": {
          "familyName": "Lovelace",
          "givenName": "Ada"
        },
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {
          "department": "Engines",
          "employeeNumber": "1"
        },
        "userName": "ada@example.com"
      },
      "state": "active",
      "username": "ada@example.com"
    }
    "#);
}

async fn a_deletion_shows_the_user_as_it_was(app: TestApp) {
    let idp = app.idp().await;
    let created = idp.create_user(people::ada()).await.expect(201);
    let before = last_event(&app, &idp.directory_id).await;
    app.advance_seconds(60);

    idp.delete_user(created["id"].as_str().unwrap())
        .await
        .expect(204);

    let event = last_event(&app, &idp.directory_id).await;
    assert_eq!(event["event"], "dsync.user.deleted");
    assert_eq!(event["data"], before["data"]);
    assert_eq!(event["created_at"], "2026-01-15T12:01:00.000Z");
}

async fn groups_are_shown_with_their_raw_attributes(app: TestApp) {
    let idp = app.idp().await;
    let group = json!({"displayName": "Engineers", "externalId": "g1"});

    let created = idp.create_group(group).await.expect(201);
    let id = created["id"].as_str().unwrap();
    let event = last_event(&app, &idp.directory_id).await;
    let rename = json!([{"op": "replace", "path": "displayName", "value": "Makers"}]);
    idp.patch_group(id, rename).await.expect(204);
    let renamed = last_event(&app, &idp.directory_id).await;
    idp.delete_group(id).await.expect(204);
    let deleted = last_event(&app, &idp.directory_id).await;

    insta::assert_snapshot!(shown(&event, &idp), @r#"
    {
      "created_at": "[time]",
      "data": {
        "created_at": "[time]",
        "directory_id": "[directory]",
        "id": "[directory_group]",
        "idp_id": "g1",
        "name": "Engineers",
        "object": "directory_group",
        "organization_id": "[org]",
        "raw_attributes": {
          "displayName": "Engineers",
          "externalId": "g1",
          "id": "[uuid]"
        },
        "updated_at": "[time]"
      },
      "event": "dsync.group.created",
      "id": "[event]",
      "object": "event"
    }
    "#);
    assert_eq!(renamed["event"], "dsync.group.updated");
    assert_eq!(renamed["data"]["name"], "Makers");
    let previous = json!({"name": "Engineers", "raw_attributes": {"displayName": "Engineers"}});
    assert_eq!(renamed["data"]["previous_attributes"], previous);
    assert_eq!(deleted["event"], "dsync.group.deleted");
    assert_eq!(
        (&deleted["data"]["id"], &deleted["data"]["name"]),
        (&event["data"]["id"], &json!("Makers"))
    );
    assert!(deleted["data"].get("previous_attributes").is_none());
}

async fn memberships_show_user_and_group(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.create_user(people::ada()).await.expect(201);
    let ada_id = ada["id"].as_str().unwrap();
    let user = last_event(&app, &idp.directory_id).await["data"].clone();
    let group_id = idp.add_group("Engineers", &[]).await;
    let group = last_event(&app, &idp.directory_id).await["data"].clone();

    let add = json!([{"op": "add", "path": "members", "value": [{"value": ada_id}]}]);
    idp.patch_group(&group_id, add).await.expect(204);
    let added = last_event(&app, &idp.directory_id).await;
    let remove = json!([{"op": "remove", "path": "members"}]);
    idp.patch_group(&group_id, remove).await.expect(204);
    let removed = last_event(&app, &idp.directory_id).await;

    let data = json!({"directory_id": idp.directory_id, "user": user, "group": group});
    assert_eq!(added["event"], "dsync.group.user_added");
    assert_eq!(added["data"], data);
    assert_eq!(removed["event"], "dsync.group.user_removed");
    assert_eq!(removed["data"]["user"], user);
    assert_eq!(removed["data"]["group"]["id"], group["id"]);
}

/// A life that makes each of the ten events.
async fn live(app: &TestApp, idp: &Idp) {
    let odd = json!({
        "userName": "ö\u{7f}\"\\/\u{2028}@example.com",
        "externalId": "\u{1F600}",
        "urn:example:params:odd:1.0:User": {"10": 1.0, "9": [-0.0, 1e-7, 1e21, 12_345_678_901_234_567_890_u64]},
    });
    let odd = idp.create_user(odd).await.expect(201);
    let odd = odd["id"].as_str().unwrap().to_owned();
    let ada = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&ada, &odd]).await;
    let title = json!([{"op": "replace", "path": "title", "value": "\u{1}\t<b>"}]);
    idp.patch_user(&odd, title).await.expect(200);
    let rename = json!([{"op": "replace", "path": "displayName", "value": "Makers"}]);
    idp.patch_group(&group, rename).await.expect(204);
    idp.delete_user(&odd).await.expect(204);
    idp.delete_group(&group).await.expect(204);
    app.vendor()
        .end_directory(&idp.directory_id)
        .await
        .expect(202);
}

async fn sequences_have_no_gap_and_bodies_are_fixed_points(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;
    other.add_user("bob").await;

    live(&app, &idp).await;
    other.add_user("eve").await;

    for directory in [&idp, &other] {
        let events = events(&app, &directory.directory_id).await;
        let sequences: Vec<i64> = events.iter().filter_map(|event| event.sequence).collect();
        let expected: Vec<i64> = (1..).take(events.len()).collect();
        assert_eq!(sequences, expected);
        for event in &events {
            let body: Value = serde_json::from_str(&event.payload).unwrap();
            assert_eq!(canonical(&body), event.payload);
            assert_eq!(body["object"], "event");
            assert_eq!(body["id"], event.id.to_string());
            assert_eq!(body["event"], event.kind);
            assert_eq!(body["created_at"], clock::text(event.created_at));
            assert_eq!(body.as_object().unwrap().len(), 5, "{body}");
        }
    }
    let mut kinds = kinds(&app, &idp.directory_id).await;
    kinds.sort();
    kinds.dedup();
    let mut all = Kind::SEQUENCED.map(Kind::as_str);
    all.sort_unstable();
    assert_eq!(kinds, all);
}

async fn a_deleted_directory_says_so_last_and_its_rows_go(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.create_user(people::ada()).await.expect(201);
    idp.add_group("Engineers", &[ada["id"].as_str().unwrap()])
        .await;

    app.vendor()
        .end_directory(&idp.directory_id)
        .await
        .expect(202);

    idp.users(&[]).await.expect_error(401, "");
    idp.create_user(people::user("eve"))
        .await
        .expect_error(401, "");
    let view = app.vendor().directory(&idp.directory_id).await.expect(200);
    assert_eq!(view["state"], "deleting");
    let event = last_event(&app, &idp.directory_id).await;
    insta::assert_snapshot!(shown(&event, &idp), @r#"
    {
      "created_at": "[time]",
      "data": {
        "created_at": "[time]",
        "id": "[directory]",
        "name": "Acme's directory",
        "object": "directory",
        "organization_id": "[org]",
        "state": "active",
        "type": "generic scim v2.0",
        "updated_at": "[time]"
      },
      "event": "dsync.deleted",
      "id": "[event]",
      "object": "event"
    }
    "#);

    // One row at a time, to see every step.
    let mut removed = 0;
    loop {
        let now = directory::remove_deleted(app.store(), 1).await.unwrap();
        removed += now;
        if now == 0 {
            break;
        }
    }
    // A user, its second address, a group, a membership, a token, the key in the URL; the counts, one or
    // more rows of them; and when it was heard, if that has been written down.
    assert!((7..=9).contains(&removed), "{removed}");
    let connection = app.store().reader();
    assert_eq!(users::Entity::find().count(connection).await.unwrap(), 0);
    assert_eq!(groups::Entity::find().count(connection).await.unwrap(), 0);
    assert_eq!(
        memberships::Entity::find().count(connection).await.unwrap(),
        0
    );
    assert_eq!(
        user_emails::Entity::find().count(connection).await.unwrap(),
        0
    );
    assert_eq!(
        scim_tokens::Entity::find().count(connection).await.unwrap(),
        0
    );
    let kinds = kinds(&app, &idp.directory_id).await;
    assert_eq!(kinds.last().map(String::as_str), Some("dsync.deleted"));
    assert_eq!(kinds.len(), 5);
    // Nothing is left that could be named.
    app.vendor()
        .end_directory(&idp.directory_id)
        .await
        .expect(404);
}

async fn a_directory_that_was_never_heard_ends_in_silence(app: TestApp) {
    let idp = app.idp().await;

    app.vendor()
        .end_directory(&idp.directory_id)
        .await
        .expect(202);

    assert!(kinds(&app, &idp.directory_id).await.is_empty());
}

async fn a_write_that_fails_leaves_no_event(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&ada]).await;
    idp.add_group("Makers", &[]).await;
    let before = kinds(&app, &idp.directory_id).await;

    let both = json!([
        {"op": "remove", "path": "members"},
        {"op": "replace", "path": "displayName", "value": "makers"},
    ]);
    idp.patch_group(&group, both)
        .await
        .expect_error(409, "uniqueness");

    assert_eq!(kinds(&app, &idp.directory_id).await, before);
    assert_eq!(idp.members_of(&group).await, [ada]);
}
