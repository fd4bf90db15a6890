//! What becomes of inactive users, at `/admin/v1/directories/{id}/inactive_users`.

use std::collections::{BTreeMap, BTreeSet};

use rollcall::directories::inactive;
use rollcall::ids::DirectoryId;
use rollcall::storage::tables::{audit_entries, directories, users};
use sea_orm::{ActiveValue, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::fields;
use crate::support::choices::Choices;
use crate::support::people::{self, USER};
use crate::support::replica::Replica;
use crate::support::world::{events, kinds, world};
use crate::support::{Idp, TestApp};

on_both! {
    inactive_users_stay_unless_the_directory_says_otherwise,
    a_deactivated_user_ends_for_the_vendor_and_lives_on_for_its_provider,
    nobody_is_told_of_a_user_that_has_ended,
    a_user_that_is_active_again_is_a_new_directory_user_in_its_groups,
    a_user_created_inactive_is_told_of_once_it_is_active,
    in_a_flattened_directory_whoever_ends_leaves_every_group_it_is_in,
    switching_brings_those_who_are_inactive_into_line,
    a_switch_that_was_cut_off_is_taken_up_again,
    a_switch_takes_any_number_of_people,
    what_is_no_policy_is_refused,
    any_story_adds_up_to_the_people_who_are_active,
}

/// The provider of a directory whose inactive users end.
async fn deleting(app: &TestApp) -> Idp {
    let idp = app.idp().await;
    set(app, &idp, "delete").await;
    idp
}

async fn set(app: &TestApp, idp: &Idp, policy: &str) -> Value {
    let vendor = app.vendor();
    let set = vendor.set_inactive_users(&idp.directory_id, policy);
    set.await.expect(200)
}

/// The setting as it is shown.
async fn shown(app: &TestApp, idp: &Idp) -> Value {
    let vendor = app.vendor();
    let shown = vendor.of_directory("GET", &idp.directory_id, "/inactive_users", None);
    shown.await.expect(200)
}

async fn activate(idp: &Idp, id: &str, is_active: bool) {
    let operations = json!([{"op": "replace", "value": {"active": is_active}}]);
    idp.patch_user(id, operations).await.expect(200);
}

/// A group's members, changed.
async fn patch_members(idp: &Idp, group: &str, op: &str, user: &str) {
    let operations = json!([{"op": op, "path": "members", "value": [{"value": user}]}]);
    idp.patch_group(group, operations).await.expect(204);
}

/// The `data` of each event of this kind.
async fn told(app: &TestApp, idp: &Idp, kind: &str) -> Vec<Value> {
    let log = events(app, &idp.directory_id).await;
    let of_kind = log.iter().filter(|event| event.kind == kind);
    of_kind
        .map(|event| serde_json::from_str::<Value>(&event.payload).unwrap()["data"].clone())
        .collect()
}

async fn inactive_users_stay_unless_the_directory_says_otherwise(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;

    activate(&idp, &ada, false).await;

    assert_eq!(shown(&app, &idp).await["policy"], "retain");
    assert_eq!(
        kinds(&app, &idp.directory_id).await.last().unwrap(),
        "dsync.user.updated"
    );
}

async fn a_deactivated_user_ends_for_the_vendor_and_lives_on_for_its_provider(app: TestApp) {
    let idp = deleting(&app).await;
    let ada = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&ada]).await;

    activate(&idp, &ada, false).await;

    let read = idp.user(&ada).await.expect(200);
    assert_eq!((&read["id"], &read["active"]), (&json!(ada), &json!(false)));
    assert_eq!(read["groups"][0]["value"], group);
    assert_eq!(idp.members_of(&group).await, std::slice::from_ref(&ada));
    let found = idp.users(&[("filter", "userName eq \"ada\"")]).await;
    assert_eq!(found.expect_one()["id"], ada);
    let created = &told(&app, &idp, "dsync.user.created").await[0];
    let deleted = &told(&app, &idp, "dsync.user.deleted").await[0];
    assert_eq!(deleted["id"], created["id"]);
    assert_eq!(deleted["state"], "inactive");
    assert_eq!(deleted.get("previous_attributes"), None);
    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada inactive v2
      group#1 "engineers" v1 [user#1]
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.group.created group#1
      4 dsync.group.user_added user#1 group#1
      5 dsync.group.user_removed user#1 group#1
      6 dsync.user.deleted user#1
    "#);
}

