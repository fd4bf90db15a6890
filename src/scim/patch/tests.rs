//! PATCH, row by row: the RFC's examples, and what Okta, Entra and others send.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::operation::{self, PATCH_URN};
use super::{Context, GroupPatch, MemberChange, apply, members};
use crate::scim::error::{ScimError, ScimType};
use crate::scim::schema::document::MemberValue;
use crate::scim::schema::{ResourceType, document};

const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
const CONTEXT: Context<'_> = Context { id: "2819c223" };

fn map(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else {
        panic!("not an object: {value}")
    };
    map
}

fn body(operations: Value) -> Map<String, Value> {
    let mut body = map(json!({"schemas": [PATCH_URN]}));
    body.insert("Operations".to_owned(), operations);
    body
}

fn patched(before: Value, operations: Value) -> Result<Value, ScimError> {
    let operations = operation::read(body(operations))?;
    apply(ResourceType::User, &map(before), &operations, &CONTEXT).map(Value::Object)
}

/// A user with the given attributes.
fn user(attributes: Value) -> Value {
    let mut document = map(attributes);
    document.insert("userName".to_owned(), "bjensen".into());
    Value::Object(document)
}

fn assert_patch(before: Value, operations: Value, after: Value) {
    let shown = operations.to_string();
    assert_eq!(
        patched(user(before), operations).unwrap(),
        user(after),
        "{shown}"
    );
}

fn assert_refused(before: Value, operations: Value, scim_type: ScimType) {
    let shown = operations.to_string();
    let error = patched(user(before), operations).unwrap_err();
    assert_eq!(
        (error.status, error.scim_type),
        (400, Some(scim_type)),
        "{shown}"
    );
}

fn one(op: &str, path: &str, value: Value) -> Value {
    let entries = [("op", op.into()), ("path", path.into()), ("value", value)];
    let entries = entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Value::Array(vec![Value::Object(entries.collect())])
}

fn replace(path: &str, value: Value) -> Value {
    one("replace", path, value)
}

fn add(path: &str, value: Value) -> Value {
    one("add", path, value)
}

fn remove(path: &str) -> Value {
    json!([{"op": "remove", "path": path}])
}

#[test]
fn op_is_read_in_any_case_and_an_unknown_one_is_refused() {
    for op in ["replace", "Replace", "REPLACE", "Add", "add"] {
        let operations = json!([{"op": op, "path": "title", "value": "x"}]);
        assert_patch(json!({}), operations, json!({"title": "x"}));
    }
    for op in [json!("move"), json!(""), json!(null), json!(1)] {
        let operations = json!([{"op": op, "path": "title", "value": "x"}]);
        assert_refused(json!({}), operations, ScimType::InvalidSyntax);
    }
}

#[test]
fn a_body_that_is_no_patch_is_invalid_syntax() {
    for body in [
        json!({}),
        json!({"schemas": [PATCH_URN]}),
        json!({"schemas": [PATCH_URN], "Operations": []}),
        json!({"schemas": [PATCH_URN], "Operations": {}}),
        json!({"schemas": [PATCH_URN], "Operations": ["x"]}),
        json!({"schemas": [PATCH_URN], "Operations": [{"op": "add", "path": "title"}]}),
        json!({"schemas": [PATCH_URN], "Operations": [{"op": "add", "value": "x"}]}),
        json!({"Operations": [{"op": "remove", "path": "title"}]}),
        json!({"schemas": ["urn:x"], "Operations": [{"op": "remove", "path": "title"}]}),
        json!({"schemas": PATCH_URN, "Operations": [{"op": "remove", "path": "title"}]}),
    ] {
        let error = operation::read(map(body.clone())).unwrap_err();
        assert_eq!(error.scim_type, Some(ScimType::InvalidSyntax), "{body}");
    }
    let upper = json!({"SCHEMAS": [PATCH_URN], "operations": [{"OP": "Remove", "Path": "title"}]});
    assert_eq!(operation::read(map(upper)).unwrap().len(), 1);
}

#[test]
fn a_thousand_operations_are_taken_and_one_more_is_413() {
    let many = |count: usize| json!(vec![json!({"op": "remove", "path": "title"}); count]);
    assert!(operation::read(body(many(1_000))).is_ok());
    let error = operation::read(body(many(1_001))).unwrap_err();
    assert_eq!(
        (error.status, error.scim_type),
        (413, Some(ScimType::TooMany))
    );
}

