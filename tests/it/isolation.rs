//! Directories do not see each other.

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::people;
use crate::support::world::world;

on_both! {
    no_scim_route_opens_to_nobody_or_to_another_directory,
    ids_of_another_directory_name_nothing,
    directories_may_hold_the_same_names,
    members_of_another_directory_are_nobody,
    a_directory_that_does_not_exist_looks_like_a_wrong_token,
    locations_do_not_follow_what_a_request_says_about_the_host,
}

/// Every SCIM route and method, for ids of the directory that is asked.
fn routes(user: &str, group: &str) -> Vec<(&'static str, String)> {
    let mut routes = Vec::new();
    for path in [
        "/Users".to_owned(),
        format!("/Users/{user}"),
        "/Groups".to_owned(),
        format!("/Groups/{group}"),
        "/ServiceProviderConfig".to_owned(),
        "/Schemas".to_owned(),
        "/Schemas/urn:ietf:params:scim:schemas:core:2.0:User".to_owned(),
        "/ResourceTypes".to_owned(),
        "/ResourceTypes/User".to_owned(),
        "/Bulk".to_owned(),
        "/Me".to_owned(),
        "/nothing/at/all".to_owned(),
        String::new(),
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            routes.push((method, path.clone()));
        }
    }
    routes
}

async fn no_scim_route_opens_to_nobody_or_to_another_directory(app: TestApp) {
    let idp = app.idp().await;
    let user = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&user]).await;
    let stranger = app.idp().await;
    let before = world(&app).await;

    for (method, path) in routes(&user, &group) {
        for token in ["", stranger.token.as_str()] {
            let body = people::user("eve").to_string();
            let body = (method != "GET").then_some(body.as_str());
            let refused = idp.with_token(token).raw(method, &path, &[], body).await;
            assert_eq!(refused.status(), 401, "{method} {path}");
            refused.expect_error(401, "");
            assert!(!refused.text().contains("ada"), "{method} {path}");
        }
    }

    assert_eq!(world(&app).await, before);
}

async fn ids_of_another_directory_name_nothing(app: TestApp) {
    let idp = app.idp().await;
    let user = idp.add_user("ada").await;
    let group = idp.add_group("Engineers", &[&user]).await;
    let other = app.idp().await;
    other.add_user("bob").await;
    let before = world(&app).await;

    let rename = json!([{"op": "replace", "path": "displayName", "value": "Taken"}]);
    for answer in [
        other.user(&user).await,
        other.replace_user(&user, people::user("eve")).await,
        other.patch_user(&user, rename.clone()).await,
        other.delete_user(&user).await,
        other.group(&group).await,
        other
            .replace_group(&group, people::group("Taken", &[]))
            .await,
        other.patch_group(&group, rename).await,
        other.delete_group(&group).await,
        // Nor is the one taken for the other.
        idp.user(&group).await,
        idp.group(&user).await,
    ] {
        answer.expect_error(404, "");
        assert!(!answer.text().contains("ada") && !answer.text().contains("Engineers"));
    }
    for filter in [
        format!("id eq \"{user}\""),
        "userName eq \"ada\"".to_owned(),
        "userName sw \"a\"".to_owned(),
        format!("groups.value eq \"{group}\""),
    ] {
        let found = other.users(&[("filter", &filter)]).await.expect(200);
        assert_eq!(found["totalResults"], 0, "{filter}");
    }
    let found = other
        .groups(&[("filter", &format!("members eq \"{user}\""))])
        .await;
    assert_eq!(found.expect(200)["totalResults"], 0);

    assert_eq!(world(&app).await, before);
}

async fn directories_may_hold_the_same_names(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;

    for idp in [&idp, &other] {
        idp.create_user(people::ada()).await.expect(201);
        idp.add_group("Engineers", &[]).await;
    }

    for idp in [&idp, &other] {
        let users = idp.users(&[]).await.expect(200);
        assert_eq!(users["totalResults"], 1);
    }
}

async fn members_of_another_directory_are_nobody(app: TestApp) {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    let other = app.idp().await;

    let group = other
        .create_group(people::group("Engineers", &[&ada]))
        .await
        .expect(201);

    assert_eq!(group.get("members"), None::<&Value>);
    let read = idp.user(&ada).await.expect(200);
    assert_eq!(read.get("groups"), None::<&Value>);
}

async fn a_directory_that_does_not_exist_looks_like_a_wrong_token(app: TestApp) {
    let idp = app.idp().await;
    let mut elsewhere = idp.clone();
    let last = elsewhere.base_url.pop().unwrap();
    elsewhere.base_url.push(if last == 'a' { 'b' } else { 'a' });

    let nowhere = elsewhere.users(&[]).await;
    let wrong = idp.with_token("wrong").users(&[]).await;

    assert_eq!(nowhere.expect_error(401, ""), wrong.expect_error(401, ""));
}

async fn locations_do_not_follow_what_a_request_says_about_the_host(app: TestApp) {
    let idp = app.idp().await;
    let headers = [
        ("Host", "evil.example"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "host=evil.example;proto=https"),
    ];

    let body = people::user("ada").to_string();
    let created = idp.raw("POST", "/Users", &headers, Some(&body)).await;
    let listed = idp.raw("GET", "/Schemas", &headers, None).await;

    created.expect(201);
    listed.expect(200);
    assert!(
        created
            .header("Location")
            .unwrap()
            .starts_with(&idp.base_url)
    );
    assert!(!created.text().contains("evil") && !listed.text().contains("evil"));
}
