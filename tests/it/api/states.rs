//! The lights of a directory, its list, and the ways to stop it for a while.

use std::time::Duration;

use rollcall::ids::DirectoryId;
use rollcall::storage::tables::audit_entries;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};

use super::fields;
use crate::support::people;
use crate::support::waiting::eventually;
use crate::support::world::{kinds, world};
use crate::support::{Idp, TestApp};

on_both! {
    lights_go_on_as_a_directory_comes_to_life,
    directories_are_listed_a_page_at_a_time,
    what_is_wrong_with_a_list_is_named,
    deliveries_are_held_and_released_by_name,
    writes_are_refused_and_taken_again_by_name,
    while_writes_are_refused_everything_can_be_read,
    while_writes_are_refused_nothing_is_written_by_any_way,
    nobody_stops_what_is_not_there,
}

const NOW: &str = "2026-01-15T12:00:00.000Z";

/// What was done to a directory, and by whom, as the audit trail has it.
pub(super) async fn audited(app: &TestApp, directory_id: &str) -> Vec<(String, String)> {
    let id = DirectoryId::parse(directory_id).unwrap();
    let entries = audit_entries::Entity::find()
        .filter(audit_entries::Column::DirectoryId.eq(id))
        .order_by_asc(audit_entries::Column::Id)
        .all(app.store().reader())
        .await
        .unwrap();
    let entries = entries.into_iter().map(|entry| (entry.action, entry.actor));
    entries.collect()
}

/// The actions that the audit trail has of a directory after it got its token.
pub(super) async fn actions(app: &TestApp, directory_id: &str) -> Vec<String> {
    let entries = audited(app, directory_id).await.into_iter();
    entries.skip(2).map(|(action, _)| action).collect()
}

async fn lights_go_on_as_a_directory_comes_to_life(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    let shown = || async {
        app.write_down_activity().await;
        vendor.directory(&idp.directory_id).await.expect(200)
    };
    let dark = shown().await;
    assert_eq!(dark["state"], "validating");
    let none = json!({"reached_at": null, "first_user_at": null, "last_sync_at": null});
    assert_eq!(dark["lights"], none);

    idp.users(&[]).await.expect(200);
    // The server writes it down by itself too, and may be at it.
    eventually("reached", Duration::from_secs(20), async || {
        shown().await["lights"]["reached_at"] == NOW
    })
    .await;
    let reached = shown().await;
    assert_eq!(reached["state"], "linked");
    assert_eq!(reached["lights"]["first_user_at"], Value::Null);
    assert_eq!(reached["lights"]["last_sync_at"], NOW);

    app.advance_seconds(60);
    idp.add_user("ada").await;
    app.advance_seconds(60);
    idp.add_user("eve").await;
    app.advance_seconds(60);
    idp.users(&[]).await.expect(200);
    let alive = shown().await;
    assert_eq!(
        alive["lights"],
        json!({
            "reached_at": NOW,
            "first_user_at": "2026-01-15T12:01:00.000Z",
            "last_sync_at": "2026-01-15T12:02:00.000Z",
        })
    );
    assert_eq!(alive["sequence"], 3);
}

