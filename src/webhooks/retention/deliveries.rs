//! Deliveries and their attempts, endpoint by endpoint in the order of the log, endpoints that were deleted
//! included.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Limits, STEP, STEPS_MAX, pause};
use crate::ids::EndpointId;
use crate::storage::sql::Sql;
use crate::storage::tables::{deliveries, exceptions};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

/// Removes the deliveries that ended long ago; tells how many.
pub(super) async fn forget_all(
    store: &Store,
    limits: Limits,
    stop: &CancellationToken,
) -> Result<u64, storage::Error> {
    let mut removed = 0;
    let mut steps = 0;
    let mut before = None;
    while let Some(endpoint_id) = next_endpoint(store, before).await? {
        before = Some(endpoint_id);
        let mut after = i64::MIN;
        while steps < STEPS_MAX {
            let page = page(store, endpoint_id, after).await?;
            let old = |(_, at): &&(i64, DateTime<Utc>)| *at < limits.deliveries;
            let positions: Vec<i64> = page.iter().filter(old).map(|(at, _)| *at).collect();
            // What is not old yet has little behind it that is.
            let Some(last) = positions.last() else {
                break;
            };
            after = *last;
            let positions = without_parked(store, endpoint_id, positions).await?;
            if !positions.is_empty() {
                removed += forget(store, endpoint_id, &positions).await?;
            }
            steps += 1;
            if !pause(stop).await {
                return Ok(removed);
            }
        }
    }
    Ok(removed)
}

/// The next endpoint that has deliveries.
async fn next_endpoint(
    store: &Store,
    before: Option<EndpointId>,
) -> Result<Option<EndpointId>, DbErr> {
    let mut sql = Sql::default();
    sql.push("SELECT endpoint_id FROM deliveries");
    if let Some(before) = before {
        sql.push(" WHERE endpoint_id > ").bind(before);
    }
    sql.push(" ORDER BY endpoint_id LIMIT 1");
    let statement = sql.statement(store.dialect());
    let row = store.reader().query_one_raw(statement).await?;
    row.map(|row| row.try_get("", "endpoint_id")).transpose()
}

/// The positions of an endpoint's next deliveries, and when each last changed.
async fn page(
    store: &Store,
    endpoint_id: EndpointId,
    after: i64,
) -> Result<Vec<(i64, DateTime<Utc>)>, DbErr> {
    deliveries::Entity::find()
        .select_only()
        .columns([deliveries::Column::Position, deliveries::Column::UpdatedAt])
        .filter(deliveries::Column::EndpointId.eq(endpoint_id))
        .filter(deliveries::Column::Position.gt(after))
        .order_by_asc(deliveries::Column::Position)
        .limit(STEP.unsigned_abs())
        .into_tuple()
        .all(store.reader())
        .await
}

/// Those of `positions` that are no exceptions any more: what is parked stays for as long as its event.
async fn without_parked(
    store: &Store,
    endpoint_id: EndpointId,
    mut positions: Vec<i64>,
) -> Result<Vec<i64>, DbErr> {
    let parked: Vec<i64> = exceptions::Entity::find()
        .select_only()
        .column(exceptions::Column::Position)
        .filter(exceptions::Column::EndpointId.eq(endpoint_id))
        .filter(exceptions::Column::Position.is_in(positions.iter().copied()))
        .into_tuple()
        .all(store.reader())
        .await?;
    positions.retain(|position| !parked.contains(position));
    Ok(positions)
}

/// Removes deliveries, their attempts first, of which each may have any number.
async fn forget(
    store: &Store,
    endpoint_id: EndpointId,
    positions: &[i64],
) -> Result<u64, storage::Error> {
    let attempts = Forget {
        endpoint_id,
        positions: json!(positions).to_string(),
        table: Table::Attempts,
    };
    while store.write(Lane::System, attempts.clone()).await? > 0 {}
    let deliveries = Forget {
        table: Table::Deliveries,
        ..attempts
    };
    store.write(Lane::System, deliveries).await
}

#[derive(Clone, Copy)]
enum Table {
    Attempts,
    Deliveries,
}

#[derive(Clone)]
struct Forget {
    endpoint_id: EndpointId,
    positions: String,
    table: Table,
}

impl UseCase for Forget {
    type Answer = u64;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<u64, storage::Error> {
        let named = tx.dialect().integers(2);
        let sql = match self.table {
            Table::Attempts => format!(
                "DELETE FROM attempts WHERE (endpoint_id, position, number) IN \
                 (SELECT endpoint_id, position, number FROM attempts WHERE endpoint_id = $1 \
                 AND position IN {named} LIMIT {STEP})"
            ),
            Table::Deliveries => {
                format!("DELETE FROM deliveries WHERE endpoint_id = $1 AND position IN {named}")
            }
        };
        let values = [self.endpoint_id.into(), self.positions.clone().into()];
        let statement = tx.dialect().statement(&sql, values);
        Ok(tx.execute_raw(statement).await?.rows_affected())
    }
}
