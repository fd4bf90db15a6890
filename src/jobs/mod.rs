//! What happens by itself, at certain times.
//!
//! Cast: a [`schedule`] says when a job is due. Jobs for the whole installation are claimed by moving
//! their row on, so that each run happens on one node; jobs of a node (writing down what it remembers)
//! run on each.

pub mod audit;
mod events;
pub mod schedule;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::actor::Actor;
use crate::context::Context;
use crate::directories::{deletion, directory, inactive};
use crate::requests::retention;
use crate::storage::{self, Store};
use crate::tenancy::idempotency;
use crate::webhooks::endpoint;

/// How often a node writes down whom it has heard.
const ACTIVITY_EVERY: Duration = Duration::from_secs(2);
/// How often a node writes down what providers asked, and how long it waits when that has failed.
const REQUESTS_EVERY: Duration = Duration::from_millis(250);
const REQUESTS_AGAIN: Duration = Duration::from_secs(2);
/// How often a node looks whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How many rows of deleted directories and organizations are removed in one go, and how many goes make a run.
const REMOVE_ROWS: u64 = 500;
const REMOVE_GOES: usize = 200;
/// How many kept answers are forgotten in one go.
const FORGET_ROWS: u64 = 500;

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
        context.metrics.settle();
        if stopped {
            return;
        }
    }
}

/// Writes down what providers asked of this node, a few times a second, sooner if there is much, and
/// once more at the end.
pub async fn write_requests(context: Context, stop: CancellationToken) {
    let log = &context.request_log;
    let mut pause = REQUESTS_EVERY;
    loop {
        let waiting = async {
            if pause == REQUESTS_EVERY {
                drop(tokio::time::timeout(pause, log.enough()).await);
            } else {
                tokio::time::sleep(pause).await;
            }
        };
        let stopped = stop.run_until_cancelled(waiting).await.is_none();
        pause = REQUESTS_EVERY;
        if let Err(error) = log.write_down(&context.store).await {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "requests of providers could not be written down yet"
            );
            pause = REQUESTS_AGAIN;
        }
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
                schedule::Job::EndDeletions => end_deletions(&context.store).await,
                schedule::Job::RemoveDeleted => remove_deleted(&context.store, &stop).await,
                schedule::Job::AlignInactive => align_inactive(&context.store, &stop).await,
                schedule::Job::ForgetRequests => forget_requests(&context, &stop).await,
                schedule::Job::ForgetNodes => schedule::forget_nodes(&context.store).await,
                schedule::Job::ForgetAnswers => forget_answers(&context, &stop).await,
                schedule::Job::ForgetAudit => audit::forget(&context, &stop).await,
                schedule::Job::ForgetEvents => events::forget(&context, &stop).await,
                schedule::Job::FollowFailing => follow_failing(&context.store).await,
            }
        }
    }
}

/// Makes directories follow their organizations, and ends the deletions whose time has come.
async fn end_deletions(store: &Store) {
    let followed = deletion::organization::follow(store, Actor::SYSTEM, None).await;
    if let Err(error) = &followed {
        warn(error, "not all directories follow their organizations yet");
    }
    if let Err(error) = deletion::end_due(store).await {
        warn(&error, "deletions that are due could not be ended yet");
    }
}

/// Tells of webhook endpoints that fail for long, and disables those that fail for too long.
async fn follow_failing(store: &Store) {
    if let Err(error) = endpoint::follow_failing(store).await {
        warn(
            &error,
            "failing webhook endpoints could not be followed yet",
        );
    }
}

/// Goes on with inactive users that are not in line yet, until all are or the server stops.
async fn align_inactive(store: &Store, stop: &CancellationToken) {
    let aligning = inactive::align_due(store);
    if let Some(Err(error)) = stop.run_until_cancelled(aligning).await {
        warn(&error, "inactive users could not be brought into line yet");
    }
}

/// Removes the rows of deleted directories, and then of organizations, a bounded step after the other.
async fn remove_deleted(store: &Store, stop: &CancellationToken) {
    for _ in 0..REMOVE_GOES {
        match remove_some(store).await {
            Ok(0) => return,
            Ok(rows) => tracing::info!(rows, "rows of what was deleted are removed"),
            Err(error) => {
                warn(&error, "rows of what was deleted could not be removed yet");
                return;
            }
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

async fn remove_some(store: &Store) -> Result<u64, storage::Error> {
    match directory::remove_deleted(store, REMOVE_ROWS).await? {
        0 => deletion::organization::remove_due(store, REMOVE_ROWS).await,
        rows => Ok(rows),
    }
}

fn warn(error: &storage::Error, what: &str) {
    tracing::warn!(
        error = error as &(dyn std::error::Error + 'static),
        "{what}"
    );
}
/// Forgets the answers that are no longer kept, a bounded step after the other.
async fn forget_answers(context: &Context, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        match idempotency::forget(&context.store, FORGET_ROWS).await {
            Ok(FORGET_ROWS..) => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "answers to repeated requests could not be forgotten yet"
                );
                return;
            }
        }
    }
}

/// Forgets requests of providers that are too old or too many.
async fn forget_requests(context: &Context, stop: &CancellationToken) {
    match retention::forget(&context.store, context.requests, stop).await {
        Ok(0) => {}
        Ok(rows) => tracing::info!(rows, "old requests of providers forgotten"),
        Err(error) => tracing::warn!(
            error = &error as &(dyn std::error::Error + 'static),
            "old requests of providers could not be forgotten yet"
        ),
    }
}
