//! Bodies of POST and PUT as providers send them.

use serde_json::{Map, Value, json};

use super::{Incoming, MemberValue, read};
use crate::schema::ResourceType;
use crate::schema::error::{ScimError, ScimType};

const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

fn map(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else {
        panic!("not an object: {value}")
    };
    map
}

fn user(mut body: Value) -> Result<Value, ScimError> {
    if body.get("userName").is_none() {
        body["userName"] = "bjensen".into();
    }
    let mut document = read(ResourceType::User, map(body))?.document;
    document.remove("userName");
    Ok(Value::Object(document))
}

fn assert_read(body: Value, document: Value) {
    let shown = body.to_string();
    assert_eq!(user(body), Ok(document), "{shown}");
}

fn assert_refused(body: Value, scim_type: ScimType, mentioned: &str) {
    let shown = body.to_string();
    let error = user(body).unwrap_err();
    assert_eq!(
        (error.status, error.scim_type),
        (400, Some(scim_type)),
        "{shown}"
    );
    assert!(
        error.detail.contains(mentioned),
        "{shown}: {}",
        error.detail
    );
}

fn group(body: Value) -> Result<Incoming, ScimError> {
    read(ResourceType::Group, map(body))
}

#[test]
fn oktas_create_is_read() {
    assert_read(
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "userName": "test.user@okta.local",
            "name": {"givenName": "Test", "familyName": "User"},
            "emails": [{"primary": true, "value": "test.user@okta.local", "type": "work"}],
            "displayName": "Test User",
            "locale": "en-US",
            "externalId": "00ujl29u0le5T6Aj10h7",
            "groups": [],
            "password": "1mz050nq",
            "active": true,
        }),
        json!({
            "name": {"givenName": "Test", "familyName": "User"},
            "emails": [{"primary": true, "value": "test.user@okta.local", "type": "work"}],
            "displayName": "Test User",
            "locale": "en-US",
            "externalId": "00ujl29u0le5T6Aj10h7",
            "active": true,
        }),
    );
}

#[test]
fn entras_create_is_read() {
    assert_read(
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE],
            "externalId": "0a21f0f2",
            "userName": "Test_User",
            "active": "True",
            "emails": [{"Primary": "true", "type": "work", "value": "t@example.com"}],
            "meta": {"resourceType": "User"},
            "name": {"formatted": "g f", "familyName": "f", "givenName": null},
            "roles": [],
            "title": null,
            "Urn:ietf:params:scim:schemas:extension:enterprise:2.0:USER": {
                "Department": "bob", "Manager": {"Value": "Suzzy"}, "misspelt": 1,
            },
        }),
        json!({
            "externalId": "0a21f0f2",
            "active": true,
            "emails": [{"primary": true, "type": "work", "value": "t@example.com"}],
            "name": {"formatted": "g f", "familyName": "f"},
            ENTERPRISE: {"department": "bob", "manager": {"value": "Suzzy"}},
        }),
    );
}

#[test]
fn names_take_the_spelling_of_the_schema_and_unknown_ones_go() {
    assert_read(
        json!({"NICKNAME": "x", "Name": {"GIVENNAME": "B", "unknown": 1}, "misspelt": {"a": 1}, "ID": "7"}),
        json!({"nickName": "x", "name": {"givenName": "B"}}),
    );
}

#[test]
fn dotted_and_qualified_names_are_expanded() {
    assert_read(
        json!({
            "name": {"familyName": "Jensen"},
            "name.givenName": "Barbara",
            "emails.value": "b@example.com",
            "urn:ietf:params:scim:schemas:core:2.0:User:title": "Boss",
            "urn:ietf:params:scim:schemas:core:2.0:User": {"nickName": "Babs", "name.middleName": "J"},
            format!("{ENTERPRISE}:manager.value"): "26",
            format!("{ENTERPRISE}:division"): "North",
            ENTERPRISE: {"Manager": {"displayName": "Ann"}, "department": "Tours"},
        }),
        json!({
            "name": {"familyName": "Jensen", "givenName": "Barbara", "middleName": "J"},
            "emails": [{"value": "b@example.com"}],
            "title": "Boss",
            "nickName": "Babs",
            ENTERPRISE: {
                "manager": {"value": "26", "displayName": "Ann"},
                "department": "Tours",
                "division": "North",
            },
        }),
    );
    assert_refused(
        json!({"emails": ["x"], "emails.value": "y"}),
        ScimType::InvalidValue,
        "emails",
    );
}

#[test]
fn single_values_and_bare_texts_stand_for_arrays_and_objects() {
    let email = json!({"emails": [{"value": "x"}]});
    for emails in [
        json!("x"),
        json!(["x"]),
        json!({"value": "x"}),
        json!([{"VALUE": "x"}, null]),
    ] {
        assert_read(json!({"emails": emails}), email.clone());
    }
    let manager = json!({ENTERPRISE: {"manager": {"value": "271"}}});
    for value in [
        json!("271"),
        json!({"value": "271"}),
        json!([{"$ref": null, "value": "271"}]),
    ] {
        assert_read(json!({ENTERPRISE: {"manager": value}}), manager.clone());
    }
    for value in [json!(""), json!({"value": ""}), json!(null), json!([])] {
        assert_read(json!({ENTERPRISE: {"manager": value}}), json!({}));
    }
}

