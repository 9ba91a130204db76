use crate::faulty::{Outcomes, every_seed, every_step};
use crate::{is_named, mixes};
use wire::Injected;

/// The probability of each fault at each step of a worker.
const CHANCE: f64 = 0.005;

/// The number of seeds on adapters with drivers, since their workers take long to start.
const DRIVEN: u64 = 50;

/// Runs the faults among the arguments, or all of them, at every step, and `seeds` seeds of random
/// faults.
pub(crate) fn report(seeds: u64) {
    let any = Injected::ALL.iter().any(|fault| is_named(fault.as_str()));
    let faults = || Injected::ALL.into_iter().filter(|fault| !any || is_named(fault.as_str()));
    println!(
        "| adapters | fault | in | scripts | requests | right | errors | wrong | lost | \
         miscounted | not recovered | slowest |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let mut all = Outcomes::default();
    for mix in mixes() {
        let adapters = mix.faulty();
        for fault in faults() {
            for (which, workers) in [("one worker", Some(1)), ("all workers", None)] {
                let outcomes = every_step(&adapters, fault, workers);
                row((mix.name, fault.as_str(), which), &outcomes);
                all += outcomes;
            }
        }
        let seeds = if mix.drivers.is_some() { seeds.min(DRIVEN) } else { seeds };
        if seeds > 0 {
            let outcomes = every_seed(&adapters, seeds, CHANCE);
            row((mix.name, "all but wrong answers", "at random"), &outcomes);
            all += outcomes;
        }
    }
    row(("all", "", ""), &all);
}

fn row((adapters, fault, which): (&str, &str, &str), outcomes: &Outcomes) {
    println!(
        "| {adapters} | {fault} | {which} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1?} |",
        outcomes.scripts,
        outcomes.sent,
        outcomes.right,
        outcomes.failed,
        outcomes.wrong,
        outcomes.lost,
        outcomes.miscounted,
        outcomes.not_recovered,
        outcomes.slowest
    );
}
