//! Records against a real database: SQLite, and PostgreSQL if `ROLLCALL_TEST_POSTGRES` names an empty one.

use uuid::Uuid;

use super::*;
use crate::clock::SystemClock;
use crate::ids::{DirectoryId, EventId, NodeId, OrganizationId};
use crate::storage::tables::endpoints;
use crate::storage::{EventDraft, Opener, schema};
use crate::webhooks::endpoint;
use crate::webhooks::shards::{self, Held};
use crate::webhooks::stream::{AttemptRow, DeliveryRow};
use crate::webhooks::tail::Tail;

const SHARD: i16 = 3;

struct Append(DirectoryId);

impl UseCase for Append {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        for _ in 0..3 {
            tx.buffer(EventDraft {
                id: EventId::generate(),
                organization_id: OrganizationId::generate(),
                directory_id: self.0,
                shard: SHARD,
                is_sequenced: true,
                kind: "dsync.user.updated",
                user_id: None,
                group_id: None,
                names: None,
                payload: "{}".to_owned(),
                is_departure: false,
                actor: None,
            });
        }
        Ok(())
    }
}

fn failed(position: i64, directory_id: DirectoryId) -> Batch {
    let attempted = Attempted {
        is_success: false,
        status_code: Some(500),
        failure: Some("http".to_owned()),
        excerpt: Some("no\0thing".to_owned()),
        retry_after: None,
        duration_ms: 5,
    };
    Batch {
        filter_number: 1,
        cursor: Some(position),
        deliveries: vec![DeliveryRow {
            position,
            event_id: EventId::generate(),
            directory_id,
            state: "retrying",
            attempts: 1,
            last: attempted.clone(),
            at_ms: 1_000,
        }],
        attempts: vec![AttemptRow {
            position,
            number: 1,
            attempted,
            at_ms: 1_000,
        }],
        exceptions: vec![ExceptionRow {
            position,
            directory_id,
            state: Exception::Retrying,
            attempts: 1,
            first_failed_ms: Some(1_000),
            next_at_ms: Some(6_000),
        }],
        ..Batch::default()
    }
}

fn lease(held: &Held) -> Lease {
    Lease {
        epoch: held.epoch,
        token: held.token,
        until_ms: 0,
    }
}

async fn add_endpoint(store: &Store) -> EndpointId {
    let id = EndpointId::generate();
    let connection = store.statement_connection();
    let sql = "INSERT INTO endpoints (id, url, status, filters, filter_number, ordering, \
               sealed_secret, max_in_flight, timeout_ms, created_at, updated_at) \
               VALUES ($1, $2, 'enabled', $5, 1, 'causal', $3, 1, 20000, $4, $4)";
    let values: [Value; 5] = [
        id.uuid().into(),
        id.to_string().into(),
        vec![0_u8].into(),
        clock::from_ms(0).into(),
        json!([{"from": vec![0; 16], "events": ["dsync.user.updated"]}])
            .to_string()
            .into(),
    ];
    let dialect = store.dialect();
    connection
        .execute_raw(dialect.statement(sql, values))
        .await
        .unwrap();
    let sql =
        "INSERT INTO endpoint_cursors (endpoint_id, shard, start, position) VALUES ($1, 3, 0, 0)";
    let statement = dialect.statement(sql, [id.uuid().into()]);
    connection.execute_raw(statement).await.unwrap();
    id
}

async fn placed(store: &Store, view: &View, source: Source) -> Place {
    load(store, view, SHARD, source).await.unwrap().unwrap()
}

