//! Renders documents as SCIM resources, and leaves out what a request does not want.

use serde_json::{Map, Value, json};

use crate::scim::schema::group::MEMBERS;
use crate::scim::schema::{Attribute, Resolved, ResourceType, is_urn, resolve_text};

/// The schema of a list.
pub const LIST_URN: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";

/// What the server knows about a resource (RFC 7643 section 3.1). Instants are RFC 3339 texts.
#[derive(Debug, Clone, Copy)]
pub struct Meta<'a> {
    /// The URL of the resource, equal to the `Location` header.
    pub location: &'a str,
    /// When it was created.
    pub created: &'a str,
    /// When it last changed.
    pub last_modified: &'a str,
    /// Its version, equal to the `ETag` header.
    pub version: &'a str,
}

/// A group that a user is a member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRef {
    /// The id of the group.
    pub value: String,
    /// Its name.
    pub display: String,
    /// Its URL.
    pub location: String,
    /// Whether the user is a member of it, and not only of a group in it.
    pub is_direct: bool,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRef {
    /// The id of the member.
    pub value: String,
    /// Whether it is a user or a group.
    pub kind: ResourceType,
    /// Its name, where it has one.
    pub display: Option<String>,
    /// Its URL.
    pub location: String,
}

/// Renders a user.
pub fn user(
    id: &str,
    document: &Map<String, Value>,
    groups: &[GroupRef],
    meta: &Meta<'_>,
) -> Map<String, Value> {
    let mut resource = frame(ResourceType::User, id, document, meta);
    if !groups.is_empty() {
        let groups = groups.iter().map(|group| {
            json!({
                "value": group.value,
                "$ref": group.location,
                "display": group.display,
                "type": if group.is_direct { "direct" } else { "indirect" },
            })
        });
        resource.insert("groups".to_owned(), groups.collect());
    }
    resource
}

/// Renders a group without its members, which are rows of their own and rendered by [`member`].
pub fn group(id: &str, document: &Map<String, Value>, meta: &Meta<'_>) -> Map<String, Value> {
    frame(ResourceType::Group, id, document, meta)
}

/// Renders one member of a group.
pub fn member(member: &MemberRef) -> Value {
    let mut parts = json!({
        "value": member.value,
        "$ref": member.location,
        "type": member.kind.name(),
    });
    if let (Some(display), Some(parts)) = (&member.display, parts.as_object_mut()) {
        parts.insert("display".to_owned(), display.as_str().into());
    }
    parts
}

/// The document with what every resource has: `schemas`, `id` and `meta`. An extension is listed in
/// `schemas` exactly when there is data for it.
fn frame(
    kind: ResourceType,
    id: &str,
    document: &Map<String, Value>,
    meta: &Meta<'_>,
) -> Map<String, Value> {
    let mut resource = document.clone();
    let extensions = document
        .keys()
        .filter(|key| is_urn(key))
        .map(String::as_str);
    let schemas = std::iter::once(kind.core().urn).chain(extensions);
    resource.insert("schemas".to_owned(), schemas.collect());
    resource.insert("id".to_owned(), id.into());
    let meta = json!({
        "resourceType": kind.name(),
        "created": meta.created,
        "lastModified": meta.last_modified,
        "location": meta.location,
        "version": meta.version,
    });
    resource.insert("meta".to_owned(), meta);
    resource
}

/// A list of discovery documents (RFC 7644 section 3.4.2): all of them on one page.
pub fn list_response(resources: &[Value]) -> Value {
    json!({
        "schemas": [LIST_URN],
        "totalResults": resources.len(),
        "startIndex": 1,
        "itemsPerPage": resources.len(),
        "Resources": resources,
    })
}

/// Which attributes an answer holds (RFC 7644 section 3.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection {
    resource: ResourceType,
    choice: Choice,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    Default,
    Only(Vec<Address>),
    Except(Vec<Address>),
}

/// What every answer holds, whatever was asked for (`returned: always`).
const ALWAYS: [&str; 2] = ["id", "schemas"];

/// Where in a rendered resource an attribute lies: under one to three names.
type Address = Vec<String>;

impl Projection {
    /// Reads `attributes` and `excludedAttributes`, lists with commas. When both are given the
    /// first counts. Names that nobody knows select nothing.
    pub fn parse(attributes: Option<&str>, excluded: Option<&str>, resource: ResourceType) -> Self {
        let filled = |list: &&str| !list.trim().is_empty();
        let choice = if let Some(list) = attributes.filter(filled) {
            Choice::Only(addresses(resource, list))
        } else if let Some(list) = excluded.filter(filled) {
            Choice::Except(addresses(resource, list))
        } else {
            Choice::Default
        };
        Self { resource, choice }
    }

