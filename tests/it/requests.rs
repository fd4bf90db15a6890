//! The request log: what is written down, how it is found, and when it is forgotten.

use rollcall::storage::tables::{events, scim_request_subjects, scim_requests};
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _};
use serde_json::{Value, json};

use crate::support::actors::id_of;
use crate::support::people;
use crate::support::{Answer, Idp, TestApp};

on_both! {
    a_request_is_written_down_with_what_was_asked_and_answered,
    a_request_names_the_events_that_it_caused,
    refused_requests_are_written_down_under_the_directory_of_their_url,
    requests_that_name_no_directory_are_not_written_down,
    no_secret_is_written_down,
    long_bodies_are_cut,
    requests_are_found_by_person,
    requests_are_found_by_group,
    requests_of_bulk_are_found_by_everybody_in_them,
    requests_are_listed_newest_first_a_page_at_a_time,
    requests_are_found_by_what_was_asked_and_answered,
    what_is_wrong_with_a_query_is_named,
    requests_of_a_directory_are_not_seen_through_another,
    a_search_of_very_many_requests_says_where_it_stopped,
    old_requests_are_forgotten with [("requests.retention", "2h")],
    the_oldest_requests_beyond_the_maximum_are_forgotten with [("requests.rows_max", "5")],
    the_requests_of_a_deleted_directory_are_forgotten,
    what_cannot_be_written_down_now_is_written_later,
}

/// The id of the request that was answered so.
fn id(answer: &Answer) -> String {
    answer.header("X-Request-ID").unwrap().to_owned()
}

/// What the API shows of the request that was answered so.
pub(crate) async fn logged(app: &TestApp, directory_id: &str, answer: &Answer) -> Value {
    app.write_down_requests().await;
    let shown = app.vendor().request(directory_id, &id(answer)).await;
    shown.expect(200)
}

/// The ids of the requests that a query finds, newest first.
async fn found(app: &TestApp, idp: &Idp, query: &[(&str, &str)]) -> Vec<String> {
    app.write_down_requests().await;
    let list = app.vendor().requests(&idp.directory_id, query).await;
    let list = list.expect(200);
    list["data"].as_array().unwrap().iter().map(id_of).collect()
}

async fn a_request_is_written_down_with_what_was_asked_and_answered(app: TestApp) {
    let idp = app.idp().await;
    let headers = [("User-Agent", "Okta SCIM Client 1.0.0")];
    let body = people::ada().to_string();

    let created = idp.raw("POST", "/Users", &headers, Some(&body)).await;
    let found = idp
        .users(&[("filter", "userName eq \"ada@example.com\"")])
        .await;
    let missing = idp.user("01a9fbd0-5d7c-7d3a-8000-000000000001").await;

    let shown = logged(&app, &idp.directory_id, &created).await;
    let base = idp.base_url.strip_prefix(app.url()).unwrap();
    assert_eq!(shown["object"], "directory_request");
    assert_eq!(shown["id"], id(&created));
    assert_eq!(shown["directory_id"], idp.directory_id);
    assert_eq!(shown["created_at"], "2026-01-15T12:00:00.000Z");
    assert_eq!(shown["method"], "POST");
    assert_eq!(shown["path"], format!("{base}/Users"));
    assert_eq!(shown["status"], 201);
    assert_eq!(shown["user_agent"], "Okta SCIM Client 1.0.0");
    assert_eq!(shown["address"], "127.0.0.1");
    assert!(shown["duration_ms"].as_i64().is_some_and(|took| took >= 0));
    let tokens = app.vendor().tokens(&idp.directory_id).await.expect(200);
    assert_eq!(shown["token_id"], tokens["data"][0]["id"]);
    assert_eq!(shown["token_suffix"], tokens["data"][0]["token_suffix"]);
    let sent: Value = serde_json::from_str(shown["request_body"].as_str().unwrap()).unwrap();
    assert_eq!(sent, people::ada());
    for field in [
        "response_body",
        "explanation",
        "situation",
        "scim_type",
        "detail",
    ] {
        assert!(shown[field].is_null(), "{field}");
    }
    let shown = logged(&app, &idp.directory_id, &found).await;
    let query = "filter=userName+eq+%22ada%40example.com%22";
    assert_eq!(shown["path"], format!("{base}/Users?{query}"));
    assert!(shown["explanation"].is_null() && shown["request_body"].is_null());
    let shown = logged(&app, &idp.directory_id, &missing).await;
    assert_eq!(shown["response_body"], missing.text());
    assert_eq!(shown["detail"], missing.json()["detail"]);
}

