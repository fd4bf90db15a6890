//! Reading what overtakes: departures anywhere in a shard, and what one of them depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbErr};

use super::dispatcher::Departure;
use super::links::{self, View};
use super::stream::Chain;
use super::{endpoint, place};
use crate::events::log;
use crate::ids::ResourceId;
use crate::storage::Store;
use crate::storage::tables::events;

/// How many departures are read at once.
const DEPARTURES_MAX: i64 = 500;
/// With more events than this that it depends on, a departure does not overtake.
const CHAIN_MAX: usize = 1_000;

/// The departures of a shard after `after` and up to `up_to`, or the first of them; the number says up to
/// where these are all.
///
/// # Errors
/// The database fails.
pub(super) async fn departures(
    store: &Store,
    shard: i16,
    after: i64,
    up_to: i64,
) -> Result<(Vec<Departure>, i64), DbErr> {
    // The index is of those rows alone, which a parameter would not show.
    let sql = "SELECT position, directory_id, user_id FROM events WHERE shard = $1 \
               AND is_departure = TRUE AND position > $2 AND position <= $3 \
               ORDER BY position LIMIT $4";
    let values = [
        i32::from(shard).into(),
        after.into(),
        up_to.into(),
        DEPARTURES_MAX.into(),
    ];
    let rows = store
        .dispatch_reader()
        .query_all_raw(store.dialect().statement(sql, values))
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        found.push(Departure {
            position: row.try_get("", "position")?,
            directory_id: row.try_get("", "directory_id")?,
            user_id: row.try_get("", "user_id")?,
        });
    }
    let is_cut = i64::try_from(found.len()).is_ok_and(|count| count >= DEPARTURES_MAX);
    let last = found.last().filter(|_| is_cut);
    let read_to = last.map_or(up_to, |last| last.position);
    Ok((found, read_to))
}

/// Reads what a departure depends on after position `after`, itself included: the person's events, that
/// the groups of these were created, and that the directory was activated. `None` if the endpoint's filter
/// has changed meanwhile.
///
/// # Errors
/// The database fails.
pub(super) async fn chain(
    store: &Store,
    view: &View,
    shard: i16,
    departure: &Departure,
    after: i64,
) -> Result<Option<Chain>, DbErr> {
    let mut chain = Chain {
        departure: departure.position,
        directory_id: departure.directory_id,
        after,
        offers: Vec::new(),
    };
    let rows = rows(store, departure, after).await?;
    if rows.len() > CHAIN_MAX {
        tracing::warn!(
            directory.id = %departure.directory_id,
            event.position = departure.position,
            endpoint.id = %view.endpoint_id,
            "a departure depends on too much to overtake what waits"
        );
        return Ok(Some(chain));
    }
    let positions: Vec<i64> = rows.keys().copied().collect();
    let mut ended = BTreeSet::new();
    for positions in positions.chunks(CHAIN_MAX / 2) {
        ended.extend(place::ended(store, view.endpoint_id, positions).await?);
    }
    let rows = rows.into_values();
    let left = rows.filter(|row| !ended.contains(&row.position)).collect();
    let offers = links::offers(store, view, shard, left).await?;
    chain.offers = offers.into_iter().map(Arc::new).collect();
    let is_under_filter = endpoint::is_under_filter(store.dispatch_reader(), view).await?;
    Ok(is_under_filter.then_some(chain))
}

async fn rows(
    store: &Store,
    departure: &Departure,
    after: i64,
) -> Result<BTreeMap<i64, events::Model>, DbErr> {
    let connection = store.dispatch_reader();
    let (id, position) = (departure.directory_id, departure.position);
    let Some(user_id) = departure.user_id else {
        let rows = log::read_positions(connection, &[position]).await?;
        return Ok(by_position(rows));
    };
    let limit = u64::try_from(CHAIN_MAX + 1).unwrap_or(u64::MAX);
    let mut rows = log::read_user(connection, id, user_id, after, position, limit).await?;
    if rows.len() <= CHAIN_MAX {
        let groups: BTreeSet<ResourceId> = rows.iter().filter_map(|row| row.group_id).collect();
        let groups: Vec<ResourceId> = groups.into_iter().collect();
        rows.extend(log::read_beginnings(connection, id, &groups, after, position).await?);
    }
    Ok(by_position(rows))
}

fn by_position(rows: Vec<events::Model>) -> BTreeMap<i64, events::Model> {
    rows.into_iter().map(|row| (row.position, row)).collect()
}
