//! Users of a directory.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, DirectoryUserId, ResourceId};

/// A row of `users`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub directory_id: DirectoryId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ResourceId,
    pub directory_user_id: DirectoryUserId,
    pub user_name_key: String,
    pub external_id: Option<String>,
    pub email_key: Option<String>,
    pub display_name_key: Option<String>,
    pub active: bool,
    pub ended_at: Option<DateTimeUtc>,
    pub document: String,
    pub version: i64,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
