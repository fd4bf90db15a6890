//! The database, its file, its schema, its clock, and the key to it.

use std::path::Path;
use std::sync::Arc;

use super::Finding;
use crate::app::{self, MASTER_KEY_CHECK};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::storage::schema::{self, State};
use crate::storage::tables::endpoints;
use crate::storage::{Opener, Store, inspect};
use crate::webhooks::endpoint;

const SPACE_WARN_BYTES: u64 = 1 << 30;
const SPACE_FAIL_BYTES: u64 = 100 << 20;
const CLOCK_OFF_MS: u64 = 2_000;

/// Examines the database; also gives the endpoints that it knows.
pub(super) async fn examine(config: &Config) -> (Vec<Finding>, Vec<endpoints::Model>) {
    let url = config.database_url();
    let mut findings = Vec::new();
    if let Some(file) = url.sqlite_file() {
        if !file.exists() {
            let text = format!(
                "there is no database at {}; start `rollcall serve` once, or set ROLLCALL_DATABASE_URL",
                file.display()
            );
            return (vec![Finding::fail("database", text)], Vec::new());
        }
        findings.extend([permissions(&file), space(&file)].into_iter().flatten());
    }
    let opened = Store::open(url.expose(), Opener::Command, Arc::new(SystemClock)).await;
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            findings.push(Finding::failed("database", error));
            return (findings, Vec::new());
        }
    };
    let mut found = vec![match inspect::version(&store).await {
        Ok(version) => Finding::ok("database", format!("{version} at {url}")),
        Err(error) => Finding::failed("database", error),
    }];
    found.append(&mut findings);
    found.push(durability(&store).await);
    found.push(clock(&store).await);
    let (schema, is_usable) = schema(config, &store).await;
    found.push(schema);
    let mut known = Vec::new();
    if is_usable {
        found.push(master_key(config, &store).await);
        match endpoint::list(store.reader()).await {
            Ok(endpoints) => known = endpoints,
            Err(error) => found.push(Finding::failed("endpoints", error)),
        }
    }
    store.close().await;
    (found, known)
}

/// Whether others can read the file.
#[cfg(unix)]
fn permissions(file: &Path) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o777;
    Some(if mode.trailing_zeros() >= 6 {
        Finding::ok("database file", "only its owner can read it")
    } else {
        let file = file.display();
        Finding::warn(
            "database file",
            format!("it is open to other users (mode {mode:03o}); run: chmod 600 {file}*"),
        )
    })
}

#[cfg(not(unix))]
fn permissions(_file: &Path) -> Option<Finding> {
    None
}

/// Whether there is room beside the file.
fn space(file: &Path) -> Option<Finding> {
    let directory = file.parent().filter(|path| *path != Path::new(""));
    let found = rustix::fs::statvfs(directory.unwrap_or(Path::new("."))).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} MiB are free", free >> 20);
    Some(if free < SPACE_FAIL_BYTES {
        Finding::fail(
            "disk space",
            format!("{text}: make room before writes fail"),
        )
    } else if free < SPACE_WARN_BYTES {
        Finding::warn("disk space", format!("{text}: make room soon"))
    } else {
        Finding::ok("disk space", text)
    })
}

/// Whether what is acknowledged survives a power cut.
async fn durability(store: &Store) -> Finding {
    match inspect::dangers(store).await {
        Ok(dangers) if dangers.is_empty() => Finding::ok("durability", "commits reach the disk"),
        Ok(dangers) => Finding::fail(
            "durability",
            format!(
                "{}: what providers were told is stored can be lost in a power cut; set it back",
                dangers.join(", ")
            ),
        ),
        Err(error) => Finding::failed("durability", error),
    }
}

async fn clock(store: &Store) -> Finding {
    let before = SystemClock.now_ms();
    match inspect::now_ms(store).await {
        // The answer is from somewhere between the question and now.
        Ok(there) => compare_clocks(i64::midpoint(before, SystemClock.now_ms()), there),
        Err(error) => Finding::failed("clock", error),
    }
}

fn compare_clocks(here_ms: i64, there_ms: i64) -> Finding {
    let off_ms = here_ms.abs_diff(there_ms);
    if off_ms <= CLOCK_OFF_MS {
        return Finding::ok("clock", "it agrees with the database's");
    }
    let seconds = off_ms / 1_000;
    Finding::warn(
        "clock",
        format!(
            "it is {seconds} s off the database's; let both machines take the time from a time server"
        ),
    )
}

/// The schema's state, and whether it can be used.
async fn schema(config: &Config, store: &Store) -> (Finding, bool) {
    match schema::check(store).await {
        Ok(State::Current) => (Finding::ok("schema", "it is up to date"), true),
        Ok(State::Behind(pending)) => {
            let count = pending.len();
            let finding = if config.migrate {
                Finding::warn(
                    "schema",
                    format!(
                        "{count} migration(s) are pending; the next start of a server runs them"
                    ),
                )
            } else {
                Finding::fail(
                    "schema",
                    format!("{count} migration(s) are pending; run `rollcall migrate`"),
                )
            };
            (finding, false)
        }
        Err(error) => (Finding::failed("schema", error), false),
    }
}

/// Whether the key is there and is this database's.
async fn master_key(config: &Config, store: &Store) -> Finding {
    let stored = match schema::read_fact(store.reader(), MASTER_KEY_CHECK).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return Finding::warn("master key", "no server has used this database yet"),
        Err(error) => return Finding::failed("master key", error),
    };
    let key = app::master_key(config, config.database_url().backend(), false);
    match key.and_then(|key| Ok(app::known_to(key, &stored)?)) {
        Ok(key) if key.has_older() => Finding::warn(
            "master key",
            "there are older keys beside the newest; run `rollcall key rotate` and take them out",
        ),
        Ok(_) => Finding::ok("master key", "it is this database's"),
        Err(error) => Finding::failed("master key", error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_that_is_more_than_two_seconds_off_is_warned_of() {
        assert_eq!(compare_clocks(10_000, 12_000).verdict, Verdict::Ok);
        let off = compare_clocks(10_000, 6_500);
        assert_eq!(off.verdict, Verdict::Warn);
        assert!(off.text.contains("3 s off"), "{}", off.text);
    }
}
