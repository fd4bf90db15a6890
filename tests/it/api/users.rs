//! Users and groups written by hand, at `/admin/v1/directories/{id}/users` and `…/groups`.

use serde_json::{Value, json};

use super::fields;
use crate::support::people::{self, USER};
use crate::support::world::{events, kinds, last_event, world};
use crate::support::{Answer, Idp, TestApp};

on_both! {
    a_user_is_made_changed_and_deleted_by_hand_with_the_events_of_a_provider,
    a_user_is_named_by_either_of_its_ids,
    a_part_of_a_user_takes_the_place_of_what_was_there,
    a_group_is_made_changed_and_deleted_by_hand,
    people_join_and_leave_a_group_by_hand,
    what_a_provider_could_not_store_a_vendor_cannot_either,
    members_that_are_nobody_are_named,
    a_directory_has_its_own_users_and_groups,
    a_change_by_hand_that_changes_nothing_makes_no_event,
}

/// The provider of a directory that is managed by hand.
async fn manual(app: &TestApp) -> Idp {
    let idp = app.idp().await;
    let switched = app.vendor().manage(&idp.directory_id, "manual").await;
    switched.expect(200);
    idp
}

async fn ask(app: &TestApp, idp: &Idp, method: &str, path: &str, body: Value) -> Answer {
    let body = Some(body).filter(|body| !body.is_null());
    let vendor = app.vendor();
    vendor
        .of_directory(method, &idp.directory_id, path, body)
        .await
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn a_user_is_made_changed_and_deleted_by_hand_with_the_events_of_a_provider(app: TestApp) {
    let idp = manual(&app).await;

    let made = ask(&app, &idp, "POST", "/users", people::ada())
        .await
        .expect(201);
    let path = format!("/users/{}", text(&made["id"]));
    let put = json!({"schemas": [USER], "userName": "ada@example.com", "title": "Lady"});
    let replaced = ask(&app, &idp, "PUT", &path, put).await.expect(200);
    let off = ask(&app, &idp, "PATCH", &path, json!({"active": false})).await;
    let off = off.expect(200);
    let read = ask(&app, &idp, "GET", &path, Value::Null).await.expect(200);
    let gone = ask(&app, &idp, "DELETE", &path, Value::Null).await;

    assert_eq!(made["object"], "directory_user");
    assert_eq!(made["email"], "ada@example.com");
    assert_eq!(made["job_title"], "Countess");
    assert_eq!(replaced["job_title"], "Lady");
    assert_eq!(replaced["first_name"], Value::Null);
    assert_eq!(off["state"], "inactive");
    assert_eq!(read, off);
    assert_eq!((gone.status(), gone.text()), (204, ""));
    ask(&app, &idp, "GET", &path, Value::Null).await.expect(404);
    assert_eq!(
        kinds(&app, &idp.directory_id).await,
        [
            "dsync.activated",
            "dsync.user.created",
            "dsync.user.updated",
            "dsync.user.updated",
            "dsync.user.deleted"
        ]
    );
    for event in events(&app, &idp.directory_id).await {
        assert!(event.actor.unwrap().starts_with("api_key_"));
        assert!(event.request_id.is_some());
    }
}

async fn a_user_is_named_by_either_of_its_ids(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let data = last_event(&app, &idp.directory_id).await["data"].clone();

    let by_resource = format!("/users/{ada}");
    let by_resource = ask(&app, &idp, "GET", &by_resource, Value::Null).await;
    let by_shown = format!("/users/{}", text(&data["id"]));
    let by_shown = ask(&app, &idp, "GET", &by_shown, Value::Null).await;

    let shown = by_resource.expect(200);
    assert_eq!(shown, by_shown.expect(200));
    assert_eq!(shown["resource_id"], ada);
    assert_eq!(shown["id"], data["id"]);
    for nobody in ["/users/nobody", "/users/directory_user_0"] {
        ask(&app, &idp, "GET", nobody, Value::Null)
            .await
            .expect(404);
    }
}

async fn a_part_of_a_user_takes_the_place_of_what_was_there(app: TestApp) {
    let idp = manual(&app).await;
    let made = ask(&app, &idp, "POST", "/users", people::ada())
        .await
        .expect(201);
    let path = format!("/users/{}", text(&made["resource_id"]));

    let part = json!({"TITLE": null, "name": {"familyName": "Byron"}, "emails": [{"value": "a@b.example"}]});
    let changed = ask(&app, &idp, "PATCH", &path, part).await.expect(200);

    assert_eq!(changed["job_title"], Value::Null);
    assert_eq!(changed["first_name"], Value::Null);
    assert_eq!(changed["last_name"], "Byron");
    assert_eq!(changed["email"], "a@b.example");
    assert_eq!(changed["username"], "ada@example.com");
    let refused = ask(&app, &idp, "PATCH", &path, json!({"userName": null})).await;
    assert_eq!(refused.expect(422)["code"], "invalid_resource");
}

async fn a_group_is_made_changed_and_deleted_by_hand(app: TestApp) {
    let idp = manual(&app).await;
    let ada = ask(&app, &idp, "POST", "/users", people::user("ada"))
        .await
        .expect(201);
    let bob = ask(&app, &idp, "POST", "/users", people::user("bob"))
        .await
        .expect(201);

    let body = people::group("Engineers", &[&text(&ada["id"])]);
    let made = ask(&app, &idp, "POST", "/groups", body).await.expect(201);
    let path = format!("/groups/{}", text(&made["id"]));
    let part = json!({"displayName": "Makers"});
    let renamed = ask(&app, &idp, "PATCH", &path, part).await.expect(200);
    let put = people::group("Makers", &[&text(&bob["resource_id"])]);
    ask(&app, &idp, "PUT", &path, put).await.expect(200);
    let read = ask(&app, &idp, "GET", &path, Value::Null).await.expect(200);
    let members = idp.members_of(&text(&made["resource_id"])).await;
    ask(&app, &idp, "DELETE", &path, Value::Null)
        .await
        .expect(204);

    assert_eq!(made["object"], "directory_group");
    assert_eq!(renamed["name"], "Makers");
    assert_eq!(read["name"], "Makers");
    assert_eq!(members, [text(&bob["resource_id"])]);
    assert_eq!(
        kinds(&app, &idp.directory_id).await[3..],
        [
            "dsync.group.created",
            "dsync.group.user_added",
            "dsync.group.updated",
            "dsync.group.user_removed",
            "dsync.group.user_added",
            "dsync.group.deleted"
        ]
    );
}

async fn people_join_and_leave_a_group_by_hand(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let shown = text(&last_event(&app, &idp.directory_id).await["data"]["id"]);
    let bob = idp.add_user("bob").await;
    let group = idp.add_group("Engineers", &[]).await;
    app.vendor()
        .manage(&idp.directory_id, "manual")
        .await
        .expect(200);
    let path = format!("/groups/{group}/members");

    let both = json!({"users": [shown, bob]});
    ask(&app, &idp, "POST", &path, both).await.expect(200);
    let joined = idp.members_of(&group).await;
    let one = json!({"users": [bob]});
    ask(&app, &idp, "DELETE", &path, one).await.expect(200);

    assert_eq!(joined.len(), 2);
    assert_eq!(idp.members_of(&group).await, [ada]);
    let nobody = json!({"users": ["nobody"]});
    let refused = ask(&app, &idp, "POST", &path, nobody).await.expect(422);
    assert_eq!(fields(&refused), ["users"]);
    let part = json!({"members": []});
    let path = format!("/groups/{group}");
    let refused = ask(&app, &idp, "PATCH", &path, part).await.expect(422);
    assert_eq!(fields(&refused), ["members"]);
}

async fn what_a_provider_could_not_store_a_vendor_cannot_either(app: TestApp) {
    let idp = manual(&app).await;
    ask(&app, &idp, "POST", "/users", people::user("ada"))
        .await
        .expect(201);
    ask(&app, &idp, "POST", "/groups", people::group("g", &[]))
        .await
        .expect(201);
    let before = world(&app).await;

    let mut refused = Vec::new();
    for (path, body) in [
        ("/users", json!({"schemas": [USER]})),
        ("/users", json!({"userName": " "})),
        ("/users", json!({"userName": "x\u{0}"})),
        ("/users", json!({"userName": "x", "active": "perhaps"})),
        ("/users", json!({"userName": "x", "username": "y"})),
        ("/users", json!([])),
        ("/groups", json!({"displayName": ""})),
        (
            "/groups",
            json!({"displayName": "x", "members": [{"value": 1}]}),
        ),
    ] {
        let answer = ask(&app, &idp, "POST", path, body.clone()).await;
        refused.push((answer.expect(422)["code"].clone(), body));
    }
    let taken = ask(&app, &idp, "POST", "/users", people::user("ADA")).await;
    let same = ask(&app, &idp, "POST", "/groups", people::group("G", &[])).await;

    for (code, body) in refused {
        assert_eq!(code, "invalid_resource", "{body}");
    }
    assert_eq!(taken.expect(409)["code"], "user_already_exists");
    assert_eq!(same.expect(409)["code"], "group_already_exists");
    assert_eq!(world(&app).await, before);
}

async fn members_that_are_nobody_are_named(app: TestApp) {
    let idp = manual(&app).await;
    let inner = ask(&app, &idp, "POST", "/groups", people::group("Inner", &[])).await;
    let inner = text(&inner.expect(201)["id"]);

    let nobody = "01912345-0000-7000-8000-000000000000";
    let body = people::group("Outer", &[&inner, nobody]);
    let refused = ask(&app, &idp, "POST", "/groups", body).await;
    let nested = people::group("Outer", &[&inner]);
    let nested = ask(&app, &idp, "POST", "/groups", nested).await.expect(201);
    let path = format!("/groups/{inner}");
    let circle = people::group("Inner", &[&text(&nested["id"])]);
    let circle = ask(&app, &idp, "PUT", &path, circle).await;

    assert_eq!(fields(&refused.expect(422)), ["members"]);
    assert!(refused.text().contains(nobody) && !refused.text().contains(&inner));
    assert_eq!(circle.expect(422)["code"], "invalid_members");
}

async fn a_directory_has_its_own_users_and_groups(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let shown = text(&last_event(&app, &idp.directory_id).await["data"]["id"]);
    let group = idp.add_group("Engineers", &[]).await;
    let other = manual(&app).await;
    let before = world(&app).await;

    for id in [&ada, &shown] {
        let path = format!("/users/{id}");
        for (method, body) in [
            ("GET", Value::Null),
            ("PUT", people::user("eve")),
            ("PATCH", json!({"active": false})),
            ("DELETE", Value::Null),
        ] {
            let answer = ask(&app, &other, method, &path, body).await;
            assert!(!answer.text().contains("Engineers"));
            answer.expect(404);
        }
        let body = people::group("Taken", &[id]);
        ask(&app, &other, "POST", "/groups", body).await.expect(422);
    }
    let path = format!("/groups/{group}");
    ask(&app, &other, "DELETE", &path, Value::Null)
        .await
        .expect(404);

    assert_eq!(world(&app).await, before);
}

async fn a_change_by_hand_that_changes_nothing_makes_no_event(app: TestApp) {
    let idp = manual(&app).await;
    let made = ask(&app, &idp, "POST", "/users", people::ada())
        .await
        .expect(201);
    let path = format!("/users/{}", text(&made["id"]));
    let before = world(&app).await;

    ask(&app, &idp, "PUT", &path, people::ada())
        .await
        .expect(200);
    let part = json!({"title": "Countess"});
    ask(&app, &idp, "PATCH", &path, part).await.expect(200);

    assert_eq!(world(&app).await, before);
}
