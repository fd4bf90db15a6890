//! Which directories' deliveries are held, as the dispatchers of all nodes find out by looking.
//!
//! They are held by hand, and while a directory that is to be deleted may still be restored: nothing of
//! it goes out until it is clear whether `dsync.deleted` is to follow.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect, Select};

use crate::directories::directory::State;
use crate::ids::DirectoryId;
use crate::storage::tables::directories::{Column, Entity};

/// The directories whose deliveries are held, by shard.
pub type Held = BTreeMap<i16, BTreeSet<DirectoryId>>;

/// Looks which directories' deliveries are held.
///
/// # Errors
/// The database fails.
pub(super) async fn list(connection: &impl ConnectionTrait) -> Result<Held, DbErr> {
    // Two questions, each of which has an index of a few rows. Asked for the states that are open, SQLite
    // would rather read all directories by their states.
    let gone = [State::Deleting.as_str(), State::Deleted.as_str()];
    let by_hand = Entity::find().filter(Column::DeliveriesHeldAt.is_not_null());
    let in_grace = Entity::find()
        .filter(Column::DeletionDueAt.is_not_null())
        .filter(Column::State.is_not_in(gone));
    let mut held = Held::new();
    for question in [by_hand, in_grace] {
        for (id, shard) in places(question, connection).await? {
            held.entry(shard).or_default().insert(id);
        }
    }
    Ok(held)
}

async fn places(
    question: Select<Entity>,
    connection: &impl ConnectionTrait,
) -> Result<Vec<(DirectoryId, i16)>, DbErr> {
    question
        .select_only()
        .columns([Column::Id, Column::Shard])
        .into_tuple()
        .all(connection)
        .await
}
