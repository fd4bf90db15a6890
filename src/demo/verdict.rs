//! What the demo proves in the end, in a few lines with figures.

use super::{account::mark, checker::Checker};
use crate::simulate::{
    Figures, Summary, figures,
    terminal::{Ink, Terminal},
};

/// How many details of one finding are printed.
const DETAILS_MAX: usize = 5;

/// What is known of one directory when all is over.
pub(super) struct Evidence<'a> {
    pub(super) directory: &'a str,
    pub(super) last_sequence: u64,
    pub(super) summary: &'a Summary,
    /// Events that no request explains.
    pub(super) unexplained: Vec<String>,
    /// Events that a request must have caused and that never came.
    pub(super) outstanding: usize,
}

/// A line of the verdict.
struct Finding {
    text: String,
    /// What speaks against it; it holds when nothing does.
    details: Vec<String>,
}

/// Prints the verdict on everything that our own receiver saw; whether all is well.
pub(super) fn print(
    terminal: &Terminal,
    checker: &Checker,
    evidence: &[Evidence<'_>],
    latencies: Option<Figures>,
) -> bool {
    let findings = [
        arrivals(checker, evidence),
        Finding {
            text: format!(
                "{} signatures verified, WorkOS-Signature and Standard Webhooks",
                checker.signatures
            ),
            details: Vec::new(),
        },
        order(checker),
        completeness(checker, evidence),
        copies(checker, evidence),
        answers(evidence),
    ];
    let is_well = write(terminal, &findings);
    if let Some(figures) = latencies {
        let (median, p99) = (
            figures::duration(figures.median),
            figures::duration(figures.p99),
        );
        let longest = figures::duration(figures.longest);
        terminal.line(&format!(
            "\n  SCIM answer to verified webhook: median {}, p99 {}, longest {longest}",
            terminal.ink(Ink::Bold, &median),
            terminal.ink(Ink::Bold, &p99),
        ));
    }
    is_well
}

/// Prints the verdict when webhooks went to somebody else's receiver; whether all is well.
pub(super) fn print_forwarded(
    terminal: &Terminal,
    evidence: &[Evidence<'_>],
    undelivered: u64,
) -> bool {
    let sent: u64 = evidence.iter().map(|one| one.last_sequence).sum();
    let details = match undelivered {
        0 => Vec::new(),
        count => vec![format!(
            "{count} are still waiting; Rollcall goes on trying"
        )],
    };
    let delivered = sent.saturating_sub(undelivered);
    let text = format!("{delivered} of {sent} events delivered, each answered with 2xx");
    write(terminal, &[Finding { text, details }, answers(evidence)])
}

fn write(terminal: &Terminal, findings: &[Finding]) -> bool {
    for finding in findings {
        let is_well = finding.details.is_empty();
        terminal.line(&format!("{} {}", mark(terminal, is_well), finding.text));
        for detail in finding.details.iter().take(DETAILS_MAX) {
            terminal.line(&terminal.ink(Ink::Red, &format!("    {detail}")));
        }
        if let more @ 1.. = finding.details.len().saturating_sub(DETAILS_MAX) {
            terminal.line(&terminal.ink(Ink::Red, &format!("    and {more} more")));
        }
    }
    findings.iter().all(|finding| finding.details.is_empty())
}

fn arrivals(checker: &Checker, evidence: &[Evidence<'_>]) -> Finding {
    let sent: u64 = evidence.iter().map(|one| one.last_sequence).sum();
    let again = match checker.duplicates {
        0 => "each once".to_owned(),
        count => format!("{} recognized", figures::counted(count, "repetition")),
    };
    let text = format!("{} of {sent} events arrived, {again}", checker.arrived());
    let mut details: Vec<String> = evidence
        .iter()
        .flat_map(|one| one.unexplained.iter().cloned())
        .collect();
    let outstanding: usize = evidence.iter().map(|one| one.outstanding).sum();
    if outstanding > 0 {
        details.push(format!(
            "{outstanding} that a request must have caused never came"
        ));
    }
    Finding { text, details }
}

fn order(checker: &Checker) -> Finding {
    let (violations, count) = checker.violations();
    let mut details = violations.to_vec();
    if count > details.len() {
        details.push(format!("{count} violations in all"));
    }
    Finding {
        text: "causal order held: nothing came before what it depends on".to_owned(),
        details,
    }
}

fn completeness(checker: &Checker, evidence: &[Evidence<'_>]) -> Finding {
    let ranges: Vec<String> = evidence
        .iter()
        .map(|one| format!("{} 1–{}", one.summary.dialect.name(), one.last_sequence))
        .collect();
    let details = evidence.iter().flat_map(|one| {
        let missing = checker.missing(one.directory, one.last_sequence);
        missing
            .into_iter()
            .map(|(from, to)| format!("{from} to {to} are missing"))
    });
    Finding {
        text: format!("sequences without a gap: {}", ranges.join(", ")),
        details: details.collect(),
    }
}

fn copies(checker: &Checker, evidence: &[Evidence<'_>]) -> Finding {
    let sum = |count: fn(&Summary) -> usize| -> usize {
        evidence.iter().map(|one| count(one.summary)).sum()
    };
    let text = format!(
        "a copy built from webhooks alone equals both providers:\n    {}, {}, {}",
        figures::counted(
            sum(|s| s.roster.active.len()),
            "active person/active people"
        ),
        figures::counted(sum(|s| s.roster.groups.len()), "group"),
        figures::counted(sum(|s| s.roster.memberships.len()), "membership"),
    );
    let details = evidence
        .iter()
        .flat_map(|one| checker.audit(one.directory, one.last_sequence, &one.summary.roster));
    Finding {
        text,
        details: details.collect(),
    }
}

fn answers(evidence: &[Evidence<'_>]) -> Finding {
    let requests: usize = evidence
        .iter()
        .filter_map(|one| one.summary.all.map(|all| all.count))
        .sum();
    let details = evidence.iter().flat_map(|one| one.summary.failures.iter());
    Finding {
        text: format!("{requests} SCIM requests, each answered as the provider expects"),
        details: details.map(ToString::to_string).collect(),
    }
}
