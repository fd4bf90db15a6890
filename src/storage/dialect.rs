//! The only file that knows SQLite from PostgreSQL: how to connect, begin, lock, mark and tell the time.
//!
//! Statements elsewhere are written once, with `$1`-style parameters, which both understand.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{self, Connection as _};
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};

use crate::ids::DirectoryId;

/// How long to wait for a connection.
const ACQUIRE_SECONDS: u64 = 2;
/// How long SQLite waits for another process's write, such as a command beside the server.
const SQLITE_BUSY_SECONDS: u64 = 5;

/// How long a connection is waited for that was left in the middle of something.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// Lets only connections back into the pool that answer and are in no transaction.
///
/// One whose other end has gone silent would never come back, and its place in the pool with it. One whose
/// transaction SQLite has ended by itself, because the disk was full, still counts as being in one: what
/// is written on it next would be a part of a transaction that nobody commits.
fn checked_at_release<D: sqlx::Database>(options: PoolOptions<D>) -> PoolOptions<D> {
    options.after_release(|connection, _| {
        Box::pin(async move {
            tokio::time::timeout(RELEASE_LIMIT, connection.ping())
                .await
                .map_err(|_elapsed| sqlx::Error::PoolTimedOut)??;
            Ok(!connection.is_in_transaction())
        })
    })
}

/// Which database this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The embedded one: one node, one writer.
    Sqlite,
    /// The one for several nodes.
    Postgres,
}

/// What PostgreSQL knows of the role behind which a directory's transactions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wall {
    /// It is not there, or not ours to take.
    Missing,
    /// It may not yet do what our transactions do.
    Unprivileged,
    /// It is as it should be.
    Ready,
}

const STATE_OF_WALL: &str = "SELECT pg_has_role(current_user, r.oid, 'MEMBER') AS is_ours, \
     has_schema_privilege(r.oid, current_schema(), 'USAGE') \
     AND has_sequence_privilege(r.oid, 'events_position_seq', 'USAGE') \
     AND NOT EXISTS (SELECT FROM pg_class c WHERE c.relkind = 'r' \
     AND c.relnamespace = CAST(current_schema() AS regnamespace) \
     AND NOT has_table_privilege(r.oid, c.oid, 'INSERT')) AS has_rights \
     FROM pg_roles r WHERE r.rolname = 'rollcall_tenant'";

const GIVE_RIGHTS: &str = "DO $$ BEGIN \
     EXECUTE format('GRANT USAGE ON SCHEMA %I TO rollcall_tenant', current_schema()); \
     EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I \
     TO rollcall_tenant', current_schema()); \
     EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO rollcall_tenant', \
     current_schema()); END $$";

/// What a pool of connections is for; it decides its size and rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    Read,
    Dispatch,
    Lease,
}

impl Dialect {
    /// Reads it from a database URL that the configuration has checked.
    pub fn of_url(url: &str) -> Self {
        if url.starts_with("sqlite") {
            Self::Sqlite
        } else {
            Self::Postgres
        }
    }

    /// sea-orm's name for it.
    pub fn backend(self) -> DbBackend {
        match self {
            Self::Sqlite => DbBackend::Sqlite,
            Self::Postgres => DbBackend::Postgres,
        }
    }

    /// A statement with `$1`-style parameters.
    pub fn statement<I: IntoIterator<Item = Value>>(self, sql: &str, values: I) -> Statement {
        Statement::from_sql_and_values(self.backend(), sql, values)
    }

    /// The database's own clock, in milliseconds since 1970, as an SQL expression.
    pub fn now_ms(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Self::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    pub(super) async fn connect(
        self,
        url: &str,
        purpose: Purpose,
    ) -> Result<DatabaseConnection, DbErr> {
        let mut options = ConnectOptions::new(url);
        options
            .sqlx_logging(false)
            .record_stmt_in_spans(false)
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(ACQUIRE_SECONDS))
            .max_connections(self.pool_size(purpose))
            .min_connections(0);
        options
            .map_sqlx_postgres_pool_opts(checked_at_release)
            .map_sqlx_sqlite_pool_opts(checked_at_release);
        if self == Self::Sqlite {
            options
                .idle_timeout(None::<Duration>)
                .max_lifetime(None::<Duration>)
                .map_sqlx_sqlite_opts(move |options| sqlite_options(options, purpose));
        } else {
            // PgBouncer refuses the parameter, and we have no floating-point numbers.
            options.map_sqlx_postgres_opts(|options| options.extra_float_digits(None));
        }
        sea_orm::Database::connect(options).await
    }

    fn pool_size(self, purpose: Purpose) -> u32 {
        match (self, purpose) {
            (Self::Sqlite, Purpose::Read) | (Self::Postgres, Purpose::Dispatch) => 4,
            (Self::Sqlite, Purpose::Dispatch) => 2,
            (Self::Postgres, Purpose::Write) => 12,
            (Self::Postgres, Purpose::Read) => 10,
            (Self::Sqlite, Purpose::Write) | (_, Purpose::Lease) => 1,
        }
    }

