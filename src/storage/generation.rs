//! Generations: the histories that the sequences and positions of the log have belonged to.
//!
//! A database restored from a backup does not know what happened after the backup was made, and neither
//! does a standby that was promoted without the last transactions. Were they to count on from what they
//! know, receivers would see numbers again on other events. So a new generation begins: every position in
//! it, and every sequence of a directory, is a step above all that there can have been before.
//!
//! Invariant: the newest event of a directory tells, by its position, which generations have begun since.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, QueryOrder, QuerySelect};

use super::tables::{directories, generations};
use super::{Dialect, Error, Store, WriteTx, insert_new};
use crate::ids::DirectoryId;

/// How far a generation sets the sequences of directories above those of the one before it.
pub const SEQUENCE_STEP: i64 = 1_000_000;
/// The same for positions, of which all directories together draw.
const POSITION_STEP: i64 = 1_000_000_000;
/// The number of the generation that a new database begins with.
pub const FIRST: i32 = 1;
/// A node that has not been heard of for this long is not running.
const SILENCE_MS: i64 = 10_000;

/// The newest generation, if the database has been started yet.
///
/// # Errors
/// The database fails.
pub async fn newest(
    connection: &impl ConnectionTrait,
) -> Result<Option<generations::Model>, DbErr> {
    generations::Entity::find()
        .order_by_desc(generations::Column::Number)
        .one(connection)
        .await
}

/// The newest `limit` generations, newest first.
///
/// # Errors
/// The database fails.
pub async fn list(
    connection: &impl ConnectionTrait,
    limit: u64,
) -> Result<Vec<generations::Model>, DbErr> {
    generations::Entity::find()
        .order_by_desc(generations::Column::Number)
        .limit(limit)
        .all(connection)
        .await
}

/// Notes the first generation, unless the database has had one.
///
/// # Errors
/// The database fails.
pub async fn found(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<(), DbErr> {
    let first = generations::Model {
        number: FIRST,
        position: 0,
        step: 0,
        cause: "first start".to_owned(),
        directories: 0,
        started_at: now,
    };
    insert_new(connection, generations::ActiveModel::from(first)).await?;
    Ok(())
}

/// Waits until nobody writes events, and keeps others from beginning to until the transaction ends.
///
/// # Errors
/// The database fails, or somebody writes for long.
pub async fn wait_for_writers(tx: &WriteTx) -> Result<(), DbErr> {
    if tx.dialect() == Dialect::Postgres {
        // Every writer of events locks a directory's row first, and looks for generations after it.
        tx.execute_unprepared("LOCK TABLE directories IN EXCLUSIVE MODE")
            .await?;
    }
    Ok(())
}

/// Begins a new generation, numbered above those that the database knows and above `above`.
///
/// # Errors
/// The database fails.
pub async fn begin(tx: &WriteTx, cause: &str, above: i32) -> Result<generations::Model, Error> {
    wait_for_writers(tx).await?;
    let known = newest(tx).await?.map_or(0, |newest| newest.number);
    let number = known.max(above).saturating_add(1);
    let row = generations::Model {
        number,
        position: number_in(tx, "SELECT max(position) AS number FROM events").await?,
        step: SEQUENCE_STEP.saturating_mul(i64::from(number) - i64::from(known)),
        cause: cause.to_owned(),
        directories: number_in(tx, DIRECTORIES_WITH_EVENTS).await?,
        started_at: tx.now(),
    };
    insert_new(tx, generations::ActiveModel::from(row.clone())).await?;
    let statement = match tx.dialect() {
        Dialect::Sqlite => "UPDATE sqlite_sequence SET seq = seq + $1 WHERE name = 'events'",
        Dialect::Postgres => {
            "SELECT setval('events_position_seq', last_value + $1) FROM events_position_seq"
        }
    };
    tx.execute_raw(tx.dialect().statement(statement, [POSITION_STEP.into()]))
        .await?;
    Ok(row)
}

const DIRECTORIES_WITH_EVENTS: &str = "SELECT count(*) AS number FROM directories d \
     WHERE EXISTS (SELECT 1 FROM events e WHERE e.directory_id = d.id)";

async fn number_in(connection: &impl ConnectionTrait, sql: &str) -> Result<i64, DbErr> {
    let statement = sea_orm::Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(statement).await?;
    row.map_or(Ok(0), |row| {
        Ok(row.try_get::<Option<i64>>("", "number")?.unwrap_or(0))
    })
}

/// The directories that had events when the generation began, at most `limit` of them.
///
/// # Errors
/// The database fails.
pub async fn affected(
    store: &Store,
    generation: &generations::Model,
    limit: i64,
) -> Result<Vec<directories::Model>, DbErr> {
    let statement = store.dialect().statement(
        "SELECT d.* FROM directories d WHERE EXISTS (SELECT 1 FROM events e \
         WHERE e.directory_id = d.id AND e.position <= $1) ORDER BY d.id LIMIT $2",
        [generation.position.into(), limit.into()],
    );
    directories::Entity::find()
        .from_raw_sql(statement)
        .all(store.reader())
        .await
}

/// The sequence after which the next event of the directory comes: that of its newest event, and a step
/// for each generation that has begun since; 0 if it has none. Two descents of indexes.
pub(super) async fn last_taken(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
) -> Result<i64, DbErr> {
    let last = connection
        .query_one_raw(sea_orm::Statement::from_sql_and_values(
            connection.get_database_backend(),
            "SELECT n.sequence + coalesce((SELECT CAST(sum(g.step) AS BIGINT) FROM generations g \
             WHERE g.position >= n.position), 0) AS last \
             FROM (SELECT sequence, position FROM events WHERE directory_id = $1 \
             AND sequence IS NOT NULL ORDER BY sequence DESC LIMIT 1) n",
            [directory_id.uuid().into()],
        ))
        .await?;
    last.map_or(Ok(0), |row| row.try_get("", "last"))
}

/// Which history of which database server this is: it changes when a standby is promoted. `None` where
/// there are no standbys.
///
/// # Errors
/// The database fails.
pub async fn timeline(store: &Store) -> Result<Option<String>, DbErr> {
    if store.dialect() == Dialect::Sqlite {
        return Ok(None);
    }
    let row = store
        .statement_connection()
        .query_one_raw(Dialect::Postgres.statement(
            "SELECT system_identifier::text || '/' || \
             substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline \
             FROM pg_control_system()",
            [],
        ))
        .await?;
    row.map(|row| row.try_get("", "timeline")).transpose()
}

/// How many nodes that deliver webhooks were heard of just now.
///
/// # Errors
/// The database fails.
pub async fn nodes_alive(store: &Store) -> Result<i64, DbErr> {
    let sql = format!(
        "SELECT count(*) AS number FROM nodes WHERE heartbeat_ms > {} - {SILENCE_MS}",
        store.dialect().now_ms()
    );
    number_in(store.reader(), &sql).await
}
