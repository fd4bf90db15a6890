//! Filters: grammar, printing, limits, evaluation, and `scim_v2`'s parser as a second opinion.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{AttributePath, CompareOp, Filter, Literal, eval, parse};
use crate::scim::error::ScimType;
use crate::scim::schema::ResourceType;

fn printed(text: &str) -> String {
    parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .to_string()
}

fn document() -> Map<String, Value> {
    let value = json!({
        "id": "2819c223-7F76",
        "externalId": "Ext-1",
        "userName": "BJensen",
        "displayName": "Élodie",
        "name": {"familyName": "O'Malley", "givenName": "Barbara"},
        "title": "",
        "userType": "Employee",
        "active": true,
        "emails": [
            {"type": "work", "value": "bjensen@example.com", "primary": true},
            {"type": "home", "value": "babs@jensen.org"},
        ],
        "meta": {"lastModified": "2011-05-13T04:42:34Z", "resourceType": "User"},
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {
            "employeeNumber": "701984",
            "manager": {"value": "26118915", "displayName": "John"},
        },
        "urn:acme:hr:2.0:User": {
            "badge": "B-17",
            "level": 7,
            "remote": false,
            "desks": [{"floor": "3", "value": "3-12"}, {"floor": "4", "value": "4-01"}],
        },
    });
    value.as_object().unwrap().clone()
}

fn found(text: &str) -> bool {
    let filter = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    eval::matches(&filter, ResourceType::User, &document()).unwrap()
}

#[test]
fn printing_is_canonical() {
    for (text, canonical) in [
        ("userName EQ \"x\"", "userName eq \"x\""),
        ("  a pr and(b PR)OR c pr ", "a pr and b pr or c pr"),
        ("a pr and (b pr or c pr)", "a pr and (b pr or c pr)"),
        ("a pr and (b pr and c pr)", "a pr and b pr and c pr"),
        ("(a pr or b pr) or c pr", "a pr or b pr or c pr"),
        ("not(a pr)", "not (a pr)"),
        ("NOT (a pr and NOT (b pr))", "not (a pr and not (b pr))"),
        ("emails [ type eq \"work\" ]", "emails[type eq \"work\"]"),
        (
            "emails[type eq \"work\"].value eq \"x\"",
            "emails[type eq \"work\" and value eq \"x\"]",
        ),
        (
            "emails[a pr or b pr].value pr",
            "emails[(a pr or b pr) and value pr]",
        ),
        ("a eq \"\\u00e9\\\"\\\\\\n\\/\"", "a eq \"é\\\"\\\\\\n/\""),
        ("a eq True and b eq NULL", "a eq true and b eq null"),
        ("a gt -1.50e2", "a gt -150.0"),
        ("a eq 18446744073709551615", "a eq 18446744073709551615"),
        (
            "urn:ietf:params:scim:schemas:core:2.0:User:name.familyName co \"x\"",
            "urn:ietf:params:scim:schemas:core:2.0:User:name.familyName co \"x\"",
        ),
        ("not pr", "not pr"),
        ("and eq 1 and or eq 2", "and eq 1 and or eq 2"),
        ("members.$ref pr", "members.$ref pr"),
    ] {
        assert_eq!(printed(text), canonical, "{text}");
        assert_eq!(printed(canonical), canonical);
    }
}

#[test]
fn and_binds_closer_than_or() {
    let Filter::Or(operands) = parse("a pr or b pr and c pr").unwrap() else {
        panic!()
    };
    assert!(matches!(
        operands.as_slice(),
        [Filter::Present { .. }, Filter::And(_)]
    ));
}

