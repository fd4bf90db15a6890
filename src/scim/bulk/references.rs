//! References between the operations of a Bulk request: `bulkId:` and the name of a POST.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::Operation;
use super::request::{Draft, Method, REFERENCE, Target, split, wrong_path};
use crate::ids::ResourceId;
use crate::scim::error::ScimError;
use crate::scim::schema::ResourceType;

/// The operations of a request with their references resolved, and the order to perform them in.
#[derive(Debug)]
pub(super) struct Plan {
    steps: Vec<Step>,
    order: Vec<usize>,
}

/// One operation.
#[derive(Debug)]
pub(super) struct Step {
    /// Its place in the request.
    pub(super) index: usize,
    pub(super) method: Option<Method>,
    pub(super) bulk_id: Option<String>,
    /// The operations that have to succeed before it.
    pub(super) needs: Vec<usize>,
    /// The operation, or what is wrong with it.
    pub(super) operation: Result<Operation, ScimError>,
}

impl Step {
    /// What the operation is about, and whether it was there before.
    pub(super) fn named(&self) -> Option<(Target, bool)> {
        let operation = self.operation.as_ref().ok()?;
        Some((operation.target, operation.method != Method::Post))
    }
}

/// A resource that the request creates.
#[derive(Clone, Copy, Debug)]
struct Newcomer {
    index: usize,
    id: ResourceId,
}

type Newcomers = HashMap<String, Newcomer>;

impl Plan {
    /// Resolves what the operations refer to.
    pub(super) fn of(drafts: Vec<Draft>) -> Self {
        let (newcomers, doubles) = newcomers(&drafts);
        let steps: Vec<Step> = drafts
            .into_iter()
            .enumerate()
            .map(|(index, draft)| step(index, draft, &newcomers, &doubles))
            .collect();
        let order = order(&steps);
        let mut plan = Self { steps, order };
        plan.refuse_circles();
        plan
    }

    /// The operations in the order in which to perform them.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.order.iter().filter_map(|index| self.steps.get(*index))
    }

    /// A group cannot be given a member that does not exist yet: refuses those that need one that can
    /// only come later. People may.
    fn refuse_circles(&mut self) {
        let places: HashMap<usize, usize> = self
            .order
            .iter()
            .enumerate()
            .map(|(place, index)| (*index, place))
            .collect();
        for step in &mut self.steps {
            let is_early = |needed: &usize| places.get(needed) > places.get(&step.index);
            let is_group = matches!(
                step.named(),
                Some((
                    Target::New(ResourceType::Group, _) | Target::One(ResourceType::Group, _),
                    _
                ))
            );
            if is_group && step.needs.iter().any(is_early) {
                step.operation = Err(ScimError::new(
                    409,
                    "The references between groups of this request form a circle. Create the groups \
                     first, and add their members afterwards.",
                ));
            } else {
                step.needs.retain(|needed| !is_early(needed));
            }
        }
    }
}

/// The resources that are to be created, by their names; and the POSTs that took a name twice.
fn newcomers(drafts: &[Draft]) -> (Newcomers, HashSet<usize>) {
    let mut newcomers = Newcomers::new();
    let mut doubles = HashSet::new();
    for (index, draft) in drafts.iter().enumerate() {
        let (Some(Method::Post), Some(name)) = (draft.method, &draft.bulk_id) else {
            continue;
        };
        if !matches!(split(&draft.path), Some((_, None))) {
            continue;
        }
        if newcomers.contains_key(name) {
            doubles.insert(index);
            continue;
        }
        let id = ResourceId::generate();
        newcomers.insert(name.clone(), Newcomer { index, id });
    }
    (newcomers, doubles)
}

fn step(index: usize, draft: Draft, newcomers: &Newcomers, doubles: &HashSet<usize>) -> Step {
    let mut needs = Vec::new();
    let (method, bulk_id) = (draft.method, draft.bulk_id.clone());
    let operation = if doubles.contains(&index) {
        Err(ScimError::invalid_value(
            "Another operation of this request has the same 'bulkId'. Give each its own.",
        ))
    } else {
        resolve(draft, newcomers, &mut needs)
    };
    needs.sort_unstable();
    needs.dedup();
    needs.retain(|needed| *needed != index);
    Step {
        index,
        method,
        bulk_id,
        needs,
        operation,
    }
}

