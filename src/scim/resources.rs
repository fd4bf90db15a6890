//! Users and groups as SCIM sees them: the same few things are done with both, alone or in Bulk.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::caller::Caller;
use super::http::{Refusal, missing, refuse};
use super::patch::{self, MemberChange, members, operation};
use super::render::{self, GroupRef, Meta};
use super::schema::ResourceType;
use super::schema::document;
use super::version::{self, Conditions};
use crate::clock;
use crate::directories::group::{self, Group};
use crate::directories::membership::{self, Change};
use crate::directories::query::Row;
use crate::directories::refused::{self, Attempt, Operation, Target};
use crate::directories::resource;
use crate::directories::user::{self, User};
use crate::ids::ResourceId;

/// A resource with what is shown beside its document; a group's members are rows of their own.
#[derive(Clone, Debug)]
pub(super) enum Resource {
    /// A user, and the groups that it is in.
    User(User, Vec<GroupRef>),
    /// A group.
    Group(Group),
}

impl Resource {
    pub(super) fn kind(&self) -> ResourceType {
        match self {
            Self::User(..) => ResourceType::User,
            Self::Group(_) => ResourceType::Group,
        }
    }

    pub(super) fn id(&self) -> ResourceId {
        match self {
            Self::User(user, _) => user.row.id,
            Self::Group(group) => group.row.id,
        }
    }

    /// Its entity tag, and `meta.version`.
    pub(super) fn tag(&self) -> String {
        match self {
            Self::User(user, groups) => version::tag(user.row.version, groups),
            Self::Group(group) => version::tag(group.row.version, &[]),
        }
    }

    /// Its URL, and `meta.location`.
    pub(super) fn location(&self, caller: &Caller) -> String {
        location(caller, self.kind(), self.id())
    }

    /// All that it shows but the members of a group.
    pub(super) fn whole(&self, caller: &Caller) -> Map<String, Value> {
        let (created_at, updated_at) = match self {
            Self::User(user, _) => (user.row.created_at, user.row.updated_at),
            Self::Group(group) => (group.row.created_at, group.row.updated_at),
        };
        let meta = Meta {
            location: &self.location(caller),
            created: &clock::text(created_at),
            last_modified: &clock::text(updated_at),
            version: &self.tag(),
        };
        let id = self.id().to_string();
        match self {
            Self::User(user, groups) => render::user(&id, &user.document, groups, &meta),
            Self::Group(group) => render::group(&id, &group.document, &meta),
        }
    }
}

/// The URL of a resource.
pub(super) fn location(caller: &Caller, kind: ResourceType, id: ResourceId) -> String {
    format!("{}/{}/{id}", caller.base_url, kind.endpoint())
}

/// Reads an id from a URL; one that is none of ours names nobody.
pub(super) fn id_of(kind: ResourceType, text: &str) -> Result<ResourceId, Refusal> {
    ResourceId::parse(text).ok_or_else(|| missing(kind))
}

/// Makes resources of rows, with the groups of users if they are wanted.
pub(super) async fn complete(
    caller: &Caller,
    rows: Vec<Row>,
    with_groups: bool,
) -> Result<Vec<Resource>, Refusal> {
    let members = rows.iter().filter_map(|row| match row {
        Row::User(user, true) => Some(user.id),
        Row::User(_, false) | Row::Group(_) => None,
    });
    let members: Vec<ResourceId> = members.filter(|_| with_groups).collect();
    let mut groups = groups_of(caller, &members).await?;
    let resources = rows.into_iter().map(|row| {
        Ok(match row {
            Row::User(row, _) => {
                let groups = groups.remove(&row.id).unwrap_or_default();
                Resource::User(User::from_row(row)?, groups)
            }
            Row::Group(row) => Resource::Group(Group::from_row(row)?),
        })
    });
    resources.collect()
}

/// The groups of users, as their read-only attribute shows them.
async fn groups_of(
    caller: &Caller,
    ids: &[ResourceId],
) -> Result<HashMap<ResourceId, Vec<GroupRef>>, Refusal> {
    let mut groups: HashMap<ResourceId, Vec<GroupRef>> = HashMap::new();
    if ids.is_empty() {
        return Ok(groups);
    }
    let store = &caller.context.store;
    let memberships = membership::groups_of(store.reader(), caller.directory_id(), ids).await?;
    for membership in memberships {
        let group = &membership.group;
        let groups = groups.entry(membership.user_id).or_default();
        groups.push(GroupRef {
            value: group.row.id.to_string(),
            display: group.name().to_owned(),
            location: location(caller, ResourceType::Group, group.row.id),
            is_direct: membership.is_direct,
        });
    }
    Ok(groups)
}

async fn with_groups(caller: &Caller, user: User) -> Result<Resource, Refusal> {
    let mut groups = groups_of(caller, &[user.row.id]).await?;
    let groups = groups.remove(&user.row.id).unwrap_or_default();
    Ok(Resource::User(user, groups))
}

