//! Writing: use cases, the transaction they run in, and the groups they are committed in.
//!
//! A *use case* is one thing that a caller wants done, whole or not at all. It is re-runnable: it owns
//! its data, checks first and writes after. While one group of use cases commits, the next one gathers;
//! nobody waits for company. PostgreSQL groups the use cases of one [`Lane`], SQLite (one writer) all.
//!
//! Invariants:
//! - a use case of lane `Directory` runs under that directory's row lock, taken before anything else;
//! - a use case that fails without having written gets its error alone; any other failure rolls the
//!   group back, and each of its use cases runs again by itself;
//! - a group is run again only if it failed before COMMIT was sent; if the outcome of COMMIT is unknown,
//!   all its callers are told so;
//! - events are given positions and inserted last, just before COMMIT, in one statement.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, ConnAcquireErr, ConnectionTrait, DatabaseTransaction,
    DbBackend, DbErr, EntityTrait, ExecResult, QueryFilter, QueryResult, QuerySelect, RuntimeErr,
    Statement, sea_query::LockType,
};
use tokio::sync::oneshot;

use super::counts::{self, Difference};
use super::database::limited;
use super::generation::last_taken;
use super::tables::{directories, events, scim_tokens};
use super::{Dialect, Error, Store, horizon};
use crate::actor::Actor;
use crate::ids::{DirectoryId, EventId, OrganizationId, ResourceId, ScimTokenId};

/// How many use cases one transaction holds at most.
const GROUP_MAX: usize = 64;
/// How many event rows one INSERT holds at most; PostgreSQL takes 65,535 parameters.
const EVENT_ROWS_MAX: usize = 1_000;
/// Every shard, as a bit mask.
const ALL_SHARDS: u32 = 0xFFFF;

/// What a write is about, and so with which other writes it is serialized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// One directory: its row is locked first.
    Directory(DirectoryId),
    /// Anything else.
    System,
}

/// Something to be done in one transaction, whole or not at all.
pub trait UseCase: Send + Sync + 'static {
    /// What the caller gets.
    type Answer: Send + 'static;
    /// Why it was not done.
    type Error: From<Error> + Send + 'static;

    /// Does it. Called again from the start if the group it ran in was rolled back.
    fn run(&self, tx: &WriteTx) -> impl Future<Output = Result<Self::Answer, Self::Error>> + Send;
}

/// An event on its way into the log; `storage` gives it its position and sequence.
#[derive(Clone, Debug)]
pub struct EventDraft {
    /// The id of the event, on the wire and in the log.
    pub id: EventId,
    /// The organization of the directory.
    pub organization_id: OrganizationId,
    /// The directory.
    pub directory_id: DirectoryId,
    /// The shard of the directory.
    pub shard: i16,
    /// Whether it is part of the directory's gapless sequence.
    pub is_sequenced: bool,
    /// The event type on the wire.
    pub kind: &'static str,
    /// The SCIM resource of the user it is about.
    pub user_id: Option<ResourceId>,
    /// The SCIM resource of the group it is about.
    pub group_id: Option<ResourceId>,
    /// The folded names that it takes or frees, a line each.
    pub names: Option<String>,
    /// The exact text on the wire.
    pub payload: String,
    /// Whether it says that a person was deleted or became inactive.
    pub is_departure: bool,
    /// Who caused it.
    pub actor: Option<Actor>,
}

/// The directory whose row the transaction has locked.
#[derive(Clone, Debug)]
pub struct LockedDirectory {
    /// The row.
    pub row: directories::Model,
    /// The tokens that were valid when the lock was taken.
    live_tokens: Vec<ScimTokenId>,
}

impl LockedDirectory {
    /// Whether `token` still opens the directory, judged under the lock that revoking takes too.
    pub fn accepts(&self, token: ScimTokenId) -> bool {
        self.live_tokens.contains(&token)
    }
}

/// What a transaction will write down about a directory when it commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upcoming {
    /// Events of its sequence.
    pub sequenced: usize,
    /// Events that say that a person was deleted or became inactive.
    pub departures: usize,
    /// Users and groups added or removed.
    pub resources: Difference,
}

