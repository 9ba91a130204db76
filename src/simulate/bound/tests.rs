use super::*;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn between(&mut self, low: f64, high: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        low + (high - low) * (bits >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn machine(&mut self) -> Machine {
        let beta = self.between(0.01, 0.3);
        let idle_w = self.between(1.0, 40.0);
        Machine {
            name: "any".into(),
            alpha: self.between(0.0, 4.0 * beta),
            beta,
            max_rows: self.between(1.0, 12.0) as u32,
            start: self.between(0.0, 1.0).powi(2) * 4.0,
            idle_w,
            active_w: idle_w + self.between(-5.0, 200.0),
            start_w: self.between(0.5, 4.0) * idle_w,
        }
    }

    fn machines(&mut self) -> Vec<Machine> {
        (0..self.between(1.0, 3.0) as usize).map(|_| self.machine()).collect()
    }

    /// Returns bursts of a few requests.
    fn arrivals(&mut self, most: f64) -> Vec<f64> {
        let (count, mut now) = (self.between(1.0, most + 1.0) as usize, 0.0);
        let spread = self.between(0.0, 3.0);
        let step = |_| {
            let gap = self.between(0.0, 1.0);
            now += if gap < 0.3 { 0.0 } else { spread * gap.powi(4) * 4.0 };
            now
        };
        (0..count).map(step).collect()
    }
}

const BOTH: [Objective; 2] = [Objective::Energy, Objective::DeviceSeconds];

fn card() -> Machine {
    Machine {
        name: "card".into(),
        alpha: 0.1,
        beta: 0.1,
        max_rows: 8,
        start: 1.0,
        idle_w: 10.0,
        active_w: 110.0,
        start_w: 50.0,
    }
}

fn cost(machines: &[Machine], arrivals: &[f64], slo: f64, objective: Objective) -> f64 {
    lower_bound(machines, arrivals, slo, objective).cost
}

/// Returns the bound and the optimum, after checking that the bound is not above it.
fn bracket(machines: &[Machine], arrivals: &[f64], slo: f64, objective: Objective) -> (f64, f64) {
    let best = exhaustive(machines, arrivals, slo, objective);
    let bound = cost(machines, arrivals, slo, objective);
    assert!(
        bound <= best * (1.0 + 1e-9),
        "{bound} > {best} {objective:?} {machines:?} {arrivals:?} {slo}"
    );
    (bound, best)
}

#[test]
fn no_schedule_beats_the_bound() {
    let mut dice = Dice(1);
    let (mut shares, mut hopeless) = (Vec::new(), 0);
    for round in 0..300 {
        let (machines, arrivals) = (dice.machines(), dice.arrivals(6.0));
        let slo = dice.between(0.2, 3.0);
        for objective in BOTH {
            let (bound, best) = bracket(&machines, &arrivals, slo, objective);
            match best.is_finite() {
                true if best > 0.0 => shares.push(bound / best),
                _ => hopeless += 1,
            }
        }
        assert!(hopeless <= round + 20, "most instances can be served");
    }
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    assert!(mean > 0.93, "the bound is {mean} of the optimum on average");
}

#[test]
fn more_slack_never_raises_the_bound() {
    let mut dice = Dice(2);
    for _ in 0..60 {
        let (machines, arrivals) = (dice.machines(), dice.arrivals(8.0));
        let (slo, more) = (dice.between(0.3, 2.0), dice.between(0.0, 2.0));
        for objective in BOTH {
            let (tight, loose) = (
                cost(&machines, &arrivals, slo, objective),
                cost(&machines, &arrivals, slo + more, objective),
            );
            assert!(loose <= tight * (1.0 + 1e-9), "{loose} > {tight} {machines:?} {arrivals:?}");
        }
    }
}

#[test]
fn the_order_of_machines_and_requests_does_not_matter() {
    let mut dice = Dice(3);
    for _ in 0..50 {
        let (mut machines, mut arrivals) = (dice.machines(), dice.arrivals(8.0));
        let slo = dice.between(0.3, 2.0);
        let before = cost(&machines, &arrivals, slo, Objective::Energy);
        machines.reverse();
        arrivals.reverse();
        let after = cost(&machines, &arrivals, slo, Objective::Energy);
        let same = before == after || (before - after).abs() <= 1e-9 * before;
        assert!(same, "{before} {after}");
    }
}

#[test]
fn another_machine_never_raises_the_optimum_and_another_request_never_lowers_it() {
    let mut dice = Dice(4);
    for _ in 0..50 {
        let (mut machines, mut arrivals) = (dice.machines(), dice.arrivals(5.0));
        let slo = dice.between(0.3, 2.0);
        let before = exhaustive(&machines, &arrivals, slo, Objective::Energy);
        machines.push(dice.machine());
        let with_more = exhaustive(&machines, &arrivals, slo, Objective::Energy);
        assert!(with_more <= before);
        arrivals.push(dice.between(0.0, 5.0));
        assert!(exhaustive(&machines, &arrivals, slo, Objective::Energy) >= with_more - 1e-9);
    }
}

#[test]
fn one_request_takes_one_start_and_one_batch() {
    let (energy, best) = bracket(&[card()], &[0.7], 2.0, Objective::Energy);
    assert!((best - (50.0 + 0.2 * 110.0)).abs() < 1e-9);
    assert!(energy > 0.97 * best, "{energy} of {best}");
    let (seconds, best) = bracket(&[card()], &[0.7], 2.0, Objective::DeviceSeconds);
    assert!((best - 1.2).abs() < 1e-9);
    assert!(seconds > 0.95 * best, "{seconds} of {best}");
}

#[test]
fn bursts_far_apart_take_two_starts_and_close_ones_idling() {
    // Break-even after 50 J / 10 W = 5 s.
    let burst = |gap: f64| [0.0, 0.0, 0.0, 0.0, gap, gap, gap, gap];
    let work = 2.0 * 0.5 * 110.0;
    for (gap, spent) in [(20.0, 2.0 * 50.0), (4.5, 50.0 + 10.0 * (4.5 - 0.5 - 1.5))] {
        let (bound, best) = bracket(&[card()], &burst(gap), 2.0, Objective::Energy);
        // With slack of 1.5 s the first burst waits for the second.
        assert!((best - (spent + work)).abs() < 1e-9, "{gap}: {best}");
        assert!(bound > 0.95 * best, "{gap}: {bound} of {best}");
    }
}

#[test]
fn slack_gathers_rows_into_batches() {
    let arrivals = [0.0, 0.4, 0.8, 1.2];
    let relaxed = bracket(&[card()], &arrivals, 2.0, Objective::Energy);
    let hurried = bracket(&[card()], &arrivals, 0.25, Objective::Energy);
    assert!((relaxed.1 - (50.0 + 0.5 * 110.0)).abs() < 1e-9, "one batch of four");
    assert!((hurried.1 - (50.0 + 0.8 * 110.0 + 0.6 * 10.0)).abs() < 0.6, "{}", hurried.1);
    assert!(
        hurried.0 > 0.93 * hurried.1,
        "the bound includes that they cannot share a batch: {hurried:?}"
    );
}

#[test]
fn the_cheaper_of_two_machines_serves() {
    let frugal = Machine { start_w: 5.0, active_w: 20.0, idle_w: 2.0, ..card() };
    let alone = bracket(std::slice::from_ref(&frugal), &[0.0, 0.1], 2.0, Objective::Energy);
    let both = bracket(&[card(), frugal], &[0.0, 0.1], 2.0, Objective::Energy);
    assert!((alone.0 - both.0).abs() < 1e-9 && (alone.1 - both.1).abs() < 1e-9);
    let plan = lower_bound(&[card()], &[0.0, 9.0], 2.0, Objective::Energy).plan;
    assert!(plan.masks.iter().all(|mask| *mask <= 1));
}

#[test]
fn the_plan_covers_the_trace_and_turns_off_in_long_gaps() {
    let arrivals = [3.0, 3.1, 60.0, 60.1];
    let plan = lower_bound(&[card()], &arrivals, 1.5, Objective::Energy).plan;
    let on = |from: f64, to: f64| {
        let slots = (from / plan.slot) as usize..(to / plan.slot) as usize;
        plan.masks[slots].contains(&1)
    };
    assert!(plan.masks.len() as f64 * plan.slot >= 61.5);
    assert!(on(3.0, 4.6) && on(60.0, 61.5));
    assert!(!on(0.0, 2.9) && !on(5.0, 59.9));
}

/// Simulates a machine that serves all waiting requests as soon as it is free and is off in every
/// pause in which that saves energy: returns joules, and seconds of each request.
fn eager(machine: &Machine, arrivals: &[f64]) -> (f64, Vec<f64>) {
    let (mut free, mut latencies, mut joules) = (f64::NEG_INFINITY, Vec::new(), 0.0);
    while let Some(oldest) = arrivals.get(latencies.len()) {
        let begin = oldest.max(free);
        let waiting = &arrivals[latencies.len()..];
        let came = waiting.iter().take_while(|arrival| **arrival <= begin).count();
        let rows = came.min(machine.max_rows as usize);
        let idle = (begin - free) * machine.idle_w;
        let off = begin - free >= machine.start && machine.start_joules() < idle;
        joules += if off { machine.start_joules() } else { idle };
        free = begin + machine.batch(rows as u32);
        joules += (free - begin) * machine.active_w;
        latencies.extend(waiting.iter().take(rows).map(|arrival| free - arrival));
    }
    (joules, latencies)
}

#[test]
fn a_schedule_with_one_late_request_in_a_hundred_does_not_beat_the_bound() {
    let mut dice = Dice(5);
    for _ in 0..12 {
        let machine = dice.machine();
        let mut arrivals = Vec::new();
        for burst in 0..25 {
            let start = f64::from(burst) * 4.0;
            arrivals.extend(dice.arrivals(24.0).iter().map(|arrival| start + 0.3 * arrival));
        }
        arrivals.sort_by(f64::total_cmp);
        let (joules, mut latencies) = eager(&machine, &arrivals);
        latencies.sort_by(f64::total_cmp);
        // The tightest target that leaves one request in a hundred late, unless it is long.
        let slo = latencies[latencies.len() - 1 - latencies.len() / 100].min(3.0);
        if latencies.iter().filter(|latency| **latency > slo).count() <= latencies.len() / 100 {
            let bound = cost(&[machine], &arrivals, slo, Objective::Energy);
            assert!(bound <= joules, "{bound} > {joules}");
        }
    }
}

#[test]
fn one_late_request_in_a_hundred_is_free() {
    // An isolated request far from all others need not be in time.
    let mut arrivals: Vec<f64> = (0..120).map(|request| f64::from(request) * 0.01).collect();
    let fast = Machine { beta: 0.005, alpha: 0.01, max_rows: 32, ..card() };
    let without = cost(std::slice::from_ref(&fast), &arrivals, 2.0, Objective::DeviceSeconds);
    arrivals.push(100.0);
    let with = cost(std::slice::from_ref(&fast), &arrivals, 2.0, Objective::DeviceSeconds);
    assert!(with < without + 0.05, "{with} {without}");
    arrivals.push(200.0);
    assert!(cost(&[fast], &arrivals, 2.0, Objective::DeviceSeconds) > without + 0.4);
}

#[test]
fn invalid_inputs_yield_a_bound() {
    for objective in BOTH {
        assert_eq!(cost(&[card()], &[], 2.0, objective), 0.0);
        assert_eq!(cost(&[card()], &[1.0], 0.0, objective), 0.0);
        assert_eq!(cost(&[card()], &[f64::NAN, f64::INFINITY], 2.0, objective), 0.0);
        assert_eq!(cost(&[], &[1.0], 2.0, objective), f64::INFINITY);
        assert_eq!(cost(&[card()], &[1.0], 0.1, objective), f64::INFINITY);
        assert!(cost(&vec![card(); 11], &[1.0], 2.0, objective) == 0.0);
        let free = Machine { start: 0.0, start_w: 0.0, idle_w: 0.0, active_w: 0.0, ..card() };
        assert!(cost(&[Machine { max_rows: 0, ..free }], &[1.0, 1e9], 2.0, objective) >= 0.0);
        assert_eq!(exhaustive(&[card()], &[], 2.0, objective), 0.0);
        assert_eq!(exhaustive(&[], &[1.0], 2.0, objective), f64::INFINITY);
        assert_eq!(exhaustive(&[card()], &[1.0; 20], 2.0, objective), f64::INFINITY);
    }
}
