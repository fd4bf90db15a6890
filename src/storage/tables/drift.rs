//! Who was changed by hand.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, DriftId, ResourceId};

/// A row of `drift`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "drift")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub directory_id: DirectoryId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DriftId,
    pub kind: String,
    pub resource_id: ResourceId,
    pub subject: String,
    pub label: String,
    pub what: String,
    pub changed_by: String,
    pub changed_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
