//! Medians, percentiles, and how durations and counts are written for people.

use std::time::Duration;

/// Median, 99th percentile and maximum of some durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// How many durations there were.
    pub count: usize,
    /// Half of them took no longer than this.
    pub median: Duration,
    /// 99 of 100 took no longer than this.
    pub p99: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Figures {
    /// Computes the figures; `None` of nothing.
    pub fn of(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort_unstable();
        Some(Self {
            count: durations.len(),
            median: percentile(&durations, 50)?,
            p99: percentile(&durations, 99)?,
            longest: *durations.last()?,
        })
    }
}

/// The nearest-rank percentile of sorted durations: the smallest one that at least `percent` of
/// 100 do not exceed.
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Writes a duration with as many digits as one cares to read.
pub fn duration(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1_000.0;
    if milliseconds < 9.95 {
        format!("{milliseconds:.1} ms")
    } else if milliseconds < 999.5 {
        format!("{milliseconds:.0} ms")
    } else if milliseconds < 99_950.0 {
        format!("{:.1} s", milliseconds / 1_000.0)
    } else {
        format!("{:.0} min", milliseconds / 60_000.0)
    }
}

/// Writes a number with its noun, with an `s` unless there is exactly one (irregular plurals are
/// given as `one/many`).
pub fn counted(count: usize, noun: &str) -> String {
    match (count, noun.split_once('/')) {
        (1, Some((one, _))) => format!("1 {one}"),
        (_, Some((_, many))) => format!("{count} {many}"),
        (1, None) => format!("1 {noun}"),
        (_, None) => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(values: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        values.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let hundred = milliseconds(1..=100);
        assert_eq!(percentile(&hundred, 50), Some(Duration::from_millis(50)));
        assert_eq!(percentile(&hundred, 99), Some(Duration::from_millis(99)));
        assert_eq!(percentile(&hundred, 100), Some(Duration::from_millis(100)));
        assert_eq!(
            percentile(&milliseconds([7]), 99),
            Some(Duration::from_millis(7))
        );
        assert_eq!(percentile(&[], 50), None);
        let figures = Figures::of(milliseconds([3, 1, 2])).unwrap();
        assert_eq!(
            (figures.median.as_millis(), figures.longest.as_millis()),
            (2, 3)
        );
    }

    #[test]
    fn durations_and_counts_read_well() {
        assert_eq!(duration(Duration::from_micros(1_234)), "1.2 ms");
        assert_eq!(duration(Duration::from_micros(9_990)), "10 ms");
        assert_eq!(duration(Duration::from_millis(2_340)), "2.3 s");
        assert_eq!(duration(Duration::from_mins(10)), "10 min");
        assert_eq!(counted(1, "person/people"), "1 person");
        assert_eq!(counted(2, "person/people"), "2 people");
        assert_eq!(counted(0, "group"), "0 groups");
    }
}
