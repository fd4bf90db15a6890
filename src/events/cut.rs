//! Where the log begins: how far each shard has been cut because its events were too old.
//!
//! Reading from there spares a walk over what is gone. Of what is before it only the newest sequenced
//! event of a directory is left, from which its sequence goes on.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue, ConnectionTrait, DbErr, EntityTrait};

use crate::storage::schema;
use crate::storage::tables::facts;

/// Up to which position a shard has been cut, 0 if it never was.
///
/// # Errors
/// The database fails.
pub async fn position(connection: &impl ConnectionTrait, shard: i16) -> Result<i64, DbErr> {
    let fact = schema::read_fact(connection, &name(shard)).await?;
    Ok(fact.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Notes that a shard has been cut up to `position`.
///
/// # Errors
/// The database fails.
pub async fn note(
    connection: &impl ConnectionTrait,
    shard: i16,
    position: i64,
) -> Result<(), DbErr> {
    let fact = facts::ActiveModel {
        name: ActiveValue::Set(name(shard)),
        value: ActiveValue::Set(position.to_string()),
    };
    let mut replaced = OnConflict::column(facts::Column::Name);
    replaced.update_column(facts::Column::Value);
    facts::Entity::insert(fact)
        .on_conflict(replaced)
        .exec_without_returning(connection)
        .await
        .map(drop)
}

fn name(shard: i16) -> String {
    format!("events.cut.{shard}")
}