async fn a_request_names_the_events_that_it_caused(app: TestApp) {
    let idp = app.idp().await;
    let first = idp.create_user(people::user("ada")).await;
    let again = idp.create_user(people::user("ada")).await;

    let events = events::Entity::find()
        .filter(events::Column::Sequence.is_not_null())
        .all(app.store().reader())
        .await
        .unwrap();
    let events: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();

    assert_eq!(
        logged(&app, &idp.directory_id, &first).await["event_ids"],
        json!(events)
    );
    let shown = logged(&app, &idp.directory_id, &again).await;
    assert_eq!(shown["event_ids"], json!([]));
    assert_eq!(
        (&shown["status"], &shown["scim_type"]),
        (&json!(409), &json!("uniqueness"))
    );
}

async fn refused_requests_are_written_down_under_the_directory_of_their_url(app: TestApp) {
    let idp = app.idp().await;
    let vendor = app.vendor();
    let settings = json!({"label": "acme", "host_name": "scim.acme.example"});
    vendor
        .configure_directory(&idp.directory_id, settings)
        .await
        .expect(200);
    let stranger = idp.with_token("wrong");
    let by_label = stranger.at(&format!("{}/scim/v2/ACME", app.url()));
    let by_host = stranger.at(&format!("{}/scim/v2", app.url()));
    let host = [("Host", "scim.acme.example")];

    for (answer, status) in [
        (stranger.users(&[]).await, 401),
        (by_label.users(&[]).await, 401),
        (by_host.raw("GET", "/Users", &host, None).await, 401),
        (idp.with_token("").users(&[]).await, 401),
        (idp.raw("GET", "/nothing/at/all", &[], None).await, 404),
        (idp.raw("DELETE", "/Users", &[], None).await, 405),
        (idp.raw("POST", "/Users", &[], Some("{")).await, 400),
        (
            idp.raw("POST", "/Users", &[("Content-Type", "text/plain")], None)
                .await,
            415,
        ),
    ] {
        assert_eq!(answer.status(), status);
        let shown = logged(&app, &idp.directory_id, &answer).await;
        assert_eq!(shown["status"], status);
        assert_eq!(shown["response_body"], answer.text());
        assert!(shown["explanation"].is_object(), "{shown}");
    }
}

async fn requests_that_name_no_directory_are_not_written_down(app: TestApp) {
    let idp = app.idp().await;

    for base in ["/scim/v2/nobody", "/scim/v2", "/scim/v2/a_b"] {
        let lost = idp.at(&format!("{}{base}", app.url()));
        lost.users(&[]).await.expect_error(401, "");
    }
    app.write_down_requests().await;

    let rows = scim_requests::Entity::find()
        .all(app.store().reader())
        .await
        .unwrap();
    assert_eq!(rows, []);
}

