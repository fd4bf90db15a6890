//! Retention: events and deliveries go after their time, oldest first, some at a time.
//!
//! Cast: a shard of the log is [`cut`](self::forget) from its front. What a live endpoint still has to
//! get, held endpoints included, keeps the events from there on up to `events.retention_max`. Past that
//! they go all the same; the endpoint's place moves on, and a [`gap`](gaps) says what it never got.
//! Disabled endpoints keep nothing, and get their gaps as well. Deliveries go with their attempts, those of
//! events that can still be replayed because they were parked last.
//!
//! Invariants: the newest sequenced event of a directory stays, because its sequence goes on from there;
//! nothing goes that the audit trail has not read; each step is a small transaction of its own with a
//! pause after it, begins where the last one ended, and may be made again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::ids::EndpointId;
use crate::storage::tables::endpoint_gaps;
use crate::storage::{self, Store};

mod chunk;
mod deliveries;
mod step;

pub use chunk::front_statement;
pub use step::ends_statement;

/// How many rows one transaction looks at.
const STEP: i64 = 500;
/// How many of them one run makes for events and for deliveries; the next run goes on.
const STEPS_MAX: usize = 200;
/// What is left to others after a transaction.
const PAUSE: Duration = Duration::from_millis(20);

/// What has been removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Events.
    pub events: u64,
    /// Deliveries.
    pub deliveries: u64,
}

/// The instants that divide what goes from what stays.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Events from before go if nobody needs them.
    events: DateTime<Utc>,
    /// Events from before go.
    events_max: DateTime<Utc>,
    /// Deliveries that last changed before go.
    deliveries: DateTime<Utc>,
}

/// Removes what is too old, a bounded step after the other, until nothing is left, the run has been long
/// enough, or `stop`.
///
/// # Errors
/// The database fails; what was removed is.
pub async fn forget(
    store: &Store,
    events: config::Events,
    deliveries: config::Deliveries,
    stop: &CancellationToken,
) -> Result<Removed, storage::Error> {
    let now = store.clock().now();
    let before = |span: config::Span| now.checked_sub_signed(span.delta());
    let limits = Limits {
        events: before(events.retention).unwrap_or_default(),
        events_max: before(events.retention_max).unwrap_or_default(),
        deliveries: before(deliveries.retention).unwrap_or_default(),
    };
    Ok(Removed {
        events: step::cut_all(store, limits, stop).await?,
        deliveries: deliveries::forget_all(store, limits, stop).await?,
    })
}

/// What an endpoint never got because it was too old, oldest first in each shard.
///
/// # Errors
/// The database fails.
pub async fn gaps(
    connection: &impl ConnectionTrait,
    endpoint_id: EndpointId,
) -> Result<Vec<endpoint_gaps::Model>, DbErr> {
    endpoint_gaps::Entity::find()
        .filter(endpoint_gaps::Column::EndpointId.eq(endpoint_id))
        .order_by_asc(endpoint_gaps::Column::Shard)
        .order_by_asc(endpoint_gaps::Column::UpToPosition)
        .all(connection)
        .await
}

/// Lets others write. Tells whether to go on.
async fn pause(stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(tokio::time::sleep(PAUSE))
        .await
        .is_some()
}
