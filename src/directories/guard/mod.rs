//! The guard against mass deprovisioning: a provider that suddenly takes many people out has more often
//! been misconfigured than its customer has shrunk.
//!
//! It *trips* when, within a span of time, more than so many percent of a directory's active people and at
//! least so many of them have been deactivated or removed. It is judged in the transaction that takes
//! somebody out, whoever does it. It tells, in the audit trail, the log and the directory's health; or it
//! also *holds* the directory's deliveries, beginning no later than with the event that tripped it, until
//! somebody releases them. It does not trip again within the span, unless it was released: then it counts
//! from there.
//!
//! Deleting a directory takes everybody out too. That is told, and never held: it is ordered by whoever
//! could release it, and can be taken back for a while.

mod settings;
mod turn;

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue, ConnectionTrait, DbErr, EntityTrait};
use serde_json::json;

pub use self::settings::{Action, Guard, Settings, Trip};
pub use self::turn::{release, set};
use crate::actor::{Actor, Who};
use crate::audit;
use crate::ids::{DirectoryId, random_uuid};
use crate::storage::WriteTx;
use crate::storage::sql::Sql;
use crate::storage::tables::directories;

/// In a directory with more people than this, not every departure is judged: one in two of twice as many,
/// one in ten of ten times as many. Counting costs more where there is more to count.
const JUDGED_EACH: i64 = 2_000;

/// Judges the departures from the locked directory, those that the transaction is about to write included.
/// Called last by whatever takes people out.
pub(super) async fn judge(tx: &WriteTx, directory: &directories::Model) -> Result<(), DbErr> {
    let fresh = i64::try_from(tx.upcoming(directory.id).departures).unwrap_or(i64::MAX);
    // What earlier use cases of the transaction have done to it is known there only.
    let Some(current) = tx.directory().map(|locked| &locked.row) else {
        return Ok(());
    };
    let guard = Guard::of(current);
    let since = guard.counts_since(current.guard_held_at.is_some(), tx.now());
    let Some(since) = since.filter(|_| fresh > 0) else {
        return Ok(());
    };
    let people = guard.settings.people;
    if fresh + departures(tx, directory.id, since, people - fresh).await? < people {
        return Ok(());
    }
    let active = active_people(tx, directory.id).await?;
    let takes = guard.takes(active);
    if !is_turn(active) {
        return Ok(());
    }
    // More than it takes is counted for those who are told, and not without end.
    let limit = takes.saturating_mul(2) - fresh;
    let counted = fresh + departures(tx, directory.id, since, limit).await?;
    if counted < takes {
        return Ok(());
    }
    let trip = Trip {
        at: tx.now(),
        departures: counted,
        active,
        released_at: None,
    };
    let tripped = Guard {
        trip: Some(trip),
        ..guard
    };
    raise(tx, directory, tripped).await
}

/// Whether a departure is judged.
fn is_turn(active: i64) -> bool {
    let each = u128::try_from(active / JUDGED_EACH).unwrap_or(1).max(1);
    random_uuid().as_u128().is_multiple_of(each)
}

/// Departures since then that are in the log, counted up to `limit`.
async fn departures(
    tx: &WriteTx,
    directory_id: DirectoryId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<i64, DbErr> {
    if limit <= 0 {
        return Ok(0);
    }
    let mut sql = Sql::default();
    sql.push("SELECT count(*) AS departures FROM (SELECT 1 FROM events WHERE directory_id = ")
        .bind(directory_id)
        .push(" AND is_departure = TRUE AND created_at > ")
        .bind(since)
        .push(" LIMIT ")
        .bind(limit)
        .push(") t");
    let row = tx.query_one_raw(sql.statement(tx.dialect())).await?;
    row.map_or(Ok(0), |row| row.try_get("", "departures"))
}

/// How many people of the directory are active, after what the transaction has done so far.
async fn active_people(tx: &WriteTx, directory_id: DirectoryId) -> Result<i64, DbErr> {
    let mut sql = Sql::default();
    sql.push(
        "SELECT CAST(coalesce(sum(users), 0) AS bigint) AS users, \
         (SELECT count(*) FROM users WHERE NOT active AND directory_id = ",
    )
    .bind(directory_id)
    .push(") AS inactive FROM resource_counts WHERE directory_id = ")
    .bind(directory_id);
    let row = tx.query_one_raw(sql.statement(tx.dialect())).await?;
    let Some(row) = row else { return Ok(0) };
    let (users, inactive): (i64, i64) = (row.try_get("", "users")?, row.try_get("", "inactive")?);
    let upcoming = tx.upcoming(directory_id).resources.users;
    Ok((users + upcoming - inactive).max(0))
}

/// Makes it trip.
async fn raise(tx: &WriteTx, directory: &directories::Model, guard: Guard) -> Result<(), DbErr> {
    let is_hold = guard.settings.action == Action::Hold;
    let mut change = directories::ActiveModel {
        id: ActiveValue::Unchanged(directory.id),
        guard: ActiveValue::Set(Some(guard.text())),
        updated_at: ActiveValue::Set(tx.now()),
        ..Default::default()
    };
    if is_hold {
        change.guard_held_at = ActiveValue::Set(Some(tx.now()));
    }
    directories::Entity::update(change).exec(tx).await?;
    tx.directory_changed(directory.id);
    tell(tx, directory, &guard).await
}

async fn tell(tx: &WriteTx, directory: &directories::Model, guard: &Guard) -> Result<(), DbErr> {
    let actor = Actor {
        who: Who::System,
        request_id: tx.actor().and_then(|actor| actor.request_id),
    };
    let (departures, left) = guard
        .trip
        .map_or((0, 0), |trip| (trip.departures, trip.active));
    let details = json!({
        "departures": departures,
        "active": left,
        "percent": guard.settings.percent,
        "people": guard.settings.people,
        "within_seconds": guard.settings.within_seconds,
        "action": guard.settings.action,
    });
    let entry = audit::Entry::of_directory(directory, "directory.guard_tripped", &directory.id);
    audit::record(tx, actor, entry.with(details)).await?;
    tracing::warn!(
        directory.id = %directory.id,
        departures,
        left,
        action = ?guard.settings.action,
        "many people are being taken out of a directory"
    );
    Ok(())
}

/// Tells that the locked directory takes everybody along when it goes, if they are many.
pub(super) async fn judge_deletion(
    tx: &WriteTx,
    directory: &directories::Model,
) -> Result<(), DbErr> {
    let guard = Guard::of(directory);
    let active = active_people(tx, directory.id).await?;
    if active < guard.settings.people {
        return Ok(());
    }
    let everybody = Guard {
        settings: Settings {
            action: Action::Tell,
            ..guard.settings
        },
        trip: Some(Trip {
            at: tx.now(),
            departures: active,
            active: 0,
            released_at: None,
        }),
    };
    tell(tx, directory, &everybody).await
}
