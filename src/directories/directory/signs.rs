//! What a directory's row does not say: how far its story is, and whether it works.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr, QueryResult};

use crate::directories::address;
use crate::events::Kind;
use crate::ids::DirectoryId;
use crate::storage::Store;
use crate::storage::sql::Sql;
use crate::storage::tables::directories;

/// What is known of a directory beside its row.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    /// The sequence of its newest event, 0 if there is none.
    pub sequence: i64,
    /// When its provider was heard first.
    pub first_request_at: Option<DateTime<Utc>>,
    /// When its provider was heard last.
    pub last_request_at: Option<DateTime<Utc>>,
    /// When the first of its users was created.
    pub first_user_at: Option<DateTime<Utc>>,
    /// When its provider last changed something.
    pub last_sync_at: Option<DateTime<Utc>>,
    /// Its labels, oldest first, the one in use included.
    pub labels: Vec<String>,
}

/// The signs of these directories: few statements for all, each a few descents of indexes for one.
///
/// # Errors
/// The database fails.
pub async fn signs(
    store: &Store,
    rows: &[directories::Model],
) -> Result<HashMap<DirectoryId, Signs>, DbErr> {
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = reading(rows).statement(store.dialect());
    let found = store.reader().query_all_raw(statement).await?;
    let mut signs = found
        .iter()
        .map(read)
        .collect::<Result<HashMap<DirectoryId, Signs>, DbErr>>()?;
    for (id, labels) in address::labels(store.reader(), rows).await? {
        if let Some(signs) = signs.get_mut(&id) {
            signs.labels = labels;
        }
    }
    Ok(signs)
}

fn reading(rows: &[directories::Model]) -> Sql {
    let mut sql = Sql::default();
    sql.push(
        "SELECT d.id, a.first_request_at, a.last_request_at, \
         (SELECT MAX(e.sequence) FROM events e WHERE e.directory_id = d.id) AS sequence, \
         (SELECT e.created_at FROM events e WHERE e.directory_id = d.id \
          AND e.sequence IS NOT NULL ORDER BY e.sequence DESC LIMIT 1) AS last_sync_at, \
         (SELECT e.created_at FROM events e WHERE e.directory_id = d.id AND e.kind = ",
    )
    .bind(Kind::UserCreated.as_str())
    .push(
        " ORDER BY e.position LIMIT 1) AS first_user_at FROM directories d \
         LEFT JOIN directory_activity a ON a.directory_id = d.id WHERE d.id IN (",
    );
    for (index, row) in rows.iter().enumerate() {
        sql.push(if index == 0 { "" } else { ", " }).bind(row.id);
    }
    sql.push(")");
    sql
}

fn read(row: &QueryResult) -> Result<(DirectoryId, Signs), DbErr> {
    let signs = Signs {
        sequence: row.try_get::<Option<i64>>("", "sequence")?.unwrap_or(0),
        first_request_at: row.try_get("", "first_request_at")?,
        last_request_at: row.try_get("", "last_request_at")?,
        first_user_at: row.try_get("", "first_user_at")?,
        last_sync_at: row.try_get("", "last_sync_at")?,
        labels: Vec::new(),
    };
    Ok((row.try_get("", "id")?, signs))
}
