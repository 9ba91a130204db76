//! The CPU as a bridge: when it is on, what it serves, and when other adapters start.

use super::idling::plain;
use super::*;

const CPU: AdapterId = AdapterId(9);

/// A card that starts in 1 s, and a CPU that bridges, under the `balanced` policy. The CPU takes 10
/// W working and 0 W idle; a row takes `row` milliseconds on it, as restored from an earlier run.
fn bench(row: Option<u64>) -> Bench {
    let mut bench = super::idling::bench(&[]);
    bench.serve(profile(8));
    bench.listed(&[(ONE, plain()), (CPU, cpu())]);
    if let Some(row) = row {
        let line =
            ServiceTime { alpha_ns: row * 500_000, beta_ns: row * 500_000, spread_permille: 0 };
        let load = Some(LearnedDuration { time: ms(40), estimated: false });
        let replica =
            LearnedReplica { load, service_times: vec![(0, line)], ..LearnedReplica::default() };
        let memory = LearnedProfile {
            cold_start: Some(ms(60)),
            replicas: vec![(MODEL, replica)],
            ..LearnedProfile::default()
        };
        bench.on(Event::ProfileRestored { adapter: CPU, profile: memory });
    }
    bench
}

fn cpu() -> AdapterProfile {
    let power = Power { idle_mw: 0, active_mw: 10_000, start_mw: 5000 };
    AdapterProfile { role: Role::Bridge, cold_start: ms(60), power, ..adapter(9, false) }
}

/// The CPU is open and has the model.
fn up(row: u64) -> Bench {
    let mut bench = bench(Some(row));
    assert_eq!(bench.state(CPU), "starting");
    bench.opened(CPU).request();
    bench.loaded(CPU, MODEL, &[(1, ms(row))]).after(ms(row)).done(CPU);
    bench
}

#[test]
fn a_bridge_serves_what_it_can_in_time_and_stays_on() {
    let mut bench = up(40);
    for _ in 0..20 {
        bench.after(ms(60_000)).request();
        assert_eq!([bench.state(CPU), bench.state(ONE)], ["busy", "off"]);
        bench.after(ms(40)).done(CPU);
    }
    bench.after(ms(7_200_000));
    assert_eq!(bench.state(CPU), "idle", "waiting takes no energy");
}

#[test]
fn a_card_starts_for_what_the_bridge_does_not_carry_which_serves_meanwhile() {
    let mut bench = up(40);
    bench.after(ms(1000));
    for _ in 0..6 {
        bench.request();
    }
    assert_eq!([bench.state(CPU), bench.state(ONE)], ["busy", "starting"]);
    bench.after(ms(40)).done(CPU);
    assert_eq!(bench.state(CPU), "busy", "it goes on while the card starts");
}

impl Bench {
    /// Sends requests at once after a minute, and waits until all are served and the card is off.
    /// Returns true if the first one started the card.
    fn period(&mut self, requests: u32) -> bool {
        self.after(ms(60_000)).request();
        let at_once = self.state(ONE) == "starting";
        for _ in 1..requests {
            self.request();
        }
        for _ in 0..requests {
            self.after(ms(40));
            if self.state(CPU) == "busy" {
                self.done(CPU);
            }
        }
        if self.state(ONE) == "starting" {
            self.after(ms(1000)).opened(ONE);
            if self.state(ONE) == "loading" {
                self.loaded(ONE, MODEL, &[(1, ms(2))]);
            }
            self.after(ms(1000))
                .set_mode(ONE, AdapterMode::Off)
                .exited(ONE)
                .set_mode(ONE, AdapterMode::Auto);
        }
        at_once
    }
}

#[test]
fn a_card_starts_with_the_first_request_where_the_bridge_fell_short_twice() {
    let mut bench = up(40);
    let starts = [6, 6, 1, 1, 6, 1, 6, 6, 6].map(|requests| bench.period(requests));
    assert_eq!(starts, [false, false, true, false, false, false, false, false, true]);
}

