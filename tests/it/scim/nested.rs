//! Groups in groups: as SCIM shows them, and what a vendor hears of them, flattened or not.

use std::collections::{BTreeMap, BTreeSet};

use rollcall::directories::nesting::CHAIN_MAX;
use serde_json::{Value, json};

use crate::support::choices::Choices;
use crate::support::people;
use crate::support::replica::Replica;
use crate::support::world::{events, kinds, world};
use crate::support::{Idp, TestApp};

on_both! {
    a_member_is_what_its_id_says,
    members_are_removed_by_their_type,
    a_user_shows_direct_and_indirect_groups,
    a_group_cannot_be_in_itself,
    a_refused_nesting_undoes_the_whole_request,
    a_chain_of_groups_has_an_end,
    nesting_alone_makes_no_event,
    whoever_leaves_gives_its_groups_a_new_version,
    a_flattened_directory_tells_who_is_in_a_group_by_any_way,
    who_is_in_by_another_way_neither_joins_nor_leaves,
    deleting_a_group_in_between_takes_its_people_out_above,
    switching_makes_the_events_of_the_difference,
    any_story_of_a_flattened_directory_adds_up,
}

/// The `value`s of new members.
fn members(ids: &[&str]) -> Value {
    ids.iter().map(|id| json!({"value": id})).collect()
}

async fn add(idp: &Idp, group: &str, ids: &[&str]) {
    let operations = json!([{"op": "add", "path": "members", "value": members(ids)}]);
    idp.patch_group(group, operations).await.expect(204);
}

async fn remove(idp: &Idp, group: &str, ids: &[&str]) {
    let operations = json!([{"op": "remove", "path": "members", "value": members(ids)}]);
    idp.patch_group(group, operations).await.expect(204);
}

async fn flatten(app: &TestApp, idp: &Idp, is_flat: bool) {
    let settings = json!({"flatten_groups": is_flat});
    let configured = app
        .vendor()
        .configure_directory(&idp.directory_id, settings)
        .await;
    assert_eq!(configured.expect(200)["flatten_groups"], is_flat);
}

/// The events after the first `seen`, as kind, userName and name of the group.
async fn news(app: &TestApp, idp: &Idp, seen: &mut usize) -> Vec<String> {
    let log = events(app, &idp.directory_id).await;
    let told = log[*seen..].iter().map(|event| {
        let payload: Value = serde_json::from_str(&event.payload).unwrap();
        let data = &payload["data"];
        let names = [
            &data["user"]["username"],
            &data["group"]["name"],
            &data["name"],
        ];
        let names: Vec<&str> = names.iter().filter_map(|name| name.as_str()).collect();
        format!("{} {}", event.kind, names.join(" "))
    });
    let told = told.collect();
    *seen = log.len();
    told
}

async fn version(idp: &Idp, group: &str) -> (String, String) {
    let group = idp.group(group).await.expect(200);
    let text = |name: &str| group["meta"][name].as_str().unwrap().to_owned();
    (text("version"), text("lastModified"))
}

async fn a_member_is_what_its_id_says(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let inner = idp.add_group("Inner", &[]).await;

    let created = idp
        .create_group(json!({"displayName": "Outer", "members": [
            {"value": inner, "type": "User", "display": "within"},
            {"value": ada, "type": "Group"},
        ]}))
        .await
        .expect(201);

    assert_eq!(
        created["members"],
        json!([
            {"value": ada, "$ref": format!("{}/Users/{ada}", idp.base_url), "type": "User"},
            {"value": inner, "$ref": format!("{}/Groups/{inner}", idp.base_url),
                "type": "Group", "display": "within"},
        ])
    );
    let outer = created["id"].as_str().unwrap();
    let before = idp.group(outer).await.expect(200);
    add(&idp, outer, &[&inner, &ada]).await;
    assert_eq!(idp.group(outer).await.expect(200), before);
    remove(&idp, outer, &[&inner]).await;
    assert_eq!(idp.members_of(outer).await, [ada]);
}

async fn members_are_removed_by_their_type(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let inner = idp.add_group("Inner", &[&ada]).await;
    let outer = idp.add_group("Outer", &[&ada, &inner]).await;

    let groups = json!([{"op": "remove", "path": "members[type eq \"Group\"]"}]);
    idp.patch_group(&outer, groups).await.expect(204);

    assert_eq!(idp.members_of(&outer).await, [ada]);
    assert_eq!(idp.members_of(&inner).await.len(), 1);
}