#[test]
fn names_without_a_path_are_paths() {
    assert_patch(
        json!({"name": {"familyName": "Jensen"}, "active": true}),
        json!([{"op": "replace", "value": {
            "name.givenName": "Kim",
            "Active": "False",
            "emails[type eq \"work\"].value": "kim@example.com",
            format!("{ENTERPRISE}:employeeNumber"): "A1",
            "urn:ietf:params:scim:schemas:core:2.0:User:title": "Boss",
            "noSuchAttribute": 7,
            "http://schemas.example.com/x": 8,
        }}]),
        json!({
            "name": {"familyName": "Jensen", "givenName": "Kim"},
            "active": false,
            "title": "Boss",
            "emails": [{"type": "work", "value": "kim@example.com"}],
            ENTERPRISE: {"employeeNumber": "A1"},
        }),
    );
}

#[test]
fn an_extension_object_without_a_path_is_merged() {
    assert_patch(
        json!({ENTERPRISE: {"department": "Tours", "division": "North"}}),
        json!([{"op": "add", "value": {ENTERPRISE: {
            "Department": "Food", "manager": "26", "manager.displayName": "Ann", "unknown": 1,
        }}}]),
        json!({ENTERPRISE: {
            "department": "Food", "division": "North",
            "manager": {"value": "26", "displayName": "Ann"},
        }}),
    );
    let gone = json!([{"op": "replace", "value": {ENTERPRISE: null}}]);
    assert_patch(json!({ENTERPRISE: {"department": "x"}}), gone, json!({}));
}

#[test]
fn read_only_names_without_a_path_are_passed_over() {
    let echo = json!([{"op": "replace", "value": {
        "id": "2819c223", "meta": {"version": "x"}, "schemas": ["y"],
        "groups": [{"value": "g"}], "title": "Boss",
    }}]);
    assert_patch(json!({}), echo, json!({"title": "Boss"}));
    let other_id = json!([{"op": "replace", "value": {"id": "other"}}]);
    assert_refused(json!({}), other_id, ScimType::Mutability);
}

#[test]
fn a_read_only_path_is_mutability_unless_it_is_the_same_id() {
    assert_patch(json!({}), replace("id", json!("2819c223")), json!({}));
    assert_patch(json!({}), replace("schemas", json!([])), json!({}));
    for (path, value) in [
        ("id", json!("other")),
        ("meta", json!({})),
        ("meta.created", json!("2026-01-01T00:00:00Z")),
        ("groups", json!([])),
        ("groups[value eq \"x\"].display", json!("x")),
    ] {
        assert_refused(json!({}), replace(path, value), ScimType::Mutability);
        assert_refused(json!({}), remove(path), ScimType::Mutability);
    }
}

#[test]
fn a_password_is_accepted_and_forgotten() {
    assert_patch(
        json!({}),
        json!([{"op": "replace", "value": {"password": "t1"}}]),
        json!({}),
    );
    assert_patch(json!({}), replace("password", json!("t1")), json!({}));
    assert_patch(json!({}), remove("password"), json!({}));
}

#[test]
fn remove_needs_a_path() {
    assert_refused(json!({}), json!([{"op": "remove"}]), ScimType::NoTarget);
    assert_refused(
        json!({}),
        json!([{"op": "remove", "value": {"title": 1}}]),
        ScimType::NoTarget,
    );
}

#[test]
fn remove_takes_attributes_parts_and_elements() {
    let emails = json!([{"type": "work", "value": "w"}, {"type": "home", "value": "h"}]);
    let before = json!({"title": "x", "name": {"givenName": "B"}, "emails": emails});
    let with = |change: &dyn Fn(&mut Map<String, Value>)| {
        let mut after = map(before.clone());
        change(&mut after);
        Value::Object(after)
    };
    let cases = [
        ("TITLE", with(&|after| drop(after.remove("title")))),
        ("name.givenName", with(&|after| drop(after.remove("name")))),
        ("emails", with(&|after| drop(after.remove("emails")))),
        (
            "emails[type eq \"home\"]",
            with(&|after| {
                after.insert("emails".to_owned(), json!([{"type": "work", "value": "w"}]));
            }),
        ),
        (
            "emails[type eq \"home\"].value",
            with(&|after| {
                after.insert(
                    "emails".to_owned(),
                    json!([{"type": "work", "value": "w"}, {"type": "home"}]),
                );
            }),
        ),
        ("emails[type eq \"none\"]", before.clone()),
        ("emails[type eq \"none\"].value", before.clone()),
        ("nickName", before.clone()),
        ("noSuchAttribute", before.clone()),
        (ENTERPRISE, before.clone()),
    ];
    for (path, after) in cases {
        assert_patch(before.clone(), remove(path), after);
    }
}

