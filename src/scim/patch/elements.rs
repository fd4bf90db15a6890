//! The rules of PATCH for multi-valued attributes: which elements an operation touches, when it
//! makes one, and what becomes of `primary`.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::effort::Effort;
use crate::scim::error::ScimError;
use crate::scim::filter::eval;
use crate::scim::filter::{CompareOp, Filter, Literal};
use crate::scim::schema::coerce::{self, Identity};
use crate::scim::schema::{Attribute, AttributeType};

/// Whether an assignment keeps the elements that it does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// `add`.
    Add,
    /// `replace`.
    Replace,
}

/// One multi-valued attribute, and the part and the elements of it that a path names.
#[derive(Clone, Copy)]
pub(super) struct Selection<'a> {
    pub(super) attribute: &'static Attribute,
    pub(super) sub: Option<&'static Attribute>,
    pub(super) filter: Option<&'a Filter>,
}

impl Selection<'_> {
    fn path(&self) -> String {
        match self.sub {
            Some(sub) => format!("{}.{}", self.attribute.name, sub.name),
            None => self.attribute.name.to_owned(),
        }
    }

    /// The elements the filter selects; without a filter, all of them.
    fn find(&self, list: &[Value]) -> Result<Vec<usize>, ScimError> {
        let Some(filter) = self.filter else {
            return Ok((0..list.len()).collect());
        };
        if self.attribute.kind != AttributeType::Complex {
            return Err(ScimError::invalid_path(format!(
                "Attribute '{}' has no parts, so it cannot have a filter in brackets.",
                self.attribute.name
            )));
        }
        eval::check_parts(filter, self.attribute)?;
        let numbered = list.iter().enumerate();
        let selected =
            numbered.filter(|(_, element)| eval::element_matches(filter, self.attribute, element));
        Ok(selected.map(|(index, _)| index).collect())
    }

    /// Pays for one look at every element, for each comparison of the filter, and for the search
    /// for each element that the operation lists.
    fn pay(
        &self,
        list: &[Value],
        value: Option<&Value>,
        effort: &mut Effort,
    ) -> Result<(), ScimError> {
        let comparisons = self.filter.map_or(0, Filter::comparisons);
        effort.spend_on_list(list, comparisons + 1)?;
        let listed = value.and_then(Value::as_array).map_or(1, Vec::len);
        effort.spend_on_pairs(listed, list.len())
    }

    /// Performs an `add` or a `replace` on the elements there are now.
    pub(super) fn assign(
        &self,
        mode: Mode,
        mut list: Vec<Value>,
        value: Value,
        effort: &mut Effort,
    ) -> Result<Vec<Value>, ScimError> {
        self.pay(&list, Some(&value), effort)?;
        let touched = match (self.filter, self.sub, mode) {
            (None, None, Mode::Add) => self.append(&mut list, value)?,
            (None, None, Mode::Replace) => {
                list = coerce::elements(self.attribute, value, &self.path())?;
                Vec::new()
            }
            (_, Some(sub), _) => self.assign_part(mode, &mut list, sub, value)?,
            (Some(filter), None, _) => self.assign_elements(mode, &mut list, filter, value)?,
        };
        let chosen = touched
            .into_iter()
            .find(|index| list.get(*index).is_some_and(coerce::is_primary));
        if let Some(chosen) = chosen {
            coerce::make_only_primary(&mut list, chosen);
        }
        tidy(&mut list);
        coerce::check_length(list.len(), &self.path())?;
        Ok(list)
    }

    /// Performs a `remove`. A value, where one is given, lists the elements to remove: Entra and
    /// others send it so for every multi-valued attribute.
    pub(super) fn remove(
        &self,
        mut list: Vec<Value>,
        value: Option<Value>,
        effort: &mut Effort,
    ) -> Result<Vec<Value>, ScimError> {
        self.pay(&list, value.as_ref(), effort)?;
        let selected = self.find(&list)?;
        if let Some(sub) = self.sub {
            for index in selected {
                set_part(list.get_mut(index), sub, None);
            }
            tidy(&mut list);
            return Ok(list);
        }
        match value.filter(|value| self.filter.is_none() && !coerce::is_nothing(value)) {
            Some(value) => {
                let listed = coerce::elements(self.attribute, value, &self.path())?;
                list.retain(|element| !listed.iter().any(|given| is_contained(given, element)));
            }
            None => retain_others(&mut list, &selected),
        }
        Ok(list)
    }

    /// Appends what is not there yet; returns where the given elements are now.
    fn append(&self, list: &mut Vec<Value>, value: Value) -> Result<Vec<usize>, ScimError> {
        let given = coerce::elements(self.attribute, value, &self.path())?;
        let mut places: HashMap<Identity, usize> = HashMap::new();
        for (index, element) in list.iter().enumerate() {
            places.entry(coerce::identity(element)).or_insert(index);
        }
        let mut touched = Vec::with_capacity(given.len());
        for element in given {
            let identity = coerce::identity(&element);
            let known = match &identity {
                Identity::Labelled(None, value) => position_of_value(list, value),
                Identity::Labelled(Some(_), _) | Identity::Whole(_) => {
                    places.get(&identity).copied()
                }
            };
            if let Some(index) = known {
                merge(list.get_mut(index), element);
                touched.push(index);
            } else {
                places.insert(identity, list.len());
                touched.push(list.len());
                list.push(element);
            }
        }
        Ok(touched)
    }

    /// Sets one part of the selected elements, or of one element made for it.
    fn assign_part(
        &self,
        mode: Mode,
        list: &mut Vec<Value>,
        sub: &'static Attribute,
        value: Value,
    ) -> Result<Vec<usize>, ScimError> {
        let kept = coerce::value(sub, value, &self.path())?;
        let selected = self.find(list)?;
        if !selected.is_empty() {
            for index in &selected {
                set_part(list.get_mut(*index), sub, kept.clone());
            }
            return Ok(selected);
        }
        let mut parts = match self.filter {
            Some(filter) => self.template(mode, filter)?,
            None => Map::new(),
        };
        let Some(kept) = kept else {
            return Ok(Vec::new());
        };
        parts.insert(sub.name.to_owned(), kept);
        list.push(Value::Object(parts));
        Ok(vec![list.len() - 1])
    }

    /// Sets the selected elements as wholes, or makes one.
    fn assign_elements(
        &self,
        mode: Mode,
        list: &mut Vec<Value>,
        filter: &Filter,
        value: Value,
    ) -> Result<Vec<usize>, ScimError> {
        let selected = self.find(list)?;
        let mut given = coerce::elements(self.attribute, value, &self.path())?.into_iter();
        let (one, more) = (given.next(), given.next());
        if more.is_some() {
            return Err(ScimError::invalid_value(format!(
                "A path with a filter on '{}' takes one value, not several.",
                self.attribute.name
            )));
        }
        let Some(element) = one else {
            retain_others(list, &selected);
            return Ok(Vec::new());
        };
        if selected.is_empty() {
            let mut made = Value::Object(self.template(mode, filter)?);
            merge(Some(&mut made), element);
            list.push(made);
            return Ok(vec![list.len() - 1]);
        }
        let equalities = self.equalities(filter).unwrap_or_default();
        for index in &selected {
            let Some(slot) = list.get_mut(*index) else {
                continue;
            };
            if mode == Mode::Replace {
                *slot = Value::Object(equalities.clone());
            }
            merge(Some(slot), element.clone());
        }
        Ok(selected)
    }

    /// The element to make when a filter selects none.
    ///
    /// RFC 7644 section 3.5.2.3 wants `noTarget` for `replace`. Entra counts on an element being
    /// made for `emails[type eq "work"].value`. Both are served: `add` makes one whenever the
    /// filter says what it would be, `replace` only for the values that the schema itself suggests.
    fn template(&self, mode: Mode, filter: &Filter) -> Result<Map<String, Value>, ScimError> {
        let equalities = self.equalities(filter).filter(|parts| {
            mode == Mode::Add
                || parts
                    .iter()
                    .all(|(name, value)| self.is_suggested(name, value))
        });
        equalities.ok_or_else(|| {
            ScimError::no_target(format!(
                "No value of '{}' matches the filter of the path. Add the value first.",
                self.attribute.name
            ))
        })
    }

    /// Whether a part with this value is one that the schema names: a canonical `type`, or primary.
    fn is_suggested(&self, name: &str, value: &Value) -> bool {
        if name == "primary" {
            return value == &Value::Bool(true);
        }
        let canonical = self
            .attribute
            .find_part(name)
            .map(|part| part.canonical_values);
        let text = value.as_str().unwrap_or_default();
        canonical
            .unwrap_or_default()
            .iter()
            .any(|known| known.eq_ignore_ascii_case(text))
    }

    /// The parts that a filter fixes, if it is nothing but `part eq literal` joined by `and`.
    fn equalities(&self, filter: &Filter) -> Option<Map<String, Value>> {
        match filter {
            Filter::And(operands) => {
                let mut parts = Map::new();
                for operand in operands {
                    parts.extend(self.equalities(operand)?);
                }
                Some(parts)
            }
            Filter::Compare {
                path,
                op: CompareOp::Eq,
                value,
            } => {
                let part = self.attribute.find_part(&path.name)?;
                let value = coerce::value(part, json_of(value), part.name).ok()??;
                Some(Map::from_iter([(part.name.to_owned(), value)]))
            }
            Filter::Compare { .. }
            | Filter::Or(_)
            | Filter::Not(_)
            | Filter::Present { .. }
            | Filter::ValuePath { .. } => None,
        }
    }
}

