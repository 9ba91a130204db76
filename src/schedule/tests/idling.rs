//! The `cost` policy: need, and the time that adapters stay on without it.

use super::*;

/// A bench under the `cost` policy without a price. Starts take 1 s at 5 W, idling costs 1 W:
/// break-even is 5 s. No request is late, and timeouts are long.
pub(super) fn bench(adapters: &[(AdapterId, AdapterProfile)]) -> Bench {
    let mut bench = Bench::new(&[]);
    let mut settings = bench.scheduler.world.settings.clone();
    settings.policy =
        Policy::Cost { goal: Goal::Balanced, price_mj: 0, late_penalty_mj: 0, starts_per_hour: 30 };
    let timeouts = &mut settings.timeouts;
    (timeouts.heartbeat, timeouts.start, timeouts.run) = (HOURS, HOURS, HOURS);
    let model = ModelProfile { slo: ms(60_000), ..profile(1) };
    bench.scheduler = Scheduler::new(settings, [(MODEL, model)].into());
    bench.listed(adapters);
    bench
}

const HOURS: Duration = Duration::from_secs(10_000);

pub(super) fn plain() -> AdapterProfile {
    adapter(0, false)
}

/// An adapter with this idle power in milliwatts.
fn idling(idle_mw: u64) -> AdapterProfile {
    AdapterProfile { power: Power { idle_mw, ..plain().power }, ..plain() }
}

impl Bench {
    /// Turned on by hand, opened after 1 s, loaded at once, and left to the policy.
    pub(super) fn brought(&mut self, adapters: &[AdapterId]) -> &mut Bench {
        for id in adapters {
            self.set_mode(*id, AdapterMode::On);
        }
        self.after(ms(1000));
        for id in adapters {
            self.opened(*id).loaded(*id, MODEL, &[(1, ms(10))]);
        }
        for id in adapters {
            self.set_mode(*id, AdapterMode::Auto);
        }
        self
    }

    /// Stays idle for so long, and then stops.
    pub(super) fn stays(&mut self, adapter: AdapterId, wait: u64) {
        self.after(ms(wait - 1));
        assert_eq!(self.state(adapter), "idle");
        self.after(ms(1));
        assert_eq!(self.state(adapter), "stopping");
    }
}

#[test]
fn a_start_has_its_price_beside_its_energy() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.scheduler.world.settings.policy = Policy::Cost {
        goal: Goal::Balanced,
        price_mj: 3000,
        late_penalty_mj: 0,
        starts_per_hour: 30,
    };
    bench.brought(&[ONE]).stays(ONE, 8000);
}

#[test]
fn load_of_the_model_is_part_of_the_cost_of_a_start() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.request().after(ms(1000)).opened(ONE).after(ms(2000)).loaded(ONE, MODEL, &[]);
    bench.done(ONE).stays(ONE, 15_000);
}

#[test]
fn wait_has_a_minimum_and_a_maximum() {
    bench(&[(ONE, idling(100_000))]).brought(&[ONE]).stays(ONE, 1000);
    bench(&[(ONE, idling(0))]).brought(&[ONE]).stays(ONE, 3_600_000);
    // Nor do late requests extend it beyond an hour or 3000 J.
    let mut late = bench(&[(ONE, idling(2))]);
    late.serve(profile(1));
    for _ in 0..4 {
        late.request();
    }
    late.after(ms(1000)).opened(ONE).loaded(ONE, MODEL, &[(1, ms(10))]);
    late.done(ONE).done(ONE).done(ONE).done(ONE).stays(ONE, 2_500_000);
    for (idle_mw, wait) in [(100, 3_600_000), (20_000, 150_250)] {
        let mut patient = bench(&[(ONE, idling(idle_mw))]);
        if let Policy::Cost { late_penalty_mj, .. } = &mut patient.scheduler.world.settings.policy {
            *late_penalty_mj = 750_000;
        }
        patient.serve(profile(1));
        for _ in 0..30 {
            patient.request();
        }
        patient.after(ms(1000)).opened(ONE).loaded(ONE, MODEL, &[(1, ms(10))]);
        for _ in 0..30 {
            patient.done(ONE);
        }
        patient.stays(ONE, wait);
    }
}

#[test]
fn answers_in_time_lower_the_late_price_and_it_is_bounded() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.serve(profile(1));
    // All of these wait for the start, and longer than their target.
    for _ in 0..30 {
        bench.request();
    }
    bench.after(ms(1000)).opened(ONE).loaded(ONE, MODEL, &[(1, ms(10))]);
    for _ in 0..30 {
        bench.done(ONE);
    }
    let theta = |bench: &Bench| bench.scheduler.world.late_price.theta;
    assert!((theta(&bench) - 11.9).abs() < 0.1, "{}", theta(&bench));
    for _ in 0..1000 {
        bench.request().done(ONE);
    }
    assert!(theta(&bench) < 10.4, "{}", theta(&bench));
    // Requests that are late without a start do not raise it.
    for _ in 0..30 {
        bench.request().after(ms(200)).done(ONE);
    }
    assert!(theta(&bench) < 10.4, "{}", theta(&bench));
}

#[test]
fn the_minimum_stays() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.scheduler.world.settings.min = 1;
    bench.after(ms(1)).check(ONE, "starting", &["start 1"]);
    bench.brought(&[ONE]).after(ms(100_000)).check(ONE, "idle", &[]);
}

#[test]
fn adapter_in_mode_on_stays_on() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.brought(&[ONE]).set_mode(ONE, AdapterMode::On).after(ms(100_000)).check(ONE, "idle", &[]);
}

