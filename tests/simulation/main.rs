//! Runs the scheduler in seeded worlds with a virtual clock: adapters of different speed, several
//! models, requests of many rows, priorities and deadlines; workers that crash, hang, report wrong
//! values, are late, fail their checks or cannot be killed; callers that cancel, operators that
//! change modes, cards that are removed and return. The invariants are checked at every step. A
//! failing seed is printed: keep it as a named test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]
#![allow(clippy::print_stdout, reason = "the digest serves to compare two versions")]

mod actions;
mod fault_mix;
mod invariants;
mod rng;
mod script;
mod truth;
mod workers;
mod world;

use fault_mix::FaultMix;
use schedule::{Reject, Scheduler, Time};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use world::World;

fn run(seed: u64, requests: u64, shutdown: bool) -> u64 {
    run_with(1, seed, requests, shutdown)
}

/// Runs with workers that hold `slots` batches at a time.
fn run_with(slots: u32, seed: u64, requests: u64, shutdown: bool) -> u64 {
    let mut world = World::new(seed);
    world.slots = slots;
    world.script(requests, shutdown);
    world.drive()
}

#[test]
fn every_request_is_answered_once_and_the_world_reaches_rest() {
    let mut actions = DefaultHasher::new();
    for seed in 0..3000 {
        run(seed, 120, false).hash(&mut actions);
        run(seed, 120, true).hash(&mut actions);
    }
    // A refactoring of the scheduler must leave this digest unchanged.
    println!("digest of all actions: {:016x}", actions.finish());
}

#[test]
fn every_request_is_answered_once_by_workers_that_hold_several_batches() {
    for (slots, seed) in (2..=3).flat_map(|slots| (0..200).map(move |seed| (slots, seed))) {
        run_with(slots, seed, 120, seed % 2 == 0);
    }
}

#[test]
fn requests_that_run_in_several_time_slices_are_answered_once() {
    let mut continued = 0;
    for seed in 0..400 {
        let mut world = World::new(seed);
        world.slices = 1 + (seed % 4) as u32;
        world.script(120, seed % 2 == 0);
        world.drive();
        continued += world.sliced.values().sum::<u32>();
    }
    assert!(continued > 10_000, "{continued}");
}

#[test]
fn same_seed_same_actions() {
    for seed in 0..100 {
        assert_eq!(run(seed, 120, false), run(seed, 120, false));
    }
}

/// In a world without faults, requests are rejected only by a full queue or their own deadline.
#[test]
fn without_faults_only_a_full_queue_and_deadlines_reject_requests() {
    for seed in 0..600 {
        let mut world = World::new(seed);
        let deadlines = world.faults.deadlines;
        world.faults = FaultMix { deadlines, ..FaultMix::default() };
        world.settings.queue_requests_max = usize::MAX;
        world.settings.queue_rows_max = u64::MAX;
        world.settings.min = 0;
        world.settings.max = 5;
        // Without heartbeats, only the scheduler's own timeouts wake it.
        world.ledger.without_heartbeats = seed % 2 == 0;
        if world.ledger.without_heartbeats {
            world.settings.timeouts.heartbeat = Duration::from_secs(7200);
        }
        world.scheduler = Scheduler::new(world.settings.clone(), world.models.clone());
        world.script(120, false);
        for profile in world.profiles.values_mut() {
            profile.memory = None;
        }
        world.drive();
        // A scheduler that is woken only by a far timeout would come to rest two hours late.
        assert!(
            world.now < Time(Duration::from_secs(3700)),
            "{seed}: at rest only at {:?}",
            world.now
        );
        for (id, outcome) in &world.answered {
            let fine = matches!(outcome, None | Some(Reject::Deadline | Reject::Overload { .. }));
            assert!(fine, "{seed}: {id:?} {outcome:?}");
        }
    }
}
