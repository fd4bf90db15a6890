//! Lists: filters, pages and parts.

use serde_json::{Value, json};

use crate::support::people;
use crate::support::{Idp, TestApp};

/// The userNames of a list, in its order.
async fn names(idp: &Idp, query: &[(&str, &str)]) -> Vec<String> {
    let list = idp.users(query).await.expect(200);
    let resources = list["Resources"].as_array().unwrap().clone();
    let name = |user: &Value| user["userName"].as_str().unwrap().to_owned();
    resources.iter().map(name).collect()
}

async fn filtered(idp: &Idp, filter: &str) -> Vec<String> {
    names(idp, &[("filter", filter)]).await
}

on_both! {
    an_empty_list_is_a_list,
    pages_follow_one_another_without_gap_or_overlap,
    odd_counts_and_indexes_are_clamped_and_nonsense_is_refused,
    filters_that_providers_send_find_who_is_meant,
    a_user_is_found_by_its_id_together_with_more,
    a_filter_that_is_none_is_refused_and_says_why,
    parameters_that_nobody_knows_are_ignored,
    a_list_shows_the_attributes_that_were_asked_for,
}

async fn an_empty_list_is_a_list(app: TestApp) {
    let idp = app.idp().await;

    let users = idp.raw("GET", "/Users", &[], None).await;
    let groups = idp.raw("GET", "/Groups", &[], None).await;

    for list in [users, groups] {
        assert_eq!(list.header("Content-Type"), Some("application/scim+json"));
        assert_eq!(
            list.expect(200),
            json!({
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
                "totalResults": 0, "startIndex": 1, "itemsPerPage": 0, "Resources": [],
            })
        );
    }
}

async fn pages_follow_one_another_without_gap_or_overlap(app: TestApp) {
    let idp = app.idp().await;
    let all: Vec<String> = (0..7).map(|number| format!("user{number}")).collect();
    for name in &all {
        idp.add_user(name).await;
    }

    let mut seen = Vec::new();
    for start in ["1", "4", "7"] {
        seen.extend(names(&idp, &[("startIndex", start), ("count", "3")]).await);
    }
    let last = idp
        .users(&[("startIndex", "7"), ("count", "3")])
        .await
        .expect(200);
    let beyond = idp
        .users(&[("startIndex", "8"), ("count", "3")])
        .await
        .expect(200);

    assert_eq!(seen, all);
    assert_eq!(
        (&last["totalResults"], &last["startIndex"]),
        (&json!(7), &json!(7))
    );
    assert_eq!(last["itemsPerPage"], 1);
    assert_eq!(
        (&beyond["totalResults"], &beyond["itemsPerPage"]),
        (&json!(7), &json!(0))
    );
}

async fn odd_counts_and_indexes_are_clamped_and_nonsense_is_refused(app: TestApp) {
    let idp = app.idp().await;
    idp.add_user("ada").await;

    let none = idp.users(&[("count", "0")]).await.expect(200);
    let negative = idp
        .users(&[("count", "-5"), ("startIndex", "-1")])
        .await
        .expect(200);
    let nonsense = idp.users(&[("count", "many")]).await;

    assert_eq!(
        (&none["totalResults"], &none["Resources"]),
        (&json!(1), &json!([]))
    );
    assert_eq!(
        (&negative["totalResults"], &negative["Resources"]),
        (&json!(1), &json!([]))
    );
    assert_eq!(negative["startIndex"], 1);
    nonsense.expect_error(400, "invalidValue");
}

