//! How many users and groups a directory has, so that a list's total is not counted row by row.
//!
//! A transaction that adds or removes some inserts one row with the difference: an updated row would
//! gather dead versions while any long transaction is open. The sum of a directory's rows is its count.
//! Now and then a writer folds them into one, under the directory's lock.

use sea_orm::{ConnectionTrait, DbErr};

use super::Dialect;
use super::sql::Sql;
use crate::ids::{DirectoryId, random_uuid};

/// One transaction in so many folds the rows of its directory.
const FOLD_EVERY: u128 = 64;

/// By how much one transaction changes the counts of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Users added, less those removed.
    pub users: i64,
    /// Groups added, less those removed.
    pub groups: i64,
}

/// Writes down a difference; the caller holds the directory's lock.
///
/// # Errors
/// The database fails.
pub(super) async fn record(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    directory_id: DirectoryId,
    difference: Difference,
) -> Result<(), DbErr> {
    let id = random_uuid();
    let mut sql = Sql::default();
    sql.push("INSERT INTO resource_counts (directory_id, id, users, groups) VALUES (")
        .bind(directory_id)
        .push(", ")
        .bind(id)
        .push(", ")
        .bind(difference.users)
        .push(", ")
        .bind(difference.groups)
        .push(")");
    connection.execute_raw(sql.statement(dialect)).await?;
    if id.as_u128().is_multiple_of(FOLD_EVERY) {
        fold(connection, dialect, directory_id).await?;
    }
    Ok(())
}

/// Makes one row of all rows of a directory.
async fn fold(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    directory_id: DirectoryId,
) -> Result<(), DbErr> {
    let id = random_uuid();
    let mut sum = Sql::default();
    sum.push("INSERT INTO resource_counts (directory_id, id, users, groups) SELECT directory_id, ")
        .bind(id)
        .push(", SUM(users), SUM(groups) FROM resource_counts WHERE directory_id = ")
        .bind(directory_id)
        .push(" GROUP BY directory_id");
    connection.execute_raw(sum.statement(dialect)).await?;
    let mut summed = Sql::default();
    summed
        .push("DELETE FROM resource_counts WHERE directory_id = ")
        .bind(directory_id)
        .push(" AND id <> ")
        .bind(id);
    connection.execute_raw(summed.statement(dialect)).await?;
    Ok(())
}