#[test]
fn remove_with_a_value_takes_what_is_listed() {
    assert_patch(
        json!({"roles": [{"value": "a", "primary": true}, {"value": "b"}]}),
        json!([{"op": "Remove", "path": "roles", "value": [{"value": "a"}]}]),
        json!({"roles": [{"value": "b"}]}),
    );
    assert_patch(
        json!({"roles": [{"value": "a"}]}),
        json!([{"op": "Remove", "path": "roles", "value": []}]),
        json!({}),
    );
}

#[test]
fn remove_with_a_value_that_lists_nothing_known_removes_nothing() {
    let before = json!({"roles": [{"value": "a"}]});
    for value in [
        json!([{"unknown": "a"}]),
        json!([null]),
        json!([{"value": "z"}]),
    ] {
        let operations = json!([{"op": "Remove", "path": "roles", "value": value}]);
        assert_patch(before.clone(), operations, before.clone());
    }
    let operations = json!([{"op": "remove", "path": "members", "value": [null]}]);
    assert_eq!(changes(operations), []);
}

#[test]
fn required_attributes_cannot_be_removed_or_emptied() {
    assert_refused(json!({}), remove("userName"), ScimType::Mutability);
    assert_refused(
        json!({}),
        replace("userName", json!(null)),
        ScimType::Mutability,
    );
    for value in [json!(""), json!("  "), json!(7)] {
        assert_refused(
            json!({}),
            replace("userName", value),
            ScimType::InvalidValue,
        );
    }
}

#[test]
fn add_to_a_multi_valued_attribute_appends_what_is_not_there() {
    let before = json!({"emails": [{"type": "work", "value": "w"}]});
    let both = json!({"emails": [{"type": "work", "value": "w"}, {"type": "home", "value": "h"}]});
    let home = json!({"type": "home", "value": "h"});
    assert_patch(before.clone(), add("emails", json!([home])), both.clone());
    assert_patch(before.clone(), add("emails", home.clone()), both.clone());
    assert_patch(
        both.clone(),
        add("emails", json!([home, home])),
        both.clone(),
    );
    assert_patch(both.clone(), add("emails", json!("h")), both.clone());
    assert_patch(
        both,
        add("emails", json!([])),
        json!({"emails": [{"type": "work", "value": "w"}, home]}),
    );
    let bare = json!({"emails": [{"type": "work", "value": "w"}, {"value": "x"}]});
    assert_patch(before.clone(), add("emails", json!("x")), bare.clone());
    assert_patch(before, add("emails", json!(["x", null])), bare);
}

#[test]
fn entra_sends_app_roles_as_json_in_a_string() {
    let role = "{\"id\":\"1\",\"value\":\"Admin\"}";
    assert_patch(
        json!({}),
        json!([{"op": "Add", "path": "roles", "value": [{"value": role}]}]),
        json!({"roles": [{"value": role}]}),
    );
}

#[test]
fn several_operations_land_on_one_missing_element() {
    assert_patch(
        json!({}),
        json!([
            {"op": "Add", "path": "addresses[type eq \"work\"].locality", "value": "Oslo"},
            {"op": "Replace", "path": "addresses[type eq \"work\"].region", "value": "East"},
            {"op": "Add", "path": "phoneNumbers[type eq \"mobile\"].value", "value": "1"},
            {"op": "Add", "path": "roles[primary eq \"True\"].value", "value": "r"},
            {"op": "Replace", "path": "roles[primary eq \"True\"].display", "value": "R"},
            {"op": "Add", "path": "roles[primary eq true].type", "value": "t"},
        ]),
        json!({
            "addresses": [{"type": "work", "locality": "Oslo", "region": "East"}],
            "phoneNumbers": [{"type": "mobile", "value": "1"}],
            "roles": [{"primary": true, "value": "r", "display": "R", "type": "t"}],
        }),
    );
}

#[test]
fn add_makes_a_missing_element_for_any_equality() {
    let made = |element: Value| json!({"emails": [element]});
    let cases = [
        (
            "emails[type eq \"odd\"].value",
            json!("x"),
            json!({"type": "odd", "value": "x"}),
        ),
        (
            "emails[type eq \"work\"]",
            json!({"value": "x"}),
            json!({"type": "work", "value": "x"}),
        ),
        (
            "emails[type eq \"work\"]",
            json!("x"),
            json!({"type": "work", "value": "x"}),
        ),
        (
            "emails[type eq \"work\" and primary eq \"true\"].value",
            json!("x"),
            json!({"type": "work", "primary": true, "value": "x"}),
        ),
    ];
    for (path, value, element) in cases {
        assert_patch(json!({}), add(path, value), made(element));
    }
    for path in [
        "emails[type ne \"work\"].value",
        "emails[type eq \"a\" or type eq \"b\"].value",
    ] {
        assert_refused(json!({}), add(path, json!("x")), ScimType::NoTarget);
    }
}

