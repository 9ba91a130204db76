//! The report: targets, a table of all ways to choose active adapters, traces, the worst cells.

use crate::cells::{ATTAINMENT, Cell};
use crate::evaluate::{GOALS, KNOWN, Tried, tuned_name};
use crate::frontier;
use crate::routing::ROUTERS;
use simulate::Outcome;
use simulate::laws::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// Cold starts of up to this share of the slack are hidden in it.
const HIDDEN: f64 = 0.75;
/// A trace is gap-dominated if more than half of it lies in pauses of at least this many seconds.
const GAP: f64 = 10.0;
/// Rival laws; the cheapest of them is the reference.
const RIVALS: [Family; 4] = [Family::Static, Family::Kpa, Family::Ray, Family::Hpa];
const ALL_ON: &str = "all-on +soonest";
const WORST: usize = 12;

/// Writes a report on the results, and files if there is a folder.
pub(crate) fn report(results: &mut [Tried], folder: Option<&Path>) -> String {
    results.sort_by(|a, b| {
        let name = |r: &Tried| (r.cell.trace_name.clone(), r.cell.mix_name);
        let numbers = |r: &Tried| (r.cell.slo, r.cell.kappa);
        name(a).cmp(&name(b)).then(numbers(a).partial_cmp(&numbers(b)).expect("numbers"))
    });
    let mut text = String::new();
    let part = |title: &str, lines: Vec<String>| format!("\n## {title}\n\n{}\n", lines.join("\n"));
    text += &part("Targets", targets(results));
    text += &part("Ways to choose active adapters", ways(results));
    text += &part("Routing, all adapters on", routing(results));
    text += &part("Traces", traces(results));
    text += &part("Worst cells", worst(results));
    if let Some(folder) = folder {
        crate::write(folder, "cells.csv", &cells(results));
        frontier::plot(results, &folder.join("frontier.svg"));
        crate::write(folder, "tables.md", text.trim_start());
    }
    text
}

/// Geometric mean and maximum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ratios {
    pub(crate) count: usize,
    pub(crate) mean: f64,
    pub(crate) worst: f64,
}

impl Ratios {
    pub(crate) fn of(ratios: impl Iterator<Item = f64>) -> Ratios {
        let ratios: Vec<f64> = ratios.filter(|ratio| ratio.is_finite() && *ratio > 0.0).collect();
        let logs: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
        let (count, worst) = (ratios.len(), ratios.iter().copied().fold(0.0, f64::max));
        Ratios { count, mean: (logs / count.max(1) as f64).exp(), worst }
    }
}

impl std::fmt::Display for Ratios {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.count {
            0 => write!(f, "-"),
            count => write!(f, "{:.3}, worst {:.3} ({count} cells)", self.mean, self.worst),
        }
    }
}

pub(crate) fn is_hidden(result: &&Tried) -> bool {
    result.cell.kappa <= HIDDEN
}

fn is_gappy(result: &&Tried) -> bool {
    let times = result.cell.trace.times();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > GAP);
    gaps.sum::<f64>() > 0.5 * times.last().copied().unwrap_or(0.0)
}

/// Returns the energy of one way over that of another, where both serve 99 % in time.
fn over<'a>(
    results: impl Iterator<Item = &'a Tried>,
    way: &str,
    other: impl Fn(&'a Tried) -> Option<f64>,
    what: fn(&Outcome) -> f64,
) -> Ratios {
    Ratios::of(results.filter_map(|r| Some(what(r.good(way)?) / other(r)?)))
}

fn joules(outcome: &Outcome) -> f64 {
    outcome.joules
}

fn device_seconds(outcome: &Outcome) -> f64 {
    outcome.device_seconds
}

/// Returns the cheapest of the rivals, each tuned for the cell.
fn rival(result: &Tried) -> Option<&Outcome> {
    let tuned = RIVALS.iter().filter_map(|family| result.good(&tuned_name(*family)));
    tuned.min_by(|a, b| a.joules.total_cmp(&b.joules))
}

