//! Applies PATCH operations to a document.
//!
//! One draft is changed by one operation after the other and checked at the end by the rules of
//! [`document::check`]. Paths in `value` objects without a `path` follow the same rules as explicit
//! paths, with one difference: read-only attributes in them are passed over, because providers echo
//! them, whereas an explicit path to one is `mutability`.

use serde_json::{Map, Value};

use super::complex::{assign_complex, assign_part, put};
use super::effort::Effort;
use super::elements::{Mode, Selection};
use super::foreign;
use super::operation::{Op, Operation, place};
use crate::scim::error::ScimError;
use crate::scim::filter::Filter;
use crate::scim::filter::path::Path;
use crate::scim::schema::attribute::{Attribute, AttributeType, Mutability};
use crate::scim::schema::{
    AttributePath, Resolved, ResourceType, Schema, Target, coerce, document, resolve, resolve_text,
};

/// What PATCH must know of the resource besides its document.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The `id`, which providers echo.
    pub id: &'a str,
}

/// Makes the next document. Either all operations are in it, or none and an error says which one
/// failed. The `members` of a group must have been set apart by [`super::members::group`].
pub fn apply(
    resource: ResourceType,
    document: &Map<String, Value>,
    operations: &[Operation],
    context: &Context<'_>,
) -> Result<Map<String, Value>, ScimError> {
    let mut draft = Draft {
        resource,
        id: context.id,
        document: document.clone(),
        effort: Effort::of_one_request(),
    };
    for (index, operation) in operations.iter().enumerate() {
        draft
            .perform(operation)
            .map_err(|error| error.within(&place(index)))?;
    }
    document::check(resource, &draft.document)?;
    Ok(draft.document)
}

/// A document in the making.
struct Draft<'a> {
    resource: ResourceType,
    id: &'a str,
    document: Map<String, Value>,
    effort: Effort,
}

/// Where an assignment comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The `path` of an operation.
    Path,
    /// A name in a `value` without a path.
    Name,
}

