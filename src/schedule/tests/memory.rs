//! Placement of models: which fit, which are evicted, and which are loaded ahead.

use super::*;

pub(super) const OTHER: ModelId = ModelId(1);
const THIRD: ModelId = ModelId(2);

/// A model of `bytes` bytes, by its files.
pub(super) fn sized(bytes: u64) -> ModelProfile {
    ModelProfile { bytes, ..profile(2) }
}

fn with_memory(memory: u64) -> Bench {
    let mut bench = Bench::one();
    bench.listed(&[(ONE, AdapterProfile { memory: Some(memory), ..adapter(0, false) })]);
    bench
}

impl Bench {
    pub(super) fn add(&mut self, model: ModelId, profile: ModelProfile) -> &mut Bench {
        self.on(Event::ModelAdded { model, profile })
    }

    /// Requests a model.
    pub(super) fn want(&mut self, model: ModelId) -> &mut Bench {
        self.request_with(|arrival| arrival.model = model)
    }

    pub(super) fn took(&mut self, model: ModelId, bytes: u64, load: u64) -> &mut Bench {
        self.now = self.now + ms(load);
        let (incarnation, measured) = (self.incarnation(ONE), vec![(1, ms(10))]);
        self.on(Event::Loaded { adapter: ONE, incarnation, model, bytes, measured, tuning: None })
    }

    fn models(&self) -> Vec<u32> {
        self.view(ONE).replicas.keys().map(|model| model.0).collect()
    }
}

/// An adapter in mode on, with as much memory as two models need: each was loaded once, 10 s ago,
/// with these bytes and this load time.
fn shelf(models: [(u64, u64); 2]) -> Bench {
    let mut bench = with_memory(models[0].0 + models[1].0);
    bench.serve(sized(models[0].0)).set_mode(ONE, AdapterMode::On).opened(ONE);
    bench.took(MODEL, models[0].0, models[0].1);
    bench.add(OTHER, sized(models[1].0)).took(OTHER, models[1].0, models[1].1);
    assert_eq!(bench.models(), [0, 1]);
    bench.after(ms(10_000));
    bench
}

/// Uses a model once.
fn used(bench: &mut Bench, model: ModelId) {
    bench.want(model).done(ONE).after(ms(2000));
}

/// Returns the models evicted for a third one.
fn victims(bench: &mut Bench) -> Vec<String> {
    bench.add(THIRD, sized(10)).want(THIRD);
    assert_eq!(bench.actions.last().map(String::as_str), Some("load 1 2"));
    bench.actions.iter().filter(|word| word.starts_with("unload")).cloned().collect()
}

#[test]
fn last_used_model_stays() {
    for (model, victim) in [(MODEL, "unload 1 1"), (OTHER, "unload 1 0")] {
        let mut bench = shelf([(10, 500), (10, 500)]);
        used(&mut bench, model);
        assert_eq!(victims(&mut bench), [victim]);
        assert!(!bench.models().contains(&u32::from(victim.ends_with('1'))));
    }
}

#[test]
fn model_with_the_longer_load_stays() {
    let mut bench = shelf([(10, 100), (10, 2000)]);
    used(&mut bench, MODEL);
    assert_eq!(victims(&mut bench), ["unload 1 0"]);
}

#[test]
fn larger_model_is_evicted_first() {
    let mut bench = shelf([(100, 500), (10, 500)]);
    used(&mut bench, MODEL);
    assert_eq!(victims(&mut bench), ["unload 1 0"]);
}

#[test]
fn a_model_that_is_used_stays_four_times_as_long_as_its_load_took() {
    let mut bench = with_memory(10);
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).took(MODEL, 10, 1000).add(OTHER, sized(10));
    for _ in 0..7 {
        bench.after(ms(500)).want(MODEL).done(ONE);
    }
    bench.want(OTHER).check(ONE, "idle", &[]);
    assert_eq!(bench.scheduler.next_timeout(), Some(bench.now + ms(500)));
    bench.after(ms(499)).check(ONE, "idle", &[]);
    bench.after(ms(1)).check(ONE, "loading", &["unload 1 0", "load 1 1"]);
}

#[test]
fn a_model_that_is_not_used_stays_as_long_as_its_load_took() {
    let mut bench = with_memory(10);
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).took(MODEL, 10, 2000);
    bench.add(OTHER, sized(10)).want(OTHER).check(ONE, "idle", &[]);
    bench.after(ms(1999)).check(ONE, "idle", &[]);
    bench.after(ms(1)).check(ONE, "loading", &["unload 1 0", "load 1 1"]);
}

#[test]
fn rows_that_can_wait_for_room_are_looked_at_when_there_is_some() {
    let mut bench = with_memory(10);
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).took(MODEL, 10, 2000);
    bench.scheduler.world.settings.policy =
        Policy::Cost { goal: Goal::Balanced, price_mj: 0, late_penalty_mj: 0, starts_per_hour: 30 };
    bench.add(OTHER, ModelProfile { slo: ms(60_000), ..sized(10) }).want(OTHER);
    bench.after(ms(1999)).check(ONE, "idle", &[]);
    assert_eq!(bench.scheduler.next_timeout(), Some(bench.now + ms(1)));
    bench.after(ms(1)).check(ONE, "loading", &["unload 1 0", "load 1 1"]);
}

/// Two that hold one model each, the second much slower.
fn two() -> Bench {
    let mut bench = Bench::one();
    let slow = |rank, speed| AdapterProfile { memory: Some(10), speed, ..adapter(rank, false) };
    bench.listed(&[(ONE, slow(0, 100)), (TWO, slow(1, 10))]);
    bench.serve(ModelProfile { slo: ms(10_000), ..sized(10) }).add(OTHER, sized(10));
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).took(MODEL, 10, 1000);
    bench
}

