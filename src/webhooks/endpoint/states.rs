//! The rows by which nodes tell each other how endpoints fare.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};

use crate::ids::EndpointId;
use crate::storage::tables::endpoint_states::{ActiveModel, Column, Entity, Model};
use crate::storage::{self, Lane, Store, UseCase, WriteTx, insert_new};
use crate::webhooks::breaker::Probe;
use crate::webhooks::standing::{Change, State, Written};

const OPEN: &str = "open";
const CLOSED: &str = "closed";

/// All of them; an endpoint that never failed for long has none.
///
/// # Errors
/// The database fails.
pub async fn list(connection: &impl ConnectionTrait) -> Result<BTreeMap<EndpointId, State>, DbErr> {
    let rows = Entity::find().all(connection).await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.endpoint_id, state(row)))
        .collect())
}

/// What a breaker is called.
pub fn breaker(state: Option<&State>) -> &'static str {
    let is_open = state.is_some_and(|state| state.probe.is_some());
    if is_open { OPEN } else { CLOSED }
}

fn state(row: Model) -> State {
    let probe = row.probe_at_ms.map(|at_ms| Probe {
        at_ms,
        number: u32::try_from(row.probes).unwrap_or(0),
    });
    State {
        probe: probe.filter(|_| row.breaker == OPEN),
        failing_since_ms: row.failing_since_ms,
        last_failure: row.last_failure,
        version: row.changed_at_ms,
    }
}

struct Write(EndpointId, Change);

impl UseCase for Write {
    type Answer = Written;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<Written, storage::Error> {
        let Self(id, Change { state: new, after }) = self;
        let row = ActiveModel {
            endpoint_id: ActiveValue::Set(*id),
            breaker: ActiveValue::Set(breaker(Some(new)).to_owned()),
            failing_since_ms: ActiveValue::Set(new.failing_since_ms),
            probe_at_ms: ActiveValue::Set(new.probe.map(|probe| probe.at_ms)),
            probes: ActiveValue::Set(
                new.probe
                    .map_or(0, |probe| i32::try_from(probe.number).unwrap_or(i32::MAX)),
            ),
            last_failure: ActiveValue::Set(new.last_failure.clone()),
            told: if new.failing_since_ms.is_none() || after.is_none() {
                ActiveValue::Set(0)
            } else {
                ActiveValue::NotSet
            },
            changed_at_ms: ActiveValue::Set(new.version),
        };
        let is_ours = match after {
            None => insert_new(tx, row).await?,
            Some(version) => {
                let update = Entity::update_many()
                    .set(ActiveModel {
                        endpoint_id: ActiveValue::NotSet,
                        ..row
                    })
                    .filter(Column::EndpointId.eq(*id))
                    .filter(Column::ChangedAtMs.eq(*version));
                update.exec(tx).await?.rows_affected == 1
            }
        };
        let row = Entity::find_by_id(*id).one(tx).await?;
        Ok(Written {
            state: row.map(state).unwrap_or_default(),
            is_ours,
        })
    }
}

/// Makes a change, unless another node was first.
///
/// # Errors
/// The endpoint is gone, or the database fails.
pub async fn write(
    store: &Store,
    id: EndpointId,
    change: Change,
) -> Result<Written, storage::Error> {
    store.write(Lane::System, Write(id, change)).await
}

/// An endpoint begins afresh. The row stays, so that a node that knows it finds out.
pub(super) async fn clear(tx: &WriteTx, id: EndpointId) -> Result<(), DbErr> {
    let fresh = ActiveModel {
        endpoint_id: ActiveValue::NotSet,
        breaker: ActiveValue::Set(CLOSED.to_owned()),
        failing_since_ms: ActiveValue::Set(None),
        probe_at_ms: ActiveValue::Set(None),
        probes: ActiveValue::Set(0),
        last_failure: ActiveValue::Set(None),
        told: ActiveValue::Set(0),
        changed_at_ms: ActiveValue::NotSet,
    };
    Entity::update_many()
        .set(fresh)
        .col_expr(Column::ChangedAtMs, Expr::col(Column::ChangedAtMs).add(1))
        .filter(Column::EndpointId.eq(id))
        .exec(tx)
        .await
        .map(drop)
}
