//! Who may use whom, read from the source itself.
//!
//! A module is a file or directory right below `src/`. What counts is every `crate::name` in code,
//! tests left out, and every path of a foreign crate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Modules that know nothing of what Rollcall is about.
const FOUNDATIONS: [&str; 9] = [
    "actor", "clock", "ids", "json", "keys", "metrics", "outbound", "secrets", "storage",
];
/// Modules that may be built on foundations, and not the other way round.
const ABOVE: [&str; 19] = [
    "activity",
    "api",
    "app",
    "audit",
    "cli",
    "context",
    "demo",
    "directories",
    "events",
    "first_start",
    "jobs",
    "limits",
    "requests",
    "schema",
    "scim",
    "simulate",
    "tenancy",
    "web",
    "webhooks",
];

/// For each module the names that follow `crate::` in it.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, code) in sources() {
        uses.entry(module).or_default().extend(crate_paths(&code));
    }
    uses
}

/// The modules whose code has a path of this crate.
fn modules_with(foreign: &str) -> BTreeSet<String> {
    let path = format!("{foreign}::");
    sources()
        .into_iter()
        .filter(|(_, code)| code.contains(&path))
        .map(|(module, _)| module)
        .collect()
}

/// Every source file's module and code, without comments and tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut left = vec![root.clone()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        let is_code = path.extension().is_some_and(|extension| extension == "rs");
        if !is_code
            || path
                .file_stem()
                .is_some_and(|stem| stem.to_str().unwrap().ends_with("tests"))
        {
            continue;
        }
        let module = name.split('/').next().unwrap().trim_end_matches(".rs");
        found.push((
            module.to_owned(),
            code_of(&std::fs::read_to_string(&path).unwrap()),
        ));
    }
    assert!(found.len() > 50, "the sources are where they should be");
    found
}

/// The code up to the tests at its end, without lines that are comments.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The names that follow `crate::`, also those in `crate::{…}`.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => names.extend(heads_of_group(group)),
            None => names.extend(identifier(rest)),
        }
    }
    names
}

/// The first names of `a::b, c::{d, e}, f}`.
fn heads_of_group(group: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut name = String::new();
    let mut depth = 0;
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.extend(identifier(name.trim_start()));
                name.clear();
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ if depth == 0 => name.push(character),
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

#[track_caller]
fn assert_only_in(foreign: &str, allowed: &[&str]) {
    let found = modules_with(foreign);
    let wrong: Vec<&String> = found
        .iter()
        .filter(|module| !allowed.contains(&module.as_str()))
        .collect();
    assert!(wrong.is_empty(), "{foreign} is used in {wrong:?}");
}

#[track_caller]
fn assert_uses_none_of(module: &str, forbidden: &[&str]) {
    let uses = uses();
    let wrong: Vec<&String> = uses[module]
        .iter()
        .filter(|name| forbidden.contains(&name.as_str()))
        .collect();
    assert!(wrong.is_empty(), "{module} uses {wrong:?}");
}

#[test]
fn http_is_served_where_somebody_is_served() {
    assert_only_in("actix_web", &["api", "app", "demo", "scim", "web"]);
}

#[test]
fn requests_leave_through_outbound_only() {
    assert_only_in("reqwest", &["outbound"]);
    assert_only_in("lettre", &["mail"]);
}

#[test]
fn directories_do_not_know_who_is_told() {
    assert_uses_none_of("directories", &["api", "scim", "web", "webhooks"]);
}

#[test]
fn events_know_neither_who_makes_nor_who_sends_them() {
    assert_uses_none_of("events", &["api", "directories", "scim", "web", "webhooks"]);
}

#[test]
fn what_a_resource_may_be_depends_on_nobody_who_asks() {
    assert_uses_none_of(
        "schema",
        &["api", "events", "scim", "storage", "web", "webhooks"],
    );
}

#[test]
fn audiences_do_not_use_each_other() {
    assert_uses_none_of("scim", &["api", "cli", "demo"]);
    assert_uses_none_of("api", &["cli", "demo", "scim"]);
}

#[test]
fn foundations_use_foundations_only() {
    for module in FOUNDATIONS {
        assert_uses_none_of(module, &ABOVE);
    }
}

#[test]
fn every_module_is_known_to_these_rules() {
    const OTHERS: [&str; 4] = ["config", "lib", "main", "telemetry"];
    for module in uses().keys() {
        let name = module.as_str();
        assert!(
            FOUNDATIONS.contains(&name) || ABOVE.contains(&name) || OTHERS.contains(&name),
            "{name} is in none of the lists here"
        );
    }
}

#[test]
fn paths_are_found_in_every_form() {
    let code =
        "use crate::{api, jobs::{a, b}, scim};\nuse crate::events::Kind;\npub(crate) fn f() {}";

    let found: Vec<String> = crate_paths(code).into_iter().collect();

    assert_eq!(found, ["api", "events", "jobs", "scim"]);
}
