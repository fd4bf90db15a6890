//! Reading a page of a shard for an endpoint, watching for gaps on the way, or of a directory that is
//! split off.
//!
//! A directory in whose sequence something is missing is split off, so that the others are read on, and
//! waits for what is missing by itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::DbErr;
use tokio::time::Instant;

use super::dispatcher::{Page, Source, Stretch};
use super::links::{self, View};
use super::{endpoint, place};
use crate::events::gaps::{GapWatch, Seen};
use crate::events::{cut, log};
use crate::ids::DirectoryId;
use crate::storage::Store;
use crate::storage::tables::events;

/// How many rows are read at once, and how many are looked at to find those that are of interest.
const PAGE_ROWS: usize = 500;
const SKIM_ROWS: usize = 4_000;
/// How long a gap in a directory's sequence is waited for before it is taken as it is.
const GAP_PATIENCE: Duration = Duration::from_secs(10);
const GAP_WAIT: Duration = Duration::from_millis(50);

/// What is known of the gaps of a shard, by all who read it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    gaps: GapWatch,
    broken: HashMap<DirectoryId, Gap>,
}

/// Something is missing before the event at `position`.
#[derive(Clone, Copy, Debug)]
struct Gap {
    position: i64,
    since: Instant,
    /// Whether it was waited for long enough.
    is_given_up: bool,
}

/// Reads the start of a stretch for an endpoint; `None` if its filter has changed meanwhile.
///
/// # Errors
/// The database fails.
pub(super) async fn read(
    store: &Store,
    view: &View,
    watch: &Mutex<Watch>,
    shard: i16,
    stretch: &Stretch,
) -> Result<Option<Page>, DbErr> {
    let page = match stretch.source {
        Source::Shard => read_shard(store, view, watch, shard, stretch).await?,
        Source::Directory(id) => read_directory(store, view, watch, shard, id, stretch).await?,
    };
    // Asked after reading: what comes after a change of the filter is never offered by the one before.
    let connection = store.dispatch_reader();
    if page.offers.is_empty() || endpoint::is_under_filter(connection, view).await? {
        return Ok(Some(page));
    }
    Ok(None)
}

/// Reads a page of a directory, which the shard's stream has been past. What ended before the directory's
/// place was loaded is left out.
async fn read_directory(
    store: &Store,
    view: &View,
    watch: &Mutex<Watch>,
    shard: i16,
    directory_id: DirectoryId,
    stretch: &Stretch,
) -> Result<Page, DbErr> {
    let (after, end) = (stretch.after, stretch.up_to);
    let connection = store.dispatch_reader();
    let limit = stretch.rows.min(PAGE_ROWS);
    let mut rows = log::read_directory(connection, directory_id, after, end, count(limit)).await?;
    let is_last = rows.len() < limit;
    let mut has_gap = false;
    if lock(watch).is_broken(directory_id) {
        let before = log::sequence_at(connection, directory_id, after).await?;
        let whole = lock(watch).whole(directory_id, before, &rows, Instant::now());
        has_gap = whole < rows.len();
        rows.truncate(whole);
    }
    if has_gap {
        tokio::time::sleep(GAP_WAIT).await;
    }
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    let ended = place::ended(store, view.endpoint_id, &positions).await?;
    rows.retain(|row| !ended.contains(&row.position));
    let offers = links::offers(store, view, shard, rows).await?;
    Ok(Page {
        offers: offers.into_iter().map(Arc::new).collect(),
        last_row: positions.last().copied(),
        read_to: (is_last && !has_gap).then_some(end),
        gap: None,
    })
}

