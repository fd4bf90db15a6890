//! Users of a directory: create, change, delete, and the events that each of it makes.
//!
//! A user has two ids: `id` is the SCIM resource that the provider knows, `directory_user_id` is what
//! the vendor sees. Deactivating keeps the user, its memberships and both ids.

use std::sync::Arc;

use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, ConnectionTrait, DbErr, EntityTrait,
    IntoActiveModel, QueryFilter,
};
use serde_json::{Map, Value, json};

use super::profile::{self, UserProfile};
use super::{Actor, Denied, Document, directory, membership};
use crate::clock;
use crate::events::{self, Event, Kind};
use crate::ids::{DirectoryId, DirectoryUserId, OrganizationId, ResourceId};
use crate::json;
use crate::storage::tables::{directories, user_emails, users};
use crate::storage::{self, Lane, Store, UseCase, WriteTx, insert_new};

/// A user with its document.
#[derive(Clone, Debug)]
pub struct User {
    /// The row.
    pub row: users::Model,
    /// The resource as the provider gave it.
    pub document: Document,
}

/// Why a user was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The actor may not write here.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// There is no such user in this directory.
    #[error("there is no such user")]
    NotFound,
    /// Another user of the directory has the userName.
    #[error("another user of this directory has the userName")]
    UserNameTaken,
    /// The change was refused by whoever asked for it.
    #[error("the change was refused")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if storage::is_unique_violation(&error) {
            Self::UserNameTaken
        } else {
            Self::Storage(error.into())
        }
    }
}

/// Computes a new document from the current one; called again if the write is run again.
pub type Change =
    Arc<dyn Fn(&User) -> Result<Document, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

struct Create {
    actor: Actor,
    document: Document,
}

impl UseCase for Create {
    type Answer = User;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<User, Error> {
        let profile = UserProfile::of(&self.document);
        let directory = directory::enter::<Error>(tx, self.actor).await?;
        let row = users::Model {
            directory_id: directory.id,
            id: ResourceId::generate(),
            directory_user_id: DirectoryUserId::generate(),
            user_name_key: profile.user_name_key.clone(),
            external_id: profile.external_id.clone(),
            email_key: profile.email_key.clone(),
            display_name_key: profile.display_name_key.clone(),
            active: profile.is_active,
            document: json::canonical(&Value::Object(self.document.clone())),
            version: 1,
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        if !insert_new(tx, users::ActiveModel::from(row.clone())).await? {
            return Err(Error::UserNameTaken);
        }
        insert_other_emails(tx, &row, &profile).await?;
        let user = User {
            row,
            document: self.document.clone(),
        };
        append(tx, &directory, Kind::UserCreated, &user, None);
        Ok(user)
    }
}

/// Adds a user to a directory.
///
/// # Errors
/// The userName is taken, the actor may not write, or the database fails; then nothing is written.
pub async fn create(
    store: &Store,
    directory_id: DirectoryId,
    actor: Actor,
    document: Document,
) -> Result<User, Error> {
    store
        .write(Lane::Directory(directory_id), Create { actor, document })
        .await
}

struct Modify {
    actor: Actor,
    id: ResourceId,
    change: Change,
}

impl UseCase for Modify {
    type Answer = User;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<User, Error> {
        let directory = directory::enter::<Error>(tx, self.actor).await?;
        let old = find(tx, directory.id, self.id)
            .await?
            .ok_or(Error::NotFound)?;
        let document = (self.change)(&old).map_err(Error::Refused)?;
        if document == old.document {
            return Ok(old);
        }
        let profile = UserProfile::of(&document);
        if profile.user_name_key != old.row.user_name_key
            && name_is_taken(tx, directory.id, &profile.user_name_key).await?
        {
            return Err(Error::UserNameTaken);
        }
        let row = users::Model {
            user_name_key: profile.user_name_key.clone(),
            external_id: profile.external_id.clone(),
            email_key: profile.email_key.clone(),
            display_name_key: profile.display_name_key.clone(),
            active: profile.is_active,
            document: json::canonical(&Value::Object(document.clone())),
            version: old.row.version + 1,
            updated_at: tx.now(),
            ..old.row.clone()
        };
        users::Entity::update(row.clone().into_active_model().reset_all())
            .exec(tx)
            .await?;
        replace_other_emails(tx, &row, &UserProfile::of(&old.document), &profile).await?;
        let new = User { row, document };
        append(tx, &directory, Kind::UserUpdated, &new, Some(&old));
        Ok(new)
    }
}

/// Changes a user; a change that leaves its document as it is writes nothing and makes no event.
///
/// # Errors
/// There is no such user, the change is refused, the userName is taken, the actor may not write, or the
/// database fails; then nothing is written.
pub async fn modify(
    store: &Store,
    directory_id: DirectoryId,
    actor: Actor,
    id: ResourceId,
    change: Change,
) -> Result<User, Error> {
    store
        .write(Lane::Directory(directory_id), Modify { actor, id, change })
        .await
}

struct Delete {
    actor: Actor,
    id: ResourceId,
}

impl UseCase for Delete {
    type Answer = ();
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<(), Error> {
        let directory = directory::enter::<Error>(tx, self.actor).await?;
        let user = find(tx, directory.id, self.id)
            .await?
            .ok_or(Error::NotFound)?;
        membership::remove_user(tx, &directory, &user).await?;
        users::Entity::delete_by_id((directory.id, self.id))
            .exec(tx)
            .await?;
        append(tx, &directory, Kind::UserDeleted, &user, None);
        Ok(())
    }
}

/// Deletes a user: first it leaves its groups, then it is gone; each with its event.
///
/// # Errors
/// There is no such user, the actor may not write, or the database fails; then nothing is written.
pub async fn delete(
    store: &Store,
    directory_id: DirectoryId,
    actor: Actor,
    id: ResourceId,
) -> Result<(), Error> {
    store
        .write(Lane::Directory(directory_id), Delete { actor, id })
        .await
}

/// Finds a user of a directory.
///
/// # Errors
/// The database fails.
pub async fn find(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    id: ResourceId,
) -> Result<Option<User>, DbErr> {
    users::Entity::find_by_id((directory_id, id))
        .one(connection)
        .await?
        .map(User::from_row)
        .transpose()
}

impl User {
    /// Reads the row's document.
    ///
    /// # Errors
    /// The document is not a JSON object, which only a damaged database can bring about.
    pub fn from_row(row: users::Model) -> Result<Self, DbErr> {
        let document = read_document(&row.document)?;
        Ok(Self { row, document })
    }

