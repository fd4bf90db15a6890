//! `rollcall serve` and `rollcall migrate`.

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::print_line;
use crate::app::{self, Running};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::first_start;
use crate::storage::schema::{self, State};
use crate::storage::{Opener, Store};

/// Serves until SIGTERM or SIGINT; a second signal ends the process at once.
pub(super) async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let data_dir = config.data_dir.clone();
    let running = app::start(config).await?;
    if let Some(key) = running.first_api_key() {
        tell_credentials(&running, &data_dir, &key)?;
    }
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
    tokio::select! {
        () = running.stop() => tracing::info!("stopped"),
        _ = terminate.recv() => tracing::warn!("second signal: ending at once"),
        _ = interrupt.recv() => tracing::warn!("second signal: ending at once"),
    }
    Ok(())
}

/// Shows the first credentials on a terminal; elsewhere standard output may be a log, so they go into a
/// file that only its owner can read.
fn tell_credentials(
    running: &Running,
    data_dir: &std::path::Path,
    api_key: &str,
) -> anyhow::Result<()> {
    if std::io::stdout().is_terminal() {
        return print_line(&format!(
            "\n  Rollcall is running at http://{}\n  The first API key, shown this once:\n\n    {api_key}\n",
            running.address
        ));
    }
    let path = first_start::write_credentials(data_dir, api_key).with_context(|| {
        format!(
            "the first API key cannot be written into {}; make another one with `rollcall api-key create`",
            data_dir.display()
        )
    })?;
    print_line(&format!("The first API key is in {}", path.display()))
}

/// Brings the schema up to date, or says what that would take.
pub(super) async fn migrate(config: &Config, is_check: bool) -> anyhow::Result<bool> {
    let url = config.database_url();
    let store = Store::open(url.expose(), Opener::Command, Arc::new(SystemClock)).await?;
    if is_check {
        return match schema::check(&store).await? {
            State::Current => print_line("The schema is up to date.").map(|()| true),
            State::Behind(pending) => {
                for name in pending {
                    print_line(&format!("pending  {name}"))?;
                }
                Ok(false)
            }
        };
    }
    let done = schema::migrate(&store).await?;
    store.close().await;
    if done.is_empty() {
        print_line("The schema is up to date.")?;
    }
    for name in done {
        print_line(&format!("migrated  {name}"))?;
    }
    Ok(true)
}
