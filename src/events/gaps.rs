//! Watches for gaps in the sequences of directories while a shard is read from front to back. Pure.
//!
//! A gap must never be seen: it would mean that an event was read past before it was visible. The step by
//! which a new generation sets itself off from the one before it is not one.

use std::collections::HashMap;

use crate::ids::DirectoryId;
use crate::storage::generation::SEQUENCE_STEP;

/// What has been read of one shard.
#[derive(Debug, Default)]
pub struct GapWatch {
    /// Up to where rows have been checked; `None` before the first page.
    checked_to: Option<i64>,
    newest: HashMap<DirectoryId, i64>,
}

/// A row as far as the watch is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its place in the log.
    pub position: i64,
    /// Its directory.
    pub directory_id: DirectoryId,
    /// Its place in its directory, if it has one.
    pub sequence: Option<i64>,
}

impl GapWatch {
    /// Checks a page that was read after position `after`. Returns how many of its rows come before the
    /// first gap; what comes after it must be read again.
    pub fn check(&mut self, after: i64, rows: &[Seen]) -> usize {
        let checked_to = *self.checked_to.get_or_insert(after);
        if after > checked_to {
            // Not contiguous with what was checked: somebody else reads there already.
            return rows.len();
        }
        for (index, row) in rows.iter().enumerate() {
            if row.position <= checked_to {
                continue;
            }
            if let Some(sequence) = row.sequence {
                let newest = self.newest.get(&row.directory_id);
                if newest.is_some_and(|newest| !follows(*newest, sequence)) {
                    return index;
                }
                self.newest.insert(row.directory_id, sequence);
            }
            self.checked_to = Some(row.position);
        }
        rows.len()
    }

    /// Accepts what cannot be helped: the next row of `directory_id` may have any sequence.
    pub fn forget(&mut self, directory_id: DirectoryId) {
        self.newest.remove(&directory_id);
    }
}

/// Whether nothing can be missing between two sequences of a directory: one is next to the other, or whole
/// generations lie between them.
fn follows(newest: i64, sequence: i64) -> bool {
    let between = sequence - newest - 1;
    between >= 0 && between % SEQUENCE_STEP == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(directory_id: DirectoryId, position: i64, sequence: i64) -> Seen {
        Seen {
            position,
            directory_id,
            sequence: Some(sequence),
        }
    }

    #[test]
    fn a_gap_is_found_and_the_page_cut_before_it() {
        let (one, other) = (DirectoryId::generate(), DirectoryId::generate());
        let mut watch = GapWatch::default();
        let first = [row(one, 11, 5), row(other, 12, 1), row(one, 13, 6)];
        assert_eq!(watch.check(10, &first), 3);
        let broken = [row(other, 14, 2), row(one, 16, 8)];
        assert_eq!(watch.check(13, &broken), 1);
        let mended = [row(one, 15, 7), row(one, 16, 8)];
        assert_eq!(watch.check(14, &mended), 2);
    }

    #[test]
    fn rows_read_again_by_somebody_slower_are_not_checked_twice() {
        let one = DirectoryId::generate();
        let mut watch = GapWatch::default();
        assert_eq!(watch.check(0, &[row(one, 1, 1), row(one, 2, 2)]), 2);
        assert_eq!(
            watch.check(0, &[row(one, 1, 1), row(one, 2, 2), row(one, 3, 3)]),
            3
        );
        assert_eq!(watch.check(3, &[row(one, 4, 5)]), 0);
        watch.forget(one);
        assert_eq!(watch.check(3, &[row(one, 4, 5)]), 1);
    }

    #[test]
    fn the_step_of_a_new_generation_is_no_gap() {
        let one = DirectoryId::generate();
        let mut watch = GapWatch::default();
        let rows = [
            row(one, 1, 7),
            row(one, 2, 8 + SEQUENCE_STEP),
            row(one, 3, 9 + 3 * SEQUENCE_STEP),
            row(one, 4, 11 + 4 * SEQUENCE_STEP),
        ];
        assert_eq!(watch.check(0, &rows), 3);
    }
}
