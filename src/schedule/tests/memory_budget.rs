//! Memory of other programs, and settings that change while the server runs.

use super::memory::{OTHER, sized};
use super::*;

impl Bench {
    fn budget(&mut self, adapter: AdapterId, bytes: u64) -> &mut Bench {
        self.on(Event::MemoryBudget { adapter, bytes: Some(bytes) })
    }
}

/// An adapter without any other limit that has two models of ten bytes, which took a second each.
fn holds_two() -> Bench {
    let mut bench = Bench::one();
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).took(MODEL, 10, 1000).add(OTHER, sized(10));
    bench.took(OTHER, 10, 1000);
    bench
}

#[test]
fn the_budget_is_what_others_leave_of_what_is_allowed() {
    let mut bench = Bench::one();
    assert_eq!(bench.view(ONE).budget, None);
    bench.budget(ONE, 30);
    assert_eq!(bench.view(ONE).budget, Some(30));
    bench.listed(&[(ONE, AdapterProfile { memory: Some(20), ..adapter(0, false) })]);
    assert_eq!(bench.view(ONE).budget, Some(20));
    bench.budget(ONE, 15);
    assert_eq!(bench.view(ONE).budget, Some(15));
    bench.on(Event::MemoryBudget { adapter: ONE, bytes: None });
    assert_eq!(bench.view(ONE).budget, Some(20));
}

#[test]
fn model_waits_or_evicts_if_other_programs_take_memory() {
    let mut bench = Bench::one();
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).took(MODEL, 10, 1000).budget(ONE, 15);
    bench.add(OTHER, sized(10)).want(OTHER).check(ONE, "idle", &[]);
    bench.after(ms(1000)).check(ONE, "loading", &["unload 1 0", "load 1 1"]);
    let mut bench = Bench::one();
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).took(MODEL, 10, 1000).budget(ONE, 20);
    bench.add(OTHER, sized(10)).check(ONE, "loading", &["load 1 1"]);
}

#[test]
fn model_is_placed_where_memory_is_free() {
    let mut bench = Bench::two();
    bench.budget(ONE, 9).request();
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("off", "starting"));
    // An adapter with the model needs no free memory for it.
    let mut bench = Bench::pair(2, (10, 20), (50, 100));
    bench.budget(ONE, 9).request();
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("busy", "idle"));
}

#[test]
fn model_is_tried_if_no_adapter_has_free_memory() {
    for mode in [AdapterMode::Auto, AdapterMode::Off] {
        let mut bench = Bench::two();
        bench.budget(ONE, 9).set_mode(TWO, mode);
        if mode == AdapterMode::Auto {
            bench.budget(TWO, 9);
        }
        bench.request().opened(ONE).check(ONE, "loading", &["load 1 0"]);
    }
}

#[test]
fn model_larger_than_the_budget_is_tried_alone() {
    let mut bench = Bench::one();
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).took(MODEL, 10, 1000).budget(ONE, 15);
    bench.add(OTHER, sized(20)).after(ms(2000)).want(OTHER);
    bench.check(ONE, "loading", &["unload 1 0", "load 1 1"]);
}

#[test]
fn unused_model_is_unloaded_when_other_programs_need_memory() {
    let mut bench = holds_two();
    bench.after(ms(500)).budget(ONE, 20).check(ONE, "idle", &[]);
    // It was used not long ago.
    bench.budget(ONE, 19).check(ONE, "idle", &[]);
    bench.after(ms(2000)).want(OTHER).done(ONE).check(ONE, "idle", &["collect 1", "answer 1"]);
    bench.after(ms(499)).check(ONE, "idle", &[]);
    bench.after(ms(1)).check(ONE, "idle", &["unload 1 0"]);
    // One is enough, and it does not come back while it would not fit.
    bench.after(ms(10_000)).check(ONE, "idle", &[]);
    bench.budget(ONE, 20).check(ONE, "loading", &["load 1 0"]);
}

#[test]
fn running_model_is_not_unloaded_for_other_programs() {
    let mut bench = holds_two();
    bench.after(ms(5000)).want(MODEL).budget(ONE, 0).check(ONE, "busy", &[]);
    bench.done(ONE);
    assert_eq!(bench.actions, ["collect 1", "answer 1", "unload 1 1"]);
}

#[test]
fn settings_may_change_while_requests_wait() {
    let mut bench = Bench::two();
    bench.scheduler.world.settings.max = 1;
    bench.request().request().check(TWO, "off", &[]);
    let mut settings = bench.scheduler.world.settings.clone();
    settings.max = 2;
    bench.on(Event::Configured { settings: settings.clone() });
    bench.check(TWO, "starting", &["start 2"]);
    settings.queue_requests_max = 2;
    bench.on(Event::Configured { settings: settings.clone() }).request();
    assert_eq!(bench.actions, ["reject"]);
    settings.queue_requests_max = 3;
    bench.on(Event::Configured { settings }).request();
    assert!(bench.actions.is_empty(), "{:?}", bench.actions);
}