fn ids(list: &Value) -> Vec<&str> {
    let data = list["data"].as_array().unwrap();
    data.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

async fn directories_are_listed_a_page_at_a_time(app: TestApp) {
    let vendor = app.vendor();
    let mut made = Vec::new();
    for _ in 0..12 {
        made.push(app.idp().await.directory_id);
    }
    let first = vendor.directory(&made[0]).await.expect(200);
    let organization = first["organization_id"].clone();
    let sibling = app.idp_of(&organization).await.directory_id;
    vendor.end_directory(&made[3]).await.expect(202);
    while rollcall::directories::directory::remove_deleted(app.store(), 500)
        .await
        .unwrap()
        > 0
    {}
    // What is gone is not shown; what is going is.
    vendor.delete_directory(&made[4]).await.expect(202);
    made.push(sibling.clone());
    made.remove(3);

    let page = vendor.directories("").await.expect(200);
    let rest = format!("after={}", page["list_metadata"]["after"].as_str().unwrap());
    let rest = vendor.directories(&rest).await.expect(200);
    let all = vendor.directories("limit=100").await.expect(200);
    let exact = vendor.directories("limit=12").await.expect(200);
    let own = format!("organization_id={}", organization.as_str().unwrap());
    let own = vendor.directories(&own).await.expect(200);

    assert_eq!(page["object"], "list");
    assert_eq!(ids(&page), made[..10]);
    assert_eq!(page["list_metadata"]["before"], Value::Null);
    assert_eq!(ids(&rest), made[10..]);
    assert_eq!(rest["list_metadata"]["after"], Value::Null);
    assert_eq!(ids(&all), made);
    assert_eq!(exact["list_metadata"]["after"], Value::Null);
    assert_eq!(ids(&own), [made[0].as_str(), &sibling]);
    // Each is shown as it is shown alone.
    assert_eq!(all["data"][0], first);
    assert_eq!(all["data"][3]["state"], "deleting");
}

async fn what_is_wrong_with_a_list_is_named(app: TestApp) {
    let vendor = app.vendor();

    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("after=nonsense", "after"),
        ("organization_id=nonsense", "organization_id"),
    ] {
        let refused = vendor.directories(query).await.expect(422);
        assert_eq!(fields(&refused), [field], "{query}");
    }
    for query in ["limit=x", "limit=-1"] {
        let refused = vendor.directories(query).await.expect(422);
        assert_eq!(refused["code"], "invalid_request_parameters");
    }
    let nobody = "organization_id=org_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let empty = vendor.directories(nobody).await.expect(200);
    assert_eq!(empty["data"], json!([]));
}

async fn deliveries_are_held_and_released_by_name(app: TestApp) {
    let key = app.vendor().create_api_key(json!({"name": "second"})).await;
    let vendor = app.vendor_with(key.expect(201)["key"].as_str().unwrap());
    let idp = app.idp().await;
    let id = idp.directory_id.as_str();
    idp.users(&[]).await.expect(200);
    let before = vendor.directory(id).await.expect(200);
    assert_eq!(before["deliveries_held_at"], Value::Null);
    app.advance_seconds(60);

    let held = vendor.turn_directory(id, "hold").await.expect(200);
    app.advance_seconds(60);
    let again = app.vendor().turn_directory(id, "hold").await.expect(200);

    assert_eq!(held["deliveries_held_at"], "2026-01-15T12:01:00.000Z");
    assert_eq!(held["deliveries_held_by"], r#"the API key "second""#);
    assert_eq!(again, held);
    assert_eq!(vendor.directory(id).await.expect(200), held);
    // Writing goes on meanwhile.
    idp.add_user("ada").await;

    for _ in 0..2 {
        let released = vendor.turn_directory(id, "release").await.expect(200);
        assert_eq!(released["deliveries_held_at"], Value::Null);
        assert_eq!(released["deliveries_held_by"], Value::Null);
    }
    assert_eq!(
        actions(&app, id).await,
        ["directory.deliveries_held", "directory.deliveries_released"]
    );
}

async fn writes_are_refused_and_taken_again_by_name(app: TestApp) {
    let vendor = app.vendor();
    let idp = app.idp().await;
    let id = idp.directory_id.as_str();

    let paused = vendor.turn_directory(id, "pause").await.expect(200);
    app.advance_seconds(60);
    let again = vendor.turn_directory(id, "pause").await.expect(200);

    assert_eq!(paused["writes_refused_at"], NOW);
    let by = paused["writes_refused_by"].as_str().unwrap();
    assert!(by.starts_with("the API key "), "{by}");
    assert_eq!(again, paused);
    let refused = idp.create_user(people::user("ada")).await;
    let detail = refused.expect_error(503, "")["detail"].clone();
    assert!(detail.as_str().unwrap().contains(by), "{detail}");

    for _ in 0..2 {
        let resumed = vendor.turn_directory(id, "resume").await.expect(200);
        assert_eq!(resumed["writes_refused_at"], Value::Null);
        assert_eq!(resumed["writes_refused_by"], Value::Null);
    }
    idp.add_user("ada").await;
    assert_eq!(
        actions(&app, id).await,
        ["directory.writes_refused", "directory.writes_resumed"]
    );
}

/// A directory with one person in one group.
async fn peopled(app: &TestApp) -> (Idp, String, String) {
    let idp = app.idp().await;
    let user = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&user]).await;
    (idp, user, group)
}

