//! Decides whether a filter matches a document.
//!
//! Comparison follows the schema. Texts are compared without case, by [`crate::keys`], unless the
//! attribute is `caseExact`; dates as instants; booleans only for equality. A comparison that the
//! type forbids is `invalidFilter`, and [`check`] finds it without any document, so the answer does
//! not depend on who is in the directory.
//!
//! - An attribute that nobody knows has no value: it matches nothing, and is not present. Those of an
//!   extension that is kept without knowing it are compared by the type of the literal.
//! - A complex attribute stands for its `value` (`emails co "x"`, `manager eq "26"`).
//! - A multi-valued attribute matches when one of its elements does.
//! - `ne` is true of an attribute without a value; `eq null` is the opposite of `pr`.

use std::cmp::Ordering;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value};

use super::{AttributePath, CompareOp, Filter, Literal};
use crate::keys;
use crate::scim::error::ScimError;
use crate::scim::schema::{
    Attribute, AttributeType, Resolved, ResourceType, Schema, Target, coerce, resolve,
};

/// Whether a document matches. The document may be a stored one or a rendered resource with `id`
/// and `meta`; what it does not hold counts as absent.
pub fn matches(
    filter: &Filter,
    resource: ResourceType,
    document: &Map<String, Value>,
) -> Result<bool, ScimError> {
    check(filter, resource)?;
    Ok(holds(filter, Scope::Resource(resource), document))
}

/// Refuses comparisons that the types of the attributes forbid.
pub fn check(filter: &Filter, resource: ResourceType) -> Result<(), ScimError> {
    check_in(filter, Scope::Resource(resource))
}

/// The same for a filter between the brackets of a path, on the parts of an attribute.
pub fn check_parts(filter: &Filter, attribute: &'static Attribute) -> Result<(), ScimError> {
    check_in(filter, Scope::Parts(attribute))
}

/// Whether one element of a multi-valued attribute matches a filter that [`check_parts`] passed.
pub fn element_matches(filter: &Filter, attribute: &'static Attribute, element: &Value) -> bool {
    element
        .as_object()
        .is_some_and(|parts| holds(filter, Scope::Parts(attribute), parts))
}

/// What the names in a filter refer to.
#[derive(Clone, Copy)]
enum Scope {
    Resource(ResourceType),
    Parts(&'static Attribute),
}

impl Scope {
    fn find(self, path: &AttributePath) -> Option<Target> {
        match self {
            Self::Resource(resource) => match resolve(resource, path) {
                Resolved::Attribute(target) => Some(target),
                Resolved::Schema(_)
                | Resolved::Foreign(_)
                | Resolved::ForeignAttribute(_)
                | Resolved::Unknown => None,
            },
            Self::Parts(attribute) => {
                let part = attribute.find_part(&path.name)?;
                let plain = path.schema.is_none() && path.sub.is_none();
                plain.then_some(Target {
                    extension: None,
                    attribute: part,
                    sub: None,
                })
            }
        }
    }

    /// The values of an attribute of an extension that is kept without knowing its attributes; `None`
    /// if the path names something else.
    fn find_foreign<'v>(
        self,
        path: &AttributePath,
        parts: &'v Map<String, Value>,
    ) -> Option<Vec<&'v Value>> {
        let named = |map: &'v Map<String, Value>, name: &str| {
            map.iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        };
        let found = match self {
            Self::Parts(_) => return None,
            Self::Resource(resource) => match resolve(resource, path) {
                Resolved::Foreign(urn) => named(parts, &urn),
                Resolved::ForeignAttribute(path) => path
                    .schema
                    .as_ref()
                    .and_then(|urn| named(parts, urn)?.as_object())
                    .and_then(|extension| named(extension, &path.name)),
                Resolved::Attribute(_) | Resolved::Schema(_) | Resolved::Unknown => return None,
            },
        };
        let elements: Vec<&Value> = match found {
            Some(Value::Array(items)) => items.iter().collect(),
            Some(one) => vec![one],
            None => Vec::new(),
        };
        let part = path.sub.as_deref().unwrap_or("value");
        let values = elements.into_iter().filter_map(|element| match element {
            Value::Object(inner) => named(inner, part).or(path.sub.is_none().then_some(element)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => path.sub.is_none().then_some(element),
        });
        Some(values.collect())
    }

    /// The extension that a name stands for as a whole.
    fn find_extension(self, path: &AttributePath) -> Option<&'static Schema> {
        let Self::Resource(resource) = self else {
            return None;
        };
        let Resolved::Schema(schema) = resolve(resource, path) else {
            return None;
        };
        (schema.urn != resource.core().urn).then_some(schema)
    }
}

/// An attribute of an extension that nobody has described is of whatever type it is compared with; its
/// texts are compared without case, as texts are unless a schema says otherwise.
fn foreign(literal: &Literal) -> &'static Attribute {
    static TEXT: Attribute = Attribute::undescribed(AttributeType::String);
    static NUMBER: Attribute = Attribute::undescribed(AttributeType::Decimal);
    static BOOLEAN: Attribute = Attribute::undescribed(AttributeType::Boolean);
    match literal {
        Literal::Text(_) | Literal::Null => &TEXT,
        Literal::Number(_) => &NUMBER,
        Literal::Boolean(_) => &BOOLEAN,
    }
}

