//! What we read from a SCIM document: the keys that are looked up, and the fields that a vendor sees.
//!
//! Pure. Documents are as the SCIM layer stores them: attribute names in the schema's spelling, booleans
//! as booleans, arrays as arrays.

use serde_json::{Map, Value, json};

use super::Document;
use crate::json;
use crate::keys::fold;

/// RFC 7643 section 4.3.
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

/// The keys and state of a user, as columns hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserProfile {
    /// The folded userName, unique in its directory.
    pub user_name_key: String,
    /// The provider's own id.
    pub external_id: Option<String>,
    /// The folded primary e-mail address.
    pub email_key: Option<String>,
    /// The other folded e-mail addresses, each once.
    pub other_email_keys: Vec<String>,
    /// The folded displayName.
    pub display_name_key: Option<String>,
    /// Whether the person is active; a document that does not say so means yes.
    pub is_active: bool,
}

impl UserProfile {
    /// Reads a user's document.
    pub fn of(document: &Document) -> Self {
        let primary = primary_email(document);
        let email_key = primary.as_deref().map(fold);
        let mut other_email_keys: Vec<String> = emails(document)
            .filter_map(|email| text(email, "value"))
            .map(fold)
            .filter(|key| Some(key) != email_key.as_ref())
            .collect();
        other_email_keys.sort();
        other_email_keys.dedup();
        Self {
            user_name_key: fold(
                document
                    .get("userName")
                    .and_then(Value::as_str)
                    .unwrap_or(""),
            ),
            external_id: string(document, "externalId"),
            email_key,
            other_email_keys,
            display_name_key: string(document, "displayName").map(|name| fold(&name)),
            is_active: is_active(document),
        }
    }
}

/// The keys of a group, as columns hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupProfile {
    /// The folded displayName.
    pub display_name_key: String,
    /// The provider's own id.
    pub external_id: Option<String>,
    /// What makes a group the same group: its external id if it has one, else its name.
    pub identity_key: String,
}

impl GroupProfile {
    /// Reads a group's document.
    pub fn of(document: &Document) -> Self {
        let display_name_key = fold(
            document
                .get("displayName")
                .and_then(Value::as_str)
                .unwrap_or(""),
        );
        let external_id = string(document, "externalId");
        let identity_key = external_id.as_ref().map_or_else(
            || format!("name:{display_name_key}"),
            |external_id| format!("id:{external_id}"),
        );
        Self {
            display_name_key,
            external_id,
            identity_key,
        }
    }
}

/// Whether the document says that the person is active; a document that says nothing means yes.
pub fn is_active(document: &Document) -> bool {
    document
        .get("active")
        .and_then(Value::as_bool)
        .unwrap_or(true)
}

/// The primary e-mail address: the entry flagged so, else the first work, the first home, the first at
/// all, and without any a userName that looks like an address.
pub fn primary_email(document: &Document) -> Option<String> {
    let flagged = emails(document).find(|email| email.get("primary") == Some(&Value::Bool(true)));
    let of_type = |kind: &'static str| {
        emails(document).find(move |email| {
            text(email, "type").is_some_and(|found| found.eq_ignore_ascii_case(kind))
        })
    };
    flagged
        .or_else(|| of_type("work"))
        .or_else(|| of_type("home"))
        .or_else(|| emails(document).next())
        .and_then(|email| text(email, "value"))
        .map(str::to_owned)
        .or_else(|| string(document, "userName").filter(|name| is_address(name)))
}

/// The fields of a directory user that come from its document, as the wire contract names them.
pub fn user_fields(document: &Document) -> Map<String, Value> {
    let name = document.get("name");
    let first = name.and_then(|name| text(name, "givenName"));
    let last = name.and_then(|name| text(name, "familyName"));
    json::fields(json!({
        "email": primary_email(document),
        "first_name": first,
        "last_name": last,
        "name": full_name(document, first, last),
        "state": if is_active(document) { "active" } else { "inactive" },
        "custom_attributes": custom_attributes(document),
        "emails": emails(document).map(email_field).collect::<Vec<_>>(),
        "job_title": string(document, "title"),
        "username": string(document, "userName"),
    }))
}

/// The predefined attributes that have one obvious source; absent when the source is.
fn custom_attributes(document: &Document) -> Map<String, Value> {
    let enterprise = document.get(ENTERPRISE);
    let of_enterprise = |name: &str| {
        enterprise
            .and_then(|extension| extension.get(name))
            .cloned()
    };
    let sources = [
        ("cost_center_name", of_enterprise("costCenter")),
        ("department_name", of_enterprise("department")),
        ("division_name", of_enterprise("division")),
        ("employee_number", of_enterprise("employeeNumber")),
        ("employee_type", document.get("userType").cloned()),
        ("job_title", document.get("title").cloned()),
        ("organization", of_enterprise("organization")),
    ];
    sources
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

fn full_name(document: &Document, first: Option<&str>, last: Option<&str>) -> Option<String> {
    let formatted = document
        .get("name")
        .and_then(|name| text(name, "formatted"))
        .map(str::to_owned);
    formatted
        .or_else(|| string(document, "displayName"))
        .or_else(|| match (first, last) {
            (Some(first), Some(last)) => Some(format!("{first} {last}")),
            (one, other) => one.or(other).map(str::to_owned),
        })
}

fn email_field(email: &Value) -> Value {
    json!({
        "primary": email.get("primary") == Some(&Value::Bool(true)),
        "type": text(email, "type"),
        "value": text(email, "value"),
    })
}

fn emails(document: &Document) -> impl Iterator<Item = &Value> {
    document
        .get("emails")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|email| text(email, "value").is_some_and(|value| !value.trim().is_empty()))
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn string(document: &Document, name: &str) -> Option<String> {
    document
        .get(name)
        .and_then(Value::as_str)
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
}

/// Whether a userName is usable as an e-mail address; Entra sends people without a mailbox like that.
fn is_address(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && domain.contains('.')
            && !domain.starts_with('.')
            && !domain.ends_with('.')
            && !text.contains(char::is_whitespace)
            && !domain.contains('@')
    })
}

