//! Which users are in which group.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, ResourceId};

/// A row of `memberships`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "memberships")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub directory_id: DirectoryId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub group_id: ResourceId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: ResourceId,
    pub display: Option<String>,
    pub created_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
