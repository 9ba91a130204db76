//! Targets that no adapter can meet, and the wait where requests are late.

use super::idling::{bench, plain};
use super::*;

/// A model of which a row takes 150 ms, with a target of 100 ms, on two equal adapters that are off.
fn slow() -> Bench {
    let mut bench = bench(&[(ONE, plain()), (TWO, plain())]);
    bench.serve(profile(4)).brought(&[ONE]).loads(ONE);
    bench
}

impl Bench {
    fn loads(&mut self, adapter: AdapterId) -> &mut Bench {
        for _ in 0..60 {
            self.request().after(ms(150)).done(adapter);
        }
        self
    }
}

#[test]
fn a_target_that_cannot_be_met_turns_no_second_adapter_on() {
    let mut bench = slow();
    let aim = bench.scheduler.effective_target(MODEL);
    assert!(aim > ms(150) && aim < ms(300), "{aim:?}");
    bench.request();
    assert_eq!([bench.state(ONE), bench.state(TWO)], ["busy", "off"]);
}

#[test]
fn a_target_that_can_be_met_stays_what_it_is() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.serve(profile(4)).brought(&[ONE]);
    assert_eq!(bench.scheduler.effective_target(MODEL), ms(100));
    // A large request aims at its own time, a small one beside it does not.
    assert!(super::super::target::effective_for(&bench.scheduler.world, MODEL, 0, 4000) > ms(1000));
    assert_eq!(super::super::target::effective_for(&bench.scheduler.world, MODEL, 0, 1), ms(100));
}

#[test]
fn adapters_that_the_operator_keeps_off_do_not_count_for_the_aim() {
    let mut bench = bench(&[(ONE, plain()), (TWO, plain())]);
    bench
        .serve(profile(4))
        .set_mode(ONE, AdapterMode::On)
        .set_mode(TWO, AdapterMode::On)
        .after(ms(1000));
    bench.opened(ONE).loaded(ONE, MODEL, &[(1, ms(300))]);
    bench.opened(TWO).loaded(TWO, MODEL, &[(1, ms(10))]);
    assert_eq!(bench.scheduler.effective_target(MODEL), ms(100));
    bench.set_mode(TWO, AdapterMode::Off);
    assert!(bench.scheduler.effective_target(MODEL) > ms(300));
}

#[test]
fn large_request_is_due_after_its_own_time() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.serve(profile(4)).brought(&[ONE]).set_mode(ONE, AdapterMode::Off).exited(ONE);
    bench.set_mode(ONE, AdapterMode::Auto).request_with(|arrival| arrival.rows = 400);
    let first =
        bench.scheduler.world.queue.first(MODEL, Duration::ZERO, bench.now).expect("it waits");
    let due = first.due().since(bench.now);
    assert_eq!(due, super::super::target::effective_for(&bench.scheduler.world, MODEL, 0, 400));
    assert!(due > ms(500), "{due:?}");
}

/// Two adapters that are on, of which every start makes requests late: the first takes less energy
/// to compute, the second less while it is idle. A row takes 10 ms.
fn idle_or_busy(latency_target: u64) -> Bench {
    let of = |idle_mw, active_mw| {
        let power = Power { idle_mw, active_mw, ..plain().power };
        AdapterProfile { power, ..plain() }
    };
    let mut bench = bench(&[(ONE, of(20_000, 30_000)), (TWO, of(1000, 101_000))]);
    bench.serve(ModelProfile { slo: ms(latency_target), ..profile(1) }).brought(&[ONE, TWO]);
    bench.set_mode(ONE, AdapterMode::On).set_mode(TWO, AdapterMode::On);
    bench
}

impl Bench {
    /// The adapter that serves one more request.
    fn server(&mut self) -> AdapterId {
        self.request();
        let server = if self.state(ONE) == "busy" { ONE } else { TWO };
        self.after(ms(10)).done(server);
        server
    }
}

#[test]
fn idle_power_decides_under_light_traffic_and_work_under_heavy_traffic() {
    let mut bench = idle_or_busy(100);
    assert_eq!(bench.server(), TWO);
    bench.scheduler.world.arrivals.observe(bench.now, 100_000);
    assert_eq!(bench.server(), ONE);
    bench.after(ms(900_000));
    assert_eq!(bench.server(), TWO, "the traffic is light again");
    // Where starts are in time no adapter has to wait for light traffic.
    assert_eq!(idle_or_busy(60_000).server(), ONE);
}

#[test]
fn adapter_that_needed_help_is_not_preferred_for_a_while() {
    let mut bench = idle_or_busy(100);
    energy_rank::record_help(&mut bench.scheduler.world, bench.now, &[TWO]);
    assert_eq!(bench.server(), ONE);
    bench.after(ms(590_000));
    assert_eq!(bench.server(), ONE);
    bench.after(ms(11_000));
    assert_eq!(bench.server(), TWO);
    // It needs help soon afterwards: this counts for twice as long.
    energy_rank::record_help(&mut bench.scheduler.world, bench.now, &[TWO]);
    bench.after(ms(1_190_000));
    assert_eq!(bench.server(), ONE);
    bench.after(ms(11_000));
    assert_eq!(bench.server(), TWO);
}

#[test]
fn adapter_needed_help_when_another_starts_for_its_late_rows() {
    let mut bench = bench(&[(ONE, plain()), (TWO, plain())]);
    bench.serve(profile(1)).brought(&[ONE]).after(ms(1500));
    assert!(!energy_rank::needed_help(&bench.scheduler.world, bench.now, ONE));
    for _ in 0..30 {
        bench.request();
    }
    assert_eq!(bench.state(TWO), "starting");
    assert!(energy_rank::needed_help(&bench.scheduler.world, bench.now, ONE));
}

#[test]
fn adapter_waits_at_least_as_long_as_its_late_start_takes() {
    let power = Power { idle_mw: 100_000, ..plain().power };
    let mut bench = bench(&[(ONE, AdapterProfile { power, ..plain() })]);
    bench.serve(profile(1)).request().after(ms(1000)).opened(ONE);
    bench.after(ms(2000)).loaded(ONE, MODEL, &[(1, ms(10))]).done(ONE).stays(ONE, 3000);
}

#[test]
fn latency_goal_triples_the_penalty_for_late_requests() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.scheduler.world.settings.policy = Policy::Cost {
        goal: Goal::Latency,
        price_mj: 0,
        late_penalty_mj: 10_000,
        starts_per_hour: 30,
    };
    // A start takes 5 J, and makes one request late: (5 + 3 * 10) J / 1 W.
    bench.serve(profile(1)).brought(&[ONE]).stays(ONE, 35_000);
}

#[test]
fn start_that_no_request_waited_for_teaches_nothing_of_late_requests() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.serve(profile(1)).brought(&[ONE]);
    assert_eq!(
        bench.scheduler.world.adapters.get(&ONE).map(|it| it.economy.late_requests()),
        Some(1.0)
    );
}

#[test]
fn price_of_misses_lengthens_the_wait_up_to_a_bound() {
    let stays = |idle_mw, theta, wait| {
        let power = Power { idle_mw, ..plain().power };
        let mut bench = bench(&[(ONE, AdapterProfile { power, ..plain() })]);
        bench.scheduler.world.late_price.theta = theta;
        bench.brought(&[ONE]).stays(ONE, wait);
    };
    // A late request costs `e ** theta - 1` joules, and a start 5 J. After a start without one, 0.8
    // are expected.
    stays(1000, 6.0_f64.ln(), 9000);
    stays(1000, 10.0, 600_000);
    stays(20_000, 10.0, 360_000);
}