/// What changed between two forms of an object as the contract shows it: the old value of each root
/// property, and one level inside `custom_attributes` and `raw_attributes`; `null` for what was not
/// there.
pub fn previous_attributes(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Map<String, Value> {
    const NESTED: [&str; 2] = ["custom_attributes", "raw_attributes"];
    const UNSEEN: [&str; 1] = ["updated_at"];
    changed_names(old, new)
        .filter(|name| !UNSEEN.contains(&name.as_str()))
        .map(|name| {
            let before = old.get(&name).cloned().unwrap_or(Value::Null);
            let value = match (&before, new.get(&name)) {
                (Value::Object(before), Some(Value::Object(after)))
                    if NESTED.contains(&name.as_str()) =>
                {
                    Value::Object(
                        changed_names(before, after)
                            .map(|inner| {
                                let value = before.get(&inner).cloned().unwrap_or(Value::Null);
                                (inner, value)
                            })
                            .collect(),
                    )
                }
                _ => before,
            };
            (name, value)
        })
        .collect()
}

fn changed_names<'a>(
    old: &'a Map<String, Value>,
    new: &'a Map<String, Value>,
) -> impl Iterator<Item = String> + 'a {
    let changed = old
        .iter()
        .filter(|(name, value)| new.get(*name) != Some(value))
        .map(|(name, _)| name.clone());
    let added = new.keys().filter(|name| !old.contains_key(*name)).cloned();
    changed.chain(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(value: Value) -> Document {
        json::fields(value)
    }

    #[test]
    fn the_primary_email_is_the_flagged_one_then_work_then_home_then_any() {
        let work_and_flagged = document(json!({"userName": "ada", "emails": [
            {"value": "w@x.org", "type": "work"}, {"value": "p@x.org", "primary": true}]}));
        let home_and_work = document(json!({"userName": "ada", "emails": [
            {"value": "h@x.org", "type": "home"}, {"value": "w@x.org", "type": "Work"}]}));
        let other = document(json!({"userName": "ada", "emails": [{"value": "o@x.org"}]}));
        assert_eq!(primary_email(&work_and_flagged).as_deref(), Some("p@x.org"));
        assert_eq!(primary_email(&home_and_work).as_deref(), Some("w@x.org"));
        assert_eq!(primary_email(&other).as_deref(), Some("o@x.org"));
    }

    #[test]
    fn a_user_name_that_is_an_address_stands_in_for_a_missing_email() {
        let address = document(json!({"userName": "ada@x.org"}));
        let name = document(json!({"userName": "ada@localhost"}));
        assert_eq!(primary_email(&address).as_deref(), Some("ada@x.org"));
        assert_eq!(primary_email(&name), None);
    }

    #[test]
    fn keys_are_folded_and_other_addresses_listed_once() {
        let profile = UserProfile::of(&document(json!({"userName": "ÄDA@X.org", "active": false,
            "emails": [{"value": "A@x.org", "primary": true}, {"value": "b@x.org"}, {"value": "B@x.org"}]})));
        assert_eq!(profile.user_name_key, "äda@x.org");
        assert_eq!(profile.email_key.as_deref(), Some("a@x.org"));
        assert_eq!(profile.other_email_keys, ["b@x.org"]);
        assert!(!profile.is_active);
    }

    #[test]
    fn a_group_is_known_by_its_external_id_and_without_one_by_its_name() {
        let named = GroupProfile::of(&document(json!({"displayName": "Engineers"})));
        let external = GroupProfile::of(&document(json!({"displayName": "E", "externalId": "g1"})));
        assert_eq!(named.identity_key, "name:engineers");
        assert_eq!(external.identity_key, "id:g1");
    }

    #[test]
    fn previous_attributes_hold_old_values_and_null_for_what_was_not_there() {
        let old = document(json!({"state": "active", "same": 1, "updated_at": "a",
            "custom_attributes": {"job_title": "x", "kept": 1}}));
        let new = document(
            json!({"state": "inactive", "same": 1, "updated_at": "b", "role": {"slug": "m"},
            "custom_attributes": {"job_title": "y", "kept": 1, "added": 2}}),
        );
        assert_eq!(
            Value::Object(previous_attributes(&old, &new)),
            json!({"state": "active", "role": null,
                "custom_attributes": {"job_title": "x", "added": null}})
        );
    }
}
