//! `/admin/v1/erasures`.

use std::sync::Arc;
use std::time::Duration;

use rollcall::requests::Subject;
use rollcall::storage::Store;
use rollcall::storage::dialect::Dialect;
use rollcall::storage::tables::{attempts, audit_entries, directories, exceptions, scim_requests};
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait};
use serde_json::{Value, json};

use super::fields;
use super::scene::{now, request, set, write};
use crate::support::actors::id_of;
use crate::support::people::{group, user};
use crate::support::receiver::{Receiver, Reply};
use crate::support::waiting::eventually;
use crate::support::{Idp, TestApp, world};

on_both! {
    nothing_in_the_database_says_who_an_erased_person_was,
    an_erased_persons_story_stays_whole_and_in_order,
    somebody_who_was_deleted_before_is_erased_too,
    an_erasure_bypasses_who_manages_the_directory_and_is_on_record,
    an_erasure_says_whom_and_where,
    what_a_receiver_repeated_is_erased with [("node.dispatcher", "true")],
}

/// What only one person has.
const NAMES: [&str; 6] = [
    "zebulon",
    "quartermain",
    "x-4711",
    "zq@",
    "harbourmaster",
    "old-name",
];
const SOON: Duration = Duration::from_secs(20);

fn person() -> Value {
    let mut person = user("Zebulon@example.com");
    person["externalId"] = json!("X-4711");
    person["name"] = json!({"givenName": "Zebulon", "familyName": "Quartermain"});
    person["displayName"] = json!("Zebulon Quartermain");
    person["title"] = json!("Harbourmaster");
    person["emails"] = json!([{"value": "zebulon@example.com", "primary": true},
        {"value": "zq@home.example"}]);
    person
}

/// A person with a story: renamed, and in a group.
async fn add_person(idp: &Idp) -> String {
    let mut first = person();
    first["userName"] = json!("old-name@example.com");
    let id = id_of(&idp.create_user(first).await.expect(201));
    let members = idp.create_group(group("Sailors", &[&id])).await;
    members.expect(201);
    idp.replace_user(&id, person()).await.expect(200);
    id
}

/// Every column of every table that holds one of the names.
async fn columns_with_names(store: &Store) -> Vec<String> {
    let mut found = Vec::new();
    for (table, column) in columns(store).await {
        for name in NAMES {
            let sql = format!(
                "SELECT count(*) AS number FROM \"{table}\" \
                 WHERE lower(CAST(\"{column}\" AS text)) LIKE '%{name}%'"
            );
            let row = store
                .reader()
                .query_one_raw(store.dialect().statement(&sql, []));
            let row = row.await.unwrap().unwrap();
            if row.try_get::<i64>("", "number").unwrap() > 0 {
                found.push(format!("{table}.{column} has {name}"));
            }
        }
    }
    found
}

/// All columns that can hold text.
async fn columns(store: &Store) -> Vec<(String, String)> {
    let sql = match store.dialect() {
        Dialect::Sqlite => {
            "SELECT m.name AS t, c.name AS c FROM sqlite_master m \
             JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
        }
        Dialect::Postgres => {
            "SELECT table_name::text AS t, column_name::text AS c FROM information_schema.columns \
             WHERE table_schema = current_schema() AND data_type <> 'bytea'"
        }
    };
    let rows = store
        .reader()
        .query_all_raw(store.dialect().statement(sql, []));
    let rows = rows.await.unwrap();
    assert!(rows.len() > 100, "{}", rows.len());
    let names = rows
        .iter()
        .map(|row| (row.try_get("", "t").unwrap(), row.try_get("", "c").unwrap()));
    names.collect()
}

/// A request that says everything about the person.
fn telling(app: &TestApp, idp: &Idp) -> scim_requests::Model {
    scim_requests::Model {
        path: "/Users?filter=userName%20eq%20%22zebulon@example.com%22".to_owned(),
        detail: Some("userName zebulon@example.com is taken".to_owned()),
        request_body: Some(person().to_string()),
        response_body: Some(person().to_string()),
        ..request(app, &idp.directory_id, 409)
    }
}

async fn erase(app: &TestApp, email: &str, idp: &Idp) -> Value {
    let body = json!({"email": email, "directory": idp.directory_id});
    let list = app.vendor().erase(body).await.expect(201);
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    list["data"][0].clone()
}

