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
    pub description: Option<String>,
    pub status: String,
    pub disabled_because: Option<String>,
    pub disabled_at: Option<DateTimeUtc>,
    pub held_at: Option<DateTimeUtc>,
    pub filters: String,
    pub filter_number: i32,
    pub ordering: String,
    pub max_in_flight: i32,
    pub rate_per_second: Option<i32>,
    pub timeout_ms: i32,
    pub sealed_headers: Option<Vec<u8>>,
    pub sealed_secret: Vec<u8>,
    pub sealed_second_secret: Option<Vec<u8>>,
    pub second_secret_role: Option<String>,
    pub second_secret_expires_at: Option<DateTimeUtc>,
    pub sealed_signing_key: Option<Vec<u8>>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
