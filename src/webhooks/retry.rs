//! When an event that failed alone is tried again. Pure.
//!
//! It is tried at 0, 5 s, 30 s, 2 min, 10 min and 20 min with its keys held; then it is *parked*: its
//! keys are freed, and it is still tried at 1 h, 3 h, 6 h, 12 h, and then daily to day 7. Delays are
//! jittered by a fifth, so that events that failed together do not come back together.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// After the n-th failure, how long after the previous try the next one is.
const DELAYS_MS: [i64; 5] = [
    5 * SECOND,
    25 * SECOND,
    90 * SECOND,
    8 * MINUTE,
    10 * MINUTE,
];
/// Parking comes within this time of the first try.
const PARKED_WITHIN_MS: i64 = 30 * MINUTE;
/// When a parked event is tried, counted from its first failure.
const LATE_MS: [i64; 11] = [
    HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    24 * HOUR,
    48 * HOUR,
    72 * HOUR,
    96 * HOUR,
    120 * HOUR,
    144 * HOUR,
    168 * HOUR,
];

/// What happens to an event after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It keeps its keys and is tried at this time.
    RetryAt(i64),
    /// It frees its keys; it is still tried at this time, if there is one.
    Park(Option<i64>),
}

/// Decides after failure number `strikes` (from 1) of an event that first failed at `first_failed_ms`.
///
/// `retry_after` is what the receiver asked for; `salt` makes the jitter, the same for the same try.
pub fn after_failure(
    strikes: u32,
    first_failed_ms: i64,
    now_ms: i64,
    retry_after: Option<Duration>,
    salt: u64,
) -> Next {
    let index = usize::try_from(strikes.saturating_sub(1)).unwrap_or(usize::MAX);
    let deadline = first_failed_ms.saturating_add(PARKED_WITHIN_MS);
    match DELAYS_MS.get(index) {
        Some(delay) if now_ms < deadline => {
            let asked = retry_after.map_or(0, |wait| {
                i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
            });
            let at = now_ms.saturating_add(jittered(*delay, salt).max(asked));
            Next::RetryAt(at.min(deadline))
        }
        _ => Next::Park(late_after(first_failed_ms, now_ms)),
    }
}

/// When an event is tried again that is never parked, because all of its directory waits for it.
pub fn without_end(strikes: u32, now_ms: i64, retry_after: Option<Duration>, salt: u64) -> i64 {
    let index = usize::try_from(strikes.saturating_sub(1)).unwrap_or(usize::MAX);
    let delay = DELAYS_MS.get(index).copied().unwrap_or(PARKED_WITHIN_MS);
    let asked = retry_after.map_or(0, |wait| {
        i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
    });
    let wait = jittered(delay, salt).max(asked).min(PARKED_WITHIN_MS);
    now_ms.saturating_add(wait)
}

/// Reads a `Retry-After` header (RFC 9110 section 10.2.3): seconds or a date; bounded to a day.
pub fn parse_retry_after(text: &str, now_ms: i64) -> Option<Duration> {
    const MAX: Duration = Duration::from_hours(24);
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // What does not fit is too long anyway.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(MAX));
    }
    let wait_ms = http_date_ms(text)?.saturating_sub(now_ms);
    Some(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)).min(MAX))
}

/// A date in one of the three forms that RFC 9110 section 5.6.7 has receivers read.
fn http_date_ms(text: &str) -> Option<i64> {
    if let Ok(date) = DateTime::parse_from_rfc2822(text) {
        return Some(date.timestamp_millis());
    }
    let obsolete = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let mut dates = obsolete
        .iter()
        .filter_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    Some(dates.next()?.and_utc().timestamp_millis())
}

/// When a parked event that first failed at `first_failed_ms` is tried next.
pub fn late_after(first_failed_ms: i64, now_ms: i64) -> Option<i64> {
    LATE_MS
        .iter()
        .map(|delay| first_failed_ms.saturating_add(*delay))
        .find(|at| *at > now_ms)
}

