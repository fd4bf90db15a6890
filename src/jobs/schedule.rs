//! When recurring jobs are due, as cron expressions, and who runs them.
//!
//! A schedule is a row with the time of its next run. A node that finds the time passed moves the row on
//! by compare-and-set; whoever succeeds runs the job. A run that a crash swallowed comes with the next.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use cron::Schedule;
use sea_orm::{ConnectionTrait, DbErr};

use crate::clock;
use crate::storage::Store;

/// A job for the whole installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// End the deletions whose time has come.
    EndDeletions,
    /// Remove the rows of deleted directories and organizations.
    RemoveDeleted,
    /// Forget requests of providers that are too old or too many.
    ForgetRequests,
    /// Bring inactive users into line with their directories' policies.
    AlignInactive,
    /// Forget nodes that have been silent for a day.
    ForgetNodes,
    /// Forget the answers to requests that had an idempotency key.
    ForgetAnswers,
    /// Forget audit entries after their time.
    ForgetAudit,
    /// Forget events and deliveries after their time.
    ForgetEvents,
    /// Tell of webhook endpoints that fail for long, and disable those that fail for too long.
    FollowFailing,
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::EndDeletions,
        Self::RemoveDeleted,
        Self::AlignInactive,
        Self::ForgetRequests,
        Self::ForgetNodes,
        Self::ForgetAnswers,
        Self::ForgetAudit,
        Self::ForgetEvents,
        Self::FollowFailing,
    ];

    /// The name of its row.
    pub fn name(self) -> &'static str {
        match self {
            Self::EndDeletions => "directories.end_deletions",
            Self::RemoveDeleted => "directories.remove_deleted",
            Self::ForgetRequests => "requests.forget",
            Self::AlignInactive => "directories.align_inactive",
            Self::ForgetNodes => "nodes.forget",
            Self::ForgetAnswers => "idempotency_keys.forget",
            Self::ForgetAudit => "audit.forget",
            Self::ForgetEvents => "events.forget",
            Self::FollowFailing => "webhooks.follow_failing",
        }
    }

    /// When it runs: seconds, minutes, hours, days of month, months, days of week.
    fn expression(self) -> &'static str {
        match self {
            Self::EndDeletions => "*/10 * * * * *",
            Self::RemoveDeleted | Self::AlignInactive => "0 * * * * *",
            Self::ForgetRequests => "30 */10 * * * *",
            Self::ForgetNodes => "0 17 * * * *",
            Self::ForgetAnswers => "0 47 * * * *",
            Self::ForgetAudit => "0 29 * * * *",
            Self::ForgetEvents => "50 */10 * * * *",
            Self::FollowFailing => "15 * * * * *",
        }
    }

    /// The first time after `now`.
    fn next_after(self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Schedule::from_str(self.expression())
            .ok()?
            .after(&now)
            .next()
    }
}

/// Claims the jobs that are due; each is claimed by one node.
pub async fn claim_due(store: &Store) -> Vec<Job> {
    let mut due = Vec::new();
    for job in Job::ALL {
        match claim(store, job).await {
            Ok(true) => due.push(job),
            Ok(false) => {}
            Err(error) => tracing::warn!(job = job.name(), %error, "a schedule cannot be read"),
        }
    }
    due
}

async fn claim(store: &Store, job: Job) -> Result<bool, DbErr> {
    let now_ms = store.clock().now_ms();
    let Some(next) = job.next_after(clock::from_ms(now_ms)) else {
        return Ok(false);
    };
    let dialect = store.dialect();
    let due_at = store
        .reader()
        .query_one_raw(dialect.statement(
            "SELECT due_at_ms FROM schedules WHERE name = $1",
            [job.name().into()],
        ))
        .await?
        .map(|row| row.try_get::<i64>("", "due_at_ms"))
        .transpose()?;
    let writer = store.statement_connection();
    let Some(due_at) = due_at else {
        writer
            .execute_raw(dialect.statement(
                "INSERT INTO schedules (name, due_at_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                [job.name().into(), next.timestamp_millis().into()],
            ))
            .await?;
        return Ok(false);
    };
    if due_at > now_ms {
        return Ok(false);
    }
    let moved = writer
        .execute_raw(dialect.statement(
            "UPDATE schedules SET due_at_ms = $3 WHERE name = $1 AND due_at_ms = $2",
            [
                job.name().into(),
                due_at.into(),
                next.timestamp_millis().into(),
            ],
        ))
        .await?;
    Ok(moved.rows_affected() == 1)
}

/// Forgets nodes that have been silent for a day.
pub async fn forget_nodes(store: &Store) {
    const DAY_MS: i64 = 86_400_000;
    let dialect = store.dialect();
    let sql = format!(
        "DELETE FROM nodes WHERE heartbeat_ms < {} - $1",
        dialect.now_ms()
    );
    let forgotten = store
        .statement_connection()
        .execute_raw(dialect.statement(&sql, [DAY_MS.into()]))
        .await;
    if let Err(error) = forgotten {
        tracing::warn!(%error, "silent nodes could not be forgotten yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_a_time_to_come() {
        let now = clock::from_ms(1_768_478_400_000);
        for job in Job::ALL {
            assert!(
                job.next_after(now).is_some_and(|next| next > now),
                "{job:?}"
            );
        }
    }
}
