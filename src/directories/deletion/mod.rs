//! Deleting directories, with some time to take it back.
//!
//! A deletion is *scheduled* first: the directory answers its provider with 503, its deliveries are held,
//! and all of it stays. Until its time has come it can be *restored*, and goes on as it was: same URL,
//! same tokens, same ids. Then the deletion *ends*, in one transaction under the directory's lock: its
//! tokens are revoked, `dsync.deleted` is the last event of its log, and what was held goes out, that
//! event at the end. Its rows go afterwards ([`directory::remove_deleted`]).
//!
//! An [`organization`] is deleted with all its directories.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ActiveValue, ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use super::directory::{self, Error, State};
use super::{guard, token};
use crate::actor::Actor;
use crate::audit;
use crate::clock;
use crate::events::{self, Kind};
use crate::ids::DirectoryId;
use crate::storage::tables::directories;
use crate::storage::{self, Lane, Store, UseCase, WriteTx};
use crate::tenancy;

pub mod organization;

/// How many directories are looked up at a time.
const PAGE: u64 = 500;

struct Schedule {
    actor: Actor,
    id: DirectoryId,
    grace: TimeDelta,
}

impl UseCase for Schedule {
    type Answer = directories::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<directories::Model, Error> {
        let row = directory::present(tx, self.id)?;
        if !State::is_open(&row) {
            return Ok(row);
        }
        if self.grace.is_zero() {
            return Ok(end(tx, self.actor, &row).await?);
        }
        if row.deletion_due_at.is_some() {
            return Ok(row);
        }
        let cause = Cause::Itself;
        Ok(schedule_at(tx, self.actor, &row, tx.now() + self.grace, cause).await?)
    }
}

/// Deletes a directory after `grace`, at once if that is zero. Deleting twice is a success; the time that
/// was set first stays, unless the second wants it at once.
///
/// # Errors
/// There is no such directory, or the database fails.
pub async fn schedule(
    store: &Store,
    actor: Actor,
    id: DirectoryId,
    grace: TimeDelta,
) -> Result<directories::Model, Error> {
    let use_case = Schedule { actor, id, grace };
    let row = store.write(Lane::Directory(id), use_case).await?;
    if let Some(due_at) = row.deletion_due_at {
        let due_at = clock::text(due_at);
        tracing::warn!(directory_id = %id, due_at, "a directory is going to be deleted");
    }
    store.wake().endpoints_changed();
    Ok(row)
}

struct Restore(Actor, DirectoryId);

impl UseCase for Restore {
    type Answer = directories::Model;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<directories::Model, Error> {
        let Self(actor, id) = self;
        let row = directory::present(tx, *id)?;
        if !State::is_open(&row) {
            return Err(Error::Ended);
        }
        if row.deletion_due_at.is_none() {
            return Err(Error::NotDeleting);
        }
        let whole = tenancy::organization::deletion_due(tx, row.organization_id).await?;
        if let Some(due_at) = whole {
            return Err(Error::OrganizationDeleting(due_at));
        }
        Ok(restore_row(tx, *actor, &row).await?)
    }
}

/// Takes the deletion of a directory back: it goes on as it was.
///
/// # Errors
/// There is no such directory, it is not going to be deleted or has been, its organization is going to be
/// deleted, or the database fails.
pub async fn restore(
    store: &Store,
    actor: Actor,
    id: DirectoryId,
) -> Result<directories::Model, Error> {
    let row = store.write(Lane::Directory(id), Restore(actor, id)).await?;
    tracing::info!(directory_id = %id, "the deletion of a directory was taken back");
    store.wake().endpoints_changed();
    Ok(row)
}

/// What a directory is deleted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Somebody deletes it.
    Itself,
    /// Somebody deletes its organization.
    Organization,
}

/// Says when the locked directory is deleted.
async fn schedule_at(
    tx: &WriteTx,
    actor: Actor,
    row: &directories::Model,
    due_at: DateTime<Utc>,
    cause: Cause,
) -> Result<directories::Model, DbErr> {
    let entry = audit::Entry::of_directory(row, "directory.deletion_scheduled", &row.id);
    let details = json!({"due_at": clock::text(due_at)});
    audit::record(tx, actor, entry.with(details)).await?;
    guard::judge_deletion(tx, row).await?;
    set_due(tx, row.id, Some(due_at), cause).await
}

