//! The one place where a simulation or the demo writes to a screen.
//!
//! Lines go to standard output or standard error. On a terminal there are colours (unless
//! `NO_COLOR` is set) and a transient last line, redrawn in place; elsewhere neither, so that a
//! log holds finished lines only. A reader that went away (`| head`) is no error.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{Mutex, PoisonError},
};

/// Which stream to write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a piece of text looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Headings.
    Bold,
    /// What matters less.
    Dim,
    /// What went well.
    Green,
    /// What went wrong.
    Red,
    /// What to copy.
    Cyan,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Red => "31",
            Self::Cyan => "36",
        }
    }
}

/// A screen, or a file in place of one.
#[derive(Debug)]
pub struct Terminal {
    stream: Stream,
    is_watched: bool,
    has_colour: bool,
    /// Whether the transient line is on the screen.
    is_drawn: Mutex<bool>,
}

impl Terminal {
    /// Opens a stream.
    pub fn new(stream: Stream) -> Self {
        let is_watched = match stream {
            Stream::Out => std::io::stdout().is_terminal(),
            Stream::Err => std::io::stderr().is_terminal(),
        };
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            stream,
            is_watched,
            has_colour: is_watched && !is_plain,
            is_drawn: Mutex::new(false),
        }
    }

    /// Whether somebody is watching.
    pub fn is_terminal(&self) -> bool {
        self.is_watched
    }

    /// Dresses a piece of text, if the stream shows colours.
    pub fn ink(&self, ink: Ink, text: &str) -> String {
        if self.has_colour {
            format!("\x1b[{}m{text}\x1b[0m", ink.code())
        } else {
            text.to_owned()
        }
    }

    /// Writes a finished line, in place of the transient one if there is one.
    pub fn line(&self, text: &str) {
        self.write(&format!("{text}\n"), false);
    }

    /// Redraws the transient line; does nothing where nobody is watching.
    pub fn transient(&self, text: &str) {
        if self.is_watched {
            self.write(text, true);
        }
    }

    fn write(&self, text: &str, leaves_transient: bool) {
        let mut is_drawn = self.is_drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let clear = if *is_drawn { "\r\x1b[2K" } else { "" };
        *is_drawn = leaves_transient;
        let bytes = format!("{clear}{text}");
        // Nothing sensible can be done about a screen that does not take the text.
        match self.stream {
            Stream::Out => {
                let mut out = std::io::stdout().lock();
                drop(out.write_all(bytes.as_bytes()).and_then(|()| out.flush()));
            }
            Stream::Err => {
                let mut err = std::io::stderr().lock();
                drop(err.write_all(bytes.as_bytes()).and_then(|()| err.flush()));
            }
        }
    }
}

/// A bar of `width` characters of which `done` of `total` are filled.
pub fn bar(done: usize, total: usize, width: usize) -> String {
    let filled = (done.min(total) * width).checked_div(total).unwrap_or(0);
    format!("{}{}", "█".repeat(filled), "░".repeat(width - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_never_overflow() {
        assert_eq!(bar(1, 2, 4), "██░░");
        assert_eq!(bar(9, 2, 4), "████");
        assert_eq!(bar(0, 0, 4), "░░░░");
    }
}
