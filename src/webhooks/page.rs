//! Reading a page of a shard for an endpoint, watching for gaps on the way, or of a directory that is
//! split off.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::DbErr;
use tokio::time::Instant;

use super::dispatcher::{Page, Source, Stretch};
use super::links::{self, View};
use super::place;
use crate::events::gaps::{GapWatch, Seen};
use crate::events::{cut, log};
use crate::ids::DirectoryId;
use crate::storage::Store;

const PAGE_ROWS: u64 = 500;
/// How long a gap in a directory's sequence is waited for before it is taken as it is.
const GAP_PATIENCE: Duration = Duration::from_secs(10);
const GAP_WAIT: Duration = Duration::from_millis(50);

/// What is known of the gaps of a shard, by all who read it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    gaps: GapWatch,
    /// The event before which something is missing, and since when that is known.
    gap: Option<(i64, Instant)>,
}

/// Reads the start of a stretch for an endpoint.
///
/// # Errors
/// The database fails.
pub(super) async fn read(
    store: &Store,
    view: &View,
    watch: &Mutex<Watch>,
    shard: i16,
    stretch: &Stretch,
) -> Result<Page, DbErr> {
    match stretch.source {
        Source::Shard => read_shard(store, view, watch, shard, stretch).await,
        Source::Directory(id) => read_directory(store, view, shard, id, stretch).await,
    }
}

/// Reads a page of a directory, which the shard's stream has been past and found whole. What ended before
/// the directory's place was loaded is left out.
async fn read_directory(
    store: &Store,
    view: &View,
    shard: i16,
    directory_id: DirectoryId,
    stretch: &Stretch,
) -> Result<Page, DbErr> {
    let (after, end) = (stretch.after, stretch.up_to);
    let connection = store.dispatch_reader();
    let mut rows = log::read_directory(connection, directory_id, after, end, PAGE_ROWS).await?;
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    let is_last = u64::try_from(rows.len()).unwrap_or(u64::MAX) < PAGE_ROWS;
    let ended = place::ended(store, view.endpoint_id, &positions).await?;
    rows.retain(|row| !ended.contains(&row.position));
    let offers = links::offers(store, view, shard, rows).await?;
    Ok(Page {
        offers: offers.into_iter().map(Arc::new).collect(),
        last_row: positions.last().copied(),
        read_to: is_last.then_some(end),
    })
}

/// Reads a page of a shard, cut before a gap in a directory's sequence.
async fn read_shard(
    store: &Store,
    view: &View,
    watch: &Mutex<Watch>,
    shard: i16,
    stretch: &Stretch,
) -> Result<Page, DbErr> {
    let (after, end) = (stretch.after, stretch.up_to);
    let mut rows = log::read_shard(store.dispatch_reader(), shard, after, end, PAGE_ROWS).await?;
    let seen: Vec<Seen> = rows
        .iter()
        .map(|row| Seen {
            position: row.position,
            directory_id: row.directory_id,
            sequence: row.sequence,
        })
        .collect();
    let is_last = u64::try_from(rows.len()).unwrap_or(u64::MAX) < PAGE_ROWS;
    let cut = if is_whole(watch, after, &seen) {
        0
    } else {
        cut::position(store.dispatch_reader(), shard).await?
    };
    let whole = check_gaps(watch, after, &seen, cut, Instant::now());
    let has_gap = whole < rows.len();
    rows.truncate(whole);
    if has_gap {
        tokio::time::sleep(GAP_WAIT).await;
    }
    let last_row = rows.last().map(|row| row.position);
    rows.retain(|row| !stretch.without.contains(&row.directory_id));
    let offers = links::offers(store, view, shard, rows).await?;
    Ok(Page {
        offers: offers.into_iter().map(Arc::new).collect(),
        last_row,
        read_to: (is_last && !has_gap).then_some(end),
    })
}

fn is_whole(watch: &Mutex<Watch>, after: i64, seen: &[Seen]) -> bool {
    let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
    watch.gaps.check(after, seen) == seen.len()
}

/// How many of the rows come before a gap. A gap that stays for long is reported and passed; one on a page
/// that begins before `cut` is where the log was cut under its reader.
fn check_gaps(watch: &Mutex<Watch>, after: i64, seen: &[Seen], cut: i64, now: Instant) -> usize {
    let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
    let mut whole = watch.gaps.check(after, seen);
    while let Some(next) = seen.get(whole).filter(|_| after < cut) {
        watch.gaps.forget(next.directory_id);
        whole = watch.gaps.check(after, seen);
    }
    let Some(next) = seen.get(whole) else {
        return whole;
    };
    // Others who read elsewhere in the shard neither prolong nor shorten the wait.
    let known = watch.gap.filter(|(position, _)| *position == next.position);
    let Some((_, since)) = known else {
        watch.gap = Some((next.position, now));
        tracing::error!(
            directory.id = %next.directory_id,
            event.position = next.position,
            "the log has a gap in a directory's sequence; waiting for it"
        );
        return whole;
    };
    if now.saturating_duration_since(since) >= GAP_PATIENCE {
        tracing::error!(directory.id = %next.directory_id, "the gap stays; continuing after it");
        watch.gaps.forget(next.directory_id);
        watch.gap = None;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_passed_after_a_while_whoever_else_reads_the_shard() {
        let directory_id = DirectoryId::generate();
        let row = |position, sequence| Seen {
            position,
            directory_id,
            sequence: Some(sequence),
        };
        let watch = Mutex::new(Watch::default());
        let started = Instant::now();
        let whole = [row(1, 1), row(2, 2)];
        assert_eq!(check_gaps(&watch, 0, &whole, 0, started), 2);
        let mut now = started;
        while check_gaps(&watch, 2, &[row(4, 4), row(5, 5)], 0, now) == 0 {
            assert_eq!(check_gaps(&watch, 0, &whole, 0, now), 2);
            assert_eq!(check_gaps(&watch, 9, &[row(10, 9)], 0, now), 1);
            now += GAP_WAIT;
            assert!(now - started < 2 * GAP_PATIENCE);
        }
        assert!(now - started >= GAP_PATIENCE);
    }

    #[test]
    fn where_the_log_was_cut_is_no_gap() {
        let row = |directory_id, position, sequence| Seen {
            position,
            directory_id,
            sequence: Some(sequence),
        };
        let (one, other) = (DirectoryId::generate(), DirectoryId::generate());
        let watch = Mutex::new(Watch::default());
        let now = Instant::now();
        let known = [row(one, 1, 1), row(other, 2, 1)];
        assert_eq!(check_gaps(&watch, 0, &known, 0, now), 2);
        let rest = [row(one, 9, 7), row(other, 10, 4), row(one, 11, 8)];
        assert_eq!(check_gaps(&watch, 2, &rest, 8, now), 3);
        let broken = [row(one, 13, 10)];
        assert_eq!(check_gaps(&watch, 11, &broken, 8, now), 0);
    }
}
