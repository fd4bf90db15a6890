//! The horizon: that reading the log up to it loses nothing, and that reading without it does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rollcall::events::log;
use rollcall::ids::{DirectoryId, EventId};
use rollcall::storage::tables::{directories, events};
use rollcall::storage::{self, Lane, Store, UseCase, WriteTx, horizon};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DatabaseConnection, DbErr, EntityTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use tokio::task::JoinSet;

use crate::support::postgres::{self, Private};
use crate::support::store::{Fixture, draft};
use crate::support::waiting::eventually;

const WRITERS: usize = 16;
const DIRECTORIES: usize = 40;
const EVENTS_MAX: usize = 6;
const PAGE: u64 = 1_000;
const RUN_MIN: Duration = Duration::from_secs(6);
const RUN_MAX: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);

/// Appends some events to one directory.
struct Append {
    directory: directories::Model,
    ids: Vec<EventId>,
}

impl UseCase for Append {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        for id in &self.ids {
            tx.buffer(draft(&self.directory, *id));
        }
        Ok(())
    }
}

/// What writers and readers share.
#[derive(Default)]
struct Run {
    /// Writers shall end.
    end: AtomicBool,
    /// Writers have ended: what readers find from now on is all there is.
    is_written: AtomicBool,
    /// Events whose write was answered with success.
    acknowledged: Mutex<Vec<EventId>>,
    control_gaps: AtomicUsize,
}

impl Run {
    fn has_ended(&self) -> bool {
        self.end.load(Ordering::SeqCst)
    }

    fn is_written(&self) -> bool {
        self.is_written.load(Ordering::SeqCst)
    }
}

/// What a reader has read.
#[derive(Default)]
struct Read {
    ids: HashSet<EventId>,
    newest: HashMap<DirectoryId, i64>,
    gaps: usize,
}

impl Read {
    fn take(&mut self, row: &events::Model) {
        let sequence = row.sequence.unwrap();
        let last = self.newest.insert(row.directory_id, sequence).unwrap_or(0);
        self.gaps += usize::from(sequence != last + 1);
        self.ids.insert(row.id);
    }
}

async fn write(
    run: Arc<Run>,
    store: Store,
    directories: Arc<Vec<directories::Model>>,
    seed: usize,
) {
    let mut turn = seed;
    while !run.has_ended() {
        turn = turn.wrapping_mul(31).wrapping_add(17);
        let directory = directories[turn % directories.len()].clone();
        let count = 1 + turn / 7 % EVENTS_MAX;
        let ids: Vec<EventId> = (0..count).map(|_| EventId::generate()).collect();
        let (lane, append) = (
            Lane::Directory(directory.id),
            Append {
                directory,
                ids: ids.clone(),
            },
        );
        match store.write(lane, append).await {
            Ok(()) => run.acknowledged.lock().unwrap().extend(ids),
            Err(_) => tokio::time::sleep(PAUSE_AFTER_ERROR).await,
        }
    }
}

