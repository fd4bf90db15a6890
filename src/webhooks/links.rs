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
use crate::events::Kind;
use crate::ids::EndpointId;
use crate::storage::Store;
use crate::storage::tables::events;

/// What an endpoint sees of the log.
#[derive(Clone, Debug)]
pub struct View {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// The event types that pass its filter; those of the sequence if it names none.
    pub kinds: BTreeSet<&'static str>,
    /// For each shard, the position after which the endpoint began.
    pub starts: BTreeMap<i16, i64>,
}

impl View {
    /// Whether the endpoint is offered events of this type.
    pub fn passes(&self, kind: &str) -> bool {
        self.kinds.contains(kind)
    }

    /// Those of the directory's sequence that pass the filter: only they have one before them.
    fn sequenced(&self) -> Vec<&'static str> {
        self.among(&Kind::SEQUENCED)
    }

    fn start(&self, shard: i16) -> i64 {
        self.starts.get(&shard).copied().unwrap_or(0)
    }

    /// Those of `kinds` that pass the filter.
    fn among(&self, kinds: &[Kind]) -> Vec<&'static str> {
        kinds
            .iter()
            .map(|kind| kind.as_str())
            .filter(|kind| self.passes(kind))
            .collect()
    }
}

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
    let rows: Vec<events::Model> = rows
        .into_iter()
        .filter(|row| view.passes(&row.kind))
        .collect();
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
        let positions: Vec<i64> = rows
            .iter()
            .filter(|row| row.sequence.is_some_and(|sequence| sequence > 1))
            .map(|row| row.position)
            .collect();
        let start = view.start(shard);
        let sequenced = view.sequenced();
        if sequenced.len() == Kind::SEQUENCED.len() {
            let prior = "(SELECT p.position FROM events p WHERE p.directory_id = e.directory_id \
                         AND p.sequence = e.sequence - 1)";
            for (position, found) in lookup(store, &positions, &[prior.to_owned()], start).await? {
                self.previous.insert(position, found);
            }
            return Ok(());
        }
        let kinds: Vec<String> = sequenced
            .into_iter()
            .map(|kind| newest_of_kind("", kind))
            .collect();
        for (position, found) in lookup(store, &positions, &kinds, start).await? {
            self.previous.insert(position, found);
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
        let start = view.start(shard);
        let of = |kinds: &[Kind]| -> Vec<i64> {
            rows.iter()
                .filter(|row| Kind::parse(&row.kind).is_some_and(|kind| kinds.contains(&kind)))
                .map(|row| row.position)
                .collect()
        };
        let user = |kinds: &[Kind]| -> Vec<String> {
            view.among(kinds)
                .into_iter()
                .map(|kind| newest_of_kind("AND p.user_id = e.user_id", kind))
                .collect()
        };
        let group = |kinds: &[Kind]| -> Vec<String> {
            view.among(kinds)
                .into_iter()
                .map(|kind| newest_of_kind("AND p.group_id = e.group_id", kind))
                .collect()
        };
        let pair = view.among(&MEMBERSHIP).into_iter().map(|kind| {
            newest_of_kind(
                "AND p.user_id = e.user_id AND p.group_id = e.group_id",
                kind,
            )
        });

        let users = of(&[Kind::UserUpdated, Kind::UserDeleted]);
        let touching: Vec<Kind> = USER.into_iter().chain(MEMBERSHIP).collect();
        self.user
            .extend(lookup(store, &users, &user(&touching), start).await?);
        let memberships = of(&MEMBERSHIP);
        let user_or_pair: Vec<String> = user(&USER).into_iter().chain(pair).collect();
        self.user
            .extend(lookup(store, &memberships, &user_or_pair, start).await?);
        let life = group(&[Kind::GroupCreated, Kind::GroupDeleted]);
        self.group
            .extend(lookup(store, &memberships, &life, start).await?);
        let renamed = of(&[Kind::GroupUpdated]);
        let names = group(&[Kind::GroupCreated, Kind::GroupUpdated]);
        self.group
            .extend(lookup(store, &renamed, &names, start).await?);
        let deleted = of(&[Kind::GroupDeleted]);
        let whole: Vec<Kind> = [Kind::GroupCreated, Kind::GroupUpdated]
            .into_iter()
            .chain(MEMBERSHIP)
            .collect();
        self.group
            .extend(lookup(store, &deleted, &group(&whole), start).await?);
        Ok(())
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

/// The newest earlier event of one type after the endpoint's start: one descent of an index.
///
/// `kind` is from our own closed list, and `tie` is written here; neither comes from outside.
fn newest_of_kind(tie: &str, kind: &str) -> String {
    format!(
        "(SELECT p.position FROM events p WHERE p.directory_id = e.directory_id {tie} \
         AND p.kind = '{kind}' AND p.position < e.position AND p.position > $2 \
         ORDER BY p.position DESC LIMIT 1)"
    )
}

/// Evaluates `subqueries` for the events at `positions`; the highest result after `start` for each.
async fn lookup(
    store: &Store,
    positions: &[i64],
    subqueries: &[String],
    start: i64,
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
        "SELECT e.position, {} FROM events e WHERE e.position IN {} AND e.position > $2",
        columns.join(", "),
        dialect.integers(1)
    );
    let positions = serde_json::json!(positions).to_string();
    let rows = store
        .dispatch_reader()
        .query_all_raw(dialect.statement(&sql, [positions.into(), start.into()]))
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let mut highest: Option<i64> = None;
        for number in 0..subqueries.len() {
            let candidate: Option<i64> = row.try_get("", &format!("c{number}"))?;
            highest = highest.max(candidate.filter(|position| *position > start));
        }
        if let Some(highest) = highest {
            found.push((row.try_get("", "position")?, highest));
        }
    }
    Ok(found)
}
