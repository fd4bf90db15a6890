//! Reads the body of a POST or PUT into a *document*.
//!
//! A document is what the client said about a resource, in the schema's spelling and shape: without
//! `id`, `meta` and `schemas`, which the server makes; without `password`, which is never kept;
//! without the `groups` of a user and the `members` of a group, which are rows of their own.
//! Whatever a document holds may be stored and returned as it is. [`check`] is the rule that every
//! document obeys, also one that PATCH made.

use std::collections::HashSet;
use std::io;

use serde_json::{Map, Value};

use super::attribute::{Attribute, Mutability};
use super::{Resolved, ResourceType, Target, coerce, group, resolve_text};
use crate::schema::error::ScimError;

/// Bytes of the names that databases index.
const NAME_BYTES_MAX: usize = 1_024;

/// Bytes of a whole document as JSON. Without it, PATCH after PATCH could grow one without end.
const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

/// What a POST or PUT asks to store.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// The attributes of the resource itself.
    pub document: Map<String, Value>,
    /// The members of a group, when the body names any; `None` for users.
    pub members: Option<Vec<MemberValue>>,
}

/// One member of a group, as a client names it. Whether it is a user or a group, its id tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberValue {
    /// The id of the user or group.
    pub value: String,
    /// The `display`, if given.
    pub display: Option<String>,
}

/// Reads the body of a POST or PUT.
pub fn read(resource: ResourceType, body: Map<String, Value>) -> Result<Incoming, ScimError> {
    let mut incoming = Incoming {
        document: Map::new(),
        members: None,
    };
    for (name, value) in expand(resource, body)? {
        if name.eq_ignore_ascii_case("schemas") {
            check_schemas(&value)?;
            continue;
        }
        match resolve_text(resource, &name) {
            Resolved::Attribute(target) => take(resource, &mut incoming, target, value)?,
            Resolved::Schema(schema) => {
                let entries = entries_of(schema.urn, value)?;
                let kept = extension(schema.attributes, entries, schema.urn)?;
                insert_filled(&mut incoming.document, schema.urn, kept.map(Value::Object));
            }
            Resolved::Foreign(urn) => {
                insert_filled(&mut incoming.document, &urn, coerce::without_nulls(value));
            }
            Resolved::ForeignAttribute(_) | Resolved::Unknown => {}
        }
    }
    check(resource, &incoming.document)?;
    Ok(incoming)
}

fn take(
    resource: ResourceType,
    incoming: &mut Incoming,
    target: Target,
    value: Value,
) -> Result<(), ScimError> {
    let attribute = target.attribute;
    if is_membership(resource, attribute) {
        incoming.members = Some(member_values(value)?);
        return Ok(());
    }
    if is_kept(attribute) {
        let kept = coerce::value(attribute, value, attribute.name)?;
        insert_filled(&mut incoming.document, attribute.name, kept);
    }
    Ok(())
}

/// Whether an attribute is the `members` of a group, which no document holds.
pub fn is_membership(resource: ResourceType, attribute: &Attribute) -> bool {
    resource == ResourceType::Group && attribute.name == group::MEMBERS
}

/// Whether a client's value for the attribute is kept at all.
fn is_kept(attribute: &Attribute) -> bool {
    match attribute.mutability {
        Mutability::ReadWrite | Mutability::Immutable => true,
        Mutability::ReadOnly | Mutability::WriteOnly => false,
    }
}

fn insert_filled(map: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        map.insert(name.to_owned(), value);
    }
}

/// The entries of a value that must be an object; of `null`, none.
fn entries_of(place: &str, value: Value) -> Result<Map<String, Value>, ScimError> {
    match value {
        Value::Object(entries) => Ok(entries),
        Value::Null => Ok(Map::new()),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(
            ScimError::invalid_value(format!("'{place}' must be an object of attributes.")),
        ),
    }
}

/// The known attributes of an extension, in the schema's spelling.
fn extension(
    attributes: &'static [Attribute],
    entries: Map<String, Value>,
    urn: &str,
) -> Result<Option<Map<String, Value>>, ScimError> {
    let mut kept = Map::new();
    for (name, value) in entries {
        if let Some(attribute) = super::find_in(attributes, &name) {
            let path = format!("{urn}:{}", attribute.name);
            insert_filled(
                &mut kept,
                attribute.name,
                coerce::value(attribute, value, &path)?,
            );
        }
    }
    Ok((!kept.is_empty()).then_some(kept))
}

/// `schemas` may list anything, also URNs nobody knows, but it must be a list of texts.
fn check_schemas(value: &Value) -> Result<(), ScimError> {
    let valid = match value {
        Value::Null => true,
        Value::Array(items) => items.iter().all(Value::is_string),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => false,
    };
    if valid {
        return Ok(());
    }
    Err(ScimError::invalid_syntax(
        "'schemas' must be an array of schema URNs, each a string.",
    ))
}