async fn no_secret_is_written_down(app: TestApp) {
    let idp = app.idp().await;
    let vendor = app.vendor();
    let made = vendor
        .create_token(&idp.directory_id, json!({}))
        .await
        .expect(201);
    let other = made["token"].as_str().unwrap();
    let key = vendor
        .create_api_key(json!({"name": "another"}))
        .await
        .expect(201);
    let key = key["key"].as_str().unwrap();
    let user = idp.add_user("ada").await;

    let secrets = [idp.token.as_str(), other, key, "hunter2"];
    for (number, secret) in secrets.into_iter().enumerate() {
        let mut person = people::user(&format!("user {number}"));
        person["title"] = secret.replace("hunter2", "").into();
        person["password"] = secret.into();
        idp.create_user(person).await.expect(201);
        for path in [
            "password",
            "urn:ietf:params:scim:schemas:core:2.0:User:password",
        ] {
            let set = json!([{"op": "replace", "path": path, "value": secret}]);
            idp.patch_user(&user, set).await.expect(200);
        }
        let broken = format!("{{\"userName\": \"x\", \"password\": \"{secret}\"");
        idp.raw("POST", "/Users", &[], Some(&broken))
            .await
            .expect_error(400, "invalidSyntax");
        idp.users(&[("access_token", secret)]).await.expect(200);
        let filter = format!("password eq \"{secret}\"");
        idp.users(&[("filter", &filter)]).await;
        let search = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], "filter": filter,
        });
        idp.raw("POST", "/Users/.search", &[], Some(&search.to_string()))
            .await;
        let agent = [("User-Agent", secret)];
        if secret != "hunter2" {
            idp.raw("GET", &format!("/Users/{secret}"), &agent, None)
                .await
                .expect(404);
            let name = format!("userName eq \"{secret}\"");
            idp.users(&[("filter", &name)]).await.expect(200);
            idp.create_user(people::user(secret)).await;
        }
        idp.with_token(secret).users(&[]).await;
        let basic = format!("Basic {secret}");
        let basic = [("Authorization", basic.as_str())];
        idp.with_token("")
            .raw("GET", "/Users", &basic, None)
            .await
            .expect(401);
    }
    app.write_down_requests().await;

    let rows = scim_requests::Entity::find()
        .all(app.store().reader())
        .await
        .unwrap();
    let subjects = scim_request_subjects::Entity::find();
    let subjects = subjects.all(app.store().reader()).await.unwrap();
    assert!(rows.len() > 30 && subjects.len() > 10);
    let text = format!("{rows:?} {subjects:?}").to_lowercase();
    for secret in secrets {
        assert!(!text.contains(&secret.to_lowercase()), "{secret} in {text}");
    }
}

async fn long_bodies_are_cut(app: TestApp) {
    let idp = app.idp().await;
    let mut person = people::user("ada");
    person["title"] = "é".repeat(20_000).into();

    let answer = idp.create_user(person).await;

    let shown = logged(&app, &idp.directory_id, &answer).await;
    let body = shown["request_body"].as_str().unwrap();
    assert!((16_000..16_500).contains(&body.len()), "{}", body.len());
    assert!(body.ends_with("… (cut)"));
}

async fn requests_are_found_by_person(app: TestApp) {
    let idp = app.idp().await;
    let looked = idp
        .users(&[("filter", "userName eq \"ADA@example.com\"")])
        .await;
    let created = idp.create_user(people::ada()).await;
    let user = id_of(&created.expect(201));
    let bob = idp.create_user(people::user("bob")).await;
    let refused = idp.create_user(people::ada()).await;
    let active = json!([{"op": "replace", "path": "active", "value": "False"}]);
    let disabled = idp.patch_user(&user, active).await;
    let read = idp.user(&user).await;
    let group = id_of(
        &idp.create_group(people::group("Engineers", &[]))
            .await
            .expect(201),
    );
    let add = json!([{"op": "add", "path": "members", "value": [{"value": user}]}]);
    let joined = idp.patch_group(&group, add).await;
    let by_mail = idp.users(&[(
        "filter",
        "emails[type eq \"work\"].value eq \"ada@example.com\"",
    )]);
    let by_mail = by_mail.await;

    let all = [
        &by_mail, &joined, &read, &disabled, &refused, &created, &looked,
    ];
    let all: Vec<String> = all.into_iter().map(id).collect();
    for name in ["ada@example.com", "ADA@EXAMPLE.COM"] {
        assert_eq!(found(&app, &idp, &[("person", name)]).await, all, "{name}");
    }
    let known = [&joined, &read, &disabled, &refused, &created].map(id);
    for name in ["ada@home.example", "00u1"] {
        assert_eq!(
            found(&app, &idp, &[("person", name)]).await,
            known,
            "{name}"
        );
    }
    let by_id = found(&app, &idp, &[("person", &user)]).await;
    assert_eq!(by_id, [&joined, &read, &disabled, &created].map(id));
    assert_eq!(found(&app, &idp, &[("person", "BOB")]).await, [id(&bob)]);
    let page = [("person", "00u1"), ("limit", "2"), ("after", &known[1])];
    assert_eq!(found(&app, &idp, &page).await, known[2..4]);
    let filtered = [("person", "00u1"), ("status", "error")];
    assert_eq!(found(&app, &idp, &filtered).await, [id(&refused)]);
    assert!(found(&app, &idp, &[("person", "nobody")]).await.is_empty());

    // Who has been deleted is still found by what was sent.
    idp.delete_user(&user).await.expect(204);
    let created_and_refused = [&refused, &created].map(id);
    assert_eq!(
        found(&app, &idp, &[("person", "00u1")]).await,
        created_and_refused
    );
}

