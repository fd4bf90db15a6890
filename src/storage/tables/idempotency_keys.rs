//! Requests that carry an idempotency key, and their sealed answers.

use sea_orm::entity::prelude::*;

use crate::ids::ApiKeyId;

/// A row of `idempotency_keys`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_keys")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub api_key_id: ApiKeyId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub idempotency_key: String,
    pub digest: Vec<u8>,
    pub claim: Uuid,
    pub claimed_at: DateTimeUtc,
    pub status: Option<i16>,
    pub sealed_answer: Option<Vec<u8>>,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