/// What the use cases of one group share.
struct Shared {
    connection: DatabaseTransaction,
    store: Store,
    now: DateTime<Utc>,
    rows_written: AtomicU64,
    is_broken: AtomicBool,
    directories: Mutex<HashMap<DirectoryId, Arc<LockedDirectory>>>,
    events: Mutex<Vec<EventDraft>>,
    counts: Mutex<HashMap<DirectoryId, Difference>>,
}

/// A write transaction as one use case sees it.
pub struct WriteTx {
    shared: Arc<Shared>,
    directory: Option<Arc<LockedDirectory>>,
    actor: OnceLock<Actor>,
}

impl std::fmt::Debug for WriteTx {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WriteTx").finish_non_exhaustive()
    }
}

impl WriteTx {
    /// The one instant of this transaction.
    pub fn now(&self) -> DateTime<Utc> {
        self.shared.now
    }

    /// Says who does what follows; the first to be said holds.
    pub fn act_as(&self, actor: Actor) {
        self.actor.get_or_init(|| actor);
    }

    /// Who does it, once that has been said.
    pub fn actor(&self) -> Option<Actor> {
        self.actor.get().copied()
    }

    /// The locked directory; `None` if the lane is another or there is no such directory.
    pub fn directory(&self) -> Option<&LockedDirectory> {
        self.directory.as_deref()
    }

    /// Tells that the use case has changed the directory's row or tokens, so that the next use case of
    /// the group reads them anew.
    pub fn directory_changed(&self, id: DirectoryId) {
        lock(&self.shared.directories).remove(&id);
    }

    /// Buffers an event; it is given its place in the log just before COMMIT.
    pub fn buffer(&self, event: EventDraft) {
        lock(&self.shared.events).push(event);
    }

    /// Keeps everybody from reading the log past the position that it returns, until the transaction ends;
    /// nothing past it has been read.
    ///
    /// # Errors
    /// The database fails.
    pub async fn bar_log(&self) -> Result<i64, DbErr> {
        let connection = &self.shared.connection;
        horizon::mark(connection, self.dialect(), ALL_SHARDS).await?;
        let horizon = limited(horizon::read(connection, self.dialect())).await?;
        Ok(horizon.last_drawn)
    }

    /// Notes that users or groups of the locked directory were added or removed.
    pub fn count_resources(&self, directory_id: DirectoryId, difference: Difference) {
        let mut counts = lock(&self.shared.counts);
        let total = counts.entry(directory_id).or_default();
        total.users += difference.users;
        total.groups += difference.groups;
    }

    /// What this transaction will write down about a directory when it commits, for all its use cases so
    /// far.
    pub fn upcoming(&self, directory_id: DirectoryId) -> Upcoming {
        let events = lock(&self.shared.events);
        let of_directory = || {
            let drafts = events.iter();
            drafts.filter(|draft| draft.directory_id == directory_id)
        };
        Upcoming {
            sequenced: of_directory().filter(|draft| draft.is_sequenced).count(),
            departures: of_directory().filter(|draft| draft.is_departure).count(),
            resources: lock(&self.shared.counts)
                .get(&directory_id)
                .copied()
                .unwrap_or_default(),
        }
    }

    /// Whether the connection speaks SQLite or PostgreSQL.
    pub fn dialect(&self) -> Dialect {
        self.shared.store.dialect()
    }