impl Draft<'_> {
    fn perform(&mut self, operation: &Operation) -> Result<(), ScimError> {
        let value = operation.value.clone();
        let mode = match operation.op {
            Op::Add => Mode::Add,
            Op::Replace => Mode::Replace,
            Op::Remove => {
                let path = operation.path.as_ref().ok_or_else(no_path)?;
                return self.remove(path, value);
            }
        };
        let value = value.unwrap_or(Value::Null);
        match (&operation.path, value) {
            (Some(path), value) => {
                let resolved = resolve(self.resource, &path.attribute);
                self.assign(mode, resolved, path.filter.as_ref(), value, Origin::Path)
            }
            (None, Value::Object(entries)) => self.assign_names(mode, entries),
            (
                None,
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_),
            ) => Err(ScimError::invalid_syntax(
                "Without a 'path', 'value' must be an object of attributes.",
            )),
        }
    }

    /// Takes each name of an object as a path. Bodies are bounded in depth.
    fn assign_names(&mut self, mode: Mode, entries: Map<String, Value>) -> Result<(), ScimError> {
        for (name, value) in entries {
            let (resolved, filter) = if name.contains('[') {
                let path = Path::parse(&name)?;
                (resolve(self.resource, &path.attribute), path.filter)
            } else {
                (resolve_text(self.resource, &name), None)
            };
            self.assign(mode, resolved, filter.as_ref(), value, Origin::Name)?;
        }
        Ok(())
    }

    fn assign(
        &mut self,
        mode: Mode,
        resolved: Resolved,
        filter: Option<&Filter>,
        value: Value,
        origin: Origin,
    ) -> Result<(), ScimError> {
        match resolved {
            Resolved::Attribute(target) => {
                if self.is_writable(target, &value, origin)? {
                    self.assign_attribute(mode, target, filter, value)?;
                }
                Ok(())
            }
            Resolved::Schema(schema) => self.assign_schema(mode, schema, value),
            Resolved::Foreign(urn) => foreign::assign(&mut self.document, &urn, value),
            Resolved::ForeignAttribute(path) => {
                foreign::assign_attribute(&mut self.document, &path, value)
            }
            Resolved::Unknown => Ok(()),
        }
    }

    /// Whether an assignment is to be carried out; an error if it must not be.
    fn is_writable(
        &self,
        target: Target,
        value: &Value,
        origin: Origin,
    ) -> Result<bool, ScimError> {
        let attribute = target.attribute;
        if document::is_membership(self.resource, attribute) {
            return Err(ScimError::invalid_path(
                "'members' cannot be part of this operation.",
            ));
        }
        match attribute.mutability {
            Mutability::ReadWrite | Mutability::Immutable => Ok(true),
            Mutability::WriteOnly => Ok(false),
            Mutability::ReadOnly => {
                let ignored = match attribute.name {
                    "id" => value.as_str() == Some(self.id),
                    "schemas" => true,
                    _ => origin == Origin::Name,
                };
                if ignored {
                    Ok(false)
                } else {
                    Err(read_only(attribute))
                }
            }
        }
    }

    /// All attributes of a schema at once: of an extension, or of the core behind its own URN.
    fn assign_schema(
        &mut self,
        mode: Mode,
        schema: &'static Schema,
        value: Value,
    ) -> Result<(), ScimError> {
        let entries = match value {
            Value::Object(entries) => entries,
            Value::Null => {
                self.document.remove(schema.urn);
                return Ok(());
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(ScimError::invalid_value(format!(
                    "'{}' must be an object of attributes.",
                    schema.urn
                )));
            }
        };
        if schema.urn == self.resource.core().urn {
            return self.assign_names(mode, entries);
        }
        for (name, value) in entries {
            let Some(path) = AttributePath::parse(&name).filter(|path| path.schema.is_none())
            else {
                continue;
            };
            let qualified = AttributePath {
                schema: Some(schema.urn.to_owned()),
                ..path
            };
            let resolved = resolve(self.resource, &qualified);
            self.assign(mode, resolved, None, value, Origin::Name)?;
        }
        Ok(())
    }

    fn assign_attribute(
        &mut self,
        mode: Mode,
        target: Target,
        filter: Option<&Filter>,
        value: Value,
    ) -> Result<(), ScimError> {
        self.change(target, |current, effort| {
            let Target { attribute, sub, .. } = target;
            if attribute.multi_valued {
                let selection = Selection {
                    attribute,
                    sub,
                    filter,
                };
                return selection
                    .assign(mode, as_list(current), value, effort)
                    .map(from_list);
            }
            if filter.is_some() {
                return Err(no_elements(attribute));
            }
            match (sub, attribute.kind) {
                (Some(part), _) => assign_part(attribute, part, current, value),
                (None, AttributeType::Complex) => assign_complex(attribute, current, value),
                (None, _) => coerce::value(attribute, value, attribute.name),
            }
        })
    }

    /// Replaces the value of one attribute by what the closure makes of it, and removes it, with an
    /// extension that becomes empty, when nothing is left.
    fn change(
        &mut self,
        target: Target,
        make: impl FnOnce(Option<Value>, &mut Effort) -> Result<Option<Value>, ScimError>,
    ) -> Result<(), ScimError> {
        let attribute = target.attribute;
        let Some(schema) = target.extension else {
            let next = make(self.document.remove(attribute.name), &mut self.effort)?;
            if next.is_none() && attribute.required {
                return Err(required(attribute));
            }
            put(&mut self.document, attribute.name, next);
            return Ok(());
        };
        let mut inner = match self.document.remove(schema.urn) {
            Some(Value::Object(inner)) => inner,
            _ => Map::new(),
        };
        let next = make(inner.remove(attribute.name), &mut self.effort)?;
        put(&mut inner, attribute.name, next);
        let outer = (!inner.is_empty()).then_some(Value::Object(inner));
        put(&mut self.document, schema.urn, outer);
        Ok(())
    }

    fn remove(&mut self, path: &Path, value: Option<Value>) -> Result<(), ScimError> {
        match resolve(self.resource, &path.attribute) {
            Resolved::Attribute(target) => self.remove_attribute(target, path, value),
            Resolved::Schema(schema) if schema.urn == self.resource.core().urn => Err(
                ScimError::mutability("The core attributes cannot be removed as a whole."),
            ),
            Resolved::Schema(schema) => {
                self.document.remove(schema.urn);
                Ok(())
            }
            Resolved::Foreign(urn) => foreign::assign(&mut self.document, &urn, Value::Null),
            Resolved::ForeignAttribute(path) => {
                foreign::assign_attribute(&mut self.document, &path, Value::Null)
            }
            Resolved::Unknown => Ok(()),
        }
    }

    fn remove_attribute(
        &mut self,
        target: Target,
        path: &Path,
        value: Option<Value>,
    ) -> Result<(), ScimError> {
        let Target { attribute, sub, .. } = target;
        match attribute.mutability {
            Mutability::ReadOnly => return Err(read_only(attribute)),
            Mutability::WriteOnly => return Ok(()),
            Mutability::ReadWrite | Mutability::Immutable => {}
        }
        if attribute.required {
            return Err(required(attribute));
        }
        let filter = path.filter.as_ref();
        if filter.is_some() && !attribute.multi_valued {
            return Err(no_elements(attribute));
        }
        self.change(target, |current, effort| {
            if attribute.multi_valued {
                let selection = Selection {
                    attribute,
                    sub,
                    filter,
                };
                return selection
                    .remove(as_list(current), value, effort)
                    .map(from_list);
            }
            match sub {
                Some(part) => assign_part(attribute, part, current, Value::Null),
                None => Ok(None),
            }
        })
    }
}

fn as_list(current: Option<Value>) -> Vec<Value> {
    match current {
        Some(Value::Array(items)) => items,
        Some(one @ (Value::Object(_) | Value::String(_) | Value::Bool(_) | Value::Number(_))) => {
            vec![one]
        }
        Some(Value::Null) | None => Vec::new(),
    }
}

fn from_list(list: Vec<Value>) -> Option<Value> {
    (!list.is_empty()).then_some(Value::Array(list))
}

fn no_path() -> ScimError {
    ScimError::no_target("A 'remove' needs a 'path' that says what to remove.")
}

fn read_only(attribute: &Attribute) -> ScimError {
    ScimError::mutability(format!(
        "Attribute '{}' is read-only. Leave it out.",
        attribute.name
    ))
}

fn required(attribute: &Attribute) -> ScimError {
    ScimError::mutability(format!(
        "Attribute '{}' is required and cannot be removed. Replace it instead.",
        attribute.name
    ))
}

fn no_elements(attribute: &Attribute) -> ScimError {
    ScimError::invalid_path(format!(
        "Attribute '{}' has one value, so the path cannot have a filter.",
        attribute.name
    ))
}
