//! Groups of a directory: create, change, delete, and the events that each of it makes.
//!
//! A group is the same group as long as its external id stays, or, without one, its folded name; a second
//! group with the same identity is refused. Its members are [`super::membership`]s.

use sea_orm::sea_query::{Condition, Expr, ExprTrait};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel,
    QueryFilter,
};
use serde_json::{Map, Value, json};

use super::drift::What;
use super::management::{self, Touched};
use super::profile::{self, GroupProfile};
use super::resource::{self, Error, ResourceKind, read_document};
use super::{Document, directory, membership};
use crate::actor::Actor;
use crate::clock;
use crate::events::{self, Event, Kind};
use crate::ids::{DirectoryGroupId, DirectoryId, OrganizationId, ResourceId};
use crate::json;
use crate::requests::Subject;
use crate::storage::counts::Difference;
use crate::storage::tables::{directories, groups};
use crate::storage::{Lane, Store, UseCase, WriteTx, insert_new};

/// A group with its document, which does not name its members.
#[derive(Clone, Debug)]
pub struct Group {
    /// The row.
    pub row: groups::Model,
    /// The resource as the provider gave it, without members.
    pub document: Document,
}

/// Computes a new document from the current group.
pub type Change = resource::Change<Group>;

/// Looks at the current group before it is deleted.
pub type Check = resource::Check<Group>;

const ONE_MORE: Difference = Difference {
    users: 0,
    groups: 1,
};
const ONE_LESS: Difference = Difference {
    users: 0,
    groups: -1,
};

struct Create {
    actor: Actor,
    id: ResourceId,
    document: Document,
    members: Vec<membership::Member>,
}