/// Reads a page of a shard, cut before a gap in a directory's sequence. Long stretches of directories that
/// are read by themselves are only looked through.
async fn read_shard(
    store: &Store,
    view: &View,
    watch: &Mutex<Watch>,
    shard: i16,
    stretch: &Stretch,
) -> Result<Page, DbErr> {
    let (after, end) = (stretch.after, stretch.up_to);
    let connection = store.dispatch_reader();
    let rows_max = stretch.rows.min(PAGE_ROWS);
    let (mut seen, mut rows, limit);
    if stretch.without.is_empty() {
        limit = rows_max;
        rows = log::read_shard(connection, shard, after, end, count(limit)).await?;
        seen = rows.iter().map(seen_of).collect::<Vec<_>>();
    } else {
        limit = SKIM_ROWS;
        seen = log::skim_shard(connection, shard, after, end, count(limit)).await?;
        let wanted = seen
            .iter()
            .filter(|row| !stretch.without.contains(&row.directory_id));
        let wanted: Vec<i64> = wanted.map(|row| row.position).take(rows_max + 1).collect();
        if let Some(first_left) = wanted.get(rows_max) {
            seen.truncate(seen.partition_point(|row| row.position < *first_left));
        }
        let wanted = wanted.get(..rows_max).unwrap_or(&wanted);
        rows = log::read_positions(connection, wanted).await?;
    }
    let is_last = seen.len() < limit && rows.len() < rows_max;
    let cut = if lock(watch).is_whole(after, &seen) {
        0
    } else {
        cut::position(connection, shard).await?
    };
    let gap = lock(watch).gap(after, &seen, &stretch.without, cut, Instant::now());
    if let Some(gap) = gap {
        seen.retain(|row| row.position < gap.position);
        rows.retain(|row| row.position < gap.position);
    }
    let offers = links::offers(store, view, shard, rows).await?;
    Ok(Page {
        offers: offers.into_iter().map(Arc::new).collect(),
        last_row: seen.last().map(|row| row.position),
        read_to: (is_last && gap.is_none()).then_some(end),
        gap: gap.map(|row| row.directory_id),
    })
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}

fn seen_of(row: &events::Model) -> Seen {
    Seen {
        position: row.position,
        directory_id: row.directory_id,
        sequence: row.sequence,
    }
}

fn lock(watch: &Mutex<Watch>) -> std::sync::MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    fn is_broken(&self, id: DirectoryId) -> bool {
        self.broken.get(&id).is_some_and(|gap| !gap.is_given_up)
    }

    fn is_whole(&mut self, after: i64, seen: &[Seen]) -> bool {
        self.gaps.check(after, seen) == seen.len()
    }

    /// The first row of a page of the shard that comes after a gap, in a directory that the page is to have.
    /// Gaps that are new are reported; one on a page that begins before `cut` is where the log was cut under
    /// its reader.
    fn gap(
        &mut self,
        after: i64,
        seen: &[Seen],
        without: &BTreeSet<DirectoryId>,
        cut: i64,
        now: Instant,
    ) -> Option<Seen> {
        while let Some(next) = seen.get(self.gaps.check(after, seen)).copied() {
            if after < cut {
                self.gaps.forget(next.directory_id);
                continue;
            }
            tracing::error!(
                directory.id = %next.directory_id,
                event.position = next.position,
                "the log has a gap in a directory's sequence; waiting for it"
            );
            self.gaps.forget(next.directory_id);
            let gap = Gap {
                position: next.position,
                since: now,
                is_given_up: false,
            };
            self.broken.insert(next.directory_id, gap);
        }
        let is_after_gap = |row: &&Seen| {
            let gap = self.broken.get(&row.directory_id);
            gap.is_some_and(|gap| !gap.is_given_up && gap.position <= row.position)
                && !without.contains(&row.directory_id)
        };
        seen.iter().find(is_after_gap).copied()
    }

    /// How many rows of a page of a broken directory come before the gap; `before` is the sequence before
    /// the page. A gap that stays for long is reported and passed.
    fn whole(
        &mut self,
        id: DirectoryId,
        before: Option<i64>,
        rows: &[events::Model],
        now: Instant,
    ) -> usize {
        let mut newest = before;
        let whole = rows.iter().position(|row| {
            let former = newest;
            newest = row.sequence.or(newest);
            let follows = |former: i64| row.sequence.is_none_or(|next| next == former + 1);
            !former.is_none_or(follows)
        });
        let Some(gap) = self.broken.get_mut(&id) else {
            return rows.len();
        };
        if let Some(whole) = whole {
            if now.saturating_duration_since(gap.since) < GAP_PATIENCE {
                return whole;
            }
            tracing::error!(directory.id = %id, "the gap stays; continuing after it");
            gap.is_given_up = true;
        } else if rows.last().is_some_and(|row| gap.position <= row.position) {
            self.broken.remove(&id);
        }
        rows.len()
    }
}

#[cfg(test)]
mod tests;