#[test]
fn wrong_types_are_named() {
    for (body, path) in [
        (json!({"userName": 7}), "userName"),
        (json!({"active": "yes"}), "active"),
        (json!({"active": 1}), "active"),
        (json!({"title": {"a": 1}}), "title"),
        (json!({"title": ["x"]}), "title"),
        (json!({"name": "Barbara"}), "name"),
        (json!({"name": {"givenName": 7}}), "name.givenName"),
        (json!({"emails": 7}), "emails"),
        (json!({"emails": [[]  , ["x"]]}), "emails"),
        (json!({"emails": [{"value": 7}]}), "emails.value"),
        (json!({"emails": [{"primary": "no"}]}), "emails.primary"),
        (json!({"addresses": ["x"]}), "addresses"),
        (json!({ENTERPRISE: "x"}), ENTERPRISE),
        (json!({ENTERPRISE: {"department": 1}}), "User:department"),
        (json!({ENTERPRISE: {"manager": ["1", "2"]}}), "manager"),
    ] {
        assert_refused(body, ScimType::InvalidValue, path);
    }
}

#[test]
fn schemas_may_list_anything_but_must_be_a_list() {
    for schemas in [
        json!(null),
        json!([]),
        json!(["urn:scim:schemas:core:2.0", "urn:x", "http://x"]),
    ] {
        assert_read(json!({"schemas": schemas}), json!({}));
    }
    for schemas in [json!("urn:x"), json!([1]), json!({})] {
        assert_refused(
            json!({"Schemas": schemas}),
            ScimType::InvalidSyntax,
            "schemas",
        );
    }
}

#[test]
fn foreign_extensions_are_kept_without_nulls() {
    assert_read(
        json!({
            "urn:acme:2.0:User": {"Desk": 1, "none": null, "list": [null], "deep": {"x": null}},
            "urn:acme:2.0:User:floor": "3",
            "urn:other:thing": {"a": true},
            "urn:empty:2.0:User": {},
        }),
        json!({"urn:acme:2.0:User": {"Desk": 1, "floor": "3"}, "urn:other:thing": {"a": true}}),
    );
    assert_read(
        json!({"urn:scim:schemas:extension:enterprise:1.0": {"department": "x"}}),
        json!({ENTERPRISE: {"department": "x"}}),
    );
}

#[test]
fn repeated_elements_collapse_and_one_stays_primary() {
    assert_read(
        json!({"emails": [
            {"type": "work", "value": "a", "primary": true},
            {"type": "work", "value": "a"},
            {"type": "home", "value": "a", "primary": "True"},
            {"type": "home"}, {"type": "home"},
        ]}),
        json!({"emails": [
            {"type": "work", "value": "a", "primary": true},
            {"type": "home", "value": "a", "primary": false},
            {"type": "home"},
        ]}),
    );
}

#[test]
fn a_name_is_required_and_bounded() {
    for name in [json!(""), json!("  "), json!(null)] {
        assert_refused(
            json!({"userName": name}),
            ScimType::InvalidValue,
            "userName",
        );
        assert!(group(json!({"displayName": name})).is_err());
    }
    assert!(
        read(
            ResourceType::User,
            map(json!({"emails": ["x@example.com"]}))
        )
        .is_err()
    );
    for name in ["userName", "externalId", "displayName"] {
        assert!(user(json!({name: "x".repeat(1_024)})).is_ok());
        assert_refused(
            json!({name: "x".repeat(1_025)}),
            ScimType::InvalidValue,
            name,
        );
    }
}

#[test]
fn a_body_too_large_is_refused() {
    let photos: Vec<String> = (0..20)
        .map(|n| format!("{n}{}", "x".repeat(60_000)))
        .collect();
    assert_refused(json!({"photos": photos}), ScimType::InvalidValue, "1048576");
    let many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    assert_refused(json!({"photos": many}), ScimType::TooMany, "photos");
}

#[test]
fn a_group_has_a_document_and_members() {
    let body = json!({
        "schemas": [
            "urn:ietf:params:scim:schemas:core:2.0:Group",
            "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group",
        ],
        "externalId": "8aa1a0c0", "displayName": "Group1", "meta": {"resourceType": "Group"},
        "members": [{"$ref": null, "value": "1"}, {"value": "2", "type": "User", "display": "b"}, {"value": "1"}],
    });
    let incoming = group(body).unwrap();
    assert_eq!(
        Value::Object(incoming.document),
        json!({"externalId": "8aa1a0c0", "displayName": "Group1"})
    );
    let second = MemberValue {
        value: "2".to_owned(),
        display: Some("b".to_owned()),
    };
    let first = MemberValue {
        value: "1".to_owned(),
        display: None,
    };
    assert_eq!(incoming.members, Some(vec![first, second]));
    assert_eq!(group(json!({"displayName": "x"})).unwrap().members, None);
    assert_eq!(
        group(json!({"displayName": "x", "members": []}))
            .unwrap()
            .members,
        Some(Vec::new())
    );
    assert_eq!(
        group(json!({"displayName": "x", "members": "1"}))
            .unwrap()
            .members
            .unwrap()
            .len(),
        1
    );
    for members in [json!([{}]), json!([1]), json!([{"value": ["1"]}])] {
        assert!(group(json!({"displayName": "x", "members": members})).is_err());
    }
}
