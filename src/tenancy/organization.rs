//! Organizations: the vendor's customers, each with its domains and directories.
//!
//! Invariants: an external id and a domain belong to one organization at most.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder};

use crate::actor::Actor;
use crate::audit;
use crate::ids::{OrganizationDomainId, OrganizationId};
use crate::storage::tables::{organization_domains, organizations};
use crate::storage::{self, Lane, Store, UseCase, WriteTx, insert_new};

/// How many pairs of metadata an organization has at most.
pub const METADATA_KEYS_MAX: usize = 50;

/// What a new organization is made from; checked by the caller for form, here for uniqueness.
#[derive(Clone, Debug)]
pub struct NewOrganization {
    /// Its name.
    pub name: String,
    /// The vendor's own id for it.
    pub external_id: Option<String>,
    /// Its domains, in lower case, with their state (`pending` or `verified`).
    pub domains: Vec<(String, DomainState)>,
    /// Free pairs.
    pub metadata: BTreeMap<String, String>,
}

/// Whether the organization has shown that a domain is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainState {
    /// Not shown yet.
    Pending,
    /// The vendor vouches for it.
    Verified,
}

impl DomainState {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Verified => "verified",
        }
    }
}

/// An organization with its domains.
#[derive(Clone, Debug)]
pub struct Organization {
    /// The row.
    pub row: organizations::Model,
    /// Its domains, oldest first.
    pub domains: Vec<organization_domains::Model>,
}

/// Why an organization was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another organization has the external id.
    #[error("the external_id {0:?} belongs to another organization")]
    ExternalIdTaken(String),
    /// Another organization has the domain.
    #[error("the domain {0:?} belongs to another organization")]
    DomainTaken(String),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Storage(error.into())
    }
}

struct Create(Actor, NewOrganization);

impl UseCase for Create {
    type Answer = Organization;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<Organization, Error> {
        let Self(actor, new) = self;
        let row = organizations::Model {
            id: OrganizationId::generate(),
            name: new.name.clone(),
            external_id: new.external_id.clone(),
            metadata: serde_json::json!(new.metadata).to_string(),
            deletion_due_at: None,
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        if !insert_new(tx, organizations::ActiveModel::from(row.clone())).await? {
            return Err(Error::ExternalIdTaken(
                new.external_id.clone().unwrap_or_default(),
            ));
        }
        let mut domains = Vec::with_capacity(new.domains.len());
        for (domain, state) in &new.domains {
            let domain = organization_domains::Model {
                id: OrganizationDomainId::generate(),
                organization_id: row.id,
                domain: domain.clone(),
                state: state.as_str().to_owned(),
                created_at: tx.now(),
                updated_at: tx.now(),
            };
            if !insert_new(tx, organization_domains::ActiveModel::from(domain.clone())).await? {
                return Err(Error::DomainTaken(domain.domain));
            }
            domains.push(domain);
        }
        let entry = audit::Entry {
            organization_id: Some(row.id),
            ..audit::Entry::of_installation("organization.created", &row.id)
        };
        audit::record(tx, *actor, entry).await?;
        Ok(Organization { row, domains })
    }
}

/// Makes an organization.
///
/// # Errors
/// The external id or a domain is taken, or the database fails; then nothing is written.
pub async fn create(
    store: &Store,
    actor: Actor,
    organization: NewOrganization,
) -> Result<Organization, Error> {
    store.write(Lane::System, Create(actor, organization)).await
}

/// Finds an organization with its domains.
///
/// # Errors
/// The database fails.
pub async fn find(
    connection: &impl ConnectionTrait,
    id: OrganizationId,
) -> Result<Option<Organization>, DbErr> {
    let Some(row) = organizations::Entity::find_by_id(id)
        .one(connection)
        .await?
    else {
        return Ok(None);
    };
    let domains = domains(connection, id).await?;
    Ok(Some(Organization { row, domains }))
}

/// The domains of an organization, oldest first.
///
/// # Errors
/// The database fails.
pub async fn domains(
    connection: &impl ConnectionTrait,
    id: OrganizationId,
) -> Result<Vec<organization_domains::Model>, DbErr> {
    organization_domains::Entity::find()
        .filter(organization_domains::Column::OrganizationId.eq(id))
        .order_by_asc(organization_domains::Column::Id)
        .all(connection)
        .await
}