#[test]
fn malformed_filters_are_invalid_filter() {
    for text in [
        "",
        " ",
        "userName",
        "userName eq",
        "userName eq bjensen",
        "userName foo \"x\"",
        "eq \"x\"",
        "userName eq \"x",
        "userName eq \"x\" and",
        "and a pr",
        "(a pr",
        "a pr)",
        "a pr b pr",
        "not a pr",
        "a.b.c pr",
        "a. pr",
        ".a pr",
        "a eq 01",
        "a eq 1.",
        "a eq 1e999",
        "a eq 'x'",
        "a eq \"\\x\"",
        "a eq \"\\ud800\"",
        "a eq \"\n\"",
        "a eq \"\\u0000\"",
        "emails[]",
        "emails[type eq \"work\"",
        "emails[a[b pr]]",
        "emails[a pr].b.c pr",
        "emails[a pr].value",
        "a = \"x\"",
        "a eq \"x\" & b pr",
        "é pr",
        "a eq [1]",
        "\"a\" pr",
        "a pr pr",
        "()",
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(
            (error.status, error.scim_type),
            (400, Some(ScimType::InvalidFilter)),
            "{text}"
        );
    }
    assert!(
        parse("userName xx \"a\"")
            .unwrap_err()
            .detail
            .contains("position 10")
    );
    assert!(
        parse("a eq \"é\" und")
            .unwrap_err()
            .detail
            .contains("position 10")
    );
}

