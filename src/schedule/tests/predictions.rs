//! Estimates of times and sizes, with and without measurements.

use super::super::forecast::Slot;
use super::*;

const OTHER: ModelId = ModelId(1);

fn near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= 0.02 * expected
}

impl Bench {
    /// Predicted milliseconds of a batch of one row of this size.
    fn one_row(&self, adapter: AdapterId, size: u8) -> f64 {
        estimates::service(&self.scheduler.world, adapter, MODEL, size).batch(1) * 1e3
    }

    fn slots(&self, model: ModelId) -> Vec<Slot> {
        slots::slots(&self.scheduler.world, self.now, model, 0)
    }

    /// Milliseconds until the first adapter can begin with rows of this model.
    fn free(&self, model: ModelId) -> f64 {
        self.slots(model)[0].free * 1e3
    }
}

/// Two adapters of which the first, twice as fast by its class, takes 10 ms a row; that is what
/// their probes measured.
fn unlike(first: u64, second: u64) -> Bench {
    let mut bench = Bench::one();
    let slower = AdapterProfile { speed: 50, ..adapter(1, false) };
    bench.listed(&[(ONE, adapter(0, false)), (TWO, slower)]);
    for (id, speed) in [(ONE, first), (TWO, second)] {
        let incarnation = bench.set_mode(id, AdapterMode::On).incarnation(id);
        bench.on(Event::Ready { adapter: id, incarnation, speed });
    }
    bench.loaded(ONE, MODEL, &[(1, ms(10))]);
    bench
}

#[test]
fn times_are_scaled_from_another_adapter_by_probe_or_class() {
    assert!(near(unlike(0, 0).one_row(TWO, 0), 20.0));
    assert!(near(unlike(100, 0).one_row(TWO, 0), 20.0));
    assert!(near(unlike(0, 25).one_row(TWO, 0), 20.0));
    assert!(near(unlike(100, 25).one_row(TWO, 0), 40.0));
}

#[test]
fn unknown_model_is_estimated_by_the_class_of_the_adapter() {
    let mut bench = Bench::one();
    assert!(near(bench.one_row(ONE, 0), 15.0), "{}", bench.one_row(ONE, 0));
    bench.listed(&[(ONE, AdapterProfile { speed: 1000, ..adapter(0, false) })]);
    assert!(near(bench.one_row(ONE, 0), 1.5));
}

#[test]
fn rows_of_different_sizes_have_different_estimates() {
    let line = |ms: u64| ServiceTime { alpha_ns: ms * 1_000_000, beta_ns: 0, spread_permille: 0 };
    let restored = |service_times| {
        let replica = LearnedReplica { service_times, ..LearnedReplica::default() };
        let memory = LearnedProfile {
            cold_start: None,
            replicas: vec![(MODEL, replica)],
            ..LearnedProfile::default()
        };
        let mut bench = Bench::one();
        bench.on(Event::ProfileRestored { adapter: ONE, profile: memory });
        bench
    };
    let bench = restored(vec![(4, line(10)), (20, line(80))]);
    let times = [2, 4, 19, 20, 25].map(|size| bench.one_row(ONE, size).round());
    assert_eq!(times, [10.0, 10.0, 10.0, 80.0, 80.0]);
}

#[test]
fn a_new_size_of_rows_begins_with_what_is_known_of_others() {
    let mut bench = Bench::one();
    bench.serve(profile(8)).set_mode(ONE, AdapterMode::On).opened(ONE);
    bench.loaded(ONE, MODEL, &[(1, ms(11)), (8, ms(81))]);
    bench.request_with(|arrival| arrival.shape.size = 10).after(ms(11)).done(ONE);
    let eight = estimates::service(&bench.scheduler.world, ONE, MODEL, 10).batch(8);
    assert!(near(eight, 0.081), "{eight}");
}

#[test]
fn batches_are_learned_with_their_padding() {
    let mut bench = Bench::one();
    bench.serve(profile(8)).set_mode(ONE, AdapterMode::On).opened(ONE);
    bench.loaded(ONE, MODEL, &[(1, ms(10)), (8, ms(80))]);
    for _ in 0..20 {
        bench.request_with(|arrival| arrival.rows = 3).after(ms(40)).done(ONE);
    }
    let slot = bench.slots(MODEL)[0];
    assert!(near(slot.batch(3), 0.040) && near(slot.batch(1), 0.010), "{slot:?}");
}

