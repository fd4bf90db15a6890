//! How endpoints fare.

use sea_orm::entity::prelude::*;

use crate::ids::EndpointId;

/// A row of `endpoint_states`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "endpoint_states")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: EndpointId,
    pub breaker: String,
    pub failing_since_ms: Option<i64>,
    pub probe_at_ms: Option<i64>,
    pub probes: i32,
    pub last_failure: Option<String>,
    pub told: i32,
    pub changed_at_ms: i64,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