#[test]
fn replace_makes_a_missing_element_only_for_suggested_values() {
    assert_patch(
        json!({}),
        replace("emails[type eq \"work\"].value", json!("x")),
        json!({"emails": [{"type": "work", "value": "x"}]}),
    );
    assert_patch(
        json!({}),
        replace("addresses[type eq \"home\"]", json!({"locality": "Oslo"})),
        json!({"addresses": [{"type": "home", "locality": "Oslo"}]}),
    );
    for path in [
        "emails[type eq \"nonexistent\"].value",
        "emails[value eq \"a\"].value",
        "emails[type eq \"work\" and value eq \"a\"].display",
        "emails[primary eq false].value",
        "emails[type sw \"w\"].value",
        "roles[type eq \"work\"].value",
    ] {
        assert_refused(json!({}), replace(path, json!("x")), ScimType::NoTarget);
    }
}

#[test]
fn a_filter_selects_elements_without_case() {
    assert_patch(
        json!({"emails": [{"type": "Work", "value": "a"}, {"type": "home", "value": "b"}]}),
        replace("emails[TYPE eq \"work\"].Value", json!("c")),
        json!({"emails": [{"type": "Work", "value": "c"}, {"type": "home", "value": "b"}]}),
    );
}

#[test]
fn replace_of_a_selected_element_replaces_it_and_keeps_what_selected_it() {
    let before = json!({"addresses": [
        {"type": "work", "locality": "Oslo", "region": "East"}, {"type": "home", "locality": "Bergen"},
    ]});
    assert_patch(
        before.clone(),
        replace(
            "addresses[type eq \"work\"]",
            json!({"streetAddress": "1 Way"}),
        ),
        json!({"addresses": [
            {"type": "work", "streetAddress": "1 Way"}, {"type": "home", "locality": "Bergen"},
        ]}),
    );
    assert_patch(
        before.clone(),
        add(
            "addresses[type eq \"work\"]",
            json!({"streetAddress": "1 Way"}),
        ),
        json!({"addresses": [
            {"type": "work", "locality": "Oslo", "region": "East", "streetAddress": "1 Way"},
            {"type": "home", "locality": "Bergen"},
        ]}),
    );
    assert_patch(
        before,
        replace("addresses[type eq \"work\"]", json!(null)),
        json!({"addresses": [{"type": "home", "locality": "Bergen"}]}),
    );
}

#[test]
fn replace_on_nothing_is_add() {
    assert_patch(
        json!({}),
        replace("nickName", json!("Babs")),
        json!({"nickName": "Babs"}),
    );
    assert_patch(
        json!({}),
        replace("name.givenName", json!("B")),
        json!({"name": {"givenName": "B"}}),
    );
    assert_patch(
        json!({}),
        replace("emails", json!({"value": "x"})),
        json!({"emails": [{"value": "x"}]}),
    );
}

#[test]
fn complex_values_are_merged() {
    let before = json!({"name": {"givenName": "Barbara", "familyName": "Jensen"}});
    let after = json!({"name": {"givenName": "Babs", "familyName": "Jensen"}});
    assert_patch(
        before.clone(),
        replace("name", json!({"GIVENNAME": "Babs"})),
        after.clone(),
    );
    assert_patch(
        before.clone(),
        add("name", json!({"givenName": "Babs"})),
        after.clone(),
    );
    assert_patch(
        before.clone(),
        json!([{"op": "replace", "value": {"name": {"givenName": "Babs"}}}]),
        after,
    );
    assert_patch(
        before.clone(),
        replace("name", json!({"givenName": null})),
        json!({"name": {"familyName": "Jensen"}}),
    );
    assert_refused(
        before,
        replace("name", json!("Barbara Jensen")),
        ScimType::InvalidValue,
    );
}

#[test]
fn null_and_empty_values_unassign() {
    let before = json!({
        "title": "x", "name": {"givenName": "B"}, "emails": [{"value": "e"}], "active": true,
    });
    let operations = json!([{"op": "replace", "value": {
        "title": null, "name.givenName": null, "emails": [], "active": null,
    }}]);
    assert_patch(before.clone(), operations, json!({}));
    for path in ["title", "name", "emails", "active"] {
        let mut after = map(before.clone());
        after.remove(path);
        assert_patch(
            before.clone(),
            replace(path, json!(null)),
            Value::Object(after.clone()),
        );
        assert_patch(
            before.clone(),
            replace(path, json!([])),
            Value::Object(after),
        );
    }
}