impl UseCase for Create {
    type Answer = Group;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<Group, Error> {
        let directory = directory::enter::<Error>(tx, self.actor).await?;
        let joining = [membership::Change::Add(self.members.clone())];
        let members = membership::difference::<Error>(tx, directory.id, self.id, &joining).await?;
        let profile = GroupProfile::of(&self.document);
        let row = groups::Model {
            directory_id: directory.id,
            id: self.id,
            directory_group_id: DirectoryGroupId::generate(),
            display_name_key: profile.display_name_key,
            external_id: profile.external_id,
            identity_key: profile.identity_key,
            document: Value::Object(self.document.clone()).to_string(),
            version: 1,
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        if !insert_new(tx, groups::ActiveModel::from(row.clone())).await? {
            return Err(Error::Taken);
        }
        let group = Group {
            row,
            document: self.document.clone(),
        };
        tx.count_resources(directory.id, ONE_MORE);
        append(tx, &directory, Kind::GroupCreated, &group, None);
        members.write(tx, &directory, self.id).await?;
        let touched = touched(&group, None);
        management::written(tx, &directory, self.actor, Some(What::Created), &touched).await?;
        Ok(group)
    }
}

/// Adds a group with its first members to a directory, under a new `id`.
///
/// # Errors
/// A group with the same identity exists, the actor may not write, or the database fails; then nothing
/// is written.
pub async fn create(
    store: &Store,
    directory_id: DirectoryId,
    actor: Actor,
    id: ResourceId,
    document: Document,
    members: Vec<membership::Member>,
) -> Result<Group, Error> {
    let use_case = Create {
        actor,
        id,
        document,
        members,
    };
    store.write(Lane::Directory(directory_id), use_case).await
}

struct Modify {
    actor: Actor,
    id: ResourceId,
    change: Change,
    members: Vec<membership::Change>,
}

impl UseCase for Modify {
    type Answer = Group;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<Group, Error> {
        let directory = directory::enter::<Error>(tx, self.actor).await?;
        let old = find(tx, directory.id, self.id)
            .await?
            .ok_or(Error::NotFound)?;
        let document = (self.change)(&old).map_err(Error::Refused)?;
        let members =
            membership::difference::<Error>(tx, directory.id, self.id, &self.members).await?;
        let (new, what, touched) = if document != old.document {
            let new = rewrite(tx, &directory, &old, document).await?;
            let touched = touched(&new, Some(&old));
            (new, Some(What::Changed), touched)
        } else if members.is_empty() {
            let touched = touched(&old, None);
            (old, None, touched)
        } else {
            let touched = touched(&old, None);
            (next_version(tx, old).await?, Some(What::Members), touched)
        };
        members.write(tx, &directory, self.id).await?;
        management::written(tx, &directory, self.actor, what, &touched).await?;
        Ok(new)
    }
}

async fn rewrite(
    tx: &WriteTx,
    directory: &directories::Model,
    old: &Group,
    document: Document,
) -> Result<Group, Error> {
    let profile = GroupProfile::of(&document);
    if profile.identity_key != old.row.identity_key
        && identity_is_taken(tx, directory.id, &profile.identity_key).await?
    {
        return Err(Error::Taken);
    }
    let row = groups::Model {
        display_name_key: profile.display_name_key,
        external_id: profile.external_id,
        identity_key: profile.identity_key,
        document: Value::Object(document.clone()).to_string(),
        version: old.row.version + 1,
        updated_at: tx.now(),
        ..old.row.clone()
    };
    groups::Entity::update(row.clone().into_active_model().reset_all())
        .exec(tx)
        .await?;
    let new = Group { row, document };
    append(tx, directory, Kind::GroupUpdated, &new, Some(old));
    Ok(new)
}

/// The group with other members: the resource, as SCIM shows it, is new.
async fn next_version(tx: &WriteTx, group: Group) -> Result<Group, DbErr> {
    let which = Condition::all().add(groups::Column::Id.eq(group.row.id));
    touch(tx, group.row.directory_id, which).await?;
    let row = groups::Model {
        version: group.row.version + 1,
        updated_at: tx.now(),
        ..group.row
    };
    Ok(Group { row, ..group })
}

/// Counts the versions of groups on because their members change; tells of how many.
pub(super) async fn touch(
    tx: &WriteTx,
    directory_id: DirectoryId,
    which: Condition,
) -> Result<u64, DbErr> {
    let next = Expr::col(groups::Column::Version).add(1);
    let touched = groups::Entity::update_many()
        .col_expr(groups::Column::Version, next)
        .col_expr(groups::Column::UpdatedAt, Expr::value(tx.now()))
        .filter(groups::Column::DirectoryId.eq(directory_id))
        .filter(which)
        .exec(tx)
        .await?;
    Ok(touched.rows_affected)
}

/// Changes a group and its members; what stays the same is not written and makes no event.
///
/// # Errors
/// There is no such group, the change is refused, the new identity is taken, the actor may not write, or
/// the database fails; then nothing is written.
pub async fn modify(
    store: &Store,
    directory_id: DirectoryId,
    actor: Actor,
    id: ResourceId,
    change: Change,
    members: Vec<membership::Change>,
) -> Result<Group, Error> {
    let use_case = Modify {
        actor,
        id,
        change,
        members,
    };
    store.write(Lane::Directory(directory_id), use_case).await
}

struct Delete {
    actor: Actor,
    id: ResourceId,
    check: Check,
}

/// Tells whether there was such a group.
impl UseCase for Delete {
    type Answer = bool;
    type Error = Error;

