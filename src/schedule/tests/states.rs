//! The rows of the state table, and the order of adapters.

use super::*;

#[test]
fn off_starts_when_too_few_are_on_or_by_the_operators_on() {
    Bench::one().request().check(ONE, "starting", &["start 1"]);
    Bench::one().set_mode(ONE, AdapterMode::On).check(ONE, "starting", &["start 1"]);
}

#[test]
fn starting_becomes_idle_or_stops_by_the_operators_off_or_shutdown() {
    Bench::one().set_mode(ONE, AdapterMode::On).ready(ONE, 1).check(ONE, "idle", &[]);
    Bench::one().request().set_mode(ONE, AdapterMode::Off).check(
        ONE,
        "stopping",
        &["reject", "stop 1"],
    );
    let deadline = Time(ms(60_000));
    let mut bench = Bench::one();
    bench.set_mode(ONE, AdapterMode::On).on(Event::Shutdown { deadline });
    bench.check(ONE, "stopping", &["stop 1"]);
}

#[test]
fn idle_runs_a_batch_or_stops_after_a_surplus() {
    Bench::idle().request().check(ONE, "busy", &["run 1"]);
    Bench::idle().after(ms(999)).check(ONE, "idle", &[]);
    Bench::idle().after(ms(1000)).check(ONE, "stopping", &["stop 1"]);
    Bench::idle().set_mode(ONE, AdapterMode::Off).check(ONE, "stopping", &["stop 1"]);
}

#[test]
fn busy_becomes_idle_or_drains() {
    Bench::busy().done(ONE).check(ONE, "idle", &["collect 1", "answer 2"]);
    Bench::busy().set_mode(ONE, AdapterMode::Off).check(ONE, "draining", &[]);
}

#[test]
fn draining_stops_or_is_taken_back() {
    Bench::draining().done(ONE).check(ONE, "stopping", &["stop 1", "collect 1", "answer 2"]);
    Bench::draining().set_mode(ONE, AdapterMode::Auto).check(ONE, "busy", &[]);
    Bench::draining().set_mode(ONE, AdapterMode::On).check(ONE, "busy", &[]);
}

#[test]
fn a_fault_kills_whatever_the_state() {
    Bench::one().request().faulted(ONE).check(ONE, "stopping", &["kill 1"]);
    Bench::idle().faulted(ONE).check(ONE, "stopping", &["kill 1"]);
    Bench::busy().faulted(ONE).check(ONE, "stopping", &["kill 1"]);
    Bench::draining().faulted(ONE).check(ONE, "stopping", &["kill 1", "reject"]);
}

#[test]
fn unrequested_exit_is_a_fault_and_requested_one_is_not() {
    Bench::one().request().exited(ONE).check(ONE, "quarantined", &[]);
    Bench::idle().exited(ONE).check(ONE, "quarantined", &[]);
    Bench::busy().exited(ONE).check(ONE, "quarantined", &[]);
    Bench::idle().after(ms(1000)).exited(ONE).check(ONE, "off", &[]);
    Bench::idle().faulted(ONE).exited(ONE).check(ONE, "quarantined", &[]);
}

#[test]
fn worker_that_does_not_stop_is_killed_and_then_unreaped() {
    let mut bench = Bench::idle();
    bench.after(ms(1000)).check(ONE, "stopping", &["stop 1"]);
    bench.after(ms(300)).check(ONE, "stopping", &["kill 1"]);
    bench.after(ms(300)).check(ONE, "unreaped", &[]);
    bench.exited(ONE).check(ONE, "quarantined", &[]);
}

#[test]
fn a_quarantine_ends() {
    let mut bench = Bench::idle();
    bench.faulted(ONE).exited(ONE).after(ms(499)).check(ONE, "quarantined", &[]);
    bench.after(ms(1)).check(ONE, "off", &[]);
}

