//! Groups of a directory; members are rows of their own.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryGroupId, DirectoryId, ResourceId};

/// A row of `groups`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "groups")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub directory_id: DirectoryId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ResourceId,
    pub directory_group_id: DirectoryGroupId,
    pub display_name_key: String,
    pub external_id: Option<String>,
    pub identity_key: String,
    pub document: String,
    pub version: i64,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
