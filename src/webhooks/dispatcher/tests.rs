//! The dispatcher against a model of everything around it.

mod fairness;
mod model;

use model::{Faults, Flaw, World};

const SEEDS: u64 = 120;

#[test]
fn nothing_is_lost_or_overtaken_whatever_happens_and_all_arrives_once_faults_stop() {
    for seed in 0..SEEDS {
        if let Err(violation) = World::run(seed, Faults::All, None) {
            panic!("seed {seed}: {violation}");
        }
    }
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
    let found = (0..SEEDS).any(|seed| {
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