/// Takes the deletion of the locked directory back.
async fn restore_row(
    tx: &WriteTx,
    actor: Actor,
    row: &directories::Model,
) -> Result<directories::Model, DbErr> {
    let entry = audit::Entry::of_directory(row, "directory.restored", &row.id);
    audit::record(tx, actor, entry).await?;
    set_due(tx, row.id, None, Cause::Itself).await
}

async fn set_due(
    tx: &WriteTx,
    id: DirectoryId,
    due_at: Option<DateTime<Utc>>,
    cause: Cause,
) -> Result<directories::Model, DbErr> {
    let change = directories::ActiveModel {
        id: ActiveValue::Unchanged(id),
        deletion_due_at: ActiveValue::Set(due_at),
        deletion_with_organization: ActiveValue::Set(cause == Cause::Organization),
        updated_at: ActiveValue::Set(tx.now()),
        ..Default::default()
    };
    tx.directory_changed(id);
    directories::Entity::update(change).exec(tx).await
}

/// Ends the locked directory: nothing comes after this in its log.
async fn end(
    tx: &WriteTx,
    actor: Actor,
    row: &directories::Model,
) -> Result<directories::Model, DbErr> {
    tx.act_as(actor);
    let entry = audit::Entry::of_directory(row, "directory.deleted", &row.id);
    audit::record(tx, actor, entry).await?;
    if row.deletion_due_at.is_none() {
        guard::judge_deletion(tx, row).await?;
    }
    token::revoke_all(tx, row.id).await?;
    // Nothing that held deliveries outlives it, or its last events would never arrive.
    let change = directories::ActiveModel {
        id: ActiveValue::Unchanged(row.id),
        state: ActiveValue::Set(State::Deleting.as_str().to_owned()),
        deliveries_held_at: ActiveValue::Set(None),
        deliveries_held_by: ActiveValue::Set(None),
        guard_held_at: ActiveValue::Set(None),
        deletion_due_at: ActiveValue::Set(None),
        deletion_with_organization: ActiveValue::Set(false),
        updated_at: ActiveValue::Set(tx.now()),
        ..Default::default()
    };
    let ended = directories::Entity::update(change).exec(tx).await?;
    tx.directory_changed(row.id);
    // A directory that no provider ever reached has no story, so that nobody is told of its end.
    if State::Linked.is_of(row) {
        directory::append(tx, row, Kind::Deleted, events::deleted_data(row));
    }
    Ok(ended)
}

struct EndIfDue;

impl UseCase for EndIfDue {
    type Answer = bool;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, storage::Error> {
        let Some(row) = tx.directory().map(|locked| locked.row.clone()) else {
            return Ok(false);
        };
        if row.deletion_due_at.is_none_or(|due_at| due_at > tx.now()) {
            return Ok(false);
        }
        if row.deletion_with_organization {
            // It may have been restored, and this directory not yet.
            let whole = tenancy::organization::deletion_due(tx, row.organization_id).await?;
            if whole.is_none() {
                return Ok(false);
            }
        }
        end(tx, Actor::SYSTEM, &row).await?;
        Ok(true)
    }
}

/// Ends the deletions whose time has come, each in a transaction of its own; tells how many.
///
/// # Errors
/// The database fails.
pub async fn end_due(store: &Store) -> Result<u64, storage::Error> {
    let due: Vec<DirectoryId> = directories::Entity::find()
        .select_only()
        .column(directories::Column::Id)
        .filter(directories::Column::DeletionDueAt.lte(store.clock().now()))
        .order_by_asc(directories::Column::DeletionDueAt)
        .limit(PAGE)
        .into_tuple()
        .all(store.dispatch_reader())
        .await?;
    let mut ended = 0;
    for id in due {
        if store.write(Lane::Directory(id), EndIfDue).await? {
            tracing::warn!(directory_id = %id, "a directory was deleted");
            ended += 1;
        }
    }
    if ended > 0 {
        store.wake().endpoints_changed();
    }
    Ok(ended)
}
