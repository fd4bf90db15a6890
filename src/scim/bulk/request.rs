//! Reads the body of a Bulk request.
//!
//! What is wrong with the request as a whole refuses it; what is wrong with one operation is that
//! operation's outcome, and the others are performed.

use serde_json::{Map, Value};

use crate::ids::ResourceId;
use crate::scim::error::ScimError;
use crate::scim::schema::{self, ResourceType};

/// The schema of the request.
const REQUEST_URN: &str = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";

/// What starts a reference to a resource that the same request creates.
pub(super) const REFERENCE: &str = "bulkId:";

/// A Bulk request.
#[derive(Debug)]
pub(super) struct Bulk {
    /// After how many failures the rest is left undone.
    pub(super) fail_on_errors: Option<u64>,
    pub(super) operations: Vec<Draft>,
}

/// One operation as it was sent.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) method: Option<Method>,
    pub(super) bulk_id: Option<String>,
    pub(super) version: Option<String>,
    pub(super) path: String,
    pub(super) data: Map<String, Value>,
    /// What is wrong with it.
    pub(super) fault: Option<ScimError>,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Creates.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
    /// Deletes.
    Delete,
}

impl Method {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Post, Self::Put, Self::Patch, Self::Delete]
            .into_iter()
            .find(|method| method.as_str().eq_ignore_ascii_case(text))
    }
}

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A resource to be created, and the id that it will have.
    New(ResourceType, ResourceId),
    /// A resource.
    One(ResourceType, ResourceId),
}

/// Reads the body.
pub(super) fn read(body: Map<String, Value>) -> Result<Bulk, ScimError> {
    let mut bulk = Bulk {
        fail_on_errors: None,
        operations: Vec::new(),
    };
    let (mut is_bulk, mut operations) = (false, None);
    for (name, value) in body {
        if name.eq_ignore_ascii_case("schemas") {
            is_bulk = schema::names(&value, REQUEST_URN);
        } else if name.eq_ignore_ascii_case("failOnErrors") {
            bulk.fail_on_errors = fail_on_errors(&value)?;
        } else if name.eq_ignore_ascii_case("Operations") {
            operations = Some(value);
        }
    }
    if !is_bulk {
        return Err(ScimError::invalid_syntax(format!(
            "'schemas' of a Bulk request must be [\"{REQUEST_URN}\"]."
        )));
    }
    let Some(Value::Array(items)) = operations else {
        return Err(ScimError::invalid_syntax(
            "A Bulk request needs 'Operations', an array of operations.",
        ));
    };
    bulk.operations = items.into_iter().map(draft).collect();
    Ok(bulk)
}

fn fail_on_errors(value: &Value) -> Result<Option<u64>, ScimError> {
    if value.is_null() {
        return Ok(None);
    }
    let count = value.as_u64().filter(|count| *count > 0);
    count
        .map(Some)
        .ok_or_else(|| ScimError::invalid_value("'failOnErrors' must be a whole number from 1 on."))
}

fn draft(item: Value) -> Draft {
    let mut draft = Draft::default();
    let Value::Object(entries) = item else {
        draft.fault = Some(ScimError::invalid_syntax("An operation must be an object."));
        return draft;
    };
    let mut method = None;
    for (name, value) in entries {
        let fault = match (name.to_lowercase().as_str(), value) {
            ("data", Value::Object(data)) => {
                draft.data = data;
                continue;
            }
            (_, Value::Null) => continue,
            ("method", Value::String(text)) => {
                method = Some(text);
                continue;
            }
            ("path", Value::String(text)) => {
                draft.path = text;
                continue;
            }
            ("bulkid", Value::String(text)) => {
                draft.bulk_id = Some(text);
                continue;
            }
            ("version", Value::String(text)) => {
                draft.version = Some(text);
                continue;
            }
            ("data", _) => "'data' must be an object.",
            ("method" | "path" | "bulkid" | "version", _) => {
                "'method', 'path', 'bulkId' and 'version' must be strings."
            }
            _ => continue,
        };
        draft.fault = Some(ScimError::invalid_syntax(fault));
    }
    draft.method = method.as_deref().and_then(Method::parse);
    if draft.fault.is_none() {
        draft.fault = fault_of(&draft);
    }
    draft
}

fn fault_of(draft: &Draft) -> Option<ScimError> {
    let Some(method) = draft.method else {
        return Some(ScimError::invalid_syntax(
            "'method' must be POST, PUT, PATCH or DELETE.",
        ));
    };
    let has_bulk_id = draft.bulk_id.as_ref().is_some_and(|id| !id.is_empty());
    if method == Method::Post && !has_bulk_id {
        return Some(ScimError::invalid_syntax(
            "A POST in a Bulk request needs a 'bulkId'.",
        ));
    }
    match (method, split(&draft.path)) {
        (_, None) => Some(ScimError::not_found(
            "There is no such endpoint. 'path' begins with /Users or /Groups.",
        )),
        (Method::Post, Some((_, None)))
        | (Method::Put | Method::Patch | Method::Delete, Some((_, Some(_)))) => None,
        (Method::Post, Some((_, Some(_))))
        | (Method::Put | Method::Patch | Method::Delete, Some((_, None))) => Some(wrong_path()),
    }
}

/// The error of a path that does not suit its method.
pub(super) fn wrong_path() -> ScimError {
    ScimError::invalid_syntax(
        "'path' must be /Users or /Groups for a POST, and /Users/{id} or /Groups/{id} otherwise.",
    )
}

/// A path as the kind of resource and, where there is one, the id or reference.
pub(super) fn split(path: &str) -> Option<(ResourceType, Option<&str>)> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (endpoint, id) = match path.split_once('/') {
        Some((endpoint, id)) => (endpoint, Some(id)),
        None => (path, None),
    };
    let kind = ResourceType::ALL
        .into_iter()
        .find(|kind| kind.endpoint() == endpoint)?;
    Some((kind, id.filter(|id| !id.is_empty())))
}