    /// The user as the wire contract shows it in events, without `groups`.
    pub fn data(&self, organization_id: OrganizationId) -> Map<String, Value> {
        let row = &self.row;
        let mut data = profile::user_fields(&self.document);
        let mut raw = self.document.clone();
        raw.insert("id".to_owned(), json!(row.id.to_string()));
        let idp_id = row
            .external_id
            .clone()
            .unwrap_or_else(|| row.id.to_string());
        for (name, value) in [
            ("object", json!("directory_user")),
            ("id", json!(row.directory_user_id)),
            ("directory_id", json!(row.directory_id)),
            ("organization_id", json!(organization_id)),
            ("idp_id", json!(idp_id)),
            ("raw_attributes", Value::Object(raw)),
            ("created_at", json!(clock::text(row.created_at))),
            ("updated_at", json!(clock::text(row.updated_at))),
        ] {
            data.insert(name.to_owned(), value);
        }
        data
    }
}

/// Reads a stored document.
pub(super) fn read_document(text: &str) -> Result<Document, DbErr> {
    serde_json::from_str(text).map_err(|error| DbErr::Json(error.to_string()))
}

async fn name_is_taken(
    tx: &WriteTx,
    directory_id: DirectoryId,
    user_name_key: &str,
) -> Result<bool, DbErr> {
    let holder = users::Entity::find()
        .filter(users::Column::DirectoryId.eq(directory_id))
        .filter(users::Column::UserNameKey.eq(user_name_key))
        .one(tx)
        .await?;
    Ok(holder.is_some())
}

async fn insert_other_emails(
    tx: &WriteTx,
    row: &users::Model,
    profile: &UserProfile,
) -> Result<(), DbErr> {
    let rows = profile
        .other_email_keys
        .iter()
        .map(|key| user_emails::ActiveModel {
            directory_id: ActiveValue::Set(row.directory_id),
            email_key: ActiveValue::Set(key.clone()),
            user_id: ActiveValue::Set(row.id),
        });
    user_emails::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

async fn replace_other_emails(
    tx: &WriteTx,
    row: &users::Model,
    old: &UserProfile,
    new: &UserProfile,
) -> Result<(), DbErr> {
    if old.other_email_keys == new.other_email_keys {
        return Ok(());
    }
    user_emails::Entity::delete_many()
        .filter(user_emails::Column::DirectoryId.eq(row.directory_id))
        .filter(user_emails::Column::UserId.eq(row.id))
        .exec(tx)
        .await?;
    insert_other_emails(tx, row, new).await
}

fn append(
    tx: &WriteTx,
    directory: &directories::Model,
    kind: Kind,
    user: &User,
    old: Option<&User>,
) {
    let mut data = user.data(directory.organization_id);
    let mut names = vec![user.row.user_name_key.clone()];
    if let Some(old) = old {
        let before = old.data(directory.organization_id);
        let previous = profile::previous_attributes(&before, &data);
        data.insert("previous_attributes".to_owned(), Value::Object(previous));
        if old.row.user_name_key != user.row.user_name_key {
            names.push(old.row.user_name_key.clone());
        }
    }
    let event = Event {
        kind,
        user_id: Some(user.row.id),
        group_id: None,
        names,
        data: Value::Object(data),
    };
    events::append(tx, directory, &event);
}