fn check_in(filter: &Filter, scope: Scope) -> Result<(), ScimError> {
    match filter {
        Filter::And(operands) | Filter::Or(operands) => operands
            .iter()
            .try_for_each(|operand| check_in(operand, scope)),
        Filter::Not(inner) => check_in(inner, scope),
        Filter::Present { .. } => Ok(()),
        Filter::Compare { path, op, value } => match scope.find(path) {
            Some(target) => check_comparison(path, target.leaf(), *op, value),
            None => Ok(()),
        },
        Filter::ValuePath { path, filter } => match scope.find(path) {
            Some(Target {
                attribute,
                sub: None,
                ..
            }) if attribute.kind == AttributeType::Complex => {
                check_in(filter, Scope::Parts(attribute))
            }
            Some(_) => Err(ScimError::invalid_filter(format!(
                "Attribute '{path}' has no parts, so it cannot have a filter in brackets."
            ))),
            None => Ok(()),
        },
    }
}

fn check_comparison(
    path: &AttributePath,
    leaf: Option<&Attribute>,
    op: CompareOp,
    literal: &Literal,
) -> Result<(), ScimError> {
    use CompareOp::{Co, Eq, Ew, Ge, Gt, Le, Lt, Ne, Sw};
    let Some(leaf) = leaf else {
        return Err(ScimError::invalid_filter(format!(
            "Attribute '{path}' is complex and cannot be compared. Name one of its parts."
        )));
    };
    let equality = matches!(op, Eq | Ne);
    let within_text = matches!(op, Co | Sw | Ew);
    let order = matches!(op, Gt | Ge | Lt | Le);
    let allowed = match (leaf.kind, literal) {
        (_, Literal::Null) => equality,
        (AttributeType::Boolean, literal) => equality && as_boolean(literal).is_some(),
        (AttributeType::DateTime, Literal::Text(text)) => !within_text && instant(text).is_some(),
        (AttributeType::Decimal | AttributeType::Integer, Literal::Number(_)) => !within_text,
        (AttributeType::Binary, Literal::Text(_)) => !order,
        (AttributeType::String | AttributeType::Reference, _) => true,
        (
            AttributeType::DateTime
            | AttributeType::Decimal
            | AttributeType::Integer
            | AttributeType::Binary
            | AttributeType::Complex,
            _,
        ) => false,
    };
    if allowed {
        return Ok(());
    }
    Err(ScimError::invalid_filter(format!(
        "Attribute '{path}' is {}: it cannot be compared with {literal} by '{}'.",
        leaf.kind.expectation(),
        op.as_str()
    )))
}

fn holds(filter: &Filter, scope: Scope, parts: &Map<String, Value>) -> bool {
    match filter {
        Filter::And(operands) => operands.iter().all(|operand| holds(operand, scope, parts)),
        Filter::Or(operands) => operands.iter().any(|operand| holds(operand, scope, parts)),
        Filter::Not(inner) => !holds(inner, scope, parts),
        Filter::Present { path } => match scope.find(path) {
            Some(target) => is_present(target, parts),
            None => scope.find_extension(path).map_or_else(
                || {
                    let found = scope.find_foreign(path, parts).unwrap_or_default();
                    found.into_iter().any(is_filled)
                },
                |schema| parts.contains_key(schema.urn),
            ),
        },
        Filter::Compare { path, op, value } => match scope.find(path) {
            Some(target) => target
                .leaf()
                .is_some_and(|leaf| compares(leaf, &values(target, parts), *op, value)),
            None => scope
                .find_foreign(path, parts)
                .is_some_and(|found| compares(foreign(value), &found, *op, value)),
        },
        Filter::ValuePath { path, filter } => scope.find(path).is_some_and(|target| {
            let inner = Scope::Parts(target.attribute);
            let mut elements = elements(target, parts).filter_map(Value::as_object);
            elements.any(|element| holds(filter, inner, element))
        }),
    }
}

/// The elements of an attribute; of a single-valued one, the value.
fn elements(target: Target, parts: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let holder = match target.extension {
        Some(schema) => parts.get(schema.urn).and_then(Value::as_object),
        None => Some(parts),
    };
    let whole = holder.and_then(|holder| holder.get(target.attribute.name));
    let (many, one) = match whole {
        Some(Value::Array(items)) => (items.as_slice(), None),
        other => ([].as_slice(), other),
    };
    many.iter().chain(one)
}

