//! An endpoint's place in each directory that is split off from its shard.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, EndpointId};

/// A row of `lagging`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "lagging")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: EndpointId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub directory_id: DirectoryId,
    pub shard: i16,
    pub position: i64,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
