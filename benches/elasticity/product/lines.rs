//! Single situations, each with its goal.

use super::cells::{SLO, defaults, mix, run, run_with, slow_rows, with_cpu};
use super::figures;
use super::traces::{self, DAY};
use concertina::simulate::{Options, Outcome};

pub(crate) fn print() {
    println!("\nSituations:");
    say("office week, one card, CPU of 40 ms a row", "99.95 % at 50 Wh", &office_with_cpu());
    let single = traces::single(300.0, DAY, 2);
    let outcome = run(&single, &with_cpu(mix("fast"), Some(0.04)), None, None);
    say("single requests, mean 300 s, one card, CPU of 40 ms a row", "100 % at 1 Wh", &outcome);
    for (sigma, goal) in [(0.0, "99.3 % at 60 Wh"), (20.0, "99.2 % at 95 Wh")] {
        let outcome = run(&traces::bursts(sigma, 1), &mix("fast"), None, None);
        say(&format!("bursts each 10 min, sigma {sigma} s, one card"), goal, &outcome);
    }
    let outcome = run(&traces::each_15_min(192), &mix("fast"), None, None);
    say("a request each 15 min over two days, one card", "96 % at 20 Wh", &outcome);
    for (every, goal) in [(60.0, "310 Wh a day"), (300.0, "85 Wh a day")] {
        let trace = traces::single(every, DAY, 1);
        let mix = slow_rows(mix("equal"), 0.15);
        let options = Options { keep_changes: true, ..Options::new(defaults(), SLO) };
        let (outcome, _) = run_with(&trace, &mix, &options, None);
        say(&format!("a row of 150 ms each {every} s, two equal cards"), goal, &outcome);
        let starts: Vec<u64> = outcome.adapters.iter().map(|share| share.activations).collect();
        println!("    starts of the cards: {starts:?}");
    }
    let outcome = run(&traces::single(60.0, DAY, 1), &mix("unequal"), None, None);
    say("single requests, mean 60 s, unequal", "315 Wh", &outcome);
    let outcome = run(&traces::office_week(1), &mix("unequal"), None, None);
    say("office week, unequal", "99.3 % at 850 Wh", &outcome);
}

fn office_with_cpu() -> Outcome {
    run(&traces::office_week(1), &with_cpu(mix("fast"), Some(0.04)), None, None)
}

fn say(what: &str, goal: &str, outcome: &Outcome) {
    println!("  {what}: {} (goal: {goal})", figures(outcome));
}