async fn while_writes_are_refused_everything_can_be_read(app: TestApp) {
    let (idp, user, group) = peopled(&app).await;
    let id = idp.directory_id.as_str();
    app.vendor().turn_directory(id, "pause").await.expect(200);

    for answer in [
        idp.users(&[]).await,
        idp.user(&user).await,
        idp.groups(&[]).await,
        idp.group(&group).await,
        idp.users(&[("filter", "userName eq \"ada\"")]).await,
        idp.raw("GET", "/ServiceProviderConfig", &[], None).await,
        idp.raw(
            "POST",
            "/Users/.search",
            &[],
            Some(
                r#"{"schemas":
            ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"]}"#,
            ),
        )
        .await,
    ] {
        answer.expect(200);
    }
}

async fn while_writes_are_refused_nothing_is_written_by_any_way(app: TestApp) {
    let (idp, user, group) = peopled(&app).await;
    let id = idp.directory_id.as_str();
    app.vendor().turn_directory(id, "pause").await.expect(200);
    let (before, events) = (world(&app).await, kinds(&app, id).await);
    let rename = json!([{"op": "replace", "path": "displayName", "value": "Makers"}]);

    for refused in [
        idp.create_user(people::user("eve")).await,
        idp.replace_user(&user, people::user("eve")).await,
        idp.patch_user(&user, rename.clone()).await,
        idp.delete_user(&user).await,
        idp.create_group(people::group("Makers", &[])).await,
        idp.replace_group(&group, people::group("Makers", &[]))
            .await,
        idp.patch_group(&group, rename).await,
        idp.delete_group(&group).await,
    ] {
        refused.expect_error(503, "");
        assert_eq!(refused.header("Retry-After"), Some("300"));
    }
    let bulk = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
        "Operations": [
            {"method": "POST", "path": "/Users", "bulkId": "one", "data": people::user("eve")},
            {"method": "DELETE", "path": format!("/Users/{user}")},
            {"method": "PUT", "path": format!("/Groups/{group}"), "data": people::group("x", &[])},
        ],
    });
    let answer = idp.raw("POST", "/Bulk", &[], Some(&bulk.to_string())).await;
    let answer = answer.expect(200);
    let operations = answer["Operations"].as_array().unwrap();
    assert_eq!(operations.len(), 3);
    assert!(
        operations.iter().all(|one| one["status"] == "503"),
        "{answer}"
    );

    assert_eq!(world(&app).await, before);
    assert_eq!(kinds(&app, id).await, events);
    app.vendor().turn_directory(id, "resume").await.expect(200);
    idp.delete_user(&user).await.expect(204);
}

async fn nobody_stops_what_is_not_there(app: TestApp) {
    let vendor = app.vendor();
    let ended = app.idp().await.directory_id;
    vendor.end_directory(&ended).await.expect(202);

    for id in [
        ended.as_str(),
        "directory_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "nonsense",
    ] {
        for verb in ["hold", "release", "pause", "resume"] {
            let refused = vendor.turn_directory(id, verb).await.expect(404);
            assert_eq!(refused["code"], "entity_not_found");
        }
    }
}
