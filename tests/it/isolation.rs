//! Directories do not see each other.

use std::collections::BTreeSet;

use rollcall::ids::DirectoryId;
use rollcall::storage::tables::{events, group_members, groups, memberships, users};
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::people;
use crate::support::world::world;
use crate::support::{Idp, TestApp};

on_both! {
    no_scim_route_opens_to_nobody_or_to_another_directory,
    ids_of_another_directory_name_nothing,
    directories_may_hold_the_same_names,
    members_of_another_directory_are_nobody,
    a_directory_that_does_not_exist_looks_like_a_wrong_token,
    locations_do_not_follow_what_a_request_says_about_the_host,
    nothing_crosses_between_two_directories_that_are_written_to_at_once,
    a_tenant_is_not_turned_away_for_its_neighbour_at_the_same_address
        with [
            ("limits.failed_auth_per_minute", "20"),
            ("trusted_proxies", "127.0.0.0/8"),
        ],
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

/// How many connections write at once, and how often each does.
const CONNECTIONS: usize = 32;
const ROUNDS: usize = 3;

/// A directory and what was there before the others came.
#[derive(Clone)]
struct Tenant {
    idp: Idp,
    prefix: &'static str,
    user: String,
    group: String,
}

impl Tenant {
    async fn new(app: &TestApp, prefix: &'static str) -> Self {
        let idp = app.idp().await;
        let user = idp.add_user(&format!("{prefix}-first")).await;
        let group = idp.add_group(&format!("{prefix}-first"), &[&user]).await;
        Self {
            idp,
            prefix,
            user,
            group,
        }
    }

    /// Writes all that a provider writes, with ids of the other directory wherever ids go.
    async fn write(&self, other: &Self, connection: usize, round: usize) {
        let name = format!("{}-{connection}-{round}", self.prefix);
        let kept = self.idp.add_user(&name).await;
        let gone = self.idp.add_user(&format!("{name}-gone")).await;
        let members = [kept.as_str(), &gone, &other.user, &other.group];
        let group = self.idp.add_group(&name, &members).await;
        let add = json!([
            {"op": "add", "path": "members", "value": [{"value": other.user}, {"value": self.user}]},
        ]);
        let patched = self.idp.patch_group(&group, add).await;
        assert!(matches!(patched.status(), 200 | 204), "{}", patched.text());
        let title = json!([{"op": "replace", "path": "title", "value": name}]);
        self.idp.patch_user(&kept, title.clone()).await.expect(200);
        self.idp.delete_user(&gone).await.expect(204);
        self.trespass(other, &title).await;
    }

    /// Asks for what is the other's, by its ids and at its address.
    async fn trespass(&self, other: &Self, change: &Value) {
        let refused = [
            self.idp.user(&other.user).await,
            self.idp.patch_user(&other.user, change.clone()).await,
            self.idp.delete_user(&other.user).await,
            self.idp.group(&other.group).await,
            self.idp.delete_group(&other.group).await,
        ];
        for answer in refused {
            answer.expect_error(404, "");
        }
        let at_the_other = self.idp.at(&other.idp.base_url);
        let body = people::user("eve");
        at_the_other.create_user(body).await.expect_error(401, "");
    }
}

async fn nothing_crosses_between_two_directories_that_are_written_to_at_once(app: TestApp) {
    let tenants = [
        Tenant::new(&app, "red").await,
        Tenant::new(&app, "blue").await,
    ];

    let mut writers = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let (own, other) = (&tenants[connection % 2], &tenants[(connection + 1) % 2]);
        let (own, other) = (own.clone(), other.clone());
        writers.spawn(async move {
            for round in 0..ROUNDS {
                own.write(&other, connection, round).await;
            }
        });
    }
    writers.join_all().await;

    let ids = [
        resources(&app, &tenants[0]).await,
        resources(&app, &tenants[1]).await,
    ];
    assert!(ids[0].is_disjoint(&ids[1]));
    for (index, tenant) in tenants.iter().enumerate() {
        assert_lists_are_own(tenant).await;
        assert_members_are_own(&app, tenant, &ids[index]).await;
        assert_events_are_own(&app, tenant, &tenants[1 - index], &ids[1 - index]).await;
    }
}

fn directory_id(tenant: &Tenant) -> DirectoryId {
    DirectoryId::parse(&tenant.idp.directory_id).unwrap()
}