async fn requests_are_found_by_group(app: TestApp) {
    let idp = app.idp().await;
    let body = json!({"displayName": "Engineers", "externalId": "g-1"});
    let created = idp.create_group(body).await;
    let group = id_of(&created.expect(201));
    let rename = json!([{"op": "replace", "path": "displayName", "value": "Builders"}]);
    let renamed = idp.patch_group(&group, rename).await;
    let deleted = idp.delete_group(&group).await;
    idp.create_group(people::group("Others", &[]))
        .await
        .expect(201);

    assert_eq!(
        found(&app, &idp, &[("group", "ENGINEERS")]).await,
        [id(&created)]
    );
    assert_eq!(
        found(&app, &idp, &[("group", "builders")]).await,
        [id(&renamed)]
    );
    assert_eq!(found(&app, &idp, &[("group", "g-1")]).await, [id(&created)]);
    let by_id = found(&app, &idp, &[("group", &group)]).await;
    assert_eq!(by_id, [&deleted, &renamed, &created].map(id));
}

async fn requests_of_bulk_are_found_by_everybody_in_them(app: TestApp) {
    let idp = app.idp().await;
    let user = idp.add_user("old").await;
    let bulk = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
        "Operations": [
            {"method": "POST", "path": "/Users", "bulkId": "1", "data": people::user("Ada")},
            {"method": "POST", "path": "/Groups", "bulkId": "2", "data": people::group("Builders", &[])},
            {"method": "DELETE", "path": format!("/Users/{user}")},
        ],
    });
    let bulk = idp.raw("POST", "/Bulk", &[], Some(&bulk.to_string())).await;
    let location = bulk.expect(200)["Operations"][0]["location"].clone();
    let made = location.as_str().unwrap().rsplit('/').next().unwrap();

    for query in [
        ("person", "ada"),
        ("person", made),
        ("group", "builders"),
        ("group", "Builders"),
    ] {
        assert_eq!(found(&app, &idp, &[query]).await, [id(&bulk)], "{query:?}");
    }
    let by_id = found(&app, &idp, &[("person", &user)]).await;
    assert_eq!(by_id.first(), Some(&id(&bulk)));
}

async fn requests_are_listed_newest_first_a_page_at_a_time(app: TestApp) {
    let idp = app.idp().await;
    let mut all = Vec::new();
    for _ in 0..13 {
        all.insert(0, id(&idp.users(&[]).await));
    }
    let vendor = app.vendor();

    assert_eq!(found(&app, &idp, &[]).await, all[..10]);
    let first = vendor
        .requests(&idp.directory_id, &[("limit", "5")])
        .await
        .expect(200);
    assert_eq!(first["object"], "list");
    let expected = json!({"before": null, "after": all[4], "is_cut": false});
    assert_eq!(first["list_metadata"], expected);
    let query = [("limit", "5"), ("after", all[4].as_str())];
    let second = vendor.requests(&idp.directory_id, &query).await.expect(200);
    let expected = json!({"before": all[5], "after": all[9], "is_cut": false});
    assert_eq!(second["list_metadata"], expected);
    let query = [("limit", "5"), ("after", all[9].as_str())];
    let third = vendor.requests(&idp.directory_id, &query).await.expect(200);
    assert_eq!(third["data"].as_array().unwrap().len(), 3);
    assert!(third["list_metadata"]["after"].is_null());
    let query = [("limit", "5"), ("before", all[10].as_str())];
    assert_eq!(found(&app, &idp, &query).await, all[5..10]);
    let query = [("limit", "5"), ("before", all[3].as_str())];
    let newest = vendor.requests(&idp.directory_id, &query).await.expect(200);
    assert_eq!(newest["data"].as_array().unwrap().len(), 3);
    let expected = json!({"before": null, "after": all[2], "is_cut": false});
    assert_eq!(newest["list_metadata"], expected);
}