#[test]
fn limits_hold_and_hostile_filters_are_plain_errors() {
    let nested = |depth: usize| format!("{}a pr{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&nested(16)).is_ok());
    assert!(parse(&nested(17)).is_err());
    assert!(parse(&nested(3_000)).is_err());
    assert!(parse(&"(".repeat(10_000)).is_err());
    assert!(parse(&"not (".repeat(1_600)).is_err());
    assert!(parse(&"a[".repeat(4_000)).is_err());
    let chain = |count: usize| vec!["a pr"; count].join(" or ");
    assert!(parse(&chain(64)).is_ok());
    assert!(parse(&chain(65)).is_err());
    let long = |bytes: usize| format!("a eq \"{}\"", "x".repeat(bytes - 7));
    assert!(parse(&long(8 * 1024)).is_ok());
    assert!(parse(&long(8 * 1024 + 1)).is_err());
}

#[test]
fn texts_compare_by_the_case_rules_of_the_schema() {
    for text in [
        "userName eq \"bjensen\"",
        "USERNAME eq \"BJENSEN\"",
        "displayName eq \"ÉLODIE\"",
        "displayName eq \"e\u{301}lodie\"",
        "userName co \"JEN\"",
        "userName sw \"bj\"",
        "userName ew \"SEN\"",
        "userName gt \"a\"",
        "userName le \"bjensen\"",
        "name.familyName eq \"o'malley\"",
        "externalId eq \"Ext-1\"",
        "id eq \"2819c223-7F76\"",
        "urn:ietf:params:scim:schemas:core:2.0:User:userName eq \"bjensen\"",
    ] {
        assert!(found(text), "{text}");
    }
    for text in [
        "externalId eq \"ext-1\"",
        "id eq \"2819C223-7F76\"",
        "userName eq \"bjense\"",
        "userName gt \"bjensen\"",
        "externalId sw \"ext\"",
    ] {
        assert!(!found(text), "{text}");
    }
}

#[test]
fn booleans_dates_and_numbers_compare_by_value() {
    for text in [
        "active eq true",
        "active eq \"True\"",
        "active ne false",
        "not (active eq false)",
        "meta.lastModified gt \"2011-05-13T04:42:33Z\"",
        "meta.lastModified eq \"2011-05-13T06:42:34+02:00\"",
        "meta.lastModified le \"2011-05-13T04:42:34.000Z\"",
        "meta.lastModified eq \"2011-05-13T04:42:34\"",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber eq 701984",
    ] {
        assert!(found(text), "{text}");
    }
    assert!(!found("meta.lastModified lt \"2011-05-13T04:42:34Z\""));
}

#[test]
fn attributes_of_unknown_extensions_are_compared_by_the_type_of_the_literal() {
    let of = |test: &str| found(&format!("urn:acme:hr:2.0:User:{test}"));
    for test in [
        "badge eq \"b-17\"",
        "BADGE sw \"B\"",
        "badge pr",
        "level gt 6",
        "level eq 7.0",
        "remote eq false",
        "desks eq \"4-01\"",
        "desks.floor eq \"3\"",
        "nothing ne \"x\"",
    ] {
        assert!(of(test), "{test}");
    }
    for test in [
        "badge eq 7",
        "level eq \"7\"",
        "remote eq true",
        "desks.floor eq \"5\"",
        "nothing pr",
        "nothing eq \"x\"",
    ] {
        assert!(!of(test), "{test}");
    }
}

#[test]
fn multi_valued_and_complex_attributes_match_by_any_value() {
    for text in [
        "emails co \"jensen.org\"",
        "emails.value eq \"BABS@jensen.org\"",
        "emails.type ne \"work\"",
        "emails[type eq \"work\" and value co \"@example.com\"]",
        "emails[type eq \"work\"].value eq \"bjensen@example.com\"",
        "emails[primary eq \"true\"].type eq \"work\"",
        "emails[not (type eq \"work\")]",
        "name[givenName eq \"barbara\"]",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager eq \"26118915\"",
    ] {
        assert!(found(text), "{text}");
    }
    for text in [
        "emails[type eq \"work\" and value co \"jensen.org\"]",
        "emails[type eq \"home\"].value eq \"bjensen@example.com\"",
        "phoneNumbers[type eq \"work\"]",
        "phoneNumbers.value eq \"1\"",
    ] {
        assert!(!found(text), "{text}");
    }
}

#[test]
fn absence_is_told_from_presence() {
    for text in [
        "userName pr",
        "emails pr",
        "emails.type pr",
        "name pr",
        "not (title pr)",
        "active pr",
        "nickName ne \"x\"",
        "nickName eq null",
        "userName ne null",
        "phoneNumbers.type ne \"x\"",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User pr",
    ] {
        assert!(found(text), "{text}");
    }
    for text in [
        "nickName pr",
        "title pr",
        "phoneNumbers pr",
        "emails.display pr",
        "unknown pr",
        "unknown eq \"x\"",
        "unknown ne \"x\"",
        "name.unknown eq 1",
        "urn:x:y pr",
        "unknown[a eq 1]",
        "nickName eq \"x\"",
        "userName eq null",
    ] {
        assert!(!found(text), "{text}");
    }
}

#[test]
fn comparisons_that_a_type_forbids_are_invalid_filter_whoever_is_asked() {
    for text in [
        "active gt true",
        "active co \"t\"",
        "active eq \"maybe\"",
        "active eq 1",
        "name eq \"x\"",
        "meta.lastModified co \"2011\"",
        "meta.lastModified gt \"yesterday\"",
        "meta.created eq 5",
        "emails[primary gt true]",
        "userName[value eq \"x\"]",
        "userName gt null",
        "x509Certificates.value gt \"a\"",
        "a pr or not (active lt false)",
    ] {
        let filter = parse(text).unwrap();
        let error = eval::matches(&filter, ResourceType::User, &Map::new()).expect_err(text);
        assert_eq!(error.scim_type, Some(ScimType::InvalidFilter), "{text}");
    }
}

#[test]
fn groups_are_asked_for_members() {
    let group = json!({"id": "g", "displayName": "Tour Guides", "members": [{"value": "u"}]});
    let group = group.as_object().unwrap();
    let found = |text| eval::matches(&parse(text).unwrap(), ResourceType::Group, group).unwrap();
    assert!(found("id eq \"g\" and members eq \"u\""));
    assert!(!found("id eq \"g\" and members eq \"U\""));
    assert!(found("displayName eq \"tour guides\""));
}

fn any_path() -> impl Strategy<Value = AttributePath> {
    let name = "\\$?[a-zA-Z][a-zA-Z0-9_-]{0,6}";
    let schema = proptest::option::of("urn:[a-z]{1,4}:2\\.0:[A-Z][a-z]{0,4}");
    (schema, name, proptest::option::of(name)).prop_map(|(schema, name, sub)| AttributePath {
        schema,
        name,
        sub,
    })
}

fn any_literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        Just(Literal::Null),
        any::<bool>().prop_map(Literal::Boolean),
        any::<i64>().prop_map(|number| Literal::Number(number.into())),
        any::<f64>().prop_filter_map("finite", |number| {
            serde_json::Number::from_f64(number).map(Literal::Number)
        }),
        any::<String>()
            .prop_filter("no NUL", |text| !text.contains('\0'))
            .prop_map(Literal::Text),
    ]
}

