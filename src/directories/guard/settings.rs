//! What the guard of a directory is set to, and when it tripped last. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::storage::tables::directories;

/// What the guard does when it trips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It tells.
    Tell,
    /// It tells and holds the deliveries.
    Hold,
}

/// When the guard of a directory trips, and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// More than so many percent of the active people must be gone: 0 to 99.
    pub percent: i64,
    /// At least so many people must be gone: 1 or more.
    pub people: i64,
    /// Within so many seconds.
    pub within_seconds: i64,
    /// What it does.
    pub action: Action,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            percent: 20,
            people: 20,
            within_seconds: 3_600,
            action: Action::Tell,
        }
    }
}

/// When the guard tripped last, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// When.
    pub at: DateTime<Utc>,
    /// How many people were gone by then, counted up to twice as many as it takes.
    pub departures: i64,
    /// How many active people were left.
    pub active: i64,
    /// When its deliveries were released, if they were held and are no more.
    pub released_at: Option<DateTime<Utc>>,
}

/// The guard of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// What it is set to.
    #[serde(flatten)]
    pub settings: Settings,
    /// When it tripped last.
    pub trip: Option<Trip>,
}

impl Guard {
    /// The guard of a directory, which is the usual one unless it was set.
    pub fn of(directory: &directories::Model) -> Self {
        let stored = directory.guard.as_deref();
        stored
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// Since when departures count; `None` if the guard does not trip now.
    pub(super) fn counts_since(
        &self,
        is_holding: bool,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        if is_holding {
            return None;
        }
        let since = now - TimeDelta::seconds(self.settings.within_seconds);
        match self.trip {
            None => Some(since),
            Some(trip) => match trip.released_at {
                Some(released_at) => Some(since.max(released_at)),
                None => (trip.at <= since).then_some(since),
            },
        }
    }

    /// How many departures it takes while so many people are active still. Those who left were active too.
    pub(super) fn takes(&self, active: i64) -> i64 {
        let Settings {
            percent, people, ..
        } = self.settings;
        let share = percent.saturating_mul(active) / (100 - percent).max(1);
        share.saturating_add(1).max(people)
    }

    /// As it is stored.
    pub(super) fn text(&self) -> String {
        json!(self).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn at(seconds: i64) -> DateTime<Utc> {
        clock::from_ms(1_768_478_400_000) + TimeDelta::seconds(seconds)
    }

    #[test]
    fn it_takes_more_than_the_share_of_those_who_were_there_and_enough_of_them() {
        let guard = |percent, people| Guard {
            settings: Settings {
                percent,
                people,
                ..Settings::default()
            },
            trip: None,
        };
        for (percent, people, active, takes) in [
            (20, 20, 0, 20),
            (20, 20, 79, 20),
            (20, 20, 80, 21),
            (20, 20, 400, 101),
            (20, 1, 8, 3),
            (0, 1, 1_000, 1),
            (99, 1, 1, 100),
        ] {
            let guard = guard(percent, people);
            assert_eq!(guard.takes(active), takes, "{percent} {people} {active}");
        }
    }

    #[test]
    fn it_trips_once_within_the_span_and_counts_anew_from_a_release() {
        let mut guard = Guard::default();
        assert_eq!(guard.counts_since(false, at(0)), Some(at(-3_600)));
        let mut trip = Trip {
            at: at(0),
            departures: 20,
            active: 3,
            released_at: None,
        };
        guard.trip = Some(trip);
        assert_eq!(guard.counts_since(false, at(3_599)), None);
        assert_eq!(guard.counts_since(false, at(3_600)), Some(at(0)));
        assert_eq!(guard.counts_since(true, at(9_000)), None);
        trip.released_at = Some(at(60));
        guard.trip = Some(trip);
        assert_eq!(guard.counts_since(false, at(61)), Some(at(60)));
        assert_eq!(guard.counts_since(false, at(9_000)), Some(at(5_400)));
    }
}