#[test]
fn booleans_come_as_texts() {
    for (given, kept) in [
        ("true", true),
        ("True", true),
        ("FALSE", false),
        ("False", false),
    ] {
        assert_patch(
            json!({}),
            replace("active", json!(given)),
            json!({"active": kept}),
        );
        assert_patch(
            json!({}),
            add("emails", json!([{"value": "x", "primary": given}])),
            json!({"emails": [{"value": "x", "primary": kept}]}),
        );
    }
    for value in [json!("yes"), json!(1), json!({}), json!("")] {
        assert_refused(json!({}), replace("active", value), ScimType::InvalidValue);
    }
}

#[test]
fn the_manager_comes_in_many_shapes() {
    let path = format!("{ENTERPRISE}:manager");
    let with = |manager: Value| json!({ENTERPRISE: {"manager": manager}});
    for value in [
        json!("271"),
        json!({"value": "271"}),
        json!({"Value": "271"}),
        json!([{"value": "271", "$ref": null}]),
        json!(["271"]),
    ] {
        assert_patch(
            json!({}),
            add(&path, value.clone()),
            with(json!({"value": "271"})),
        );
        assert_patch(
            with(json!({"value": "1", "$ref": "../Users/1", "displayName": "Old"})),
            replace(&path, value),
            with(json!({"value": "271"})),
        );
    }
    let qualified = replace(&format!("{path}.value"), json!("271"));
    assert_patch(json!({}), qualified, with(json!({"value": "271"})));
    for value in [
        json!(""),
        json!({"value": ""}),
        json!(null),
        json!([]),
        json!({"value": null}),
    ] {
        assert_patch(
            with(json!({"value": "1", "displayName": "Old"})),
            add(&path, value.clone()),
            json!({}),
        );
        assert_patch(
            with(json!({"value": "1"})),
            replace(&path, value),
            json!({}),
        );
    }
    assert_patch(with(json!({"value": "1"})), remove(&path), json!({}));
    assert_patch(
        with(json!({"value": "1"})),
        replace(&path, json!({"value": "1", "displayName": "Ann"})),
        with(json!({"value": "1", "displayName": "Ann"})),
    );
    assert_refused(
        json!({}),
        replace(&path, json!(271)),
        ScimType::InvalidValue,
    );
}

#[test]
fn a_new_primary_value_takes_the_place_of_the_old_one() {
    let before = json!({"emails": [
        {"type": "work", "value": "w", "primary": true}, {"type": "home", "value": "h"},
    ]});
    let home = json!({"emails": [
        {"type": "work", "value": "w", "primary": false}, {"type": "home", "value": "h", "primary": true},
    ]});
    let operations = replace("emails[type eq \"home\"].primary", json!("True"));
    assert_patch(before.clone(), operations, home.clone());
    let operations = add(
        "emails",
        json!({"type": "home", "value": "h", "primary": true}),
    );
    assert_patch(before.clone(), operations, home);
    assert_patch(
        before,
        add(
            "emails[type eq \"other\"]",
            json!({"value": "o", "primary": true}),
        ),
        json!({"emails": [
            {"type": "work", "value": "w", "primary": false},
            {"type": "home", "value": "h"},
            {"type": "other", "value": "o", "primary": true},
        ]}),
    );
}

#[test]
fn unknown_attributes_are_ignored_and_malformed_paths_refused() {
    assert_patch(json!({}), replace("noSuchAttribute", json!(1)), json!({}));
    assert_patch(json!({}), replace("userName.part", json!(1)), json!({}));
    for path in ["emails[", "a b", ".x", "emails[type eq]", "name.a.b"] {
        assert_refused(json!({}), replace(path, json!("x")), ScimType::InvalidPath);
    }
    assert_refused(
        json!({}),
        replace("title[value eq \"x\"]", json!("x")),
        ScimType::InvalidPath,
    );
    let bad_name = json!([{"op": "add", "value": {"emails[type eq": "x"}}]);
    assert_refused(json!({}), bad_name, ScimType::InvalidPath);
    let bad_type = replace("emails[primary gt true].value", json!("x"));
    assert_refused(json!({}), bad_type, ScimType::InvalidFilter);
}

