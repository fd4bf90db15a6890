//! The audit trail: that it has everything, that tampering shows, and that retention does not.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::TimeDelta;
use futures_util::future::join_all;
use rollcall::audit::{Heads, Sealer, retention};
use rollcall::ids::OrganizationId;
use rollcall::storage::tables::{audit_chains, audit_entries, audit_seals};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};

use crate::support::waiting::eventually;
use crate::support::{Idp, TestApp, people, world};

on_both! {
    acts_and_writes_of_providers_are_in_one_chain_per_organization,
    a_request_that_changes_nothing_leaves_no_entry,
    a_request_of_more_events_than_a_page_is_told_whole,
    entries_are_found_newest_first_and_page_by_page,
    a_search_that_is_not_understood_is_refused,
    sealers_that_work_at_once_make_one_chain,
    a_scheduler_seals_by_itself with [("node.scheduler", "true")],
    each_way_of_tampering_is_found,
    entries_past_the_server_and_a_sealer_that_stands_still_are_found,
    what_is_cut_off_the_end_is_found_by_a_signed_head,
    a_chain_that_was_cut_off_and_has_grown_again_is_found_by_a_signed_head,
    a_head_that_was_not_signed_by_us_is_found,
    old_entries_go_and_the_rest_still_verifies,
}

/// Everything of the trail, newest first.
async fn trail(app: &TestApp, query: &str) -> Vec<Value> {
    let query = format!("limit=100&{query}");
    let listed = app.vendor().audit_entries(&query).await.expect(200);
    assert_eq!(listed["object"], "list");
    listed["data"].as_array().unwrap().clone()
}

fn texts(entries: &[Value], field: &str) -> Vec<String> {
    let text = |entry: &Value| entry[field].as_str().unwrap_or("null").to_owned();
    entries.iter().map(text).collect()
}

fn numbers(entries: &[Value]) -> Vec<i64> {
    let number = |entry: &Value| entry["number"].as_i64().unwrap_or(-1);
    entries.iter().map(number).collect()
}

/// A provider that has written a few things.
async fn busy_idp(app: &TestApp) -> Idp {
    let idp = app.idp().await;
    let ada = idp.add_user("ada").await;
    idp.add_group("Engineers", &[&ada]).await;
    idp.add_user("bob").await;
    idp
}

async fn organization_of(app: &TestApp, idp: &Idp) -> OrganizationId {
    let directory = app.vendor().directory(&idp.directory_id).await.expect(200);
    OrganizationId::parse(directory["organization_id"].as_str().unwrap()).unwrap()
}

/// Runs SQL past the server.
async fn sql(app: &TestApp, text: &str, values: Vec<sea_orm::Value>) {
    let statement = app.store().dialect().statement(text, values);
    let connection = app.store().statement_connection();
    let done = connection.execute_raw(statement).await.unwrap();
    assert!(done.rows_affected() > 0, "{text}");
}

async fn seals(app: &TestApp, organization_id: OrganizationId) -> Vec<audit_seals::Model> {
    audit_seals::Entity::find()
        .filter(audit_seals::Column::OrganizationId.eq(organization_id))
        .order_by_asc(audit_seals::Column::Number)
        .all(app.store().reader())
        .await
        .unwrap()
}

/// What verifying finds, in words; `""` if nothing.
async fn fault(app: &TestApp, heads: Option<&Path>) -> String {
    let report = app.verify_audit_trail(heads).await;
    report
        .fault
        .map_or_else(String::new, |fault| fault.to_string())
}

