//! Requests at the same time: each does what it would do alone, in some order.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::people;
use crate::support::world::kinds;
use crate::support::{Answer, Idp, TestApp};

on_both! {
    of_simultaneous_conditional_puts_exactly_one_wins,
    of_simultaneous_conditional_patches_of_a_group_exactly_one_wins,
    simultaneous_patches_of_one_group_lose_nothing,
    a_patch_that_meets_a_deletion_is_done_before_it_or_not_at_all,
    a_member_that_is_being_deleted_never_dangles,
    of_groups_created_at_once_with_one_identity_one_wins,
    bulk_requests_at_once_create_each_name_once,
    a_page_by_number_is_what_skipping_rows_gives_while_users_come_and_go,
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    let mut statuses: Vec<u16> = answers.iter().map(Answer::status).collect();
    statuses.sort_unstable();
    statuses
}

fn patch(operations: &Value) -> String {
    let schemas = ["urn:ietf:params:scim:api:messages:2.0:PatchOp"];
    json!({"schemas": schemas, "Operations": operations}).to_string()
}

async fn of_simultaneous_conditional_puts_exactly_one_wins(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_user("ada").await;
    let path = format!("/Users/{id}");
    let read = idp.user(&id).await;
    let tag = read.header("ETag").unwrap();

    let bodies: Vec<String> = (0..8)
        .map(|number| json!({"userName": "ada", "title": number.to_string()}).to_string())
        .collect();
    let headers = [("If-Match", tag)];
    let puts = bodies
        .iter()
        .map(|body| idp.raw("PUT", &path, &headers, Some(body)));
    let answers = join_all(puts).await;

    assert_eq!(statuses(&answers), [200, 412, 412, 412, 412, 412, 412, 412]);
    let won = answers
        .iter()
        .position(|answer| answer.status() == 200)
        .unwrap();
    let after = idp.user(&id).await.expect(200);
    assert_eq!(after["title"], won.to_string());
    assert_eq!(kinds(&app, &idp.directory_id).await.len(), 3);
}

async fn of_simultaneous_conditional_patches_of_a_group_exactly_one_wins(app: TestApp) {
    let idp = app.idp().await;
    let group = idp.add_group("Engineers", &[]).await;
    let path = format!("/Groups/{group}");
    let read = idp.group(&group).await;
    let tag = read.header("ETag").unwrap();
    let mut bodies = Vec::new();
    for number in 0..8 {
        let user = idp.add_user(&format!("user{number}")).await;
        let add = json!([{"op": "add", "path": "members", "value": [{"value": user}]}]);
        bodies.push(patch(&add));
    }

    let headers = [("If-Match", tag)];
    let patches = bodies
        .iter()
        .map(|body| idp.raw("PATCH", &path, &headers, Some(body)));
    let answers = join_all(patches).await;

    assert_eq!(statuses(&answers), [204, 412, 412, 412, 412, 412, 412, 412]);
    assert_eq!(idp.members_of(&group).await.len(), 1);
}

async fn simultaneous_patches_of_one_group_lose_nothing(app: TestApp) {
    let idp = app.idp().await;
    let mut users = Vec::new();
    for number in 0..48 {
        users.push(idp.add_user(&format!("user{number}")).await);
    }
    let (leaving, joining) = users.split_at(24);
    let leaving: Vec<&str> = leaving.iter().map(String::as_str).collect();
    let group = idp.add_group("Engineers", &leaving).await;

    let clients = (0..8).map(|number| {
        let (idp, group) = (idp.clone(), group.clone());
        let own = 3 * number..3 * number + 3;
        let pairs: Vec<(String, String)> = own
            .map(|place| (leaving[place].to_owned(), joining[place].clone()))
            .collect();
        async move {
            for (leaves, joins) in pairs {
                let path = format!("members[value eq \"{leaves}\"]");
                let operations = json!([
                    {"op": "remove", "path": path},
                    {"op": "add", "path": "members", "value": [{"value": joins}]},
                ]);
                idp.patch_group(&group, operations).await.expect(204);
            }
        }
    });
    join_all(clients).await;

    let mut expected = joining.to_vec();
    expected.sort();
    assert_eq!(idp.members_of(&group).await, expected);
}

async fn a_patch_that_meets_a_deletion_is_done_before_it_or_not_at_all(app: TestApp) {
    let idp = app.idp().await;
    for round in 0..10 {
        let id = idp.add_user(&format!("user{round}")).await;
        let before = kinds(&app, &idp.directory_id).await.len();
        let title = json!([{"op": "replace", "path": "title", "value": "x"}]);

        let (patched, deleted) = tokio::join!(idp.patch_user(&id, title), idp.delete_user(&id));

        deleted.expect(204);
        idp.user(&id).await.expect_error(404, "");
        let after = kinds(&app, &idp.directory_id).await;
        if patched.status() == 200 {
            let both = ["dsync.user.updated", "dsync.user.deleted"];
            assert_eq!(after[before..], both);
        } else {
            patched.expect_error(404, "");
            assert_eq!(after[before..], ["dsync.user.deleted"]);
        }
    }
}