#[test]
fn best_class_and_then_the_fastest_adapter_serves_first() {
    let mut bench = Bench::new(&[(ONE, 1, false), (TWO, 0, false)]);
    bench.request().check(TWO, "starting", &["start 2"]);
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 0, false)]);
    bench.set_mode(ONE, AdapterMode::On).set_mode(TWO, AdapterMode::On).opened(ONE).opened(TWO);
    bench.loaded(ONE, MODEL, &[(1, ms(10))]).loaded(TWO, MODEL, &[(1, ms(9))]);
    bench.request().check(TWO, "busy", &["run 2"]);
}

#[test]
fn slowest_adapter_drains_first_and_after_the_whole_delay() {
    let mut bench = Bench::two();
    bench.request().ready(ONE, 1).request().ready(TWO, 1).done(ONE).done(TWO);
    bench.after(ms(99)).check(TWO, "idle", &[]);
    bench.after(ms(1)).check(TWO, "stopping", &["stop 2"]);
    assert_eq!(bench.state(ONE), "idle");
}

#[test]
fn draining_adapter_resumes_before_another_starts() {
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 1, false), (AdapterId(3), 2, false)]);
    bench.request().ready(ONE, 1).request().ready(TWO, 1).done(ONE);
    // The first is idle and the second busy; the surplus lets the second drain.
    bench.after(ms(100)).check(TWO, "draining", &[]);
    bench.request().check(TWO, "busy", &["run 1"]);
    assert_eq!(bench.state(AdapterId(3)), "off");
}

#[test]
fn adapter_in_mode_on_is_not_surplus() {
    let mut bench = Bench::one();
    bench.set_mode(ONE, AdapterMode::On).ready(ONE, 1).after(ms(5000)).check(ONE, "idle", &[]);
}

#[test]
fn full_batch_skips_the_batching_delay() {
    let mut bench = Bench::one();
    let model = ModelProfile { delay: ms(50), ..profile(2) };
    bench.scheduler =
        Scheduler::new(bench.scheduler.world.settings.clone(), [(MODEL, model)].into());
    bench.on(Event::Discovered { adapters: vec![(ONE, adapter(0, false))] });
    bench.set_mode(ONE, AdapterMode::On).ready(ONE, 1);
    bench.request().check(ONE, "idle", &[]);
    bench.request().check(ONE, "busy", &["run 1"]);
    bench.done(ONE).request().after(ms(49)).check(ONE, "idle", &[]);
    bench.after(ms(1)).check(ONE, "busy", &["run 1"]);
}

#[test]
fn fallback_serves_until_a_regular_adapter_serves_again() {
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 9, true)]);
    bench.request().check(TWO, "off", &["start 1"]);
    bench.faulted(ONE).check(TWO, "starting", &["kill 1", "start 2"]);
    bench.ready(TWO, 1).check(TWO, "busy", &["run 2"]);
    bench.exited(ONE).after(ms(500)).check(ONE, "starting", &["start 1"]);
    bench.ready(ONE, 1).check(TWO, "draining", &[]);
    bench.done(TWO).check(TWO, "stopping", &["stop 2", "collect 2", "answer 1"]);
}

#[test]
fn shutdown_finishes_what_was_admitted_and_stops_at_once() {
    let deadline = Time(ms(60_000));
    let mut bench = Bench::busy();
    bench.request().on(Event::Shutdown { deadline }).check(ONE, "busy", &[]);
    bench.done(ONE).check(ONE, "draining", &["collect 1", "answer 2", "run 1"]);
    bench.done(ONE).check(ONE, "stopping", &["stop 1", "collect 1", "answer 3"]);
    bench.request();
    assert!(bench.actions.contains(&"reject".to_owned()));
}

#[test]
fn request_that_crashes_workers_repeatedly_runs_alone() {
    let mut bench = Bench::one();
    bench.request().request().ready(ONE, 1);
    for _ in 0..2 {
        bench.check(ONE, "busy", &["run 1"]);
        bench.exited(ONE).after(ms(4000)).ready(ONE, 1);
    }
    bench.check(ONE, "busy", &["run 1"]);
    assert_eq!(bench.scheduler.outstanding().in_flight.requests, 1);
}
