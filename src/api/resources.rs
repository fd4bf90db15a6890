//! What users and groups have in common when a vendor writes them by hand.
//!
//! A body is a SCIM resource, read and checked as a provider's would be. A `PATCH` is a part of one: an
//! attribute that it names takes the place of what was there, whole, and `null` clears it.

use actix_web::HttpRequest;
use actix_web::web::Payload;
use serde_json::{Map, Value};

use super::directories::find as find_directory;
use super::management::denied_problem;
use super::{Caller, Problem};
use crate::directories::resource::{self, ResourceKind};
use crate::directories::{Document, lookup};
use crate::ids::ResourceId;
use crate::schema::document::{self, Incoming};
use crate::schema::error::ScimError;
use crate::schema::{ResourceType, body};
use crate::storage::tables::directories;
use crate::web;

/// Reads a body as strictly as a provider's.
pub(super) async fn read_body(
    caller: &Caller,
    kind: ResourceKind,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Map<String, Value>, Problem> {
    let limits = &caller.context.limits;
    let bytes_max = match kind {
        ResourceKind::User => limits.scim_user_body_bytes,
        ResourceKind::Group => limits.scim_group_body_bytes,
    };
    let bytes = web::body::read(request, payload, bytes_max).await?;
    body::parse(&bytes, &body::Limits::default()).map_err(|error| invalid(&error))
}

/// Reads a whole resource.
pub(super) fn read(kind: ResourceKind, body: Map<String, Value>) -> Result<Incoming, Problem> {
    document::read(ResourceType::from(kind), body).map_err(|error| invalid(&error))
}

/// The document of a resource of which `part` takes the place.
pub(super) fn merge(
    kind: ResourceKind,
    document: &Document,
    part: &Map<String, Value>,
) -> Result<Document, resource::Refusal> {
    let mut merged = document.clone();
    merged.retain(|name, _| !part.keys().any(|given| given.eq_ignore_ascii_case(name)));
    merged.extend(part.clone());
    Ok(document::read(ResourceType::from(kind), merged)?.document)
}

fn invalid(error: &ScimError) -> Problem {
    Problem::new(422, "invalid_resource", error.detail.clone())
}

/// The directory and the resource that a URL names.
pub(super) async fn find(
    caller: &Caller,
    kind: ResourceKind,
    directory_id: &str,
    id: &str,
) -> Result<(directories::Model, ResourceId), Problem> {
    let directory = find_directory(caller, directory_id).await?;
    let text = id.to_owned();
    let connection = caller.context.store.reader();
    let found = lookup::resources(connection, directory.id, kind, std::slice::from_ref(&text));
    let found = found.await?.get(&text).copied();
    Ok((directory, found.ok_or_else(|| missing(kind, id))?))
}

fn missing(kind: ResourceKind, id: &str) -> Problem {
    Problem::not_found(
        match kind {
            ResourceKind::User => "User",
            ResourceKind::Group => "Group",
        },
        id,
    )
}

/// Why a user or a group was not written, as the vendor hears it.
pub(super) fn problem(
    error: resource::Error,
    kind: ResourceKind,
    directory_id: &str,
    id: &str,
) -> Problem {
    match error {
        resource::Error::Denied(denied) => denied_problem(&denied, directory_id),
        resource::Error::NotFound => missing(kind, id),
        resource::Error::Taken => Problem::new(
            409,
            match kind {
                ResourceKind::User => "user_already_exists",
                ResourceKind::Group => "group_already_exists",
            },
            match kind {
                ResourceKind::User => "Another user of this directory has this userName.",
                ResourceKind::Group => {
                    "Another group of this directory has this externalId or, where there is none, \
                     this displayName."
                }
            },
        ),
        resource::Error::Nesting(error) => Problem::new(422, "invalid_members", error.to_string()),
        resource::Error::Refused(cause) => match cause.downcast::<ScimError>() {
            Ok(error) => invalid(&error),
            Err(cause) => Problem::internal(cause.as_ref()),
        },
        resource::Error::Storage(error) => error.into(),
    }
}
