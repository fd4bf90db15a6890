//! Whom the body of a request is about, whether or not it is right in other ways. Pure.

use serde_json::{Map, Value};

use crate::ids::ResourceId;
use crate::keys::fold;
use crate::requests::Subject;

/// How many members of a group are noted: enough for changes, not for whole groups.
const MEMBERS_MAX: usize = 100;

/// The subjects of a resource, a PATCH or a Bulk request.
pub(super) fn of(body: &Map<String, Value>, is_group: bool) -> Vec<Subject> {
    let mut found = Found {
        subjects: Vec::new(),
        members: 0,
    };
    found.resource(body, is_group);
    found.subjects
}

struct Found {
    subjects: Vec<Subject>,
    members: usize,
}

impl Found {
    fn resource(&mut self, body: &Map<String, Value>, is_group: bool) {
        for (name, value) in body {
            if name.eq_ignore_ascii_case("Operations") {
                for operation in value.as_array().into_iter().flatten() {
                    self.operation(operation, is_group);
                }
            } else {
                self.attribute(name, value, is_group);
            }
        }
    }

    /// An attribute of a resource, or what a PATCH makes of it.
    fn attribute(&mut self, name: &str, value: &Value, is_group: bool) {
        let text = value.as_str().filter(|text| !text.is_empty());
        match (name.to_ascii_lowercase().as_str(), text) {
            ("username", Some(text)) => self.subjects.push(Subject::UserName(fold(text))),
            ("externalid", Some(text)) => {
                self.subjects.push(Subject::ExternalId(text.to_owned()));
            }
            ("displayname", Some(text)) if is_group => {
                self.subjects.push(Subject::DisplayName(fold(text)));
            }
            ("emails", _) => {
                let addresses = values(value).map(|text| Subject::Email(fold(text)));
                self.subjects.extend(addresses);
            }
            ("members", _) => values(value).for_each(|text| self.member(text)),
            _ => {}
        }
    }

    fn member(&mut self, text: &str) {
        if self.members < MEMBERS_MAX
            && let Some(id) = ResourceId::parse(text)
        {
            self.members += 1;
            self.subjects.push(Subject::Resource(id));
        }
    }

    /// An operation of a PATCH or of a Bulk request.
    fn operation(&mut self, operation: &Value, is_group: bool) {
        let path = field(operation, "path")
            .and_then(Value::as_str)
            .unwrap_or("");
        if path.starts_with('/') {
            let id = path.rsplit('/').next().and_then(ResourceId::parse);
            self.subjects.extend(id.map(Subject::Resource));
            if let Some(Value::Object(data)) = field(operation, "data") {
                self.resource(data, path.starts_with("/Groups"));
            }
            return;
        }
        let (name, rest) = path.split_at(path.find(['[', '.']).unwrap_or(path.len()));
        match field(operation, "value") {
            Some(Value::Object(fields)) if path.is_empty() => self.resource(fields, is_group),
            Some(value) => self.attribute(name, value, is_group),
            None => {}
        }
        // As in members[value eq "…"].
        if name.eq_ignore_ascii_case("members") {
            rest.split('"').for_each(|text| self.member(text));
        }
    }
}

fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let mut fields = value.as_object()?.iter();
    let found = fields.find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value)
}

/// The texts of a multi-valued attribute, which may come as one value, and with or without `value`.
fn values(value: &Value) -> impl Iterator<Item = &str> {
    let items = value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice);
    items.iter().filter_map(|item| {
        let text = item.as_str().or_else(|| field(item, "value")?.as_str())?;
        (!text.is_empty()).then_some(text)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "01a9fbd0-5d7c-7d3a-8000-000000000001";

    fn texts(body: &Value, is_group: bool) -> Vec<String> {
        let found = of(body.as_object().unwrap(), is_group);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_user_is_known_by_all_its_names() {
        let user = json!({
            "userName": "Ada", "EXTERNALID": "00U1", "displayName": "Ada L",
            "emails": [{"value": "Ada@X.example"}, "b@x.example", {"type": "work"}],
        });
        let expected = [
            "user_name:ada",
            "external_id:00U1",
            "email:ada@x.example",
            "email:b@x.example",
        ];
        assert_eq!(texts(&user, false), expected);
    }

    #[test]
    fn a_change_is_about_what_it_changes_to() {
        let patch = json!({"Operations": [
            {"op": "replace", "path": "emails[type eq \"work\"].value", "value": "C@x.example"},
            {"op": "replace", "value": {"userName": "Grace", "active": false}},
            {"op": "replace", "path": "active", "value": false},
        ]});
        assert_eq!(
            texts(&patch, false),
            ["email:c@x.example", "user_name:grace"]
        );
        let group = json!({"operations": [
            {"op": "replace", "path": "displayName", "value": "Engineers"},
            {"op": "remove", "path": format!("members[value eq \"{ID}\"]")},
            {"op": "add", "path": "members", "value": [{"value": ID}]},
        ]});
        let member = format!("id:{ID}");
        let expected = ["display_name:engineers", &member, &member];
        assert_eq!(texts(&group, true), expected);
    }

    #[test]
    fn bulk_is_about_everybody_in_it() {
        let bulk = json!({"Operations": [
            {"method": "POST", "path": "/Users", "data": {"userName": "Ada"}},
            {"method": "PATCH", "path": format!("/Groups/{ID}"), "data": {"displayName": "E"}},
            {"method": 5}, 7,
        ]});
        let expected = ["user_name:ada", &format!("id:{ID}"), "display_name:e"];
        assert_eq!(texts(&bulk, false), expected);
    }

    #[test]
    fn of_a_large_group_not_every_member_is_noted() {
        let members = vec![json!({"value": ID}); 1_000];
        let group = json!({"displayName": "E", "members": members});
        assert_eq!(texts(&group, true).len(), 1 + MEMBERS_MAX);
    }
}
