//! What goes after its time and what stays, with a clock that the test moves.

use std::collections::BTreeSet;
use std::time::Duration;

use rollcall::events::cut;
use rollcall::ids::{DirectoryId, EndpointId, EventId};
use rollcall::storage::tables::{
    attempts, deliveries, directories, endpoint_cursors, endpoints, events, exceptions,
};
use rollcall::storage::{self, Dialect, Lane, UseCase, WriteTx};
use rollcall::webhooks::retention;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue, ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, Statement,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::receiver::{Receiver, Reply};
use crate::support::still::StillServer;
use crate::support::store::draft;
use crate::support::waiting::eventually;
use crate::support::world::{events, kinds};
use crate::support::{Idp, TestApp};

on_both! {
    old_events_go_and_the_newest_of_each_directory_stays,
    a_sequence_goes_on_where_it_was,
    what_an_endpoint_waits_for_stays_until_the_maximum_and_then_the_gap_is_told,
    a_disabled_endpoint_keeps_nothing_and_gets_its_gap,
    a_step_is_bounded_and_the_next_begins_where_it_ended,
    nothing_goes_that_the_audit_trail_has_not_read,
    deliveries_and_attempts_go_before_their_events with [("node.dispatcher", "true")],
    a_parked_delivery_goes_with_its_event with [("node.dispatcher", "true")],
    what_goes_and_what_stays_is_found_by_indexes,
}

const DAY: i64 = 86_400;
const SOON: Duration = Duration::from_secs(20);
const URL: &str = "http://127.0.0.1:9/webhooks";

impl TestApp {
    /// Lets some days pass and forgets what is too old.
    async fn forget_after(&self, days: i64) -> retention::Removed {
        self.seal_audit_trail().await;
        self.advance_seconds(days * DAY);
        self.forget_events(&CancellationToken::new()).await
    }

    async fn shard_of(&self, idp: &Idp) -> i16 {
        let id = DirectoryId::parse(&idp.directory_id).unwrap();
        let found = directories::Entity::find_by_id(id);
        found
            .one(self.store().reader())
            .await
            .unwrap()
            .unwrap()
            .shard
    }

    async fn add_endpoint(&self) -> String {
        let vendor = self.vendor();
        let made = vendor.create_endpoint(json!({"endpoint_url": URL})).await;
        made.expect(201)["id"].as_str().unwrap().to_owned()
    }

    async fn gaps(&self, endpoint: &str) -> Vec<Value> {
        let shown = self.vendor().endpoint(endpoint).await.expect(200);
        shown["gaps"].as_array().unwrap().clone()
    }

    async fn cursor(&self, endpoint: &str, shard: i16) -> endpoint_cursors::Model {
        let id = EndpointId::parse(endpoint).unwrap();
        let found = endpoint_cursors::Entity::find_by_id((id, shard));
        found.one(self.store().reader()).await.unwrap().unwrap()
    }
}

async fn old_events_go_and_the_newest_of_each_directory_stays(app: TestApp) {
    let (busy, quiet) = (app.idp().await, app.idp().await);
    busy.add_user("ada").await;
    busy.add_user("bob").await;
    quiet.add_user("eve").await;
    assert_eq!(app.forget_after(89).await, retention::Removed::default());
    busy.add_user("cleo").await;

    let removed = app.forget_after(2).await;

    assert_eq!(removed.events, 6, "those about tokens included");
    let left = events(&app, &busy.directory_id).await;
    assert_eq!(left.len(), 1);
    assert!(left[0].payload.contains("cleo"));
    let left = events(&app, &quiet.directory_id).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].sequence, Some(2));
}