    /// Whether the request left the choice to the server.
    pub fn is_default(&self) -> bool {
        self.choice == Choice::Default
    }

    /// Whether an attribute is part of the answer, in whole or in part.
    pub fn wants(&self, name: &str) -> bool {
        let Some(wanted) = address(self.resource, name) else {
            return false;
        };
        match &self.choice {
            Choice::Default => true,
            Choice::Only(list) => list.iter().any(|address| address.first() == wanted.first()),
            Choice::Except(list) => is_always(&wanted) || !list.contains(&wanted),
        }
    }

    /// What is left of one rendered member of a group.
    pub fn member(&self, member: Value) -> Option<Value> {
        if self.is_default() {
            return Some(member);
        }
        let mut around = Map::from_iter([(MEMBERS.to_owned(), Value::Array(vec![member]))]);
        self.apply(&mut around);
        match around.remove(MEMBERS) {
            Some(Value::Array(mut members)) => members.pop(),
            _ => None,
        }
    }

    /// Leaves out of a rendered resource what the request does not want. `id` and `schemas` stay.
    pub fn apply(&self, resource: &mut Map<String, Value>) {
        match &self.choice {
            Choice::Default => {}
            Choice::Only(list) => {
                let always = ALWAYS.map(|name| vec![name.to_owned()]);
                let addresses: Vec<&[String]> =
                    list.iter().chain(&always).map(Vec::as_slice).collect();
                keep_only(resource, &addresses);
            }
            Choice::Except(list) => {
                for address in list {
                    remove(resource, address);
                }
            }
        }
    }
}

fn addresses(resource: ResourceType, list: &str) -> Vec<Address> {
    list.split(',')
        .filter_map(|name| address(resource, name.trim()))
        .collect()
}

fn address(resource: ResourceType, name: &str) -> Option<Address> {
    let name_of = |attribute: &'static Attribute| attribute.name.to_owned();
    match resolve_text(resource, name) {
        Resolved::Attribute(target) => {
            let urn = target.extension.map(|schema| schema.urn.to_owned());
            let names = urn.into_iter().chain([name_of(target.attribute)]);
            Some(names.chain(target.sub.map(name_of)).collect())
        }
        Resolved::Schema(schema) => Some(vec![schema.urn.to_owned()]),
        Resolved::Foreign(urn) => Some(vec![urn]),
        Resolved::ForeignAttribute(path) => Some(
            path.schema
                .into_iter()
                .chain([path.name])
                .chain(path.sub)
                .collect(),
        ),
        Resolved::Unknown => None,
    }
}

fn is_always(address: &[String]) -> bool {
    matches!(address, [name] if ALWAYS.contains(&name.as_str()))
}

/// Keeps what the addresses lead to, and drops what holds nothing of it.
fn keep_only(map: &mut Map<String, Value>, addresses: &[&[String]]) {
    map.retain(|key, value| {
        let tails: Vec<&[String]> = addresses
            .iter()
            .filter_map(|address| address.split_first())
            .filter(|(first, _)| first.eq_ignore_ascii_case(key))
            .map(|(_, rest)| rest)
            .collect();
        !tails.is_empty() && (tails.iter().any(|tail| tail.is_empty()) || keep_in(value, &tails))
    });
}

