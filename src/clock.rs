//! Time as a parameter: everything that needs the time asks a [`Clock`].
//!
//! Times are whole milliseconds, which is what the wire shows and what both databases keep exactly.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SecondsFormat, TimeZone, Utc};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The time in milliseconds since 1970.
    fn now_ms(&self) -> i64;

    /// The time, in whole milliseconds.
    fn now(&self) -> DateTime<Utc> {
        from_ms(self.now_ms())
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        Utc::now().timestamp_millis()
    }
}

/// A clock that moves only when it is told to.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `now_ms` milliseconds since 1970.
    pub fn at(now_ms: i64) -> Self {
        Self {
            now_ms: AtomicI64::new(now_ms),
        }
    }

    /// Moves the clock on by `milliseconds`.
    pub fn advance_ms(&self, milliseconds: i64) {
        self.now_ms.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }
}

/// The instant `milliseconds` after 1970 began; out of range becomes 1970 itself.
pub fn from_ms(milliseconds: i64) -> DateTime<Utc> {
    Utc.timestamp_millis_opt(milliseconds)
        .single()
        .unwrap_or_default()
}

/// `YYYY-MM-DDTHH:MM:SS.mmmZ`, the only form that every WorkOS SDK parses.
pub fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_with_exactly_three_decimals() {
        assert_eq!(text(from_ms(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(from_ms(1_768_478_400_120)), "2026-01-15T12:00:00.120Z");
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::at(5);
        assert_eq!(clock.now_ms(), 5);
        clock.advance_ms(10);
        assert_eq!(clock.now_ms(), 15);
    }
}