fn json_of(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Boolean(flag) => Value::Bool(*flag),
        Literal::Number(number) => Value::Number(number.clone()),
        Literal::Text(text) => Value::String(text.clone()),
    }
}

fn position_of_value(list: &[Value], value: &str) -> Option<usize> {
    list.iter()
        .position(|element| element.get("value").and_then(Value::as_str) == Some(value))
}

/// Sets or removes one part of an element.
fn set_part(element: Option<&mut Value>, part: &Attribute, value: Option<Value>) {
    let Some(parts) = element.and_then(Value::as_object_mut) else {
        return;
    };
    match value {
        Some(value) => parts.insert(part.name.to_owned(), value),
        None => parts.remove(part.name),
    };
}

/// Puts the parts of one element over those of another.
fn merge(element: Option<&mut Value>, given: Value) {
    let parts = element.and_then(Value::as_object_mut);
    if let (Some(parts), Value::Object(given)) = (parts, given) {
        parts.extend(given);
    }
}

/// Whether an element has every part that is given, with the given value.
fn is_contained(given: &Value, element: &Value) -> bool {
    match given.as_object() {
        Some(parts) => parts
            .iter()
            .all(|(name, value)| element.get(name) == Some(value)),
        None => given == element,
    }
}

/// Removes the selected elements; the indexes are ascending.
fn retain_others(list: &mut Vec<Value>, selected: &[usize]) {
    let mut index = 0;
    list.retain(|_| {
        let keep = selected.binary_search(&index).is_err();
        index += 1;
        keep
    });
}

/// Drops elements that lost their last part, and repetitions.
fn tidy(list: &mut Vec<Value>) {
    list.retain(|element| element.as_object().is_none_or(|parts| !parts.is_empty()));
    coerce::settle(list);
}