#[test]
fn loads_and_sizes_are_known_from_here_from_elsewhere_or_from_files() {
    let (mut bench, scheduled) = (Bench::two(), ms(700));
    bench.on(Event::ModelAdded {
        model: OTHER,
        profile: ModelProfile { bytes: 2_000_000_000, ..profile(2) },
    });
    bench.request().opened(ONE).after(scheduled);
    let incarnation = bench.incarnation(ONE);
    let measured = Vec::new();
    bench.on(Event::Loaded {
        adapter: ONE,
        incarnation,
        model: MODEL,
        bytes: 7,
        measured,
        tuning: None,
    });
    let load = |id, model| estimates::load_time(&bench.scheduler.world, id, model);
    assert!(near(load(ONE, MODEL), 0.7) && near(load(TWO, MODEL), 0.7));
    assert!(near(load(ONE, OTHER), 2.3));
    let bytes = |id, model| estimates::bytes_of(&bench.scheduler.world, id, model);
    assert_eq!([bytes(ONE, MODEL), bytes(TWO, MODEL), bytes(TWO, OTHER)], [7, 7, 2_000_000_000]);
}

#[test]
fn starting_or_loading_adapter_is_free_after_the_predicted_rest() {
    let mut bench = Bench::one();
    bench.on(Event::ModelAdded { model: OTHER, profile: profile(2) });
    // A start takes 1000 ms by its class, and a load 300 where nothing is known.
    assert!(near(bench.request().after(ms(200)).free(MODEL), 1100.0));
    assert!(near(bench.opened(ONE).after(ms(100)).free(MODEL), 200.0));
    assert!(near(bench.free(OTHER), 500.0));
    bench.after(ms(200)).loaded(ONE, MODEL, &[]).done(ONE);
    assert!(near(bench.free(OTHER), 300.0) && bench.free(MODEL) == 0.0);
}

#[test]
fn busy_adapter_is_free_after_the_predicted_rest_or_later() {
    let mut bench = Bench::one();
    bench.set_mode(ONE, AdapterMode::On).ready(ONE, 1).request();
    assert!(near(bench.free(MODEL), 10.0));
    assert!(near(bench.after(ms(4)).free(MODEL), 6.0));
    // An overdue batch is expected to take another quarter of its time.
    assert!(near(bench.after(ms(36)).free(MODEL), 10.0));
}

#[test]
fn adapter_without_free_memory_is_free_once_a_model_may_be_evicted() {
    let mut bench = Bench::one();
    bench.listed(&[(ONE, AdapterProfile { memory: Some(15), ..adapter(0, false) })]);
    bench.on(Event::ModelAdded { model: OTHER, profile: profile(2) });
    bench.set_mode(ONE, AdapterMode::On).ready(ONE, 1);
    let offer = |bench: &Bench| {
        let slot = bench.slots(OTHER)[0];
        (slot.idle, slot.displaces, (slot.free * 1e3).round())
    };
    // A second until the other may go, and the guess of a load.
    assert_eq!(offer(&bench), (false, true, 1300.0));
    bench.after(ms(400));
    assert_eq!(offer(&bench), (false, true, 900.0));
    // A model that was not used for so long may be evicted.
    bench.after(ms(600));
    assert_eq!(offer(&bench), (true, false, 300.0));
}

#[test]
fn warm_up_of_this_run_replaces_slower_restored_times() {
    let mut bench = Bench::one();
    let line = ServiceTime { alpha_ns: 900_000_000, beta_ns: 0, spread_permille: 0 };
    let service_times = vec![(12, line)];
    let replicas = vec![(MODEL, LearnedReplica { service_times, ..LearnedReplica::default() })];
    let memory = LearnedProfile { cold_start: None, replicas, ..LearnedProfile::default() };
    bench.on(Event::ProfileRestored { adapter: ONE, profile: memory });
    assert!(near(bench.one_row(ONE, 12), 900.0));
    bench.set_mode(ONE, AdapterMode::On).opened(ONE).loaded(
        ONE,
        MODEL,
        &[(1, ms(10)), (2, ms(10))],
    );
    assert!(bench.one_row(ONE, 12) < 20.0, "{}", bench.one_row(ONE, 12));
}
