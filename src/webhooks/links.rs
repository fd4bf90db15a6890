//! What ties an event to the ones before it, as an endpoint's filter passes them.
//!
//! A receiver can tell from `Rollcall-Previous` whether it has missed anything in a directory, and from
//! `Rollcall-After` whether what an event depends on has arrived. Both are computed from the log by index
//! descents, so that they are the same on every attempt and on every node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use sea_orm::{ConnectionTrait, DbErr};

use super::lanes::{Subject, keys_of};
use super::stream::Offer;
pub use super::view::View;
use super::view::{Reign, Segment};
use crate::events::Kind;
use crate::storage::Store;
use crate::storage::tables::events;

const USER: [Kind; 3] = [Kind::UserCreated, Kind::UserUpdated, Kind::UserDeleted];
const MEMBERSHIP: [Kind; 2] = [Kind::UserAdded, Kind::UserRemoved];

/// The events of a page that pass the filter, ready to be offered.
///
/// # Errors
/// The database fails.
pub async fn offers(
    store: &Store,
    view: &View,
    shard: i16,
    rows: Vec<events::Model>,
) -> Result<Vec<Offer>, DbErr> {
    let rows: Vec<events::Model> = rows.into_iter().filter(|row| view.passes(row)).collect();
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted = Lookups::default();
    wanted.previous(store, view, shard, &rows).await?;
    wanted.dependencies(store, view, shard, &rows).await?;
    let sequences = wanted.sequences(store).await?;
    Ok(rows
        .into_iter()
        .map(|row| offer(&wanted, &sequences, row))
        .collect())
}

fn offer(wanted: &Lookups, sequences: &BTreeMap<i64, i64>, row: events::Model) -> Offer {
    let sequence_of = |position: Option<&i64>| {
        position
            .and_then(|position| sequences.get(position))
            .copied()
            .unwrap_or(0)
    };
    let keys = keys_of(&Subject {
        kind: Kind::parse(&row.kind),
        directory_id: row.directory_id,
        user_id: row.user_id,
        group_id: row.group_id,
        names: row.names.as_deref(),
    });
    let previous = sequence_of(wanted.previous.get(&row.position));
    let user = row
        .user_id
        .map(|_| ("user", sequence_of(wanted.user.get(&row.position))));
    let group = row
        .group_id
        .map(|_| ("group", sequence_of(wanted.group.get(&row.position))));
    let mut after = String::new();
    for (name, sequence) in user.into_iter().chain(group) {
        let separator = if after.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        write!(after, "{separator}{name}={sequence}").unwrap_or_default();
    }
    if after.is_empty() {
        after = format!("directory={previous}");
    }
    Offer {
        position: row.position,
        event_id: row.id,
        organization_id: row.organization_id,
        directory_id: row.directory_id,
        sequence: row.sequence,
        kind: Kind::parse(&row.kind),
        is_departure: row.is_departure,
        keys,
        previous,
        after,
        payload: row.payload.into(),
    }
}

/// For each event of a page (by position), the position of the event that it is tied to.
#[derive(Debug, Default)]
struct Lookups {
    previous: BTreeMap<i64, i64>,
    user: BTreeMap<i64, i64>,
    group: BTreeMap<i64, i64>,
}

impl Lookups {
    async fn previous(
        &mut self,
        store: &Store,
        view: &View,
        shard: i16,
        rows: &[events::Model],
    ) -> Result<(), DbErr> {
        let rows: Vec<&events::Model> = rows
            .iter()
            .filter(|row| row.sequence.is_some_and(|sequence| sequence > 1))
            .collect();
        for reign in view.reigns_in(shard) {
            let by_kind = newest_of([("", &Kind::SEQUENCED[..])], reign.segment);
            let open = open_in(reign, &rows, &self.previous);
            // Where all passes and has passed since, it is the event just before, if it is in here.
            let (within, past): (Vec<i64>, Vec<i64>) = open
                .into_iter()
                .partition(|position| *position <= reign.up_to);
            let prior = [PRIOR.to_owned()];
            let is_whole = reign.segment.takes_whole_sequence();
            let subqueries = if is_whole { &prior[..] } else { &by_kind };
            self.previous
                .extend(lookup(store, &within, subqueries, reign).await?);
            self.previous
                .extend(lookup(store, &past, &by_kind, reign).await?);
        }
        Ok(())
    }

    async fn dependencies(
        &mut self,
        store: &Store,
        view: &View,
        shard: i16,
        rows: &[events::Model],
    ) -> Result<(), DbErr> {
        let of = |kinds: &[Kind]| -> Vec<&events::Model> {
            rows.iter()
                .filter(|row| Kind::parse(&row.kind).is_some_and(|kind| kinds.contains(&kind)))
                .collect()
        };
        let touching: Vec<Kind> = USER.into_iter().chain(MEMBERSHIP).collect();
        let whole: Vec<Kind> = [Kind::GroupCreated, Kind::GroupUpdated]
            .into_iter()
            .chain(MEMBERSHIP)
            .collect();
        let (user, pair) = (&mut self.user, (SAME_PAIR, &MEMBERSHIP[..]));
        let users = of(&[Kind::UserUpdated, Kind::UserDeleted]);
        find(store, view, shard, &users, &[(SAME_USER, &touching)], user).await?;
        let memberships = of(&MEMBERSHIP);
        let user_or_pair = [(SAME_USER, &USER[..]), pair];
        find(store, view, shard, &memberships, &user_or_pair, user).await?;

        let group = &mut self.group;
        let life = [(SAME_GROUP, &[Kind::GroupCreated, Kind::GroupDeleted][..])];
        find(store, view, shard, &memberships, &life, group).await?;
        let renamed = of(&[Kind::GroupUpdated]);
        let names = [(SAME_GROUP, &[Kind::GroupCreated, Kind::GroupUpdated][..])];
        find(store, view, shard, &renamed, &names, group).await?;
        let deleted = of(&[Kind::GroupDeleted]);
        find(store, view, shard, &deleted, &[(SAME_GROUP, &whole)], group).await
    }