async fn nothing_in_the_database_says_who_an_erased_person_was(app: TestApp) {
    let idp = app.idp().await;
    let id = add_person(&idp).await;
    let user_id = world::last_event(&app, &idp.directory_id).await["data"]["id"].clone();
    let caused = world::events(&app, &idp.directory_id).await[1]
        .request_id
        .unwrap();
    let by_name = vec![Subject::UserName("zebulon@example.com".to_owned())];
    write(&app, telling(&app, &idp), by_name).await;
    let by_others = vec![
        Subject::Email("zq@home.example".to_owned()),
        Subject::ExternalId("X-4711".to_owned()),
        Subject::UserName("old-name@example.com".to_owned()),
        Subject::Resource(rollcall::ids::ResourceId::parse(&id).unwrap()),
    ];
    write(&app, telling(&app, &idp), by_others).await;
    let creation = scim_requests::Model {
        id: caused,
        ..telling(&app, &idp)
    };
    // Was it written down by the server itself?
    let is_new = scim_requests::Entity::find_by_id((creation.directory_id, caused))
        .one(app.store().reader())
        .await
        .unwrap()
        .is_none();
    if is_new {
        write(&app, creation, Vec::new()).await;
    }
    assert!(
        columns_with_names(app.store()).await.len() > 20,
        "the search finds what is there"
    );

    let receipt = erase(&app, "ZQ@home.example", &idp).await;

    assert_eq!(columns_with_names(app.store()).await, Vec::<String>::new());
    assert_eq!(receipt["object"], "erasure");
    assert_eq!(
        (&receipt["directory_id"], &receipt["user_id"]),
        (&json!(idp.directory_id), &user_id)
    );
    // Created, added, renamed, removed, deleted.
    assert_eq!(receipt["events"], 5);
    assert!(receipt["requests"].as_i64().unwrap() >= 3, "{receipt}");
    assert_eq!(receipt["erased_at"], "2026-01-15T12:00:00.000Z");
    let kept = scim_requests::Entity::find()
        .all(app.store().reader())
        .await
        .unwrap();
    let kept = kept
        .iter()
        .filter(|row| row.status == 409 && row.path == "/Users");
    assert_eq!(kept.count(), 3 - usize::from(!is_new));
    let again = json!({"email": "zebulon@example.com", "directory": idp.directory_id});
    app.vendor().erase(again).await.expect(404);
}

async fn an_erased_persons_story_stays_whole_and_in_order(app: TestApp) {
    let idp = app.idp().await;
    add_person(&idp).await;
    idp.add_user("other").await;
    let before = world::events(&app, &idp.directory_id).await;

    erase(&app, "zebulon@example.com", &idp).await;

    let after = world::events(&app, &idp.directory_id).await;
    let sequences: Vec<i64> = after.iter().filter_map(|event| event.sequence).collect();
    let gapless: Vec<i64> = (1..).take(before.len() + 2).collect();
    assert_eq!(sequences, gapless);
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(
            (old.position, old.id, &old.kind),
            (new.position, new.id, &new.kind)
        );
        let (old, new): (Value, Value) = (
            serde_json::from_str(&old.payload).unwrap(),
            serde_json::from_str(&new.payload).unwrap(),
        );
        for name in ["object", "id", "event", "created_at"] {
            assert_eq!(old[name], new[name]);
        }
    }
    let kinds: Vec<&str> = after.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds[kinds.len() - 2..],
        ["dsync.group.user_removed", "dsync.user.deleted"]
    );
    let created: Value = serde_json::from_str(&after[1].payload).unwrap();
    let expected = json!({
        "object": "directory_user", "id": created["data"]["id"], "directory_id": idp.directory_id,
        "organization_id": created["data"]["organization_id"], "state": "active", "erased": true,
    });
    assert_eq!(created["data"], expected);
    assert!(created["data"]["id"].is_string());
    let added: Value = serde_json::from_str(&after[3].payload).unwrap();
    assert_eq!(added["data"]["user"], expected);
    assert_eq!(added["data"]["group"]["name"], "Sailors");
    let other = after
        .iter()
        .find(|event| event.payload.contains("\"other\""))
        .unwrap();
    assert!(!other.payload.contains("erased"));

    idp.create_user(person()).await.expect(201);
    let returned = world::last_event(&app, &idp.directory_id).await;
    assert_eq!(returned["event"], "dsync.user.created");
    assert_ne!(returned["data"]["id"], created["data"]["id"]);
    assert_eq!(returned["data"]["first_name"], "Zebulon");
}

