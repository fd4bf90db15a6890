//! Reading the log.
//!
//! Who reads beyond what one directory's lock protects must stay within the horizon; see
//! [`crate::storage::horizon`].

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use crate::ids::DirectoryId;
use crate::storage::tables::events;

/// The events of `shard` after position `after` up to and including `up_to`, at most `limit` of them.
///
/// # Errors
/// The database fails.
pub async fn read_shard(
    connection: &impl ConnectionTrait,
    shard: i16,
    after: i64,
    up_to: i64,
    limit: u64,
) -> Result<Vec<events::Model>, DbErr> {
    events::Entity::find()
        .filter(events::Column::Shard.eq(shard))
        .filter(events::Column::Position.gt(after))
        .filter(events::Column::Position.lte(up_to))
        .order_by_asc(events::Column::Position)
        .limit(limit)
        .all(connection)
        .await
}

/// The events of a directory after position `after` up to and including `up_to`, at most `limit` of them,
/// those without a sequence included.
///
/// # Errors
/// The database fails.
pub async fn read_directory(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    after: i64,
    up_to: i64,
    limit: u64,
) -> Result<Vec<events::Model>, DbErr> {
    events::Entity::find()
        .filter(events::Column::DirectoryId.eq(directory_id))
        .filter(events::Column::Position.gt(after))
        .filter(events::Column::Position.lte(up_to))
        .order_by_asc(events::Column::Position)
        .limit(limit)
        .all(connection)
        .await
}

/// The events at `positions` that are still there, in order.
///
/// # Errors
/// The database fails.
pub async fn read_positions(
    connection: &impl ConnectionTrait,
    positions: &[i64],
) -> Result<Vec<events::Model>, DbErr> {
    events::Entity::find()
        .filter(events::Column::Position.is_in(positions.iter().copied()))
        .order_by_asc(events::Column::Position)
        .all(connection)
        .await
}

/// The position of the last event of `shard` within the horizon, 0 if there is none.
///
/// # Errors
/// The database fails.
pub async fn newest_position(
    connection: &impl ConnectionTrait,
    shard: i16,
    horizon: i64,
) -> Result<i64, DbErr> {
    let newest = events::Entity::find()
        .select_only()
        .column(events::Column::Position)
        .filter(events::Column::Shard.eq(shard))
        .filter(events::Column::Position.lte(horizon))
        .order_by_desc(events::Column::Position)
        .limit(1)
        .into_tuple::<i64>()
        .one(connection)
        .await?;
    Ok(newest.unwrap_or(0))
}
