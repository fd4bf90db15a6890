//! The paths of PATCH: whatever is read stays within the limits, survives printing, and resolves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall::scim::filter::path::Path;
use rollcall::scim::filter::{BYTES_MAX, COMPARISONS_MAX, Filter};
use rollcall::scim::schema::{AttributePath, ResourceType, resolve, resolve_text};

fuzz_target!(|text: &str| {
    for resource in ResourceType::ALL {
        drop(resolve_text(resource, text));
    }
    if let Some(name) = AttributePath::parse(text) {
        assert_eq!(name.to_string(), text);
    }
    let Ok(path) = Path::parse(text) else {
        return;
    };
    assert!(text.len() <= BYTES_MAX);
    let comparisons = path.filter.as_ref().map_or(0, Filter::comparisons);
    assert!(comparisons <= COMPARISONS_MAX);
    let printed = path.to_string();
    match Path::parse(&printed) {
        Ok(again) => assert_eq!(again, path, "{printed}"),
        Err(error) => assert!(printed.len() > BYTES_MAX, "{printed}: {error}"),
    }
    for resource in ResourceType::ALL {
        drop(resolve(resource, &path.attribute));
    }
});
