//! `/Groups`: create, read, rename, members and delete.

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::actors::id_of;
use crate::support::people::{self, GROUP};
use crate::support::world::{kinds, world};

on_both! {
    a_created_group_is_answered_whole_with_its_members,
    a_group_needs_a_name,
    a_group_is_the_same_by_its_external_id_and_without_one_by_its_name,
    unknown_members_are_left_out,
    adding_a_member_twice_and_removing_a_stranger_are_successes_without_effect,
    each_way_to_remove_members_removes_who_is_meant,
    a_replacement_of_members_makes_events_for_the_difference_only,
    simultaneous_additions_lose_nobody,
    a_patch_answers_with_the_group_when_attributes_are_asked_for,
    members_are_left_out_when_they_are_excluded,
    a_deleted_group_makes_one_event_and_its_members_stay,
    a_user_shows_the_groups_that_it_is_in,
    a_group_takes_more_members_than_one_statement_names,
}

async fn a_created_group_is_answered_whole_with_its_members(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;

    let created = idp
        .create_group(json!({"displayName": "Engineers", "externalId": "g1",
            "members": [{"value": ada, "display": "Ada"}]}))
        .await;

    let group = created.expect(201);
    let id = id_of(&group);
    assert_eq!(
        created.header("Content-Type"),
        Some("application/scim+json")
    );
    assert_eq!(
        created.header("Location"),
        group["meta"]["location"].as_str()
    );
    assert_eq!(
        group["meta"]["location"],
        format!("{}/Groups/{id}", idp.base_url)
    );
    assert_eq!(group["schemas"], json!([GROUP]));
    assert_eq!(
        group["members"],
        json!([{
            "value": ada,
            "$ref": format!("{}/Users/{ada}", idp.base_url),
            "type": "User",
            "display": "Ada",
        }])
    );
    assert_eq!(idp.group(&id).await.expect(200), group);
}

async fn a_group_needs_a_name(app: TestApp) {
    let idp = app.idp().await;

    let missing = idp.create_group(json!({"schemas": [GROUP]})).await;
    let empty = idp.create_group(people::group("", &[])).await;

    missing.expect_error(400, "invalidValue");
    empty.expect_error(400, "invalidValue");
}

async fn a_group_is_the_same_by_its_external_id_and_without_one_by_its_name(app: TestApp) {
    let idp = app.idp().await;
    let named = idp.add_group("Engineers", &[]).await;
    idp.create_group(json!({"displayName": "A", "externalId": "g1"}))
        .await
        .expect(201);

    let same_name = idp.create_group(people::group("ENGINEERS", &[])).await;
    let same_id = idp
        .create_group(json!({"displayName": "B", "externalId": "g1"}))
        .await;
    let same_name_other_id = idp
        .create_group(json!({"displayName": "A", "externalId": "g2"}))
        .await;
    let taking = idp
        .patch_group(
            &named,
            json!([{"op": "replace", "path": "externalId", "value": "g1"}]),
        )
        .await;

    same_name.expect_error(409, "uniqueness");
    same_id.expect_error(409, "uniqueness");
    same_name_other_id.expect(201);
    taking.expect_error(409, "uniqueness");
}

async fn unknown_members_are_left_out(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let nobody = "01912345-0000-7000-8000-000000000000";

    let created = idp
        .create_group(people::group("Engineers", &[&ada, nobody, "x"]))
        .await;
    let id = id_of(&created.expect(201));
    let added = idp
        .patch_group(
            &id,
            json!([{"op": "add", "path": "members",
            "value": [{"value": nobody}, {"value": "x"}]}]),
        )
        .await;

    added.expect(204);
    assert_eq!(idp.members_of(&id).await, [ada]);
    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada active v1
      group#1 "engineers" v1 [user#1]
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.group.created group#1
      4 dsync.group.user_added user#1 group#1
    "#);
}

async fn adding_a_member_twice_and_removing_a_stranger_are_successes_without_effect(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let bob = idp.add_user("bob").await;
    let id = idp.add_group("Engineers", &[&ada]).await;
    let before = idp.group(&id).await.expect(200);
    app.advance_seconds(60);

    let added = idp
        .patch_group(
            &id,
            json!([{"op": "add", "path": "members", "value": [{"value": ada}]}]),
        )
        .await;
    let removed = idp
        .patch_group(
            &id,
            json!([
                {"op": "remove", "path": format!("members[value eq \"{bob}\"]")},
            ]),
        )
        .await;
    let both = idp
        .patch_group(
            &id,
            json!([
                {"op": "add", "path": "members", "value": [{"value": bob}]},
                {"op": "remove", "path": "members", "value": [{"value": bob}]},
            ]),
        )
        .await;
    let put = idp
        .replace_group(&id, people::group("Engineers", &[&ada]))
        .await;

    added.expect(204);
    removed.expect(204);
    both.expect(204);
    assert_eq!(put.expect(200), before);
    assert_eq!(idp.group(&id).await.expect(200), before);
    assert_eq!(kinds(&app, &idp.directory_id).await.len(), 5);
}

