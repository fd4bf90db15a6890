//! Events sent to an endpoint once more.

use sea_orm::entity::prelude::*;

use crate::ids::{EndpointId, ReplayId};

/// A row of `replays`.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "replays")]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ReplayId,
    pub endpoint_id: EndpointId,
    pub kind: String,
    pub criteria: String,
    pub state: String,
    pub position: i64,
    pub up_to: i64,
    pub total: i64,
    pub sent: i64,
    pub failed: i64,
    pub error: Option<String>,
    pub actor: String,
    pub lease_token: Option<Uuid>,
    pub lease_until_ms: i64,
    pub ended_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

/// There are no relations: joins are written where they are needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
