//! How `rollcall simulate` shows a simulation: a progress bar on a terminal, a line for every
//! tenth of the way elsewhere, and a table of what it came to.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    Chapter, Dialect, Observer, Phase, Plan, SimulateError, Step, Summary, Target,
    figures::{self, Figures},
    terminal::{Ink, Stream, Terminal, bar},
};

const BAR_WIDTH: usize = 28;
/// The bar is redrawn this often at most.
const REDRAW_MILLISECONDS: u128 = 50;

/// Plays a plan with a progress bar and prints the summary. Gives it back; the simulation went
/// well when nothing failed.
pub async fn run(dialect: Dialect, target: &Target, plan: &Plan) -> Result<Summary, SimulateError> {
    let progress = Progress::new(dialect);
    let outcome = super::run(dialect, target, plan, &progress).await;
    progress.clear();
    let summary = outcome?;
    print(&summary);
    Ok(summary)
}

/// Draws how far a simulation has come, on standard error.
#[derive(Debug)]
pub struct Progress {
    dialect: Dialect,
    terminal: Terminal,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    total: usize,
    done: usize,
    refused: usize,
    phase: &'static str,
    tenths: usize,
    started: Instant,
    drawn: Option<Instant>,
}

impl Progress {
    /// Begins at nothing.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            terminal: Terminal::new(Stream::Err),
            state: Mutex::new(State {
                total: 0,
                done: 0,
                refused: 0,
                phase: "",
                tenths: 0,
                started: Instant::now(),
                drawn: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        if self.terminal.is_terminal() {
            self.terminal.transient("");
        }
    }

    fn draw(&self, state: &mut State) {
        let now = Instant::now();
        let is_fresh = |at: Instant| now.duration_since(at).as_millis() < REDRAW_MILLISECONDS;
        if !state.drawn.is_some_and(is_fresh) {
            state.drawn = Some(now);
            self.terminal.transient(&format!(
                "{} {} {:>3} %  {}  {}",
                self.dialect.name(),
                self.terminal
                    .ink(Ink::Green, &bar(state.done, state.total, BAR_WIDTH)),
                (state.done * 100)
                    .checked_div(state.total)
                    .unwrap_or(0)
                    .min(100),
                state.phase,
                self.terminal.ink(Ink::Dim, &pace(state)),
            ));
        }
    }
}

impl Observer for Progress {
    fn planned(&self, chapters: &[Chapter]) {
        let mut state = self.state();
        state.total = chapters.iter().map(|chapter| chapter.requests).sum();
        state.started = Instant::now();
    }

    fn started(&self, phase: Phase) {
        self.state().phase = noun(phase);
    }

    fn step(&self, step: &Step) {
        let mut state = self.state();
        state.done += 1;
        state.refused += usize::from(step.status >= 400);
        if self.terminal.is_terminal() {
            self.draw(&mut state);
            return;
        }
        let tenths = (state.done * 10)
            .checked_div(state.total)
            .unwrap_or(0)
            .min(10);
        if tenths > state.tenths {
            state.tenths = tenths;
            let (done, total) = (state.done, state.total);
            self.terminal.line(&format!(
                "{:>3} %  {done} of {total} requests, {}",
                tenths * 10,
                pace(&state)
            ));
        }
    }
}

/// Requests per second, how many were refused, and how long it will still take.
fn pace(state: &State) -> String {
    let elapsed = state.started.elapsed();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let rate = f64::from(count(state.done)) / elapsed.as_secs_f64().max(0.001);
    let left = state.total.saturating_sub(state.done);
    let left = elapsed
        .checked_div(count(state.done))
        .map(|each| each * count(left));
    let left = left.map_or_else(String::new, |left| {
        format!(", {} left", figures::duration(left))
    });
    match state.refused {
        0 => format!("{rate:.0}/s{left}"),
        refused => format!("{rate:.0}/s{left}, {refused} refused"),
    }
}

fn noun(phase: Phase) -> &'static str {
    match phase {
        Phase::Connection => "connection test",
        Phase::Users => "people",
        Phase::Groups => "groups",
        Phase::Members => "memberships",
        Phase::Managers => "managers",
        Phase::Profiles => "profiles",
        Phase::Renames => "group names",
        Phase::Moves => "moves",
        Phase::Deactivations => "deactivations",
        Phase::Reactivations => "reactivations",
        Phase::Deletions => "deletions",
    }
}

/// Prints the summary on standard output.
pub fn print(summary: &Summary) {
    let terminal = Terminal::new(Stream::Out);
    let rule = terminal.ink(Ink::Dim, &"─".repeat(60));
    let heading = format!(
        "{:<18}{:>9}{:>11}{:>11}{:>11}",
        "requests", "count", "median", "p99", "longest"
    );
    terminal.line(&terminal.ink(Ink::Bold, &heading));
    terminal.line(&rule);
    for (kind, figures) in &summary.kinds {
        terminal.line(&row(kind, figures));
    }
    terminal.line(&rule);
    if let Some(all) = &summary.all {
        terminal.line(&row("all", all));
        let count = u32::try_from(all.count).unwrap_or(u32::MAX);
        let rate = f64::from(count) / summary.elapsed.as_secs_f64().max(0.001);
        let took = figures::duration(summary.elapsed);
        terminal.line(&format!(
            "\n{} requests in {took}: {rate:.0} per second",
            all.count
        ));
    }
    if summary.retries > 0 {
        let retries = figures::counted(summary.retries, "request was/requests were");
        terminal.line(&format!(
            "{retries} sent again because the server asked for patience"
        ));
    }
    if summary.failed == 0 {
        terminal.line(&terminal.ink(Ink::Green, "every answer was as the provider expects it"));
    } else {
        let failed = figures::counted(summary.failed, "step");
        terminal.line(&terminal.ink(Ink::Red, &format!("{failed} failed:")));
        for failure in &summary.failures {
            terminal.line(&format!("  {failure}"));
        }
        let more = summary.failed - summary.failures.len();
        if more > 0 {
            terminal.line(&format!("  and {more} more"));
        }
    }
}

fn row(name: &str, figures: &Figures) -> String {
    format!(
        "{name:<18}{:>9}{:>11}{:>11}{:>11}",
        figures.count,
        figures::duration(figures.median),
        figures::duration(figures.p99),
        figures::duration(figures.longest),
    )
}