#[test]
fn foreign_extensions_are_kept() {
    let urn = "urn:acme:params:2.0:User";
    assert_patch(
        json!({}),
        json!([
            {"op": "add", "value": {urn: {"desk": {"floor": 1}, "none": null}}},
            {"op": "add", "path": "urn:ACME:params:2.0:User:Desk.room", "value": "7"},
            {"op": "replace", "path": "urn:acme:params:2.0:User:team", "value": "red"},
        ]),
        json!({urn: {"desk": {"floor": 1, "room": "7"}, "team": "red"}}),
    );
    let before = json!({urn: {"team": "red"}});
    assert_patch(
        before.clone(),
        remove("urn:acme:params:2.0:User:team"),
        json!({}),
    );
    assert_patch(before, remove(urn), json!({}));
}

#[test]
fn a_failing_operation_undoes_all_and_is_named() {
    let operations = json!([
        {"op": "replace", "path": "title", "value": "x"},
        {"op": "replace", "path": "active", "value": "maybe"},
    ]);
    let error = patched(user(json!({})), operations).unwrap_err();
    assert!(
        error.detail.starts_with("Operations[1]: "),
        "{}",
        error.detail
    );
}

#[test]
fn a_document_cannot_grow_without_end() {
    let text = "x".repeat(60_000);
    let operations: Vec<Value> = (0..20)
        .map(|n| json!({"op": "add", "path": "photos", "value": format!("{n}{text}")}))
        .collect();
    assert_refused(json!({}), json!(operations), ScimType::InvalidValue);
    let elements: Vec<Value> = (0..1_001).map(|n| json!(n.to_string())).collect();
    assert_refused(json!({}), add("photos", json!(elements)), ScimType::TooMany);
}

#[test]
fn a_request_cannot_buy_more_work_than_it_is_worth() {
    let emails: Vec<Value> = (0..1_000)
        .map(|n| json!({"value": n.to_string()}))
        .collect();
    let filter = vec!["value eq \"x\""; 60].join(" or ");
    let path = format!("emails[{filter}]");
    let operations = vec![json!({"op": "remove", "path": path}); 1_000];
    let error = patched(user(json!({"emails": emails})), json!(operations)).unwrap_err();
    assert_eq!(
        (error.status, error.scim_type),
        (413, Some(ScimType::TooMany))
    );
    let names = |from: usize| (from..from + 600).map(|n| (format!("k{n}"), json!(n)));
    let extension = |from| names(from).collect::<Value>();
    let operations = json!([
        {"op": "add", "value": {"urn:acme:2.0:User": extension(0)}},
        {"op": "add", "value": {"urn:acme:2.0:User": extension(600)}},
    ]);
    assert_refused(json!({}), operations, ScimType::TooMany);
}

#[test]
fn an_honest_large_request_is_served() {
    let operations: Vec<Value> = (0..200)
        .map(|n| json!({"op": "Add", "path": "roles", "value": [{"value": format!("role-{n}")}]}))
        .collect();
    let after = patched(user(json!({})), json!(operations)).unwrap();
    assert_eq!(after["roles"].as_array().unwrap().len(), 200);
}

#[test]
fn the_examples_of_the_rfc() {
    assert_patch(
        json!({}),
        json!([{"op": "add", "value": {
            "emails": [{"value": "babs@jensen.org", "type": "home"}], "nickname": "Babs",
        }}]),
        json!({"emails": [{"value": "babs@jensen.org", "type": "home"}], "nickName": "Babs"}),
    );
    let address = json!({
        "type": "work", "streetAddress": "911 Universal City Plaza", "locality": "Hollywood",
        "region": "CA", "postalCode": "91608", "country": "US", "primary": true,
    });
    assert_patch(
        json!({"addresses": [{"type": "work", "locality": "Oslo"}]}),
        replace("addresses[type eq \"work\"]", address.clone()),
        json!({"addresses": [address]}),
    );
    assert_patch(
        json!({"addresses": [{"type": "work", "streetAddress": "x"}]}),
        replace(
            "addresses[type eq \"work\"].streetAddress",
            json!("1010 Broadway Ave"),
        ),
        json!({"addresses": [{"type": "work", "streetAddress": "1010 Broadway Ave"}]}),
    );
    assert_patch(
        json!({"emails": [{"type": "work", "value": "x@example.com"}, {"type": "work", "value": "y@e.org"}]}),
        remove("emails[type eq \"work\" and value ew \"example.com\"]"),
        json!({"emails": [{"type": "work", "value": "y@e.org"}]}),
    );
}

// Groups.

fn split(operations: Value) -> Result<GroupPatch, ScimError> {
    members::group(operation::read(body(operations))?)
}

fn member(value: &str) -> MemberValue {
    MemberValue {
        value: value.to_owned(),
        display: None,
    }
}

fn changes(operations: Value) -> Vec<MemberChange> {
    let patch = split(operations).unwrap();
    assert_eq!(patch.document, [], "everything concerns members");
    patch.members
}

