//! Directories at `/admin/v1/directories`: what the wire contract cannot make.

use std::slice;

use serde::Deserialize;
use serde_json::{Value, json};

use super::read::{check_name, field_error};
use super::{Caller, FieldError, Problem};
use crate::clock;
use crate::directories::address::{Address, Malformed};
use crate::directories::directory::{
    self, Change, Changes, Error, KINDS, NewDirectory, Signs, State,
};
use crate::ids::{DirectoryId, OrganizationId};
use crate::storage::tables::directories;

/// How many directories a list shows unless it is asked for another number, and at most.
const PAGE_DEFAULT: u64 = 10;
const PAGE_MAX: u64 = 100;

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
/// A field is invalid, there is no such organization, or it is going to be deleted.
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
/// A field is invalid, an address is taken, there is no such directory, or it is going to be deleted.
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

pub(super) fn problem(error: Error) -> Problem {
    match error {
        Error::NoOrganization(id) => Problem::not_found("Organization", &id.to_string()),
        Error::NoDirectory(id) => Problem::not_found("Directory", &id.to_string()),
        Error::NoLabel(label) => Problem::not_found("Label", &label),
        Error::LabelTaken(_) => Problem::new(409, "label_already_exists", error.to_string()),
        Error::HostNameTaken(_) => Problem::new(409, "host_name_already_exists", error.to_string()),
        Error::OrganizationDeleting(_) | Error::Deleting(_) => {
            Problem::new(409, "deletion_scheduled", error.to_string())
        }
        Error::NotDeleting => Problem::new(409, "deletion_not_scheduled", error.to_string()),
        Error::Ended => Problem::new(409, "already_deleted", error.to_string()),
        Error::TooManyLabels => Problem::new(409, "too_many_labels", error.to_string()),
        Error::Storage(error) => error.into(),
    }
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

/// What `GET /admin/v1/directories` takes.
#[derive(Debug, Default, Deserialize)]
pub struct ListDirectories {
    /// Only those of this organization.
    pub organization_id: Option<String>,
    /// Only those after this one.
    pub after: Option<String>,
    /// How many at most.
    pub limit: Option<u64>,
}

/// Shows directories, oldest first, a page at a time.
///
/// # Errors
/// A field is invalid.
pub async fn list(caller: &Caller, request: ListDirectories) -> Result<Value, Problem> {
    let mut errors = Vec::new();
    let limit = request.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        errors.push(field_error("limit", format!("must be 1 to {PAGE_MAX}")));
    }
    let organization_id = request.organization_id.map(|id| OrganizationId::parse(&id));
    if organization_id == Some(None) {
        errors.push(field_error(
            "organization_id",
            "must be an organization's id",
        ));
    }
    let after = request.after.map(|id| DirectoryId::parse(&id));
    if after == Some(None) {
        errors.push(field_error("after", "must be a directory's id"));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let connection = caller.context.store.reader();
    let (organization_id, after) = (organization_id.flatten(), after.flatten());
    // One more than is shown tells whether there is more.
    let mut rows = directory::list(connection, organization_id, after, limit + 1).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > shown;
    rows.truncate(shown);
    let next = rows.last().filter(|_| has_more).map(|row| row.id);
    Ok(json!({
        "object": "list",
        "data": views(caller, &rows).await?,
        "list_metadata": {"before": null, "after": next},
    }))
}

/// A directory as the API shows it.
pub(super) async fn view(caller: &Caller, row: &directories::Model) -> Result<Value, Problem> {
    let mut views = views(caller, slice::from_ref(row)).await?;
    Ok(views.pop().unwrap_or(Value::Null))
}

async fn views(caller: &Caller, rows: &[directories::Model]) -> Result<Vec<Value>, Problem> {
    let signs = directory::signs(&caller.context.store, rows).await?;
    let none = Signs::default();
    let signs_of = |row: &directories::Model| signs.get(&row.id).unwrap_or(&none);
    Ok(rows
        .iter()
        .map(|row| view_of(caller, row, signs_of(row)))
        .collect())
}

fn view_of(caller: &Caller, row: &directories::Model, signs: &Signs) -> Value {
    let former_labels: Vec<&String> = signs
        .labels
        .iter()
        .filter(|label| row.label.as_ref() != Some(label))
        .collect();
    let removal = State::Deleting.is_of(row);
    json!({
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
        "state": State::shown(row),
        "lights": {
            "reached_at": signs.first_request_at.map(clock::text),
            "first_user_at": signs.first_user_at.map(clock::text),
            "last_sync_at": signs.last_sync_at.map(clock::text),
        },
        "deliveries_held_at": row.deliveries_held_at.map(clock::text),
        "deliveries_held_by": row.deliveries_held_by,
        "guard_held_at": row.guard_held_at.map(clock::text),
        "writes_refused_at": row.writes_refused_at.map(clock::text),
        "writes_refused_by": row.writes_refused_by,
        "deletion_due_at": row.deletion_due_at.map(clock::text),
        "deletion": removal.then(|| json!({"rows_removed": row.rows_removed})),
        "scim_base_url": caller.context.scim_base_url(row),
        "sequence": signs.sequence,
        "first_request_at": signs.first_request_at.map(clock::text),
        "last_request_at": signs.last_request_at.map(clock::text),
        "created_at": clock::text(row.created_at),
        "updated_at": clock::text(row.updated_at),
    })
}
