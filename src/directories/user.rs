//! Users of a directory: create, change, delete, and the events that each of it makes.
//!
//! A user has two ids: `id` is the SCIM resource that the provider knows, `directory_user_id` is what
//! the vendor sees. Deactivating keeps the user, its memberships and both ids, or ends the directory user
//! ([`super::inactive`]).

use sea_orm::{ConnectionTrait, DbErr, EntityTrait};
use serde_json::{Map, Value, json};

use super::drift::What;
use super::inactive;
use super::management::{self, Touched};
use super::profile::{self, UserProfile};
use super::resource::{self, Error, ResourceKind, read_document};
use super::{Document, directory, guard, membership};
use crate::actor::Actor;
use crate::clock;
use crate::events::{self, Event, Kind};
use crate::ids::{DirectoryId, DirectoryUserId, OrganizationId, ResourceId};
use crate::keys::fold;
use crate::requests::Subject;
use crate::storage::counts::Difference;
use crate::storage::tables::{directories, users};
use crate::storage::{Lane, Store, UseCase, WriteTx, insert_new};

use change::{insert_other_emails, rewrite};

mod change;

/// A user with its document.
#[derive(Clone, Debug)]
pub struct User {
    /// The row.
    pub row: users::Model,
    /// The resource as the provider gave it.
    pub document: Document,
}

/// Computes a new document from the current user.
pub type Change = resource::Change<User>;

/// Looks at the current user before it is deleted.
pub type Check = resource::Check<User>;

const ONE_MORE: Difference = Difference {
    users: 1,
    groups: 0,
};
const ONE_LESS: Difference = Difference {
    users: -1,
    groups: 0,
};

struct Create {
    actor: Actor,
    id: ResourceId,
    document: Document,
}

impl UseCase for Create {
    type Answer = User;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<User, Error> {
        let profile = UserProfile::of(&self.document);
        let directory = directory::enter::<Error>(tx, self.actor).await?;
        let has_ended = inactive::has_ended(&directory, profile.is_active);
        let row = users::Model {
            directory_id: directory.id,
            id: self.id,
            directory_user_id: DirectoryUserId::generate(),
            user_name_key: profile.user_name_key.clone(),
            external_id: profile.external_id.clone(),
            email_key: profile.email_key.clone(),
            display_name_key: profile.display_name_key.clone(),
            active: profile.is_active,
            ended_at: has_ended.then(|| tx.now()),
            document: Value::Object(self.document.clone()).to_string(),
            version: 1,
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        if !insert_new(tx, users::ActiveModel::from(row.clone())).await? {
            return Err(Error::Taken);
        }
        insert_other_emails(tx, &row, &profile).await?;
        let user = User {
            row,
            document: self.document.clone(),
        };
        tx.count_resources(directory.id, ONE_MORE);
        if !has_ended {
            append(tx, &directory, Kind::UserCreated, &user, None);
        }
        let touched = touched(&user, None);
        management::written(tx, &directory, self.actor, Some(What::Created), &touched).await?;
        Ok(user)
    }
}

/// Adds a user to a directory under a new `id`.
///
/// # Errors
/// The userName is taken, the actor may not write, or the database fails; then nothing is written.
pub async fn create(
    store: &Store,
    directory_id: DirectoryId,
    actor: Actor,
    id: ResourceId,
    document: Document,
) -> Result<User, Error> {
    let use_case = Create {
        actor,
        id,
        document,
    };
    store.write(Lane::Directory(directory_id), use_case).await
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
            let touched = touched(&old, None);
            management::written(tx, &directory, self.actor, None, &touched).await?;
            return Ok(old);
        }
        let new = rewrite(tx, &directory, &old, document).await?;
        let touched = touched(&new, Some(&old));
        management::written(tx, &directory, self.actor, Some(What::Changed), &touched).await?;
        guard::judge(tx, &directory).await?;
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
    check: Check,
}

/// Tells whether there was such a user.
impl UseCase for Delete {
    type Answer = bool;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, Error> {
        let directory = directory::enter::<Error>(tx, self.actor).await?;
        let Some(user) = find(tx, directory.id, self.id).await? else {
            let gone = Touched::gone(ResourceKind::User, self.id);
            management::written(tx, &directory, self.actor, None, &gone).await?;
            return Ok(false);
        };
        (self.check)(&user).map_err(Error::Refused)?;
        membership::remove_user(tx, &directory, user.row.id).await?;
        users::Entity::delete_by_id((directory.id, self.id))
            .exec(tx)
            .await?;
        tx.count_resources(directory.id, ONE_LESS);
        if user.row.ended_at.is_none() {
            append(tx, &directory, Kind::UserDeleted, &user, None);
        }
        let touched = touched(&user, None);
        management::written(tx, &directory, self.actor, Some(What::Deleted), &touched).await?;
        guard::judge(tx, &directory).await?;
        Ok(true)
    }
}

/// Deletes a user: first it leaves its groups, then it is gone; each with its event, unless the directory
/// user has ended before.
///
/// # Errors
/// There is no such user, the check refuses, the actor may not write, or the database fails; then nothing is written.
pub async fn delete(
    store: &Store,
    directory_id: DirectoryId,
    actor: Actor,
    id: ResourceId,
    check: Check,
) -> Result<(), Error> {
    let use_case = Delete { actor, id, check };
    let was_there = store.write(Lane::Directory(directory_id), use_case).await?;
    was_there.then_some(()).ok_or(Error::NotFound)
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

/// How a user with this document is known.
pub(super) fn subject_of(document: &Document) -> Subject {
    Subject::UserName(fold(name_of(document)))
}

/// The userName of a document.
pub(super) fn name_of(document: &Document) -> &str {
    document
        .get("userName")
        .and_then(Value::as_str)
        .unwrap_or("")
}

fn touched(user: &User, old: Option<&User>) -> Touched {
    let names = [Some(user), old].into_iter().flatten();
    Touched {
        kind: ResourceKind::User,
        id: user.row.id,
        names: names
            .map(|user| Subject::UserName(user.row.user_name_key.clone()))
            .collect(),
        label: name_of(&user.document).to_owned(),
    }
}

/// Appends an event about a user; `old` is what it was before.
pub(super) fn append(
    tx: &WriteTx,
    directory: &directories::Model,
    kind: Kind,
    user: &User,
    old: Option<&User>,
) {
    let mut data = user.data(directory.organization_id);
    let mut names = vec![user.row.user_name_key.clone()];
    if let Some(old) = old {
        if kind == Kind::UserUpdated {
            let before = old.data(directory.organization_id);
            let previous = profile::previous_attributes(&before, &data);
            data.insert("previous_attributes".to_owned(), Value::Object(previous));
        }
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
