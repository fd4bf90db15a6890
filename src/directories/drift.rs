//! What was changed by hand and may differ from what the provider has: a line for each person and group.
//!
//! A line is made while the vendor is master, and goes with the provider's next write about the same
//! person or group, by its id or its name.

use sea_orm::{
    ActiveValue, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
};

use super::management::{self, Touched};
use crate::actor::Actor;
use crate::ids::{DirectoryId, DriftId};
use crate::storage::WriteTx;
use crate::storage::tables::{directories, drift};

/// What happened to a person or group by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was created.
    Created,
    /// Its attributes changed.
    Changed,
    /// The members of a group changed, and nothing else.
    Members,
    /// It was deleted.
    Deleted,
}

impl What {
    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Members => "members",
            Self::Deleted => "deleted",
        }
    }

    /// What it comes to after what stands in the line already; nothing, if it is as it was at first.
    fn after(self, before: &str) -> Option<Self> {
        let was = |what: Self| before == what.as_str();
        match self {
            Self::Deleted if was(Self::Created) => None,
            Self::Changed | Self::Members if was(Self::Created) => Some(Self::Created),
            Self::Members if was(Self::Changed) => Some(Self::Changed),
            Self::Created | Self::Changed | Self::Members | Self::Deleted => Some(self),
        }
    }
}

/// Notes what `actor` has done by hand.
pub(super) async fn note(
    tx: &WriteTx,
    directory: &directories::Model,
    actor: Actor,
    what: What,
    touched: &Touched,
) -> Result<(), DbErr> {
    let known = drift::Entity::find()
        .filter(drift::Column::DirectoryId.eq(directory.id))
        .filter(drift::Column::Kind.eq(touched.kind.as_str()))
        .filter(drift::Column::ResourceId.eq(touched.id))
        .one(tx)
        .await?;
    let what = match &known {
        Some(line) => what.after(&line.what),
        None => Some(what),
    };
    let Some(what) = what else {
        clear(tx, directory.id, touched).await?;
        return management::relax(tx, directory.id).await;
    };
    let id = known
        .as_ref()
        .map_or_else(DriftId::generate, |line| line.id);
    let line = line(tx, directory.id, id, actor, what, touched);
    if known.is_some() {
        drift::Entity::update(line).exec(tx).await?;
        return Ok(());
    }
    drift::Entity::insert(line)
        .exec_without_returning(tx)
        .await?;
    management::alert(tx, directory).await
}

fn line(
    tx: &WriteTx,
    directory_id: DirectoryId,
    id: DriftId,
    actor: Actor,
    what: What,
    touched: &Touched,
) -> drift::ActiveModel {
    let subject = touched.names.first().map(ToString::to_string);
    drift::ActiveModel {
        directory_id: ActiveValue::Unchanged(directory_id),
        id: ActiveValue::Unchanged(id),
        kind: ActiveValue::Set(touched.kind.as_str().to_owned()),
        resource_id: ActiveValue::Set(touched.id),
        subject: ActiveValue::Set(subject.unwrap_or_default()),
        label: ActiveValue::Set(touched.label.clone()),
        what: ActiveValue::Set(what.as_str().to_owned()),
        changed_by: ActiveValue::Set(actor.who.to_string()),
        changed_at: ActiveValue::Set(tx.now()),
    }
}

/// Removes the lines about somebody; tells how many.
pub(super) async fn clear(
    tx: &WriteTx,
    directory_id: DirectoryId,
    touched: &Touched,
) -> Result<u64, DbErr> {
    let names = touched.names.iter().map(ToString::to_string);
    let mut removed = 0;
    // Each is a descent of an index of its own.
    for which in [
        drift::Column::ResourceId.eq(touched.id),
        drift::Column::Subject.is_in(names),
    ] {
        let gone = drift::Entity::delete_many()
            .filter(drift::Column::DirectoryId.eq(directory_id))
            .filter(drift::Column::Kind.eq(touched.kind.as_str()))
            .filter(which)
            .exec(tx)
            .await?;
        removed += gone.rows_affected;
    }
    Ok(removed)
}

/// The lines of a directory after `after`, oldest first.
///
/// # Errors
/// The database fails.
pub async fn list(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    after: Option<DriftId>,
    take: u64,
) -> Result<Vec<drift::Model>, DbErr> {
    let after = after.map(|id| drift::Column::Id.gt(id));
    drift::Entity::find()
        .filter(drift::Column::DirectoryId.eq(directory_id))
        .filter(Condition::all().add_option(after))
        .order_by_asc(drift::Column::Id)
        .limit(take)
        .all(connection)
        .await
}

/// How many lines a directory has.
///
/// # Errors
/// The database fails.
pub async fn count(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
) -> Result<u64, DbErr> {
    drift::Entity::find()
        .filter(drift::Column::DirectoryId.eq(directory_id))
        .count(connection)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_the_changes_come_to() {
        assert_eq!(
            What::Changed.after("created"),
            Some(What::Created),
            "the provider knows nothing of it"
        );
        assert_eq!(What::Deleted.after("created"), None);
        assert_eq!(What::Members.after("changed"), Some(What::Changed));
        assert_eq!(What::Changed.after("members"), Some(What::Changed));
        assert_eq!(What::Deleted.after("changed"), Some(What::Deleted));
    }
}
