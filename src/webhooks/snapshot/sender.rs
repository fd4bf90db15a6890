//! The part of a node that sends snapshots: some at a time, one for each endpoint.

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::DbErr;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::rows::{self, Claim, LEASE};
use super::work::{self, Step};
use crate::ids::SnapshotId;
use crate::webhooks::driver::Tools;

/// How often a node looks for snapshots to send.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How many a node sends at once.
const AT_ONCE: usize = 4;
/// How long one waits after a failure; twice as long after each further one, up to some minutes.
const WAIT: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_mins(5);
const DOUBLINGS_MAX: u32 = 9;

/// A snapshot and whether it got stuck.
type Ended = (SnapshotId, bool);

/// Sends snapshots until `stop`; what is on its way then is taken up again by whoever comes next.
pub async fn run(tools: Tools, stop: CancellationToken) {
    if let Err(error) = rows::sweep(&tools.store).await {
        tracing::warn!(%error, "rows of snapshots that have ended could not be removed yet");
    }
    let mut work: JoinSet<Ended> = JoinSet::new();
    // How often each got stuck in a row here.
    let mut failures: HashMap<SnapshotId, u32> = HashMap::new();
    while !stop.is_cancelled() {
        while let Some(ended) = work.try_join_next() {
            note(&mut failures, ended.ok());
        }
        while work.len() < AT_ONCE
            && let Some(claim) = next(&tools).await
        {
            let failed = failures.get(&claim.snapshot.id).copied().unwrap_or(0);
            work.spawn(attend(tools.clone(), claim, failed, stop.clone()));
        }
        stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
            .await;
    }
    while work.join_next().await.is_some() {}
}

fn note(failures: &mut HashMap<SnapshotId, u32>, ended: Option<Ended>) {
    match ended {
        Some((id, true)) => *failures.entry(id).or_default() += 1,
        Some((id, false)) => {
            failures.remove(&id);
        }
        None => {}
    }
}

async fn next(tools: &Tools) -> Option<Claim> {
    match rows::claim(&tools.store).await {
        Ok(claim) => claim,
        Err(error) => {
            tracing::warn!(%error, "snapshots cannot be looked for");
            None
        }
    }
}

/// Works on a snapshot as long as the lease of it lasts and nothing is in the way.
async fn attend(tools: Tools, claim: Claim, failed: u32, stop: CancellationToken) -> Ended {
    let mut is_stuck = false;
    let working = async {
        tokio::select! {
            worked = send(&tools, &claim, failed) => worked,
            lost = keep(&tools, &claim) => lost.map(|()| false),
        }
    };
    match stop.run_until_cancelled(working).await {
        Some(Ok(stuck)) => is_stuck = stuck,
        Some(Err(error)) => {
            tracing::warn!(snapshot.id = %claim.snapshot.id, %error, "a snapshot waits for the database");
        }
        None => {
            let given_back = claim.give_back(&tools.store, Duration::ZERO, None).await;
            if let Err(error) = given_back {
                tracing::warn!(snapshot.id = %claim.snapshot.id, %error, "a snapshot was not given back");
            }
        }
    }
    (claim.snapshot.id, is_stuck)
}

/// Renews the lease until it is lost.
async fn keep(tools: &Tools, claim: &Claim) -> Result<(), DbErr> {
    loop {
        tokio::time::sleep(LEASE / 3).await;
        if !claim.renew(&tools.store).await? {
            return Ok(());
        }
    }
}

/// Sends page after page; tells whether it got stuck where it had been before.
async fn send(tools: &Tools, claim: &Claim, failed: u32) -> Result<bool, DbErr> {
    let mut from = claim.snapshot.next_number;
    loop {
        match work::step(tools, claim, &mut from).await? {
            Step::Sent => {}
            Step::Over => return Ok(false),
            Step::Held(wait) => {
                claim.give_back(&tools.store, wait, None).await?;
                return Ok(false);
            }
            Step::Stuck(why) => {
                let wait = (WAIT * 2_u32.pow(failed.min(DOUBLINGS_MAX))).min(WAIT_MAX);
                work::stuck(tools, claim, from, wait, &why).await?;
                return Ok(from == claim.snapshot.next_number);
            }
        }
    }
}
