//! Single situations, each with its goal.

use super::cells::{SLO, START, defaults, mix, run, run_with, slow_rows, with_cpu, with_places};
use super::figures;
use super::traces::{self, DAY, HOUR};
use simulate::{Options, Outcome, Run, Trace, TraceRequest, simulate_restarts};

/// Parts of a trace between restarts.
const PARTS: usize = 8;

pub(crate) fn print(shared: &[(String, Trace)]) {
    println!("\nSituations:");
    print_line("office week, one card, CPU of 40 ms a row", "99.95 % at 50 Wh", &office_with_cpu());
    let single = traces::single(300.0, DAY, 2);
    let outcome = run(&single, &with_cpu(mix("fast"), Some(0.04)), None, None);
    print_line(
        "single requests, mean 300 s, one card, CPU of 40 ms a row",
        "100 % at 1 Wh",
        &outcome,
    );
    for (sigma, goal) in [(0.0, "99.3 % at 60 Wh"), (20.0, "99.2 % at 95 Wh")] {
        let outcome = run(&traces::bursts(sigma, 1), &mix("fast"), None, None);
        print_line(&format!("bursts each 10 min, sigma {sigma} s, one card"), goal, &outcome);
    }
    let outcome = run(&traces::each_15_min(192), &mix("fast"), None, None);
    print_line("a request each 15 min over two days, one card", "96 % at 20 Wh", &outcome);
    for (every, goal) in [(60.0, "310 Wh a day"), (300.0, "85 Wh a day")] {
        let trace = traces::single(every, DAY, 1);
        let mix = slow_rows(mix("equal"), 0.15);
        let options = Options { keep_changes: true, ..Options::new(defaults(), SLO) };
        let (outcome, _) = run_with(&trace, &mix, &options, None);
        print_line(&format!("a row of 150 ms each {every} s, two equal cards"), goal, &outcome);
        let starts: Vec<u64> = outcome.adapters.iter().map(|share| share.activations).collect();
        println!("    starts of the cards: {starts:?}");
    }
    let outcome = run(&traces::single(60.0, DAY, 1), &mix("unequal"), None, None);
    print_line("single requests, mean 60 s, unequal", "315 Wh", &outcome);
    let outcome = run(&traces::office_week(1), &mix("unequal"), None, None);
    print_line("office week, unequal", "99.3 % at 850 Wh", &outcome);
    places();
    restarts(shared);
    nothing_to_learn(shared);
    two_clients();
}

/// Traces in which no client has regular requests, with starts ahead and without.
fn nothing_to_learn(shared: &[(String, Trace)]) {
    println!("  starts ahead where nothing can be learned, attainment and energy over none:");
    let made = ["single 60 s", "single 300 s", "single 1800 s", "random bursts"];
    let made = traces::all().into_iter().filter(|(name, _)| made.contains(name));
    let made = made.map(|(name, trace)| (name.to_owned(), trace));
    for (name, trace) in shared.iter().cloned().chain(made) {
        for mix_name in ["fast", "fast+slow", "equal", "unequal"] {
            let mix = mix(mix_name);
            let with = run(&trace, &mix, None, None);
            let options = Options { ahead: false, ..Options::new(defaults(), SLO) };
            let (without, _) = run_with(&trace, &mix, &options, None);
            let more = 100.0 * (with.attainment - without.attainment);
            let energy = with.joules / without.joules;
            println!("    {name} {mix_name}: {more:+.3} points, {energy:.4} (goal: 0, 1.005)");
        }
    }
}

/// A client with a request every 15 minutes, and one with requests at random.
fn two_clients() {
    let (regular, random) = (traces::regular(192), traces::poisson(600.0, 2.0 * DAY, 9));
    let request = |client: u32| move |at| TraceRequest { at, rows: 1, model: 0, client };
    let mut requests: Vec<TraceRequest> = regular.into_iter().map(request(1)).collect();
    requests.extend(random.into_iter().map(request(2)));
    requests.sort_by(|a, b| a.at.total_cmp(&b.at));
    let trace = Trace { requests, models: vec![String::new()] };
    let in_time = |ahead| {
        let options = Options { ahead, ..Options::new(defaults(), SLO) };
        let (_, run) = run_with(&trace, &mix("fast"), &options, None);
        [1, 2].map(|client| {
            let asked = trace.requests.iter().zip(&run.latencies);
            let asked: Vec<bool> =
                asked.filter(|(it, _)| it.client == client).map(|(_, took)| *took <= SLO).collect();
            100.0 * asked.iter().filter(|in_time| **in_time).count() as f64 / asked.len() as f64
        })
    };
    let ([regular, random], [_, before]) = (in_time(true), in_time(false));
    println!(
        "  a regular and a random client: {regular:.1} % of the regular one's (goal: 95), \
         {random:.1} % of the other's (goal: {before:.1}, as without)"
    );
}