#[test]
fn model_in_use_is_not_evicted_while_another_adapter_has_memory() {
    let mut bench = two();
    bench.set_mode(TWO, AdapterMode::On).opened(TWO).loaded(TWO, MODEL, &[(1, ms(100))]);
    bench.after(ms(5000)).want(MODEL).done(ONE);
    // The first would be far faster, and its model may go by now; but the second has not been
    // used for long.
    bench.after(ms(1500)).want(OTHER);
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("idle", "loading"));
}

#[test]
fn ready_adapter_serves_before_one_that_would_have_to_evict() {
    let mut bench = two();
    bench.want(OTHER).set_mode(TWO, AdapterMode::On).opened(TWO).loaded(
        TWO,
        OTHER,
        &[(1, ms(5000))],
    );
    // The first would have loaded that model and be done long before the second is.
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("idle", "busy"));
}

#[test]
fn requests_do_not_wait_for_a_model_that_never_fits() {
    with_memory(15).serve(sized(20)).request().check(ONE, "off", &["reject"]);
    // The measured size counts, not that of the files.
    let known = |bytes| {
        let replica = LearnedReplica { bytes: Some(bytes), ..LearnedReplica::default() };
        LearnedProfile {
            cold_start: None,
            replicas: vec![(MODEL, replica)],
            ..LearnedProfile::default()
        }
    };
    let mut bench = with_memory(15);
    bench.on(Event::ProfileRestored { adapter: ONE, profile: known(20) });
    bench.request().check(ONE, "off", &["reject"]);
    let mut bench = with_memory(15);
    bench.serve(sized(20)).on(Event::ProfileRestored { adapter: ONE, profile: known(12) });
    bench.request().check(ONE, "starting", &["start 1"]);
}

#[test]
fn an_unmeasured_size_is_that_of_the_files_and_a_measured_one_is_remembered() {
    for (reported, bytes) in [(0, 10), (7, 7)] {
        let mut bench = Bench::one();
        bench.request().opened(ONE).took(MODEL, reported, 100);
        assert_eq!(bench.view(ONE).bytes, bytes);
        let memory = bench.scheduler.learned_profile(bench.now, ONE).expect("it is known");
        assert_eq!(memory.replicas[0].1.bytes, Some(bytes));
    }
}

#[test]
fn only_the_load_that_runs_can_end() {
    let mut bench = Bench::one();
    bench.add(OTHER, sized(10)).request().opened(ONE).check(ONE, "loading", &["load 1 0"]);
    bench.took(OTHER, 10, 10).check(ONE, "loading", &[]);
    let incarnation = bench.incarnation(ONE);
    let retry = LoadRetry::Later;
    bench.on(Event::LoadFailed { adapter: ONE, incarnation, model: OTHER, retry });
    bench.check(ONE, "loading", &[]);
}

#[test]
fn a_model_that_is_withdrawn_under_its_batch_is_dropped_behind_it() {
    let mut bench = Bench::busy();
    bench.on(Event::ModelRemoved { model: MODEL }).check(ONE, "busy", &[]);
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 2", "unload 1 0"]);
}

#[test]
fn idle_adapter_loads_requested_models_ahead() {
    let mut bench = Bench::two();
    bench.add(OTHER, sized(10)).request().ready(ONE, 1);
    // The other model has not been requested yet.
    bench.done(ONE).check(ONE, "idle", &["collect 1", "answer 1"]);
    bench.after(ms(400)).check(ONE, "idle", &[]);
    bench.want(OTHER).took(OTHER, 10, 10).done(ONE).set_mode(TWO, AdapterMode::On);
    bench.set_mode(TWO, AdapterMode::Auto).opened(TWO).check(TWO, "loading", &["load 2 0"]);
    bench.loaded(TWO, MODEL, &[]).check(TWO, "loading", &["load 2 1"]);
}

#[test]
fn model_with_waiting_requests_is_loaded_ahead_first() {
    let mut bench = Bench::two();
    bench.add(OTHER, sized(10)).set_mode(ONE, AdapterMode::On).opened(ONE);
    bench.took(MODEL, 10, 500).took(OTHER, 10, 500).request().want(OTHER);
    bench.set_mode(TWO, AdapterMode::On).opened(TWO).check(TWO, "loading", &["load 2 1"]);
}

#[test]
fn adapter_on_without_requests_loads_all_models_that_fit() {
    let mut bench = with_memory(15);
    bench.add(OTHER, sized(10)).set_mode(ONE, AdapterMode::On).opened(ONE);
    bench.check(ONE, "loading", &["load 1 0"]);
    bench.took(MODEL, 10, 10).check(ONE, "idle", &[]);
    let mut bench = Bench::one();
    bench.scheduler.world.settings.min = 1;
    bench.after(ms(1)).opened(ONE).check(ONE, "loading", &["load 1 0"]);
}

#[test]
fn nothing_is_loaded_ahead_during_shutdown() {
    let mut bench = Bench::two();
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).took(MODEL, 10, 100);
    bench.set_mode(TWO, AdapterMode::On).opened(TWO).load_failed(TWO).request().request();
    bench.add(OTHER, sized(10)).check(TWO, "loading", &["load 2 1"]);
    let deadline = bench.now + ms(60_000);
    bench.on(Event::Shutdown { deadline }).loaded(TWO, OTHER, &[]);
    bench.add(THIRD, sized(10)).check(TWO, "idle", &[]);
}
