//! The dispatcher against a model of everything around it.

mod fairness;
mod model;

use std::num::NonZero;

use model::{Faults, Flaw, World};

/// How many worlds are tried, and how many to find a planted fault.
const SEEDS: u64 = 1_000;
const SEEDS_OF_FLAWS: u64 = 300;

/// `ROLLCALL_TEST_SEEDS` asks for more worlds.
#[expect(
    clippy::disallowed_methods,
    reason = "it is no setting, but how long the one who tests wants to wait"
)]
fn seeds() -> u64 {
    let asked = std::env::var("ROLLCALL_TEST_SEEDS").ok();
    asked.map_or(SEEDS, |text| text.parse().unwrap())
}

#[test]
fn nothing_is_lost_or_overtaken_whatever_happens_and_all_arrives_once_faults_stop() {
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    let run = |first: usize| {
        for seed in (0..seeds()).skip(first).step_by(workers) {
            if let Err(violation) = World::run(seed, Faults::All, None) {
                panic!("seed {seed}: {violation}");
            }
        }
    };
    std::thread::scope(|scope| {
        for first in 0..workers {
            scope.spawn(move || run(first));
        }
    });
}

#[test]
fn all_arrives_without_a_retry_when_nothing_goes_wrong() {
    for seed in 0..20 {
        let world = World::run(seed, Faults::None, None).unwrap();
        assert_eq!(world.repeated, 0, "seed {seed}");
    }
}

#[test]
fn a_poisonous_event_is_parked_and_what_waited_for_it_arrives() {
    let mut splits = 0;
    for seed in 0..10 {
        let world = World::run(seed, Faults::Poison, None).unwrap();
        assert!(world.parked() > 0, "seed {seed}");
        splits += world.splits;
    }
    assert!(splits > 0, "what waits is not in the way of others");
}

#[test]
fn what_is_held_waits_and_all_of_it_arrives_once_when_it_is_released() {
    for seed in 0..60 {
        match World::run(seed, Faults::Holds, None) {
            Ok(world) => {
                assert_eq!(world.repeated, 0, "seed {seed}");
                assert!(world.splits > 0, "seed {seed}");
            }
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
}

/// A model that cannot find a planted fault proves nothing.
fn is_found(flaw: Flaw, complaint: &str) {
    let found = (0..SEEDS_OF_FLAWS).any(|seed| {
        World::run(seed, Faults::All, Some(flaw))
            .is_err_and(|violation| violation.contains(complaint))
    });
    assert!(found, "{flaw:?} was not found");
}

#[test]
fn the_model_notices_when_lanes_are_ignored() {
    is_found(Flaw::Lanes, "overtook");
}

#[test]
fn the_model_notices_when_the_horizon_is_ignored() {
    is_found(Flaw::Horizon, "passed");
}

#[test]
fn the_model_notices_when_the_fence_is_ignored() {
    is_found(Flaw::Fence, "");
}

#[test]
fn the_model_notices_when_the_place_of_a_directory_that_is_split_off_is_not_written() {
    is_found(Flaw::Split, "passed");
}

#[test]
fn the_model_notices_when_what_is_held_is_sent() {
    is_found(Flaw::Hold, "while it was held");
}

#[test]
fn the_model_notices_when_a_departure_overtakes_what_it_depends_on() {
    is_found(Flaw::Alone, "overtook");
}

#[test]
fn an_import_delays_neither_other_directories_nor_departures() {
    for seed in 0..20 {
        let world = World::run(seed, Faults::Import, None).unwrap();
        let imports = World::importing();
        let waited = world.longest_ms(|offer| offer.directory_id == imports);
        let others = world.longest_ms(|offer| offer.directory_id != imports);
        let departures = world.longest_ms(|offer| offer.is_departure);
        assert!(waited > 4_000, "seed {seed}: there is no backlog");
        assert!(others < 2_000, "seed {seed}: others waited {others} ms");
        assert!(
            departures < 2_000,
            "seed {seed}: a departure waited {departures} ms"
        );
        assert_eq!(world.repeated, 0, "seed {seed}");
    }
}
