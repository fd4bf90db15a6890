//! Where the chains of audit entries begin, once retention has shortened them.

use sea_orm::entity::prelude::*;

use crate::ids::OrganizationId;

/// A row of `audit_anchors`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_anchors")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: OrganizationId,
    pub number: i64,
    pub digest: Vec<u8>,
    pub code: Vec<u8>,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
