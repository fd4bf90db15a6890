//! What is in a resource under a name, and how resources are ordered by it: the plain way, to hold the
//! server against.

use std::cmp::Ordering;

use rollcall::keys::fold;
use serde_json::Value;

use crate::support::people::ENTERPRISE;

/// Names to order by, and whether case counts.
pub(super) const ORDERS: &[(&str, bool)] = &[
    ("userName", false),
    ("displayName", false),
    ("externalId", true),
    ("id", true),
    ("title", false),
    ("name.familyName", false),
    ("nickName", false),
    ("emails", false),
    ("emails.type", false),
    ("roles.value", false),
    ("addresses.locality", false),
    ("groups.display", false),
    ("members", true),
    ("members.display", false),
    ("active", true),
    ("meta.created", true),
    ("meta.lastModified", true),
    ("meta.version", true),
    (
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
        false,
    ),
    ("manager", true),
];

/// The object that holds a name, and the name without its URN.
fn holder<'v, 'n>(resource: &'v Value, name: &'n str) -> (&'v Value, &'n str) {
    let (urn, bare) = name.rsplit_once(':').unwrap_or(("", name));
    let is_extension = urn == ENTERPRISE || bare.split('.').next() == Some("manager");
    let whole = if is_extension {
        &resource[ENTERPRISE]
    } else {
        resource
    };
    (whole, bare)
}

fn entry<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    let entries = object.as_object()?;
    let mut found = entries
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value)
}

/// The elements of an attribute.
fn elements<'v>(resource: &'v Value, name: &str) -> Vec<&'v Value> {
    let (whole, bare) = holder(resource, name);
    let first = bare.split('.').next().unwrap_or(bare);
    match entry(whole, first) {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    }
}

/// The part of an element that is meant: the one named, else its `value`.
fn part<'v>(element: &'v Value, name: &str) -> Option<&'v Value> {
    let bare = name.rsplit(':').next().unwrap_or(name);
    match bare.split_once('.') {
        Some((_, sub)) => entry(element, sub),
        None if element.is_object() => entry(element, "value"),
        None => Some(element),
    }
}

/// All values under a name.
pub(super) fn values<'v>(resource: &'v Value, name: &str) -> Vec<&'v Value> {
    let elements = elements(resource, name).into_iter();
    elements.filter_map(|element| part(element, name)).collect()
}

/// What a resource is ordered by: of several values the primary one, else the first.
fn key(resource: &Value, (name, is_exact): (&str, bool)) -> Option<String> {
    let elements = elements(resource, name);
    let primary = elements.iter().find(|element| element["primary"] == true);
    match part(primary.or_else(|| elements.first())?, name)? {
        Value::String(text) if is_exact => Some(text.clone()),
        Value::String(text) => Some(fold(text)),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => Some(other.to_string()),
    }
}

/// Orders resources; who has no value comes last, and equal ones are told apart by kind and id.
pub(super) fn order(resources: &mut [&Value], by: Option<(&str, bool)>, is_descending: bool) {
    let identity = |resource: &Value| {
        let kind = resource["meta"]["resourceType"] == "Group";
        (kind, resource["id"].as_str().unwrap_or_default().to_owned())
    };
    resources.sort_by(|left, right| {
        let by_key = by.map_or(Ordering::Equal, |by| {
            let (left, right) = (key(left, by), key(right, by));
            left.is_none().cmp(&right.is_none()).then(left.cmp(&right))
        });
        let ascending = by_key.then_with(|| identity(left).cmp(&identity(right)));
        if is_descending && by.is_some() {
            ascending.reverse()
        } else {
            ascending
        }
    });
}
