//! Batches of models that an adapter has, between the steps of loading another.

use super::memory::{OTHER, sized};
use super::*;

/// An adapter that has one model and loads the other.
fn loading() -> Bench {
    let mut bench = Bench::idle();
    bench.add(OTHER, sized(10)).want(OTHER).check(ONE, "loading", &["load 1 1"]);
    bench
}

#[test]
fn loaded_model_is_served_while_another_loads() {
    let mut bench = loading();
    bench.request().check(ONE, "loading", &["run 1"]);
    // One at a time, and nothing of what is not there yet.
    bench.request().want(OTHER).check(ONE, "loading", &[]);
    bench.done(ONE).check(ONE, "loading", &["collect 1", "answer 3", "run 1"]);
    bench.done(ONE).check(ONE, "loading", &["collect 1", "answer 4"]);
    bench.took(OTHER, 10, 100).check(ONE, "busy", &["run 1"]);
}

#[test]
fn a_load_may_end_before_the_batch_beside_it() {
    let mut bench = loading();
    bench.request().took(OTHER, 10, 100).check(ONE, "busy", &[]);
    bench.done(ONE).check(ONE, "busy", &["collect 1", "answer 3", "run 1"]);
    let mut bench = loading();
    bench.request().load_failed(ONE).check(ONE, "busy", &["reject"]);
}

#[test]
fn batches_during_a_load_are_not_measured() {
    let times = |bench: &Bench| estimates::service(&bench.scheduler.world, ONE, MODEL, 0).batch(1);
    let mut bench = loading();
    let before = times(&bench);
    bench.request();
    bench.now = bench.now + ms(5000);
    bench.done(ONE);
    assert_eq!(times(&bench), before);
    bench.request();
    bench.now = bench.now + ms(5000);
    bench.took(OTHER, 10, 100).done(ONE);
    assert_eq!(times(&bench), before);
    bench.done(ONE).request();
    bench.now = bench.now + ms(5000);
    bench.done(ONE);
    assert!(times(&bench) > before);
}

#[test]
fn adapter_turned_off_during_a_load_finishes_its_batch() {
    let mut bench = loading();
    bench.request().set_mode(ONE, AdapterMode::Off).check(
        ONE,
        "draining",
        &["reject", "unload 1 1"],
    );
    bench.done(ONE).check(ONE, "stopping", &["stop 1", "collect 1", "answer 3"]);
    // Taken back, it has given the load up.
    let mut bench = loading();
    bench.request().set_mode(ONE, AdapterMode::Off).set_mode(ONE, AdapterMode::Auto);
    bench.took(OTHER, 10, 100).check(ONE, "busy", &[]);
    assert!(!bench.view(ONE).replicas.contains_key(&OTHER));
}

#[test]
fn a_batch_has_its_whole_time_once_the_load_beside_it_is_given_up() {
    let mut bench = loading();
    bench.request();
    for _ in 0..2 {
        bench.now = bench.now + ms(40_000);
        let incarnation = bench.incarnation(ONE);
        bench.on(Event::Progress { adapter: ONE, incarnation });
    }
    bench.set_mode(ONE, AdapterMode::Off).check(ONE, "draining", &["reject", "unload 1 1"]);
    assert_eq!(bench.scheduler.next_timeout(), Some(bench.now + ms(60_000)));
}

#[test]
fn a_batch_lost_beside_a_load_runs_again() {
    let mut bench = loading();
    bench.request().exited(ONE).check(ONE, "quarantined", &[]);
    bench.after(ms(500)).check(ONE, "starting", &["start 1"]);
    bench.opened(ONE).check(ONE, "loading", &["load 1 1"]);
    bench.took(OTHER, 10, 100).check(ONE, "busy", &["run 1"]);
    bench.done(ONE).check(ONE, "loading", &["collect 1", "answer 2", "load 1 0"]);
    bench.loaded(ONE, MODEL, &[]).check(ONE, "busy", &["run 1"]);
}

#[test]
fn nothing_is_loaded_ahead_before_it_is_quiet() {
    let mut bench = Bench::one();
    bench.add(OTHER, sized(10)).set_mode(ONE, AdapterMode::On).request().ready(ONE, 1);
    let quiet = Duration::from_secs_f64(estimates::load_time(&bench.scheduler.world, ONE, OTHER));
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 1"]);
    let due = bench.now + quiet;
    assert_eq!(bench.scheduler.next_timeout(), Some(due));
    bench.after(quiet / 2).request().done(ONE).after(quiet / 2).check(ONE, "idle", &[]);
    bench.after(quiet / 2).check(ONE, "loading", &["load 1 1"]);
}