async fn acts_and_writes_of_providers_are_in_one_chain_per_organization(app: TestApp) {
    let idp = busy_idp(&app).await;
    let vendor = app.vendor();
    vendor
        .create_api_key(json!({"name": "ci"}))
        .await
        .expect(201);
    let before = trail(&app, "").await;
    assert_eq!(numbers(&before), [-1; 4]);

    app.seal_audit_trail().await;

    let organization = organization_of(&app, &idp).await;
    let query = format!("organization_id={organization}");
    let mut entries = trail(&app, &query).await;
    entries.sort_by_key(|entry| entry["number"].as_i64());
    assert_eq!(numbers(&entries), [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        texts(&entries, "action")[..3],
        ["organization.created", "directory.created", "token.created"]
    );
    let writes = &entries[3..];
    let events = world::events(&app, &idp.directory_id).await;
    let told: Vec<String> = writes
        .iter()
        .flat_map(|entry| entry["details"]["events"].as_array().unwrap())
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    let happened: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
    assert!(!told.is_empty());
    assert!(told.iter().all(|id| happened.contains(id)));
    let requests: BTreeSet<String> = texts(writes, "request_id").into_iter().collect();
    assert_eq!(requests.len(), 3);
    for write in writes {
        assert_eq!(write["action"], "scim.write");
        assert_eq!(write["directory_id"], idp.directory_id);
        let token = write["actor"].as_str().unwrap();
        assert!(token.starts_with("directory_token_"), "{token}");
    }
    // What belongs to no organization has a chain of its own.
    let key = trail(&app, "action=api_key.created").await;
    assert_eq!(numbers(&key), [1]);
    assert_eq!(app.verify_audit_trail(None).await.entries, 7);
    assert_eq!(fault(&app, None).await, "");
}

async fn a_request_that_changes_nothing_leaves_no_entry(app: TestApp) {
    let idp = app.idp().await;
    let id = idp.add_user("ada").await;
    app.seal_audit_trail().await;
    let before = trail(&app, "").await.len();

    let again = idp.replace_user(&id, people::user("ada")).await;

    again.expect(200);
    app.seal_audit_trail().await;
    assert_eq!(trail(&app, "").await.len(), before);
}

async fn a_request_of_more_events_than_a_page_is_told_whole(app: TestApp) {
    let idp = app.idp().await;
    let users: Vec<Value> = (0..520)
        .map(|number| people::user(&format!("user-{number}")))
        .collect();
    let mut ids = Vec::new();
    for chunk in users.chunks(40) {
        let made = chunk.iter().map(|user| idp.create_user(user.clone()));
        for made in join_all(made).await {
            ids.push(made.expect(201)["id"].as_str().unwrap().to_owned());
        }
    }
    let members: Vec<&str> = ids.iter().map(String::as_str).collect();
    idp.add_group("Everybody", &members).await;

    app.seal_audit_trail().await;

    let entries = audit_entries::Entity::find()
        .filter(audit_entries::Column::Action.eq("scim.write"))
        .all(app.store().reader())
        .await
        .unwrap();
    let mut told: Vec<String> = Vec::new();
    for entry in entries {
        let details: Value = serde_json::from_str(&entry.details).unwrap();
        let events = details["events"].as_array().unwrap();
        assert!(events.len() <= 500);
        told.extend(events.iter().map(|id| id.as_str().unwrap().to_owned()));
    }
    let events = world::events(&app, &idp.directory_id).await;
    let by_provider = events.iter().filter(|event| {
        let actor = event.actor.as_deref().unwrap_or("");
        actor.starts_with("directory_token_")
    });
    let mut happened: Vec<String> = by_provider.map(|event| event.id.to_string()).collect();
    assert!(happened.len() > 1_000, "{}", happened.len());
    told.sort();
    happened.sort();
    assert_eq!(told, happened, "each event is in one entry");
    assert_eq!(fault(&app, None).await, "");
}

async fn entries_are_found_newest_first_and_page_by_page(app: TestApp) {
    let idp = busy_idp(&app).await;
    app.seal_audit_trail().await;
    app.advance_seconds(60);
    let middle = "since=2026-01-15T12:00:30Z";
    let vendor = app.vendor();
    let token = vendor.create_token(&idp.directory_id, json!({})).await;
    token.expect(201);

    let all = trail(&app, "").await;
    let newest = trail(&app, middle).await;
    let oldest = trail(&app, "until=2026-01-15T12:00:30Z").await;
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = app.vendor().audit_entries(&format!("limit=2{after}")).await;
        let page = page.expect(200);
        paged.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["list_metadata"]["after"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }

    assert_eq!(all.len(), 7);
    assert_eq!(all[0]["action"], "token.created");
    assert_eq!(newest, all[..1]);
    assert_eq!(oldest, all[1..]);
    assert_eq!(paged, all);
    let actor = texts(&all, "actor")[0].clone();
    assert_eq!(trail(&app, &format!("actor={actor}")).await.len(), 4);
    assert_eq!(trail(&app, "action=scim.write").await.len(), 3);
    assert_eq!(trail(&app, "action=token.created").await.len(), 2);
    let directory = &idp.directory_id;
    assert_eq!(
        trail(&app, &format!("directory_id={directory}"))
            .await
            .len(),
        6
    );
    let nobody = app.idp().await.directory_id;
    let nobody = format!("directory_id={nobody}&action=scim.write");
    assert_eq!(trail(&app, &nobody).await, Vec::<Value>::new());
}

async fn a_search_that_is_not_understood_is_refused(app: TestApp) {
    for (query, word) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "query"),
        ("organisation_id=x", "organisation_id"),
        ("organization_id=x", "organization_id"),
        ("directory_id=", "directory_id"),
        ("since=yesterday", "query"),
        ("actor=%00", "actor"),
        ("after=audit_entry_01ARZ3NDEKTSV4RRFFQ69G5FAV", "after"),
    ] {
        let refused = app.vendor().audit_entries(query).await;
        let body = refused.expect(422).to_string();
        assert!(body.contains(word), "{query}: {body}");
    }
    let stranger = app.vendor_with("sk_wrong").audit_entries("").await;
    stranger.expect(401);
}

