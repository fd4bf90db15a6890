//! Filters: whatever is read stays within the limits, survives printing, and can be evaluated.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rollcall::scim::filter::pushdown::pushdown;
use rollcall::scim::filter::{BYTES_MAX, COMPARISONS_MAX, Filter, NESTING_MAX, eval, parse};
use rollcall::scim::schema::ResourceType;
use serde_json::{Map, Value};

/// A user with something under most names that a filter could mention.
static DOCUMENT: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../user.json")).expect("an object"));

fuzz_target!(|text: &str| {
    let Ok(filter) = parse(text) else {
        return;
    };
    assert!(text.len() <= BYTES_MAX);
    assert!(filter.comparisons() <= COMPARISONS_MAX);
    assert!(depth(&filter) <= 2 * NESTING_MAX + 3);
    check_printing(&filter);
    for resource in ResourceType::ALL {
        let checked = eval::check(&filter, resource).is_ok();
        let matched = eval::matches(&filter, resource, &DOCUMENT);
        assert_eq!(matched.is_ok(), checked);
        drop(pushdown(&filter, resource));
    }
});

/// Reading what was printed gives the same filter. Numbers may be longer in print (`1e15`), so a
/// filter at the very limit of bytes may pass it.
fn check_printing(filter: &Filter) {
    let printed = filter.to_string();
    match parse(&printed) {
        Ok(again) => assert_eq!(&again, filter, "{printed}"),
        Err(error) => assert!(printed.len() > BYTES_MAX, "{printed}: {error}"),
    }
}

/// How deep a walk through the tree goes. Each bracket opens at most two levels: itself, and an `and`
/// or `or` in it.
fn depth(filter: &Filter) -> usize {
    1 + match filter {
        Filter::And(operands) | Filter::Or(operands) => {
            operands.iter().map(depth).max().unwrap_or(0)
        }
        Filter::Not(inner) => depth(inner),
        Filter::ValuePath { filter, .. } => depth(filter),
        Filter::Compare { .. } | Filter::Present { .. } => 0,
    }
}
