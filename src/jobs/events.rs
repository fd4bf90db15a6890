//! Forgetting events and deliveries.

use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::webhooks::retention;

/// Forgets events and deliveries after their time.
pub(super) async fn forget(context: &Context, stop: &CancellationToken) {
    let forgotten =
        retention::forget(&context.store, context.events, context.deliveries, stop).await;
    match forgotten {
        Ok(retention::Removed {
            events: 0,
            deliveries: 0,
        }) => {}
        Ok(removed) => tracing::info!(
            events = removed.events,
            deliveries = removed.deliveries,
            "old events and deliveries forgotten"
        ),
        Err(error) => super::warn(
            &error,
            "old events and deliveries could not be forgotten yet",
        ),
    }
}
