//! `rollcall doctor`: looks for what is wrong, and says what to do about it. It changes nothing.

mod database;
mod outside;

use serde_json::{Value, json};

use super::print_line;
use crate::config::Config;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What was found, in one line.
#[derive(Debug)]
struct Finding {
    verdict: Verdict,
    about: &'static str,
    text: String,
}

impl Finding {
    fn ok(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, about, &text.into())
    }

    fn warn(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Warn, about, &text.into())
    }

    fn fail(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, about, &text.into())
    }

    /// A failure that says itself what to do.
    fn failed(about: &'static str, error: impl Into<anyhow::Error>) -> Self {
        Self::fail(about, format!("{:#}", error.into()))
    }

    fn new(verdict: Verdict, about: &'static str, text: &str) -> Self {
        Self {
            verdict,
            about,
            text: text.replace('\n', " "),
        }
    }

    fn view(&self) -> Value {
        json!({"verdict": self.verdict.as_str(), "about": self.about, "text": self.text})
    }
}

/// Looks at everything; `false` if something is wrong.
pub(super) async fn run(config: &Config, is_json: bool) -> anyhow::Result<bool> {
    let (mut findings, endpoints) = database::examine(config).await;
    findings.extend(outside::public_url(config).await);
    findings.extend(outside::receivers(config, endpoints).await);
    let is_well = findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Fail);
    if is_json {
        let findings: Vec<Value> = findings.iter().map(Finding::view).collect();
        print_line(&json!({"ok": is_well, "findings": findings}).to_string())?;
        return Ok(is_well);
    }
    for finding in &findings {
        print_line(&format!(
            "{:4}  {:15}  {}",
            finding.verdict.as_str(),
            finding.about,
            finding.text
        ))?;
    }
    Ok(is_well)
}
