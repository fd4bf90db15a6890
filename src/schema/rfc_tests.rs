//! The schemas of RFC 7643, section 8.7.1, row by row, against what `/Schemas` says; and the members
//! that its sections 5 to 7 ask of the discovery documents.
//!
//! A row is the name and type of an attribute and whatever is not the usual: `many` values,
//! `required`, `caseExact`, a mutability other than `readWrite`, `returned` other than by default,
//! uniqueness other than `none`, canonical values, and what a reference may point to.

use std::collections::BTreeSet;

use serde_json::Value;

use super::discovery;

const BASE: &str = "https://scim.example.com/scim/v2/dir";

const RFC_USER: &str = "
    userName string required unique:server
    name complex
    name.formatted string
    name.familyName string
    name.givenName string
    name.middleName string
    name.honorificPrefix string
    name.honorificSuffix string
    displayName string
    nickName string
    profileUrl reference to:external
    title string
    userType string
    preferredLanguage string
    locale string
    timezone string
    active boolean
    password string writeOnly returned:never
    emails complex many
    emails.value string
    emails.display string
    emails.type string canonical:work,home,other
    emails.primary boolean
    phoneNumbers complex many
    phoneNumbers.value string
    phoneNumbers.display string
    phoneNumbers.type string canonical:work,home,mobile,fax,pager,other
    phoneNumbers.primary boolean
    ims complex many
    ims.value string
    ims.display string
    ims.type string canonical:aim,gtalk,icq,xmpp,msn,skype,qq,yahoo
    ims.primary boolean
    photos complex many
    photos.value reference to:external
    photos.display string
    photos.type string canonical:photo,thumbnail
    photos.primary boolean
    addresses complex many
    addresses.formatted string
    addresses.streetAddress string
    addresses.locality string
    addresses.region string
    addresses.postalCode string
    addresses.country string
    addresses.type string canonical:work,home,other
    groups complex many readOnly
    groups.value string readOnly
    groups.$ref reference readOnly to:User,Group
    groups.display string readOnly
    groups.type string readOnly canonical:direct,indirect
    entitlements complex many
    entitlements.value string
    entitlements.display string
    entitlements.type string
    entitlements.primary boolean
    roles complex many
    roles.value string
    roles.display string
    roles.type string
    roles.primary boolean
    x509Certificates complex many
    x509Certificates.value binary
    x509Certificates.display string
    x509Certificates.type string
    x509Certificates.primary boolean
";

const RFC_GROUP: &str = "
    displayName string
    members complex many
    members.value string immutable
    members.$ref reference immutable to:User,Group
    members.type string immutable canonical:User,Group
";

const RFC_ENTERPRISE: &str = "
    employeeNumber string
    costCenter string
    organization string
    division string
    department string
    manager complex
    manager.value string
    manager.$ref reference to:User
    manager.displayName string readOnly
";

/// Where we differ from these tables: the RFC's row, ours, and why. Its rules go before its tables.
const DIFFERENCES: [(&str, &str, &str); 14] = [
    (
        "User.profileUrl reference to:external",
        "User.profileUrl reference caseExact to:external",
        "references are case exact (section 2.3.7)",
    ),
    (
        "User.photos.value reference to:external",
        "User.photos.value reference caseExact to:external",
        "references are case exact (section 2.3.7)",
    ),
    (
        "User.groups.$ref reference readOnly to:User,Group",
        "User.groups.$ref reference caseExact readOnly to:Group",
        "references are case exact (section 2.3.7), and nobody is a member of a user",
    ),
    (
        "Group.members.$ref reference immutable to:User,Group",
        "Group.members.$ref reference caseExact immutable to:User,Group",
        "references are case exact (section 2.3.7)",
    ),
    (
        "EnterpriseUser.manager.$ref reference to:User",
        "EnterpriseUser.manager.$ref reference caseExact to:User",
        "references are case exact (section 2.3.7)",
    ),
    (
        "User.x509Certificates.value binary",
        "User.x509Certificates.value binary caseExact",
        "binary values are case exact (section 2.3.6)",
    ),
    (
        "User.groups.value string readOnly",
        "User.groups.value string caseExact readOnly",
        "ids are case exact (section 3.1)",
    ),
    (
        "Group.members.value string immutable",
        "Group.members.value string caseExact immutable",
        "ids are case exact (section 3.1)",
    ),
    (
        "EnterpriseUser.manager.value string",
        "EnterpriseUser.manager.value string caseExact",
        "ids are case exact (section 3.1)",
    ),
    (
        "Group.displayName string",
        "Group.displayName string required",
        "groups need a name (section 4.2)",
    ),
    (
        "",
        "Group.members.display string immutable",
        "one of the usual parts (section 2.4), sent by providers",
    ),
    (
        "",
        "User.addresses.primary boolean",
        "one of the usual parts (section 2.4), as the user of section 8.2 has it",
    ),
    (
        "EnterpriseUser.manager.displayName string readOnly",
        "EnterpriseUser.manager.displayName string",
        "a manager may be unknown here, so what the provider says is kept",
    ),
    (
        "User.password string writeOnly returned:never",
        "",
        "taken and thrown away, so not announced",
    ),
];