async fn requests_are_found_by_what_was_asked_and_answered(app: TestApp) {
    let idp = app.idp().await;
    let list = id(&idp.users(&[]).await);
    app.advance_seconds(60);
    let made = idp.create_user(people::user("ada")).await;
    let taken = id(&idp.create_user(people::user("ada")).await);
    app.advance_seconds(60);
    let gone = id(&idp.delete_user("nobody").await);
    let made = id(&made);

    for (query, expected) in [
        (vec![("status", "409")], vec![&taken]),
        (vec![("status", "4xx")], vec![&gone, &taken]),
        (vec![("status", "error")], vec![&gone, &taken]),
        (vec![("status", "5xx")], vec![]),
        (vec![("status", "2xx")], vec![&made, &list]),
        (vec![("method", "post")], vec![&taken, &made]),
        (vec![("path", "/Users/nobody")], vec![&gone]),
        (
            vec![("since", "2026-01-15T12:01:00Z")],
            vec![&gone, &taken, &made],
        ),
        (vec![("until", "2026-01-15T12:01:00Z")], vec![&list]),
        (
            vec![
                ("since", "2026-01-15T13:00:30+01:00"),
                ("until", "2026-01-15T12:02:00Z"),
            ],
            vec![&taken, &made],
        ),
        (
            vec![("since", "2026-01-15T12:00:30Z"), ("method", "DELETE")],
            vec![&gone],
        ),
        (
            vec![("before", list.as_str()), ("until", "2026-01-15T12:02:00Z")],
            vec![&taken, &made],
        ),
    ] {
        let found = found(&app, &idp, &query).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query:?}");
    }
}

async fn what_is_wrong_with_a_query_is_named(app: TestApp) {
    let idp = app.idp().await;
    let vendor = app.vendor();
    let long = "x".repeat(1_025);

    for query in [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "many"),
        ("after", "req_1"),
        ("before", ""),
        ("status", "6xx"),
        ("status", "99"),
        ("status", "-4xx"),
        ("since", "yesterday"),
        ("person", ""),
        ("person", &long),
        ("path", "\0"),
        ("stauts", "404"),
    ] {
        let refused = vendor
            .requests(&idp.directory_id, &[query])
            .await
            .expect(422);
        assert_eq!(refused["errors"][0]["field"], query.0, "{query:?}");
    }
    let both = [("person", "x"), ("group", "y")];
    vendor.requests(&idp.directory_id, &both).await.expect(422);
    vendor
        .requests("directory_01ARZ3NDEKTSV4RRFFQ69G5FAV", &[])
        .await
        .expect(404);
    for id in ["req_1", "req_01ARZ3NDEKTSV4RRFFQ69G5FAV"] {
        vendor.request(&idp.directory_id, id).await.expect(404);
    }
}

async fn requests_of_a_directory_are_not_seen_through_another(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;
    let answer = idp.create_user(people::ada()).await;

    assert!(found(&app, &other, &[]).await.is_empty());
    assert!(
        found(&app, &other, &[("person", "ada@example.com")])
            .await
            .is_empty()
    );
    let shown = app
        .vendor()
        .request(&other.directory_id, &id(&answer))
        .await;
    shown.expect(404);
}