/// The ids of all resources that the database holds for a directory; all are its own by name.
async fn resources(app: &TestApp, tenant: &Tenant) -> BTreeSet<String> {
    let reader = app.store().reader();
    let id = directory_id(tenant);
    let users = users::Entity::find().all(reader).await.unwrap();
    let groups = groups::Entity::find().all(reader).await.unwrap();
    let users = users.into_iter().filter(|row| row.directory_id == id);
    let users = users.map(|row| (row.id, row.user_name_key));
    let groups = groups.into_iter().filter(|row| row.directory_id == id);
    let groups = groups.map(|row| (row.id, row.display_name_key));
    let mut ids = BTreeSet::new();
    for (id, name) in users.chain(groups) {
        assert!(
            name.starts_with(tenant.prefix),
            "{name} in {}",
            tenant.prefix
        );
        ids.insert(id.to_string());
    }
    // The first user and group, and of each round one of each.
    assert_eq!(ids.len(), 2 + CONNECTIONS / 2 * ROUNDS * 2);
    ids
}

async fn assert_lists_are_own(tenant: &Tenant) {
    for (listed, name) in [
        (tenant.idp.users(&[("count", "500")]).await, "userName"),
        (tenant.idp.groups(&[("count", "500")]).await, "displayName"),
    ] {
        let listed = listed.expect(200);
        let resources = listed["Resources"].as_array().unwrap();
        assert_eq!(resources.len(), 1 + CONNECTIONS / 2 * ROUNDS);
        assert_eq!(listed["totalResults"], resources.len());
        for resource in resources {
            let name = resource[name].as_str().unwrap();
            assert!(name.starts_with(tenant.prefix), "{name}");
        }
    }
}

async fn assert_members_are_own(app: &TestApp, tenant: &Tenant, own: &BTreeSet<String>) {
    let reader = app.store().reader();
    let id = directory_id(tenant);
    let direct = group_members::Entity::find().all(reader).await.unwrap();
    let direct = direct.into_iter().filter(|row| row.directory_id == id);
    let direct = direct.map(|row| (row.group_id, row.member_id));
    let all = memberships::Entity::find().all(reader).await.unwrap();
    let all = all.into_iter().filter(|row| row.directory_id == id);
    let all = all.map(|row| (row.group_id, row.user_id));
    let mut groups = BTreeSet::new();
    for (group, member) in all.chain(direct) {
        assert!(own.contains(&group.to_string()) && own.contains(&member.to_string()));
        groups.insert(group);
    }
    assert_eq!(groups.len(), 1 + CONNECTIONS / 2 * ROUNDS);
    let read = tenant.idp.members_of(&tenant.group).await;
    assert_eq!(read, std::slice::from_ref(&tenant.user));
    let found = tenant
        .idp
        .users(&[("filter", "title pr")])
        .await
        .expect(200);
    assert_eq!(found["totalResults"], CONNECTIONS / 2 * ROUNDS);
}

/// The events of `tenant` are a story of its own, without a gap, that names nothing of `other`'s.
async fn assert_events_are_own(
    app: &TestApp,
    tenant: &Tenant,
    other: &Tenant,
    strangers: &BTreeSet<String>,
) {
    let all = events::Entity::find()
        .all(app.store().reader())
        .await
        .unwrap();
    let id = directory_id(tenant);
    let mut own: Vec<_> = all
        .iter()
        .filter(|event| event.directory_id == id && event.sequence.is_some())
        .collect();
    own.sort_by_key(|event| event.position);
    assert!(!own.is_empty());
    for (event, sequence) in own.iter().zip(1_i64..) {
        assert_eq!(event.sequence, Some(sequence));
        let subjects = [event.user_id, event.group_id];
        for subject in subjects.into_iter().flatten() {
            assert!(
                !strangers.contains(&subject.to_string()),
                "{}",
                event.payload
            );
        }
        let name = format!("{}-", other.prefix);
        let is_crossed = event.payload.contains(&name)
            || event.payload.contains(&other.idp.directory_id)
            || strangers.iter().any(|id| event.payload.contains(id));
        assert!(!is_crossed, "{}", event.payload);
    }
}

async fn a_tenant_is_not_turned_away_for_its_neighbour_at_the_same_address(app: TestApp) {
    const FORWARDED: [(&str, &str); 1] = [("X-Forwarded-For", "203.0.113.9")];
    let (loud, quiet) = (app.idp().await, app.idp().await);
    let wrong = loud.with_token("wrong");
    let ask = async |idp: &Idp| idp.raw("GET", "/Users", &FORWARDED, None).await.status();

    let mut refused = Vec::new();
    for _ in 0..40 {
        let (loud, quiet) = futures_util::join!(ask(&wrong), ask(&quiet));
        refused.push(loud);
        assert_eq!(quiet, 200);
    }

    assert_eq!(refused[..20], [401; 20]);
    assert_eq!(refused.last(), Some(&429), "{refused:?}");
    // A valid token is not turned away even where the wrong ones are.
    assert_eq!(ask(&loud).await, 200);
    let body = people::user("ada").to_string();
    let written = quiet.raw("POST", "/Users", &FORWARDED, Some(&body)).await;
    written.expect(201);
}