fn any_filter(with_brackets: bool) -> BoxedStrategy<Filter> {
    let op = proptest::sample::select(CompareOp::ALL.as_slice());
    let compare = (any_path(), op, any_literal()).prop_map(|(path, op, value)| Filter::Compare {
        path,
        op,
        value,
    });
    let present = any_path().prop_map(|path| Filter::Present { path });
    let leaf = if with_brackets {
        let brackets =
            (any_path(), any_filter(false)).prop_map(|(path, filter)| Filter::ValuePath {
                path,
                filter: Box::new(filter),
            });
        prop_oneof![compare, present, brackets].boxed()
    } else {
        prop_oneof![compare, present].boxed()
    };
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(left, right)| left.and(right)),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| left.or(right)),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
    .boxed()
}

/// Texts that are often filters.
fn likely_filter() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "userName",
        "emails",
        "name.familyName",
        "a",
        "urn:b:2.0:C:d.e",
        " ",
        " ",
        "  ",
        "eq",
        " eq ",
        " co ",
        " pr",
        " and ",
        " or ",
        "not ",
        "not",
        "(",
        ")",
        "[",
        "]",
        ".",
        "\"x\"",
        "\"\\u00e9\"",
        "1",
        "-2.5e1",
        "true",
        "null",
        "\u{a0}",
        "\t",
        "é",
        "\"",
        "\\",
        "pr",
        "$ref",
        "0",
        ":",
    ]);
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn printing_and_parsing_are_inverse(filter in any_filter(true)) {
        let text = filter.to_string();
        prop_assume!(text.len() <= super::BYTES_MAX);
        prop_assert_eq!(parse(&text).unwrap(), filter);
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        drop(parse(&text));
        drop(super::path::Path::parse(&text));
    }

    #[test]
    fn what_scim_v2_accepts_is_accepted(text in likely_filter()) {
        if text.parse::<scim_v2::filter::Filter>().is_ok() {
            prop_assert!(parse(&text).is_ok(), "{}", text);
        }
        if text.parse::<scim_v2::filter::PatchPath>().is_ok() {
            prop_assert!(super::path::Path::parse(&text).is_ok(), "{}", text);
        }
        if let Ok(filter) = parse(&text) {
            prop_assert_eq!(parse(&filter.to_string()).unwrap(), filter);
        }
    }

    #[test]
    fn scim_v2_reads_a_printed_filter_as_it_was_meant(filter in any_filter(true)) {
        let text = filter.to_string();
        if let Ok(theirs) = text.parse::<scim_v2::filter::Filter>() {
            // Their parser rounds numbers, so the trees are compared without them.
            let without_numbers = |filter: &Filter| {
                filter.to_string().replace(|letter: char| "-+.0123456789e".contains(letter), "")
            };
            let ours = parse(&theirs.to_string()).unwrap();
            prop_assert_eq!(without_numbers(&ours), without_numbers(&filter));
        }
    }

    #[test]
    fn evaluation_never_panics(filter in any_filter(true)) {
        drop(eval::matches(&filter, ResourceType::User, &document()));
    }
}