#[test]
fn each_adapter_turns_off_when_its_own_idling_has_cost_a_start() {
    let three = AdapterId(3);
    let mut bench = bench(&[(ONE, plain()), (TWO, plain()), (three, plain())]);
    bench.brought(&[ONE, TWO, three]).after(ms(4999));
    assert_eq!([ONE, TWO, three].map(|id| bench.state(id)), ["idle"; 3]);
    bench.after(ms(1));
    assert_eq!([ONE, TWO, three].map(|id| bench.state(id)), ["stopping"; 3]);
}

#[test]
fn the_last_one_stays_while_it_runs_and_then_as_long_as_any() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.brought(&[ONE]).request().after(ms(6000)).check(ONE, "busy", &[]);
    bench.done(ONE).stays(ONE, 5000);
}

#[test]
fn last_serving_adapter_stays_on_while_another_starts() {
    let mut bench = bench(&[(ONE, plain()), (TWO, plain())]);
    bench.brought(&[ONE]).request().set_mode(TWO, AdapterMode::On);
    bench.after(ms(6000)).check(ONE, "busy", &[]);
}

#[test]
fn adapter_that_has_just_started_stays_on_for_its_break_even() {
    let small = AdapterProfile { memory: Some(5), ..plain() };
    let mut bench = bench(&[(ONE, plain()), (TWO, small)]);
    bench
        .brought(&[ONE])
        .set_mode(ONE, AdapterMode::On)
        .set_mode(TWO, AdapterMode::On)
        .after(ms(1000));
    bench.opened(TWO).set_mode(TWO, AdapterMode::Auto).stays(TWO, 5000);
}

#[test]
fn adapter_that_has_just_loaded_stays_on_for_its_break_even() {
    let power = Power { start_mw: 500, ..plain().power };
    let mut bench = bench(&[(ONE, plain()), (TWO, AdapterProfile { power, ..plain() })]);
    bench
        .set_mode(ONE, AdapterMode::On)
        .set_mode(TWO, AdapterMode::On)
        .after(ms(1000))
        .opened(ONE)
        .opened(TWO);
    bench.loaded(ONE, MODEL, &[]).after(ms(9000)).loaded(TWO, MODEL, &[]);
    // Coming back would take 10 s at half the power of idling.
    bench.set_mode(TWO, AdapterMode::Auto).stays(TWO, 5000);
}

#[test]
fn resumed_adapter_is_needed() {
    let mut bench = bench(&[(ONE, plain()), (TWO, plain())]);
    // One adapter would be late for the second.
    bench.serve(ModelProfile { slo: ms(15), ..profile(1) });
    bench.brought(&[ONE, TWO]).set_mode(ONE, AdapterMode::On);
    bench.request().request().done(ONE).check(TWO, "busy", &["collect 1", "answer 1"]);
    bench.set_mode(TWO, AdapterMode::Off).set_mode(TWO, AdapterMode::Auto).after(ms(6000));
    assert_eq!((bench.state(ONE), bench.state(TWO)), ("idle", "draining"));
    bench.request().request_with(|arrival| arrival.rows = 60).check(TWO, "busy", &[]);
}

#[test]
fn adapter_without_a_start_left_this_hour_stays_on() {
    let mut bench = bench(&[(ONE, plain()), (TWO, plain())]);
    bench.scheduler.world.settings.policy =
        Policy::Cost { goal: Goal::Balanced, price_mj: 0, late_penalty_mj: 0, starts_per_hour: 1 };
    bench.brought(&[ONE]).stays(ONE, 3_599_000);
}

#[test]
fn energy_goal_delays_batches_until_the_last_moment() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.scheduler.world.settings.policy =
        Policy::Cost { goal: Goal::Energy, price_mj: 0, late_penalty_mj: 0, starts_per_hour: 30 };
    bench.serve(ModelProfile { slo: ms(1000), ..profile(64) }).brought(&[ONE]);
    bench.request().after(ms(900)).request().check(ONE, "idle", &[]);
    let next = bench.scheduler.next_timeout().expect("the last moment comes").since(bench.now);
    assert!(next > ms(40) && next < ms(80), "{next:?}");
    bench.after(ms(80)).check(ONE, "busy", &["run 1"]);
    // A batch so large that more rows would hardly save anything does not wait.
    bench.done(ONE).request_with(|arrival| arrival.rows = 64);
    assert_eq!(bench.state(ONE), "busy");
}

#[test]
fn energy_goal_routes_to_the_adapter_with_the_least_energy() {
    let power = |active_mw| Power { active_mw, ..plain().power };
    let hungry = AdapterProfile { power: power(100_000), ..plain() };
    let mut bench = bench(&[(ONE, hungry), (TWO, plain())]);
    // The traffic is so heavy that the energy of the work decides.
    bench.brought(&[ONE, TWO]);
    bench.scheduler.world.arrivals.observe(bench.now, 100);
    bench.request().check(TWO, "busy", &["run 2"]);
    // It will be done with the next one in time, too.
    bench.request().check(ONE, "idle", &[]);
}

#[test]
fn last_adapter_stays_on_while_rows_wait_for_a_batch() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.scheduler.world.settings.policy =
        Policy::Cost { goal: Goal::Energy, price_mj: 0, late_penalty_mj: 0, starts_per_hour: 30 };
    bench.serve(ModelProfile { slo: ms(60_000), ..profile(64) }).brought(&[ONE]);
    bench.request().after(ms(50_000)).check(ONE, "idle", &[]);
}

#[test]
fn adapter_turns_off_at_its_own_time_although_others_stay_longer() {
    let mut bench = bench(&[(ONE, plain()), (TWO, idling(500))]);
    bench.brought(&[ONE, TWO]).stays(ONE, 5000);
    bench.exited(ONE).check(TWO, "idle", &[]);
}
