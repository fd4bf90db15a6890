//! Directories at `/admin/v1/directories`: what the wire contract cannot make.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Problem;
use super::read::{check_name, field_error};
use crate::clock;
use crate::context::Context;
use crate::directories::directory::{self, KINDS, NewDirectory, State};
use crate::ids::{DirectoryId, OrganizationId};
use crate::storage::newest_sequence;
use crate::storage::tables::directories;

/// What `POST /admin/v1/directories` takes.
#[derive(Debug, Deserialize)]
pub struct CreateDirectory {
    /// The organization that it belongs to.
    pub organization_id: String,
    /// Its name.
    pub name: String,
    /// One of the contract's directory types; `generic scim v2.0` is the safe one.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Makes a directory.
///
/// # Errors
/// A field is invalid, or there is no such organization.
pub async fn create(context: &Context, request: CreateDirectory) -> Result<Value, Problem> {
    let mut errors = Vec::new();
    check_name("name", &request.name, &mut errors);
    let kind = KINDS.into_iter().find(|kind| *kind == request.kind);
    if kind.is_none() {
        errors.push(field_error(
            "type",
            format!("must be one of: {}", KINDS.join(", ")),
        ));
    }
    let (Some(kind), true) = (kind, errors.is_empty()) else {
        return Err(Problem::invalid(errors));
    };
    let organization_id = OrganizationId::parse(&request.organization_id)
        .ok_or_else(|| Problem::not_found("Organization", &request.organization_id))?;
    let directory = NewDirectory {
        organization_id,
        name: request.name,
        kind,
    };
    let created =
        directory::create(&context.store, directory)
            .await
            .map_err(|error| match error {
                directory::Error::NoOrganization(id) => {
                    Problem::not_found("Organization", &id.to_string())
                }
                directory::Error::Storage(error) => error.into(),
            })?;
    view(context, &created).await
}

/// Shows a directory.
///
/// # Errors
/// There is none with this id.
pub async fn show(context: &Context, id: &str) -> Result<Value, Problem> {
    let found = find(context, id).await?;
    view(context, &found).await
}

/// Deletes a directory: its tokens stop working at once, and `dsync.deleted` is its last event.
///
/// # Errors
/// There is none with this id.
pub async fn delete(context: &Context, id: &str) -> Result<(), Problem> {
    let found = find(context, id).await?;
    directory::delete(&context.store, found.id)
        .await
        .map_err(Problem::from)
}

/// Finds the directory that a URL names.
pub(super) async fn find(context: &Context, id: &str) -> Result<directories::Model, Problem> {
    let missing = || Problem::not_found("Directory", id);
    let parsed = DirectoryId::parse(id).ok_or_else(missing)?;
    directory::find(context.store.reader(), parsed)
        .await?
        .filter(|found| !State::Deleted.is_of(found))
        .ok_or_else(missing)
}

async fn view(context: &Context, row: &directories::Model) -> Result<Value, Problem> {
    let connection = context.store.reader();
    let activity = directory::activity(connection, row.id).await?;
    let sequence = newest_sequence(connection, row.id).await?;
    let first_request_at = activity
        .as_ref()
        .map(|heard| clock::text(heard.first_request_at));
    let last_request_at = activity
        .as_ref()
        .map(|heard| clock::text(heard.last_request_at));
    Ok(json!({
        "object": "directory",
        "id": row.id,
        "organization_id": row.organization_id,
        "external_key": row.external_key,
        "name": row.name,
        "type": row.kind,
        "state": row.state,
        "scim_base_url": context.scim_base_url(&row.external_key),
        "sequence": sequence,
        "first_request_at": first_request_at,
        "last_request_at": last_request_at,
        "created_at": clock::text(row.created_at),
        "updated_at": clock::text(row.updated_at),
    }))
}
