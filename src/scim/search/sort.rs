//! The order of a list (RFC 7644 section 3.4.2.3).
//!
//! Texts are compared as filters compare them: folded, unless the attribute respects case. A
//! multi-valued attribute counts by its primary value, else by its first. Who has no value comes last,
//! and first when the order is descending. Equal ones are told apart by kind and id, so that every order
//! is total and pages never overlap.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::directories::query::{Order, OrderBy, ResourceKind};
use crate::ids::ResourceId;
use crate::keys::fold;
use crate::scim::error::ScimError;
use crate::scim::schema::{Attribute, AttributeType, Resolved, ResourceType, Target, resolve_text};

/// By what a list is ordered, and which way.
#[derive(Clone, Copy, Debug)]
pub(in crate::scim) struct Sort {
    /// What is compared, for each kind of resource that has it.
    users: Option<Target>,
    groups: Option<Target>,
    is_descending: bool,
}

impl Sort {
    /// Reads `sortBy` and `sortOrder`; `None` if nothing is to be sorted.
    pub(super) fn read(
        by: Option<&str>,
        order: Option<&str>,
        kinds: &[ResourceType],
    ) -> Result<Option<Self>, ScimError> {
        let is_descending = match order.map(str::trim).filter(|order| !order.is_empty()) {
            None => false,
            Some(order) if order.eq_ignore_ascii_case("ascending") => false,
            Some(order) if order.eq_ignore_ascii_case("descending") => true,
            Some(_) => {
                return Err(ScimError::invalid_value(
                    "'sortOrder' must be 'ascending' or 'descending'.",
                ));
            }
        };
        let Some(by) = by.map(str::trim).filter(|by| !by.is_empty()) else {
            return Ok(None);
        };
        let find = |kind| {
            let is_asked = kinds.contains(&kind);
            is_asked.then(|| comparable(kind, by)).flatten()
        };
        let sort = Self {
            users: find(ResourceType::User),
            groups: find(ResourceType::Group),
            is_descending,
        };
        if sort.users.is_none() && sort.groups.is_none() {
            return Err(ScimError::invalid_value(
                "'sortBy' must name an attribute with a simple value, such as userName or \
                 name.familyName.",
            ));
        }
        Ok(Some(sort))
    }

    /// The order of an index that says the same for one kind of resource.
    pub(super) fn by_index(&self, kind: ResourceType) -> Option<Order> {
        let target = self.target(kind)?;
        let by = match (kind, target.attribute.name) {
            (_, "id") => OrderBy::Id,
            (ResourceType::User, "userName") | (ResourceType::Group, "displayName") => {
                OrderBy::Name
            }
            _ => return None,
        };
        (target.extension.is_none()).then_some(Order {
            by,
            is_descending: self.is_descending,
        })
    }

    /// What a resource is compared by; `None` if it has no value.
    pub(super) fn key(&self, kind: ResourceType, resource: &Map<String, Value>) -> Option<SortKey> {
        let target = self.target(kind)?;
        let holder = match target.extension {
            Some(schema) => resource.get(schema.urn)?.as_object()?,
            None => resource,
        };
        let whole = holder.get(target.attribute.name)?;
        let one = match whole.as_array() {
            Some(items) => items
                .iter()
                .find(|item| item.get("primary") == Some(&Value::Bool(true)))
                .or_else(|| items.first())?,
            None => whole,
        };
        let leaf = target.leaf()?;
        let value = if target.attribute.kind == AttributeType::Complex {
            one.get(leaf.name)?
        } else {
            one
        };
        SortKey::of(leaf, value)
    }

    /// Compares two spots as this order has them.
    pub(super) fn compare(&self, left: &Spot, right: &Spot) -> Ordering {
        let ascending = match (&left.key, &right.key) {
            (Some(left), Some(right)) => left.compare(right),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        let ascending = ascending.then_with(|| unsorted(left, right));
        if self.is_descending {
            ascending.reverse()
        } else {
            ascending
        }
    }

    /// Whether the order depends on the attribute called `name`.
    pub(super) fn mentions(&self, name: &str) -> bool {
        [self.users, self.groups]
            .into_iter()
            .flatten()
            .any(|target| target.attribute.name == name)
    }

    fn target(&self, kind: ResourceType) -> Option<Target> {
        match kind {
            ResourceType::User => self.users,
            ResourceType::Group => self.groups,
        }
    }
}

/// Users before groups, then by id: the order of a list that nothing else orders.
pub(super) fn unsorted(left: &Spot, right: &Spot) -> Ordering {
    (left.kind, left.id).cmp(&(right.kind, right.id))
}

fn comparable(kind: ResourceType, name: &str) -> Option<Target> {
    match resolve_text(kind, name) {
        Resolved::Attribute(target) => target.leaf().map(|_| target),
        Resolved::Schema(_)
        | Resolved::Foreign(_)
        | Resolved::ForeignAttribute(_)
        | Resolved::Unknown => None,
    }
}

/// Where a resource stands in a list.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::scim) struct Spot {
    /// Users or groups.
    pub(super) kind: ResourceKind,
    /// What it is ordered by, if the list is.
    pub(super) key: Option<SortKey>,
    /// Its id.
    pub(super) id: ResourceId,
}

/// A value that a list is ordered by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum SortKey {
    /// A text, folded if case does not count.
    Text(String),
    /// A boolean.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// An instant.
    Instant(DateTime<Utc>),
}

impl SortKey {
    fn of(attribute: &Attribute, value: &Value) -> Option<Self> {
        match value {
            Value::Bool(flag) => Some(Self::Boolean(*flag)),
            Value::Number(number) => number.as_f64().map(Self::Number),
            Value::String(text) if attribute.kind == AttributeType::DateTime => {
                let instant = DateTime::parse_from_rfc3339(text).ok()?;
                Some(Self::Instant(instant.to_utc()))
            }
            Value::String(text) if attribute.case_exact => Some(Self::Text(text.clone())),
            Value::String(text) => Some(Self::Text(fold(text))),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            (Self::Boolean(left), Self::Boolean(right)) => left.cmp(right),
            (Self::Number(left), Self::Number(right)) => left.total_cmp(right),
            (Self::Instant(left), Self::Instant(right)) => left.cmp(right),
            // One attribute's values are of one sort; a cursor made by somebody else may mix them.
            (left, right) => left.rank().cmp(&right.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Text(_) => 0,
            Self::Boolean(_) => 1,
            Self::Number(_) => 2,
            Self::Instant(_) => 3,
        }
    }
}
