//! One event to one endpoint, once it has ended or failed for the first time.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, EndpointId, EventId};

/// A row of `deliveries`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "deliveries")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: EndpointId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
    pub shard: i16,
    pub event_id: EventId,
    pub directory_id: DirectoryId,
    pub state: String,
    pub attempts: i32,
    pub status_code: Option<i32>,
    pub failure: Option<String>,
    pub duration_ms: i32,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
