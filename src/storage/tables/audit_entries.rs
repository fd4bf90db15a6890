//! Who did what.

use sea_orm::entity::prelude::*;

use crate::ids::{AuditEntryId, DirectoryId, OrganizationId, RequestId};

/// A row of `audit_entries`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entries")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditEntryId,
    pub organization_id: Option<OrganizationId>,
    pub directory_id: Option<DirectoryId>,
    pub actor: String,
    pub request_id: Option<RequestId>,
    pub action: String,
    pub subject: String,
    pub details: String,
    pub created_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