    async fn run(&self, tx: &WriteTx) -> Result<bool, Error> {
        let directory = directory::enter::<Error>(tx, self.actor).await?;
        let Some(group) = find(tx, directory.id, self.id).await? else {
            let gone = Touched::gone(ResourceKind::Group, self.id);
            management::written(tx, &directory, self.actor, None, &gone).await?;
            return Ok(false);
        };
        (self.check)(&group).map_err(Error::Refused)?;
        membership::remove_group(tx, &directory, self.id).await?;
        groups::Entity::delete_by_id((directory.id, self.id))
            .exec(tx)
            .await?;
        tx.count_resources(directory.id, ONE_LESS);
        append(tx, &directory, Kind::GroupDeleted, &group, None);
        let touched = touched(&group, None);
        management::written(tx, &directory, self.actor, Some(What::Deleted), &touched).await?;
        Ok(true)
    }
}

/// Deletes a group with its memberships. As at WorkOS there is one event, and none per member; where
/// groups are flattened, who thereby leaves a group above it leaves that first.
///
/// # Errors
/// There is no such group, the check refuses, the actor may not write, or the database fails; then nothing is written.
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

/// Finds a group of a directory.
///
/// # Errors
/// The database fails.
pub async fn find(
    connection: &impl ConnectionTrait,
    directory_id: DirectoryId,
    id: ResourceId,
) -> Result<Option<Group>, DbErr> {
    groups::Entity::find_by_id((directory_id, id))
        .one(connection)
        .await?
        .map(Group::from_row)
        .transpose()
}

impl Group {
    /// Reads the row's document.
    ///
    /// # Errors
    /// The document is not a JSON object, which only a damaged database can bring about.
    pub fn from_row(row: groups::Model) -> Result<Self, DbErr> {
        let document = read_document(&row.document)?;
        Ok(Self { row, document })
    }

    /// The group's name as the provider gave it.
    pub fn name(&self) -> &str {
        name_of(&self.document)
    }

    /// The group as the wire contract shows it.
    pub fn data(&self, organization_id: OrganizationId) -> Map<String, Value> {
        let row = &self.row;
        let mut raw = self.document.clone();
        raw.insert("id".to_owned(), json!(row.id.to_string()));
        let idp_id = row
            .external_id
            .clone()
            .unwrap_or_else(|| row.id.to_string());
        json::fields(json!({
            "object": "directory_group",
            "id": row.directory_group_id,
            "idp_id": idp_id,
            "directory_id": row.directory_id,
            "organization_id": organization_id,
            "name": self.name(),
            "raw_attributes": raw,
            "created_at": clock::text(row.created_at),
            "updated_at": clock::text(row.updated_at),
        }))
    }
}

/// How a group with this document is known: by its external id, or without one by its name.
pub(super) fn subject_of(document: &Document) -> Subject {
    let profile = GroupProfile::of(document);
    let name = Subject::DisplayName(profile.display_name_key);
    profile.external_id.map_or(name, Subject::ExternalId)
}

/// The displayName of a document.
pub(super) fn name_of(document: &Document) -> &str {
    document
        .get("displayName")
        .and_then(Value::as_str)
        .unwrap_or("")
}

fn touched(group: &Group, old: Option<&Group>) -> Touched {
    let groups = [Some(group), old].into_iter().flatten();
    Touched {
        kind: ResourceKind::Group,
        id: group.row.id,
        names: groups.map(|group| subject_of(&group.document)).collect(),
        label: group.name().to_owned(),
    }
}

async fn identity_is_taken(
    tx: &WriteTx,
    directory_id: DirectoryId,
    identity_key: &str,
) -> Result<bool, DbErr> {
    let holder = groups::Entity::find()
        .filter(groups::Column::DirectoryId.eq(directory_id))
        .filter(groups::Column::IdentityKey.eq(identity_key))
        .one(tx)
        .await?;
    Ok(holder.is_some())
}

fn append(
    tx: &WriteTx,
    directory: &directories::Model,
    kind: Kind,
    group: &Group,
    old: Option<&Group>,
) {
    let mut data = group.data(directory.organization_id);
    let mut names = vec![group.row.display_name_key.clone()];
    if let Some(old) = old {
        let before = old.data(directory.organization_id);
        let previous = profile::previous_attributes(&before, &data);
        data.insert("previous_attributes".to_owned(), Value::Object(previous));
        if old.row.display_name_key != group.row.display_name_key {
            names.push(old.row.display_name_key.clone());
        }
    }
    let event = Event {
        kind,
        user_id: None,
        group_id: Some(group.row.id),
        names,
        data: Value::Object(data),
    };
    events::append(tx, directory, &event);
}
