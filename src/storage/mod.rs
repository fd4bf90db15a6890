//! The database: opening it, reading it, and the only place where a transaction begins.
//!
//! Cast: a [`Store`] is an open database. Reads go through [`Store::reader`] (or
//! [`Store::dispatch_reader`] for the webhook engine), each query with a time limit. Writes are
//! [`UseCase`]s given to [`Store::write`]. [`Wake`] tells the webhook engine of this process which shards
//! have something new; it is a hint, and nothing depends on it arriving.
//!
//! Invariants: nothing on the network happens while a transaction is open; every query names its tenant.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sea_orm::DatabaseConnection;
use tokio::sync::{Notify, OnceCell};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;

pub mod backup;
pub mod counts;
pub mod database;
pub mod dialect;
pub mod error;
pub mod generation;
pub mod horizon;
pub mod inspect;
mod pooler;
pub mod schema;
pub mod sql;
pub mod tables;
pub mod write;

pub use database::Database;
pub use dialect::Dialect;
pub use error::{Error, is_unique_violation};
pub use write::{EventDraft, Lane, LockedDirectory, Upcoming, UseCase, WriteTx, newest_sequence};

use dialect::Purpose;

/// An open database; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    dialect: Dialect,
    writer: Database,
    reader: Database,
    dispatch: Database,
    lease: Option<Database>,
    clock: Arc<dyn Clock>,
    queues: write::Queues,
    tasks: TaskTracker,
    /// Where groups of writes run, whatever thread asked for them.
    runtime: tokio::runtime::Handle,
    wake: Wake,
    has_wall: OnceCell<bool>,
    /// Held for as long as the store lives, so that no second server opens the same SQLite file.
    _lock: Option<File>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Store")
            .field("dialect", &self.inner.dialect)
            .finish_non_exhaustive()
    }
}

/// Who opens the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// A server: the only one on a SQLite file, and one that dispatches.
    Server,
    /// A command that may run beside a server.
    Command,
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server has the SQLite file open.
    #[error(
        "another server is running on the database file {0}; stop it, or use another data directory"
    )]
    InUse(String),
    /// The directory or lock file cannot be made.
    #[error("cannot use the database file {0}: {1}")]
    File(String, #[source] std::io::Error),
    /// What stands between us and PostgreSQL loses prepared statements.
    #[error(
        "a pooler in front of PostgreSQL does not keep prepared statements: use PgBouncer 1.21 or \
         newer with max_prepared_statements = 200, or name PostgreSQL itself in database_url"
    )]
    Pooler,
    /// The database does not answer or refuses us.
    #[error("cannot open the database: {}", one_line(.0))]
    Connect(#[source] sea_orm::DbErr),
}

/// An error and its causes on one line.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text.replace('\n', " ")
}

impl Store {
    /// Opens the database at `url`.
    ///
    /// # Errors
    /// Another server has the file, or the database does not answer.
    pub async fn open(url: &str, opener: Opener, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let dialect = Dialect::of_url(url);
        let lock = match (dialect::sqlite_file(url), dialect) {
            (Some(file), Dialect::Sqlite) => prepare_file(&file, opener)?,
            _ => None,
        };
        let writer = connect(dialect, url, Purpose::Write).await?;
        let lease = if dialect == Dialect::Postgres && opener == Opener::Server {
            Some(connect(dialect, url, Purpose::Lease).await?)
        } else {
            None
        };
        let reader = connect(dialect, url, Purpose::Read).await?;
        if dialect == Dialect::Postgres {
            pooler::refuse_forgetful(&writer, &reader).await?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                dialect,
                writer,
                reader,
                dispatch: connect(dialect, url, Purpose::Dispatch).await?,
                lease,
                clock,
                queues: write::Queues::default(),
                tasks: TaskTracker::new(),
                runtime: tokio::runtime::Handle::current(),
                wake: Wake::default(),
                has_wall: OnceCell::new(),
                _lock: lock,
            }),
        })
    }

    /// Which database this is.
    pub fn dialect(&self) -> Dialect {
        self.inner.dialect
    }

    /// Connections for reading.
    pub fn reader(&self) -> &Database {
        &self.inner.reader
    }

    /// Connections for the webhook engine's reading, so that slow pages elsewhere do not delay it.
    pub fn dispatch_reader(&self) -> &Database {
        &self.inner.dispatch
    }

    /// The connection that shard leases are renewed on. SQLite has one writer for everything.
    pub fn lease_connection(&self) -> &Database {
        self.inner.lease.as_ref().unwrap_or(&self.inner.writer)
    }

    /// A connection for single statements that write, outside any use case.
    pub fn statement_connection(&self) -> &Database {
        &self.inner.writer
    }

    /// What tells the webhook engine of this process that there is something new.
    pub fn wake(&self) -> &Wake {
        &self.inner.wake
    }

    /// The clock that transactions take their instant from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    pub(crate) fn migration_connection(&self) -> &DatabaseConnection {
        self.inner.writer.unlimited()
    }

    /// Waits for writes under way and closes all connections.
    pub async fn close(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        let pools = [
            Some(&self.inner.reader),
            Some(&self.inner.dispatch),
            self.inner.lease.as_ref(),
            Some(&self.inner.writer),
        ];
        for pool in pools.into_iter().flatten() {
            if let Err(error) = pool.unlimited().close_by_ref().await {
                tracing::warn!(%error, "a database connection did not close cleanly");
            }
        }
    }
}

