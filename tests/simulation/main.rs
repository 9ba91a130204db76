//! Runs the scheduler in seeded worlds with a virtual clock: workers that crash, hang, lie late,
//! fail their checks or cannot be killed, callers that go away, an operator who meddles. Its
//! invariants are checked at every step. A failing seed is printed: keep it as a named test.

mod invariants;
mod rng;
mod weather;
mod workers;
mod world;

use concertina::schedule::{Policy, Scheduler, Time};
use std::time::Duration;
use weather::Weather;
use world::World;

fn run(seed: u64, requests: u64, shutdown: bool) -> u64 {
    let mut world = World::new(seed);
    world.script(requests, shutdown);
    world.drive()
}

#[test]
fn every_request_is_answered_once_and_the_world_comes_to_rest() {
    for seed in 0..3000 {
        run(seed, 120, false);
        run(seed, 120, true);
    }
}

#[test]
fn same_seed_same_actions() {
    for seed in 0..100 {
        assert_eq!(run(seed, 120, false), run(seed, 120, false));
    }
}

/// In a world without faults nobody is turned away but by a full queue.
#[test]
fn without_faults_only_a_full_queue_turns_away() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        world.weather = Weather {
            crash: 0,
            hang: 0,
            stuck_compute: 0,
            unkillable: 0,
            late: 0,
            poison: 0,
            cancel: 0,
            operator: 0,
            load_failure: 0,
        };
        world.settings.queue_requests_max = usize::MAX;
        world.settings.queue_rows_max = u64::MAX;
        world.settings.policy = Policy::Concurrency { target: 2, min: 0, max: 5 };
        // Without heartbeats nothing but its own timeouts wakes the scheduler.
        world.ledger.silent_world = seed % 2 == 0;
        if world.ledger.silent_world {
            world.settings.bounds.silence = Duration::from_secs(3600);
        }
        world.scheduler = Scheduler::new(world.settings.clone(), world.models.clone());
        world.script(120, false);
        let requests = world.requests.len();
        world.drive();
        // Who is only woken by a far bound comes to rest an hour late.
        assert!(world.now < Time(Duration::from_secs(60)), "{seed}: slept too long");
        let answered = world.answered.values().filter(|outcome| outcome.is_none()).count();
        assert_eq!(answered, requests, "{seed}");
    }
}
