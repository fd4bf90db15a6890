//! The reader of request bodies: what it lets through is the JSON that was sent, within the limits.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use rollcall::scim::body::{Limits, parse};
use serde_json::Value;

/// Limits that a short text can reach.
const SMALL: Limits = Limits {
    depth: 4,
    keys: 4,
    members: 6,
    items: 3,
    operations: 2,
    string_bytes: 16,
};

fuzz_target!(|bytes: &[u8]| {
    let wide = parse(bytes, &Limits::default());
    let narrow = parse(bytes, &SMALL);
    if let Ok(body) = &wide {
        let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let plain: Value = serde_json::from_slice(text).expect("JSON to serde as well");
        assert_eq!(plain, Value::Object(body.clone()));
        check(&plain, &Limits::default(), Limits::default().items);
    }
    if let Ok(body) = narrow {
        check(&Value::Object(body.clone()), &SMALL, SMALL.items);
        assert_eq!(wide.ok(), Some(body), "narrow limits refuse more, not less");
    }
});

/// Nothing in a value is beyond the limits. `items_max` holds for the value itself if it is an array.
fn check(value: &Value, limits: &Limits, items_max: usize) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => check_text(text, limits),
        Value::Array(items) => {
            let inner = deeper(limits);
            assert!(items.len() <= items_max);
            for item in items {
                check(item, &inner, items_max);
            }
        }
        Value::Object(entries) => {
            let inner = deeper(limits);
            assert!(entries.len() <= limits.keys);
            let names: HashSet<String> = entries.keys().map(|key| key.to_lowercase()).collect();
            assert!(names.len() == entries.len() || !entries.keys().all(|key| key.is_ascii()));
            for (key, value) in entries {
                check_text(key, limits);
                check(value, &inner, items_max_under(key, limits));
            }
        }
    }
}

/// The limits one level further down.
fn deeper(limits: &Limits) -> Limits {
    let depth = limits.depth.checked_sub(1).expect("no deeper than allowed");
    Limits { depth, ..*limits }
}

fn check_text(text: &str, limits: &Limits) {
    assert!(text.len() <= limits.string_bytes);
    assert!(!text.contains('\0'));
}

fn items_max_under(key: &str, limits: &Limits) -> usize {
    let key = key.to_ascii_lowercase();
    if key == "operations" {
        limits.operations
    } else if key == "value" || key == "members" || key.ends_with(":members") {
        limits.members
    } else {
        limits.items
    }
}
