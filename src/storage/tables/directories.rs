//! Directories of organizations.

use sea_orm::entity::prelude::*;

use crate::ids::{DirectoryId, OrganizationId};

/// A row of `directories`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "directories")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DirectoryId,
    pub organization_id: OrganizationId,
    pub external_key: String,
    pub label: Option<String>,
    pub host_name: Option<String>,
    pub name: String,
    pub kind: String,
    pub state: String,
    pub shard: i16,
    pub flatten_groups: bool,
    pub management: String,
    pub management_changed_by: Option<String>,
    pub management_changed_at: Option<DateTimeUtc>,
    pub inactive_users: String,
    pub aligning_since: Option<DateTimeUtc>,
    pub has_unsettled: bool,
    pub deliveries_held_at: Option<DateTimeUtc>,
    pub deliveries_held_by: Option<String>,
    pub guard: Option<String>,
    pub guard_held_at: Option<DateTimeUtc>,
    pub writes_refused_at: Option<DateTimeUtc>,
    pub writes_refused_by: Option<String>,
    pub deletion_due_at: Option<DateTimeUtc>,
    pub deletion_with_organization: bool,
    pub rows_removed: i64,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
