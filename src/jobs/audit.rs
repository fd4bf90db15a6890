//! The audit trail's own work: seals every second, heads every minute, and retention.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::audit::{Heads, Key, Sealer, retention};
use crate::context::Context;

const SEAL_EVERY: Duration = Duration::from_secs(1);
const HEADS_EVERY: Duration = Duration::from_mins(1);

/// Seals what was done, and once more at the end.
pub async fn seal(context: Context, heads_file: PathBuf, stop: CancellationToken) {
    let key = Arc::new(Key::of(&context.master_key));
    let mut sealer = Sealer::new(context.store.clone(), Arc::clone(&key));
    let mut heads = Heads::new(heads_file);
    let mut heads_due = Instant::now();
    loop {
        let stopped = stop
            .run_until_cancelled(tokio::time::sleep(SEAL_EVERY))
            .await
            .is_none();
        seal_all(&mut sealer, &stop).await;
        if stopped || heads_due <= Instant::now() {
            heads_due = Instant::now() + HEADS_EVERY;
            let now = context.clock.now();
            if let Err(error) = heads.write(&context.store, &key, now).await {
                tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "the audit trail's heads could not be written yet"
                );
            }
        }
        if stopped {
            return;
        }
    }
}

async fn seal_all(sealer: &mut Sealer, stop: &CancellationToken) {
    loop {
        match sealer.step().await {
            Ok(true) if !stop.is_cancelled() => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "the audit trail could not be sealed yet"
                );
                return;
            }
        }
    }
}

/// Removes entries after their time, a bounded step after the other.
pub(super) async fn forget(context: &Context, stop: &CancellationToken) {
    let key = Arc::new(Key::of(&context.master_key));
    let before = context.clock.now() - context.audit.retention.delta();
    while !stop.is_cancelled() {
        match retention::forget(&context.store, &key, before).await {
            Ok(0) => return,
            Ok(entries) => tracing::info!(entries, "audit entries removed after their time"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "audit entries could not be removed yet"
                );
                return;
            }
        }
    }
}