/// Makes a resource of a POST's body, under a new id.
pub(super) async fn create(
    caller: &Caller,
    kind: ResourceType,
    id: ResourceId,
    body: Map<String, Value>,
) -> Result<Resource, Refusal> {
    let document::Incoming { document, members } = document::read(kind, body)?;
    let (store, directory_id) = (&caller.context.store, caller.directory_id());
    let attempt = Attempt {
        kind: kind.into(),
        operation: Operation::Create,
        target: Target::of_new(kind.into(), &document),
    };
    let created = match kind {
        ResourceType::User => user::create(store, directory_id, caller.actor, id, document)
            .await
            .map(|user| Resource::User(user, Vec::new())),
        ResourceType::Group => {
            let members = members::known(members.unwrap_or_default());
            group::create(store, directory_id, caller.actor, id, document, members)
                .await
                .map(Resource::Group)
        }
    };
    match created {
        Ok(created) => Ok(created),
        Err(error) => Err(turn_away(caller, attempt, error).await),
    }
}

/// What is refused because of who is master at present is noted: it is missing until it comes again.
async fn turn_away(caller: &Caller, attempt: Attempt, error: resource::Error) -> Refusal {
    let kind = attempt.kind.into();
    if let resource::Error::Denied(denied) = &error {
        let (store, directory_id) = (&caller.context.store, caller.directory_id());
        let noted = refused::note(store, directory_id, caller.actor, attempt, denied).await;
        if let Err(error) = noted {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a refused write could not be noted"
            );
        }
    }
    refuse(kind, error)
}

fn attempt(kind: ResourceType, operation: Operation, id: ResourceId) -> Attempt {
    Attempt {
        kind: kind.into(),
        operation,
        target: Target::Resource(id),
    }
}

/// Puts a PUT's body in the place of a resource.
pub(super) async fn replace(
    caller: &Caller,
    kind: ResourceType,
    id: ResourceId,
    conditions: Conditions,
    body: Map<String, Value>,
) -> Result<Resource, Refusal> {
    let document::Incoming { document, members } = document::read(kind, body)?;
    let operation = Operation::Replace;
    match kind {
        ResourceType::User => {
            let change: user::Change = Arc::new(move |user| {
                conditions.check_write(user.row.version)?;
                Ok(document.clone())
            });
            modify_user(caller, operation, id, change).await
        }
        ResourceType::Group => {
            let change: group::Change = Arc::new(move |group| {
                conditions.check_write(group.row.version)?;
                Ok(document.clone())
            });
            let members = Change::Replace(members::known(members.unwrap_or_default()));
            modify_group(caller, operation, id, change, vec![members]).await
        }
    }
}

/// Applies a PATCH's body to a resource.
pub(super) async fn patch(
    caller: &Caller,
    kind: ResourceType,
    id: ResourceId,
    conditions: Conditions,
    body: Map<String, Value>,
) -> Result<Resource, Refusal> {
    let operations = operation::read(body)?;
    let operation = Operation::Patch;
    match kind {
        ResourceType::User => {
            let change: user::Change = Arc::new(move |user| {
                conditions.check_write(user.row.version)?;
                let id = user.row.id.to_string();
                let context = patch::Context { id: &id };
                Ok(patch::apply(kind, &user.document, &operations, &context)?)
            });
            modify_user(caller, operation, id, change).await
        }
        ResourceType::Group => {
            let patch = members::group(operations)?;
            let members = patch
                .members
                .into_iter()
                .map(MemberChange::of_rows)
                .collect();
            let operations = patch.document;
            let change: group::Change = Arc::new(move |group| {
                conditions.check_write(group.row.version)?;
                let id = group.row.id.to_string();
                let context = patch::Context { id: &id };
                Ok(patch::apply(kind, &group.document, &operations, &context)?)
            });
            modify_group(caller, operation, id, change, members).await
        }
    }
}

async fn modify_user(
    caller: &Caller,
    operation: Operation,
    id: ResourceId,
    change: user::Change,
) -> Result<Resource, Refusal> {
    let (store, directory_id) = (&caller.context.store, caller.directory_id());
    match user::modify(store, directory_id, caller.actor, id, change).await {
        Ok(user) => with_groups(caller, user).await,
        Err(error) => {
            let attempt = attempt(ResourceType::User, operation, id);
            Err(turn_away(caller, attempt, error).await)
        }
    }
}

async fn modify_group(
    caller: &Caller,
    operation: Operation,
    id: ResourceId,
    change: group::Change,
    members: Vec<Change>,
) -> Result<Resource, Refusal> {
    let (store, directory_id) = (&caller.context.store, caller.directory_id());
    match group::modify(store, directory_id, caller.actor, id, change, members).await {
        Ok(group) => Ok(Resource::Group(group)),
        Err(error) => {
            let attempt = attempt(ResourceType::Group, operation, id);
            Err(turn_away(caller, attempt, error).await)
        }
    }
}

/// Deletes a resource.
pub(super) async fn delete(
    caller: &Caller,
    kind: ResourceType,
    id: ResourceId,
    conditions: Conditions,
) -> Result<(), Refusal> {
    let (store, directory_id) = (&caller.context.store, caller.directory_id());
    let deleted = match kind {
        ResourceType::User => {
            let check: user::Check =
                Arc::new(move |user| Ok(conditions.check_write(user.row.version)?));
            user::delete(store, directory_id, caller.actor, id, check).await
        }
        ResourceType::Group => {
            let check: group::Check =
                Arc::new(move |group| Ok(conditions.check_write(group.row.version)?));
            group::delete(store, directory_id, caller.actor, id, check).await
        }
    };
    match deleted {
        Ok(()) => Ok(()),
        Err(error) => {
            let attempt = attempt(kind, Operation::Delete, id);
            Err(turn_away(caller, attempt, error).await)
        }
    }
}