    /// The sequences at all positions found.
    async fn sequences(&self, store: &Store) -> Result<BTreeMap<i64, i64>, DbErr> {
        let positions: BTreeSet<i64> = self
            .previous
            .values()
            .chain(self.user.values())
            .chain(self.group.values())
            .copied()
            .collect();
        if positions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let dialect = store.dialect();
        let sql = format!(
            "SELECT position, sequence FROM events WHERE sequence IS NOT NULL AND position IN {}",
            dialect.integers(1)
        );
        let positions = serde_json::json!(positions).to_string();
        store
            .dispatch_reader()
            .query_all_raw(dialect.statement(&sql, [positions.into()]))
            .await?
            .into_iter()
            .map(|row| Ok((row.try_get("", "position")?, row.try_get("", "sequence")?)))
            .collect()
    }
}

/// What makes an earlier event `p` one that `e` is tied to.
const SAME_USER: &str = "AND p.user_id = e.user_id";
const SAME_GROUP: &str = "AND p.group_id = e.group_id";
const SAME_PAIR: &str = "AND p.user_id = e.user_id AND p.group_id = e.group_id";
/// The event before one in its directory: not simply one less, since a new generation begins a step above the one
/// before it.
const PRIOR: &str = "(SELECT q.position FROM (SELECT p.position FROM events p \
     WHERE p.directory_id = e.directory_id AND p.sequence < e.sequence \
     ORDER BY p.sequence DESC LIMIT 1) q WHERE q.position > $2 AND q.position <= $3)";

/// Those of `rows` whose directories a filter reaches and that have nothing in `found` yet, as far as they
/// come after where it came into force.
fn open_in(reign: Reign<'_>, rows: &[&events::Model], found: &BTreeMap<i64, i64>) -> Vec<i64> {
    rows.iter()
        .filter(|row| row.position > reign.after && !found.contains_key(&row.position))
        .filter(|row| {
            let Reign { segment, .. } = reign;
            segment.reaches(row.organization_id, row.directory_id)
        })
        .map(|row| row.position)
        .collect()
}

/// Finds for each row the newest earlier event of these types that is tied to it, as the filters passed it.
async fn find(
    store: &Store,
    view: &View,
    shard: i16,
    rows: &[&events::Model],
    ties: &[(&str, &[Kind])],
    found: &mut BTreeMap<i64, i64>,
) -> Result<(), DbErr> {
    let mut here = BTreeMap::new();
    for reign in view.reigns_in(shard) {
        let subqueries = newest_of(ties.iter().copied(), reign.segment);
        let open = open_in(reign, rows, &here);
        here.extend(lookup(store, &open, &subqueries, reign).await?);
    }
    found.extend(here);
    Ok(())
}

/// The newest earlier event of each type that passes, where a filter is in force: one descent of an index
/// each.
///
/// The types are from our own closed list, and the ties are written here; neither comes from outside.
fn newest_of<'a>(
    ties: impl IntoIterator<Item = (&'a str, &'a [Kind])>,
    segment: &Segment,
) -> Vec<String> {
    let newest = |(tie, kind)| {
        format!(
            "(SELECT p.position FROM events p WHERE p.directory_id = e.directory_id {tie} \
             AND p.kind = '{kind}' AND p.position < e.position AND p.position > $2 \
             AND p.position <= $3 ORDER BY p.position DESC LIMIT 1)"
        )
    };
    ties.into_iter()
        .flat_map(|(tie, kinds)| {
            let kinds = segment.among(kinds).into_iter();
            kinds.map(move |kind| (tie, kind))
        })
        .map(newest)
        .collect()
}

/// Evaluates `subqueries` for the events at `positions`; the highest result for each.
async fn lookup(
    store: &Store,
    positions: &[i64],
    subqueries: &[String],
    reign: Reign<'_>,
) -> Result<Vec<(i64, i64)>, DbErr> {
    if positions.is_empty() || subqueries.is_empty() {
        return Ok(Vec::new());
    }
    let dialect = store.dialect();
    let columns: Vec<String> = subqueries
        .iter()
        .enumerate()
        .map(|(number, subquery)| format!("{subquery} AS c{number}"))
        .collect();
    let sql = format!(
        "SELECT e.position, {} FROM events e WHERE e.position IN {}",
        columns.join(", "),
        dialect.integers(1)
    );
    let positions = serde_json::json!(positions).to_string();
    let values = [positions.into(), reign.after.into(), reign.up_to.into()];
    let rows = store
        .dispatch_reader()
        .query_all_raw(dialect.statement(&sql, values))
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let mut highest: Option<i64> = None;
        for number in 0..subqueries.len() {
            highest = highest.max(row.try_get("", &format!("c{number}"))?);
        }
        if let Some(highest) = highest {
            found.push((row.try_get("", "position")?, highest));
        }
    }
    Ok(found)
}