    /// Begins a write transaction. On PostgreSQL it also bounds, for this transaction, how long it may
    /// wait for locks, run a statement, or sit idle, and puts it behind the `wall` of one directory.
    pub(super) async fn begin(
        self,
        writer: &DatabaseConnection,
        wall: Option<DirectoryId>,
    ) -> Result<DatabaseTransaction, DbErr> {
        #[expect(clippy::disallowed_methods, reason = "transactions begin here")]
        let transaction = writer
            .begin_with_options(TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            })
            .await?;
        if self == Self::Postgres {
            let mut settings = String::from(
                "SET LOCAL idle_in_transaction_session_timeout = '4s'; \
                 SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '5s'",
            );
            if let Some(directory_id) = wall {
                // A UUID is written with digits, letters and hyphens only.
                let scope = directory_id.uuid();
                settings.push_str("; SET LOCAL ROLE rollcall_tenant; SET LOCAL rollcall.scope = '");
                settings.push_str(&scope.to_string());
                settings.push('\'');
            }
            transaction.execute_unprepared(&settings).await?;
        }
        Ok(transaction)
    }

    /// Whether transactions of a directory can be put behind a wall: its role is there, is ours to take,
    /// and has been given what it needs. What it lacks is given to it.
    pub(super) async fn raise_wall(self, connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
        if self == Self::Sqlite {
            return Ok(false);
        }
        match self.wall(connection).await? {
            Wall::Missing => Ok(false),
            Wall::Ready => Ok(true),
            Wall::Unprivileged => {
                // Another node may do it at the same time, which makes one of the two fail.
                if let Err(error) = connection.execute_unprepared(GIVE_RIGHTS).await {
                    tracing::warn!(%error, "the role rollcall_tenant could not be given its rights");
                }
                Ok(self.wall(connection).await? == Wall::Ready)
            }
        }
    }

    async fn wall(self, connection: &impl ConnectionTrait) -> Result<Wall, DbErr> {
        let row = connection
            .query_one_raw(self.statement(STATE_OF_WALL, []))
            .await?;
        let Some(row) = row else {
            return Ok(Wall::Missing);
        };
        let (is_ours, has_rights): (bool, bool) =
            (row.try_get("", "is_ours")?, row.try_get("", "has_rights")?);
        Ok(match (is_ours, has_rights) {
            (false, _) => Wall::Missing,
            (true, false) => Wall::Unprivileged,
            (true, true) => Wall::Ready,
        })
    }

    /// Whether one statement may write to several tables (a WITH of writing statements).
    pub fn writes_in_with(self) -> bool {
        self == Self::Postgres
    }

    /// A FROM item that turns parameter `$parameter`, a JSON array of objects, into rows named `r`.
    pub fn rows(self, parameter: usize, columns: &[(&str, ColumnKind)]) -> String {
        match self {
            Self::Postgres => {
                let columns: Vec<String> = columns
                    .iter()
                    .map(|(name, kind)| format!("{name} {}", kind.postgres()))
                    .collect();
                format!(
                    "jsonb_to_recordset(CAST(${parameter} AS jsonb)) AS r({})",
                    columns.join(", ")
                )
            }
            Self::Sqlite => {
                let columns: Vec<String> = columns
                    .iter()
                    .map(|(name, kind)| {
                        let value = format!("json_extract(value, '$.{name}')");
                        match kind {
                            ColumnKind::Uuid => {
                                format!("unhex(replace({value}, '-', '')) AS {name}")
                            }
                            ColumnKind::Integer | ColumnKind::Text | ColumnKind::Time => {
                                format!("{value} AS {name}")
                            }
                        }
                    })
                    .collect();
                format!(
                    "(SELECT {} FROM json_each(${parameter})) AS r",
                    columns.join(", ")
                )
            }
        }
    }

    /// A subquery of the integers in parameter `$parameter`, a JSON array.
    pub fn integers(self, parameter: usize) -> String {
        match self {
            Self::Postgres => format!(
                "(SELECT CAST(x AS bigint) FROM jsonb_array_elements_text(CAST(${parameter} AS jsonb)) AS t(x))"
            ),
            Self::Sqlite => format!("(SELECT value FROM json_each(${parameter}))"),
        }
    }
}

/// The type of a column of [`Dialect::rows`]. Times are given by [`time_text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A 64-bit integer.
    Integer,
    /// Text.
    Text,
    /// A UUID with hyphens.
    Uuid,
    /// A time.
    Time,
}

impl ColumnKind {
    fn postgres(self) -> &'static str {
        match self {
            Self::Integer => "bigint",
            Self::Text => "text",
            Self::Uuid => "uuid",
            Self::Time => "timestamptz",
        }
    }
}

/// A time as the SQLite driver writes it, so that times from JSON and from parameters compare as text.
pub fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, false)
}

fn sqlite_options(options: SqliteConnectOptions, purpose: Purpose) -> SqliteConnectOptions {
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(SQLITE_BUSY_SECONDS))
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON");
    if purpose == Purpose::Read || purpose == Purpose::Dispatch {
        options.pragma("query_only", "ON")
    } else {
        options
    }
}

/// The file behind a SQLite URL; `None` for a database in memory.
pub(super) fn sqlite_file(url: &str) -> Option<PathBuf> {
    let options = SqliteConnectOptions::from_str(url).ok()?;
    let file: &Path = options.get_filename();
    (!file.as_os_str().is_empty() && !file.to_string_lossy().contains(":memory:"))
        .then(|| file.to_owned())
}