#[test]
fn while_a_card_is_on_nothing_is_learned_of_the_bridge() {
    let mut bench = up(40);
    bench.period(6);
    bench.after(ms(60_000)).set_mode(ONE, AdapterMode::On);
    bench.after(ms(1000)).opened(ONE).loaded(ONE, MODEL, &[(1, ms(2))]);
    for _ in 0..3 {
        bench.after(ms(60_000)).request().request().done(ONE);
        if bench.state(ONE) == "busy" {
            bench.done(ONE);
        }
        assert_eq!([bench.state(CPU), bench.state(ONE)], ["idle", "idle"]);
    }
    bench.set_mode(ONE, AdapterMode::Off).exited(ONE).set_mode(ONE, AdapterMode::Auto);
    assert!(!bench.period(6), "it fell short once so far");
    assert!(bench.period(1), "and now twice");
}

#[test]
fn a_model_that_takes_longer_than_its_target_is_not_bridged() {
    let mut bench = bench(Some(200));
    // It was known of it only after the adapter was.
    bench.opened(CPU).after(ms(3_600_000)).exited(CPU);
    assert_eq!(bench.state(CPU), "off");
    bench.request();
    assert_eq!([bench.state(CPU), bench.state(ONE)], ["off", "starting"]);
}

#[test]
fn a_bridge_measures_what_it_does_not_know_and_drops_what_takes_too_long() {
    let mut bench = bench(None);
    bench.opened(CPU).after(ms(2000));
    assert_eq!(bench.state(CPU), "loading", "it was never measured here");
    bench.loaded(CPU, MODEL, &[(1, ms(300))]);
    assert!(bench.actions.iter().any(|word| word.starts_with("unload")), "{:?}", bench.actions);
    bench.after(ms(3_600_000));
    assert_eq!(bench.state(CPU), "stopping", "it bridges nothing");
}

#[test]
fn a_bridge_stands_in_for_all_models_while_no_card_is_usable() {
    let mut bench = bench(Some(200));
    bench.set_mode(ONE, AdapterMode::Off).request();
    assert_eq!(bench.state(CPU), "starting");
}

#[test]
fn a_bridge_serves_all_models_while_the_only_card_is_quarantined() {
    let mut bench = bench(Some(200));
    bench.opened(CPU).after(ms(3_600_000)).exited(CPU);
    bench.request().after(ms(1000)).opened(ONE).faulted(ONE).exited(ONE);
    assert_eq!([bench.state(CPU), bench.state(ONE)], ["starting", "quarantined"]);
    bench.opened(CPU).check(CPU, "loading", &["load 9 0"]);
}

#[test]
fn a_bridge_counts_neither_for_the_least_nor_for_the_most_that_are_on() {
    let mut bench = up(40);
    (bench.scheduler.world.settings.min, bench.scheduler.world.settings.max) = (1, 1);
    bench.after(ms(1));
    assert_eq!(bench.state(ONE), "starting");
    bench.opened(ONE).after(ms(7_200_000));
    assert_ne!(bench.state(ONE), "off");
}

#[test]
fn bridge_without_another_adapter_is_on_only_for_requests() {
    let mut bench = super::idling::bench(&[(CPU, cpu())]);
    bench.serve(profile(8)).after(ms(1)).check(CPU, "off", &[]);
    bench.request().check(CPU, "starting", &["start 9"]);
}

#[test]
fn bridge_does_not_start_during_shutdown() {
    let mut bench = up(40);
    let deadline = bench.now + ms(60_000);
    bench.on(Event::Shutdown { deadline }).check(CPU, "stopping", &["stop 9"]);
    bench.exited(CPU).check(CPU, "off", &[]);
}

#[test]
fn a_bridge_serves_a_model_that_no_card_can_load() {
    let mut bench = bench(Some(400));
    bench.opened(CPU);
    bench.request();
    assert_eq!(bench.state(ONE), "starting");
    bench.after(ms(1000)).opened(ONE).load_failed_until(ONE, LoadRetry::Never);
    assert_eq!(bench.state(CPU), "loading", "nothing else can serve it");
    bench.loaded(CPU, MODEL, &[(1, ms(400))]);
    assert_eq!(bench.state(CPU), "busy");
    bench.after(ms(400)).done(CPU).check(CPU, "idle", &["collect 9", "answer 1"]);
    bench.after(ms(7_200_000)).request();
    assert_eq!([bench.state(CPU), bench.state(ONE)], ["busy", "stopping"]);
}

#[test]
fn a_bridge_that_does_not_serve_a_model_is_no_place_for_it() {
    let mut bench = bench(Some(400));
    bench.on(Event::MemoryBudget { adapter: ONE, bytes: Some(5) }).opened(CPU).request();
    assert_eq!(bench.state(ONE), "starting", "it is tried where there is too little memory");
}
