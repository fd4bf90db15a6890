//! The rules of PATCH for complex attributes with one value, such as `name` and `manager`.

use serde_json::{Map, Value};

use crate::scim::error::ScimError;
use crate::scim::schema::{Attribute, coerce};

/// Sets one part of a single-valued complex attribute.
pub(super) fn assign_part(
    attribute: &Attribute,
    part: &Attribute,
    current: Option<Value>,
    value: Value,
) -> Result<Option<Value>, ScimError> {
    let parts = Map::from_iter([(part.name.to_owned(), value)]);
    assign_complex(attribute, current, Value::Object(parts))
}

/// Sets a single-valued complex attribute. An object is merged into the one there is: parts that it
/// does not name stay (RFC 7644 section 3.5.2.3), parts that are `null` go. A link that comes to
/// point elsewhere loses what described the old resource.
pub(super) fn assign_complex(
    attribute: &Attribute,
    current: Option<Value>,
    value: Value,
) -> Result<Option<Value>, ScimError> {
    let given = match value {
        Value::Object(given) => given,
        Value::Array(mut items) if items.len() == 1 => {
            return assign_complex(attribute, current, items.pop().unwrap_or(Value::Null));
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)) => return coerce::value(attribute, other, attribute.name),
    };
    let mut whole = match current {
        Some(Value::Object(whole)) => whole,
        _ => Map::new(),
    };
    let old_link = whole.get("value").cloned();
    let mut fresh = Map::new();
    for (name, raw) in given {
        let Some(part) = attribute.find_part(&name) else {
            continue;
        };
        let path = format!("{}.{}", attribute.name, part.name);
        let kept = coerce::value(part, raw, &path)?;
        put(&mut whole, part.name, kept.clone());
        put(&mut fresh, part.name, kept);
    }
    if attribute.is_resource_link() {
        let link = whole
            .get("value")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if link.is_empty() && old_link.is_some() {
            return Ok(None);
        }
        if whole.get("value") != old_link.as_ref() {
            whole = fresh;
        }
    }
    coerce::value(attribute, Value::Object(whole), attribute.name)
}

/// Sets an entry, or removes it.
pub(super) fn put(map: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    match value {
        Some(value) => map.insert(name.to_owned(), value),
        None => map.remove(name),
    };
}
