//! Learned waits of the `cost` policy, the price of misses, and replacement by a cheaper adapter.

use super::idling::{bench, plain};
use super::*;

fn policy(goal: Goal) -> Policy {
    Policy::Cost { goal, price_mj: 0, late_penalty_mj: 0, starts_per_hour: 30 }
}

/// Of this speed by its class, with this power idle and busy.
fn of(speed: u64, idle_mw: u64, active_mw: u64) -> AdapterProfile {
    let power = Power { idle_mw, active_mw, ..plain().power };
    AdapterProfile { power, speed, ..plain() }
}

/// A request every so often that the first adapter answers at once, until another is started.
fn served(bench: &mut Bench, times: usize, pause: u64) -> Option<String> {
    let mut started = None;
    for _ in 0..times {
        for step in 0..3 {
            let bench = match step {
                0 => bench.request(),
                1 => bench.after(ms(10)),
                _ => bench.done(ONE),
            };
            let start = bench.actions.iter().find(|word| word.starts_with("start"));
            started = started.or_else(|| start.cloned());
        }
        if started.is_some() {
            break;
        }
        bench.after(ms(pause - 10));
    }
    started
}

#[test]
fn adapter_with_long_idle_periods_turns_off_early() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.brought(&[ONE]).request().done(ONE);
    for _ in 0..8 {
        bench.after(ms(5000)).check(ONE, "stopping", &["stop 1"]);
        bench.exited(ONE).after(ms(60_000)).request().after(ms(1000)).opened(ONE);
        bench.loaded(ONE, MODEL, &[]).done(ONE);
    }
    bench.stays(ONE, 1000);
}

#[test]
fn each_idle_period_ends_once() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.brought(&[ONE]);
    // Spells of 3 s, so that any wait from there on is as good; a busy second between them.
    for _ in 0..20 {
        bench.request().after(ms(1000)).done(ONE).after(ms(3000));
    }
    let adapter = bench.scheduler.world.adapters.get_mut(&ONE).expect("it is known");
    assert_eq!(adapter.economy.no_work_since, Some(Time(bench.now.0 - ms(3000))));
    adapter.economy.end_idle_period(bench.now);
    assert_eq!(adapter.economy.no_work_since, None, "it has work now");
}

#[test]
fn latency_goal_keeps_adapters_on_three_times_longer() {
    let mut bench = bench(&[(ONE, plain())]);
    bench.scheduler.world.settings.policy = policy(Goal::Latency);
    bench.brought(&[ONE]).stays(ONE, 15_000);
}

#[test]
fn cheaper_adapter_takes_over_when_savings_pay_its_start() {
    let three = AdapterId(3);
    // The first idles at 50 W; in a second that costs 49 J more than the second one would take.
    let all = [(ONE, of(100, 50_000, 100_000)), (TWO, plain()), (three, of(100, 60_000, 200_000))];
    let mut bench = bench(&all);
    bench.brought(&[ONE]);
    assert_eq!(served(&mut bench, 20, 50), None, "a second is not over yet");
    assert_eq!(served(&mut bench, 2, 50).as_deref(), Some("start 2"));
    // Once it is on it gets rows first, and the expensive one may turn off.
    bench.after(ms(1000)).opened(TWO).loaded(TWO, MODEL, &[(1, ms(10))]);
    bench.request().check(TWO, "busy", &["run 2"]);
}

#[test]
fn adapter_that_cannot_serve_the_load_does_not_take_over() {
    let dear = of(100, 50_000, 100_000);
    // A second a row is too slow for two rows a second.
    let mut slow = bench(&[(ONE, dear), (TWO, of(1, 100, 101))]);
    slow.serve(ModelProfile { slo: ms(3000), ..profile(1) }).brought(&[ONE]);
    assert_eq!(served(&mut slow, 200, 500), None);
    // A row takes as much energy on it: it would not be given any.
    let mut dearer = bench(&[(ONE, dear), (TWO, of(100, 1000, 60_000))]);
    dearer.brought(&[ONE]);
    assert_eq!(served(&mut dearer, 100, 50), None);
    // Rare requests are not a basis for a forecast.
    let mut rare = bench(&[(ONE, of(100, 1000, 100_000)), (TWO, of(100, 900, 9000))]);
    rare.brought(&[ONE]);
    rare.set_mode(ONE, AdapterMode::On);
    assert_eq!(served(&mut rare, 20, 10_001), None);
    // Where answer times come first the fast one stays.
    let mut fast = bench(&[(ONE, dear), (TWO, plain())]);
    fast.scheduler.world.settings.policy = policy(Goal::Latency);
    fast.brought(&[ONE]);
    assert_eq!(served(&mut fast, 50, 50), None);
}

