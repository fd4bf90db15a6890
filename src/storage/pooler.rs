//! Telling a pooler that loses prepared statements from one that keeps them.
//!
//! PgBouncer in transaction mode gives each transaction any of its connections to PostgreSQL. From 1.21 on
//! it knows which statements a client has prepared and prepares them there; before, a statement is
//! missing, or is another client's of the same name. PgBouncer tells its version to its administrators
//! only, so two connections find out by preparing different statements under one name.

use sea_orm::{ConnectionTrait as _, DbErr};

use super::error::code_of;
use super::{Database, Dialect, OpenError};

/// The statement of that name exists already, or does not exist.
const LOST: [&str; 2] = ["42P05", "26000"];

/// Refuses what stands between us and PostgreSQL if it loses prepared statements. Both connections must be
/// new, so that what they prepare gets one name.
pub(super) async fn refuse_forgetful(first: &Database, second: &Database) -> Result<(), OpenError> {
    for _ in 0..2 {
        for (connection, number) in [(first, 1), (second, 2)] {
            match probe(connection, number).await {
                Ok(found) if found == number => {}
                Ok(_) => return Err(OpenError::Pooler),
                Err(error) if code_of(&error).is_some_and(|code| LOST.contains(&&*code)) => {
                    return Err(OpenError::Pooler);
                }
                Err(error) => return Err(OpenError::Connect(error)),
            }
        }
    }
    Ok(())
}

/// What a statement answers that must answer `number`.
async fn probe(connection: &Database, number: i32) -> Result<i32, DbErr> {
    let sql = format!("SELECT {number} AS number");
    let row = connection
        .query_one_raw(Dialect::Postgres.statement(&sql, []))
        .await?;
    row.map_or(Ok(0), |row| row.try_get("", "number"))
}
