//! Endpoints that get nothing any more: because they say that they are gone, because nothing has succeeded
//! for a week, or because somebody wants it. Their place in the log stays, and they go on from there.

use chrono::TimeDelta;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ActiveValue, ColumnTrait, DbErr, EntityTrait, QueryFilter};
use serde_json::json;

use super::{DISABLED, ENABLED, is_enabled, list, states};
use crate::actor::{Actor, Who};
use crate::audit;
use crate::clock;
use crate::ids::EndpointId;
use crate::storage::tables::{endpoint_states, endpoints};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

/// It answered 410.
pub const GONE: &str = "gone";
/// Nothing succeeded for a week.
pub const FAILING: &str = "failing";

/// After how long a failing endpoint is disabled.
const DISABLED_AFTER: TimeDelta = TimeDelta::days(7);
/// After how long people are told that it fails.
const TOLD_AFTER: [TimeDelta; 3] = [
    TimeDelta::hours(1),
    TimeDelta::hours(24),
    TimeDelta::days(6),
];

struct Disable {
    actor: Actor,
    id: EndpointId,
    because: String,
}

impl UseCase for Disable {
    type Answer = bool;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, storage::Error> {
        let change = endpoints::ActiveModel {
            status: ActiveValue::Set(DISABLED.to_owned()),
            disabled_because: ActiveValue::Set(Some(self.because.clone())),
            disabled_at: ActiveValue::Set(Some(tx.now())),
            ..Default::default()
        };
        if !set_status(tx, self.id, ENABLED, change).await? {
            return Ok(false);
        }
        let details = json!({"because": self.because});
        let entry = audit::Entry::of_installation("webhook_endpoint.disabled", &self.id);
        audit::record(tx, self.actor, entry.with(details)).await?;
        if self.actor.who == Who::System {
            let details = json!({"disabled_because": self.because});
            tell(tx, self.id, details).await?;
        }
        Ok(true)
    }
}

/// Stops sending to an endpoint; tells whether it was enabled.
///
/// # Errors
/// The database fails.
pub async fn disable(
    store: &Store,
    actor: Actor,
    id: EndpointId,
    because: &str,
) -> Result<bool, storage::Error> {
    let use_case = Disable {
        actor,
        id,
        because: because.to_owned(),
    };
    let was_enabled = store.write(Lane::System, use_case).await?;
    if was_enabled && actor.who == Who::System {
        tracing::error!(endpoint.id = %id, because, "a webhook endpoint has been disabled");
    }
    store.wake().endpoints_changed();
    Ok(was_enabled)
}

struct Enable(Actor, EndpointId);

impl UseCase for Enable {
    type Answer = bool;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, storage::Error> {
        let Self(actor, id) = self;
        let change = endpoints::ActiveModel {
            status: ActiveValue::Set(ENABLED.to_owned()),
            disabled_because: ActiveValue::Set(None),
            disabled_at: ActiveValue::Set(None),
            ..Default::default()
        };
        if !set_status(tx, *id, DISABLED, change).await? {
            return Ok(false);
        }
        states::clear(tx, *id).await?;
        let entry = audit::Entry::of_installation("webhook_endpoint.enabled", id);
        audit::record(tx, *actor, entry).await?;
        Ok(true)
    }
}

/// Sends to an endpoint again, from where it was and as if it had never failed; tells whether it was
/// disabled.
///
/// # Errors
/// The database fails.
pub async fn enable(store: &Store, actor: Actor, id: EndpointId) -> Result<bool, storage::Error> {
    let was_disabled = store.write(Lane::System, Enable(actor, id)).await?;
    store.wake().endpoints_changed();
    Ok(was_disabled)
}

/// Changes an endpoint whose status is `from`; tells whether it was.
async fn set_status(
    tx: &WriteTx,
    id: EndpointId,
    from: &str,
    mut change: endpoints::ActiveModel,
) -> Result<bool, DbErr> {
    change.updated_at = ActiveValue::Set(tx.now());
    let update = endpoints::Entity::update_many()
        .set(change)
        .filter(endpoints::Column::Id.eq(id))
        .filter(endpoints::Column::Status.eq(from));
    Ok(update.exec(tx).await?.rows_affected == 1)
}

/// People are told once more.
async fn tell(tx: &WriteTx, id: EndpointId, details: serde_json::Value) -> Result<(), DbErr> {
    endpoint_states::Entity::update_many()
        .col_expr(
            endpoint_states::Column::Told,
            Expr::col(endpoint_states::Column::Told).add(1),
        )
        .filter(endpoint_states::Column::EndpointId.eq(id))
        .exec(tx)
        .await?;
    let entry = audit::Entry::of_installation("webhook_endpoint.failing", &id);
    audit::record(tx, Actor::SYSTEM, entry.with(details)).await
}

/// Tells people that an endpoint has failed for some time, if they have not been told as often.
struct Tell {
    id: EndpointId,
    failing_since_ms: i64,
    /// How often they are to have been told.
    times: i32,
}

impl UseCase for Tell {
    type Answer = bool;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, storage::Error> {
        use endpoint_states::Column;
        let update = endpoint_states::Entity::update_many()
            .col_expr(Column::Told, Expr::value(self.times - 1))
            .filter(Column::EndpointId.eq(self.id))
            .filter(Column::FailingSinceMs.eq(self.failing_since_ms))
            .filter(Column::Told.lt(self.times));
        if update.exec(tx).await?.rows_affected == 0 {
            return Ok(false);
        }
        let since = clock::text(clock::from_ms(self.failing_since_ms));
        tell(tx, self.id, json!({"failing_since": since})).await?;
        Ok(true)
    }
}

/// Tells people which endpoints have been failing for long, and disables those that have for too long.
/// Returns how often it did either.
///
/// # Errors
/// The database fails.
pub async fn follow_failing(store: &Store) -> Result<usize, storage::Error> {
    let now_ms = store.clock().now_ms();
    // One row per endpoint at most, and these are few.
    let mut states = states::list(store.reader()).await?;
    let mut acts = 0;
    for row in list(store.reader())
        .await?
        .iter()
        .filter(|row| is_enabled(row))
    {
        let since = states
            .remove(&row.id)
            .and_then(|state| state.failing_since_ms);
        if let Some(since) = since
            && follow(store, row.id, since, now_ms).await?
        {
            acts += 1;
        }
    }
    Ok(acts)
}

async fn follow(
    store: &Store,
    id: EndpointId,
    failing_since_ms: i64,
    now_ms: i64,
) -> Result<bool, storage::Error> {
    let failing = TimeDelta::milliseconds(now_ms.saturating_sub(failing_since_ms));
    if failing >= DISABLED_AFTER {
        return disable(store, Actor::SYSTEM, id, FAILING).await;
    }
    let times = TOLD_AFTER.iter().filter(|after| failing >= **after).count();
    let times = i32::try_from(times).unwrap_or(i32::MAX);
    if times == 0 {
        return Ok(false);
    }
    let tell = Tell {
        id,
        failing_since_ms,
        times,
    };
    let is_told = store.write(Lane::System, tell).await?;
    if is_told {
        let since = clock::text(clock::from_ms(failing_since_ms));
        tracing::error!(endpoint.id = %id, since, "nothing has reached a webhook endpoint for long");
    }
    Ok(is_told)
}
