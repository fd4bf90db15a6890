//! Answers that are longer than one page of members, and requests for answers without a body.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Idp, TestApp};

on_both! {
    a_group_of_many_pages_is_read_whole_and_each_member_once,
    head_answers_as_get_would_without_a_body,
}

/// More than two pages of members.
const MEMBERS: usize = 2_345;
/// As many operations as one request may have.
const BULK: usize = 1_000;

/// A group with so many members, made by Bulk; its id.
async fn large_group(idp: &Idp) -> String {
    let names: Vec<usize> = (0..MEMBERS).collect();
    let mut members = Vec::new();
    for chunk in names.chunks(BULK) {
        let operations: Vec<Value> = chunk
            .iter()
            .map(|number| {
                let data = json!({"userName": format!("u{number}")});
                json!({"method": "POST", "path": "/Users", "bulkId": number.to_string(), "data": data})
            })
            .collect();
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
            "Operations": operations,
        });
        let answer = idp.raw("POST", "/Bulk", &[], Some(&body.to_string())).await;
        for done in answer.expect(200)["Operations"].as_array().unwrap() {
            assert_eq!(done["status"], "201", "{done}");
            let location = done["location"].as_str().unwrap();
            let id = location.rsplit('/').next().unwrap().to_owned();
            members.push(json!({"value": id, "display": format!("User {id}")}));
        }
    }
    let group = json!({"displayName": "Everyone", "members": members});
    let created = idp.create_group(group).await.expect(201);
    assert_eq!(created["members"].as_array().unwrap().len(), MEMBERS);
    created["id"].as_str().unwrap().to_owned()
}

fn ids(group: &Value) -> BTreeSet<&str> {
    let members = group["members"].as_array().unwrap();
    let ids: BTreeSet<&str> = members
        .iter()
        .map(|one| one["value"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), members.len(), "each once");
    ids
}

async fn a_group_of_many_pages_is_read_whole_and_each_member_once(app: TestApp) {
    let idp = app.idp().await;
    let id = large_group(&idp).await;
    let path = format!("/Groups/{id}");

    let answer = idp.group(&id).await;
    let group = answer.expect(200);
    assert_eq!(ids(&group).len(), MEMBERS);
    assert_eq!(group["members"][0]["type"], "User");
    assert_eq!(
        answer.header("Content-Length"),
        None,
        "it is not held in memory"
    );
    assert_eq!(answer.header("Content-Type"), Some("application/scim+json"));

    let names = idp.get(&path, &[("attributes", "members.display")]).await;
    let names = names.expect(200);
    let members = names["members"].as_array().unwrap();
    assert_eq!(members.len(), MEMBERS);
    assert!(
        members
            .iter()
            .all(|one| one.as_object().unwrap().len() == 1)
    );
    let none = idp
        .get(&path, &[("attributes", "members.$ref,displayName")])
        .await;
    assert!(none.expect(200)["members"][MEMBERS - 1]["$ref"].is_string());

    let without = idp.get(&path, &[("excludedAttributes", "members")]).await;
    assert!(without.expect(200).get("members").is_none());
    assert!(without.header("Content-Length").is_some());

    let small = idp.add_group("Small", &[]).await;
    let all = idp.groups(&[]).await.expect(200);
    assert_eq!(all["totalResults"], 2);
    assert_eq!(ids(&all["Resources"][0]).len(), MEMBERS);
    assert_eq!(all["Resources"][1]["id"], small.as_str());
    assert!(all["Resources"][1].get("members").is_none());

    let patch = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "replace", "path": "displayName", "value": "All"}],
    });
    let patched = idp
        .raw(
            "PATCH",
            &format!("{path}?attributes=members"),
            &[],
            Some(&patch.to_string()),
        )
        .await;
    assert_eq!(ids(&patched.expect(200)).len(), MEMBERS);
}

async fn head_answers_as_get_would_without_a_body(app: TestApp) {
    let idp = app.idp().await;
    let user = format!("/Users/{}", idp.add_user("ada").await);
    let group = format!("/Groups/{}", idp.add_group("g", &[]).await);

    for path in [
        user.as_str(),
        group.as_str(),
        "",
        "/Users",
        "/Groups?count=1",
        "/Schemas",
        "/Schemas/urn:ietf:params:scim:schemas:core:2.0:User",
        "/ResourceTypes",
        "/ServiceProviderConfig",
    ] {
        let get = idp.raw("GET", path, &[], None).await;
        let head = idp.raw("HEAD", path, &[], None).await;
        get.expect(200);
        head.expect(200);
        assert_eq!(head.text(), "", "{path}");
        for name in ["Content-Type", "Content-Length", "ETag", "Location"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
    let missing = idp.raw("HEAD", "/Users/nobody", &[], None).await;
    assert_eq!((missing.status(), missing.text()), (404, ""));
    let nobody = idp.with_token("").raw("HEAD", "/Users", &[], None).await;
    assert_eq!(nobody.status(), 401);
}