#[test]
fn worst_adapter_drains_when_the_maximum_falls() {
    let fewer = |bench: &mut Bench| {
        let settings = Settings { max: 1, ..bench.scheduler.world.settings.clone() };
        bench.on(Event::Configured { settings }).actions.clone()
    };
    let mut bench = Bench::two();
    bench.request().request().check(TWO, "starting", &["start 2"]);
    assert_eq!(fewer(&mut bench), ["stop 2"]);
    // An adapter in mode on stays.
    let mut bench = Bench::two();
    bench.set_mode(TWO, AdapterMode::On).request().request().check(ONE, "starting", &["start 1"]);
    assert_eq!(fewer(&mut bench), ["stop 1"]);
    // So does a fallback while others start: it does not count.
    let (mut bench, fallback) =
        (Bench::new(&[(ONE, 0, false), (TWO, 1, false), (AdapterId(3), 9, true)]), AdapterId(3));
    bench
        .set_mode(fallback, AdapterMode::On)
        .ready(fallback, 1)
        .set_mode(fallback, AdapterMode::Auto);
    bench.request().request().check(TWO, "starting", &["start 2"]);
    assert_eq!(fewer(&mut bench), ["stop 2"]);
}

#[test]
fn largest_share_is_computed_from_the_present_limits() {
    let mut bench = Bench::bounded(100, 1000);
    // Thirty rows in one request are more of this queue than two requests.
    for (client, rows) in [(1, 30), (2, 1), (2, 1)] {
        bench.request_with(|arrival| (arrival.client, arrival.rows) = (ClientId(client), rows));
    }
    let settings = Settings { queue_requests_max: 3, ..bench.scheduler.world.settings.clone() };
    bench.on(Event::Configured { settings });
    bench.request_with(|arrival| arrival.client = ClientId(3));
    let mut left = bench.scheduler.world.queue.ids();
    left.sort();
    assert_eq!(left, [RequestId(1), RequestId(2), RequestId(4)]);
}

#[test]
fn memory_of_adapters_that_may_not_start_does_not_count() {
    let mut bench = Bench::two();
    bench.scheduler.world.settings.max = 1;
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).took(MODEL, 10, 1000).budget(ONE, 9);
    bench.add(OTHER, sized(10)).after(ms(2000)).want(OTHER);
    bench.check(ONE, "loading", &["unload 1 0", "load 1 1"]);
}

#[test]
fn loading_model_needs_no_more_memory() {
    let mut bench = Bench::two();
    bench.request().opened(ONE).check(ONE, "loading", &["load 1 0"]);
    // The memory of an unfinished load may look like that of other programs.
    bench.budget(ONE, 5).check(TWO, "off", &[]);
    bench.loaded(ONE, MODEL, &[(1, ms(10))]).check(ONE, "busy", &["run 1"]);
}

#[test]
fn nothing_is_loaded_ahead_into_memory_that_others_may_need() {
    let mut bench = Bench::one();
    bench.listed(&[(ONE, AdapterProfile { memory: Some(100), ..adapter(0, false) })]);
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).took(MODEL, 10, 100).budget(ONE, 29);
    bench.add(OTHER, sized(10)).after(ms(5000)).check(ONE, "idle", &[]);
    bench.budget(ONE, 30).check(ONE, "loading", &["load 1 1"]);
}

#[test]
fn excluded_adapter_drains_even_in_mode_on() {
    let mut bench = Bench::two();
    bench.set_mode(ONE, AdapterMode::On).ready(ONE, 1).request();
    // A card that is only unlisted may still work.
    bench.listed(&[(TWO, adapter(1, false))]).check(ONE, "busy", &[]);
    bench.on(Event::Excluded { adapters: vec![ONE] }).check(ONE, "draining", &["start 2"]);
    bench.done(ONE).exited(ONE).check(ONE, "off", &[]);
    bench.on(Event::Excluded { adapters: vec![] }).check(ONE, "off", &[]);
    bench.listed(&[(ONE, adapter(0, false)), (TWO, adapter(1, false))]);
    bench.check(ONE, "starting", &["start 1"]);
}

#[test]
fn requests_do_not_wait_for_an_excluded_adapter() {
    let mut bench = Bench::busy();
    // An adapter that is only unlisted continues.
    bench.request().listed(&[]).check(ONE, "busy", &[]);
    bench.on(Event::Excluded { adapters: vec![ONE] }).check(ONE, "draining", &["reject"]);
    // Its free memory does not exclude another adapter, nor does it exclude a fallback.
    let mut bench = Bench::two();
    bench.budget(TWO, 9).request().check(ONE, "starting", &["start 1"]);
    bench.on(Event::Excluded { adapters: vec![ONE] });
    bench.check(TWO, "starting", &["stop 1", "start 2"]);
    let mut bench = Bench::new(&[(ONE, 0, false), (TWO, 9, true)]);
    bench.request().check(ONE, "starting", &["start 1"]);
    bench.on(Event::Excluded { adapters: vec![ONE] });
    bench.check(TWO, "starting", &["stop 1", "start 2"]);
}

#[test]
fn new_policy_resets_delayed_starts() {
    let mut bench = Bench::one();
    let by_rows = bench.scheduler.world.settings.clone();
    let policy =
        Policy::Cost { goal: Goal::Energy, price_mj: 0, late_penalty_mj: 0, starts_per_hour: 30 };
    bench.scheduler.world.settings.policy = policy;
    bench.serve(ModelProfile { slo: ms(60_000), ..profile(2) }).request();
    bench.check(ONE, "off", &[]);
    assert!(bench.scheduler.next_timeout() > Some(bench.now), "a start is put off");
    bench.on(Event::Configured { settings: by_rows }).check(ONE, "starting", &["start 1"]);
    assert_eq!(bench.scheduler.world.start_at, None);
}
