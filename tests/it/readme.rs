//! The README shows what the demo really prints.

use std::path::Path;
use std::process::Command;

const BEGIN: &str = "<!-- demo: begin -->";
const END: &str = "<!-- demo: end -->";

/// The account with what differs from run to run left out: times, ports and paths.
fn essence(account: &str) -> Vec<String> {
    const UNITS: [&str; 4] = ["µs", "ms", "s", "min"];
    let is_unit = |word: &str| UNITS.contains(&word.trim_end_matches(['.', ',']));
    account
        .lines()
        .filter(|line| !line.contains("is busy, so the server is on"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut kept = Vec::new();
            for (index, word) in words.iter().enumerate() {
                let is_place = word.contains("127.0.0.1") || word.contains("rollcall-demo-");
                let is_time = words.get(index + 1).is_some_and(|next| is_unit(next));
                if is_place || is_time {
                    kept.push("#");
                } else if !is_unit(word) {
                    kept.push(word);
                }
            }
            kept.join(" ")
        })
        .collect()
}

#[test]
fn the_account_in_the_readme_is_what_the_demo_prints() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let shown = readme
        .split_once(BEGIN)
        .unwrap()
        .1
        .split_once(END)
        .unwrap()
        .0;
    let shown = shown
        .trim()
        .trim_start_matches("```text")
        .trim_end_matches("```")
        .trim();

    let output = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .args(["demo", "--exit"])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();

    assert!(output.status.success(), "{printed}");
    assert_eq!(essence(printed.trim()), essence(shown));
}