    fn count(&self, result: Result<u64, ()>) {
        match result {
            Ok(rows) => {
                self.shared.rows_written.fetch_add(rows, Ordering::Relaxed);
            }
            Err(()) => self.shared.is_broken.store(true, Ordering::Relaxed),
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for WriteTx {
    fn get_database_backend(&self) -> DbBackend {
        self.shared.connection.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let result = limited(self.shared.connection.execute_raw(statement)).await;
        self.count(
            result
                .as_ref()
                .map_or(Err(()), |done| Ok(done.rows_affected())),
        );
        result
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let result = limited(self.shared.connection.execute_unprepared(sql)).await;
        self.count(
            result
                .as_ref()
                .map_or(Err(()), |done| Ok(done.rows_affected())),
        );
        result
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let is_read = is_read(&statement.sql);
        let result = limited(self.shared.connection.query_one_raw(statement)).await;
        self.count(match &result {
            Ok(Some(_)) if !is_read => Ok(1),
            Ok(_) => Ok(0),
            Err(_) => Err(()),
        });
        result
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let is_read = is_read(&statement.sql);
        let result = limited(self.shared.connection.query_all_raw(statement)).await;
        self.count(match &result {
            Ok(rows) if !is_read => Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX)),
            Ok(_) => Ok(0),
            Err(_) => Err(()),
        });
        result
    }
}

/// Everything that does not begin with SELECT counts as a write if it returns or affects a row.
fn is_read(sql: &str) -> bool {
    sql.trim_start()
        .get(..6)
        .is_some_and(|word| word.eq_ignore_ascii_case("select"))
}

/// A use case waiting for its turn, without its types.
trait Waiting: Send + Sync {
    fn lane(&self) -> Lane;
    /// Runs it and keeps the result; `false` if it failed.
    fn run<'a>(&'a self, tx: &'a WriteTx) -> BoxFuture<'a, bool>;
    /// Hands the kept result to the caller.
    fn answer(&self);
    /// Hands `error` to the caller instead.
    fn fail(&self, error: Error);
}

struct Pending<U: UseCase> {
    lane: Lane,
    use_case: U,
    result: Mutex<Option<Result<U::Answer, U::Error>>>,
    caller: Mutex<Option<Caller<U>>>,
}

type Caller<U> = oneshot::Sender<Result<<U as UseCase>::Answer, <U as UseCase>::Error>>;

impl<U: UseCase> Pending<U> {
    fn reply(&self, result: Result<U::Answer, U::Error>) {
        if let Some(caller) = lock(&self.caller).take() {
            // A caller that has hung up cancels nothing and hears nothing.
            drop(caller.send(result));
        }
    }
}

impl<U: UseCase> Waiting for Pending<U> {
    fn lane(&self) -> Lane {
        self.lane
    }

    fn run<'a>(&'a self, tx: &'a WriteTx) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let result = AssertUnwindSafe(self.use_case.run(tx)).catch_unwind().await;
            let result = result.unwrap_or_else(|_| {
                tx.shared.is_broken.store(true, Ordering::Relaxed);
                Err(Error::Panicked.into())
            });
            // A use case that went on after a statement had failed must not be told that it is durable.
            let result = match result {
                Ok(_) if tx.shared.is_broken.load(Ordering::Relaxed) => Err(refused().into()),
                result => result,
            };
            let is_ok = result.is_ok();
            *lock(&self.result) = Some(result);
            is_ok
        })
    }

    fn answer(&self) {
        if let Some(result) = lock(&self.result).take() {
            self.reply(result);
        }
    }

    fn fail(&self, error: Error) {
        self.reply(Err(error.into()));
    }
}

fn refused() -> Error {
    Error::Database(DbErr::Custom("a statement failed".to_owned()))
}

/// What waits, by the queue that it waits in; a queue exists while somebody works on it.
#[derive(Default)]
pub(super) struct Queues(Mutex<HashMap<Lane, Vec<Arc<dyn Waiting>>>>);

impl Store {
    /// Runs `use_case` in a transaction of `lane` and answers once it is durable.
    ///
    /// This is the only place where a transaction begins.
    pub async fn write<U: UseCase>(&self, lane: Lane, use_case: U) -> Result<U::Answer, U::Error> {
        let (caller, answer) = oneshot::channel();
        let pending: Arc<dyn Waiting> = Arc::new(Pending {
            lane,
            use_case,
            result: Mutex::new(None),
            caller: Mutex::new(Some(caller)),
        });
        let queue = self.queue_of(lane);
        let is_first = {
            let mut queues = lock(&self.inner.queues.0);
            let is_first = !queues.contains_key(&queue);
            queues.entry(queue).or_default().push(pending);
            is_first
        };
        if is_first {
            let store = self.clone();
            self.inner.tasks.spawn_on(
                async move { store.work_off(queue).await },
                &self.inner.runtime,
            );
        }
        answer.await.unwrap_or_else(|_| Err(Error::Stopping.into()))
    }

    fn queue_of(&self, lane: Lane) -> Lane {
        match self.dialect() {
            Dialect::Sqlite => Lane::System,
            Dialect::Postgres => lane,
        }
    }

    async fn work_off(&self, queue: Lane) {
        while let Some(group) = self.next_group(queue) {
            if queue == Lane::System && self.dialect() == Dialect::Postgres {
                // No lock orders these; they only share a queue.
                for alone in group {
                    self.commit_alone(&alone).await;
                }
            } else {
                self.commit_group(group).await;
            }
        }
    }

