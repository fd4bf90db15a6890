//! What an endpoint takes, and since when.
//!
//! An event is judged by the filter that was in force at its position in the log, whenever it is sent: what
//! happened before a change arrives as if nothing had changed, so that a receiver that follows
//! `Rollcall-Previous` never waits for an event that a later filter took away.

use sea_orm::{DbErr, EntityTrait, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};

use super::Error;
use crate::storage::WriteTx;
use crate::storage::horizon::SHARDS;
use crate::storage::tables::{endpoints, events};

/// How many filters of an endpoint may be in force at some place of the log.
const TERMS_MAX: usize = 200;

/// Which events an endpoint takes. An empty list stands for no limit, but among event types for those of
/// the sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The names of event types.
    pub events: Vec<String>,
    /// The ids of organizations.
    #[serde(default)]
    pub organizations: Vec<String>,
    /// The ids of directories.
    #[serde(default)]
    pub directories: Vec<String>,
}

impl Filter {
    /// The newest one of an endpoint.
    pub fn of(row: &endpoints::Model) -> Self {
        let newest = Term::all_of(row).pop();
        newest.map(|term| term.filter).unwrap_or_default()
    }
}

/// A filter and, for each shard, the position after which it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// The positions, by shard.
    pub from: [i64; SHARDS],
    /// What is taken from there on.
    #[serde(flatten)]
    pub filter: Filter,
}

impl Term {
    /// All terms of an endpoint, oldest first.
    pub fn all_of(row: &endpoints::Model) -> Vec<Self> {
        serde_json::from_str(&row.filters).unwrap_or_default()
    }
}

/// Puts `filter` in force for all events from now on. Nobody reads further in the log until the
/// transaction ends, so that nothing that comes after it has been judged by another filter.
///
/// # Errors
/// There are too many filters that events in the log are judged by, or the database fails.
pub(super) async fn put_in_force(
    tx: &WriteTx,
    row: &mut endpoints::Model,
    filter: Filter,
) -> Result<(), Error> {
    let end = tx.bar_log().await?;
    let mut terms = Term::all_of(row);
    drop_spent(&mut terms, oldest_position(tx).await?);
    let from = [end; SHARDS];
    // No event has come since: the last filter was never in force.
    if terms.len() > 1 && terms.last().is_some_and(|term| term.from == from) {
        terms.pop();
    }
    if terms.last().is_none_or(|last| last.filter != filter) {
        terms.push(Term { from, filter });
    }
    if terms.len() > TERMS_MAX {
        return Err(Error::TooManyFilters);
    }
    row.filters = serde_json::json!(terms).to_string();
    row.filter_number += 1;
    Ok(())
}

/// Removes the filters that were in force before the oldest event only.
fn drop_spent(terms: &mut Vec<Term>, oldest: i64) {
    let is_spent = |next: &Term| next.from.iter().all(|from| *from < oldest);
    while terms.get(1).is_some_and(is_spent) {
        terms.remove(0);
    }
}

async fn oldest_position(tx: &WriteTx) -> Result<i64, DbErr> {
    let oldest = events::Entity::find()
        .select_only()
        .column(events::Column::Position)
        .order_by_asc(events::Column::Position)
        .limit(1)
        .into_tuple::<i64>()
        .one(tx)
        .await?;
    Ok(oldest.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_no_event_is_judged_by_any_more_are_dropped() {
        let term = |from| Term {
            from: [from; SHARDS],
            filter: Filter::default(),
        };
        let froms = |oldest| {
            let mut terms = vec![term(0), term(10), term(20)];
            drop_spent(&mut terms, oldest);
            terms.iter().map(|term| term.from[0]).collect::<Vec<_>>()
        };

        assert_eq!(froms(5), [0, 10, 20]);
        assert_eq!(froms(10), [0, 10, 20], "event 10 is judged by the first");
        assert_eq!(froms(11), [10, 20]);
        assert_eq!(froms(99), [20]);
    }
}
