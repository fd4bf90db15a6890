//! Forgetting requests: those that are too old, those beyond what a directory may have, and all of
//! directories that have been deleted.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::directories::directory::{self, State};
use crate::ids::{DirectoryId, RequestId};
use crate::storage::sql::Sql;
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

/// How many rows go in one transaction.
const STEP: i64 = 500;

/// Forgets what is not to be kept, a bounded step after the other; tells how many requests it forgot.
///
/// # Errors
/// The database fails; what was forgotten is.
pub async fn forget(
    store: &Store,
    settings: config::Requests,
    stop: &CancellationToken,
) -> Result<u64, storage::Error> {
    let mut forgotten = 0;
    let mut before = None;
    while let Some(directory_id) = next_directory(store, before).await? {
        before = Some(directory_id);
        let end = end(store, directory_id, settings).await?;
        while let Some(last) = next_step(store, directory_id, end).await? {
            if stop.is_cancelled() {
                return Ok(forgotten);
            }
            forgotten += forget_step(store, directory_id, last).await?;
        }
    }
    Ok(forgotten)
}

/// What is forgotten of a directory, from its oldest request on.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Everything.
    All,
    /// What was answered before an instant, and what is not newer than a request.
    At(DateTime<Utc>, Option<RequestId>),
}

/// The next directory that has requests.
async fn next_directory(
    store: &Store,
    before: Option<DirectoryId>,
) -> Result<Option<DirectoryId>, DbErr> {
    let mut sql = Sql::default();
    sql.push("SELECT directory_id FROM scim_requests");
    if let Some(before) = before {
        sql.push(" WHERE directory_id > ").bind(before);
    }
    sql.push(" ORDER BY directory_id LIMIT 1");
    let statement = sql.statement(store.dialect());
    let row = store.reader().query_one_raw(statement).await?;
    row.map(|row| row.try_get("", "directory_id")).transpose()
}

async fn end(
    store: &Store,
    directory_id: DirectoryId,
    settings: config::Requests,
) -> Result<End, DbErr> {
    let directory = directory::find(store.reader(), directory_id).await?;
    if !directory.is_some_and(|directory| State::is_open(&directory)) {
        return Ok(End::All);
    }
    let oldest = store.clock().now() - settings.retention.delta();
    let mut sql = Sql::default();
    sql.push("SELECT id FROM scim_requests WHERE directory_id = ")
        .bind(directory_id)
        .push(" ORDER BY id DESC LIMIT 1 OFFSET ")
        .bind(i64::from(settings.rows_max));
    let statement = sql.statement(store.dialect());
    let row = store.reader().query_one_raw(statement).await?;
    let beyond = row.map(|row| row.try_get("", "id")).transpose()?;
    Ok(End::At(oldest, beyond))
}

/// The last of the next requests to be forgotten together.
async fn next_step(
    store: &Store,
    directory_id: DirectoryId,
    end: End,
) -> Result<Option<RequestId>, DbErr> {
    let mut sql = Sql::default();
    sql.push("SELECT id, created_at FROM scim_requests WHERE directory_id = ")
        .bind(directory_id)
        .push(" ORDER BY id LIMIT ")
        .bind(STEP);
    let statement = sql.statement(store.dialect());
    let mut last = None;
    for row in store.reader().query_all_raw(statement).await? {
        let (id, at): (RequestId, DateTime<Utc>) =
            (row.try_get("", "id")?, row.try_get("", "created_at")?);
        let is_over = match end {
            End::All => true,
            End::At(oldest, beyond) => at < oldest || beyond.is_some_and(|beyond| id <= beyond),
        };
        if !is_over {
            break;
        }
        last = Some(id);
    }
    Ok(last)
}

/// Forgets the requests up to `last`: their subjects first, of which each may have any number.
async fn forget_step(
    store: &Store,
    directory_id: DirectoryId,
    last: RequestId,
) -> Result<u64, storage::Error> {
    let subjects = Forget {
        directory_id,
        last,
        sql: "DELETE FROM scim_request_subjects WHERE directory_id = $1 AND (subject, request_id) IN \
              (SELECT subject, request_id FROM scim_request_subjects WHERE directory_id = $1 AND \
              request_id <= $2 LIMIT $3)",
    };
    while store.write(Lane::System, subjects.clone()).await? > 0 {}
    let requests = Forget {
        sql: "DELETE FROM scim_requests WHERE directory_id = $1 AND id IN (SELECT id FROM \
              scim_requests WHERE directory_id = $1 AND id <= $2 ORDER BY id LIMIT $3)",
        ..subjects
    };
    store.write(Lane::System, requests).await
}

#[derive(Clone)]
struct Forget {
    directory_id: DirectoryId,
    last: RequestId,
    sql: &'static str,
}

impl UseCase for Forget {
    type Answer = u64;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<u64, storage::Error> {
        let values = [self.directory_id.into(), self.last.into(), STEP.into()];
        let statement = tx.dialect().statement(self.sql, values);
        Ok(tx.execute_raw(statement).await?.rows_affected())
    }
}