async fn a_sequence_goes_on_where_it_was(app: TestApp) {
    let idp = app.idp().await;
    idp.add_user("ada").await;
    app.forget_after(400).await;

    idp.add_user("bob").await;
    let sequences = |rows: Vec<events::Model>| -> Vec<_> {
        rows.iter().filter_map(|row| row.sequence).collect()
    };
    assert_eq!(sequences(events(&app, &idp.directory_id).await), [2, 3]);

    // What a cut left goes with the next one.
    idp.add_user("cleo").await;
    app.forget_after(400).await;
    assert_eq!(sequences(events(&app, &idp.directory_id).await), [4]);
}

async fn what_an_endpoint_waits_for_stays_until_the_maximum_and_then_the_gap_is_told(app: TestApp) {
    let endpoint = app.add_endpoint().await;
    let idp = app.idp().await;
    let shard = app.shard_of(&idp).await;
    idp.add_user("ada").await;
    idp.add_user("bob").await;
    assert_eq!(app.forget_after(179).await.events, 0);
    assert!(app.gaps(&endpoint).await.is_empty());
    idp.add_user("cleo").await;

    let removed = app.forget_after(2).await;

    assert_eq!(removed.events, 4, "one of them about a token");
    let gaps = app.gaps(&endpoint).await;
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0]["events"], 3);
    let cursor = app.cursor(&endpoint, shard).await;
    assert_eq!(gaps[0]["up_to_position"], cursor.position);
    assert_eq!(cursor.start, cursor.position, "it begins after the gap");
    let shown = app.vendor().endpoint(&endpoint).await.expect(200);
    assert_eq!(shown["undelivered"], 1, "the last one is still to come");
    let entries = app.vendor().audit_entries("limit=100").await.expect(200);
    let lost = entries["data"].as_array().unwrap().iter();
    let lost = lost.filter(|entry| entry["action"] == "webhook_endpoint.events_lost");
    let lost: Vec<&Value> = lost.collect();
    assert_eq!(lost.len(), 1, "{entries}");
    assert_eq!(lost[0]["subject"], endpoint.as_str());

    // The next cut widens the same gap.
    idp.add_user("dora").await;
    app.forget_after(181).await;
    let gaps = app.gaps(&endpoint).await;
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0]["events"], 5);
}

async fn a_disabled_endpoint_keeps_nothing_and_gets_its_gap(app: TestApp) {
    let endpoint = app.add_endpoint().await;
    let idp = app.idp().await;
    idp.add_user("ada").await;
    endpoints::Entity::update_many()
        .col_expr(endpoints::Column::Status, Expr::value("disabled"))
        .exec(app.store().statement_connection())
        .await
        .unwrap();

    let removed = app.forget_after(91).await;

    assert_eq!(removed.events, 2, "all but the newest");
    assert_eq!(app.gaps(&endpoint).await[0]["events"], 2);
}

/// Appends events about nobody to a directory.
struct Append(directories::Model, usize);

impl UseCase for Append {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        for _ in 0..self.1 {
            tx.buffer(draft(&self.0, EventId::generate()));
        }
        Ok(())
    }
}

/// Writes `count` events of a directory; returns it.
async fn fill(app: &TestApp, count: usize) -> directories::Model {
    let idp = app.idp().await;
    let id = DirectoryId::parse(&idp.directory_id).unwrap();
    let found = directories::Entity::find_by_id(id);
    let directory = found.one(app.store().reader()).await.unwrap().unwrap();
    let append = Append(directory.clone(), count);
    app.store()
        .write(Lane::Directory(id), append)
        .await
        .unwrap();
    directory
}

async fn a_step_is_bounded_and_the_next_begins_where_it_ended(app: TestApp) {
    let directory = fill(&app, 1_200).await;
    app.seal_audit_trail().await;
    app.advance_seconds(91 * DAY);
    let stopped = CancellationToken::new();
    stopped.cancel();
    let cut = async || {
        let reader = app.store().reader();
        cut::position(reader, directory.shard).await.unwrap()
    };
    let mut seen = vec![cut().await];
    for expected in [500, 500, 200, 0] {
        let removed = app.forget_events(&stopped).await;
        assert_eq!(removed.events, expected);
        seen.push(cut().await);
    }
    let (steps, last) = seen.split_at(4);
    assert!(
        steps.is_sorted_by(|before, after| before < after),
        "{seen:?}"
    );
    assert_eq!(last, &steps[3..]);
}