fn targets(results: &[Tried]) -> Vec<String> {
    let mut lines = vec!["| target | wanted | latency | balanced | energy |".to_owned()];
    lines.push("|---|---|---|---|---|".to_owned());
    let mut row = |target: &str, wanted: &str, measure: &dyn Fn(&str) -> String| {
        let each = GOALS.map(|goal| measure(&format!("{goal:?}").to_lowercase()));
        lines.push(format!("| {target} | {wanted} | {} |", each.join(" | ")));
    };
    let hidden = || results.iter().filter(is_hidden);
    let open = || results.iter().filter(|result| !is_hidden(result));
    row("cells >= 99 %, kappa <= 0.75", "all", &|way| share(hidden(), way, false));
    row("the same, worst of 5 seeds of noise", "all", &|way| share(hidden(), way, true));
    row("cells >= 99 %, kappa 1-1.5", ">= 90 %", &|way| share(open(), way, false));
    row("the same, worst of 5 seeds of noise", ">= 90 %", &|way| share(open(), way, true));
    let known = |r: &Tried| r.good(KNOWN).map(joules);
    let bound = |r: &Tried| Some(r.bound).filter(|bound| *bound > 0.0);
    row("energy over best known, kappa <= 0.75", "1.05, worst 1.35", &|way| {
        over(hidden(), way, known, joules).to_string()
    });
    row("energy over best known, kappa 1-1.5", "1.25", &|way| {
        over(open(), way, known, joules).to_string()
    });
    row("energy over the bound, kappa <= 0.75", "1.30", &|way| {
        over(hidden(), way, bound, joules).to_string()
    });
    for (what, gappy, wanted) in [("gap-dominated", true, "0.60"), ("steady", false, "worst 1.02")]
    {
        row(&format!("energy over cheapest tuned rival, {what}, kappa <= 0.75"), wanted, &|way| {
            let of = hidden().filter(|r| is_gappy(r) == gappy);
            over(of, way, |r| rival(r).map(joules), joules).to_string()
        });
    }
    row("the same, gap-dominated, kappa 1-1.5", "0.82", &|way| {
        over(open().filter(is_gappy), way, |r| rival(r).map(joules), joules).to_string()
    });
    row("device-seconds over that rival, gap-dominated, kappa <= 0.75", "0.40", &|way| {
        let other = |r| rival(r).map(device_seconds);
        over(hidden().filter(is_gappy), way, other, device_seconds).to_string()
    });
    row("energy over tuned ski rental, gap-dominated, kappa <= 0.75", "0.88", &|way| {
        let other = |r: &Tried| r.good(&tuned_name(Family::Ski)).map(joules);
        over(hidden().filter(is_gappy), way, other, joules).to_string()
    });
    row("p50 over all-on, gap-dominated, kappa <= 0.75", "1.10 (latency)", &|way| {
        let other = |r: &Tried| r.find(ALL_ON).map(|all_on| all_on.p50_s);
        over(hidden().filter(is_gappy), way, other, |outcome| outcome.p50_s).to_string()
    });
    row("energy over all-on, gap-dominated, kappa <= 0.75", "0.60 (latency)", &|way| {
        let other = |r: &Tried| r.find(ALL_ON).map(joules);
        over(hidden().filter(is_gappy), way, other, joules).to_string()
    });
    row("microseconds per event of the scheduler", "20", &|way| {
        let times = results.iter().filter_map(|r| r.find(way)).map(|outcome| outcome.decision_us);
        Ratios::of(times).to_string()
    });
    lines
}

fn share<'a>(results: impl Iterator<Item = &'a Tried>, way: &str, noisy: bool) -> String {
    let lines = results.filter_map(|r| r.lines.iter().find(|line| line.name == way));
    let attained: Vec<f64> = lines
        .map(|line| line.noisy.filter(|_| noisy).map_or(line.outcome.attainment, |noisy| noisy.0))
        .collect();
    let good = attained.iter().filter(|attained| **attained >= ATTAINMENT).count();
    let least = attained.iter().copied().fold(1.0, f64::min);
    format!("{good} of {}, least {:.2} %", attained.len(), 100.0 * least)
}

