//! The request log: what identity providers asked of each directory, and what they were answered.
//!
//! Cast: a [`Record`] is one request with its [`Subject`]s, the names by which somebody may look for the
//! person or group that it was about, also when it was refused. Records are written in batches, off the
//! path of the requests themselves.

use std::fmt;

use sea_orm::{ActiveValue, EntityTrait};

use crate::ids::ResourceId;
use crate::storage::tables::{scim_request_subjects, scim_requests};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

/// A request that has been answered.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was asked and answered.
    pub row: scim_requests::Model,
    /// Whom it was about.
    pub subjects: Vec<Subject>,
}

/// A name by which a person or a group is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The folded userName.
    UserName(String),
    /// A folded e-mail address.
    Email(String),
    /// The folded name of a group.
    DisplayName(String),
    /// The provider's own id.
    ExternalId(String),
    /// The SCIM resource.
    Resource(ResourceId),
}

/// As it is stored and compared.
impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserName(key) => write!(formatter, "user_name:{key}"),
            Self::Email(key) => write!(formatter, "email:{key}"),
            Self::DisplayName(key) => write!(formatter, "display_name:{key}"),
            Self::ExternalId(id) => write!(formatter, "external_id:{id}"),
            Self::Resource(id) => write!(formatter, "id:{id}"),
        }
    }
}

/// Writes records down, all or none.
///
/// # Errors
/// The database fails.
pub async fn write(store: &Store, records: Vec<Record>) -> Result<(), storage::Error> {
    store.write(Lane::System, Write(records)).await
}

struct Write(Vec<Record>);

impl UseCase for Write {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        let rows = self.0.iter().map(|record| record.row.clone());
        let rows = rows.map(scim_requests::ActiveModel::from);
        scim_requests::Entity::insert_many(rows)
            .exec_without_returning(tx)
            .await?;
        let subjects = self.0.iter().flat_map(|record| {
            let (directory_id, request_id) = (record.row.directory_id, record.row.id);
            let subject = move |subject: &Subject| scim_request_subjects::ActiveModel {
                directory_id: ActiveValue::Set(directory_id),
                subject: ActiveValue::Set(subject.to_string()),
                request_id: ActiveValue::Set(request_id),
            };
            record.subjects.iter().map(subject)
        });
        scim_request_subjects::Entity::insert_many(subjects)
            .exec_without_returning(tx)
            .await?;
        Ok(())
    }
}
