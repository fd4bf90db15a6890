//! Brings what clients send into the shape of the schema.
//!
//! Providers send one object where an array is due, a bare string where an object is due, `"True"`
//! for `true`, and `null` for "not assigned". All of that is understood here, once, for POST, PUT
//! and PATCH alike. What cannot be understood is `invalidValue`, with the path of the attribute.

use std::collections::HashSet;

use chrono::DateTime;
use serde_json::{Map, Value};

use super::attribute::{Attribute, AttributeType, Mutability};
use crate::schema::error::ScimError;

/// How many elements one multi-valued attribute may hold.
pub const ELEMENTS_MAX: usize = 1_000;

/// The value of an attribute in the schema's shape; `None` when it stands for "not assigned".
pub fn value(attribute: &Attribute, value: Value, path: &str) -> Result<Option<Value>, ScimError> {
    if attribute.multi_valued {
        let mut list = elements(attribute, value, path)?;
        settle(&mut list);
        return Ok((!list.is_empty()).then_some(Value::Array(list)));
    }
    single(attribute, value, path)
}

/// The elements of a multi-valued attribute, from an array, from one object or from a bare string.
pub fn elements(attribute: &Attribute, value: Value, path: &str) -> Result<Vec<Value>, ScimError> {
    let items = match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            vec![one]
        }
    };
    check_length(items.len(), path)?;
    let mut list = Vec::with_capacity(items.len());
    for item in items {
        list.extend(element(attribute, item, path)?);
    }
    Ok(list)
}

/// Refuses a multi-valued attribute of more than [`ELEMENTS_MAX`] elements.
pub fn check_length(count: usize, path: &str) -> Result<(), ScimError> {
    if count <= ELEMENTS_MAX {
        return Ok(());
    }
    Err(ScimError::too_many(format!(
        "Attribute '{path}' has more than {ELEMENTS_MAX} values. Send fewer."
    )))
}

/// One element of a multi-valued attribute.
fn element(attribute: &Attribute, item: Value, path: &str) -> Result<Option<Value>, ScimError> {
    if item.is_array() {
        return Err(mismatch(attribute, path));
    }
    single(attribute, item, path)
}

fn mismatch(attribute: &Attribute, path: &str) -> ScimError {
    let expectation = attribute.kind.expectation();
    ScimError::invalid_value(format!("Attribute '{path}' must be {expectation}."))
}

/// A value that is not an array in the schema.
fn single(attribute: &Attribute, value: Value, path: &str) -> Result<Option<Value>, ScimError> {
    let mismatch = || mismatch(attribute, path);
    match (attribute.kind, value) {
        (_, Value::Null) => Ok(None),
        (_, Value::Array(items)) if items.is_empty() => Ok(None),
        (AttributeType::Boolean, flag) => boolean(&flag).map(Some).ok_or_else(mismatch),
        (AttributeType::Complex, Value::Array(items)) => {
            let mut items = items.into_iter();
            match (items.next(), items.next()) {
                (Some(only @ (Value::Object(_) | Value::String(_) | Value::Null)), None) => {
                    single(attribute, only, path)
                }
                _ => Err(mismatch()),
            }
        }
        (AttributeType::Complex, Value::Object(parts)) => {
            let whole = object(attribute, parts, path)?;
            Ok(whole.filter(|whole| !is_blank_link(attribute, whole)))
        }
        (AttributeType::Complex, Value::String(text)) => {
            let part = attribute.value_part().ok_or_else(mismatch)?;
            if text.is_empty() {
                return Ok(None);
            }
            let parts = Map::from_iter([(part.name.to_owned(), Value::String(text))]);
            Ok(Some(Value::Object(parts)))
        }
        (AttributeType::DateTime, Value::String(text)) => {
            if DateTime::parse_from_rfc3339(&text).is_err() {
                return Err(mismatch());
            }
            Ok(Some(Value::String(text)))
        }
        (
            AttributeType::String | AttributeType::Reference | AttributeType::Binary,
            Value::String(text),
        ) => Ok(Some(Value::String(text))),
        (AttributeType::Decimal, number @ Value::Number(_)) => Ok(Some(number)),
        (AttributeType::Integer, number @ Value::Number(_)) if is_whole(&number) => {
            Ok(Some(number))
        }
        _ => Err(mismatch()),
    }
}

/// Whether a value says "nothing": `null` or an empty array.
pub fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// A link to a resource whose `value` is empty is no link.
fn is_blank_link(attribute: &Attribute, whole: &Value) -> bool {
    attribute.is_resource_link() && whole.get("value").and_then(Value::as_str) == Some("")
}

fn is_whole(number: &Value) -> bool {
    number.is_i64() || number.is_u64()
}

/// A boolean, also when it comes as the text `true` or `False`.
pub fn boolean(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(flag) => Some(Value::Bool(*flag)),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
        Value::Null | Value::String(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

/// The known parts of a complex value in the schema's spelling; `None` when nothing is left.
fn object(
    attribute: &Attribute,
    parts: Map<String, Value>,
    path: &str,
) -> Result<Option<Value>, ScimError> {
    let mut whole = Map::new();
    for (name, raw) in parts {
        let Some(part) = attribute.find_part(&name) else {
            continue;
        };
        if part.mutability == Mutability::ReadOnly {
            continue;
        }
        if let Some(kept) = value(part, raw, &format!("{path}.{}", part.name))? {
            whole.insert(part.name.to_owned(), kept);
        }
    }
    Ok((!whole.is_empty()).then_some(Value::Object(whole)))
}

/// Leaves each element once, and at most one of them `primary` (RFC 7643 section 2.4).
///
/// Two elements with a `value` are the same when `type` and `value` are; without one, when they are
/// equal. Of several primary elements the first stays primary.
pub fn settle(list: &mut Vec<Value>) {
    let mut seen = HashSet::new();
    list.retain(|item| seen.insert(identity(item)));
    let first = list.iter().position(is_primary);
    if let Some(first) = first {
        make_only_primary(list, first);
    }
}

/// Sets `primary` of every element but the given one to `false`, where it is `true`.
pub fn make_only_primary(list: &mut [Value], chosen: usize) {
    for (index, item) in list.iter_mut().enumerate() {
        if index != chosen
            && is_primary(item)
            && let Some(parts) = item.as_object_mut()
        {
            parts.insert("primary".to_owned(), Value::Bool(false));
        }
    }
}

/// Whether an element is the preferred one.
pub fn is_primary(element: &Value) -> bool {
    element.get("primary") == Some(&Value::Bool(true))
}

/// What makes two elements of one attribute the same.
#[derive(Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// `type` and `value`.
    Labelled(Option<String>, String),
    /// Everything, for elements without a `value`.
    Whole(String),
}

/// What makes an element the same as another.
pub fn identity(element: &Value) -> Identity {
    let text = |name| element.get(name).and_then(Value::as_str).map(str::to_owned);
    match text("value") {
        Some(value) => Identity::Labelled(text("type"), value),
        None => Identity::Whole(element.to_string()),
    }
}

/// Removes `null` and what consists of nothing else, at any depth. Bodies are bounded in depth.
pub fn without_nulls(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Array(items) => {
            let kept: Vec<Value> = items.into_iter().filter_map(without_nulls).collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        Value::Object(entries) => {
            let kept: Map<String, Value> = entries
                .into_iter()
                .filter_map(|(name, value)| without_nulls(value).map(|value| (name, value)))
                .collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        plain @ (Value::Bool(_) | Value::Number(_) | Value::String(_)) => Some(plain),
    }
}