async fn nothing_goes_that_the_audit_trail_has_not_read(app: TestApp) {
    let idp = app.idp().await;
    idp.add_user("ada").await;
    app.advance_seconds(1_000 * DAY);
    let token = CancellationToken::new();
    assert_eq!(app.forget_events(&token).await.events, 0);
    app.seal_audit_trail().await;
    assert_eq!(app.forget_events(&token).await.events, 2);
}

/// A receiver of all events, and a directory whose events it has got, the first one at the second try.
async fn delivered(app: &TestApp) -> (Receiver, Idp) {
    let receiver = Receiver::start_with(app.clock());
    receiver.behave(|request| Reply::status(if request.attempt == 1 { 500 } else { 200 }));
    let made = app
        .vendor()
        .create_endpoint(json!({"endpoint_url": receiver.url()}))
        .await
        .expect(201);
    receiver.expect_secret(made["secret"].as_str().unwrap());
    let idp = app.idp().await;
    idp.add_user("ada").await;
    let connection = app.store().reader();
    eventually("a record of failures", SOON, async || {
        attempts::Entity::find().count(connection).await.unwrap() > 0
    })
    .await;
    eventually("all deliveries", SOON, async || {
        app.advance_seconds(1);
        let done = deliveries::Entity::find()
            .filter(deliveries::Column::State.eq("delivered"))
            .count(connection);
        done.await.unwrap() == 2
    })
    .await;
    (receiver, idp)
}

async fn deliveries_and_attempts_go_before_their_events(app: TestApp) {
    let (_receiver, idp) = delivered(&app).await;
    assert_eq!(app.forget_after(29).await, retention::Removed::default());

    let removed = app.forget_after(2).await;

    assert_eq!((removed.events, removed.deliveries), (0, 2));
    let connection = app.store().reader();
    assert_eq!(attempts::Entity::find().count(connection).await.unwrap(), 0);
    assert_eq!(kinds(&app, &idp.directory_id).await.len(), 2);
}

async fn a_parked_delivery_goes_with_its_event(app: TestApp) {
    let (_receiver, idp) = delivered(&app).await;
    let connection = app.store().reader();
    let first = &events(&app, &idp.directory_id).await[0];
    let found = deliveries::Entity::find().filter(deliveries::Column::Position.eq(first.position));
    let delivery = found.one(connection).await.unwrap().unwrap();
    let parked = exceptions::ActiveModel {
        endpoint_id: ActiveValue::Set(delivery.endpoint_id),
        position: ActiveValue::Set(first.position),
        shard: ActiveValue::Set(first.shard),
        directory_id: ActiveValue::Set(first.directory_id),
        state: ActiveValue::Set("parked".to_owned()),
        attempts: ActiveValue::Set(20),
        first_failed_at_ms: ActiveValue::Set(Some(0)),
        next_at_ms: ActiveValue::Set(None),
    };
    exceptions::Entity::insert(parked)
        .exec_without_returning(app.store().statement_connection())
        .await
        .unwrap();
    assert_eq!(app.forget_after(31).await.deliveries, 1);
    assert_eq!(
        deliveries::Entity::find().count(connection).await.unwrap(),
        1
    );

    let removed = app.forget_after(60).await;

    assert_eq!((removed.events, removed.deliveries), (2, 1));
    assert_eq!(
        exceptions::Entity::find().count(connection).await.unwrap(),
        0
    );
    let id = delivery.endpoint_id.to_string();
    assert!(app.gaps(&id).await.is_empty(), "it was given up long ago");
}