    fn next_group(&self, queue: Lane) -> Option<Vec<Arc<dyn Waiting>>> {
        let mut queues = lock(&self.inner.queues.0);
        let waiting = queues.get_mut(&queue)?;
        if waiting.is_empty() {
            queues.remove(&queue);
            return None;
        }
        let size = waiting.len().min(GROUP_MAX);
        Some(waiting.drain(..size).collect())
    }

    async fn commit_group(&self, group: Vec<Arc<dyn Waiting>>) {
        match self.attempt(&group).await {
            Attempt::Committed => group.iter().for_each(|waiting| waiting.answer()),
            Attempt::RunAlone if group.len() > 1 => {
                for alone in group {
                    self.commit_alone(&alone).await;
                }
            }
            Attempt::RunAlone => group.iter().for_each(|waiting| waiting.answer()),
            Attempt::Failed(error) => fail_all(&group, &error, Error::from),
            Attempt::Unknown(error) => fail_all(&group, &error, Error::OutcomeUnknown),
        }
    }

    async fn commit_alone(&self, waiting: &Arc<dyn Waiting>) {
        let group = [Arc::clone(waiting)];
        match self.attempt(&group).await {
            Attempt::Committed | Attempt::RunAlone => waiting.answer(),
            Attempt::Failed(error) => fail_all(&group, &error, Error::from),
            Attempt::Unknown(error) => fail_all(&group, &error, Error::OutcomeUnknown),
        }
    }

    /// Runs `group` in one transaction.
    async fn attempt(&self, group: &[Arc<dyn Waiting>]) -> Attempt {
        let lane = group.first().map(|waiting| waiting.lane());
        let shared = match self.begin(lane).await {
            Ok(shared) => Arc::new(shared),
            Err(error) => return Attempt::Failed(error),
        };
        for waiting in group {
            match run_one(&shared, waiting).await {
                Ok(true) => {}
                Ok(false) => return roll_back(shared, Attempt::RunAlone).await,
                Err(error) => return roll_back(shared, Attempt::Failed(error)).await,
            }
        }
        let shards = match flush_events(&shared).await {
            Ok(shards) => shards,
            Err(error) => return roll_back(shared, Attempt::Failed(error)).await,
        };
        if shared.rows_written.load(Ordering::Relaxed) == 0 {
            return roll_back(shared, Attempt::Committed).await;
        }
        if let Err(error) = flush_counts(&shared).await {
            return roll_back(shared, Attempt::Failed(error)).await;
        }
        let Some(shared) = Arc::into_inner(shared) else {
            return Attempt::Failed(DbErr::Custom("the transaction is still in use".to_owned()));
        };
        match limited(shared.connection.commit()).await {
            Ok(()) => {
                self.inner.wake.wake(shards);
                Attempt::Committed
            }
            Err(error) => Attempt::Unknown(error),
        }
    }

    async fn begin(&self, lane: Option<Lane>) -> Result<Shared, DbErr> {
        let wall = match lane {
            Some(Lane::Directory(id)) if self.has_wall().await? => Some(id),
            Some(Lane::Directory(_) | Lane::System) | None => None,
        };
        let connection = limited(self.dialect().begin(self.inner.writer.unlimited(), wall)).await?;
        Ok(Shared {
            connection,
            store: self.clone(),
            now: self.inner.clock.now(),
            rows_written: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            directories: Mutex::default(),
            events: Mutex::default(),
            counts: Mutex::default(),
        })
    }
}

impl Store {
    /// Whether PostgreSQL itself keeps the writes of a directory to its rows; asked once, at the first
    /// write.
    async fn has_wall(&self) -> Result<bool, DbErr> {
        let asked = self.inner.has_wall.get_or_try_init(|| async {
            let connection = self.statement_connection();
            let has_wall = self.dialect().raise_wall(connection).await?;
            if !has_wall && self.dialect() == Dialect::Postgres {
                tracing::warn!(
                    "row-level security is not in force: the database user may not take the role \
                     rollcall_tenant; create that role, grant it to the user, and start again"
                );
            }
            Ok(has_wall)
        });
        asked.await.copied()
    }
}

/// How an attempt to commit a group ended.
enum Attempt {
    /// It is durable (or there was nothing to write); results are kept in the use cases.
    Committed,
    /// One failed after writing; nothing was written.
    RunAlone,
    /// The database failed before COMMIT; nothing was written.
    Failed(DbErr),
    /// COMMIT was sent, and no answer came.
    Unknown(DbErr),
}

