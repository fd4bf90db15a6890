//! Waiting for what must come true in a while.

use std::time::{Duration, Instant};

use super::client::Admin;
use super::receiver::Receiver;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `holds`, and fails when that takes longer than `limit`. Returns how long it took.
pub(crate) async fn eventually(
    what: &str,
    limit: Duration,
    mut holds: impl AsyncFnMut() -> bool,
) -> Duration {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < limit, "no {what} within {limit:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    started.elapsed()
}

/// Waits until a receiver has accepted everything that the directories have said.
pub(crate) async fn settled(
    admin: &Admin,
    receiver: &Receiver,
    directories: &[&str],
    limit: Duration,
) -> Duration {
    let mut expected = Vec::new();
    for directory in directories {
        expected.push((*directory, admin.sequence(directory).await));
    }
    let what = format!("complete delivery of {expected:?}");
    let took = eventually(&what, limit, async || {
        let ledger = receiver.ledger();
        expected
            .iter()
            .all(|(directory, last)| ledger.is_complete(directory, *last))
    })
    .await;
    let ledger = receiver.ledger();
    for (directory, last) in expected {
        ledger.assert_complete(directory, last);
    }
    ledger.assert_orderly();
    took
}
