//! The evaluation of all ways on one cell.

use crate::cells::{ATTAINMENT, Cell, Way};
use crate::clairvoyant::Hindsight;
use crate::rivals::{TUNED, tuned};
use crate::routing::{self, ROUTERS, Router};
use schedule::Goal;
use simulate::Outcome;
use simulate::bound::{Bound, Objective, Plan, lower_bound};
use simulate::laws::{Family, Spec};

pub(crate) const GOALS: [Goal; 3] = [Goal::Latency, Goal::Balanced, Goal::Energy];
/// Seeds of noise on batch times and cold starts.
const SEEDS: std::ops::Range<u64> = 1..6;
/// Name of the best known schedule.
pub(crate) const KNOWN: &str = "best known in hindsight";

/// One way to run a cell, and its outcome.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// The setting that was chosen in hindsight.
    pub(crate) setting: String,
    /// The least attainment and the greatest energy with noise.
    pub(crate) noisy: Option<(f64, f64)>,
}

pub(crate) struct Tried {
    pub(crate) cell: Cell,
    pub(crate) lines: Vec<Line>,
    /// Joules that every schedule needs; 0 if not computed.
    pub(crate) bound: f64,
}

impl Tried {
    pub(crate) fn find(&self, name: &str) -> Option<&Outcome> {
        self.lines.iter().find(|line| line.name == name).map(|line| &line.outcome)
    }

    /// Returns the outcome of a way if it serves 99 % in time.
    pub(crate) fn good(&self, name: &str) -> Option<&Outcome> {
        self.find(name).filter(|outcome| outcome.attainment >= ATTAINMENT)
    }

    /// Returns a line: attainment and joules of the product's policies, joules of hindsight and
    /// bound.
    pub(crate) fn line(&self) -> String {
        let Cell { trace_name, mix_name, slo, kappa, .. } = &self.cell;
        let ours = self.lines.iter().take(GOALS.len());
        let ours = ours.map(|line| {
            format!("{:.2} % {:.0} J", line.outcome.attainment * 100.0, line.outcome.joules)
        });
        let ours = ours.collect::<Vec<_>>().join(", ");
        let known = self.good(KNOWN).map_or(f64::NAN, |known| known.joules);
        format!(
            "{trace_name} {mix_name} {slo} s kappa {kappa}: {ours}; hindsight {known:.0} J, bound {:.0} J",
            self.bound
        )
    }
}

/// Runs the product's policies; with hindsight also all others.
pub(crate) fn evaluate(cell: Cell, hindsight: Option<&Hindsight>) -> Tried {
    let mut lines: Vec<Line> = GOALS.iter().map(|goal| ours(&cell, *goal)).collect();
    let mut bound = 0.0;
    if let Some(hindsight) = hindsight {
        // The goal `latency`, which prefers the earliest answer, as a reference for answer times.
        lines.push(plain(&cell, Way::Law(Spec::AllOn, Goal::Latency), " +soonest"));
        lines.extend(ROUTERS.map(|(name, router)| routed(&cell, name, router)));
        for spec in Spec::defaults() {
            lines.push(plain(&cell, Way::Law(spec, Goal::Balanced), ""));
            lines.push(plain(&cell, Way::Law(spec, Goal::Energy), ""));
        }
        lines.extend(TUNED.iter().filter_map(|family| tuned_line(&cell, *family)));
        let least = lower_bound(&cell.machines, &cell.trace.times(), cell.slo, Objective::Energy);
        bound = least.cost;
        lines.extend(known(&cell, hindsight, &least, &lines));
    }
    let mut cell = cell;
    cell.trace.requests.shrink_to_fit();
    Tried { cell, lines, bound }
}

fn ours(cell: &Cell, goal: Goal) -> Line {
    let way = Way::Ours(goal);
    let outcome = cell.run(&way, None);
    let noisy = SEEDS.map(|seed| cell.run(&way, Some(seed)));
    let noisy = noisy.map(|noisy| (noisy.attainment, noisy.joules));
    let noisy = noisy.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    Line { name: way.to_string(), outcome, setting: String::new(), noisy }
}

fn plain(cell: &Cell, way: Way, suffix: &str) -> Line {
    let (name, outcome) = (format!("{way}{suffix}"), cell.run(&way, None));
    Line { name, outcome, setting: String::new(), noisy: None }
}

/// Runs the cell with all adapters on and each request bound to an adapter on arrival.
fn routed(cell: &Cell, name: &str, router: Router) -> Line {
    let (name, outcome) = (format!("all-on {name}"), routing::serve(cell, router));
    Line { name, outcome, setting: String::new(), noisy: None }
}

/// Name of a family with a setting that is chosen for the cell.
pub(crate) fn tuned_name(family: Family) -> String {
    format!("{family} tuned")
}

fn tuned_line(cell: &Cell, family: Family) -> Option<Line> {
    let (way, outcome) = tuned(cell, family)?;
    Some(Line { name: tuned_name(family), outcome, setting: way.to_string(), noisy: None })
}

/// Returns the cheapest of the rivals' lines and of the schedules of hindsight.
fn known(cell: &Cell, hindsight: &Hindsight, bound: &Bound, lines: &[Line]) -> Option<Line> {
    let rivals = lines.iter().skip(GOALS.len());
    let good = rivals.filter(|line| line.outcome.attainment >= ATTAINMENT);
    let rival = good.min_by(|a, b| a.outcome.joules.total_cmp(&b.outcome.joules));
    let joules = rival.map_or(f64::INFINITY, |rival| rival.outcome.joules);
    let plan: &Plan = &bound.plan;
    let (outcome, setting) = match hindsight.best(cell, plan, joules) {
        Some((outcome, how)) => (outcome, how),
        None => rival.map(|rival| (rival.outcome.clone(), rival.name.clone()))?,
    };
    Some(Line { name: KNOWN.to_owned(), outcome, setting, noisy: None })
}