/// Reads by position alone.
async fn read_naively(run: Arc<Run>, store: Store) -> Read {
    let (mut read, mut cursor) = (Read::default(), 0);
    loop {
        let was_last = run.is_written();
        let page = events::Entity::find()
            .filter(events::Column::Position.gt(cursor))
            .order_by_asc(events::Column::Position)
            .limit(PAGE)
            .all(store.reader())
            .await;
        match page {
            Ok(page) => {
                for row in &page {
                    read.take(row);
                    cursor = row.position;
                }
                run.control_gaps.store(read.gaps, Ordering::SeqCst);
                if was_last && page.is_empty() {
                    return read;
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) => tokio::time::sleep(PAUSE_AFTER_ERROR).await,
        }
    }
}

/// Reads each shard up to its horizon.
async fn read_to_the_horizon(run: Arc<Run>, store: Store) -> Read {
    let (mut read, mut cursors) = (Read::default(), BTreeMap::new());
    loop {
        let was_last = run.is_written();
        match read_once(&store, &mut read, &mut cursors).await {
            Ok(0) if was_last => return read,
            Ok(_) => tokio::time::sleep(PAUSE).await,
            Err(_) => tokio::time::sleep(PAUSE_AFTER_ERROR).await,
        }
    }
}

async fn read_once(
    store: &Store,
    read: &mut Read,
    cursors: &mut BTreeMap<i16, i64>,
) -> Result<usize, DbErr> {
    let horizon = horizon::read(store.reader(), store.dialect()).await?;
    let mut count = 0;
    for shard in (0_i16..).take(horizon::SHARDS) {
        let cursor = cursors.entry(shard).or_default();
        let end = horizon.of(shard);
        for row in log::read_shard(store.reader(), shard, *cursor, end, PAGE).await? {
            read.take(&row);
            *cursor = row.position;
            count += 1;
        }
    }
    Ok(count)
}

/// All events, once the writers have ended.
async fn all_ids(store: &Store) -> HashSet<EventId> {
    let ids = events::Entity::find()
        .select_only()
        .column(events::Column::Id)
        .into_tuple::<EventId>()
        .all(store.reader());
    ids.await.unwrap().into_iter().collect()
}

/// Another program's transaction that has written and stays open.
async fn foreign_transaction(url: &str) -> DatabaseConnection {
    let connection = postgres::connect(url).await.unwrap();
    for statement in [
        "CREATE TABLE IF NOT EXISTS foreign_rows (id integer)",
        "BEGIN",
        "INSERT INTO foreign_rows VALUES (1)",
    ] {
        connection.execute_unprepared(statement).await.unwrap();
    }
    connection
}

fn start_writers(run: &Arc<Run>, fixture: &Fixture) -> JoinSet<()> {
    let directories = Arc::new(fixture.directories.clone());
    let mut writers = JoinSet::new();
    for seed in 0..WRITERS {
        let (run, store) = (Arc::clone(run), fixture.store.clone());
        writers.spawn(write(run, store, Arc::clone(&directories), seed));
    }
    writers
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_the_horizon_loses_nothing_where_reading_by_position_alone_does() {
    let Some(mut server) = Private::start() else {
        return;
    };
    let url = server.url();
    let fixture = Fixture::at(&url, DIRECTORIES).await;
    let foreign = foreign_transaction(&url).await;
    let run = Arc::new(Run::default());
    let writers = start_writers(&run, &fixture);
    let mut readers = JoinSet::new();
    readers.spawn(read_naively(Arc::clone(&run), fixture.store.clone()));
    let mut ours = JoinSet::new();
    ours.spawn(read_to_the_horizon(Arc::clone(&run), fixture.store.clone()));

    let started = Instant::now();
    tokio::time::sleep(RUN_MIN / 2).await;
    tokio::task::block_in_place(|| server.stop_immediately());
    tokio::task::block_in_place(|| server.start_again());
    drop(foreign);
    let foreign = foreign_transaction(&url).await;
    eventually("loss by the control", RUN_MAX, async || {
        run.control_gaps.load(Ordering::SeqCst) > 0 && started.elapsed() > RUN_MIN
    })
    .await;
    run.end.store(true, Ordering::SeqCst);
    writers.join_all().await;
    run.is_written.store(true, Ordering::SeqCst);
    let control = readers.join_all().await.remove(0);
    let ours = ours.join_all().await.remove(0);
    foreign.execute_unprepared("ROLLBACK").await.unwrap();

    let all = all_ids(&fixture.store).await;
    let acknowledged = run.acknowledged.lock().unwrap().clone();
    let lost = all.difference(&control.ids).count();
    eprintln!(
        "{} events, {} acknowledged; by position alone: {lost} lost, {} gaps; ours: {} lost, {} gaps",
        all.len(),
        acknowledged.len(),
        control.gaps,
        all.difference(&ours.ids).count(),
        ours.gaps
    );
    assert!(acknowledged.iter().all(|id| all.contains(id)));
    assert_eq!(ours.gaps, 0);
    assert!(ours.ids == all);
    assert!(lost > 0, "the race that the horizon is for did not happen");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_everything_is_read_once_and_in_order() {
    let fixture = Fixture::on_sqlite(DIRECTORIES).await;
    let run = Arc::new(Run::default());
    let writers = start_writers(&run, &fixture);
    let mut ours = JoinSet::new();
    ours.spawn(read_to_the_horizon(Arc::clone(&run), fixture.store.clone()));

    eventually("events", RUN_MAX, async || {
        run.acknowledged.lock().unwrap().len() > 3_000
    })
    .await;
    run.end.store(true, Ordering::SeqCst);
    writers.join_all().await;
    run.is_written.store(true, Ordering::SeqCst);
    let ours = ours.join_all().await.remove(0);

    let all = all_ids(&fixture.store).await;
    let acknowledged: HashSet<EventId> = run.acknowledged.lock().unwrap().iter().copied().collect();
    assert_eq!(ours.gaps, 0);
    assert!(ours.ids == all);
    assert!(acknowledged == all);
}
