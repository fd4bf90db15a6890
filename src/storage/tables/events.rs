//! The event log.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, EventId, OrganizationId, RequestId, ResourceId};

/// A row of `events`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "events")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub position: i64,
    pub id: EventId,
    pub organization_id: OrganizationId,
    pub directory_id: DirectoryId,
    pub shard: i16,
    pub sequence: Option<i64>,
    pub kind: String,
    pub user_id: Option<ResourceId>,
    pub group_id: Option<ResourceId>,
    pub names: Option<String>,
    pub payload: String,
    pub is_departure: bool,
    pub actor: Option<String>,
    pub request_id: Option<RequestId>,
    pub created_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