fn resolve(
    draft: Draft,
    newcomers: &Newcomers,
    needs: &mut Vec<usize>,
) -> Result<Operation, ScimError> {
    if let Some(fault) = draft.fault {
        return Err(fault);
    }
    let (Some(method), Some((kind, id))) = (draft.method, split(&draft.path)) else {
        return Err(wrong_path());
    };
    let target = match (
        id,
        draft.bulk_id.as_ref().and_then(|name| newcomers.get(name)),
    ) {
        (None, Some(newcomer)) => Target::New(kind, newcomer.id),
        (None, None) => return Err(wrong_path()),
        (Some(text), _) => {
            let id = match text.strip_prefix(REFERENCE) {
                Some(name) => Some(find(name, newcomers, needs)?.id),
                None => ResourceId::parse(text),
            };
            // An id that is none of ours names nobody.
            Target::One(
                kind,
                id.ok_or_else(|| ScimError::not_found("There is no such resource."))?,
            )
        }
    };
    Ok(Operation {
        method,
        target,
        version: draft.version,
        data: filled(draft.data, newcomers, needs)?,
    })
}

fn find<'a>(
    name: &str,
    newcomers: &'a Newcomers,
    needs: &mut Vec<usize>,
) -> Result<&'a Newcomer, ScimError> {
    let found = newcomers.get(name).ok_or_else(|| {
        ScimError::invalid_value(
            "A reference names a 'bulkId' that no POST of this request has. Correct the reference.",
        )
    })?;
    needs.push(found.index);
    Ok(found)
}

/// Puts ids in the place of references, wherever an id may stand: under `value` and `$ref`, and in the
/// filter of a path. Bodies are bounded in depth.
fn filled(
    data: Map<String, Value>,
    newcomers: &Newcomers,
    needs: &mut Vec<usize>,
) -> Result<Map<String, Value>, ScimError> {
    data.into_iter()
        .map(|(name, value)| {
            let holds_ids = ["value", "$ref", "path"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known))
                || name.to_lowercase().ends_with("manager");
            Ok((name, filled_value(value, holds_ids, newcomers, needs)?))
        })
        .collect()
}