#[expect(clippy::too_many_lines, reason = "one story")]
async fn records_are_fenced_whole_and_repeatable(url: &str) {
    let store = Store::open(url, Opener::Command, Arc::new(SystemClock))
        .await
        .unwrap();
    schema::migrate(&store).await.unwrap();
    let directory_id = DirectoryId::generate();
    store
        .write(Lane::System, Append(directory_id))
        .await
        .unwrap();
    let newest = Tail::default().look(&store).await.unwrap().unwrap().newest;
    let last = newest[3];
    assert!(last >= 3 && newest[4] == 0, "{newest:?}");

    let id = add_endpoint(&store).await;
    let row = endpoint::find(store.reader(), id).await.unwrap().unwrap();
    let view = |id| View::new(&endpoints::Model { id, ..row.clone() }, [(SHARD, 0)].into());
    let node_id = NodeId::generate();
    let taken = shards::take(&store, node_id, &BTreeSet::new(), 16, true)
        .await
        .unwrap();
    let held = taken.iter().find(|held| held.shard == SHARD).unwrap();
    assert_eq!(shards::renew(&store, &taken).await.unwrap().len(), 16);

    let batch = failed(last - 1, directory_id);
    for _ in 0..2 {
        let batches = vec![(id, batch.clone())];
        assert_eq!(
            record(&store, SHARD, lease(held), batches).await,
            Recorded::Written
        );
    }
    let foreign = Lease {
        token: Uuid::nil(),
        ..lease(held)
    };
    let stray = vec![(id, failed(last, directory_id))];
    assert_eq!(
        record(&store, SHARD, foreign, stray).await,
        Recorded::Fenced
    );
    let earlier = Batch {
        filter_number: 1,
        cursor: Some(last - 2),
        ..Batch::default()
    };
    let earlier = vec![(id, earlier)];
    assert_eq!(
        record(&store, SHARD, lease(held), earlier).await,
        Recorded::Written
    );
    let under_another_filter = Batch {
        filter_number: 0,
        cursor: Some(last),
        lagging: vec![(directory_id, last)],
        ..Batch::default()
    };
    let batches = vec![(id, under_another_filter)];
    assert_eq!(
        record(&store, SHARD, lease(held), batches).await,
        Recorded::Written
    );
    let place = placed(&store, &view(id), Source::Shard).await;
    assert!(place.lagging.is_empty());
    assert_eq!(place.cursor, last - 1, "it never goes back");
    assert_eq!(place.exceptions[0].0, batch.exceptions[0]);
    let offer = &place.exceptions[0].1;
    assert_eq!((offer.sequence, offer.previous), (Some(2), 1));

    let apart = Source::Directory(directory_id);
    for position in [last - 2, last - 1, last - 2] {
        let lagging = Batch {
            filter_number: 1,
            lagging: vec![(directory_id, position)],
            ..Batch::default()
        };
        let batches = vec![(id, lagging)];
        assert_eq!(
            record(&store, SHARD, lease(held), batches).await,
            Recorded::Written
        );
    }
    let place = placed(&store, &view(id), Source::Shard).await;
    assert!(place.exceptions.is_empty());
    assert_eq!(place.lagging, [directory_id]);
    let place = placed(&store, &view(id), apart).await;
    assert_eq!(place.cursor, last - 1, "nor does this one");
    assert_eq!(place.exceptions[0].0, batch.exceptions[0]);

    let mut delivered = failed(last - 1, directory_id);
    delivered.deliveries[0].state = "delivered";
    delivered.exceptions.clear();
    delivered.settled.push(last - 1);
    delivered.rejoined.push(directory_id);
    let ended = vec![(id, delivered)];
    assert_eq!(
        record(&store, SHARD, lease(held), ended).await,
        Recorded::Written
    );
    let place = placed(&store, &view(id), Source::Shard).await;
    assert!(place.exceptions.is_empty() && place.done_ahead.is_empty());
    assert!(place.lagging.is_empty());
    let done = super::ended(&store, id, &[last - 1, last]).await.unwrap();
    assert_eq!(done, [last - 1].into());

    let gone = view(EndpointId::generate());
    for source in [Source::Shard, apart] {
        let place = load(&store, &gone, SHARD, source).await.unwrap();
        assert!(place.is_none());
    }
    store.close().await;
}

#[tokio::test]
async fn records_are_fenced_whole_and_repeatable_on_sqlite() {
    let file = tempfile::NamedTempFile::new().unwrap();
    records_are_fenced_whole_and_repeatable(&format!("sqlite://{}", file.path().display())).await;
}

#[tokio::test]
async fn records_are_fenced_whole_and_repeatable_on_postgresql() {
    if let Some(url) = std::env::var_os("ROLLCALL_TEST_POSTGRES") {
        records_are_fenced_whole_and_repeatable(&url.to_string_lossy()).await;
    }
}