/// Runs one use case; `Ok(false)` if it spoilt the transaction.
async fn run_one(shared: &Arc<Shared>, waiting: &Arc<dyn Waiting>) -> Result<bool, DbErr> {
    let directory = match waiting.lane() {
        Lane::Directory(id) => lock_directory(shared, id).await?,
        Lane::System => None,
    };
    let rows_before = shared.rows_written.load(Ordering::Relaxed);
    let events_before = lock(&shared.events).len();
    let tx = WriteTx {
        shared: Arc::clone(shared),
        directory,
        actor: OnceLock::new(),
    };
    let is_ok = waiting.run(&tx).await;
    if shared.is_broken.load(Ordering::Relaxed) {
        return Ok(false);
    }
    if !is_ok {
        lock(&shared.events).truncate(events_before);
        return Ok(shared.rows_written.load(Ordering::Relaxed) == rows_before);
    }
    Ok(true)
}

/// Locks the directory's row, then reads its valid tokens.
///
/// The tokens are read by a statement of their own: one that waited for the lock would judge them by a
/// snapshot from before the wait, and so accept a token that was revoked meanwhile.
async fn lock_directory(
    shared: &Shared,
    id: DirectoryId,
) -> Result<Option<Arc<LockedDirectory>>, DbErr> {
    if let Some(known) = lock(&shared.directories).get(&id) {
        return Ok(Some(Arc::clone(known)));
    }
    let locked_row = directories::Entity::find_by_id(id)
        .lock(LockType::NoKeyUpdate)
        .one(&shared.connection);
    let Some(row) = limited(locked_row).await? else {
        return Ok(None);
    };
    let live_tokens = limited(
        scim_tokens::Entity::find()
            .select_only()
            .column(scim_tokens::Column::Id)
            .filter(scim_tokens::Column::DirectoryId.eq(id))
            .filter(scim_tokens::Column::RevokedAt.is_null())
            .filter(
                Condition::any()
                    .add(scim_tokens::Column::ExpiresAt.is_null())
                    .add(scim_tokens::Column::ExpiresAt.gt(shared.now)),
            )
            .into_tuple::<ScimTokenId>()
            .all(&shared.connection),
    )
    .await?;
    let locked = Arc::new(LockedDirectory { row, live_tokens });
    lock(&shared.directories).insert(id, Arc::clone(&locked));
    Ok(Some(locked))
}

/// Gives the buffered events their sequences and positions and inserts them; returns the shards touched
/// as a bit mask.
async fn flush_events(shared: &Shared) -> Result<u32, DbErr> {
    let drafts = std::mem::take(&mut *lock(&shared.events));
    if drafts.is_empty() {
        return Ok(0);
    }
    let mut shards = 0_u32;
    let mut newest: HashMap<DirectoryId, i64> = HashMap::new();
    let mut rows = Vec::with_capacity(drafts.len());
    for draft in drafts {
        shards |= 1_u32
            .checked_shl(u32::from(draft.shard.unsigned_abs()))
            .unwrap_or(0);
        let sequence = if draft.is_sequenced {
            let last = match newest.get(&draft.directory_id) {
                Some(last) => *last,
                None => limited(last_taken(&shared.connection, draft.directory_id)).await?,
            };
            newest.insert(draft.directory_id, last + 1);
            Some(last + 1)
        } else {
            None
        };
        rows.push(event_row(shared, draft, sequence));
    }
    horizon::mark(&shared.connection, shared.store.dialect(), shards).await?;
    shared.rows_written.fetch_add(
        u64::try_from(rows.len()).unwrap_or(u64::MAX),
        Ordering::Relaxed,
    );
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let chunk: Vec<_> = rows.by_ref().take(EVENT_ROWS_MAX).collect();
        limited(events::Entity::insert_many(chunk).exec_without_returning(&shared.connection))
            .await?;
    }
    Ok(shards)
}

async fn flush_counts(shared: &Shared) -> Result<(), DbErr> {
    let counts = std::mem::take(&mut *lock(&shared.counts));
    let dialect = shared.store.dialect();
    for (directory_id, difference) in counts {
        if difference != Difference::default() {
            let recorded = counts::record(&shared.connection, dialect, directory_id, difference);
            limited(recorded).await?;
        }
    }
    Ok(())
}