#[test]
fn energy_goal_delays_a_start_until_the_last_moment() {
    let mut bench = bench(&[(ONE, plain()), (TWO, of(1000, 1000, 50_000))]);
    bench.scheduler.world.settings.policy = policy(Goal::Energy);
    bench.serve(ModelProfile { slo: ms(10_000), ..profile(8) });
    bench.request().check(ONE, "off", &[]);
    let next = bench.scheduler.next_timeout().expect("it will be started").since(bench.now);
    // A start of 1 s and a load of 0.3 s may take 1.3 times as long.
    assert!(next > ms(7500) && next < ms(8300), "{next:?}");
    bench.after(next);
    assert_eq!(bench.actions.iter().filter(|word| word.starts_with("start")).count(), 1);
    // Misses make it hurry.
    let mut late = self::bench(&[(ONE, plain())]);
    late.scheduler.world.settings.policy = policy(Goal::Energy);
    late.scheduler.world.late_price.theta = 2.0;
    late.serve(ModelProfile { slo: ms(10_000), ..profile(8) });
    late.request().check(ONE, "starting", &["start 1"]);
}

#[test]
fn misses_keep_slack_in_reserve_for_a_start() {
    let wait = |theta: f64, other: &[(AdapterId, AdapterProfile)]| {
        let mut bench = bench(&[&[(ONE, plain())], other].concat());
        bench.scheduler.world.settings.policy = policy(Goal::Energy);
        bench.serve(ModelProfile { slo: ms(4000), ..profile(64) });
        bench.brought(&[ONE]);
        bench.scheduler.world.late_price.theta = theta;
        bench.request().check(ONE, "idle", &[]);
        bench.scheduler.next_timeout().expect("the last moment comes").since(bench.now)
    };
    let other = [(TWO, plain())];
    let (calm, half, full) = (wait(0.0, &other), wait(3.0, &other), wait(6.0, &other));
    assert!(calm - half > ms(490) && calm - full > ms(990), "{calm:?} {half:?} {full:?}");
    assert_eq!(wait(9.0, &other), full, "a whole start is enough");
    assert_eq!(wait(9.0, &[]), calm, "no other adapter can start");
}

#[test]
fn latency_goal_starts_the_fastest_adapter() {
    let mut bench = bench(&[(ONE, of(100, 100, 1000)), (TWO, of(1000, 50_000, 300_000))]);
    bench.request().check(ONE, "starting", &["start 1"]);
    let mut fast = self::bench(&[(ONE, of(100, 100, 1000)), (TWO, of(1000, 50_000, 300_000))]);
    fast.scheduler.world.settings.policy = policy(Goal::Latency);
    fast.request().check(TWO, "starting", &["start 2"]);
}

#[test]
fn late_requests_count_by_share_of_capacity() {
    let mut bench = bench(&[(ONE, plain()), (TWO, plain())]);
    bench.serve(profile(1)).brought(&[ONE]).set_mode(TWO, AdapterMode::On);
    bench.request().after(ms(200)).done(ONE);
    let missed = |bench: &Bench, id| {
        bench.scheduler.world.adapters.get(&id).map(|it| it.economy.late_this_start)
    };
    assert_eq!(missed(&bench, ONE), Some(0.0), "it was there");
    let second = missed(&bench, TWO).expect("it is known");
    assert!((second - 0.5).abs() < 0.1, "both are as fast: {second}");
}