fn filled_value(
    value: Value,
    holds_ids: bool,
    newcomers: &Newcomers,
    needs: &mut Vec<usize>,
) -> Result<Value, ScimError> {
    Ok(match value {
        Value::Object(parts) => Value::Object(filled(parts, newcomers, needs)?),
        Value::Array(items) => items
            .into_iter()
            .map(|item| filled_value(item, holds_ids, newcomers, needs))
            .collect::<Result<_, _>>()?,
        Value::String(text) if holds_ids => Value::String(filled_text(&text, newcomers, needs)?),
        plain @ (Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    })
}

/// A text that is a reference, or has one between quotation marks or behind a slash.
fn filled_text(
    text: &str,
    newcomers: &Newcomers,
    needs: &mut Vec<usize>,
) -> Result<String, ScimError> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(REFERENCE) {
        filled.push_str(before);
        let is_reference = before.is_empty() || before.ends_with(['"', '/']);
        if is_reference {
            let length = behind.find(['"', ']', '/']).unwrap_or(behind.len());
            let (name, after) = behind.split_at(length);
            filled.push_str(&find(name, newcomers, needs)?.id.to_string());
            rest = after;
        } else {
            filled.push_str(REFERENCE);
            rest = behind;
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The order of the request, but each operation behind those that it needs, as far as that is possible.
fn order(steps: &[Step]) -> Vec<usize> {
    let mut order = Vec::with_capacity(steps.len());
    let mut seen = vec![false; steps.len()];
    for step in steps {
        // Depth first, on a stack of our own: a request may chain a thousand operations.
        let mut stack = vec![(step.index, 0)];
        while let Some((index, next)) = stack.pop() {
            let is_new = seen
                .get_mut(index)
                .is_some_and(|seen| !std::mem::replace(seen, true));
            if next == 0 && !is_new {
                continue;
            }
            let needs = steps
                .get(index)
                .map_or(&[][..], |step| step.needs.as_slice());
            match needs.get(next) {
                Some(needed) => stack.extend([(index, next + 1), (*needed, 0)]),
                None => order.push(index),
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Plan, Target};
    use crate::scim::bulk::request;

    fn plan(operations: &Value) -> Plan {
        let body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
            "Operations": operations,
        });
        Plan::of(
            request::read(body.as_object().unwrap().clone())
                .unwrap()
                .operations,
        )
    }

    fn post(kind: &str, name: &str, data: &Value) -> Value {
        json!({"method": "POST", "path": format!("/{kind}"), "bulkId": name, "data": data})
    }

    fn order(plan: &Plan) -> Vec<usize> {
        plan.steps().map(|step| step.index).collect()
    }

    #[test]
    fn a_group_waits_for_the_members_that_it_names() {
        let members = json!({"displayName": "g", "members": [{"value": "bulkId:b"}]});
        let plan = plan(&json!([
            post("Groups", "a", &members),
            post("Users", "c", &json!({"userName": "c"})),
            post("Users", "b", &json!({"userName": "b"})),
        ]));
        assert_eq!(order(&plan), [2, 0, 1]);
        let ids: Vec<String> = plan
            .steps()
            .map(|step| match step.operation.as_ref().unwrap().target {
                Target::New(_, id) | Target::One(_, id) => id.to_string(),
            })
            .collect();
        let group = plan.steps().nth(1).unwrap().operation.as_ref().unwrap();
        assert_eq!(group.data["members"][0]["value"], ids[0]);
    }

    #[test]
    fn people_may_refer_to_each_other_and_groups_may_not() {
        let boss = |of: &str| json!({"manager": {"value": format!("bulkId:{of}")}});
        let managers = plan(&json!([
            post("Users", "a", &boss("b")),
            post("Users", "b", &boss("a")),
        ]));
        assert!(managers.steps().all(|step| step.operation.is_ok()));
        let member = |of: &str| json!({"members": [{"value": format!("bulkId:{of}")}]});
        let groups = plan(&json!([
            post("Groups", "a", &member("b")),
            post("Groups", "b", &member("a")),
        ]));
        let refused: Vec<u16> = groups
            .steps()
            .filter_map(|step| Some(step.operation.as_ref().err()?.status))
            .collect();
        assert_eq!(refused, [409]);
    }

    #[test]
    fn references_stand_in_paths_filters_and_urls_and_nowhere_else() {
        let plan = plan(&json!([
            post("Users", "q", &json!({"userName": "bulkId:q", "displayName": "bulkId:none"})),
            {"method": "PATCH", "path": "/Users/bulkId:q", "data": {"Operations": [
                {"op": "remove", "path": "members[value eq \"bulkId:q\"]"},
                {"op": "add", "path": "members", "value": [{"value": "bulkId:q", "$ref": "/Users/bulkId:q"}]},
            ]}},
            {"method": "DELETE", "path": "/Users/bulkId:none"},
        ]));
        let steps: Vec<_> = plan.steps().collect();
        let Target::New(_, id) = steps[0].operation.as_ref().unwrap().target else {
            panic!("a new user");
        };
        assert_eq!(
            steps[0].operation.as_ref().unwrap().data["userName"],
            "bulkId:q"
        );
        let patch = steps[1].operation.as_ref().unwrap();
        assert!(matches!(patch.target, Target::One(_, found) if found == id));
        let operations = &patch.data["Operations"];
        assert_eq!(operations[0]["path"], format!("members[value eq \"{id}\"]"));
        assert_eq!(operations[1]["value"][0]["$ref"], format!("/Users/{id}"));
        assert_eq!(steps[1].needs, [0]);
        assert_eq!(steps[2].operation.as_ref().unwrap_err().status, 400);
    }

    #[test]
    fn a_chain_of_a_thousand_is_no_trouble() {
        let operations: Vec<Value> = (0..1_000)
            .map(|number| {
                let next = format!("bulkId:{}", (number + 1) % 1_000);
                post(
                    "Users",
                    &number.to_string(),
                    &json!({"manager": {"value": next}}),
                )
            })
            .collect();
        let plan = plan(&Value::Array(operations));
        assert_eq!(order(&plan).len(), 1_000);
    }
}