async fn sealers_that_work_at_once_make_one_chain(app: TestApp) {
    let idps = [app.idp().await, app.idp().await];
    let mut sealers: Vec<Sealer> = (0..3)
        .map(|_| Sealer::new(app.store().clone(), app.audit_key()))
        .collect();

    let writing = async {
        for number in 0..20 {
            let writes = idps.iter().map(|idp| async move {
                idp.add_user(&format!("user-{number}")).await;
            });
            join_all(writes).await;
        }
    };
    let sealing = join_all(sealers.iter_mut().map(|sealer| async {
        for _ in 0..60 {
            // Another one's first row of a chain may be in its way once.
            drop(sealer.step().await);
        }
    }));
    futures_util::join!(writing, sealing);
    app.seal_audit_trail().await;

    for idp in &idps {
        let query = format!("directory_id={}&action=scim.write", idp.directory_id);
        let writes = trail(&app, &query).await;
        // The first request has two transactions, between which a sealer may come.
        assert!(matches!(writes.len(), 20 | 21), "{}", writes.len());
        let requests: BTreeSet<String> = texts(&writes, "request_id").into_iter().collect();
        assert_eq!(requests.len(), 20);
        let chain = seals(&app, organization_of(&app, idp).await).await;
        assert_eq!(chain.len(), 3 + writes.len());
    }
    assert_eq!(fault(&app, None).await, "");
}

async fn a_scheduler_seals_by_itself(app: TestApp) {
    busy_idp(&app).await;

    let limit = std::time::Duration::from_secs(20);
    eventually("numbers", limit, async || {
        let entries = trail(&app, "").await;
        entries.len() == 6 && !numbers(&entries).contains(&-1)
    })
    .await;

    assert_eq!(fault(&app, None).await, "");
}

/// The trail's tables, to put back what a test has broken.
struct Kept(
    Vec<audit_entries::Model>,
    Vec<audit_seals::Model>,
    Vec<audit_chains::Model>,
);

impl Kept {
    async fn read(app: &TestApp) -> Self {
        let reader = app.store().reader();
        Self(
            audit_entries::Entity::find().all(reader).await.unwrap(),
            audit_seals::Entity::find().all(reader).await.unwrap(),
            audit_chains::Entity::find().all(reader).await.unwrap(),
        )
    }