#[test]
fn every_attribute_is_announced_as_the_rfc_has_it() {
    let mut expected = BTreeSet::new();
    for (schema, table) in [
        ("User", RFC_USER),
        ("Group", RFC_GROUP),
        ("EnterpriseUser", RFC_ENTERPRISE),
    ] {
        let rows = table.lines().map(str::trim).filter(|row| !row.is_empty());
        expected.extend(rows.map(|row| format!("{schema}.{row}")));
    }
    for (rfc, ours, reason) in DIFFERENCES {
        assert!(rfc.is_empty() || expected.remove(rfc), "{rfc}: {reason}");
        assert!(ours.is_empty() || expected.insert(ours.to_owned()));
    }

    let mut announced = BTreeSet::new();
    for schema in discovery::schemas(BASE) {
        let prefix = format!("{}.", schema["name"].as_str().unwrap());
        announced.extend(rows(&prefix, &schema["attributes"]));
    }

    let missing: Vec<&String> = expected.difference(&announced).collect();
    let surplus: Vec<&String> = announced.difference(&expected).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing: {missing:#?}\nsurplus: {surplus:#?}"
    );
}

fn rows(prefix: &str, attributes: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for attribute in attributes.as_array().unwrap() {
        let name = format!("{prefix}{}", attribute["name"].as_str().unwrap());
        if let Some(parts) = attribute.get("subAttributes") {
            found.extend(rows(&format!("{name}."), parts));
        }
        found.push(row(&name, attribute));
    }
    found
}

fn row(name: &str, attribute: &Value) -> String {
    let text = |key: &str| attribute[key].as_str().unwrap();
    let mut words = vec![name.to_owned(), text("type").to_owned()];
    for (key, word) in [
        ("multiValued", "many"),
        ("required", "required"),
        ("caseExact", "caseExact"),
    ] {
        if attribute[key].as_bool().unwrap() {
            words.push(word.to_owned());
        }
    }
    for (key, usual, label) in [
        ("mutability", "readWrite", ""),
        ("returned", "default", "returned:"),
        ("uniqueness", "none", "unique:"),
    ] {
        if text(key) != usual {
            words.push(format!("{label}{}", text(key)));
        }
    }
    for (key, label) in [("canonicalValues", "canonical"), ("referenceTypes", "to")] {
        if let Some(values) = attribute.get(key) {
            let values: Vec<String> = serde_json::from_value(values.clone()).unwrap();
            words.push(format!("{label}:{}", values.join(",")));
        }
    }
    words.join(" ")
}

/// What sections 5, 6 and 7 require of each document, and the type of it; `[]` is every element.
const RFC_CONFIG: [(&str, &str); 15] = [
    ("/schemas/[]", "string"),
    ("/patch/supported", "boolean"),
    ("/bulk/supported", "boolean"),
    ("/bulk/maxOperations", "integer"),
    ("/bulk/maxPayloadSize", "integer"),
    ("/filter/supported", "boolean"),
    ("/filter/maxResults", "integer"),
    ("/changePassword/supported", "boolean"),
    ("/sort/supported", "boolean"),
    ("/etag/supported", "boolean"),
    ("/authenticationSchemes/[]/type", "string"),
    ("/authenticationSchemes/[]/name", "string"),
    ("/authenticationSchemes/[]/description", "string"),
    ("/meta/resourceType", "string"),
    ("/meta/location", "string"),
];

const RFC_RESOURCE_TYPE: [(&str, &str); 10] = [
    ("/schemas/[]", "string"),
    ("/id", "string"),
    ("/name", "string"),
    ("/description", "string"),
    ("/endpoint", "string"),
    ("/schema", "string"),
    ("/schemaExtensions/[]/schema", "string"),
    ("/schemaExtensions/[]/required", "boolean"),
    ("/meta/resourceType", "string"),
    ("/meta/location", "string"),
];

const RFC_SCHEMA: [(&str, &str); 14] = [
    ("/schemas/[]", "string"),
    ("/id", "string"),
    ("/name", "string"),
    ("/description", "string"),
    ("/attributes/[]/name", "string"),
    ("/attributes/[]/type", "string"),
    ("/attributes/[]/multiValued", "boolean"),
    ("/attributes/[]/description", "string"),
    ("/attributes/[]/required", "boolean"),
    ("/attributes/[]/caseExact", "boolean"),
    ("/attributes/[]/mutability", "string"),
    ("/attributes/[]/returned", "string"),
    ("/attributes/[]/uniqueness", "string"),
    ("/meta/location", "string"),
];

#[test]
fn the_discovery_documents_have_what_the_rfc_requires() {
    let check = |documents: Vec<Value>, required: &[(&str, &str)]| {
        for document in &documents {
            for (path, kind) in required {
                for found in places(document, path) {
                    assert_eq!(found, *kind, "{path} of {document}");
                }
            }
        }
    };
    check(vec![discovery::service_provider_config(BASE)], &RFC_CONFIG);
    check(discovery::resource_types(BASE), &RFC_RESOURCE_TYPE);
    check(discovery::schemas(BASE), &RFC_SCHEMA);
}

/// The types of what is found at a path; `[]` in it goes into every element.
fn places(value: &Value, path: &str) -> Vec<&'static str> {
    match path.split_once("/[]") {
        None => vec![kind(value.pointer(path))],
        Some((list, rest)) => {
            let elements = value.pointer(list).and_then(Value::as_array);
            let elements = elements.unwrap_or_else(|| panic!("no array at {path}"));
            let found = elements.iter().flat_map(|element| places(element, rest));
            found.collect()
        }
    }
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        Some(Value::String(text)) if !text.is_empty() => "string",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(number)) if number.is_u64() => "integer",
        _ => "nothing of use",
    }
}