async fn a_user_shows_direct_and_indirect_groups(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let bob = idp.add_user("bob").await;
    let inner = idp.add_group("Inner", &[&ada]).await;
    let middle = idp.add_group("Middle", &[&inner, &bob]).await;
    let outer = idp.add_group("Outer", &[&middle, &ada]).await;

    let types = |user: &Value| -> BTreeMap<String, String> {
        let groups = user["groups"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        groups
            .map(|group| (text(&group["value"]), text(&group["type"])))
            .collect()
    };
    let expected = |groups: &[(&String, &str)]| -> BTreeMap<String, String> {
        let owned = groups.iter();
        owned
            .map(|(id, kind)| ((*id).clone(), (*kind).to_owned()))
            .collect()
    };

    let ada = idp.user(&ada).await.expect(200);
    let of_ada = [
        (&inner, "direct"),
        (&middle, "indirect"),
        (&outer, "direct"),
    ];
    assert_eq!(types(&ada), expected(&of_ada));
    let listed = idp.users(&[("filter", "userName eq \"bob\"")]).await;
    let of_bob = [(&middle, "direct"), (&outer, "indirect")];
    assert_eq!(types(&listed.expect_one()), expected(&of_bob));
}

async fn a_group_cannot_be_in_itself(app: TestApp) {
    let idp = app.idp().await;
    let inner = idp.add_group("Inner", &[]).await;
    let middle = idp.add_group("Middle", &[&inner]).await;
    let outer = idp.add_group("Outer", &[&middle]).await;
    let before = world(&app).await;

    for child in [&inner, &middle, &outer] {
        let operations = json!([{"op": "add", "path": "members", "value": members(&[child])}]);
        let patched = idp.patch_group(&inner, operations).await;
        let body = patched.expect_error(400, "invalidValue");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.contains("member of itself"), "{detail}");
    }
    let put = idp.replace_group(&inner, people::group("Inner", &[&outer]));
    put.await.expect_error(400, "invalidValue");

    assert_eq!(world(&app).await, before);
}

async fn a_refused_nesting_undoes_the_whole_request(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let inner = idp.add_group("Inner", &[]).await;
    let outer = idp.add_group("Outer", &[&inner]).await;
    let before = world(&app).await;

    let refused = idp.patch_group(
        &inner,
        json!([
            {"op": "replace", "path": "displayName", "value": "Other"},
            {"op": "add", "path": "members", "value": members(&[&ada])},
            {"op": "add", "path": "members", "value": members(&[&outer])},
        ]),
    );

    refused.await.expect_error(400, "invalidValue");
    assert_eq!(world(&app).await, before);
    let turned = idp.patch_group(&outer, json!([{"op": "remove", "path": "members"}]));
    turned.await.expect(204);
    add(&idp, &inner, &[&outer]).await;
}

async fn a_chain_of_groups_has_an_end(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let mut chain = vec![idp.add_group("0", &[&ada]).await];
    for number in 1..CHAIN_MAX {
        let inner = chain.last().unwrap();
        let outer = idp.add_group(&number.to_string(), &[inner]).await;
        chain.push(outer);
    }
    let (bottom, top) = (&chain[0], chain.last().unwrap());

    let above = idp.create_group(people::group("above", &[top])).await;
    let below = idp.add_group("below", &[]).await;
    let operations = json!([{"op": "add", "path": "members", "value": members(&[&below])}]);
    let under = idp.patch_group(bottom, operations).await;

    above.expect_error(400, "invalidValue");
    under.expect_error(400, "invalidValue");
    let ada = idp.user(&ada).await.expect(200);
    assert_eq!(ada["groups"].as_array().unwrap().len(), CHAIN_MAX);
}

async fn nesting_alone_makes_no_event(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let inner = idp.add_group("Inner", &[&ada]).await;
    let outer = idp.add_group("Outer", &[]).await;
    add(&idp, &outer, &[&inner]).await;

    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada active v1
      group#1 "inner" v1 [user#1]
      group#2 "outer" v2 [group#1]
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.group.created group#1
      4 dsync.group.user_added user#1 group#1
      5 dsync.group.created group#2
    "#);
    remove(&idp, &outer, &[&inner]).await;
    assert_eq!(kinds(&app, &idp.directory_id).await.len(), 5);
}