    async fn put_back(&self, app: &TestApp) {
        let writer = app.store().statement_connection();
        for table in ["audit_entries", "audit_seals", "audit_chains"] {
            let emptied = format!("DELETE FROM {table}");
            writer.execute_unprepared(&emptied).await.unwrap();
        }
        let entries = self.0.iter().cloned();
        let entries = entries.map(audit_entries::ActiveModel::from);
        let seals = self.1.iter().cloned().map(audit_seals::ActiveModel::from);
        let chains = self.2.iter().cloned().map(audit_chains::ActiveModel::from);
        audit_entries::Entity::insert_many(entries)
            .exec_without_returning(writer)
            .await
            .unwrap();
        audit_seals::Entity::insert_many(seals)
            .exec_without_returning(writer)
            .await
            .unwrap();
        audit_chains::Entity::insert_many(chains)
            .exec_without_returning(writer)
            .await
            .unwrap();
    }
}

/// Something done past the server.
type Tampering = (&'static str, Vec<sea_orm::Value>);

/// What is done, by which statements, at which number it shows, and in which words.
type Case = (&'static str, Vec<Tampering>, i64, &'static str);

/// Ways to change a chain of six.
fn ways_of_tampering(chain: &[audit_seals::Model]) -> Vec<Case> {
    let (third, last) = (&chain[2], &chain[5]);
    let org = || sea_orm::Value::from(third.organization_id.uuid());
    let entry = |seal: &audit_seals::Model| sea_orm::Value::from(seal.entry_id.uuid());
    let delete_seal = "DELETE FROM audit_seals WHERE organization_id = $1 AND number = $2";
    let delete_entry = "DELETE FROM audit_entries WHERE id = $1";
    let move_seal = "UPDATE audit_seals SET number = $3 WHERE organization_id = $1 AND number = $2";
    let moved = |from: i64, to: i64| (move_seal, vec![org(), from.into(), to.into()]);
    vec![
        (
            "somebody else did it",
            vec![(
                "UPDATE audit_entries SET actor = 'command' WHERE id = $1",
                vec![entry(third)],
            )],
            3,
            "is not what was sealed there",
        ),
        (
            "it was done to something else",
            vec![(
                "UPDATE audit_entries SET subject = 'x' WHERE id = $1",
                vec![entry(last)],
            )],
            6,
            "is not what was sealed there",
        ),
        (
            "it was done at another organization",
            vec![(
                "UPDATE audit_entries SET organization_id = NULL WHERE id = $1",
                vec![entry(third)],
            )],
            3,
            "is not what was sealed there",
        ),
        (
            "an entry in the middle is gone",
            vec![(delete_entry, vec![entry(third)])],
            3,
            "was deleted: its seal is left",
        ),
        (
            "an entry in the middle is gone with its seal",
            vec![
                (delete_entry, vec![entry(third)]),
                (delete_seal, vec![org(), 3_i64.into()]),
            ],
            3,
            "its seal was deleted or moved",
        ),
        (
            "two are in each other's place",
            vec![moved(3, -1), moved(4, 3), moved(-1, 4)],
            3,
            "altered or moved",
        ),
        (
            "one is moved beyond the end",
            vec![moved(3, 7)],
            3,
            "its seal was deleted or moved",
        ),
        (
            "a digest is another",
            vec![(
                "UPDATE audit_seals SET digest = $3 WHERE organization_id = $1 AND number = $2",
                vec![org(), 3_i64.into(), vec![7_u8; 32].into()],
            )],
            3,
            "is not what was sealed there",
        ),
        (
            "the end is gone",
            vec![
                (delete_entry, vec![entry(last)]),
                (delete_seal, vec![org(), 6_i64.into()]),
            ],
            6,
            "and everything after it",
        ),
        (
            "the front is gone",
            vec![
                (delete_entry, vec![entry(&chain[0])]),
                (delete_seal, vec![org(), 1_i64.into()]),
            ],
            1,
            "its seal was deleted or moved",
        ),
    ]
}

async fn each_way_of_tampering_is_found(app: TestApp) {
    let idp = busy_idp(&app).await;
    busy_idp(&app).await;
    app.seal_audit_trail().await;
    let organization = organization_of(&app, &idp).await;
    let chain = seals(&app, organization).await;
    let kept = Kept::read(&app).await;
    assert_eq!(fault(&app, None).await, "");

    for (what, statements, number, words) in ways_of_tampering(&chain) {
        for (text, values) in statements {
            sql(&app, text, values).await;
        }
        let found = fault(&app, None).await;
        assert!(found.contains(words), "{what}: {found}");
        let place = format!("number {number} of {organization}");
        assert!(found.contains(&place), "{what}: {found}");
        kept.put_back(&app).await;
        assert_eq!(fault(&app, None).await, "", "{what}");
    }
}

async fn entries_past_the_server_and_a_sealer_that_stands_still_are_found(app: TestApp) {
    let idp = busy_idp(&app).await;
    app.seal_audit_trail().await;
    let organization = organization_of(&app, &idp).await;
    let chain = seals(&app, organization).await;
    let kept = Kept::read(&app).await;

    let inserted = "INSERT INTO audit_entries SELECT $1, organization_id, directory_id, actor, request_id, \
                    action, subject, details, created_at FROM audit_entries WHERE id = $2";
    let forged = rollcall::ids::AuditEntryId::generate();
    let values = vec![forged.uuid().into(), chain[0].entry_id.uuid().into()];
    sql(&app, inserted, values).await;
    let found = fault(&app, None).await;
    assert!(found.contains("inserted past the server"), "{found}");
    assert!(found.contains(&forged.to_string()), "{found}");
    kept.put_back(&app).await;
    let whole = "DELETE FROM audit_chains WHERE organization_id = $1";
    sql(&app, whole, vec![organization.uuid().into()]).await;
    let found = fault(&app, None).await;
    assert!(found.contains("is in no chain"), "{found}");
    kept.put_back(&app).await;
    app.vendor()
        .create_api_key(json!({"name": "x"}))
        .await
        .expect(201);
    assert_eq!(fault(&app, None).await, "");
    app.advance_seconds(61);
    let found = fault(&app, None).await;
    assert!(found.contains("node.scheduler"), "{found}");
    app.seal_audit_trail().await;
    assert_eq!(fault(&app, None).await, "");
}

/// Cuts a chain off after `number`, so that what is left fits together.
async fn cut_off(app: &TestApp, chain: &[audit_seals::Model], number: usize) {
    let last = &chain[number - 1];
    let organization = sea_orm::Value::from(last.organization_id.uuid());
    for seal in &chain[number..] {
        let entry = seal.entry_id.uuid().into();
        sql(app, "DELETE FROM audit_entries WHERE id = $1", vec![entry]).await;
    }
    let seals = "DELETE FROM audit_seals WHERE organization_id = $1 AND number > $2";
    sql(app, seals, vec![organization.clone(), last.number.into()]).await;
    let end = "UPDATE audit_chains SET number = $2, digest = $3 WHERE organization_id = $1";
    let digest = last.digest.clone().into();
    sql(app, end, vec![organization, last.number.into(), digest]).await;
}

async fn what_is_cut_off_the_end_is_found_by_a_signed_head(app: TestApp) {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("heads.jsonl");
    let mut heads = Heads::new(file.clone());
    let idp = busy_idp(&app).await;
    app.seal_audit_trail().await;
    heads
        .write(app.store(), &app.audit_key(), app.now())
        .await
        .unwrap();
    heads
        .write(app.store(), &app.audit_key(), app.now())
        .await
        .unwrap();
    idp.add_user("eve").await;
    app.seal_audit_trail().await;
    heads
        .write(app.store(), &app.audit_key(), app.now())
        .await
        .unwrap();
    let lines = std::fs::read_to_string(&file).unwrap().lines().count();
    assert_eq!(lines, 2, "what has not grown is not written again");
    let report = app.verify_audit_trail(Some(&file)).await;
    assert_eq!((report.heads, report.fault), (2, None));

    let organization = organization_of(&app, &idp).await;
    cut_off(&app, &seals(&app, organization).await, 4).await;

    assert_eq!(fault(&app, None).await, "", "the chain alone does not tell");
    let found = fault(&app, Some(&file)).await;
    assert!(found.contains("restored from a backup"), "{found}");
    assert!(found.contains(&format!("of {organization}")), "{found}");
}

async fn a_chain_that_was_cut_off_and_has_grown_again_is_found_by_a_signed_head(app: TestApp) {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("heads.jsonl");
    let idp = busy_idp(&app).await;
    app.seal_audit_trail().await;
    let mut heads = Heads::new(file.clone());
    heads
        .write(app.store(), &app.audit_key(), app.now())
        .await
        .unwrap();
    let organization = organization_of(&app, &idp).await;
    cut_off(&app, &seals(&app, organization).await, 5).await;

    idp.add_user("eve").await;
    idp.add_user("mallory").await;
    app.seal_audit_trail().await;
    heads
        .write(app.store(), &app.audit_key(), app.now())
        .await
        .unwrap();

    assert_eq!(fault(&app, None).await, "", "the chain alone does not tell");
    let found = fault(&app, Some(&file)).await;
    let place = format!("number 6 of {organization} is another entry");
    assert!(found.contains(&place), "{found}");
}

async fn a_head_that_was_not_signed_by_us_is_found(app: TestApp) {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("heads.jsonl");
    busy_idp(&app).await;
    app.seal_audit_trail().await;
    let mut heads = Heads::new(file.clone());
    heads
        .write(app.store(), &app.audit_key(), app.now())
        .await
        .unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(fault(&app, Some(&file)).await, "");

    for forged in [
        text.replace("\"number\":6", "\"number\":5"),
        text.replace("2026-01-15", "2026-01-16"),
        "{}\n".to_owned(),
        "nonsense\n".to_owned(),
    ] {
        assert_ne!(forged, text);
        std::fs::write(&file, forged).unwrap();
        let found = fault(&app, Some(&file)).await;
        assert!(found.contains("line 1 of the file of heads"), "{found}");
    }
    std::fs::write(&file, format!("{text}{{\"time\":\"2026")).unwrap();
    assert_eq!(fault(&app, Some(&file)).await, "", "a line being written");
}

async fn old_entries_go_and_the_rest_still_verifies(app: TestApp) {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("heads.jsonl");
    let mut heads = Heads::new(file.clone());
    let idp = busy_idp(&app).await;
    app.seal_audit_trail().await;
    heads
        .write(app.store(), &app.audit_key(), app.now())
        .await
        .unwrap();
    app.advance_seconds(86_400);
    idp.add_user("eve").await;
    app.seal_audit_trail().await;
    let organization = organization_of(&app, &idp).await;
    let key = app.audit_key();
    let yesterday = app.now() - TimeDelta::hours(1);

    let removed = retention::forget(app.store(), &key, yesterday)
        .await
        .unwrap();

    assert_eq!(removed, 6);
    let left = seals(&app, organization).await;
    assert_eq!(left.iter().map(|seal| seal.number).collect::<Vec<_>>(), [7]);
    assert_eq!(trail(&app, "").await.len(), 1);
    assert_eq!(fault(&app, Some(&file)).await, "");
    let again = retention::forget(app.store(), &key, yesterday)
        .await
        .unwrap();
    assert_eq!(again, 0);
    // Also when nothing is left, the chain goes on where it was.
    let later = app.now() + TimeDelta::hours(1);
    assert_eq!(
        retention::forget(app.store(), &key, later).await.unwrap(),
        1
    );
    idp.add_user("mallory").await;
    app.seal_audit_trail().await;
    assert_eq!(numbers(&trail(&app, "").await), [8]);
    assert_eq!(fault(&app, Some(&file)).await, "");
    // Nobody else can say that it was retention.
    let digest = seals(&app, organization).await[0].digest.clone();
    let forged = "UPDATE audit_anchors SET number = 8, digest = $2 WHERE organization_id = $1";
    sql(
        &app,
        forged,
        vec![organization.uuid().into(), digest.into()],
    )
    .await;
    sql(
        &app,
        "DELETE FROM audit_seals WHERE number = $1",
        vec![8_i64.into()],
    )
    .await;
    sql(
        &app,
        "DELETE FROM audit_entries WHERE action = $1",
        vec!["scim.write".into()],
    )
    .await;
    let found = fault(&app, Some(&file)).await;
    assert!(found.contains("not by retention"), "{found}");
}
