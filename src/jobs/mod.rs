//! What happens by itself, at certain times.
//!
//! Cast: a [`schedule`] says when a job is due. Jobs for the whole installation are claimed by moving
//! their row on, so that each run happens on one node; jobs of a node (writing down what it remembers)
//! run on each.

pub mod schedule;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::directories::directory;

/// How often a node writes down whom it has heard.
const ACTIVITY_EVERY: Duration = Duration::from_secs(2);
/// How often a node looks whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How many rows of deleted directories are removed in one go, and how many goes make a run.
const REMOVE_ROWS: u64 = 500;
const REMOVE_GOES: usize = 200;

/// Writes down whom this node has heard, every few seconds and once more at the end.
pub async fn write_activity(context: Context, stop: CancellationToken) {
    loop {
        let stopped = stop
            .run_until_cancelled(tokio::time::sleep(ACTIVITY_EVERY))
            .await
            .is_none();
        if let Err(error) = context.activity.write_down(&context.store).await {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "activity could not be written down yet"
            );
        }
        context.limits.forget_idle();
        if stopped {
            return;
        }
    }
}

/// Runs what is due for the whole installation.
pub async fn run_schedules(context: Context, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
        .await
        .is_some()
    {
        for due in schedule::claim_due(&context.store).await {
            match due {
                schedule::Job::RemoveDeleted => remove_deleted(&context, &stop).await,
                schedule::Job::ForgetNodes => schedule::forget_nodes(&context.store).await,
            }
        }
    }
}

/// Removes the rows of deleted directories, a bounded step after the other.
async fn remove_deleted(context: &Context, stop: &CancellationToken) {
    for _ in 0..REMOVE_GOES {
        match directory::remove_deleted(&context.store, REMOVE_ROWS).await {
            Ok(0) => return,
            Ok(rows) => tracing::info!(rows, "rows of deleted directories removed"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "rows of deleted directories could not be removed yet"
                );
                return;
            }
        }
        if stop.is_cancelled() {
            return;
        }
    }
}
