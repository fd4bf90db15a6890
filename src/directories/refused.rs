//! Writes of the provider that were refused because the directory was paused or managed by hand: a line
//! for each person and group that such writes were about, however often the provider tried.
//!
//! A refused write is lost unless the provider sends it again, so a line stays until a write of the
//! provider about the same person or group succeeds.

use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::management::{self, Touched};
use super::resource::ResourceKind;
use super::{Denied, Document, group, user};
use crate::actor::{Actor, Who};
use crate::ids::{DirectoryId, RefusedWriteId, ResourceId};
use crate::requests::Subject;
use crate::storage::tables::{directories, refused_writes};
use crate::storage::{self, Lane, Store, UseCase, WriteTx};

/// What the provider wanted to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `POST`.
    Create,
    /// `PUT`.
    Replace,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

impl Operation {
    /// The name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// Whom the write was about.
#[derive(Clone, Debug)]
pub enum Target {
    /// A resource that may exist.
    Resource(ResourceId),
    /// Somebody to be created: how they are known, and what people call them.
    New(Subject, String),
}

impl Target {
    /// Whom a creation is about.
    pub fn of_new(kind: ResourceKind, document: &Document) -> Self {
        let (subject, label) = match kind {
            ResourceKind::User => (user::subject_of(document), user::name_of(document)),
            ResourceKind::Group => (group::subject_of(document), group::name_of(document)),
        };
        Self::New(subject, label.to_owned())
    }
}

/// A write that was refused.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Whether it was about a user or a group.
    pub kind: ResourceKind,
    /// What was to be done.
    pub operation: Operation,
    /// To whom.
    pub target: Target,
}

/// Notes a write of `actor` that was denied, if that is a matter of who is master at present.
///
/// # Errors
/// The database fails.
pub async fn note(
    store: &Store,
    directory_id: DirectoryId,
    actor: Actor,
    attempt: Attempt,
    denied: &Denied,
) -> Result<(), storage::Error> {
    let Some(reason) = reason(denied) else {
        return Ok(());
    };
    let use_case = Note {
        actor,
        attempt,
        reason,
    };
    store.write(Lane::Directory(directory_id), use_case).await
}

fn reason(denied: &Denied) -> Option<&'static str> {
    match denied {
        Denied::Paused(_) => Some("paused"),
        Denied::ManagedByHand(_) => Some("manual"),
        Denied::NoDirectory
        | Denied::TokenInvalid
        | Denied::Deleting(_)
        | Denied::ManagedByProvider => None,
    }
}

struct Note {
    actor: Actor,
    attempt: Attempt,
    reason: &'static str,
}

impl UseCase for Note {
    type Answer = ();
    type Error = storage::Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), storage::Error> {
        let (Some(locked), Who::Provider(token_id)) = (tx.directory(), self.actor.who) else {
            return Ok(());
        };
        let directory = locked.row.clone();
        // A write about nobody would not have changed anything.
        let Some((subject, label)) = self.whom(tx, &directory).await? else {
            return Ok(());
        };
        let known = refused_writes::Entity::find()
            .filter(refused_writes::Column::DirectoryId.eq(directory.id))
            .filter(refused_writes::Column::Kind.eq(self.attempt.kind.as_str()))
            .filter(refused_writes::Column::Subject.eq(&subject))
            .one(tx)
            .await?;
        let id = known
            .as_ref()
            .map_or_else(RefusedWriteId::generate, |line| line.id);
        let line = refused_writes::ActiveModel {
            directory_id: ActiveValue::Unchanged(directory.id),
            id: ActiveValue::Unchanged(id),
            kind: ActiveValue::Set(self.attempt.kind.as_str().to_owned()),
            subject: ActiveValue::Set(subject),
            resource_id: ActiveValue::Set(self.resource_id()),
            label: ActiveValue::Set(label),
            operation: ActiveValue::Set(self.attempt.operation.as_str().to_owned()),
            reason: ActiveValue::Set(self.reason.to_owned()),
            times: ActiveValue::Set(known.as_ref().map_or(1, |line| line.times + 1)),
            first_at: ActiveValue::Set(known.as_ref().map_or(tx.now(), |line| line.first_at)),
            last_at: ActiveValue::Set(tx.now()),
            token_id: ActiveValue::Set(token_id),
            request_id: ActiveValue::Set(self.actor.request_id),
        };
        write(tx, &directory, line, known.is_some()).await?;
        Ok(())
    }
}

impl Note {
    fn resource_id(&self) -> Option<ResourceId> {
        match self.attempt.target {
            Target::Resource(id) => Some(id),
            Target::New(..) => None,
        }
    }

    /// How the person or group is known, and what people call it; nothing if there is no such.
    async fn whom(
        &self,
        tx: &WriteTx,
        directory: &directories::Model,
    ) -> Result<Option<(String, String)>, DbErr> {
        let id = match &self.attempt.target {
            Target::New(subject, label) => return Ok(Some((subject.to_string(), label.clone()))),
            Target::Resource(id) => *id,
        };
        let label = match self.attempt.kind {
            ResourceKind::User => user::find(tx, directory.id, id)
                .await?
                .map(|user| user::name_of(&user.document).to_owned()),
            ResourceKind::Group => group::find(tx, directory.id, id)
                .await?
                .map(|group| group.name().to_owned()),
        };
        Ok(label.map(|label| (Subject::Resource(id).to_string(), label)))
    }
}

async fn write(
    tx: &WriteTx,
    directory: &directories::Model,
    line: refused_writes::ActiveModel,
    is_known: bool,
) -> Result<(), DbErr> {
    if is_known {
        line.update(tx).await?;
        return Ok(());
    }
    refused_writes::Entity::insert(line)
        .exec_without_returning(tx)
        .await?;
    management::alert(tx, directory).await
}

/// Removes the lines about somebody; tells how many.
pub(super) async fn clear(
    tx: &WriteTx,
    directory_id: DirectoryId,
    touched: &Touched,
) -> Result<u64, DbErr> {
    let id = Subject::Resource(touched.id);
    let subjects = touched.names.iter().chain([&id]).map(ToString::to_string);
    let gone = refused_writes::Entity::delete_many()
        .filter(refused_writes::Column::DirectoryId.eq(directory_id))
        .filter(refused_writes::Column::Kind.eq(touched.kind.as_str()))
        .filter(refused_writes::Column::Subject.is_in(subjects))
        .exec(tx)
        .await?;
    Ok(gone.rows_affected)
}

/// The lines of a directory after `after`, oldest first.
///
/// # Errors
/// The database fails.
pub async fn list(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    after: Option<RefusedWriteId>,
    take: u64,
) -> Result<Vec<refused_writes::Model>, DbErr> {
    let after = after.map(|id| refused_writes::Column::Id.gt(id));
    refused_writes::Entity::find()
        .filter(refused_writes::Column::DirectoryId.eq(directory_id))
        .filter(Condition::all().add_option(after))
        .order_by_asc(refused_writes::Column::Id)
        .limit(take)
        .all(connection)
        .await
}

/// How many lines a directory has.
///
/// # Errors
/// The database fails.
pub async fn count(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
) -> Result<u64, DbErr> {
    refused_writes::Entity::find()
        .filter(refused_writes::Column::DirectoryId.eq(directory_id))
        .count(connection)
        .await
}
