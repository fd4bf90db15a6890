//! Sets the changes of a group's membership apart from the rest of a PATCH.
//!
//! Members are rows. Adding one to a group of ten thousand must not read ten thousand, so changes
//! are handed on as what they are, in order, and never computed against the present members.
//!
//! Entra, and others too, remove members by `remove` on `members` *with a value*. By the letter of
//! RFC 7644 section 3.5.2.2 that path means all members; what they mean is the members listed.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::operation::{Op, Operation, place};
use crate::directories::membership::{self, ListedMember};
use crate::ids::ResourceId;
use crate::scim::error::ScimError;
use crate::scim::filter::{CompareOp, Filter, Literal, eval, path::Path};
use crate::scim::schema::attribute::Attribute;
use crate::scim::schema::document::{self, MemberValue, member_values};
use crate::scim::schema::{
    Resolved, ResourceType, Target, coerce, group as group_schema, resolve, resolve_text,
};

/// One change of a group's membership.
#[derive(Debug, Clone, PartialEq)]
pub enum MemberChange {
    /// Adds those that are not members yet.
    Add(Vec<MemberValue>),
    /// Removes those with these ids that are members.
    Remove(Vec<String>),
    /// Removes all.
    RemoveAll,
    /// Leaves exactly these.
    Replace(Vec<MemberValue>),
    /// Removes those that match; see [`matches()`].
    RemoveMatching(Filter),
}

/// A PATCH of a group, in two parts that do not depend on each other.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPatch {
    /// What concerns the group's own document.
    pub document: Vec<Operation>,
    /// What concerns its members, in order.
    pub members: Vec<MemberChange>,
}

/// Splits the operations on a group.
pub fn group(operations: Vec<Operation>) -> Result<GroupPatch, ScimError> {
    let mut patch = GroupPatch {
        document: Vec::new(),
        members: Vec::new(),
    };
    for (index, operation) in operations.into_iter().enumerate() {
        split(operation, &mut patch).map_err(|error| error.within(&place(index)))?;
    }
    Ok(patch)
}

/// Whether a member, as an object with `value`, `type` and `display`, matches the filter of a
/// [`MemberChange::RemoveMatching`].
pub fn matches(filter: &Filter, member: &Value) -> bool {
    let attribute = group_schema::SCHEMA.find(group_schema::MEMBERS);
    attribute.is_some_and(|attribute| eval::element_matches(filter, attribute, member))
}

impl MemberChange {
    /// The change as the directory makes it.
    pub fn of_rows(self) -> membership::Change {
        match self {
            Self::Add(members) => membership::Change::Add(known(members)),
            Self::Remove(ids) => {
                let ids = ids.iter().filter_map(|id| ResourceId::parse(id));
                membership::Change::Remove(ids.collect())
            }
            Self::RemoveAll => membership::Change::Replace(Vec::new()),
            Self::Replace(members) => membership::Change::Replace(known(members)),
            Self::RemoveMatching(filter) => {
                membership::Change::RemoveMatching(Arc::new(move |member| {
                    matches(&filter, &element(member))
                }))
            }
        }
    }
}

/// The members that could be ours; an id that is none of ours names nobody and is left out.
pub fn known(members: Vec<MemberValue>) -> Vec<membership::Member> {
    let known = members.into_iter().filter_map(|member| {
        Some(membership::Member {
            id: ResourceId::parse(&member.value)?,
            display: member.display,
        })
    });
    known.collect()
}

/// A member as a filter sees it.
fn element(member: &ListedMember) -> Value {
    json!({
        "value": member.id.to_string(),
        "type": ResourceType::from(member.kind).name(),
        "display": member.display,
    })
}

fn split(operation: Operation, patch: &mut GroupPatch) -> Result<(), ScimError> {
    let Operation { op, path, value } = operation;
    match (path, value) {
        (Some(path), value) => match membership(&resolve(ResourceType::Group, &path.attribute)) {
            Some(target) => patch
                .members
                .extend(change(op, target, path.filter, value)?),
            None => patch.document.push(Operation {
                op,
                path: Some(path),
                value,
            }),
        },
        (None, Some(Value::Object(entries))) => {
            let rest = take_members(op, entries, patch)?;
            if !rest.is_empty() {
                let value = Some(Value::Object(rest));
                patch.document.push(Operation {
                    op,
                    path: None,
                    value,
                });
            }
        }
        (None, value) => patch.document.push(Operation {
            op,
            path: None,
            value,
        }),
    }
    Ok(())
}

