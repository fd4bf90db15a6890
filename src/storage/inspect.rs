//! What can be asked of a database about itself.

use sea_orm::{ConnectionTrait, DbErr, Statement, TryGetable};

use super::{Dialect, Store};

/// Its name and version, such as `PostgreSQL 15.18`.
///
/// # Errors
/// The database fails.
pub async fn version(store: &Store) -> Result<String, DbErr> {
    let (name, sql) = match store.dialect() {
        Dialect::Sqlite => ("SQLite", "SELECT sqlite_version() AS answer"),
        Dialect::Postgres => (
            "PostgreSQL",
            "SELECT current_setting('server_version') AS answer",
        ),
    };
    let version: Option<String> = ask(store, sql).await?;
    Ok(format!("{name} {}", version.unwrap_or_default()))
}

/// The settings with which what was acknowledged may be lost in a power cut, as `name = value`.
///
/// # Errors
/// The database fails.
pub async fn dangers(store: &Store) -> Result<Vec<String>, DbErr> {
    if store.dialect() == Dialect::Sqlite {
        let synchronous: Option<i32> = ask_pragma(store, "PRAGMA synchronous").await?;
        let is_full = synchronous.is_some_and(|level| level >= 2);
        return Ok(if is_full {
            Vec::new()
        } else {
            vec!["synchronous is below FULL".to_owned()]
        });
    }
    let mut dangers = Vec::new();
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        let sql = format!("SELECT current_setting('{name}') AS answer");
        let value: Option<String> = ask(store, &sql).await?;
        if value.as_deref() == Some("off") {
            dangers.push(format!("{name} = off"));
        }
    }
    Ok(dangers)
}

/// The database's own time in milliseconds since 1970.
///
/// # Errors
/// The database fails.
pub async fn now_ms(store: &Store) -> Result<i64, DbErr> {
    let sql = format!("SELECT {} AS answer", store.dialect().now_ms());
    Ok(ask(store, &sql).await?.unwrap_or(0))
}

/// What is wrong inside a SQLite file; `None` if nothing is.
///
/// # Errors
/// The database fails.
pub async fn damage(store: &Store) -> Result<Option<String>, DbErr> {
    let answer: Option<String> = ask_pragma(store, "PRAGMA integrity_check(1)").await?;
    Ok(answer.filter(|answer| answer != "ok"))
}

async fn ask<T: TryGetable>(store: &Store, sql: &str) -> Result<Option<T>, DbErr> {
    let statement = Statement::from_string(store.dialect().backend(), sql);
    let row = store
        .statement_connection()
        .query_one_raw(statement)
        .await?;
    row.map(|row| row.try_get("", "answer")).transpose()
}

/// A pragma's answer is in its only column, and may take longer than a statement is given.
async fn ask_pragma<T: TryGetable>(store: &Store, sql: &str) -> Result<Option<T>, DbErr> {
    let statement = Statement::from_string(store.dialect().backend(), sql);
    let row = store
        .migration_connection()
        .query_one_raw(statement)
        .await?;
    row.map(|row| row.try_get_by_index(0)).transpose()
}