#[test]
fn members_are_added_in_every_shape() {
    for value in [
        json!([{"$ref": null, "value": "26"}]),
        json!([{"value": "26"}, {"value": "26"}, null]),
        json!({"Value": "26"}),
        json!("26"),
        json!(["26"]),
    ] {
        let expected = vec![MemberChange::Add(vec![member("26")])];
        assert_eq!(changes(add("members", value.clone())), expected, "{value}");
        let nameless = json!([{"op": "Add", "value": {"Members": value}}]);
        assert_eq!(changes(nameless), expected);
    }
    let okta = add(
        "members",
        json!([{"value": "26", "display": "b@x", "type": "User"}]),
    );
    let full = MemberValue {
        value: "26".to_owned(),
        display: Some("b@x".to_owned()),
    };
    assert_eq!(changes(okta), [MemberChange::Add(vec![full])]);
    assert_eq!(changes(add("members", json!([]))), []);
    assert_eq!(
        changes(add("members[value eq \"26\"]", json!({}))),
        [MemberChange::Add(vec![member("26")])]
    );
}

#[test]
fn members_are_removed_in_every_shape() {
    let one = [MemberChange::Remove(vec!["26".to_owned()])];
    for value in [
        json!([{"$ref": null, "value": "26"}]),
        json!([{"value": "26"}]),
        json!("26"),
    ] {
        let operations = json!([{"op": "Remove", "path": "members", "value": value}]);
        assert_eq!(changes(operations), one);
    }
    assert_eq!(changes(remove("members[value eq \"26\"]")), one);
    assert_eq!(
        changes(remove(
            "urn:ietf:params:scim:schemas:core:2.0:Group:members[VALUE EQ \"26\"]"
        )),
        one
    );
    assert_eq!(
        changes(remove(
            "members[value eq \"1\" or (value eq \"2\" or value eq \"3\")]"
        )),
        [MemberChange::Remove(vec![
            "1".to_owned(),
            "2".to_owned(),
            "3".to_owned()
        ])]
    );
    for operation in [
        json!({"op": "remove", "path": "members"}),
        json!({"op": "remove", "path": "members", "value": null}),
        json!({"op": "remove", "path": "members", "value": []}),
    ] {
        assert_eq!(changes(json!([operation])), [MemberChange::RemoveAll]);
    }
}

#[test]
fn members_are_removed_by_other_filters() {
    let found = changes(remove("members[type eq \"Group\" and display sw \"x\"]"));
    let [MemberChange::RemoveMatching(filter)] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert!(members::matches(
        filter,
        &json!({"value": "1", "type": "Group", "display": "Xy"})
    ));
    assert!(!members::matches(
        filter,
        &json!({"value": "1", "type": "User", "display": "Xy"})
    ));
}

#[test]
fn members_are_replaced() {
    let two = replace("members", json!([{"value": "1"}, {"value": "2"}]));
    assert_eq!(
        changes(two),
        [MemberChange::Replace(vec![member("1"), member("2")])]
    );
    for value in [json!([]), json!(null)] {
        assert_eq!(
            changes(replace("members", value)),
            [MemberChange::Replace(Vec::new())]
        );
    }
}

#[test]
fn okta_removes_and_adds_in_one_request_and_renames_along() {
    let patch = split(json!([
        {"op": "remove", "path": "members[value eq \"1\"]"},
        {"op": "add", "path": "members", "value": [{"value": "2", "display": "two"}]},
        {"op": "replace", "value": {"id": "2819c223", "displayName": "New", "members": "3"}},
    ]))
    .unwrap();
    assert_eq!(patch.members.len(), 3);
    let before = map(json!({"displayName": "Old"}));
    let after = apply(ResourceType::Group, &before, &patch.document, &CONTEXT).unwrap();
    assert_eq!(Value::Object(after), json!({"displayName": "New"}));
}

#[test]
fn the_core_urn_may_hold_members() {
    let patch = split(json!([{"op": "add", "value": {
        "urn:ietf:params:scim:schemas:core:2.0:Group": {"members": ["1"], "displayName": "x"},
    }}]))
    .unwrap();
    assert_eq!(patch.members, [MemberChange::Add(vec![member("1")])]);
    let before = map(json!({"displayName": "Old"}));
    let after = apply(ResourceType::Group, &before, &patch.document, &CONTEXT).unwrap();
    assert_eq!(Value::Object(after), json!({"displayName": "x"}));
}

