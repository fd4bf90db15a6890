//! Reads the body of a PATCH request into operations.

use serde_json::{Map, Value};

use crate::scim::error::ScimError;
use crate::scim::filter::path::Path;
use crate::scim::schema;

/// The schema of a PATCH body.
pub const PATCH_URN: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// Operations of one request.
pub const OPERATIONS_MAX: usize = 1_000;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Adds a value, or sets one.
    Add,
    /// Sets a value.
    Replace,
    /// Takes a value away.
    Remove,
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// What it does.
    pub op: Op,
    /// Where; without it, the value is an object whose names are paths.
    pub path: Option<Path>,
    /// With what. `null` is a value, and means "not assigned".
    pub value: Option<Value>,
}

/// Reads a PATCH body. The names in it, and the operations, are read in any case: Entra sends
/// `Add`, everybody else `add`.
pub fn read(mut body: Map<String, Value>) -> Result<Vec<Operation>, ScimError> {
    let schemas = take(&mut body, "schemas").unwrap_or_default();
    if !schema::names(&schemas, PATCH_URN) {
        return Err(ScimError::invalid_syntax(format!(
            "'schemas' of a PATCH request must be [\"{PATCH_URN}\"]."
        )));
    }
    let Some(Value::Array(items)) = take(&mut body, "Operations") else {
        return Err(ScimError::invalid_syntax(
            "A PATCH request needs 'Operations', an array of operations.",
        ));
    };
    if items.is_empty() {
        return Err(ScimError::invalid_syntax(
            "'Operations' is empty. Send at least one.",
        ));
    }
    if items.len() > OPERATIONS_MAX {
        return Err(ScimError::too_many_operations(format!(
            "The request has more than {OPERATIONS_MAX} operations. Send them in several requests."
        )));
    }
    let numbered = items.into_iter().enumerate();
    numbered
        .map(|(index, item)| read_one(item).map_err(|error| error.within(&place(index))))
        .collect()
}

/// How an error names an operation.
pub(super) fn place(index: usize) -> String {
    format!("Operations[{index}]")
}

fn read_one(item: Value) -> Result<Operation, ScimError> {
    let Value::Object(mut entries) = item else {
        return Err(ScimError::invalid_syntax("An operation must be an object."));
    };
    let op = read_op(take(&mut entries, "op").as_ref())?;
    let path = read_path(take(&mut entries, "path").as_ref())?;
    let value = take(&mut entries, "value");
    match (op, &path, &value) {
        (Op::Remove, None, _) => Err(ScimError::no_target(
            "A 'remove' needs a 'path' that says what to remove.",
        )),
        (Op::Add | Op::Replace, _, None) => Err(ScimError::invalid_syntax(
            "An 'add' or 'replace' needs a 'value'.",
        )),
        (Op::Add | Op::Replace, None, Some(value)) if !value.is_object() => Err(
            ScimError::invalid_syntax("Without a 'path', 'value' must be an object of attributes."),
        ),
        _ => Ok(Operation { op, path, value }),
    }
}

fn read_op(value: Option<&Value>) -> Result<Op, ScimError> {
    let names = [
        ("add", Op::Add),
        ("replace", Op::Replace),
        ("remove", Op::Remove),
    ];
    let word = value.and_then(Value::as_str).unwrap_or_default();
    let mut found = names
        .into_iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(word));
    found.next().map(|(_, op)| op).ok_or_else(|| {
        ScimError::invalid_syntax("'op' must be one of 'add', 'replace' and 'remove'.")
    })
}

fn read_path(value: Option<&Value>) -> Result<Option<Path>, ScimError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Path::parse(text).map(Some),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(ScimError::invalid_path("'path' must be a string."))
        }
    }
}

/// Takes an entry out by its name, in any case.
fn take(map: &mut Map<String, Value>, name: &str) -> Option<Value> {
    let key = map
        .keys()
        .find(|key| key.eq_ignore_ascii_case(name))
        .cloned()?;
    map.remove(&key)
}
