//! Directories at `/admin/v1/directories`: what the wire contract cannot make.

use serde::Deserialize;
use serde_json::{Value, json};

use super::read::{check_name, field_error};
use super::{Caller, FieldError, Problem};
use crate::clock;
use crate::directories::address::{self, Address, Malformed};
use crate::directories::directory::{self, Change, Changes, Error, KINDS, NewDirectory, State};
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
pub async fn create(caller: &Caller, request: CreateDirectory) -> Result<Value, Problem> {
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
    let created = directory::create(&caller.context.store, caller.actor, directory)
        .await
        .map_err(problem)?;
    view(caller, &created).await
}

/// Shows a directory.
///
/// # Errors
/// There is none with this id.
pub async fn show(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let found = find(caller, id).await?;
    view(caller, &found).await
}

/// What `PATCH /admin/v1/directories/{id}` takes. A name that it does not know is refused, since a slip
/// would otherwise change nothing and look like a success.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigureDirectory {
    /// Its name.
    #[serde(default)]
    pub name: Change<String>,
    /// Its label; former ones keep answering.
    #[serde(default)]
    pub label: Change<String>,
    /// The host name of its own.
    #[serde(default)]
    pub host_name: Change<String>,
    /// Whether events tell of everybody in a group, also through groups in it.
    pub flatten_groups: Option<bool>,
}

/// Changes those settings of a directory that the request names.
///
/// # Errors
/// A field is invalid, an address is taken, or there is no such directory.
pub async fn configure(
    caller: &Caller,
    id: &str,
    request: ConfigureDirectory,
) -> Result<Value, Problem> {
    let changes = check(caller, request)?;
    let found = find(caller, id).await?;
    let configured = directory::configure(&caller.context.store, caller.actor, found.id, changes)
        .await
        .map_err(problem)?;
    view(caller, &configured).await
}

fn check(caller: &Caller, request: ConfigureDirectory) -> Result<Changes, Problem> {
    let mut errors = Vec::new();
    let name = match request.name {
        Change::Keep => None,
        Change::Clear => Some(String::new()),
        Change::To(name) => Some(name),
    };
    if let Some(name) = &name {
        check_name("name", name, &mut errors);
    }
    let label = check_address("label", request.label, Address::label, &mut errors);
    let host_name = check_address(
        "host_name",
        request.host_name,
        Address::host_name,
        &mut errors,
    );
    if let Change::To(host_name) = &host_name
        && caller.context.public_url.host_str() == Some(host_name.as_str())
    {
        errors.push(field_error(
            "host_name",
            "must not be the host of the public URL",
        ));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    Ok(Changes {
        name,
        label,
        host_name,
        flatten_groups: request.flatten_groups,
    })
}

fn check_address(
    field: &str,
    change: Change<String>,
    read: fn(&str) -> Result<Address, Malformed>,
    errors: &mut Vec<FieldError>,
) -> Change<Address> {
    match change {
        Change::Keep => Change::Keep,
        Change::Clear => Change::Clear,
        Change::To(text) => match read(&text) {
            Ok(address) => Change::To(address),
            Err(malformed) => {
                errors.push(field_error(field, malformed.to_string()));
                Change::Keep
            }
        },
    }
}

/// Removes a label, in use or a former one: it stops answering.
///
/// # Errors
/// There is no such directory, or it has no such label.
pub async fn remove_label(caller: &Caller, id: &str, label: &str) -> Result<(), Problem> {
    let found = find(caller, id).await?;
    let address = Address::of_segment(label).ok_or_else(|| Problem::not_found("Label", label))?;
    directory::remove_label(&caller.context.store, caller.actor, found.id, address)
        .await
        .map_err(problem)
}

fn problem(error: Error) -> Problem {
    match error {
        Error::NoOrganization(id) => Problem::not_found("Organization", &id.to_string()),
        Error::NoDirectory(id) => Problem::not_found("Directory", &id.to_string()),
        Error::NoLabel(label) => Problem::not_found("Label", &label),
        Error::LabelTaken(_) => Problem::new(409, "label_already_exists", error.to_string()),
        Error::HostNameTaken(_) => Problem::new(409, "host_name_already_exists", error.to_string()),
        Error::TooManyLabels => Problem::new(409, "too_many_labels", error.to_string()),
        Error::Storage(error) => error.into(),
    }
}

/// Deletes a directory: its tokens stop working at once, and `dsync.deleted` is its last event.
///
/// # Errors
/// There is none with this id.
pub async fn delete(caller: &Caller, id: &str) -> Result<(), Problem> {
    let found = find(caller, id).await?;
    directory::delete(&caller.context.store, caller.actor, found.id)
        .await
        .map_err(Problem::from)
}

/// Finds the directory that a URL names.
pub(super) async fn find(caller: &Caller, id: &str) -> Result<directories::Model, Problem> {
    let missing = || Problem::not_found("Directory", id);
    let parsed = DirectoryId::parse(id).ok_or_else(missing)?;
    directory::find(caller.context.store.reader(), parsed)
        .await?
        .filter(|found| !State::Deleted.is_of(found))
        .ok_or_else(missing)
}

async fn view(caller: &Caller, row: &directories::Model) -> Result<Value, Problem> {
    let connection = caller.context.store.reader();
    let activity = directory::activity(connection, row.id).await?;
    let mut former_labels = address::labels(connection, row).await?;
    former_labels.retain(|label| row.label.as_ref() != Some(label));
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
        "label": row.label,
        "former_labels": former_labels,
        "host_name": row.host_name,
        "flatten_groups": row.flatten_groups,
        "name": row.name,
        "type": row.kind,
        "state": row.state,
        "scim_base_url": caller.context.scim_base_url(row),
        "sequence": sequence,
        "first_request_at": first_request_at,
        "last_request_at": last_request_at,
        "created_at": clock::text(row.created_at),
        "updated_at": clock::text(row.updated_at),
    }))
}
