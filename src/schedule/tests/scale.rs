//! The number of adapters that are on: minimum, surplus, fallback, operator, shutdown.

use super::*;

const THREE: AdapterId = AdapterId(3);

/// A regular adapter and a fallback.
fn with_stand_in() -> Bench {
    Bench::new(&[(ONE, 0, false), (TWO, 9, true)])
}

/// The regular adapter failed during a request, and the fallback serves.
fn standing_in() -> Bench {
    let mut bench = with_stand_in();
    bench.request().faulted(ONE).exited(ONE).ready(TWO, 1).check(TWO, "busy", &["run 2"]);
    bench
}

fn going_down(bench: &mut Bench) -> &mut Bench {
    let deadline = bench.now + ms(60_000);
    bench.on(Event::Shutdown { deadline })
}

/// Too small for the model.
fn small(rank: u32) -> AdapterProfile {
    AdapterProfile { memory: Some(5), ..adapter(rank, false) }
}

fn target(bench: &mut Bench, target: u64) {
    let (scale_down_delay, scale_to_zero_delay) = (ms(100), ms(1000));
    bench.scheduler.world.settings.policy =
        Policy::Concurrency { target, scale_down_delay, scale_to_zero_delay };
}

#[test]
fn minimum_is_kept_until_shutdown() {
    let mut bench = Bench::two();
    bench.scheduler.world.settings.min = 1;
    bench.after(ms(1)).check(ONE, "starting", &["start 1"]);
    let mut bench = Bench::two();
    bench.scheduler.world.settings.min = 1;
    going_down(&mut bench).check(ONE, "off", &[]);
}

#[test]
fn model_that_no_running_adapter_can_hold_starts_one_that_can() {
    let mut bench = Bench::new(&[]);
    bench.listed(&[(ONE, small(0)), (TWO, small(1)), (THREE, adapter(2, false))]);
    bench.set_mode(ONE, AdapterMode::On).opened(ONE);
    bench.request().check(THREE, "starting", &["start 3"]);
}

#[test]
fn model_that_no_running_adapter_can_hold_is_rejected_at_the_maximum() {
    let mut bench = Bench::two();
    bench.scheduler.world.settings.max = 1;
    bench.listed(&[(ONE, small(0)), (TWO, adapter(1, false))]);
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).request().check(TWO, "off", &["reject"]);
}

#[test]
fn draining_adapter_resumes_for_a_model_that_only_it_can_hold() {
    let mut bench = Bench::two();
    target(&mut bench, 100);
    bench.listed(&[(ONE, small(0)), (TWO, adapter(1, false))]);
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).set_mode(TWO, AdapterMode::On).ready(TWO, 1);
    bench.set_mode(TWO, AdapterMode::Auto).request().check(TWO, "busy", &["run 2"]);
    bench.after(ms(100)).check(TWO, "draining", &[]);
    bench.request().check(TWO, "busy", &[]);
}

#[test]
fn mode_on_starts_nothing_during_shutdown() {
    going_down(&mut Bench::one()).set_mode(ONE, AdapterMode::On).check(ONE, "off", &[]);
}

#[test]
fn no_adapter_starts_during_shutdown_for_running_batches() {
    let mut bench = Bench::one();
    bench.request().request().ready(ONE, 1);
    going_down(&mut bench).check(ONE, "draining", &[]);
    bench.listed(&[(ONE, adapter(0, false)), (TWO, adapter(1, false))]).check(TWO, "off", &[]);
}

#[test]
fn fallback_does_not_help_a_usable_adapter() {
    with_stand_in().request().request().check(TWO, "off", &[]);
}

#[test]
fn fallback_replaces_adapters_that_are_off_by_mode_or_absent() {
    with_stand_in().set_mode(ONE, AdapterMode::Off).request().check(TWO, "starting", &["start 2"]);
    let mut bench = with_stand_in();
    bench.listed(&[(TWO, adapter(9, true))]).request().check(TWO, "starting", &["start 2"]);
}

#[test]
fn fallback_stays_on_until_a_regular_adapter_serves() {
    let mut bench = standing_in();
    bench.after(ms(500)).check(ONE, "starting", &["start 1"]);
    bench.after(ms(150)).check(TWO, "busy", &[]);
    bench.ready(ONE, 1).check(TWO, "draining", &[]);
}

#[test]
fn fallback_turns_off_when_no_work_is_left() {
    let mut bench = standing_in();
    bench.done(TWO).after(ms(500)).check(ONE, "off", &[]);
    bench.after(ms(500)).check(TWO, "stopping", &["stop 2"]);
}

#[test]
fn fallback_in_mode_on_counts_as_regular() {
    let mut bench = with_stand_in();
    bench.set_mode(TWO, AdapterMode::On).ready(TWO, 1).request().check(ONE, "off", &["run 2"]);
}

#[test]
fn surplus_that_ended_is_forgotten() {
    let mut bench = Bench::idle();
    bench.after(ms(500)).request().done(ONE).after(ms(999)).check(ONE, "idle", &[]);
    bench.after(ms(1)).check(ONE, "stopping", &["stop 1"]);
    let mut bench = Bench::idle();
    bench.after(ms(500)).set_mode(ONE, AdapterMode::On).set_mode(ONE, AdapterMode::Auto);
    bench.after(ms(999)).check(ONE, "idle", &[]);
}

#[test]
fn large_surplus_is_drained_one_adapter_at_a_time() {
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 1, false), (THREE, 2, false)]);
    for id in [ONE, TWO, THREE] {
        bench.set_mode(id, AdapterMode::On).ready(id, 1);
    }
    for id in [ONE, TWO, THREE] {
        bench.set_mode(id, AdapterMode::Auto);
    }
    bench.after(ms(100)).check(THREE, "stopping", &["stop 3"]);
    bench.after(ms(99)).check(TWO, "idle", &[]);
    bench.after(ms(1)).check(TWO, "stopping", &["stop 2"]);
}

#[test]
fn starting_adapter_is_not_surplus_before_it_is_ready() {
    let mut bench = Bench::two();
    bench.request().request().ready(ONE, 1).done(ONE).after(ms(100));
    assert_eq!([bench.state(ONE), bench.state(TWO)], ["idle", "starting"]);
    bench.ready(TWO, 1).after(ms(100)).check(TWO, "stopping", &["stop 2"]);
}