/// `delay` times a factor between 0.8 and 1.2 that depends only on `salt`.
pub(super) fn jittered(delay: i64, salt: u64) -> i64 {
    // The finalizer of SplitMix64, so that neighbouring salts give unrelated factors.
    let mut mixed = salt.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let per_mille = 800 + i64::try_from((mixed ^ (mixed >> 31)) % 401).unwrap_or(200);
    delay.saturating_mul(per_mille) / 1_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_is_parked_after_its_sixth_failure_and_within_half_an_hour() {
        for salt in 0..500 {
            let first = 1_000_000;
            let mut now = first;
            for strikes in 1..=5 {
                match after_failure(strikes, first, now, None, salt * 10 + u64::from(strikes)) {
                    Next::RetryAt(at) => now = at,
                    Next::Park(_) => panic!("parked after {strikes}"),
                }
            }
            assert!(now - first <= 30 * MINUTE);
            assert_eq!(
                after_failure(6, first, now, None, salt),
                Next::Park(Some(first + HOUR))
            );
        }
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_but_not_past_the_deadline() {
        let asked = after_failure(1, 0, 0, Some(Duration::from_mins(1)), 1);
        let too_much = after_failure(1, 0, 0, Some(Duration::from_hours(24)), 1);
        assert_eq!(asked, Next::RetryAt(60 * SECOND));
        assert_eq!(too_much, Next::RetryAt(30 * MINUTE));
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_a_date_and_bounded() {
        let seconds = |text| parse_retry_after(text, 0).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("1000000000"), Some(86_400));
        assert_eq!(seconds("Thu, 01 Jan 1970 00:01:00 GMT"), Some(60));
        assert_eq!(seconds("Thursday, 01-Jan-70 00:01:00 GMT"), Some(60));
        assert_eq!(seconds("Thu Jan  1 00:01:00 1970"), Some(60));
        assert_eq!(seconds("Wed, 31 Dec 1969 23:00:00 GMT"), Some(0));
        assert_eq!(seconds("99999999999999999999999999"), Some(86_400));
        assert_eq!(seconds("0"), Some(0));
        for garbage in [
            "-5",
            "+5",
            "1.5",
            "5 s",
            "soon",
            "",
            "Thu, 99 Jan 1970",
            "٣",
        ] {
            assert_eq!(seconds(garbage), None, "{garbage}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_receiver_answers_it_is_a_wait_of_at_most_a_day_or_nothing(
            text in "\\PC{0,40}|[A-Za-z]{3,9},? [0-9 :-]{0,24}( GMT)?|-?[0-9]{1,30}",
            now in any::<i64>(),
        ) {
            let wait = parse_retry_after(&text, now);
            prop_assert!(wait.is_none_or(|wait| wait <= Duration::from_hours(24)));
        }

        #[test]
        fn a_number_of_seconds_is_read_as_it_is_up_to_a_day(seconds in any::<u64>()) {
            let wait = parse_retry_after(&seconds.to_string(), 0);
            prop_assert_eq!(wait, Some(Duration::from_secs(seconds.min(86_400))));
        }

        #[test]
        fn a_date_is_read_as_it_is_written_and_never_reaches_back(
            at in 0..4_000_000_000_i64, now in 0..4_000_000_000_i64,
        ) {
            let text = DateTime::from_timestamp(at, 0).unwrap();
            let text = text.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let wait = parse_retry_after(&text, now * 1_000).unwrap();
            let expected = u64::try_from((at - now).clamp(0, 86_400)).unwrap();
            prop_assert_eq!(wait, Duration::from_secs(expected));
        }

        #[test]
        fn an_event_is_due_again_within_its_time_whatever_the_receiver_asks_for(
            first in 0..2_000_000_000_000_i64,
            late in 0..HOUR,
            strikes in 1..9_u32,
            asked in proptest::option::of(0..100_000_u64),
            salt in any::<u64>(),
        ) {
            let now = first + late;
            match after_failure(strikes, first, now, asked.map(Duration::from_secs), salt) {
                Next::RetryAt(at) => {
                    prop_assert!(strikes < 6 && at >= now && at <= first + PARKED_WITHIN_MS);
                }
                Next::Park(at) => {
                    prop_assert!(strikes >= 6 || late >= PARKED_WITHIN_MS);
                    prop_assert!(at.is_some_and(|at| at > now && at <= first + 3 * HOUR));
                }
            }
        }

        #[test]
        fn jitter_stays_within_a_fifth_of_any_delay(
            delay in 0..1_000_000_000_i64, salt in any::<u64>(),
        ) {
            let jittered = jittered(delay, salt);
            prop_assert!(jittered >= delay * 4 / 5 && jittered <= delay * 6 / 5);
        }
    }

    #[test]
    fn a_parked_event_is_tried_for_a_week() {
        let tries = std::iter::successors(late_after(0, 0), |at| late_after(0, *at));
        let hours: Vec<i64> = tries.map(|at| at / HOUR).collect();
        assert_eq!(hours, [1, 3, 6, 12, 24, 48, 72, 96, 120, 144, 168]);
    }

    #[test]
    fn jitter_stays_within_a_fifth_and_differs() {
        let delays: std::collections::BTreeSet<i64> =
            (0..1_000).map(|salt| jittered(10_000, salt)).collect();
        assert!(delays.iter().all(|delay| (8_000..=12_000).contains(delay)));
        assert!(delays.len() > 100);
    }
}
