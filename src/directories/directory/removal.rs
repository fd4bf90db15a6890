//! The rows of deleted directories: they go a bounded step after the other, and are counted as they go.

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};

use super::{State, set_state};
use crate::ids::DirectoryId;
use crate::storage::tables::directories;
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

/// Removes up to `rows_max` rows of directories that have been deleted; tells how many it removed.
///
/// # Errors
/// The database fails.
pub async fn remove_deleted(store: &Store, rows_max: u64) -> Result<u64, storage::Error> {
    let deleted = directories::Entity::find()
        .filter(directories::Column::State.eq(State::Deleting.as_str()))
        .all(store.dispatch_reader())
        .await?;
    let mut removed = 0;
    for directory in deleted {
        if removed >= rows_max {
            break;
        }
        let lane = Lane::Directory(directory.id);
        removed += store
            .write(lane, RemoveRows(directory.id, rows_max - removed))
            .await?;
    }
    Ok(removed)
}

struct RemoveRows(DirectoryId, u64);

impl UseCase for RemoveRows {
    type Answer = u64;
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<u64, storage::Error> {
        let mut left = self.1;
        // Memberships first: removing their user or group would cascade to any number of them.
        for (table, key) in [
            ("memberships", "(group_id, user_id)"),
            ("group_members", "(group_id, member_id)"),
            ("user_emails", "(email_key, user_id)"),
            ("users", "(id)"),
            ("groups", "(id)"),
            ("refused_writes", "(id)"),
            ("drift", "(id)"),
            ("scim_tokens", "(id)"),
            ("resource_counts", "(id)"),
            ("directory_addresses", "(address)"),
            ("directory_activity", "(directory_id)"),
        ] {
            let columns = key.trim_matches(['(', ')']);
            let sql = format!(
                "DELETE FROM {table} WHERE directory_id = $1 AND {key} IN \
                 (SELECT {columns} FROM {table} WHERE directory_id = $1 LIMIT $2)"
            );
            let limit = i64::try_from(left).unwrap_or(i64::MAX);
            let statement = tx
                .dialect()
                .statement(&sql, [self.0.uuid().into(), limit.into()]);
            left = left.saturating_sub(tx.execute_raw(statement).await?.rows_affected());
            if left == 0 {
                break;
            }
        }
        let removed = self.1 - left;
        if removed == 0 {
            set_state(tx, self.0, State::Deleted).await?;
        } else {
            count(tx, self.0, removed).await?;
        }
        Ok(removed)
    }
}

/// Notes how far the removal is.
async fn count(tx: &WriteTx, id: DirectoryId, removed: u64) -> Result<(), DbErr> {
    let removed = i64::try_from(removed).unwrap_or(i64::MAX);
    directories::Entity::update_many()
        .col_expr(
            directories::Column::RowsRemoved,
            Expr::col(directories::Column::RowsRemoved).add(removed),
        )
        .filter(directories::Column::Id.eq(id))
        .exec(tx)
        .await
        .map(drop)
}