/// Keeps parts of a value; whether anything is left.
fn keep_in(value: &mut Value, tails: &[&[String]]) -> bool {
    match value {
        Value::Object(parts) => {
            keep_only(parts, tails);
            !parts.is_empty()
        }
        Value::Array(items) => {
            items.retain_mut(|item| keep_in(item, tails));
            !items.is_empty()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Removes what an address leads to, and what thereby becomes empty.
fn remove(map: &mut Map<String, Value>, address: &[String]) {
    let Some((first, rest)) = address.split_first() else {
        return;
    };
    if is_always(address) {
        return;
    }
    map.retain(|key, value| {
        !first.eq_ignore_ascii_case(key) || (!rest.is_empty() && remove_in(value, rest))
    });
}

/// Removes a part of a value; whether anything is left.
fn remove_in(value: &mut Value, rest: &[String]) -> bool {
    match value {
        Value::Object(parts) => {
            remove(parts, rest);
            !parts.is_empty()
        }
        Value::Array(items) => {
            items.retain_mut(|item| remove_in(item, rest));
            !items.is_empty()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{GroupRef, MemberRef, Meta, Projection, group, list_response, member, user};
    use crate::scim::schema::ResourceType;

    const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
    const META: Meta<'_> = Meta {
        location: "https://scim.example.com/Users/26",
        created: "2026-01-02T03:04:05Z",
        last_modified: "2026-01-02T03:04:06Z",
        version: "W/\"2\"",
    };

    fn map(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else {
            panic!("not an object: {value}")
        };
        map
    }

    fn sample() -> Map<String, Value> {
        let document = map(json!({
            "userName": "bjensen",
            "name": {"givenName": "Barbara", "familyName": "Jensen"},
            "emails": [{"value": "b@example.com", "type": "work"}, {"type": "home"}],
            ENTERPRISE: {"department": "Tours", "manager": {"value": "26"}},
        }));
        let of = GroupRef {
            value: "7".to_owned(),
            display: "Tour Guides".to_owned(),
            location: "https://scim.example.com/Groups/7".to_owned(),
            is_direct: true,
        };
        user("26", &document, &[of], &META)
    }

    fn projected(attributes: Option<&str>, excluded: Option<&str>) -> Value {
        let mut resource = sample();
        Projection::parse(attributes, excluded, ResourceType::User).apply(&mut resource);
        Value::Object(resource)
    }

    fn names(value: &Value) -> Vec<&str> {
        let mut names: Vec<&str> = value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_user_has_schemas_meta_and_groups() {
        let resource = sample();
        assert_eq!(
            resource["schemas"],
            json!(["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE])
        );
        assert_eq!(resource["meta"]["resourceType"], "User");
        assert_eq!(
            resource["groups"][0]["$ref"],
            "https://scim.example.com/Groups/7"
        );
        let bare = user("1", &map(json!({"userName": "x"})), &[], &META);
        assert_eq!(
            bare["schemas"],
            json!(["urn:ietf:params:scim:schemas:core:2.0:User"])
        );
        assert!(!bare.contains_key("groups"));
    }

    #[test]
    fn a_member_says_what_it_is_and_where() {
        let of = MemberRef {
            value: "26".to_owned(),
            kind: ResourceType::User,
            display: None,
            location: META.location.to_owned(),
        };
        assert_eq!(
            member(&of),
            json!({"value": "26", "$ref": META.location, "type": "User"})
        );
        let document = map(json!({"displayName": "Tour Guides"}));
        assert!(!group("7", &document, &META).contains_key("members"));
    }

    #[test]
    fn attributes_select_and_id_and_schemas_stay() {
        assert_eq!(
            names(&projected(Some("USERNAME"), None)),
            ["id", "schemas", "userName"]
        );
        let parts = projected(Some("emails.value, emails.type,name.givenName"), None);
        assert_eq!(
            parts["emails"],
            json!([{"value": "b@example.com", "type": "work"}, {"type": "home"}])
        );
        assert_eq!(parts["name"], json!({"givenName": "Barbara"}));
        assert_eq!(
            projected(Some("emails.value"), None)["emails"],
            json!([{"value": "b@example.com"}])
        );
        assert_eq!(names(&projected(Some("nothing"), None)), ["id", "schemas"]);
        assert_eq!(projected(Some(""), None), Value::Object(sample()));
    }

    #[test]
    fn extensions_are_selected_as_a_whole_and_by_attribute() {
        let whole = projected(Some(&ENTERPRISE.to_uppercase()), None);
        assert_eq!(whole[ENTERPRISE]["department"], "Tours");
        let one = projected(Some(&format!("{ENTERPRISE}:manager.value")), None);
        assert_eq!(one[ENTERPRISE], json!({"manager": {"value": "26"}}));
        let without = projected(None, Some(&format!("{ENTERPRISE}:Department")));
        assert_eq!(without[ENTERPRISE], json!({"manager": {"value": "26"}}));
    }

    #[test]
    fn exclusion_spares_id_and_schemas() {
        let resource = projected(
            None,
            Some("id,schemas,groups,EMAILS.type,meta,name.givenName"),
        );
        assert_eq!(
            names(&resource),
            ["emails", "id", "name", "schemas", ENTERPRISE, "userName"]
        );
        assert_eq!(resource["emails"], json!([{"value": "b@example.com"}]));
        assert_eq!(resource["name"], json!({"familyName": "Jensen"}));
    }

    #[test]
    fn a_projection_knows_what_it_wants() {
        let of =
            |attributes, excluded| Projection::parse(attributes, excluded, ResourceType::Group);
        assert!(of(None, None).wants("members") && of(None, None).is_default());
        assert!(!of(None, Some("Members")).wants("members"));
        assert!(of(None, Some("members.display")).wants("members"));
        assert!(!of(Some("displayName"), None).wants("members"));
        assert!(of(Some("members.value"), None).wants("members"));
        assert!(of(Some("displayName"), Some("displayName")).wants("displayName"));
        assert!(!of(Some("id"), None).is_default());
    }

    #[test]
    fn a_list_of_documents_is_one_page() {
        let list = list_response(&[json!({"id": "1"})]);
        assert_eq!(list["itemsPerPage"], 1);
        assert_eq!(list["totalResults"], 1);
        assert_eq!(list["startIndex"], 1);
    }
}