async fn filters_that_providers_send_find_who_is_meant(app: TestApp) {
    let idp = app.idp().await;
    idp.create_user(people::ada()).await.expect(201);
    idp.create_user(json!({"userName": "Zoë@example.com", "externalId": "E2", "active": false}))
        .await
        .expect(201);

    for (filter, found) in [
        ("userName eq \"ADA@example.com\"", vec!["ada@example.com"]),
        ("username Eq \"ada@example.com\"", vec!["ada@example.com"]),
        ("userName eq \"ZOË@EXAMPLE.COM\"", vec!["Zoë@example.com"]),
        (
            "userName eq \"zo\\u00eb@example.com\"",
            vec!["Zoë@example.com"],
        ),
        ("externalId eq \"E2\"", vec!["Zoë@example.com"]),
        ("externalId eq \"e2\"", vec![]),
        (
            "emails[type eq \"work\"].value eq \"ada@example.com\"",
            vec!["ada@example.com"],
        ),
        (
            "emails[type eq \"work\"].value eq \"ada@home.example\"",
            vec![],
        ),
        (
            "emails.value eq \"ADA@home.example\"",
            vec!["ada@example.com"],
        ),
        ("emails eq \"ada@home.example\"", vec!["ada@example.com"]),
        ("displayName eq \"ada lovelace\"", vec!["ada@example.com"]),
        ("name.familyName sw \"love\"", vec!["ada@example.com"]),
        ("active eq false", vec!["Zoë@example.com"]),
        ("not (active eq true)", vec!["Zoë@example.com"]),
        (
            "title pr and active eq true or externalId eq \"E2\"",
            vec!["ada@example.com", "Zoë@example.com"],
        ),
        (
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq \"engines\"",
            vec!["ada@example.com"],
        ),
        ("userName co \"%\"", vec![]),
        ("userName co \"_\"", vec![]),
        (
            "meta.created gt \"2026-01-15T11:59:59Z\" and userName sw \"ada\"",
            vec!["ada@example.com"],
        ),
    ] {
        assert_eq!(filtered(&idp, filter).await, found, "{filter}");
    }
}

async fn a_user_is_found_by_its_id_together_with_more(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let bob = idp.add_user("bob").await;
    let group = idp.add_group("Engineers", &[&ada]).await;

    let by_id = filtered(&idp, &format!("id eq \"{ada}\"")).await;
    let both = filtered(&idp, &format!("id eq \"{ada}\" and userName eq \"bob\"")).await;
    let in_group = filtered(&idp, &format!("groups.value eq \"{group}\"")).await;
    let member = |user: &str| format!("id eq \"{group}\" and members eq \"{user}\"");
    let is_member = idp
        .groups(&[("filter", &member(&ada)), ("attributes", "id")])
        .await;
    let is_not = idp
        .groups(&[("filter", &member(&bob)), ("attributes", "id")])
        .await;

    assert_eq!(by_id, ["ada"]);
    assert!(both.is_empty());
    assert_eq!(in_group, ["ada"]);
    assert_eq!(is_member.expect_one()["id"], group);
    assert_eq!(is_not.expect(200)["totalResults"], 0);
}

async fn a_filter_that_is_none_is_refused_and_says_why(app: TestApp) {
    let idp = app.idp().await;

    for filter in [
        "userName",
        "userName eq",
        "userName eq ada",
        "userName is \"ada\"",
        "(userName eq \"ada\"",
        "userName eq \"ada\" and",
        "active gt true",
        "emails[type eq \"work\"",
    ] {
        idp.users(&[("filter", filter)])
            .await
            .expect_error(400, "invalidFilter");
    }
    let deep = format!("{}userName pr{}", "(".repeat(1_000), ")".repeat(1_000));
    idp.users(&[("filter", &deep)])
        .await
        .expect_error(400, "invalidFilter");
}

async fn parameters_that_nobody_knows_are_ignored(app: TestApp) {
    let idp = app.idp().await;
    idp.add_user("ada").await;

    let list = idp.raw(
        "GET",
        "/Users?aadOptscim062020&x=1&filter=userName+eq+%22ada%22&",
        &[],
        None,
    );

    list.await.expect_one();
}

async fn a_list_shows_the_attributes_that_were_asked_for(app: TestApp) {
    let idp = app.idp().await;
    idp.create_user(people::ada()).await.expect(201);

    let some = idp
        .users(&[("attributes", "USERNAME,name.familyName")])
        .await
        .expect_one();
    let others = idp
        .users(&[("excludedAttributes", "id,emails")])
        .await
        .expect_one();

    let mut names: Vec<&String> = some.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["id", "name", "schemas", "userName"]);
    assert_eq!(some["name"], json!({"familyName": "Lovelace"}));
    assert!(others.get("emails").is_none());
    assert!(others.get("id").is_some());
}