fn event_row(shared: &Shared, draft: EventDraft, sequence: Option<i64>) -> events::ActiveModel {
    events::ActiveModel {
        position: ActiveValue::NotSet,
        id: ActiveValue::Set(draft.id),
        organization_id: ActiveValue::Set(draft.organization_id),
        directory_id: ActiveValue::Set(draft.directory_id),
        shard: ActiveValue::Set(draft.shard),
        sequence: ActiveValue::Set(sequence),
        kind: ActiveValue::Set(draft.kind.to_owned()),
        user_id: ActiveValue::Set(draft.user_id),
        group_id: ActiveValue::Set(draft.group_id),
        names: ActiveValue::Set(draft.names),
        payload: ActiveValue::Set(draft.payload),
        is_departure: ActiveValue::Set(draft.is_departure),
        actor: ActiveValue::Set(draft.actor.map(|actor| actor.who.to_string())),
        request_id: ActiveValue::Set(draft.actor.and_then(|actor| actor.request_id)),
        created_at: ActiveValue::Set(shared.now),
    }
}

/// The newest sequence of the directory, 0 if it has none: one descent of the index.
///
/// # Errors
/// The database fails.
pub async fn newest_sequence(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
) -> Result<i64, DbErr> {
    let newest = connection
        .query_one_raw(Statement::from_sql_and_values(
            connection.get_database_backend(),
            "SELECT max(sequence) AS newest FROM events WHERE directory_id = $1",
            [directory_id.uuid().into()],
        ))
        .await?;
    newest.map_or(Ok(0), |row| {
        Ok(row.try_get::<Option<i64>>("", "newest")?.unwrap_or(0))
    })
}

async fn roll_back(shared: Arc<Shared>, attempt: Attempt) -> Attempt {
    if let Some(shared) = Arc::into_inner(shared)
        && let Err(error) = limited(shared.connection.rollback()).await
    {
        tracing::warn!(%error, "a rollback failed; the connection is closed instead");
    }
    attempt
}

/// Gives each waiting caller an error of its own; the database's is logged once.
fn fail_all(group: &[Arc<dyn Waiting>], error: &DbErr, kind: fn(DbErr) -> Error) {
    tracing::warn!(%error, writes = group.len(), "writes failed");
    for waiting in group {
        waiting.fail(kind(copy_of(error)));
    }
}

/// `DbErr` cannot be cloned while it holds a driver's error; what callers need is its sort and its text.
fn copy_of(error: &DbErr) -> DbErr {
    let cause = |cause: &RuntimeErr| match cause {
        RuntimeErr::SqlxError(cause) => RuntimeErr::SqlxError(Arc::clone(cause)),
        RuntimeErr::Internal(text) => RuntimeErr::Internal(text.clone()),
    };
    if let DbErr::Conn(failure) | DbErr::Exec(failure) | DbErr::Query(failure) = error {
        let cause = cause(failure);
        if matches!(error, DbErr::Conn(_)) {
            DbErr::Conn(cause)
        } else {
            DbErr::Query(cause)
        }
    } else if matches!(error, DbErr::ConnectionAcquire(_)) {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)
    } else {
        DbErr::Custom(error.to_string())
    }
}

/// Locks a mutex that is never held across an await, so that a poisoned one holds whole values.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::storage::Opener;

    struct SwallowsAnError;

    impl UseCase for SwallowsAnError {
        type Answer = ();
        type Error = Error;

        async fn run(&self, tx: &WriteTx) -> Result<(), Error> {
            tx.execute_unprepared("CREATE TABLE kept (number INTEGER)")
                .await?;
            drop(tx.execute_unprepared("no statement at all").await);
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_use_case_that_swallows_an_sql_error_is_not_told_that_it_is_durable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let url = format!("sqlite://{}", file.path().display());
        let clock = Arc::new(ManualClock::at(0));
        let store = Store::open(&url, Opener::Command, clock).await.unwrap();
        let answer = store.write(Lane::System, SwallowsAnError).await;
        assert!(matches!(answer, Err(Error::Database(_))), "{answer:?}");
        let left = store
            .reader()
            .execute_unprepared("SELECT * FROM kept")
            .await;
        assert!(left.is_err(), "what it wrote was rolled back");
    }
}