async fn what_goes_and_what_stays_is_found_by_indexes(app: TestApp) {
    let directory = fill(&app, 3_000).await;
    fill(&app, 3_000).await;
    let writer = app.store().statement_connection();
    writer.execute_unprepared("ANALYZE").await.unwrap();
    let dialect = app.store().dialect();
    let named = BTreeSet::from([directory.id]);
    for statement in [
        retention::front_statement(dialect, directory.shard, 100),
        retention::ends_statement(dialect, &named),
    ] {
        let plan = plan_of(&app, statement).await;
        let walks = |line: &String| {
            let is_index = line.contains("INDEX") || line.contains("SCAN json_each");
            line.contains("Seq Scan on events") || line.contains("SCAN") && !is_index
        };
        assert!(!plan.iter().any(walks), "{plan:#?}");
    }
}

async fn plan_of(app: &TestApp, mut statement: Statement) -> Vec<String> {
    let (prefix, column) = match app.store().dialect() {
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN ", "detail"),
        Dialect::Postgres => ("EXPLAIN ", "QUERY PLAN"),
    };
    statement.sql.insert_str(0, prefix);
    let rows = app.store().reader().query_all_raw(statement).await.unwrap();
    let lines = rows.iter().map(|row| row.try_get("", column).unwrap());
    lines.collect()
}

/// An endpoint that was held for too long goes on after what it lost, and knows nothing before it.
async fn go_on_after_the_gap(mut world: StillServer) {
    let admin = world.admin();
    let endpoint = admin.subscribe(&world.receiver).await;
    let scim = admin.directory().await;
    scim.create_user("before@example.com").await;
    eventually("all deliveries", SOON, async || {
        admin.undelivered(&endpoint).await == 0
    })
    .await;
    hold_all(&world, true).await;
    world.restart().await;
    let scim = scim.through(&base(&world));
    for number in 0..5 {
        scim.create_user(&format!("lost-{number}@example.com"))
            .await;
    }
    seal(&world).await;
    world.clock.advance_ms(181 * DAY * 1_000);
    scim.create_user("after-0@example.com").await;

    let context = &world.running.as_ref().unwrap().context;
    let (spans, stop) = (
        (context.events, context.deliveries),
        CancellationToken::new(),
    );
    let removed = retention::forget(&context.store, spans.0, spans.1, &stop).await;
    assert_eq!(removed.unwrap().events, 8);
    hold_all(&world, false).await;
    scim.create_user("after-1@example.com").await;

    eventually("what came after", SOON, async || {
        world.receiver.ledger().accepted() == 4
    })
    .await;
    let requests = world.receiver.ledger().requests().to_vec();
    let mut places: Vec<_> = requests[2..]
        .iter()
        .map(|request| (request.sequence, request.previous))
        .collect();
    places.sort_unstable();
    assert_eq!(places, [(8, 0), (9, 8)]);
    world.stop().await;
}

fn base(world: &StillServer) -> String {
    format!("http://{}", world.running.as_ref().unwrap().address)
}

async fn seal(world: &StillServer) {
    let context = &world.running.as_ref().unwrap().context;
    let key = std::sync::Arc::new(rollcall::audit::Key::of(&context.master_key));
    let mut sealer = rollcall::audit::Sealer::new(context.store.clone(), key);
    while sealer.step().await.unwrap() {}
}

/// Holds all endpoints, or lets them go on.
async fn hold_all(world: &StillServer, is_held: bool) {
    use rollcall::clock::Clock as _;
    let held_at = is_held.then(|| world.clock.now());
    endpoints::Entity::update_many()
        .col_expr(endpoints::Column::HeldAt, Expr::value(held_at))
        .exec(world.store().statement_connection())
        .await
        .unwrap();
    world.store().wake().endpoints_changed();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_delivery_goes_on_after_a_gap() {
    go_on_after_the_gap(StillServer::on_sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_delivery_goes_on_after_a_gap() {
    if let Some(world) = StillServer::on_postgres().await {
        go_on_after_the_gap(world).await;
    }
}
