//! When a directory's provider was heard.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, ScimTokenId};

/// A row of `directory_activity`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "directory_activity")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub directory_id: DirectoryId,
    pub first_request_at: DateTimeUtc,
    pub last_request_at: DateTimeUtc,
    pub last_token_id: Option<ScimTokenId>,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