/// Returns all ways, the cheapest first.
fn ways(results: &[Tried]) -> Vec<String> {
    let names: BTreeSet<&str> =
        results.iter().flat_map(|r| r.lines.iter().map(|line| line.name.as_str())).collect();
    let known = |r: &Tried| r.good(KNOWN).map(joules);
    let mut rows: Vec<(f64, String)> = Vec::new();
    for name in names {
        let hidden = || results.iter().filter(is_hidden);
        let open = || results.iter().filter(|result| !is_hidden(result));
        let ratio = over(hidden(), name, known, joules);
        let p50 = Ratios::of(hidden().filter_map(|r| Some(r.good(name)?.p50_s / r.cell.slo)));
        let line = format!(
            "| {name} | {} | {ratio} | {:.3} | {} | {} |",
            share(hidden(), name, false),
            p50.mean,
            share(open(), name, false),
            over(open(), name, known, joules),
        );
        rows.push((if ratio.count == 0 { f64::INFINITY } else { ratio.mean }, line));
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let head = [
        "| way | cells >= 99 %, kappa <= 0.75 | energy over best known | p50 / target | cells >= 99 %, kappa 1-1.5 | energy over best known |",
        "|---|---|---|---|---|---|",
    ];
    head.map(str::to_owned).into_iter().chain(rows.into_iter().map(|(_, line)| line)).collect()
}

/// Costs of binding each request to an adapter on arrival, compared with one queue for all.
fn routing(results: &[Tried]) -> Vec<String> {
    let head = "| routing | cells >= 99.9 %, least | p50 over +soonest | p99 over +soonest | energy over +soonest |";
    let bound = ROUTERS.map(|(name, _)| format!("all-on {name}"));
    let names = bound.into_iter().chain([ALL_ON, "all-on", "all-on +wait"].map(str::to_owned));
    let line = |name: String| {
        let tried = results.iter().filter_map(|r| Some((r.find(&name)?, r.find(ALL_ON)?)));
        let tried: Vec<_> = tried.collect();
        let ratio = |what: fn(&Outcome) -> f64| {
            Ratios::of(tried.iter().map(|(own, other)| what(own) / what(other)))
        };
        let good = tried.iter().filter(|(own, _)| own.attainment >= 0.999).count();
        let least = tried.iter().map(|(own, _)| own.attainment).fold(1.0, f64::min);
        let (p50, p99, joules) = (ratio(|o| o.p50_s), ratio(|o| o.p99_s), ratio(joules));
        let count = tried.len();
        (count > 0).then(|| {
            format!(
                "| {name} | {good} of {count}, {:.2} % | {p50} | {p99} | {joules} |",
                least * 100.0
            )
        })
    };
    [head, "|---|---|---|---|---|"]
        .map(str::to_owned)
        .into_iter()
        .chain(names.filter_map(line))
        .collect()
}

fn traces(results: &[Tried]) -> Vec<String> {
    let mut by_trace: BTreeMap<&str, Vec<&Tried>> = BTreeMap::new();
    for result in results {
        by_trace.entry(&result.cell.trace_name).or_default().push(result);
    }
    let mut lines = vec![
        "| trace | policy | cells >= 99 % | energy over best known | over cheapest tuned rival |"
            .to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for (trace, results) in by_trace {
        for goal in GOALS {
            let way = format!("{goal:?}").to_lowercase();
            let all = || results.iter().copied();
            lines.push(format!(
                "| {trace} | {way} | {} | {} | {} |",
                share(all(), &way, false),
                over(all(), &way, |r| r.good(KNOWN).map(joules), joules),
                over(all(), &way, |r| rival(r).map(joules), joules),
            ));
        }
    }
    lines
}

fn worst(results: &[Tried]) -> Vec<String> {
    let mut lines = vec![
        "| cell | policy | energy over best known | construction of the best known |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    for goal in GOALS {
        let way = format!("{goal:?}").to_lowercase();
        let ratio = |r: &Tried| Some(r.good(&way)?.joules / r.good(KNOWN)?.joules);
        let mut all: Vec<_> =
            results.iter().filter(is_hidden).filter_map(|r| Some((ratio(r)?, r))).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (ratio, result) in all.into_iter().take(WORST) {
            let known = result.lines.iter().find(|line| line.name == KNOWN);
            let setting = known.map_or("", |line| line.setting.as_str());
            lines.push(format!("| {} | {way} | {ratio:.3} | {setting} |", name(&result.cell)));
        }
    }
    lines
}

fn name(cell: &Cell) -> String {
    let Cell { trace_name, mix_name, slo, kappa, .. } = cell;
    format!("{trace_name} {mix_name} {slo} s kappa {kappa}")
}

/// Returns a line for each cell: energies over the bound, attainment in percent.
fn cells(results: &[Tried]) -> String {
    let rivals = RIVALS.iter().chain(&[Family::Ski]).map(|family| tuned_name(*family));
    let rivals: Vec<String> = rivals.collect();
    let ours = GOALS.map(|goal| format!("{goal:?}").to_lowercase());
    let mut text = "trace,mix,slo_s,kappa,requests,bound_j,best_known".to_owned();
    for way in &ours {
        let _ = write!(text, ",{way},{way}_percent,{way}_p50_s");
    }
    rivals.iter().for_each(|way| text += &format!(",{way}"));
    for result in results {
        let Cell { trace_name, mix_name, slo, kappa, trace, .. } = &result.cell;
        let bound = result.bound;
        let over = |way: &str| {
            result.good(way).map_or(String::new(), |o| format!("{:.3}", o.joules / bound))
        };
        let _ = write!(text, "\n{trace_name},{mix_name},{slo},{kappa},{}", trace.requests.len());
        let _ = write!(text, ",{bound:.0},{}", over(KNOWN));
        for way in &ours {
            let Some(outcome) = result.find(way) else { continue };
            let (joules, percent) = (outcome.joules / bound, outcome.attainment * 100.0);
            let _ = write!(text, ",{joules:.3},{percent:.2},{:.4}", outcome.p50_s);
        }
        rivals.iter().for_each(|way| text += &format!(",{}", over(way)));
    }
    text + "\n"
}
