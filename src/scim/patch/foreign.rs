//! Extensions whose attributes nobody here knows: kept as they come, merged name by name.

use serde_json::{Map, Value};

use super::complex::put;
use crate::scim::error::ScimError;
use crate::scim::schema::{AttributePath, coerce};

/// Names of one extension, and of one document. Bodies have the same limit; without it here, PATCH
/// after PATCH could add more.
const NAMES_MAX: usize = 1_000;

/// Merges into an extension; `null` takes it away.
pub(super) fn assign(
    document: &mut Map<String, Value>,
    urn: &str,
    value: Value,
) -> Result<(), ScimError> {
    let key = find_key(document, urn);
    let next = match (document.remove(&key), value) {
        (_, Value::Null) => None,
        (Some(Value::Object(mut entries)), Value::Object(given)) => {
            for (name, value) in given {
                let name = find_key(&entries, &name);
                put(&mut entries, &name, coerce::without_nulls(value));
                check_names(&entries, urn)?;
            }
            filled(entries)
        }
        (_, value) => coerce::without_nulls(value),
    };
    put(document, &key, next);
    check_names(document, urn)
}

/// Sets one attribute of an extension, or one part of it; `null` takes it away.
pub(super) fn assign_attribute(
    document: &mut Map<String, Value>,
    path: &AttributePath,
    value: Value,
) -> Result<(), ScimError> {
    let Some(urn) = &path.schema else {
        return Ok(());
    };
    let key = find_key(document, urn);
    let mut entries = as_object(document.remove(&key));
    let name = find_key(&entries, &path.name);
    let next = match &path.sub {
        Some(sub) => {
            let mut parts = as_object(entries.remove(&name));
            let sub = find_key(&parts, sub);
            put(&mut parts, &sub, coerce::without_nulls(value));
            check_names(&parts, urn)?;
            filled(parts)
        }
        None => coerce::without_nulls(value),
    };
    put(&mut entries, &name, next);
    check_names(&entries, urn)?;
    put(document, &key, filled(entries));
    check_names(document, urn)
}

fn as_object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(entries)) => entries,
        _ => Map::new(),
    }
}

fn filled(entries: Map<String, Value>) -> Option<Value> {
    (!entries.is_empty()).then_some(Value::Object(entries))
}

fn check_names(entries: &Map<String, Value>, urn: &str) -> Result<(), ScimError> {
    if entries.len() <= NAMES_MAX {
        return Ok(());
    }
    Err(ScimError::too_many(format!(
        "With '{urn}' an object has more than {NAMES_MAX} names. Send fewer."
    )))
}

/// The key that a map has for a name, or the name itself.
fn find_key(map: &Map<String, Value>, name: &str) -> String {
    let known = map.keys().find(|key| key.eq_ignore_ascii_case(name));
    known.map_or_else(|| name.to_owned(), Clone::clone)
}
