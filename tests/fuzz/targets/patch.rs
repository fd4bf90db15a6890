//! PATCH: whatever is sent to whatever resource, a valid document comes out or an error.
//!
//! The input is two JSON texts with a line break between them: the body of the POST that made the
//! resource, and the body of the PATCH.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall::scim::body::{self, Limits};
use rollcall::scim::error::ScimError;
use rollcall::scim::patch::{Context, apply, members, operation};
use rollcall::scim::schema::{ResourceType, document};
use serde_json::{Map, Value};

/// What the server alone says about a resource, and what no document may hold.
const NEVER_KEPT: [&str; 6] = ["id", "meta", "schemas", "groups", "password", "members"];

const CONTEXT: Context<'_> = Context { id: "2819c223" };

fuzz_target!(|text: &str| {
    let (post, patch) = text.split_once('\n').unwrap_or((text, ""));
    for resource in ResourceType::ALL {
        let Ok(before) = made(resource, post) else {
            continue;
        };
        check(resource, &before);
        if let Ok(after) = patched(resource, &before, patch) {
            check(resource, &after);
        }
    }
});

/// The document that a POST makes.
fn made(resource: ResourceType, text: &str) -> Result<Map<String, Value>, ScimError> {
    let body = body::parse(text.as_bytes(), &Limits::default())?;
    Ok(document::read(resource, body)?.document)
}

/// The document that a PATCH makes of another.
fn patched(
    resource: ResourceType,
    before: &Map<String, Value>,
    text: &str,
) -> Result<Map<String, Value>, ScimError> {
    let body = body::parse(text.as_bytes(), &Limits::default())?;
    let operations = operation::read(body)?;
    let operations = match resource {
        ResourceType::User => operations,
        ResourceType::Group => members::group(operations)?.document,
    };
    apply(resource, before, &operations, &CONTEXT)
}

/// A document says nothing that is the server's to say, holds nothing that is not assigned, prefers
/// one element at most, and is what reading it again would keep.
fn check(resource: ResourceType, document: &Map<String, Value>) {
    for name in NEVER_KEPT {
        let kept = document.keys().any(|key| key.eq_ignore_ascii_case(name));
        assert!(!kept, "{name}");
    }
    for (name, value) in document {
        assert!(!holds_null(value), "{name}");
        if let Some(attribute) = resource.core().find(name)
            && attribute.multi_valued
        {
            let elements = value.as_array().expect("an array");
            let primary = elements.iter().filter(|one| one["primary"] == true);
            assert!(primary.count() <= 1, "{name}");
        }
    }
    let again = document::read(resource, document.clone()).expect("a document is a valid body");
    assert_eq!(&again.document, document);
}

fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(holds_null),
        Value::Object(entries) => entries.values().any(holds_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