async fn a_search_of_very_many_requests_says_where_it_stopped(app: TestApp) {
    let idp = app.idp().await;
    let oldest = id(&idp.raw("GET", "/nothing", &[], None).await);
    let newest = id(&idp.users(&[]).await);
    app.write_down_requests().await;
    // Between both, so many others.
    let row = scim_requests::Entity::find()
        .all(app.store().reader())
        .await
        .unwrap();
    let row = row
        .into_iter()
        .find(|row| row.id.to_string() == newest)
        .unwrap();
    let rows: Vec<_> = (1..11_000_u128)
        .map(|less| {
            let uuid = uuid::Uuid::from_u128(row.id.uuid().as_u128() - less);
            let other = scim_requests::Model {
                id: uuid.into(),
                ..row.clone()
            };
            scim_requests::ActiveModel::from(other)
        })
        .collect();
    for rows in rows.chunks(500) {
        let rows = scim_requests::Entity::insert_many(rows.to_vec());
        rows.exec_without_returning(app.store().statement_connection())
            .await
            .unwrap();
    }

    let vendor = app.vendor();
    let query = ("status", "404");
    let first = vendor
        .requests(&idp.directory_id, &[query])
        .await
        .expect(200);
    assert_eq!(first["data"], json!([]));
    assert_eq!(first["list_metadata"]["is_cut"], true);
    let after = first["list_metadata"]["after"].as_str().unwrap();
    let second = vendor
        .requests(&idp.directory_id, &[query, ("after", after)])
        .await;
    let second = second.expect(200);
    assert_eq!(second["data"][0]["id"], oldest);
    assert_eq!(second["list_metadata"]["is_cut"], false);
}

/// How many rows the two tables have.
async fn rows(app: &TestApp) -> [usize; 2] {
    let requests = scim_requests::Entity::find()
        .all(app.store().reader())
        .await;
    let subjects = scim_request_subjects::Entity::find()
        .all(app.store().reader())
        .await;
    [requests.unwrap().len(), subjects.unwrap().len()]
}

async fn old_requests_are_forgotten(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;
    idp.create_user(people::ada()).await.expect(201);
    other.create_user(people::ada()).await.expect(201);
    app.advance_seconds(3_600);
    let kept = [id(&other.create_user(people::user("bob")).await)];
    app.write_down_requests().await;
    assert_eq!(app.forget_requests().await, 0);

    app.advance_seconds(3_601);

    assert_eq!(app.forget_requests().await, 2);
    assert_eq!(rows(&app).await, [1, 2]);
    assert!(found(&app, &idp, &[]).await.is_empty());
    assert_eq!(found(&app, &other, &[("person", "bob")]).await, kept);
}

async fn the_oldest_requests_beyond_the_maximum_are_forgotten(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;
    let mut all = Vec::new();
    for number in 0..8 {
        let name = format!("user-{number}");
        all.insert(0, id(&idp.create_user(people::user(&name)).await));
    }
    other.users(&[]).await.expect(200);
    app.write_down_requests().await;

    assert_eq!(app.forget_requests().await, 3);

    assert_eq!(found(&app, &idp, &[]).await, all[..5]);
    assert_eq!(rows(&app).await, [6, 10]);
    assert_eq!(app.forget_requests().await, 0);
}

async fn the_requests_of_a_deleted_directory_are_forgotten(app: TestApp) {
    let idp = app.idp().await;
    let other = app.idp().await;
    idp.create_user(people::ada()).await.expect(201);
    let kept = [id(&other.create_user(people::ada()).await)];
    app.write_down_requests().await;

    app.vendor()
        .end_directory(&idp.directory_id)
        .await
        .expect(202);

    assert_eq!(app.forget_requests().await, 1);
    assert_eq!(found(&app, &other, &[]).await, kept);
}

async fn what_cannot_be_written_down_now_is_written_later(app: TestApp) {
    let idp = app.idp().await;
    let connection = app.store().statement_connection();
    let rename = |from: &str, to: &str| format!("ALTER TABLE {from} RENAME TO {to}");
    let hide = rename("scim_requests", "hidden");
    connection.execute_unprepared(&hide).await.unwrap();

    let made = idp.create_user(people::user("ada")).await;
    made.expect(201);
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    let show = rename("hidden", "scim_requests");
    connection.execute_unprepared(&show).await.unwrap();

    assert_eq!(found(&app, &idp, &[]).await, [id(&made)]);
}