fn membership(resolved: &Resolved) -> Option<Target> {
    let Resolved::Attribute(target) = *resolved else {
        return None;
    };
    document::is_membership(ResourceType::Group, target.attribute).then_some(target)
}

/// Takes the names that mean `members` out of a value without a path; what is left is returned.
/// Names may stand inside the URN of the core schema. Bodies are bounded in depth.
fn take_members(
    op: Op,
    entries: Map<String, Value>,
    patch: &mut GroupPatch,
) -> Result<Map<String, Value>, ScimError> {
    let mut rest = Map::new();
    for (name, value) in entries {
        let (resolved, filter) = if name.contains('[') {
            let path = Path::parse(&name)?;
            (resolve(ResourceType::Group, &path.attribute), path.filter)
        } else {
            (resolve_text(ResourceType::Group, &name), None)
        };
        match (resolved, value) {
            (Resolved::Schema(_), Value::Object(inner)) => {
                rest.insert(name, Value::Object(take_members(op, inner, patch)?));
            }
            (resolved, value) => match membership(&resolved) {
                Some(target) => patch
                    .members
                    .extend(change(op, target, filter, Some(value))?),
                None => {
                    rest.insert(name, value);
                }
            },
        }
    }
    Ok(rest)
}

/// The change that one operation on `members` makes; `None` when it makes none.
fn change(
    op: Op,
    target: Target,
    filter: Option<Filter>,
    value: Option<Value>,
) -> Result<Option<MemberChange>, ScimError> {
    match target.sub.map(|sub| sub.name) {
        None => {}
        Some("value") if filter.is_none() => {}
        Some("display") => return Ok(None),
        Some(_) => return Err(settled()),
    }
    if let Some(filter) = filter {
        return filtered(op, target.attribute, filter).map(Some);
    }
    let value = value.unwrap_or(Value::Null);
    let means_all = coerce::is_nothing(&value);
    let members = member_values(value)?;
    Ok(match op {
        Op::Remove if means_all => Some(MemberChange::RemoveAll),
        Op::Add | Op::Remove if members.is_empty() => None,
        Op::Add => Some(MemberChange::Add(members)),
        Op::Replace => Some(MemberChange::Replace(members)),
        Op::Remove => Some(MemberChange::Remove(
            members.into_iter().map(|member| member.value).collect(),
        )),
    })
}

/// The change of an operation on `members[…]`.
fn filtered(
    op: Op,
    attribute: &'static Attribute,
    filter: Filter,
) -> Result<MemberChange, ScimError> {
    eval::check_parts(&filter, attribute)?;
    let ids = listed_ids(&filter);
    match (op, ids) {
        (Op::Remove, Some(ids)) => Ok(MemberChange::Remove(ids)),
        (Op::Remove, None) => Ok(MemberChange::RemoveMatching(filter)),
        (Op::Add, Some(ids)) => {
            let member = |value| MemberValue {
                value,
                display: None,
            };
            Ok(MemberChange::Add(ids.into_iter().map(member).collect()))
        }
        (Op::Add | Op::Replace, _) => Err(settled()),
    }
}

/// The ids that a filter names, if it is `value eq "…"`, or several of them joined by `or`.
fn listed_ids(filter: &Filter) -> Option<Vec<String>> {
    match filter {
        Filter::Compare {
            path,
            op: CompareOp::Eq,
            value: Literal::Text(id),
        } if path.name.eq_ignore_ascii_case("value") => Some(vec![id.clone()]),
        Filter::Or(operands) => {
            let lists: Option<Vec<Vec<String>>> = operands.iter().map(listed_ids).collect();
            lists.map(|lists| lists.concat())
        }
        Filter::Compare { .. }
        | Filter::And(_)
        | Filter::Not(_)
        | Filter::Present { .. }
        | Filter::ValuePath { .. } => None,
    }
}

fn settled() -> ScimError {
    ScimError::mutability("A member cannot be changed once it is there. Remove it and add another.")
}
