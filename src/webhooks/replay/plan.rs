//! From what was asked to a replay: between which positions it goes, and how many events there are.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::{Criteria, Kind, NewReplay};
use crate::events::{self, log};
use crate::ids::{EndpointId, EventId};
use crate::storage::Store;
use crate::storage::horizon;
use crate::storage::sql::Sql;
use crate::storage::tables::events::{Column, Entity, Model};

/// How many events are counted.
const COUNT_MAX: i64 = 10_000;
/// How many newer events of one type are counted.
const NEWER_MAX: u64 = 100;

/// A replay of one event, or of the present state of what it was about.
pub fn of_event(endpoint_id: EndpointId, kind: Kind, event: &Model) -> NewReplay {
    let is_state = kind == Kind::CurrentState;
    NewReplay {
        endpoint_id,
        kind,
        criteria: Criteria {
            delivery: Some(event.id.to_string()),
            event_id: is_state.then(|| EventId::generate().to_string()),
            ..Criteria::default()
        },
        position: event.position - 1,
        up_to: event.position,
        total: 1,
    }
}

/// A replay of what was parked, or of a part of the log.
///
/// # Errors
/// The database fails.
pub async fn of_many(
    store: &Store,
    endpoint_id: EndpointId,
    kind: Kind,
    criteria: Criteria,
) -> Result<NewReplay, DbErr> {
    let horizon = horizon::read(store.reader(), store.dialect()).await?;
    let up_to = horizon.by_shard.into_iter().min().unwrap_or(0);
    let position = match criteria.since {
        Some(since) if kind == Kind::Range => log::position_before(store.reader(), since).await?,
        Some(_) | None => 0,
    };
    let mut new = NewReplay {
        endpoint_id,
        kind,
        criteria,
        position,
        up_to,
        total: 0,
    };
    if let Some(first) = before_sequence(store, &new.criteria).await? {
        new.position = new.position.max(first);
    }
    new.total = count(store, &new).await?;
    Ok(new)
}

/// The position before the first sequence that is wanted.
async fn before_sequence(store: &Store, criteria: &Criteria) -> Result<Option<i64>, DbErr> {
    let (Some(directory_id), Some(from)) = (criteria.directory_id(), criteria.from_sequence) else {
        return Ok(None);
    };
    let first = Entity::find()
        .filter(Column::DirectoryId.eq(directory_id))
        .filter(Column::Sequence.gte(from))
        .order_by_asc(Column::Sequence)
        .limit(1)
        .one(store.reader())
        .await?;
    Ok(first.map(|row| row.position - 1))
}

/// How many events lie between the positions, those of other types included; -1 if they are too many.
async fn count(store: &Store, new: &NewReplay) -> Result<i64, DbErr> {
    let mut sql = Sql::default();
    sql.push("SELECT count(*) AS number FROM (SELECT 1 FROM ");
    match (new.kind, new.criteria.directory_id()) {
        (Kind::Recover, _) => {
            let since = new
                .criteria
                .since
                .map_or(0, |since| since.timestamp_millis());
            sql.push("exceptions WHERE state = 'parked' AND endpoint_id = ")
                .bind(new.endpoint_id)
                .push(" AND first_failed_at_ms >= ")
                .bind(since);
        }
        (Kind::Range | Kind::Delivery | Kind::CurrentState, Some(directory_id)) => {
            sql.push("events WHERE directory_id = ").bind(directory_id);
            for (operator, bound) in [
                (" >= ", new.criteria.from_sequence),
                (" <= ", new.criteria.to_sequence),
            ] {
                if let Some(bound) = bound {
                    sql.push(" AND sequence").push(operator).bind(bound);
                }
            }
        }
        (Kind::Range | Kind::Delivery | Kind::CurrentState, None) => {
            sql.push("events WHERE 1 = 1");
        }
    }
    sql.push(" AND position > ").bind(new.position);
    sql.push(" AND position <= ").bind(new.up_to);
    sql.push(" LIMIT ").bind(COUNT_MAX + 1).push(") AS found");
    let statement = sql.statement(store.dialect());
    let row = store.reader().query_one_raw(statement).await?;
    let number: i64 = row.map_or(Ok(0), |row| row.try_get("", "number"))?;
    Ok(if number > COUNT_MAX { -1 } else { number })
}

/// What happened since to what an event was about.
#[derive(Clone, Debug)]
pub struct Newer {
    /// How many events.
    pub count: usize,
    /// The last one.
    pub last: Model,
}

/// The newer events about the same user, group or membership.
///
/// # Errors
/// The database fails.
pub async fn newer(
    connection: &impl ConnectionTrait,
    event: &Model,
) -> Result<Option<Newer>, DbErr> {
    use events::Kind::{
        GroupCreated, GroupDeleted, GroupUpdated, UserAdded, UserCreated, UserDeleted, UserRemoved,
        UserUpdated,
    };
    let kinds: &[events::Kind] = match (event.user_id, event.group_id) {
        (Some(_), Some(_)) => &[UserAdded, UserRemoved],
        (Some(_), None) => &[UserCreated, UserUpdated, UserDeleted],
        (None, Some(_)) => &[GroupCreated, GroupUpdated, GroupDeleted],
        (None, None) => &[],
    };
    let mut found: Vec<Model> = Vec::new();
    // One descent of an index for each type.
    for kind in kinds {
        let mut query = Entity::find()
            .filter(Column::DirectoryId.eq(event.directory_id))
            .filter(Column::Kind.eq(kind.as_str()))
            .filter(Column::Position.gt(event.position));
        if let Some(user_id) = event.user_id {
            query = query.filter(Column::UserId.eq(user_id));
        }
        if let Some(group_id) = event.group_id {
            query = query.filter(Column::GroupId.eq(group_id));
        }
        let query = query.order_by_desc(Column::Position).limit(NEWER_MAX);
        found.extend(query.all(connection).await?);
    }
    let count = found.len();
    let last = found.into_iter().max_by_key(|row| row.position);
    Ok(last.map(|last| Newer { count, last }))
}
