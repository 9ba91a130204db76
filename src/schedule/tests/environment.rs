//! Faults of the server's environment, memory that runs out, and loads that tune kernels.

use super::*;

impl Bench {
    fn not_started(&mut self, adapter: AdapterId) -> &mut Bench {
        let incarnation = self.incarnation(adapter);
        self.on(Event::NotStarted { adapter, incarnation })
    }

    fn start_tried(&mut self, works: bool) -> &mut Bench {
        self.on(Event::StartTried { works })
    }

    fn out_of_memory(&mut self, adapter: AdapterId, model: Option<ModelId>) -> &mut Bench {
        let incarnation = self.incarnation(adapter);
        self.on(Event::OutOfMemory { adapter, incarnation, model })
    }

    fn loaded_after(&mut self, took: Duration, tuning: Option<Duration>) -> Duration {
        self.now = self.now + took;
        let (incarnation, measured) = (self.incarnation(ONE), vec![(1, ms(10))]);
        let model = MODEL;
        self.on(Event::Loaded { adapter: ONE, incarnation, model, bytes: 1, measured, tuning });
        Duration::from_secs_f64(estimates::load_time(&self.scheduler.world, ONE, MODEL))
    }

    fn load_again(&mut self) -> &mut Bench {
        self.set_mode(ONE, AdapterMode::Off).exited(ONE).set_mode(ONE, AdapterMode::On).opened(ONE)
    }
}

#[test]
fn failed_process_starts_are_no_fault_and_wait_for_one_that_works() {
    let mut bench = Bench::one();
    bench.request().check(ONE, "starting", &["start 1"]);
    bench.not_started(ONE).check(ONE, "off", &[]);
    assert_eq!(bench.view(ONE).last_fault, None);
    // No second attempt by itself, however long it takes, and the request waits.
    bench.after(ms(60_000)).check(ONE, "off", &[]);
    bench.start_tried(true).check(ONE, "starting", &["start 1"]);
    bench.ready(ONE, 1).done(ONE);
    assert_eq!(bench.scheduler.world.adapters[&ONE].consecutive_faults, 0);
}

#[test]
fn requests_are_rejected_after_a_second_failed_start_until_one_works() {
    let mut bench = Bench::one();
    bench.request().not_started(ONE);
    assert!(bench.scheduler.is_ready(bench.now));
    bench.start_tried(false).check(ONE, "off", &["reject"]);
    assert!(!bench.scheduler.is_ready(bench.now));
    bench.request().check(ONE, "off", &["reject"]);
    bench.start_tried(true);
    assert!(bench.scheduler.is_ready(bench.now));
    bench.request().check(ONE, "starting", &["start 1"]);
}

#[test]
fn adapters_that_are_on_serve_while_no_process_can_be_started() {
    let mut bench = Bench::two();
    bench.set_mode(ONE, AdapterMode::On).ready(ONE, 1);
    bench.set_mode(TWO, AdapterMode::On).not_started(TWO).start_tried(false);
    assert!(bench.scheduler.is_ready(bench.now));
    bench.request().check(ONE, "busy", &["run 1"]);
    bench.done(ONE);
}

#[test]
fn memory_that_runs_out_in_a_load_is_of_the_model_not_of_the_adapter() {
    let mut bench = Bench::one();
    bench.scheduler.world.settings.quarantine_wait_max = ms(1000);
    bench.request().opened(ONE).check(ONE, "loading", &["load 1 0"]);
    bench.out_of_memory(ONE, Some(MODEL)).check(ONE, "off", &["reject"]);
    let adapter = &bench.scheduler.world.adapters[&ONE];
    assert_eq!((adapter.consecutive_faults, adapter.last_fault), (0, Some(Fault::Memory)));
    assert!(!bench.scheduler.is_model_ready(bench.now, MODEL));
    assert!(bench.scheduler.is_ready(bench.now), "other models are served");
}

#[test]
fn memory_that_runs_out_in_a_batch_halves_it_until_one_row_is_too_much() {
    let mut bench = Bench::pair(8, (10, 11), (10, 11));
    bench.set_mode(TWO, AdapterMode::Off).exited(TWO);
    bench.request_with(|arrival| arrival.rows = 8).check(ONE, "busy", &["run 1"]);
    bench.out_of_memory(ONE, None).check(ONE, "starting", &["start 1"]);
    let rows = estimates::rows_limit(&bench.scheduler.world, ONE, MODEL);
    assert_eq!((rows, bench.scheduler.world.adapters[&ONE].consecutive_faults), (4, 0));
    assert!(bench.actions.iter().all(|actions| !actions.starts_with("reject")));
}

#[test]
fn the_first_load_without_tuning_replaces_what_a_load_with_tuning_led_to() {
    let mut bench = Bench::one();
    bench.request().opened(ONE);
    // 100 s, of which 98 s were spent on tuning: the next load is expected to take 2.5 s at least.
    assert_eq!(bench.loaded_after(ms(100_000), Some(ms(98_000))), ms(2500));
    bench.done(ONE);
    bench.load_again();
    assert_eq!(bench.loaded_after(ms(3000), None), ms(3000));
    // Later ones move it; one that tunes again does not.
    bench.load_again();
    assert_eq!(bench.loaded_after(ms(2000), None), ms(2800));
    bench.load_again();
    assert_eq!(bench.loaded_after(ms(90_000), Some(ms(1000))), ms(2800));
    let memory = bench.scheduler.learned_profile(bench.now, ONE).unwrap().replicas.remove(0).1;
    assert_eq!(memory.load, Some(LearnedDuration { time: ms(2800), estimated: false }));
    assert!(memory.first_load > Some(ms(90_000)), "{memory:?}");
}