async fn whoever_leaves_gives_its_groups_a_new_version(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let inner = idp.add_group("Inner", &[&ada]).await;
    let outer = idp.add_group("Outer", &[&inner, &ada]).await;
    let aside = idp.add_group("Aside", &[]).await;
    let mut before = Vec::new();
    for group in [&inner, &outer, &aside] {
        before.push(version(&idp, group).await);
    }
    app.advance_seconds(60);

    idp.delete_user(&ada).await.expect(204);
    let (of_inner, of_outer) = (version(&idp, &inner).await, version(&idp, &outer).await);
    assert_ne!(of_inner.0, before[0].0);
    assert_ne!(of_inner.1, before[0].1);
    assert_ne!(of_outer, before[1]);
    assert_eq!(version(&idp, &aside).await, before[2]);

    app.advance_seconds(60);
    idp.delete_group(&inner).await.expect(204);
    let of_outer_now = version(&idp, &outer).await;
    assert_ne!(of_outer_now.0, of_outer.0);
    assert_ne!(of_outer_now.1, of_outer.1);
    assert!(idp.members_of(&outer).await.is_empty());
    assert_eq!(version(&idp, &aside).await, before[2]);
}

async fn a_flattened_directory_tells_who_is_in_a_group_by_any_way(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let bob = idp.add_user("bob").await;
    flatten(&app, &idp, true).await;
    let inner = idp.add_group("Inner", &[&ada]).await;
    let middle = idp.add_group("Middle", &[&inner]).await;
    let outer = idp.add_group("Outer", &[]).await;
    let mut seen = 0;
    assert_eq!(
        news(&app, &idp, &mut seen).await[3..],
        [
            "dsync.group.created Inner",
            "dsync.group.user_added ada Inner",
            "dsync.group.created Middle",
            "dsync.group.user_added ada Middle",
            "dsync.group.created Outer",
        ]
    );

    add(&idp, &outer, &[&middle]).await;
    add(&idp, &inner, &[&bob]).await;
    assert_eq!(
        news(&app, &idp, &mut seen).await,
        [
            "dsync.group.user_added ada Outer",
            "dsync.group.user_added bob Inner",
            "dsync.group.user_added bob Middle",
            "dsync.group.user_added bob Outer",
        ]
    );

    remove(&idp, &middle, &[&inner]).await;
    idp.delete_user(&bob).await.expect(204);
    assert_eq!(
        news(&app, &idp, &mut seen).await,
        [
            "dsync.group.user_removed ada Middle",
            "dsync.group.user_removed ada Outer",
            "dsync.group.user_removed bob Middle",
            "dsync.group.user_removed bob Outer",
            "dsync.group.user_removed bob Inner",
            "dsync.user.deleted ",
        ]
    );
}

async fn who_is_in_by_another_way_neither_joins_nor_leaves(app: TestApp) {
    let idp = app.idp().await;
    flatten(&app, &idp, true).await;
    let ada = idp.add_user("ada").await;
    let bottom = idp.add_group("Bottom", &[&ada]).await;
    let left = idp.add_group("Left", &[&bottom]).await;
    let right = idp.add_group("Right", &[&bottom]).await;
    let top = idp.add_group("Top", &[&left, &right]).await;
    let mut seen = 0;
    let told = news(&app, &idp, &mut seen).await;
    let joined = told
        .iter()
        .filter(|line| line.ends_with("user_added ada Top"));
    assert_eq!(joined.count(), 1);

    remove(&idp, &left, &[&bottom]).await;
    assert_eq!(
        news(&app, &idp, &mut seen).await,
        ["dsync.group.user_removed ada Left"]
    );
    add(&idp, &top, &[&ada]).await;
    add(&idp, &right, &[&ada]).await;
    remove(&idp, &right, &[&bottom]).await;
    remove(&idp, &top, &[&ada]).await;
    assert!(news(&app, &idp, &mut seen).await.is_empty());
    remove(&idp, &top, &[&right]).await;
    assert_eq!(
        news(&app, &idp, &mut seen).await,
        ["dsync.group.user_removed ada Top"]
    );
}

async fn deleting_a_group_in_between_takes_its_people_out_above(app: TestApp) {
    let idp = app.idp().await;
    flatten(&app, &idp, true).await;
    let ada = idp.add_user("ada").await;
    let bob = idp.add_user("bob").await;
    let inner = idp.add_group("Inner", &[&ada]).await;
    let middle = idp.add_group("Middle", &[&inner, &bob]).await;
    idp.add_group("Outer", &[&middle, &bob]).await;
    let mut seen = 0;
    news(&app, &idp, &mut seen).await;

    idp.delete_group(&middle).await.expect(204);

    assert_eq!(
        news(&app, &idp, &mut seen).await,
        [
            "dsync.group.user_removed ada Outer",
            "dsync.group.deleted Middle",
        ]
    );
    assert_eq!(idp.members_of(&inner).await, [ada]);
}

