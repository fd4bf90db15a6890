//! How far the event log may be read.
//!
//! PostgreSQL draws positions before it commits them, so that a row can become visible after one with a
//! higher position has been read. A writer therefore leaves a *marker* before it draws: a shared
//! advisory lock, held to the end of its transaction, whose key is our class, the shard, and the
//! sequence's last value, which is below every position that it can draw. A reader notes the last value,
//! *then* looks up the lowest marker, *then*, in a further statement, reads rows up to the lower of the
//! two. Only our own writers hold the horizon back, and only for as long as they write.
//!
//! SQLite has one writer at a time; its horizon is the end of the log.

use sea_orm::{ConnectionTrait, DbErr};

use super::Dialect;

/// How many shards the log has.
pub const SHARDS: usize = 16;
/// Twelve bits that tell our advisory locks from other programs'.
const MARKER_CLASS: i64 = 0x52C;
const MARKER_CLASS_SHIFT: u32 = 52;
const MARKER_SHARD_SHIFT: u32 = 48;

/// How far each shard may be read, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// The highest position drawn by anybody so far; changes whenever there may be something new.
    pub last_drawn: i64,
    /// For each shard the highest position up to which every row is visible or will never be.
    pub by_shard: [i64; SHARDS],
    /// Which run of the database server said so; another one may have lost what nobody had read.
    pub server: String,
}

impl Horizon {
    /// The horizon of `shard`.
    pub fn of(&self, shard: i16) -> i64 {
        usize::try_from(shard)
            .ok()
            .and_then(|shard| self.by_shard.get(shard))
            .copied()
            .unwrap_or(0)
    }
}

/// Leaves a marker for each shard in the bit mask `shards`, on the connection of a write transaction.
pub(super) async fn mark(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    shards: u32,
) -> Result<(), DbErr> {
    if dialect == Dialect::Sqlite {
        return Ok(());
    }
    for shard in (0_i64..)
        .take(SHARDS)
        .filter(|shard| shards >> shard & 1 == 1)
    {
        let base = MARKER_CLASS << MARKER_CLASS_SHIFT | shard << MARKER_SHARD_SHIFT;
        connection
            .query_one_raw(dialect.statement(
                "SELECT pg_advisory_xact_lock_shared($1 | last_value)::text \
                 FROM events_position_seq",
                [base.into()],
            ))
            .await?;
    }
    Ok(())
}

/// Reads the horizon. The rows must be read by a later statement, outside any transaction.
pub async fn read(connection: &impl ConnectionTrait, dialect: Dialect) -> Result<Horizon, DbErr> {
    match dialect {
        Dialect::Sqlite => read_sqlite(connection).await,
        Dialect::Postgres => read_postgres(connection).await,
    }
}

async fn read_sqlite(connection: &impl ConnectionTrait) -> Result<Horizon, DbErr> {
    let row = connection
        .query_one_raw(Dialect::Sqlite.statement(
            "SELECT coalesce(max(position), 0) AS last_drawn FROM events",
            [],
        ))
        .await?;
    let last_drawn = row.map_or(Ok(0), |row| row.try_get("", "last_drawn"))?;
    Ok(Horizon {
        last_drawn,
        by_shard: [last_drawn; SHARDS],
        server: String::new(),
    })
}

async fn read_postgres(connection: &impl ConnectionTrait) -> Result<Horizon, DbErr> {
    let noted = connection
        .query_one_raw(Dialect::Postgres.statement(
            "SELECT last_value, pg_postmaster_start_time()::text || ' ' || \
             (SELECT timeline_id FROM pg_control_checkpoint())::text AS server \
             FROM events_position_seq",
            [],
        ))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("events_position_seq".to_owned()))?;
    let last_drawn = noted.try_get("", "last_value")?;
    let mut by_shard = [last_drawn; SHARDS];
    let markers = connection
        .query_all_raw(Dialect::Postgres.statement(
            "SELECT ((classid::bigint >> 16) & 15)::bigint AS shard, \
             min(((classid::bigint & 65535) << 32) | objid::bigint)::bigint AS marker \
             FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND classid::bigint >> 20 = $1 GROUP BY 1",
            [MARKER_CLASS.into()],
        ))
        .await?;
    for marker in markers {
        let shard: i64 = marker.try_get("", "shard")?;
        let lowest: i64 = marker.try_get("", "marker")?;
        if let Some(horizon) = usize::try_from(shard)
            .ok()
            .and_then(|shard| by_shard.get_mut(shard))
        {
            *horizon = lowest.min(*horizon);
        }
    }
    Ok(Horizon {
        last_drawn,
        by_shard,
        server: noted.try_get("", "server")?,
    })
}