/// Additional late requests for each of seven restarts, at which every adapter turns off: those
/// that arrive within the first start after it are late in any case.
fn restarts(shared: &[(String, Trace)]) {
    println!(
        "  additional late requests for each restart, remembered and forgotten; within its start:"
    );
    let made = [("office week", traces::office_week(1)), ("bursts", traces::bursts(0.0, 1))];
    let made = made.map(|(name, trace)| (name.to_owned(), trace));
    for (name, trace) in shared.iter().cloned().chain(made) {
        for mix_name in ["fast", "fast+slow"] {
            let (options, mix) = (Options::new(defaults(), SLO), mix(mix_name));
            let run = |parts, remembers| {
                let runs = simulate_restarts(&trace, &mix, &options, (parts, remembers));
                runs.expect("every adapter has times for every model")
            };
            let [whole, remembered, forgotten] =
                [run(1, true), run(PARTS, true), run(PARTS, false)];
            let more = |runs: &[Run]| (late(runs) - late(&whole)) / (PARTS - 1) as f64;
            let (more, more_forgotten) = (more(&remembered), more(&forgotten));
            let within = within_starts(&trace, &remembered) / (PARTS - 1) as f64;
            println!(
                "    {name} {mix_name}: {more:.1}, {more_forgotten:.1}; {within:.1} (goal: 5)"
            );
        }
    }
}

fn late(runs: &[Run]) -> f64 {
    runs.iter().map(|run| run.late).sum::<u64>() as f64
}

/// Late requests that arrived within a start after the first request of a part other than the
/// first.
fn within_starts(trace: &Trace, runs: &[Run]) -> f64 {
    let length = trace.requests.len().div_ceil(PARTS);
    let parts = trace.requests.chunks(length).zip(runs).skip(1);
    let within = parts.map(|(part, run)| {
        let first = part.first().map_or(0.0, |request| request.at);
        let early = part.iter().zip(&run.latencies);
        early.filter(|(it, took)| it.at < first + START && **took > SLO).count()
    });
    within.sum::<usize>() as f64
}

/// Five models, of which two fit on each of two cards, and one case in which all fit.
fn places() {
    const PLACE: u64 = 1 << 30;
    /// Seconds of a load.
    const LOAD: f64 = 0.5;
    let popular = [0.6, 0.2, 0.1, 0.06, 0.04];
    let cases = [
        (
            "0.1/s for a day",
            traces::models(0.1, DAY, &popular),
            2,
            "93 %; before 79.27 %, 151 loads an hour",
        ),
        (
            "2/s for two hours",
            traces::models(2.0, 7200.0, &popular),
            2,
            "92 %; before 84.32 %, 1525 loads an hour",
        ),
        (
            "2/s, equally popular",
            traces::models(2.0, 7200.0, &[0.2; 5]),
            2,
            "76 %; before 69.45 %, 2211 loads an hour",
        ),
        ("2/s, all fit", traces::models(2.0, 7200.0, &popular), 5, "as before: 99.63 %, 43.8 Wh"),
        ("periods of 40 s, a day", traces::periods(DAY), 2, "before: 97.78 %, 988.4 Wh"),
    ];
    for (what, trace, places, goal) in cases {
        let mix = with_places(mix("equal"), places * PLACE, (PLACE, LOAD));
        let outcome = run(&trace, &mix, None, None);
        print_line(
            &format!("five models, {places} places on each of two cards, {what}"),
            goal,
            &outcome,
        );
        println!("    loads an hour: {:.0}", outcome.loads as f64 * HOUR / outcome.span_s);
    }
}

fn office_with_cpu() -> Outcome {
    run(&traces::office_week(1), &with_cpu(mix("fast"), Some(0.04)), None, None)
}

fn print_line(what: &str, goal: &str, outcome: &Outcome) {
    println!("  {what}: {} (goal: {goal})", figures(outcome));
}
