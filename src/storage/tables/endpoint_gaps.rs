//! Events that endpoints never got, because the log had been cut.

use sea_orm::entity::prelude::*;

use crate::ids::EndpointId;

/// A row of `endpoint_gaps`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "endpoint_gaps")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: EndpointId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub shard: i16,
    pub after_position: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub up_to_position: i64,
    pub events: i64,
    pub noticed_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
