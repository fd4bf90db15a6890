//! The judgement of a program that others wrote: scim2-tester runs all its checks against a server
//! here, and every one must pass.
//!
//! `ROLLCALL_TEST_PYTHON` names a Python that has what `conformance/requirements.txt` lists; without
//! it, `python3` is taken if it has that. Where there is neither the tests say so and pass;
//! `ROLLCALL_TEST_REQUIRE_ALL=1` makes them fail instead.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::postgres::environment;
use crate::support::{Idp, TestApp};

/// What a check may end with: all that is within the RFCs, recommendations included.
const GOOD: [&str; 3] = ["SUCCESS", "COMPLIANT", "ACCEPTABLE"];

on_both! {
    every_check_of_scim2_tester_passes,
}

async fn every_check_of_scim2_tester_passes(app: TestApp) {
    let Some(python) = python() else { return };
    let idp = app.idp().await;

    let judged = tokio::task::spawn_blocking(move || judge(python, &idp)).await;
    let output = judged.unwrap();

    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    let checks: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let failed: Vec<String> = checks
        .iter()
        .filter(|check| !GOOD.contains(&check["status"].as_str().unwrap()))
        .map(Value::to_string)
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let changed: BTreeSet<&str> = checks
        .iter()
        .filter(|check| check["check"] == "check_replace_attribute")
        .filter_map(|check| check["resource"].as_str())
        .collect();
    assert_eq!(
        changed,
        BTreeSet::from(["User", "Group"]),
        "what was judged"
    );
}

/// Runs all checks on one directory.
fn judge(python: &str, idp: &Idp) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/conformance/check.py");
    Command::new(python)
        .arg(script)
        .arg(&idp.base_url)
        .env("SCIM_TOKEN", &idp.token)
        .output()
        .expect("Python runs")
}

/// A Python that has scim2-tester, if there is one.
fn python() -> Option<&'static str> {
    static PYTHON: OnceLock<Option<String>> = OnceLock::new();
    PYTHON.get_or_init(find_python).as_deref()
}

fn find_python() -> Option<String> {
    if let Some(named) = environment("ROLLCALL_TEST_PYTHON") {
        assert!(has_tester(&named), "{named} has no scim2-tester");
        return Some(named);
    }
    let usual = "python3".to_owned();
    if has_tester(&usual) {
        return Some(usual);
    }
    assert!(
        environment("ROLLCALL_TEST_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "scim2-tester is not installed"
    );
    eprintln!(
        "skipped: no scim2-tester; install tests/it/conformance/requirements.txt with pip and set \
         ROLLCALL_TEST_PYTHON to that Python"
    );
    None
}

fn has_tester(python: &str) -> bool {
    let tried = Command::new(python)
        .args(["-c", "import httpx2, scim2_tester"])
        .output();
    tried.is_ok_and(|output| output.status.success())
}
