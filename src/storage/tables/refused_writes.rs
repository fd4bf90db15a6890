//! Whom refused writes of providers were about.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, RefusedWriteId, RequestId, ResourceId, ScimTokenId};

/// A row of `refused_writes`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "refused_writes")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub directory_id: DirectoryId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RefusedWriteId,
    pub kind: String,
    pub subject: String,
    pub resource_id: Option<ResourceId>,
    pub label: String,
    pub operation: String,
    pub reason: String,
    pub times: i64,
    pub first_at: DateTimeUtc,
    pub last_at: DateTimeUtc,
    pub token_id: ScimTokenId,
    pub request_id: Option<RequestId>,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