async fn a_member_that_is_being_deleted_never_dangles(app: TestApp) {
    let idp = app.idp().await;
    let group = idp.add_group("Engineers", &[]).await;
    for round in 0..10 {
        let id = idp.add_user(&format!("user{round}")).await;
        let add = json!([{"op": "add", "path": "members", "value": [{"value": id}]}]);
        let before = kinds(&app, &idp.directory_id).await.len();

        let (added, deleted) = tokio::join!(idp.patch_group(&group, add), idp.delete_user(&id));

        added.expect(204);
        deleted.expect(204);
        assert_eq!(idp.members_of(&group).await, Vec::<String>::new());
        let after = kinds(&app, &idp.directory_id).await;
        let joined = after[before..]
            .iter()
            .filter(|kind| *kind == "dsync.group.user_added");
        let left = after[before..]
            .iter()
            .filter(|kind| *kind == "dsync.group.user_removed");
        assert_eq!(joined.count(), left.count());
        assert_eq!(after.last().unwrap(), "dsync.user.deleted");
    }
}

async fn of_groups_created_at_once_with_one_identity_one_wins(app: TestApp) {
    let idp = app.idp().await;

    let creates = ["Engineers", "ENGINEERS", "engineers", "ＥＮＧＩＮＥＥＲＳ"]
        .iter()
        .cycle()
        .take(16)
        .map(|name| idp.create_group(people::group(name, &[])));
    let answers = join_all(creates).await;

    let mut expected = vec![201];
    expected.resize(16, 409);
    assert_eq!(statuses(&answers), expected);
}

async fn bulk_requests_at_once_create_each_name_once(app: TestApp) {
    let idp = app.idp().await;
    let operations: Vec<Value> = (0..10)
        .map(|number| {
            json!({"method": "POST", "path": "/Users", "bulkId": number.to_string(),
                "data": people::user(&format!("user{number}"))})
        })
        .collect();
    let body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
        "Operations": operations,
    });
    let body = body.to_string();

    let bulks = (0..4).map(|_| idp.raw("POST", "/Bulk", &[], Some(&body)));
    let answers = join_all(bulks).await;

    let mut created: Vec<String> = Vec::new();
    for answer in &answers {
        for outcome in answer.expect(200)["Operations"].as_array().unwrap() {
            match outcome["status"].as_str() {
                Some("201") => created.push(outcome["bulkId"].to_string()),
                other => assert_eq!(other, Some("409"), "{outcome}"),
            }
        }
    }
    let distinct: BTreeSet<&String> = created.iter().collect();
    assert_eq!((created.len(), distinct.len()), (10, 10));
    assert_eq!(idp.users(&[]).await.expect(200)["totalResults"], 10);
}

/// The ids on a page, and how many there are in all.
async fn page(idp: &Idp, by: &str, start: usize, count: usize) -> (Vec<String>, usize) {
    let (start, count) = (start.to_string(), count.to_string());
    let query = [
        ("startIndex", start.as_str()),
        ("count", &count),
        ("sortBy", by),
    ];
    let list = idp.users(&query).await.expect(200);
    let ids = list["Resources"].as_array().unwrap().iter();
    let ids = ids.map(|user| user["id"].as_str().unwrap().to_owned());
    let total = list["totalResults"].as_u64().unwrap();
    (ids.collect(), usize::try_from(total).unwrap())
}

/// Pages remember where the page before ended; a change in between must make them forget it.
async fn a_page_by_number_is_what_skipping_rows_gives_while_users_come_and_go(app: TestApp) {
    let idp = app.idp().await;
    let mut users: Vec<(String, String)> = Vec::new();
    for number in 0..30 {
        let name = format!("user{number:02}");
        users.push((idp.add_user(&name).await, name));
    }

    for round in 0..24 {
        for by in ["id", "userName"] {
            let start = 1 + 5 * (round % 6);
            users.sort_by(|left, right| match by {
                "id" => left.0.cmp(&right.0),
                _ => left.1.cmp(&right.1),
            });
            let expected = users.iter().skip(start - 1).take(5);
            let expected: Vec<String> = expected.map(|(id, _)| id.clone()).collect();
            let found = page(&idp, by, start, 5).await;
            assert_eq!(found, (expected, users.len()), "{by} {start}");
        }
        disturb(&idp, &mut users, round).await;
    }
}

/// Deletes, adds or renames a user, or does nothing.
async fn disturb(idp: &Idp, users: &mut Vec<(String, String)>, round: usize) {
    match round % 4 {
        0 => {
            let (id, _) = users.remove(round % 7);
            idp.delete_user(&id).await.expect(204);
        }
        1 => {
            let name = format!("user{round:02}-a");
            users.push((idp.add_user(&name).await, name));
        }
        2 => {
            let renamed = format!("a{round}");
            let (id, name) = &mut users[round % 11];
            let user = people::user(&renamed);
            idp.replace_user(id, user).await.expect(200);
            *name = renamed;
        }
        _ => {}
    }
}
