use chrono::DateTime;

use super::*;
use crate::ids::{EventId, OrganizationId};

fn row(directory_id: DirectoryId, position: i64, sequence: i64) -> events::Model {
    events::Model {
        position,
        id: EventId::generate(),
        organization_id: OrganizationId::generate(),
        directory_id,
        shard: 0,
        sequence: Some(sequence),
        kind: "dsync.user.updated".to_owned(),
        user_id: None,
        group_id: None,
        names: None,
        payload: "{}".to_owned(),
        is_departure: false,
        actor: None,
        request_id: None,
        created_at: DateTime::UNIX_EPOCH,
    }
}

fn gap(
    watch: &mut Watch,
    after: i64,
    rows: &[events::Model],
    without: &[DirectoryId],
) -> Option<i64> {
    let seen: Vec<Seen> = rows.iter().map(seen_of).collect();
    let without = without.iter().copied().collect();
    let gap = watch.gap(after, &seen, &without, 0, Instant::now());
    gap.map(|row| row.position)
}

#[test]
fn a_gap_stops_its_directory_and_nobody_else_whoever_reads_first() {
    let (broken, other) = (DirectoryId::generate(), DirectoryId::generate());
    let rows = [
        row(broken, 1, 1),
        row(other, 2, 1),
        row(broken, 4, 3),
        row(other, 5, 2),
    ];
    let mut watch = Watch::default();
    assert_eq!(gap(&mut watch, 0, &rows, &[]), Some(4));
    assert_eq!(gap(&mut watch, 2, &rows[2..], &[broken]), None);
    assert_eq!(
        gap(&mut watch, 0, &rows, &[]),
        Some(4),
        "one that is slower"
    );
    assert!(watch.is_broken(broken) && !watch.is_broken(other));
}

#[test]
fn a_gap_that_is_filled_is_over_and_one_that_stays_is_passed_after_a_while() {
    let id = DirectoryId::generate();
    let mut watch = Watch::default();
    let torn = [row(id, 1, 1), row(id, 4, 3)];
    assert_eq!(gap(&mut watch, 0, &torn, &[]), Some(4));
    let now = Instant::now();
    assert_eq!(watch.whole(id, Some(1), &torn[1..], now), 0);
    let filled = [row(id, 3, 2), row(id, 4, 3)];
    assert_eq!(watch.whole(id, Some(1), &filled, now), 2);
    assert!(!watch.is_broken(id));

    let torn = [row(id, 5, 4), row(id, 9, 8)];
    assert_eq!(gap(&mut watch, 4, &torn, &[]), Some(9));
    let now = Instant::now();
    assert_eq!(watch.whole(id, Some(3), &torn, now), 1);
    assert_eq!(watch.whole(id, Some(3), &torn, now + GAP_PATIENCE), 2);
    assert_eq!(gap(&mut watch, 4, &torn, &[]), None);
}

#[test]
fn where_the_log_was_cut_is_no_gap() {
    let (one, other) = (DirectoryId::generate(), DirectoryId::generate());
    let gap = |watch: &mut Watch, after, rows: &[events::Model]| {
        let seen: Vec<Seen> = rows.iter().map(seen_of).collect();
        let gap = watch.gap(after, &seen, &BTreeSet::new(), 8, Instant::now());
        gap.map(|row| row.position)
    };
    let mut watch = Watch::default();
    let known = [row(one, 1, 1), row(other, 2, 1)];
    assert_eq!(gap(&mut watch, 0, &known), None);
    let rest = [row(one, 9, 7), row(other, 10, 4), row(one, 11, 8)];
    assert_eq!(gap(&mut watch, 2, &rest), None);
    assert_eq!(gap(&mut watch, 11, &[row(one, 13, 10)]), Some(13));
}
