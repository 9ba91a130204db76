//! Workers with several batches: one that runs, and those that follow it.

use super::*;

/// One adapter with the model and `slots` slots for batches of up to two rows, 10 ms each.
fn bench(slots: u32) -> Bench {
    let mut bench = Bench::new(&[]);
    bench.listed(&[(ONE, AdapterProfile { slots, ..adapter(0, false) })]);
    bench.set_mode(ONE, AdapterMode::On).opened(ONE);
    bench.loaded(ONE, MODEL, &[(1, ms(10)), (2, ms(10))]);
    bench
}

fn send(bench: &mut Bench, requests: usize) {
    for _ in 0..requests {
        bench.request();
    }
}

fn held(bench: &Bench) -> usize {
    bench.view(ONE).state.running.len()
}

#[test]
fn next_batch_is_handed_over_once_it_is_full() {
    let mut bench = bench(2);
    bench.request().check(ONE, "busy", &["run 1"]);
    // More requests may arrive before the first batch is done.
    bench.request().check(ONE, "busy", &[]);
    bench.request().check(ONE, "busy", &["run 1"]);
    // The two slots are full.
    bench.request().request().check(ONE, "busy", &[]);
    assert_eq!(held(&bench), 2);
    bench.after(ms(10)).done(ONE).check(ONE, "busy", &["collect 1", "answer 1", "run 1"]);
    assert_eq!(held(&bench), 2);
}

#[test]
fn one_slot_holds_one_batch() {
    let mut bench = bench(1);
    send(&mut bench, 9);
    assert_eq!(held(&bench), 1);
}

#[test]
fn adapter_that_drains_ends_all_its_batches() {
    let mut bench = bench(3);
    send(&mut bench, 5);
    assert_eq!(held(&bench), 3);
    bench.set_mode(ONE, AdapterMode::Off).check(ONE, "draining", &[]);
    bench.after(ms(10)).done(ONE).check(ONE, "draining", &["collect 1", "answer 1"]);
    bench.after(ms(10)).done(ONE).check(ONE, "draining", &["collect 1", "answer 2", "answer 3"]);
    let last = ["stop 1", "collect 1", "answer 4", "answer 5"];
    bench.after(ms(10)).done(ONE).check(ONE, "stopping", &last);
}

#[test]
fn all_batches_of_a_lost_worker_run_again() {
    let mut bench = bench(3);
    send(&mut bench, 5);
    assert_eq!(bench.scheduler.outstanding().in_flight.rows, 5);
    bench.faulted(ONE).check(ONE, "stopping", &["kill 1"]);
    assert_eq!(bench.scheduler.outstanding().queued.rows, 5);
    assert_eq!(bench.view(ONE).state.running, []);
}

#[test]
fn batch_that_waited_for_another_counts_from_its_end() {
    let mut bench = bench(2);
    send(&mut bench, 3);
    bench.after(ms(10)).done(ONE).after(ms(10)).done(ONE);
    let seconds = estimates::service(&bench.scheduler.world, ONE, MODEL, 0).batch(2);
    assert!((seconds - 0.01).abs() < 0.001, "{seconds}");
}

#[test]
fn batch_that_waits_is_not_taken_for_stuck() {
    let mut bench = bench(2);
    bench.scheduler.world.settings.timeouts.run = ms(100);
    send(&mut bench, 3);
    bench.after(ms(90)).done(ONE).after(ms(90)).check(ONE, "busy", &[]);
    bench.after(ms(10)).check(ONE, "stopping", &["kill 1"]);
}

#[test]
fn rows_of_the_batch_that_found_no_memory_are_limited() {
    let mut bench = bench(2);
    // The first one has a single row, which is as few as there can be.
    send(&mut bench, 3);
    let second = bench.view(ONE).state.running[1].batch.id;
    let (incarnation, failure) = (bench.incarnation(ONE), Failure::Memory);
    bench.on(Event::Failed { adapter: ONE, incarnation, batch: second, failure });
    assert_eq!(estimates::rows_limit(&bench.scheduler.world, ONE, MODEL), 1);
    assert_eq!(bench.scheduler.outstanding().queued.rows, 3);
}

#[test]
fn adapter_that_runs_a_batch_is_not_as_soon_free_as_it_has_slots() {
    let mut bench = bench(3);
    send(&mut bench, 3);
    let free = slots::slots(&bench.scheduler.world, bench.now, MODEL, 0)[0].free;
    assert!((free - 0.02).abs() < 0.002, "{free}");
}
