//! The account that the demo gives of one provider, line by line, while it happens.
//!
//! The provider does not wait for the account: it goes on pushing while a phase's webhooks are
//! still arriving, and a line is printed when the last event of its phase is in.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{checker::Arrival, ledger::Ledger};
use crate::simulate::{
    Chapter, Figures, Observer, Phase, Step, figures,
    terminal::{Ink, Terminal, bar},
};

/// How long a phase's events may take to arrive before the account goes on without them.
pub(super) const ARRIVAL_SECONDS_MAX: u64 = 30;
/// How long to wait for events that may follow but need not.
const OPTIONAL_MILLISECONDS: u64 = 250;
const LOOK_MILLISECONDS: u64 = 25;
const BAR_WIDTH: usize = 20;

/// One provider's account.
#[derive(Debug)]
pub(super) struct Account {
    terminal: Arc<Terminal>,
    /// Whether webhooks come to us, so that arrivals can be told.
    is_receiving: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chapters: Vec<Chapter>,
    lines: BTreeMap<Phase, Line>,
    ledger: Ledger,
    is_over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    started: Instant,
    finished: Option<Instant>,
    requests: usize,
    refused: usize,
}

impl Account {
    pub(super) fn new(terminal: Arc<Terminal>, is_receiving: bool) -> Self {
        Self {
            terminal,
            is_receiving,
            state: Mutex::default(),
        }
    }

    /// Notes a webhook.
    pub(super) fn arrive(&self, arrival: &Arrival) {
        self.state().ledger.arrive(arrival);
    }

    /// The provider has said all it will say, perhaps too early.
    pub(super) fn end(&self) {
        self.state().is_over = true;
    }

    /// From SCIM answer to webhook, for every event that a request caused.
    pub(super) fn latencies(&self) -> Vec<Duration> {
        self.state().ledger.latencies()
    }

    /// How many events must still arrive.
    pub(super) fn outstanding(&self) -> usize {
        self.state().ledger.outstanding()
    }

    /// Events that no request explains.
    pub(super) fn unexplained(&self) -> Vec<String> {
        self.state().ledger.unexplained()
    }

    /// Prints the account as it happens; returns after the last line.
    pub(super) async fn tell(&self) {
        self.terminal
            .line(&self.terminal.ink(Ink::Dim, &self.heading()));
        let mut told = 0;
        loop {
            match self.look(told) {
                Look::Line(line) => {
                    self.terminal.line(&line);
                    told += 1;
                }
                Look::Wait(line) => {
                    self.terminal.transient(&line);
                    tokio::time::sleep(Duration::from_millis(LOOK_MILLISECONDS)).await;
                }
                Look::End => return,
            }
        }
    }

    fn heading(&self) -> String {
        let heading = format!("  {:<31}{:>9}{:>9}", "", "requests", "took");
        if self.is_receiving {
            format!("{heading}{:>8}{:>9}{:>9}", "events", "median", "p99")
        } else {
            heading
        }
    }

    fn look(&self, told: usize) -> Look {
        let state = self.state();
        let Some(chapter) = state.chapters.get(told) else {
            return if state.is_over {
                Look::End
            } else {
                Look::Wait(String::new())
            };
        };
        let line = state.lines.get(&chapter.phase).copied();
        match line.and_then(|line| Some((line, line.finished?))) {
            Some((line, finished)) => {
                let page = state.ledger.page(chapter.phase);
                let waited = finished.elapsed();
                let limit = match (page.outstanding, page.optional) {
                    _ if !self.is_receiving => Duration::ZERO,
                    (0, 0) => Duration::ZERO,
                    (0, _) => Duration::from_millis(OPTIONAL_MILLISECONDS),
                    (_, _) => Duration::from_secs(ARRIVAL_SECONDS_MAX),
                };
                if waited >= limit {
                    Look::Line(self.row(chapter, line, finished, &state.ledger))
                } else {
                    Look::Wait(self.progress(chapter, line.requests, page.outstanding))
                }
            }
            None if state.is_over => Look::End,
            None => Look::Wait(self.progress(chapter, line.map_or(0, |line| line.requests), 0)),
        }
    }

    fn progress(&self, chapter: &Chapter, done: usize, outstanding: usize) -> String {
        let bar = self
            .terminal
            .ink(Ink::Green, &bar(done, chapter.requests, BAR_WIDTH));
        let label = &chapter.label;
        let awaited = match outstanding {
            0 => String::new(),
            events => format!(", {events} to arrive"),
        };
        format!("  {label:<31}{bar} {done}/{}{awaited}", chapter.requests)
    }

    fn row(&self, chapter: &Chapter, line: Line, finished: Instant, ledger: &Ledger) -> String {
        let page = ledger.page(chapter.phase);
        let is_well = line.refused == 0 && (page.outstanding == 0 || !self.is_receiving);
        let mark = mark(&self.terminal, is_well);
        let label = &chapter.label;
        let took = figures::duration(finished.duration_since(line.started));
        let row = format!("{mark} {label:<31}{:>9}{took:>9}", line.requests);
        if !self.is_receiving {
            return row;
        }
        let (median, p99) = Figures::of(page.latencies).map_or_else(
            || ("–".to_owned(), "–".to_owned()),
            |figures| {
                (
                    figures::duration(figures.median),
                    figures::duration(figures.p99),
                )
            },
        );
        format!("{row}{:>8}{median:>9}{p99:>9}", page.arrived)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Look {
    Line(String),
    Wait(String),
    End,
}

/// A tick or a cross.
pub(super) fn mark(terminal: &Terminal, is_well: bool) -> String {
    if is_well {
        terminal.ink(Ink::Green, "✓")
    } else {
        terminal.ink(Ink::Red, "✗")
    }
}

impl Observer for Account {
    fn planned(&self, chapters: &[Chapter]) {
        self.state().chapters = chapters.to_vec();
    }

    fn started(&self, phase: Phase) {
        let line = Line {
            started: Instant::now(),
            finished: None,
            requests: 0,
            refused: 0,
        };
        self.state().lines.insert(phase, line);
    }

    fn step(&self, step: &Step) {
        let mut state = self.state();
        if let Some(line) = state.lines.get_mut(&step.phase) {
            line.requests += 1;
            line.refused += usize::from(step.status >= 400);
        }
        state.ledger.step(step);
    }

    fn finished(&self, phase: Phase) {
        if let Some(line) = self.state().lines.get_mut(&phase) {
            line.finished = Some(Instant::now());
        }
    }
}
