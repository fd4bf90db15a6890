//! Attempts that failed; one that succeeded is described by its delivery.

use sea_orm::entity::prelude::*;

use crate::ids::EndpointId;

/// A row of `attempts`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "attempts")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub endpoint_id: EndpointId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    pub status_code: Option<i32>,
    pub failure: Option<String>,
    pub excerpt: Option<String>,
    pub duration_ms: i32,
    pub at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