/// Rewrites dotted and URN-qualified names as the objects they stand for, so that one body may say
/// `"name.givenName": "K"` and another `"name": {"givenName": "K"}`. The name of the core schema
/// itself holds attributes of the resource. Bodies are bounded in depth.
fn expand(
    resource: ResourceType,
    body: Map<String, Value>,
) -> Result<Map<String, Value>, ScimError> {
    let (mut plain, mut paths) = (Map::new(), Vec::new());
    for (name, value) in body {
        match resolve_text(resource, &name) {
            Resolved::Attribute(target) => paths.push((address_of(target), value)),
            Resolved::Schema(schema) if schema.urn == resource.core().urn => {
                plain.extend(expand(resource, entries_of(schema.urn, value)?)?);
            }
            Resolved::Schema(schema) => paths.push((vec![schema.urn.to_owned()], value)),
            Resolved::ForeignAttribute(path) => {
                let names = path.schema.into_iter().chain([path.name]).chain(path.sub);
                paths.push((names.collect(), value));
            }
            Resolved::Foreign(_) | Resolved::Unknown => {
                plain.insert(name, value);
            }
        }
    }
    paths.sort_by_key(|(names, _)| names.len());
    for (names, value) in paths {
        plant(&mut plain, &names, value)?;
    }
    Ok(plain)
}

fn address_of(target: Target) -> Vec<String> {
    let urn = target.extension.map(|schema| schema.urn);
    let sub = target.sub.map(|part| part.name);
    let names = urn.into_iter().chain([target.attribute.name]).chain(sub);
    names.map(str::to_owned).collect()
}

/// Puts a value where the names lead, making objects on the way and merging into those there.
fn plant(map: &mut Map<String, Value>, names: &[String], value: Value) -> Result<(), ScimError> {
    let Some((first, rest)) = names.split_first() else {
        return Ok(());
    };
    let known = map
        .keys()
        .find(|key| key.eq_ignore_ascii_case(first))
        .cloned();
    let slot = map
        .entry(known.unwrap_or_else(|| first.clone()))
        .or_insert(Value::Null);
    if rest.is_empty() {
        match (slot.as_object_mut(), value) {
            (Some(there), Value::Object(given)) => there.extend(given),
            (_, value) => *slot = value,
        }
        return Ok(());
    }
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    match slot.as_object_mut() {
        Some(inner) => plant(inner, rest, value),
        None => Err(ScimError::invalid_value(format!(
            "'{first}' is given twice, in parts and as a whole. Send it once."
        ))),
    }
}

/// Reads members from an array, from one object or from a bare id. `$ref` and `type` are not
/// looked at.
pub fn member_values(value: Value) -> Result<Vec<MemberValue>, ScimError> {
    let items = match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
            vec![one]
        }
    };
    let mut members = Vec::with_capacity(items.len());
    let mut seen = HashSet::new();
    for item in items.into_iter().filter(|item| !item.is_null()) {
        let member = member_value(item)?;
        if seen.insert(member.value.clone()) {
            members.push(member);
        }
    }
    Ok(members)
}

fn member_value(item: Value) -> Result<MemberValue, ScimError> {
    let mut member = MemberValue {
        value: String::new(),
        display: None,
    };
    match item {
        Value::String(text) => member.value = text,
        Value::Object(parts) => {
            for (name, part) in parts {
                if name.eq_ignore_ascii_case("value") {
                    member.value = text_of(part, "members.value")?.unwrap_or_default();
                } else if name.eq_ignore_ascii_case("display") {
                    member.display = text_of(part, "members.display")?;
                } else if name.eq_ignore_ascii_case("type") {
                    // The id decides whether it is a user or a group; but a text it must be.
                    text_of(part, "members.type")?;
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            return Err(ScimError::invalid_value(
                "A member must be an object with a 'value', the id of a user or group.",
            ));
        }
    }
    if member.value.is_empty() {
        return Err(ScimError::invalid_value(
            "A member has no 'value'. Send the id of a user or group as 'value'.",
        ));
    }
    Ok(member)
}

fn text_of(value: Value, path: &str) -> Result<Option<String>, ScimError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Err(
            ScimError::invalid_value(format!("Attribute '{path}' must be a string.")),
        ),
    }
}

/// Checks what holds for every document: required names are there, indexed names are short enough,
/// and the whole is of a bearable size.
pub fn check(resource: ResourceType, document: &Map<String, Value>) -> Result<(), ScimError> {
    let required = match resource {
        ResourceType::User => "userName",
        ResourceType::Group => "displayName",
    };
    let text = |name| document.get(name).and_then(Value::as_str);
    if text(required).is_none_or(|name| name.trim().is_empty()) {
        return Err(ScimError::invalid_value(format!(
            "A {} needs a '{required}' that is not empty. Check that the attribute mapping of the \
             identity provider fills it.",
            resource.name()
        )));
    }
    let names = ["userName", "externalId", "displayName"].map(|name| (name, text(name)));
    let emails = document.get("emails").and_then(Value::as_array);
    let emails = emails.into_iter().flatten().map(|email| {
        let address = email.get("value").and_then(Value::as_str);
        ("emails.value", address)
    });
    for (name, text) in names.into_iter().chain(emails) {
        if text.is_some_and(|text| text.len() > NAME_BYTES_MAX) {
            return Err(ScimError::invalid_value(format!(
                "Attribute '{name}' is longer than {NAME_BYTES_MAX} bytes. Shorten it."
            )));
        }
    }
    check_size(document)
}

fn check_size(document: &Map<String, Value>) -> Result<(), ScimError> {
    let mut meter = Meter {
        left: DOCUMENT_BYTES_MAX,
    };
    if serde_json::to_writer(&mut meter, document).is_ok() {
        return Ok(());
    }
    Err(ScimError::invalid_value(format!(
        "The resource is larger than {DOCUMENT_BYTES_MAX} bytes of JSON. Send fewer or shorter \
         attributes."
    )))
}

/// A writer that counts down and fails at the end.
struct Meter {
    left: usize,
}

impl io::Write for Meter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len());
        self.left = left.ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
