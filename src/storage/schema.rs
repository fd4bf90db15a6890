//! The schema's version: migrating it, and refusing to run on one that is not ours.
//!
//! Invariants: a database that a newer binary has contracted is left untouched; two nodes that start at
//! once on an empty database migrate it once.

use migration::{Migrator, MigratorTrait};
use sea_orm::{
    ActiveValue, ConnectionTrait, DbErr, EntityTrait, Statement, TransactionTrait,
    sea_query::OnConflict,
};

use super::tables::facts;
use super::{Database, Dialect, Store};

/// The fact that names the oldest binary which the schema serves.
const OLDEST_BINARY: &str = "oldest_binary";
/// Key of the lock that keeps two nodes from migrating at once.
const MIGRATION_LOCK: i64 = 0x526F_6C6C_6361_6C6C;

/// How the database's schema relates to this binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing to do.
    Current,
    /// These migrations have not run yet, oldest first.
    Behind(Vec<String>),
}

/// Why the schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A newer binary has changed the schema past what this one understands.
    #[error(
        "the database needs rollcall {oldest} or newer, and this is {}; upgrade this binary",
        env!("CARGO_PKG_VERSION")
    )]
    TooNew {
        /// The oldest binary that the schema serves.
        oldest: String,
    },
    /// Migrations are pending, and this process must not run them.
    #[error("the database lacks {0} migration(s); run `rollcall migrate` first")]
    Behind(usize),
    /// The database failed.
    #[error("cannot read or change the database's schema: {0}")]
    Database(#[from] DbErr),
}

/// Compares the database's schema with what this binary needs; writes nothing.
///
/// # Errors
/// The schema is too new, or the database fails.
pub async fn check(store: &Store) -> Result<State, SchemaError> {
    let connection = store.statement_connection();
    let applied = applied(connection, store.dialect()).await?;
    if !applied.is_empty()
        && let Some(oldest) = read_fact(connection, OLDEST_BINARY).await?
        && version(&oldest) > version(env!("CARGO_PKG_VERSION"))
    {
        return Err(SchemaError::TooNew { oldest });
    }
    let pending: Vec<String> = migration::names()
        .into_iter()
        .filter(|name| !applied.contains(name))
        .collect();
    Ok(if pending.is_empty() {
        State::Current
    } else {
        State::Behind(pending)
    })
}

/// Refuses a schema that is not exactly usable; for processes that must not migrate.
///
/// # Errors
/// The schema is too new or too old, or the database fails.
pub async fn require(store: &Store) -> Result<(), SchemaError> {
    match check(store).await? {
        State::Current => Ok(()),
        State::Behind(pending) => Err(SchemaError::Behind(pending.len())),
    }
}

/// Runs the pending migrations and returns their names. Safe to call from several nodes at once.
///
/// # Errors
/// The schema is too new, or the database fails.
pub async fn migrate(store: &Store) -> Result<Vec<String>, SchemaError> {
    if check(store).await? == State::Current {
        return Ok(Vec::new());
    }
    let guard = match store.dialect() {
        Dialect::Sqlite => None,
        Dialect::Postgres => Some(hold_lock(store).await?),
    };
    let outcome = match check(store).await? {
        State::Current => Ok(Vec::new()),
        State::Behind(pending) => run(store, pending).await,
    };
    if let Some(guard) = guard {
        guard.rollback().await?;
    }
    outcome
}

async fn run(store: &Store, pending: Vec<String>) -> Result<Vec<String>, SchemaError> {
    Migrator::up(store.migration_connection(), None).await?;
    let fact = facts::ActiveModel {
        name: ActiveValue::Set(OLDEST_BINARY.to_owned()),
        value: ActiveValue::Set(migration::OLDEST_BINARY.to_owned()),
    };
    facts::Entity::insert(fact)
        .on_conflict(
            OnConflict::column(facts::Column::Name)
                .update_column(facts::Column::Value)
                .to_owned(),
        )
        .exec_without_returning(store.statement_connection())
        .await?;
    Ok(pending)
}

/// A transaction that holds the migration lock until it ends; it writes nothing.
async fn hold_lock(store: &Store) -> Result<sea_orm::DatabaseTransaction, DbErr> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a lock for migrations, which run outside any use case"
    )]
    let guard = store.migration_connection().begin().await?;
    guard
        .execute_raw(
            store
                .dialect()
                .statement("SELECT pg_advisory_xact_lock($1)", [MIGRATION_LOCK.into()]),
        )
        .await?;
    Ok(guard)
}

/// The migrations that the database has, none if it is empty.
async fn applied(connection: &Database, dialect: Dialect) -> Result<Vec<String>, DbErr> {
    let exists = match dialect {
        Dialect::Sqlite => "SELECT name FROM sqlite_master WHERE name = 'seaql_migrations'",
        Dialect::Postgres => {
            "SELECT 1 AS name FROM pg_class WHERE oid = to_regclass('seaql_migrations')"
        }
    };
    let backend = dialect.backend();
    if connection
        .query_one_raw(Statement::from_string(backend, exists))
        .await?
        .is_none()
    {
        return Ok(Vec::new());
    }
    connection
        .query_all_raw(Statement::from_string(
            backend,
            "SELECT version FROM seaql_migrations ORDER BY version",
        ))
        .await?
        .iter()
        .map(|row| row.try_get("", "version"))
        .collect()
}

/// Reads a fact about the database.
///
/// # Errors
/// The database fails.
pub async fn read_fact(
    connection: &impl ConnectionTrait,
    name: &str,
) -> Result<Option<String>, DbErr> {
    Ok(facts::Entity::find_by_id(name)
        .one(connection)
        .await?
        .map(|fact| fact.value))
}

/// Records a fact unless it is there already; tells whether it was recorded.
///
/// # Errors
/// The database fails.
pub async fn claim_fact(
    connection: &impl ConnectionTrait,
    name: &str,
    value: &str,
) -> Result<bool, DbErr> {
    let fact = facts::ActiveModel {
        name: ActiveValue::Set(name.to_owned()),
        value: ActiveValue::Set(value.to_owned()),
    };
    super::insert_new(connection, fact).await
}

/// `1.2.3` as numbers that compare.
fn version(text: &str) -> Vec<u64> {
    text.split(['.', '-'])
        .map_while(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(version("0.10.0") > version("0.9.9"));
        assert!(version("1.0.0") > version("0.99.0"));
        assert_eq!(version("0.1.0"), version("0.1.0"));
    }
}