async fn switching_makes_the_events_of_the_difference(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let bob = idp.add_user("bob").await;
    let inner = idp.add_group("Inner", &[&ada, &bob]).await;
    idp.add_group("Outer", &[&inner, &bob]).await;
    let mut seen = 0;
    news(&app, &idp, &mut seen).await;

    flatten(&app, &idp, false).await;
    assert!(news(&app, &idp, &mut seen).await.is_empty());
    flatten(&app, &idp, true).await;
    assert_eq!(
        news(&app, &idp, &mut seen).await,
        ["dsync.group.user_added ada Outer"]
    );
    flatten(&app, &idp, true).await;
    assert!(news(&app, &idp, &mut seen).await.is_empty());
    flatten(&app, &idp, false).await;
    assert_eq!(
        news(&app, &idp, &mut seen).await,
        ["dsync.group.user_removed ada Outer"]
    );
}

/// What SCIM shows: userNames, and the names of groups with the ids of their members.
#[derive(Default)]
struct Shown {
    users: BTreeMap<String, String>,
    groups: BTreeMap<String, (String, Vec<String>)>,
}

impl Shown {
    async fn of(idp: &Idp) -> Self {
        let mut shown = Self::default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        for user in idp.users(&[]).await.expect(200)["Resources"]
            .as_array()
            .unwrap()
        {
            shown
                .users
                .insert(text(&user["id"]), text(&user["userName"]));
        }
        for group in idp.groups(&[]).await.expect(200)["Resources"]
            .as_array()
            .unwrap()
        {
            let members = group["members"].as_array().cloned().unwrap_or_default();
            let members = members.iter().map(|member| text(&member["value"]));
            let entry = (text(&group["displayName"]), members.collect());
            shown.groups.insert(text(&group["id"]), entry);
        }
        shown
    }

    fn is_in(&self, user: &str, group: &str) -> bool {
        let mut members = self.groups[group].1.iter();
        members.any(|id| id == user || (self.groups.contains_key(id) && self.is_in(user, id)))
    }

    /// userName and group name of everybody in a group by any way.
    fn memberships(&self) -> BTreeSet<(String, String)> {
        let mut pairs = BTreeSet::new();
        for (user, user_name) in &self.users {
            for (group, (name, _)) in &self.groups {
                if self.is_in(user, group) {
                    pairs.insert((user_name.clone(), name.clone()));
                }
            }
        }
        pairs
    }
}

/// After each of many random requests, the copy that the events make equals what SCIM shows.
async fn any_story_of_a_flattened_directory_adds_up(app: TestApp) {
    let idp = app.idp().await;
    let mut choices = Choices::seeded("any_story_of_a_flattened_directory");
    let mut replica = Replica::default();
    let mut seen = 0;
    flatten(&app, &idp, true).await;
    let mut told = 0;
    for number in 0..120 {
        one_request(&idp, &mut choices, number).await;
        let log = events(&app, &idp.directory_id).await;
        for event in &log[seen..] {
            let payload = serde_json::from_str(&event.payload).unwrap();
            replica.apply(&payload).unwrap();
        }
        told += usize::from(log.len() > seen);
        seen = log.len();
        let shown = Shown::of(&idp).await;
        assert_eq!(
            replica.picture().memberships,
            shown.memberships(),
            "{number}"
        );
    }
    assert!(told > 60, "only {told} requests changed anything");
}

async fn one_request(idp: &Idp, choices: &mut Choices, number: usize) {
    let shown = Shown::of(idp).await;
    let users: Vec<&String> = shown.users.keys().collect();
    let groups: Vec<&String> = shown.groups.keys().collect();
    let action = choices.below(12);
    if users.len() < 3 || (action == 0 && users.len() < 6) {
        idp.add_user(&format!("u{number}")).await;
        return;
    }
    if groups.len() < 4 || (action == 1 && groups.len() < 8) {
        idp.add_group(&format!("g{number}"), &[]).await;
        return;
    }
    let user = users[choices.below(users.len())];
    let group = groups[choices.below(groups.len())];
    let other = groups[choices.below(groups.len())];
    let both = members(&[user, other]);
    let answer = match action {
        2 => idp.delete_user(user).await,
        3 => idp.delete_group(group).await,
        4 => {
            let name = &shown.groups[group].0;
            let put = people::group(name, &[user, other]);
            idp.replace_group(group, put).await
        }
        5 | 6 => {
            let operations = json!([{"op": "remove", "path": "members", "value": both}]);
            idp.patch_group(group, operations).await
        }
        7 => {
            let operations = json!([{"op": "add", "path": "members", "value": members(&[user])}]);
            idp.patch_group(group, operations).await
        }
        _ => {
            let operations = json!([{"op": "add", "path": "members", "value": both}]);
            idp.patch_group(group, operations).await
        }
    };
    // A circle is refused, and whatever was asked for with it.
    assert!(
        [200, 204, 400].contains(&answer.status()),
        "{}",
        answer.text()
    );
}
