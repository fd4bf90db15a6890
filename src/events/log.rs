//! Reading the log.
//!
//! Who reads beyond what one directory's lock protects must stay within the horizon; see
//! [`crate::storage::horizon`].

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};

use super::gaps::Seen;
use crate::events::Kind;
use crate::ids::{DirectoryId, EventId, ResourceId};
use crate::storage::tables::events;

/// The first `limit` events after position `after` up to and including `up_to`; whose, the caller says.
fn stretch(after: i64, up_to: i64, limit: u64) -> Select<events::Entity> {
    events::Entity::find()
        .filter(events::Column::Position.gt(after))
        .filter(events::Column::Position.lte(up_to))
        .order_by_asc(events::Column::Position)
        .limit(limit)
}

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
    stretch(after, up_to, limit)
        .filter(events::Column::Shard.eq(shard))
        .all(connection)
        .await
}

/// The places of the events of `shard` after position `after` up to and including `up_to`, at most `limit` of
/// them, without their contents.
///
/// # Errors
/// The database fails.
pub async fn skim_shard(
    connection: &impl ConnectionTrait,
    shard: i16,
    after: i64,
    up_to: i64,
    limit: u64,
) -> Result<Vec<Seen>, DbErr> {
    let rows = stretch(after, up_to, limit)
        .select_only()
        .column(events::Column::Position)
        .column(events::Column::DirectoryId)
        .column(events::Column::Sequence)
        .filter(events::Column::Shard.eq(shard))
        .into_tuple::<(i64, DirectoryId, Option<i64>)>()
        .all(connection)
        .await?;
    let seen = rows
        .into_iter()
        .map(|(position, directory_id, sequence)| Seen {
            position,
            directory_id,
            sequence,
        });
    Ok(seen.collect())
}

/// The last sequence of a directory at or before `position`.
///
/// # Errors
/// The database fails.
pub async fn sequence_at(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    position: i64,
) -> Result<Option<i64>, DbErr> {
    let sequence = events::Entity::find()
        .select_only()
        .column(events::Column::Sequence)
        .filter(events::Column::DirectoryId.eq(directory_id))
        .filter(events::Column::Position.lte(position))
        .filter(events::Column::Sequence.is_not_null())
        .order_by_desc(events::Column::Position)
        .limit(1)
        .into_tuple::<Option<i64>>()
        .one(connection)
        .await?;
    Ok(sequence.flatten())
}

/// The events about a person after position `after` up to and including `up_to`, at most `limit` of them.
///
/// # Errors
/// The database fails.
pub async fn read_user(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    user_id: ResourceId,
    after: i64,
    up_to: i64,
    limit: u64,
) -> Result<Vec<events::Model>, DbErr> {
    stretch(after, up_to, limit)
        .filter(events::Column::DirectoryId.eq(directory_id))
        .filter(events::Column::UserId.eq(user_id))
        .all(connection)
        .await
}

/// The events with which a directory and these groups of it began, after position `after` and before
/// `before`.
///
/// # Errors
/// The database fails.
pub async fn read_beginnings(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    groups: &[ResourceId],
    after: i64,
    before: i64,
) -> Result<Vec<events::Model>, DbErr> {
    let of_kind = |kind: Kind| {
        events::Entity::find()
            .filter(events::Column::DirectoryId.eq(directory_id))
            .filter(events::Column::Kind.eq(kind.as_str()))
            .filter(events::Column::Position.gt(after))
            .filter(events::Column::Position.lt(before))
    };
    let mut rows = of_kind(Kind::Activated).all(connection).await?;
    if !groups.is_empty() {
        let created = of_kind(Kind::GroupCreated)
            .filter(events::Column::GroupId.is_in(groups.iter().copied()));
        rows.extend(created.all(connection).await?);
    }
    Ok(rows)
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
    stretch(after, up_to, limit)
        .filter(events::Column::DirectoryId.eq(directory_id))
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

/// How far times and positions may disagree: a transaction draws its positions after it takes its time,
/// and nodes have clocks of their own.
const DISAGREEMENT: TimeDelta = TimeDelta::minutes(1);

/// A position before which there is no event of `time` or later. It is found by halving, since times grow
/// with positions.
///
/// # Errors
/// The database fails.
pub async fn position_before(
    connection: &impl ConnectionTrait,
    time: DateTime<Utc>,
) -> Result<i64, DbErr> {
    let time = time
        .checked_sub_signed(DISAGREEMENT)
        .unwrap_or(DateTime::<Utc>::MIN_UTC);
    let (mut below, mut above) = (0, newest(connection, i64::MAX).await?.saturating_add(1));
    while above - below > 1 {
        let middle = below + (above - below) / 2;
        let next = events::Entity::find()
            .filter(events::Column::Position.gte(middle))
            .order_by_asc(events::Column::Position)
            .limit(1)
            .one(connection)
            .await?;
        match next {
            Some(next) if next.created_at < time => below = next.position,
            Some(_) | None => above = middle,
        }
    }
    Ok(below)
}

/// The events of all directories after position `after` up to and including `up_to`, at most `limit` of them.
///
/// # Errors
/// The database fails.
pub async fn read_all(
    connection: &impl ConnectionTrait,
    after: i64,
    up_to: i64,
    limit: u64,
) -> Result<Vec<events::Model>, DbErr> {
    stretch(after, up_to, limit).all(connection).await
}

/// The position of the last event up to and including `up_to`, 0 if there is none.
///
/// # Errors
/// The database fails.
pub async fn newest(connection: &impl ConnectionTrait, up_to: i64) -> Result<i64, DbErr> {
    let newest = events::Entity::find()
        .select_only()
        .column(events::Column::Position)
        .filter(events::Column::Position.lte(up_to))
        .order_by_desc(events::Column::Position)
        .limit(1)
        .into_tuple::<i64>()
        .one(connection)
        .await?;
    Ok(newest.unwrap_or(0))
}

/// The event with this id.
///
/// # Errors
/// The database fails.
pub async fn find(
    connection: &impl ConnectionTrait,
    id: EventId,
) -> Result<Option<events::Model>, DbErr> {
    events::Entity::find()
        .filter(events::Column::Id.eq(id))
        .one(connection)
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