async fn nobody_is_told_of_a_user_that_has_ended(app: TestApp) {
    let idp = deleting(&app).await;
    let ada = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&ada]).await;
    let other = idp.add_group("Others", &[]).await;
    activate(&idp, &ada, false).await;
    let seen = kinds(&app, &idp.directory_id).await.len();

    let rename = json!([{"op": "replace", "value": {"title": "Countess", "userName": "lady"}}]);
    idp.patch_user(&ada, rename).await.expect(200);
    patch_members(&idp, &other, "add", &ada).await;
    patch_members(&idp, &group, "remove", &ada).await;
    idp.delete_group(&group).await.expect(204);
    let title = idp.user(&ada).await.expect(200)["title"].clone();
    let members = idp.members_of(&other).await;
    idp.delete_user(&ada).await.expect(204);

    assert_eq!(title, "Countess");
    assert_eq!(members, std::slice::from_ref(&ada));
    idp.user(&ada).await.expect(404);
    assert!(idp.members_of(&other).await.is_empty());
    assert_eq!(
        kinds(&app, &idp.directory_id).await[seen..],
        ["dsync.group.deleted"]
    );
}

async fn a_user_that_is_active_again_is_a_new_directory_user_in_its_groups(app: TestApp) {
    let idp = deleting(&app).await;
    let ada = idp.add_user("ada").await;
    idp.add_group("Engineers", &[&ada]).await;
    activate(&idp, &ada, false).await;
    let later = idp.add_group("Later", &[&ada]).await;
    let seen = kinds(&app, &idp.directory_id).await.len();

    activate(&idp, &ada, true).await;

    assert_eq!(
        kinds(&app, &idp.directory_id).await[seen..],
        [
            "dsync.user.created",
            "dsync.group.user_added",
            "dsync.group.user_added"
        ]
    );
    let created = told(&app, &idp, "dsync.user.created").await;
    assert_ne!(created[0]["id"], created[1]["id"]);
    assert_eq!(created[1]["raw_attributes"]["id"], ada);
    assert_eq!(created[1]["state"], "active");
    let added = told(&app, &idp, "dsync.group.user_added").await;
    assert_eq!(added.last().unwrap()["user"]["id"], created[1]["id"]);
    assert_eq!(idp.members_of(&later).await, [ada]);
}

async fn a_user_created_inactive_is_told_of_once_it_is_active(app: TestApp) {
    let idp = deleting(&app).await;
    let body = json!({"schemas": [USER], "userName": "ada", "active": false});
    let created = idp.create_user(body).await.expect(201);
    let ada = created["id"].as_str().unwrap().to_owned();
    idp.add_group("Engineers", &[&ada]).await;

    let before = kinds(&app, &idp.directory_id).await;
    activate(&idp, &ada, true).await;

    assert_eq!(created["active"], false);
    assert_eq!(before, ["dsync.activated", "dsync.group.created"]);
    assert_eq!(
        kinds(&app, &idp.directory_id).await[2..],
        ["dsync.user.created", "dsync.group.user_added"]
    );
}

