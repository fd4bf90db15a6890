//! Spans of time in settings: `90s`, `15m`, `72h`, `14d`, or `0`.

use std::time::Duration;

use chrono::TimeDelta;

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(Duration);

/// Longer ones are slips: a hundred years.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;

impl Span {
    /// Reads the text; `None` if it is no span, or longer than a hundred years.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self(Duration::ZERO));
        }
        let unit = text.chars().next_back()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        let seconds = count.checked_mul(seconds)?;
        (seconds <= SECONDS_MAX).then(|| Self(Duration::from_secs(seconds)))
    }

    /// Whether it is 0.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// For sums with times.
    pub fn delta(self) -> TimeDelta {
        TimeDelta::from_std(self.0).unwrap_or(TimeDelta::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_a_number_with_a_unit() {
        for (text, seconds) in [
            ("0", 0),
            ("90s", 90),
            ("15m", 900),
            ("72h", 259_200),
            ("14d", 1_209_600),
        ] {
            assert_eq!(
                Span::parse(text),
                Some(Span(Duration::from_secs(seconds))),
                "{text}"
            );
        }
        for text in [
            "",
            "72",
            "h",
            "-1h",
            "1.5h",
            "1w",
            "99999999d",
            "18446744073709551615d",
        ] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }
}
