//! The states of directories on their way to endpoints.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, EndpointId, SnapshotId};

/// A row of `snapshots`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "snapshots")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SnapshotId,
    pub endpoint_id: EndpointId,
    pub directory_id: DirectoryId,
    pub state: String,
    pub sequence: i64,
    pub position: i64,
    pub total: i64,
    pub next_number: i64,
    pub error: Option<String>,
    pub actor: String,
    pub lease_token: Option<Uuid>,
    pub lease_until_ms: i64,
    pub ended_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