async fn in_a_flattened_directory_whoever_ends_leaves_every_group_it_is_in(app: TestApp) {
    let idp = deleting(&app).await;
    let settings = json!({"flatten_groups": true});
    let vendor = app.vendor();
    let configured = vendor.configure_directory(&idp.directory_id, settings);
    configured.await.expect(200);
    let ada = idp.add_user("ada").await;
    let inner = idp.add_group("Inner", &[&ada]).await;
    let outer = idp.add_group("Outer", &[&inner]).await;
    activate(&idp, &ada, false).await;
    let removed = told(&app, &idp, "dsync.group.user_removed").await;
    let seen = kinds(&app, &idp.directory_id).await.len();

    patch_members(&idp, &outer, "remove", &inner).await;
    patch_members(&idp, &outer, "add", &inner).await;
    let meanwhile = kinds(&app, &idp.directory_id).await[seen..].len();
    activate(&idp, &ada, true).await;

    let names: BTreeSet<&str> = removed
        .iter()
        .map(|data| data["group"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, BTreeSet::from(["Inner", "Outer"]));
    assert_eq!(meanwhile, 0);
    assert_eq!(
        kinds(&app, &idp.directory_id).await[seen..],
        [
            "dsync.user.created",
            "dsync.group.user_added",
            "dsync.group.user_added"
        ]
    );
}

async fn switching_brings_those_who_are_inactive_into_line(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    idp.add_user("bob").await;
    idp.add_group("Engineers", &[&ada]).await;
    activate(&idp, &ada, false).await;
    let first = told(&app, &idp, "dsync.user.created").await;

    let to_delete = set(&app, &idp, "delete").await;
    let again = set(&app, &idp, "delete").await;
    let to_retain = set(&app, &idp, "retain").await;

    for (answer, policy) in [
        (&to_delete, "delete"),
        (&again, "delete"),
        (&to_retain, "retain"),
    ] {
        assert_eq!(answer["policy"], policy);
        assert_eq!(answer["is_complete"], true);
    }
    let log = kinds(&app, &idp.directory_id).await;
    assert_eq!(
        log[log.len() - 4..],
        [
            "dsync.group.user_removed",
            "dsync.user.deleted",
            "dsync.user.created",
            "dsync.group.user_added"
        ]
    );
    let deleted = told(&app, &idp, "dsync.user.deleted").await;
    let created = told(&app, &idp, "dsync.user.created").await;
    assert_eq!(deleted[0]["id"], first[0]["id"]);
    assert_ne!(created[2]["id"], first[0]["id"]);
    assert_eq!(created[2]["state"], "inactive");
    let entries = audit_entries::Entity::find()
        .filter(audit_entries::Column::Action.eq("directory.configured"))
        .all(app.store().reader())
        .await
        .unwrap();
    assert_eq!(entries.len(), 2, "the switch that changed nothing is none");
    assert_eq!(
        entries[0].details,
        r#"{"inactive_users":["retain","delete"]}"#
    );
    assert!(entries[0].actor.starts_with("api_key_"));
}

async fn a_switch_that_was_cut_off_is_taken_up_again(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    activate(&idp, &ada, false).await;
    let id = DirectoryId::parse(&idp.directory_id).unwrap();
    // As a process leaves it that dies right after the first transaction.
    let cut_off = directories::ActiveModel {
        id: ActiveValue::Unchanged(id),
        inactive_users: ActiveValue::Set("delete".to_owned()),
        aligning_since: ActiveValue::Set(Some(app.store().clock().now())),
        ..Default::default()
    };
    let writer = app.store().statement_connection();
    directories::Entity::update(cut_off)
        .exec(writer)
        .await
        .unwrap();
    assert_eq!(shown(&app, &idp).await["is_complete"], false);

    inactive::align_due(app.store()).await.unwrap();
    inactive::align_due(app.store()).await.unwrap();

    let log = kinds(&app, &idp.directory_id).await;
    assert_eq!(
        log[log.len() - 2..],
        ["dsync.user.updated", "dsync.user.deleted"]
    );
    let last = events(&app, &idp.directory_id).await.pop().unwrap();
    assert_eq!(last.actor.as_deref(), Some("system"));
    assert_eq!(shown(&app, &idp).await["is_complete"], true);
}

async fn a_switch_takes_any_number_of_people(app: TestApp) {
    const PEOPLE: usize = 230;
    let idp = app.idp().await;
    for chunk in (0..PEOPLE).collect::<Vec<_>>().chunks(100) {
        let operations: Vec<Value> = chunk
            .iter()
            .map(|index| {
                let name = format!("user{index}");
                let is_active = index % 20 == 0;
                json!({"method": "POST", "path": "/Users", "bulkId": name,
                    "data": {"schemas": [USER], "userName": name, "active": is_active}})
            })
            .collect();
        let bulk = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
            "Operations": operations,
        });
        let bulk = bulk.to_string();
        let sent = idp.raw("POST", "/Bulk", &[], Some(&bulk));
        sent.await.expect(200);
    }

    let answer = set(&app, &idp, "delete").await;

    assert_eq!(answer["is_complete"], true);
    let deleted = told(&app, &idp, "dsync.user.deleted").await;
    let ids: BTreeSet<&str> = deleted
        .iter()
        .map(|data| data["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), PEOPLE - PEOPLE.div_ceil(20));
    assert_eq!(deleted.len(), ids.len());
    let left = users::Entity::find()
        .filter(users::Column::EndedAt.is_null())
        .all(app.store().reader())
        .await
        .unwrap();
    assert!(left.iter().all(|user| user.active));
}

async fn what_is_no_policy_is_refused(app: TestApp) {
    let idp = app.idp().await;
    let vendor = app.vendor();

    let wrong = vendor.set_inactive_users(&idp.directory_id, "forget").await;
    let missing = vendor.set_inactive_users("directory_none", "delete").await;
    let body = Some(json!({"policy": "delete", "when": "now"}));
    let path = "/inactive_users";
    let more = vendor.of_directory("PUT", &idp.directory_id, path, body);

    assert_eq!(fields(&wrong.expect(422)), ["policy"]);
    missing.expect(404);
    more.await.expect(422);
}

/// People and groups change at random, and the policy does now and then.
async fn any_story_adds_up_to_the_people_who_are_active(app: TestApp) {
    let mut choices = Choices::seeded("inactive");
    let idp = app.idp().await;
    let mut users = Vec::new();
    for name in ["ada", "bob", "eve"] {
        users.push(idp.add_user(name).await);
    }
    let mut groups = Vec::new();
    for name in ["one", "two"] {
        groups.push(idp.add_group(name, &[]).await);
    }
    let mut policy = "retain";
    for turn in 0..60 {
        let (user, group) = (choices.below(users.len()), choices.below(groups.len()));
        match choices.below(8) {
            0 | 1 => activate(&idp, &users[user], false).await,
            2 => activate(&idp, &users[user], true).await,
            3 => patch_members(&idp, &groups[group], "add", &users[user]).await,
            4 => patch_members(&idp, &groups[group], "remove", &users[user]).await,
            5 => {
                let title = json!([{"op": "replace", "value": {"title": turn.to_string()}}]);
                idp.patch_user(&users[user], title).await.expect(200);
            }
            6 => {
                idp.delete_user(&users[user]).await.expect(204);
                let mut body = people::user(&format!("new{turn}"));
                body["active"] = json!(choices.below(2) == 0);
                let made = idp.create_user(body).await.expect(201);
                made["id"].as_str().unwrap().clone_into(&mut users[user]);
            }
            _ => {
                policy = *choices.one_of(&["retain", "delete"]);
                set(&app, &idp, policy).await;
            }
        }
    }

    let mut replica = Replica::default();
    for event in events(&app, &idp.directory_id).await {
        let body: Value = serde_json::from_str(&event.payload).unwrap();
        replica.apply(&body).unwrap();
    }
    let told = replica.picture();
    let mut names = BTreeMap::new();
    for user in idp.users(&[]).await.expect(200)["Resources"]
        .as_array()
        .unwrap()
    {
        if policy == "retain" || user["active"] != json!(false) {
            let name = user["userName"].as_str().unwrap().to_owned();
            names.insert(user["id"].as_str().unwrap().to_owned(), name);
        }
    }
    let mut memberships = BTreeSet::new();
    for (group, name) in groups.iter().zip(["one", "two"]) {
        for member in idp.members_of(group).await {
            let told = names.get(&member);
            memberships.extend(told.map(|user| (user.clone(), name.to_owned())));
        }
    }
    let told_of: BTreeSet<&String> = told.users.keys().collect();
    assert_eq!(told_of, names.values().collect::<BTreeSet<_>>());
    assert_eq!(told.memberships, memberships);
}