/// The values that a comparison looks at.
fn values(target: Target, parts: &Map<String, Value>) -> Vec<&Value> {
    let part = match target.attribute.kind {
        AttributeType::Complex => target.sub.or_else(|| target.attribute.value_part()),
        AttributeType::String
        | AttributeType::Boolean
        | AttributeType::Decimal
        | AttributeType::Integer
        | AttributeType::DateTime
        | AttributeType::Reference
        | AttributeType::Binary => None,
    };
    elements(target, parts)
        .filter_map(|element| part.map_or(Some(element), |part| element.get(part.name)))
        .filter(|value| !value.is_null())
        .collect()
}

fn is_present(target: Target, parts: &Map<String, Value>) -> bool {
    if target.sub.is_some() {
        return values(target, parts).into_iter().any(is_filled);
    }
    elements(target, parts).any(is_filled)
}

/// RFC 7644 calls an attribute present when it has a non-empty value.
fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(parts) => !parts.is_empty(),
    }
}

fn compares(leaf: &Attribute, values: &[&Value], op: CompareOp, literal: &Literal) -> bool {
    let mut values = values.iter();
    match (op, literal) {
        (CompareOp::Eq, Literal::Null) => values.len() == 0,
        (CompareOp::Ne, Literal::Null) => values.len() > 0,
        (CompareOp::Ne, _) => {
            values.len() == 0 || values.any(|value| !passes(leaf, value, CompareOp::Eq, literal))
        }
        (
            CompareOp::Eq
            | CompareOp::Co
            | CompareOp::Sw
            | CompareOp::Ew
            | CompareOp::Gt
            | CompareOp::Ge
            | CompareOp::Lt
            | CompareOp::Le,
            _,
        ) => values.any(|value| passes(leaf, value, op, literal)),
    }
}

/// Whether one value passes one comparison.
fn passes(leaf: &Attribute, value: &Value, op: CompareOp, literal: &Literal) -> bool {
    let compared = match leaf.kind {
        AttributeType::Boolean => value
            .as_bool()
            .zip(as_boolean(literal))
            .map(|(value, literal)| value.cmp(&literal)),
        AttributeType::Decimal | AttributeType::Integer => compare_numbers(value, literal),
        AttributeType::DateTime => compare_instants(value, literal),
        AttributeType::String
        | AttributeType::Reference
        | AttributeType::Binary
        | AttributeType::Complex => {
            return value
                .as_str()
                .is_some_and(|text| passes_as_text(text, op, &as_text(literal), leaf.case_exact));
        }
    };
    compared.is_some_and(|order| is_in_order(op, order))
}

fn is_in_order(op: CompareOp, order: Ordering) -> bool {
    match op {
        CompareOp::Eq => order.is_eq(),
        CompareOp::Ne => order.is_ne(),
        CompareOp::Gt => order.is_gt(),
        CompareOp::Ge => order.is_ge(),
        CompareOp::Lt => order.is_lt(),
        CompareOp::Le => order.is_le(),
        CompareOp::Co | CompareOp::Sw | CompareOp::Ew => false,
    }
}

fn compare_numbers(value: &Value, literal: &Literal) -> Option<Ordering> {
    let Literal::Number(number) = literal else {
        return None;
    };
    if let (Some(left), Some(right)) = (value.as_i64(), number.as_i64()) {
        return Some(left.cmp(&right));
    }
    value.as_f64()?.partial_cmp(&number.as_f64()?)
}

fn compare_instants(value: &Value, literal: &Literal) -> Option<Ordering> {
    let Literal::Text(text) = literal else {
        return None;
    };
    Some(instant(value.as_str()?)?.cmp(&instant(text)?))
}

/// Reads an instant. `xsd:dateTime`, which RFC 7643 section 2.3.5 refers to, may lack the offset
/// that RFC 3339 wants; such a literal is taken as UTC.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(instant.to_utc());
    }
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    Some(local.and_utc())
}

fn passes_as_text(value: &str, op: CompareOp, literal: &str, exact: bool) -> bool {
    if !exact && op == CompareOp::Eq {
        return keys::equal(value, literal);
    }
    if exact {
        return passes_as_exact_text(value, op, literal);
    }
    passes_as_exact_text(&keys::fold(value), op, &keys::fold(literal))
}

fn passes_as_exact_text(value: &str, op: CompareOp, literal: &str) -> bool {
    match op {
        CompareOp::Co => value.contains(literal),
        CompareOp::Sw => value.starts_with(literal),
        CompareOp::Ew => value.ends_with(literal),
        CompareOp::Eq
        | CompareOp::Ne
        | CompareOp::Gt
        | CompareOp::Ge
        | CompareOp::Lt
        | CompareOp::Le => is_in_order(op, value.cmp(literal)),
    }
}

fn as_boolean(literal: &Literal) -> Option<bool> {
    match literal {
        Literal::Boolean(flag) => Some(*flag),
        Literal::Text(text) => coerce::boolean(&Value::from(text.as_str()))?.as_bool(),
        Literal::Null | Literal::Number(_) => None,
    }
}

/// The text a literal stands for, so that `employeeNumber eq 7` finds the text `7`.
fn as_text(literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => text.clone(),
        Literal::Null | Literal::Boolean(_) | Literal::Number(_) => literal.to_string(),
    }
}