#[test]
fn members_that_cannot_be_are_refused() {
    let kind = |operations| split(operations).unwrap_err().scim_type.unwrap();
    for value in [
        json!([{}]),
        json!([{"value": null}]),
        json!([7]),
        json!({"value": 7}),
        json!([""]),
        json!(true),
    ] {
        assert_eq!(
            kind(add("members", value.clone())),
            ScimType::InvalidValue,
            "{value}"
        );
    }
    assert_eq!(
        kind(remove("members[value eq \"1\"].type")),
        ScimType::Mutability
    );
    assert_eq!(
        kind(replace("members[value eq \"1\"]", json!({"value": "2"}))),
        ScimType::Mutability
    );
    assert_eq!(kind(remove("members[value]")), ScimType::InvalidPath);
    assert_eq!(
        changes(replace("members[value eq \"1\"].display", json!("x"))),
        []
    );
}

#[test]
fn a_group_keeps_its_name() {
    let before = map(json!({"displayName": "Old"}));
    let run = |operations| {
        let patch = split(operations)?;
        apply(ResourceType::Group, &before, &patch.document, &CONTEXT)
    };
    assert_eq!(
        run(remove("displayName")).unwrap_err().scim_type,
        Some(ScimType::Mutability)
    );
    let empty = replace("displayName", json!(""));
    assert_eq!(
        run(empty).unwrap_err().scim_type,
        Some(ScimType::InvalidValue)
    );
    let id = json!([{"op": "replace", "value": {"id": "other", "displayName": "x"}}]);
    assert_eq!(run(id).unwrap_err().scim_type, Some(ScimType::Mutability));
}

// Whatever is sent.

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        prop_oneof!["work", "home", "True", "", "x", "2819c223"].prop_map(Value::from),
    ];
    let name = prop_oneof![
        "value",
        "type",
        "primary",
        "emails",
        "name",
        "name.givenName",
        "userName",
        "id",
        "meta",
        "groups",
        "password",
        "members",
        "manager",
        "schemas",
        "urn:acme:2.0:User:x",
    ];
    leaf.prop_recursive(3, 16, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name.clone(), inner, 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn any_operation() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        Just(None),
        prop_oneof![
            "userName",
            "title",
            "name",
            "name.givenName",
            "active",
            "emails",
            "emails.value",
            "emails\\[type eq \"work\"\\]",
            "emails\\[type eq \"work\"\\].value",
            "emails\\[primary eq \"True\"\\].primary",
            "roles\\[value sw \"x\"\\]",
            "id",
            "meta",
            "meta.version",
            "groups",
            "password",
            "schemas",
            "unknown",
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager",
            "urn:acme:2.0:User:x.y",
            "urn:acme:2.0:User",
            "[a-z\\[\\]\\.\" ]{0,12}",
        ]
        .prop_map(Some),
    ];
    let op = prop_oneof![Just("add"), Just("Replace"), Just("remove")];
    (op, path, any_json()).prop_map(|(op, path, value)| {
        let mut operation = json!({"op": op, "value": value});
        if let Some(path) = path {
            operation["path"] = path.into();
        }
        operation
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_comes_out_is_a_document(list in proptest::collection::vec(any_operation(), 1..4)) {
        let before = user(json!({"emails": [{"type": "work", "value": "w", "primary": true}]}));
        if let Ok(after) = patched(before, json!(list)) {
            let after = map(after);
            for name in ["id", "meta", "schemas", "groups", "password", "members"] {
                prop_assert!(!after.contains_key(name), "{name}");
            }
            prop_assert!(!Value::Object(after.clone()).to_string().contains("null"));
            let primaries = after.get("emails").and_then(Value::as_array).map_or(0, |list| {
                list.iter().filter(|email| email["primary"] == true).count()
            });
            prop_assert!(primaries <= 1);
            let again = document::read(ResourceType::User, after.clone()).unwrap();
            prop_assert_eq!(again.document, after);
        }
    }

    #[test]
    fn one_operation_twice_is_as_good_as_once(one in any_operation()) {
        // A filter may select by what the operation changes.
        prop_assume!(!one["path"].as_str().unwrap_or_default().contains('['));
        let before = user(json!({"emails": [{"type": "work", "value": "w"}]}));
        if let Ok(once) = patched(before, json!([one]))
            && let Ok(twice) = patched(once.clone(), json!([one]))
        {
            prop_assert_eq!(once, twice);
        }
    }

    #[test]
    fn groups_never_panic(list in proptest::collection::vec(any_operation(), 1..4)) {
        if let Ok(patch) = split(json!(list)) {
            let before = map(json!({"displayName": "x"}));
            if let Ok(after) = apply(ResourceType::Group, &before, &patch.document, &CONTEXT) {
                prop_assert!(!after.contains_key("members"));
            }
        }
    }
}