async fn connect(dialect: Dialect, url: &str, purpose: Purpose) -> Result<Database, OpenError> {
    dialect
        .connect(url, purpose)
        .await
        .map(Database::new)
        .map_err(OpenError::Connect)
}

/// Makes the file's directory, and for a server takes the lock beside the file.
fn prepare_file(file: &std::path::Path, opener: Opener) -> Result<Option<File>, OpenError> {
    let name = file.display().to_string();
    if let Some(directory) = file.parent().filter(|path| !path.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|error| OpenError::File(name.clone(), error))?;
    }
    if opener == Opener::Command {
        return Ok(None);
    }
    let lock = take_lock(file)?;
    backup::make_private(file).map_err(|error| OpenError::File(name, error))?;
    Ok(Some(lock))
}

/// Takes the lock beside a SQLite file, which whoever serves it or replaces it holds.
///
/// # Errors
/// Somebody else holds it, or it cannot be made.
pub fn take_lock(file: &std::path::Path) -> Result<File, OpenError> {
    let name = file.display().to_string();
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(backup::beside(file, ".lock"))
        .map_err(|error| OpenError::File(name.clone(), error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(name)),
        Err(std::fs::TryLockError::Error(error)) => Err(OpenError::File(name, error)),
    }
}

/// Which shards have new events; a hint between tasks of one process.
#[derive(Debug, Default)]
pub struct Wake {
    shards: AtomicU32,
    notify: Notify,
    endpoints: Notify,
}

impl Wake {
    /// Marks the shards in the bit mask as having something new.
    pub fn wake(&self, shards: u32) {
        if shards != 0 {
            self.shards.fetch_or(shards, Ordering::AcqRel);
            self.notify.notify_one();
        }
    }

    /// Waits until something is marked.
    pub async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Says that the webhook endpoints have changed.
    pub fn endpoints_changed(&self) {
        self.endpoints.notify_one();
    }

    /// Waits until the webhook endpoints have changed.
    pub async fn wait_for_endpoints(&self) {
        self.endpoints.notified().await;
    }

    /// Takes the marked shards.
    pub fn take(&self) -> u32 {
        self.shards.swap(0, Ordering::AcqRel)
    }
}

/// Inserts `row` unless a unique index refuses it; tells whether it was inserted.
///
/// The unique index decides, not a read before the write, and no SQL error spoils the transaction.
///
/// # Errors
/// The database fails.
pub async fn insert_new<A, C>(connection: &C, row: A) -> Result<bool, sea_orm::DbErr>
where
    A: sea_orm::ActiveModelTrait,
    C: sea_orm::ConnectionTrait,
{
    use sea_orm::{EntityTrait, sea_query::OnConflict};
    let rows = A::Entity::insert(row)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(connection)
        .await?;
    Ok(rows > 0)
}
