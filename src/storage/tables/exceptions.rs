//! Events at or below an endpoint's cursor that have not ended.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, EndpointId};

/// A row of `exceptions`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "exceptions")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: EndpointId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
    pub shard: i16,
    pub directory_id: DirectoryId,
    pub state: String,
    pub attempts: i32,
    pub first_failed_at_ms: Option<i64>,
    pub next_at_ms: Option<i64>,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
