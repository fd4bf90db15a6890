//! Users of directories that are managed by hand, at `/admin/v1/directories/{id}/users`.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::directories::find as find_directory;
use super::resources::{self, problem, read};
use super::{Caller, Problem};
use crate::clock;
use crate::directories::resource::ResourceKind::User as USER;
use crate::directories::user::{self, User};
use crate::ids::ResourceId;
use crate::storage::tables::directories;

/// Makes a user of a whole SCIM resource.
///
/// # Errors
/// The resource is invalid, its userName is taken, the provider is the master, or there is no such
/// directory.
pub async fn create(
    caller: &Caller,
    directory_id: &str,
    body: Map<String, Value>,
) -> Result<Value, Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let (store, id) = (&caller.context.store, ResourceId::generate());
    let document = read(USER, body)?.document;
    let created = user::create(store, directory.id, caller.actor, id, document)
        .await
        .map_err(|error| problem(error, USER, directory_id, ""))?;
    Ok(view(&directory, &created))
}

/// Shows a user, whoever is the master.
///
/// # Errors
/// There is no such directory or user.
pub async fn show(caller: &Caller, directory_id: &str, id: &str) -> Result<Value, Problem> {
    let (directory, resource_id) = resources::find(caller, USER, directory_id, id).await?;
    let found = user::find(caller.context.store.reader(), directory.id, resource_id).await?;
    let found = found.ok_or_else(|| Problem::not_found("User", id))?;
    Ok(view(&directory, &found))
}

/// Puts a whole SCIM resource in the place of a user.
///
/// # Errors
/// The resource is invalid, its userName is taken, the provider is the master, or there is no such
/// directory or user.
pub async fn replace(
    caller: &Caller,
    directory_id: &str,
    id: &str,
    body: Map<String, Value>,
) -> Result<Value, Problem> {
    let document = read(USER, body)?.document;
    let change: user::Change = Arc::new(move |_| Ok(document.clone()));
    modify(caller, directory_id, id, change).await
}

/// Changes those attributes of a user that the body names.
///
/// # Errors
/// The user would be invalid, its userName is taken, the provider is the master, or there is no such
/// directory or user.
pub async fn change(
    caller: &Caller,
    directory_id: &str,
    id: &str,
    body: Map<String, Value>,
) -> Result<Value, Problem> {
    let change: user::Change = Arc::new(move |user| resources::merge(USER, &user.document, &body));
    modify(caller, directory_id, id, change).await
}

async fn modify(
    caller: &Caller,
    directory_id: &str,
    id: &str,
    change: user::Change,
) -> Result<Value, Problem> {
    let (directory, resource_id) = resources::find(caller, USER, directory_id, id).await?;
    let store = &caller.context.store;
    let modified = user::modify(store, directory.id, caller.actor, resource_id, change)
        .await
        .map_err(|error| problem(error, USER, directory_id, id))?;
    Ok(view(&directory, &modified))
}

/// Deletes a user.
///
/// # Errors
/// The provider is the master, or there is no such directory or user.
pub async fn delete(caller: &Caller, directory_id: &str, id: &str) -> Result<(), Problem> {
    let (directory, resource_id) = resources::find(caller, USER, directory_id, id).await?;
    let store = &caller.context.store;
    let check: user::Check = Arc::new(|_| Ok(()));
    user::delete(store, directory.id, caller.actor, resource_id, check)
        .await
        .map_err(|error| problem(error, USER, directory_id, id))
}

/// The directory user as events show it, with the id of its SCIM resource.
fn view(directory: &directories::Model, user: &User) -> Value {
    let mut view = user.data(directory.organization_id);
    let ended_at = user.row.ended_at.map(clock::text);
    view.insert("resource_id".to_owned(), json!(user.row.id.to_string()));
    view.insert("ended_at".to_owned(), json!(ended_at));
    Value::Object(view)
}