async fn somebody_who_was_deleted_before_is_erased_too(app: TestApp) {
    let idp = app.idp().await;
    let id = add_person(&idp).await;
    idp.delete_user(&id).await.expect(204);
    let sequence = world::events(&app, &idp.directory_id).await.len();

    let receipt = erase(&app, "zebulon@example.com", &idp).await;

    assert_eq!(receipt["events"], 5);
    assert_eq!(columns_with_names(app.store()).await, Vec::<String>::new());
    assert_eq!(world::events(&app, &idp.directory_id).await.len(), sequence);
}

async fn an_erasure_bypasses_who_manages_the_directory_and_is_on_record(app: TestApp) {
    let idp = app.idp().await;
    add_person(&idp).await;
    let paused = directories::ActiveModel {
        writes_refused_at: Set(Some(now(&app))),
        ..Default::default()
    };
    set(&app, &idp.directory_id, paused).await;

    let receipt = erase(&app, "zebulon@example.com", &idp).await;

    let entries = audit_entries::Entity::find()
        .all(app.store().reader())
        .await
        .unwrap();
    let entries: Vec<_> = entries
        .iter()
        .filter(|entry| receipt["id"] == entry.subject)
        .collect();
    let actions: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(
        actions,
        ["directory_user.erasure_started", "directory_user.erased"]
    );
    assert!(
        entries
            .iter()
            .all(|entry| entry.actor.starts_with("api_key_"))
    );
    let details: Value = serde_json::from_str(&entries[1].details).unwrap();
    for (detail, field) in [("directory_user_id", "user_id"), ("events", "events")] {
        assert_eq!(details[detail], receipt[field]);
    }
    let events = world::events(&app, &idp.directory_id).await;
    assert_eq!(events.last().unwrap().actor.as_deref(), Some("system"));
}

async fn an_erasure_says_whom_and_where(app: TestApp) {
    let vendor = app.vendor();
    let (first, second) = (app.idp().await, app.idp().await);
    add_person(&first).await;
    add_person(&second).await;
    let email = json!("zebulon@example.com");
    let refused = vendor.erase(json!({"email": email})).await.expect(422);
    assert_eq!(fields(&refused), ["directory"]);
    vendor.erase(json!({})).await.expect(422);
    vendor
        .erase(json!({"email": email, "directroy": "x"}))
        .await
        .expect(422);
    let nobody = json!({"email": "nobody@example.com", "directory": first.directory_id});
    vendor.erase(nobody).await.expect(404);
    let due = directories::ActiveModel {
        deletion_due_at: Set(Some(now(&app))),
        ..Default::default()
    };
    set(&app, &first.directory_id, due).await;
    let body = json!({"email": email, "directory": first.directory_id});
    vendor.erase(body).await.expect(409);

    let organization = vendor.directory(&second.directory_id).await.expect(200);
    let body = json!({"email": email, "organization_id": organization["organization_id"]});
    let receipts = vendor.erase(body).await.expect(201);

    assert_eq!(receipts["data"][0]["directory_id"], second.directory_id);
    let kept = world::events(&app, &first.directory_id).await;
    assert!(
        kept[1].payload.contains("Zebulon"),
        "another tenant's person is not touched"
    );
}

async fn what_a_receiver_repeated_is_erased(app: TestApp) {
    let receiver = Receiver::start_with(Arc::clone(app.store().clock()));
    let body = json!({"endpoint_url": receiver.url()});
    let endpoint = app.vendor().create_endpoint(body).await.expect(201);
    receiver.expect_secret(endpoint["secret"].as_str().unwrap());
    receiver.behave(|request| {
        Reply::status(if request.body.contains("Zebulon") {
            500
        } else {
            200
        })
    });
    let idp = app.idp().await;
    add_person(&idp).await;
    eventually("a failure", SOON, async || {
        let rows = exceptions::Entity::find().all(app.store().reader()).await;
        !rows.unwrap().is_empty()
    })
    .await;
    // What a receiver answers may be what it was sent.
    attempts::Entity::update_many()
        .col_expr(attempts::Column::Excerpt, "no Zebulon here".into())
        .exec(app.store().statement_connection())
        .await
        .unwrap();

    let receipt = erase(&app, "zebulon@example.com", &idp).await;

    assert!(receipt["deliveries"].as_i64().unwrap() >= 1, "{receipt}");
    assert_eq!(columns_with_names(app.store()).await, Vec::<String>::new());
}
