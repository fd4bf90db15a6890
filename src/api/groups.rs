//! Groups of directories that are managed by hand, at `/admin/v1/directories/{id}/groups`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::directories::find as find_directory;
use super::read::field_error;
use super::resources::{self, problem, read};
use super::{Caller, Problem};
use crate::directories::group::{self, Group};
use crate::directories::lookup;
use crate::directories::membership::{Change, Member};
use crate::directories::resource::ResourceKind::{Group as GROUP, User as USER};
use crate::ids::{DirectoryId, ResourceId};
use crate::schema::document::MemberValue;
use crate::storage::tables::directories;

/// How many ids that name nobody an error repeats.
const UNKNOWN_MAX: usize = 5;

/// What `POST` and `DELETE …/members` take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// Ids of users: directory users or SCIM resources.
    pub users: Vec<String>,
}

/// Whether users join or leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Movement {
    /// They become members.
    Join,
    /// They are members no longer.
    Leave,
}

/// Makes a group of a whole SCIM resource with its members.
///
/// # Errors
/// The resource is invalid, a group with the same identity exists, a member does not, the provider is the
/// master, or there is no such directory.
pub async fn create(
    caller: &Caller,
    directory_id: &str,
    body: Map<String, Value>,
) -> Result<Value, Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let incoming = read(GROUP, body)?;
    let members = members(caller, directory.id, incoming.members.unwrap_or_default()).await?;
    let (store, id) = (&caller.context.store, ResourceId::generate());
    let created = group::create(
        store,
        directory.id,
        caller.actor,
        id,
        incoming.document,
        members,
    )
    .await
    .map_err(|error| problem(error, GROUP, directory_id, ""))?;
    Ok(view(&directory, &created))
}

/// Shows a group, whoever is the master.
///
/// # Errors
/// There is no such directory or group.
pub async fn show(caller: &Caller, directory_id: &str, id: &str) -> Result<Value, Problem> {
    let (directory, resource_id) = resources::find(caller, GROUP, directory_id, id).await?;
    let found = group::find(caller.context.store.reader(), directory.id, resource_id).await?;
    let found = found.ok_or_else(|| Problem::not_found("Group", id))?;
    Ok(view(&directory, &found))
}

/// Puts a whole SCIM resource in the place of a group, members included.
///
/// # Errors
/// As for [`create`], or there is no such group.
pub async fn replace(
    caller: &Caller,
    directory_id: &str,
    id: &str,
    body: Map<String, Value>,
) -> Result<Value, Problem> {
    let incoming = read(GROUP, body)?;
    let document = incoming.document;
    let directory = find_directory(caller, directory_id).await?;
    let members = members(caller, directory.id, incoming.members.unwrap_or_default()).await?;
    let change: group::Change = Arc::new(move |_| Ok(document.clone()));
    let members = vec![Change::Replace(members)];
    modify(caller, directory_id, id, change, members).await
}

/// Changes those attributes of a group that the body names; `members` are not among them.
///
/// # Errors
/// The group would be invalid, another one has its identity, the provider is the master, or there is no
/// such directory or group.
pub async fn change(
    caller: &Caller,
    directory_id: &str,
    id: &str,
    body: Map<String, Value>,
) -> Result<Value, Problem> {
    if body.keys().any(|name| name.eq_ignore_ascii_case("members")) {
        let error = field_error("members", "must be changed by POST and DELETE of …/members");
        return Err(Problem::invalid(vec![error]));
    }
    let change: group::Change =
        Arc::new(move |group| resources::merge(GROUP, &group.document, &body));
    modify(caller, directory_id, id, change, Vec::new()).await
}

/// Has users join or leave a group.
///
/// # Errors
/// A user does not exist, the provider is the master, or there is no such directory or group.
pub async fn move_users(
    caller: &Caller,
    directory_id: &str,
    id: &str,
    movement: Movement,
    request: Users,
) -> Result<Value, Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let connection = caller.context.store.reader();
    let found = lookup::resources(connection, directory.id, USER, &request.users).await?;
    let unknown = request.users.iter().filter(|id| !found.contains_key(*id));
    refuse_unknown("users", unknown.cloned().collect())?;
    let ids = request.users.iter().filter_map(|id| found.get(id).copied());
    let members = match movement {
        Movement::Join => Change::Add(ids.map(|id| Member { id, display: None }).collect()),
        Movement::Leave => Change::Remove(ids.collect()),
    };
    let change: group::Change = Arc::new(|group| Ok(group.document.clone()));
    modify(caller, directory_id, id, change, vec![members]).await
}

async fn modify(
    caller: &Caller,
    directory_id: &str,
    id: &str,
    change: group::Change,
    members: Vec<Change>,
) -> Result<Value, Problem> {
    let (directory, resource_id) = resources::find(caller, GROUP, directory_id, id).await?;
    let store = &caller.context.store;
    let modified = group::modify(
        store,
        directory.id,
        caller.actor,
        resource_id,
        change,
        members,
    )
    .await
    .map_err(|error| problem(error, GROUP, directory_id, id))?;
    Ok(view(&directory, &modified))
}

/// Deletes a group.
///
/// # Errors
/// The provider is the master, or there is no such directory or group.
pub async fn delete(caller: &Caller, directory_id: &str, id: &str) -> Result<(), Problem> {
    let (directory, resource_id) = resources::find(caller, GROUP, directory_id, id).await?;
    let store = &caller.context.store;
    let check: group::Check = Arc::new(|_| Ok(()));
    group::delete(store, directory.id, caller.actor, resource_id, check)
        .await
        .map_err(|error| problem(error, GROUP, directory_id, id))
}

/// The users and groups that a body names as members, each of which must exist.
async fn members(
    caller: &Caller,
    directory_id: DirectoryId,
    named: Vec<MemberValue>,
) -> Result<Vec<Member>, Problem> {
    let texts: Vec<String> = named.iter().map(|member| member.value.clone()).collect();
    let connection = caller.context.store.reader();
    let mut found = lookup::resources(connection, directory_id, USER, &texts).await?;
    let others: Vec<String> = texts
        .into_iter()
        .filter(|text| !found.contains_key(text))
        .collect();
    found.extend(lookup::resources(connection, directory_id, GROUP, &others).await?);
    let unknown = others.into_iter().filter(|text| !found.contains_key(text));
    refuse_unknown("members", unknown.collect())?;
    let members = named.into_iter().filter_map(|member| {
        Some(Member {
            id: *found.get(&member.value)?,
            display: member.display,
        })
    });
    Ok(members.collect())
}

fn refuse_unknown(field: &str, unknown: Vec<String>) -> Result<(), Problem> {
    if unknown.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = unknown.into_iter().take(UNKNOWN_MAX).collect();
    let text = format!("must be in this directory, unlike {}", shown.join(", "));
    Err(Problem::invalid(vec![field_error(field, text)]))
}

/// The directory group as events show it, with the id of its SCIM resource.
fn view(directory: &directories::Model, group: &Group) -> Value {
    let mut view = group.data(directory.organization_id);
    view.insert("resource_id".to_owned(), json!(group.row.id.to_string()));
    Value::Object(view)
}