async fn each_way_to_remove_members_removes_who_is_meant(app: TestApp) {
    let idp = app.idp().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d"] {
        ids.push(idp.add_user(name).await);
    }
    let [a, b, c, d] = ids.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        unreachable!("there are four")
    };
    let group = idp.add_group("Engineers", &[a, b, c, d]).await;

    let by_value = json!([{"op": "Remove", "path": "members",
        "value": [{"$ref": null, "value": a}]}]);
    idp.patch_group(&group, by_value).await.expect(204);
    assert_eq!(idp.members_of(&group).await, [b, c, d]);

    let by_filter = json!([{"op": "remove", "path": format!("members[value eq \"{b}\"]")}]);
    idp.patch_group(&group, by_filter).await.expect(204);
    assert_eq!(idp.members_of(&group).await, [c, d]);

    let by_either = json!([{"op": "remove",
        "path": format!("members[value eq \"{a}\" or value eq \"{c}\"]")}]);
    idp.patch_group(&group, by_either).await.expect(204);
    assert_eq!(idp.members_of(&group).await, [d]);

    let all = json!([{"op": "remove", "path": "members"}]);
    idp.patch_group(&group, all).await.expect(204);
    assert!(idp.members_of(&group).await.is_empty());
}

async fn a_replacement_of_members_makes_events_for_the_difference_only(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let bob = idp.add_user("bob").await;
    let eve = idp.add_user("eve").await;
    let group = idp.add_group("Engineers", &[&ada, &bob]).await;

    let replaced = idp
        .patch_group(
            &group,
            json!([{"op": "replace", "path": "members",
            "value": [{"value": bob}, {"value": eve}]}]),
        )
        .await;

    replaced.expect(204);
    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada active v1
      user#2 bob active v1
      user#3 eve active v1
      group#1 "engineers" v2 [user#2, user#3]
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.user.created user#2
      4 dsync.user.created user#3
      5 dsync.group.created group#1
      6 dsync.group.user_added user#1 group#1
      7 dsync.group.user_added user#2 group#1
      8 dsync.group.user_removed user#1 group#1
      9 dsync.group.user_added user#3 group#1
    "#);
}

async fn simultaneous_additions_lose_nobody(app: TestApp) {
    let idp = app.idp().await;
    let group = idp.add_group("Engineers", &[]).await;
    let mut ids = Vec::new();
    for number in 0..12 {
        ids.push(idp.add_user(&format!("user{number}")).await);
    }

    let additions = ids.iter().map(|id| {
        idp.patch_group(
            &group,
            json!([{"op": "Add", "path": "members",
            "value": [{"$ref": null, "value": id}]}]),
        )
    });
    let answers = futures_util::future::join_all(additions).await;

    assert!(answers.iter().all(|answer| answer.status() == 204));
    ids.sort();
    assert_eq!(idp.members_of(&group).await, ids);
    let kinds = kinds(&app, &idp.directory_id).await;
    let added = kinds
        .iter()
        .filter(|kind| *kind == "dsync.group.user_added");
    assert_eq!(added.count(), 12);
}

async fn a_patch_answers_with_the_group_when_attributes_are_asked_for(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&ada]).await;
    let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "replace", "path": "displayName", "value": "Makers"}]});

    let path = format!("/Groups/{group}?attributes=displayName");
    let patched = idp.raw("PATCH", &path, &[], Some(&body.to_string())).await;

    assert_eq!(
        patched.expect(200),
        json!({
            "schemas": [GROUP], "id": group, "displayName": "Makers",
        })
    );
}

async fn members_are_left_out_when_they_are_excluded(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&ada]).await;

    let read = idp
        .get(
            &format!("/Groups/{group}"),
            &[("excludedAttributes", "members")],
        )
        .await;
    let found = idp
        .groups(&[
            ("excludedAttributes", "members"),
            ("filter", "displayName eq \"ENGINEERS\""),
        ])
        .await;

    assert!(read.expect(200).get("members").is_none());
    let found = found.expect_one();
    assert_eq!(found["id"], group);
    assert!(found.get("members").is_none());
}

async fn a_deleted_group_makes_one_event_and_its_members_stay(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let bob = idp.add_user("bob").await;
    let group = idp.add_group("Engineers", &[&ada, &bob]).await;

    let deleted = idp.delete_group(&group).await;

    assert_eq!((deleted.status(), deleted.text()), (204, ""));
    idp.delete_group(&group).await.expect_error(404, "");
    idp.group(&group).await.expect_error(404, "");
    let user = idp.user(&ada).await.expect(200);
    assert_eq!(user.get("groups"), None::<&Value>);
    insta::assert_snapshot!(world(&app).await, @r#"
    directory "Acme's directory" linked
      user#1 ada active v1
      user#2 bob active v1
      1 dsync.activated
      2 dsync.user.created user#1
      3 dsync.user.created user#2
      4 dsync.group.created group#1
      5 dsync.group.user_added user#1 group#1
      6 dsync.group.user_added user#2 group#1
      7 dsync.group.deleted group#1
    "#);
}

async fn a_user_shows_the_groups_that_it_is_in(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&ada]).await;

    let user = idp.user(&ada).await.expect(200);

    assert_eq!(
        user["groups"],
        json!([{
            "value": group,
            "$ref": format!("{}/Groups/{group}", idp.base_url),
            "display": "Engineers",
            "type": "direct",
        }])
    );
}

async fn a_group_takes_more_members_than_one_statement_names(app: TestApp) {
    let idp = app.idp().await;
    let mut ids = Vec::new();
    for chunk in 0..21 {
        let creates = (0..50).map(|number| idp.add_user(format!("u{chunk}.{number}").leak()));
        ids.extend(futures_util::future::join_all(creates).await);
    }
    let members: Vec<&str> = ids.iter().map(String::as_str).collect();

    let group = idp.add_group("Everybody", &members).await;

    assert_eq!(idp.members_of(&group).await.len(), 1_050);
    let emptied = idp.patch_group(
        &group,
        json!([{"op": "replace", "path": "members", "value": []}]),
    );
    emptied.await.expect(204);
    assert!(idp.members_of(&group).await.is_empty());
}
