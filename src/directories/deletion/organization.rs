//! Deleting an organization with all its directories.
//!
//! The organization's row says whether and when, and its directories [`follow`], each under its own lock
//! and in its own transaction. Whatever is interrupted in between is found out of step later, and made to
//! follow. When the last directory is gone, the organization's own rows go ([`remove_due`]), and its
//! external id and domains are free again.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect, sea_query::LockType,
};

use super::{Cause, PAGE, end, restore_row, schedule_at};
use crate::actor::Actor;
use crate::audit;
use crate::directories::directory::State;
use crate::ids::{DirectoryId, OrganizationId};
use crate::storage::sql::Sql;
use crate::storage::tables::{directories, organizations};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};
use crate::tenancy::organization;

/// Directories that stay although their organization goes. The join says from where to look: SQLite, which
/// takes an organization for many rows, would else look at every directory.
const STAYING: &str = "SELECT d.id FROM organizations o CROSS JOIN directories d \
     WHERE o.deletion_due_at IS NOT NULL AND d.organization_id = o.id \
     AND d.deletion_due_at IS NULL AND d.state IN ('validating', 'linked')";
/// Directories that go with their organization although it stays.
const GOING: &str = "SELECT d.id FROM directories d JOIN organizations o ON o.id = d.organization_id \
     WHERE d.deletion_due_at IS NOT NULL AND d.deletion_with_organization \
     AND o.deletion_due_at IS NULL";

/// Makes directories go or stay with their organization: those of one, or all.
///
/// # Errors
/// The database fails; what was not reached follows later.
pub async fn follow(
    store: &Store,
    actor: Actor,
    organization_id: Option<OrganizationId>,
) -> Result<(), storage::Error> {
    for condition in [STAYING, GOING] {
        loop {
            let found = out_of_step(store, condition, organization_id).await?;
            if found.is_empty() {
                break;
            }
            for id in found {
                store.write(Lane::Directory(id), Follow(actor)).await?;
            }
            store.wake().endpoints_changed();
        }
    }
    Ok(())
}

async fn out_of_step(
    store: &Store,
    condition: &str,
    organization_id: Option<OrganizationId>,
) -> Result<Vec<DirectoryId>, DbErr> {
    let mut sql = Sql::default();
    sql.push(condition);
    if let Some(id) = organization_id {
        sql.push(" AND o.id = ").bind(id);
    }
    sql.push(" LIMIT ")
        .bind(i64::try_from(PAGE).unwrap_or(i64::MAX));
    let statement = sql.statement(store.dialect());
    let rows = store.reader().query_all_raw(statement).await?;
    rows.iter().map(|row| row.try_get("", "id")).collect()
}

struct Follow(Actor);

impl UseCase for Follow {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        let row = tx.directory().map(|locked| locked.row.clone());
        let Some(row) = row.filter(State::is_open) else {
            return Ok(());
        };
        let whole = organization::deletion_due(tx, row.organization_id).await?;
        match (whole, row.deletion_due_at) {
            (Some(due_at), None) if due_at <= tx.now() => {
                end(tx, self.0, &row).await?;
            }
            (Some(due_at), None) => {
                schedule_at(tx, self.0, &row, due_at, Cause::Organization).await?;
            }
            (None, Some(_)) if row.deletion_with_organization => {
                restore_row(tx, self.0, &row).await?;
            }
            (Some(_), Some(_)) | (None, _) => {}
        }
        Ok(())
    }
}

/// Removes up to `rows_max` rows of organizations whose time has come and whose directories are gone;
/// tells how many it removed.
///
/// # Errors
/// The database fails.
pub async fn remove_due(store: &Store, rows_max: u64) -> Result<u64, storage::Error> {
    let due: Vec<OrganizationId> = organizations::Entity::find()
        .select_only()
        .column(organizations::Column::Id)
        .filter(organizations::Column::DeletionDueAt.lte(store.clock().now()))
        .limit(PAGE)
        .into_tuple()
        .all(store.dispatch_reader())
        .await?;
    let mut removed = 0;
    for id in due {
        if removed >= rows_max {
            break;
        }
        let step = RemoveRows(id, rows_max - removed);
        removed += store.write(Lane::System, step).await?;
    }
    Ok(removed)
}

struct RemoveRows(OrganizationId, u64);

impl UseCase for RemoveRows {
    type Answer = u64;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<u64, storage::Error> {
        let Self(id, rows_max) = *self;
        let row = organizations::Entity::find_by_id(id)
            .lock(LockType::Update)
            .one(tx)
            .await?;
        let is_due = row
            .and_then(|row| row.deletion_due_at)
            .is_some_and(|due_at| due_at <= tx.now());
        if !is_due || has_directories(tx, id).await? {
            return Ok(0);
        }
        for table in ["directories", "organization_domains"] {
            let removed = remove_from(tx, table, id, rows_max).await?;
            if removed > 0 {
                return Ok(removed);
            }
        }
        let entry = audit::Entry {
            organization_id: Some(id),
            ..audit::Entry::of_installation("organization.deleted", &id)
        };
        audit::record(tx, Actor::SYSTEM, entry).await?;
        let removed = organizations::Entity::delete_by_id(id).exec(tx).await?;
        Ok(removed.rows_affected)
    }
}

/// Whether there are directories of which more than their own row is left.
async fn has_directories(tx: &WriteTx, id: OrganizationId) -> Result<bool, DbErr> {
    let found = directories::Entity::find()
        .filter(directories::Column::OrganizationId.eq(id))
        .filter(directories::Column::State.ne(State::Deleted.as_str()))
        .limit(1)
        .one(tx)
        .await?;
    Ok(found.is_some())
}

async fn remove_from(
    tx: &WriteTx,
    table: &str,
    id: OrganizationId,
    rows_max: u64,
) -> Result<u64, DbErr> {
    let sql = format!(
        "DELETE FROM {table} WHERE id IN \
         (SELECT id FROM {table} WHERE organization_id = $1 LIMIT $2)"
    );
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let statement = tx
        .dialect()
        .statement(&sql, [id.uuid().into(), limit.into()]);
    Ok(tx.execute_raw(statement).await?.rows_affected())
}
