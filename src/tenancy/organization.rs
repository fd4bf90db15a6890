//! Organizations: the vendor's customers, each with its domains and directories.
//!
//! Invariants: an external id and a domain belong to one organization at most. One that is going to be
//! deleted keeps both until it is gone; what becomes of its directories is in
//! [`crate::directories::deletion`].

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::LockType,
};
use serde_json::json;

use crate::actor::Actor;
use crate::audit;
use crate::clock;
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

/// Why an organization was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another organization has the external id.
    #[error("the external_id {0:?} belongs to another organization")]
    ExternalIdTaken(String),
    /// Another organization has the domain.
    #[error("the domain {0:?} belongs to another organization")]
    DomainTaken(String),
    /// There is no such organization.
    #[error("Organization not found: '{0}'.")]
    NotFound(OrganizationId),
    /// The organization is not going to be deleted.
    #[error("the organization is not going to be deleted, so that there is nothing to restore")]
    NotDeleting,
    /// The deletion has begun.
    #[error(
        "the deletion of the organization began at {}, and cannot be taken back any more",
        clock::text(*.0)
    )]
    Ended(DateTime<Utc>),
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
            metadata: json!(new.metadata).to_string(),
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
        audit::record(tx, *actor, entry("organization.created", row.id)).await?;
        Ok(Organization { row, domains })
    }
}

fn entry(action: &'static str, id: OrganizationId) -> audit::Entry {
    audit::Entry {
        organization_id: Some(id),
        ..audit::Entry::of_installation(action, &id)
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

/// When an organization will be deleted, if it will be; that stays so until the transaction ends.
///
/// # Errors
/// The database fails.
pub async fn deletion_due(
    tx: &WriteTx,
    id: OrganizationId,
) -> Result<Option<DateTime<Utc>>, DbErr> {
    let row = organizations::Entity::find_by_id(id)
        .lock(LockType::Share)
        .one(tx)
        .await?;
    Ok(row.and_then(|row| row.deletion_due_at))
}

struct ScheduleDeletion(Actor, OrganizationId, TimeDelta);

impl UseCase for ScheduleDeletion {
    type Answer = Organization;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<Organization, Error> {
        let Self(actor, id, grace) = *self;
        let found = locked(tx, id).await?;
        if found.deletion_due_at.is_some() {
            return with_domains(tx, found).await;
        }
        let due_at = tx.now() + grace;
        let details = json!({"due_at": clock::text(due_at)});
        let entry = entry("organization.deletion_scheduled", id).with(details);
        audit::record(tx, actor, entry).await?;
        set_due(tx, id, Some(due_at)).await
    }
}

/// Says that an organization will be deleted after `grace`; its directories have to follow. Deleting twice
/// is a success, and the time that was set first stays.
///
/// # Errors
/// There is no such organization, or the database fails.
pub async fn schedule_deletion(
    store: &Store,
    actor: Actor,
    id: OrganizationId,
    grace: TimeDelta,
) -> Result<Organization, Error> {
    let use_case = ScheduleDeletion(actor, id, grace);
    store.write(Lane::System, use_case).await
}

struct Restore(Actor, OrganizationId);

impl UseCase for Restore {
    type Answer = Organization;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<Organization, Error> {
        let Self(actor, id) = *self;
        let found = locked(tx, id).await?;
        let due_at = found.deletion_due_at.ok_or(Error::NotDeleting)?;
        if due_at <= tx.now() {
            return Err(Error::Ended(due_at));
        }
        audit::record(tx, actor, entry("organization.restored", id)).await?;
        set_due(tx, id, None).await
    }
}

/// Takes the deletion of an organization back; its directories have to follow.
///
/// # Errors
/// There is no such organization, it is not going to be deleted, its time has passed, or the database
/// fails.
pub async fn restore(
    store: &Store,
    actor: Actor,
    id: OrganizationId,
) -> Result<Organization, Error> {
    store.write(Lane::System, Restore(actor, id)).await
}

/// The organization, which nobody else changes until the transaction ends.
async fn locked(tx: &WriteTx, id: OrganizationId) -> Result<organizations::Model, Error> {
    organizations::Entity::find_by_id(id)
        .lock(LockType::NoKeyUpdate)
        .one(tx)
        .await?
        .ok_or(Error::NotFound(id))
}

async fn set_due(
    tx: &WriteTx,
    id: OrganizationId,
    due_at: Option<DateTime<Utc>>,
) -> Result<Organization, Error> {
    let change = organizations::ActiveModel {
        id: ActiveValue::Unchanged(id),
        deletion_due_at: ActiveValue::Set(due_at),
        updated_at: ActiveValue::Set(tx.now()),
        ..Default::default()
    };
    let row = organizations::Entity::update(change).exec(tx).await?;
    with_domains(tx, row).await
}

async fn with_domains(tx: &WriteTx, row: organizations::Model) -> Result<Organization, Error> {
    let domains = domains(tx, row.id).await?;
    Ok(Organization { row, domains })
}
