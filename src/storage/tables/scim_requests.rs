//! What providers asked, and what they were answered.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, RequestId, ScimTokenId};

/// A row of `scim_requests`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "scim_requests")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub directory_id: DirectoryId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RequestId,
    pub created_at: DateTimeUtc,
    pub method: String,
    pub path: String,
    pub status: i16,
    pub duration_ms: i32,
    pub token_id: Option<ScimTokenId>,
    pub token_suffix: Option<String>,
    pub user_agent: Option<String>,
    pub address: Option<String>,
    pub scim_type: Option<String>,
    pub detail: Option<String>,
    pub situation: Option<String>,
    pub request_body: Option<String>,
    pub response_body: Option<String>,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
