//! Webhook endpoints; the secret is sealed.

use sea_orm::entity::prelude::*;

use crate::ids::EndpointId;

/// A row of `endpoints`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "endpoints")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EndpointId,
    pub url: String,
    pub status: String,
    pub events: String,
    pub sealed_secret: Vec<u8>,
    pub max_in_flight: i32,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
