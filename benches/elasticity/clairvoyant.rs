//! The best known schedule for a trace that is known in advance, built without the product's
//! policy.
//!
//! **Clusters.** The trace is cut where nothing arrives for a while. Each subset of the adapters is
//! simulated always on, which yields the working times of its adapters and the late requests. In
//! each cluster one subset is chosen, or none: then its requests are late and served with the next
//! cluster's. A price on lateness makes the choice; 1 % may be late. A chosen adapter is on while
//! it works, and between works if that costs less than another start, which is made in advance.
//!
//! **The bound's plan.** The sets of adapters of the lower bound's optimum are followed, each
//! turned on its start ahead; since the bound is a relaxation, the remaining late requests are
//! repaired by need.
//!
//! Both are run in the simulator: only its outcome counts.

use crate::cells::{ATTAINMENT, Cell};
use schedule::{Goal, Policy};
use simulate::bound::Plan;
use simulate::laws::{AdapterActivity, Family, Law, Sight, Spec};
use simulate::{self as sim, Machine, Options, Outcome, Worst};

/// Prices of a late request in joules that are tried, each this many times the one before.
const PRICES: [f64; 16] =
    [0.0, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 1e4, 1e6];
/// Shares of the requests that may be late, as assumed by the choice of clusters.
const LATE: [f64; 4] = [0.0, 0.004, 0.007, 0.0095];
/// Seconds that an adapter is ready before it is needed.
const EARLY: f64 = 1e-3;
/// Tolerance in seconds: time is counted in whole nanoseconds.
const ROUNDING: f64 = 1e-8;

type Span = (f64, f64);

/// Activity of a subset of adapters that is always on.
struct Base {
    goal: Goal,
    /// Working times of each adapter.
    busy: Vec<Vec<Span>>,
    /// Latency of each request.
    latencies: Vec<f64>,
}

/// Knowledge of a trace and a mix that does not depend on the starts.
pub(crate) struct Hindsight {
    bases: Vec<Base>,
}

impl Hindsight {
    pub(crate) fn of(cell: &Cell) -> Hindsight {
        let mut bases = Vec::new();
        for goal in [Goal::Balanced, Goal::Energy] {
            for spec in Spec::grid(Family::Static, cell.machines.len()) {
                bases.extend(base(cell, spec, goal));
            }
        }
        Hindsight { bases }
    }

    /// Returns the cheapest schedule that serves 99 % in time with less than `joules`, and a
    /// description of its construction.
    pub(crate) fn best(&self, cell: &Cell, plan: &Plan, joules: f64) -> Option<(Outcome, String)> {
        let mut best: Option<(Outcome, String)> = None;
        for (how, goal, spans, repair) in self.schedules(cell, plan) {
            let least = best.as_ref().map_or(joules, |best| best.0.joules);
            let outcome = follow(cell, goal, spans, repair, least);
            if outcome.attainment >= ATTAINMENT && outcome.joules < least {
                best = Some((outcome, how));
            }
        }
        best
    }

    fn schedules(&self, cell: &Cell, plan: &Plan) -> Vec<(String, Goal, Vec<Vec<Span>>, bool)> {
        let mut all = Vec::new();
        let starts = cell.machines.iter().map(|machine| machine.start);
        let start = starts.fold(0.0, f64::max);
        for goal in [Goal::Balanced, Goal::Energy] {
            for gap in [cell.slo, cell.slo + start, 3.0 * (cell.slo + start), f64::INFINITY] {
                let clusters = Clusters::new(cell, gap);
                let bases: Vec<_> = self.bases.iter().filter(|base| base.goal == goal).collect();
                for late in LATE {
                    let spans = clusters.choose(cell, &bases, late);
                    let how = format!("clusters {goal:?} gap {gap:.1} s late {late}");
                    all.extend(spans.map(|spans| (how, goal, spans, false)));
                }
            }
            for linger in [0.0, 0.5, 1.0] {
                let how = format!("plan {goal:?} linger {linger}");
                all.push((how, goal, planned(cell, plan, linger), true));
            }
        }
        all
    }
}

fn base(cell: &Cell, spec: Spec, goal: Goal) -> Option<Base> {
    let give_up = Worst { late: cell.trace.requests.len() as u64 / 2, joules: f64::INFINITY };
    let options = Options {
        keep_changes: true,
        give_up: Some(give_up),
        ..Options::new(Policy::Manual { goal }, cell.slo)
    };
    // No request is ever late because of a start.
    let mut cell = cell.clone();
    cell.machines.iter_mut().for_each(|machine| machine.start = 0.0);
    let mut law = spec.build(&cell.machines, cell.slo, &[]);
    let run = cell.run_law(&options, Some(law.as_mut()));
    let done = run.latencies.iter().all(|latency| latency.is_finite());
    let busy = run.meters.iter().map(|meter| busy(meter.changes.as_deref().unwrap_or_default()));
    done.then(|| Base { goal, busy: busy.collect(), latencies: run.latencies })
}

fn busy(changes: &[(f64, sim::Doing)]) -> Vec<Span> {
    let pairs = changes.windows(2).filter(|pair| pair[0].1 == sim::Doing::Busy);
    pairs.map(|pair| (pair[0].0, pair[1].0)).collect()
}

/// Requests with pauses before and after them.
struct Clusters {
    /// Index of the first request, and its arrival.
    begins: Vec<(usize, f64)>,
    requests: usize,
}

/// Cost of a subset in a cluster.
struct Choice {
    base: Option<usize>,
    joules: f64,
    late: usize,
}

impl Clusters {
    fn new(cell: &Cell, gap: f64) -> Clusters {
        let times = cell.trace.times();
        let silence = |at: &usize| *at == 0 || times[*at] - times[*at - 1] > gap;
        let begins = (0..times.len()).filter(silence).map(|at| (at, times[at])).collect();
        Clusters { begins, requests: times.len() }
    }

    /// Returns the on-times of each adapter if each cluster has the subset that is cheapest for it.
    fn choose(&self, cell: &Cell, bases: &[&Base], late: f64) -> Option<Vec<Vec<Span>>> {
        let options: Vec<Vec<Choice>> =
            (0..self.begins.len()).map(|at| self.options(cell, bases, at)).collect();
        let allowed = late * self.requests as f64;
        let pick = |price: f64| -> Vec<&Choice> {
            let cost = |choice: &Choice| choice.joules + price * choice.late as f64;
            let cheapest = |choices: &'_ Vec<Choice>| {
                let indices = 0..choices.len();
                indices.min_by(|a, b| cost(&choices[*a]).total_cmp(&cost(&choices[*b])))
            };
            options.iter().filter_map(|all| cheapest(all).map(|at| &all[at])).collect()
        };
        let picks = PRICES.iter().map(|price| pick(*price));
        let fair =
            |pick: &Vec<&Choice>| pick.iter().map(|c| c.late).sum::<usize>() as f64 <= allowed;
        let chosen = picks.into_iter().find(fair)?;
        let mut busy = vec![Vec::new(); cell.machines.len()];
        for (at, choice) in chosen.iter().enumerate() {
            let Some(base) = choice.base else { continue };
            for (busy, all) in busy.iter_mut().zip(&bases[base].busy) {
                busy.extend_from_slice(self.part(all, at));
            }
        }
        Some(busy.iter().zip(&cell.machines).map(|(busy, machine)| spans(busy, machine)).collect())
    }

    fn options(&self, cell: &Cell, bases: &[&Base], at: usize) -> Vec<Choice> {
        let first = self.begins[at].0;
        let end = self.begins.get(at + 1).map_or(self.requests, |next| next.0);
        let skip = Choice { base: None, joules: 0.0, late: end - first };
        let of = |(index, base): (usize, &&Base)| {
            let late = base.latencies[first..end].iter().filter(|l| **l > cell.slo).count();
            let each = base.busy.iter().zip(&cell.machines);
            let joules = each.map(|(busy, machine)| joules(self.part(busy, at), machine)).sum();
            Choice { base: Some(index), joules, late }
        };
        // In the last cluster a subset is required, to serve the remaining requests.
        let skip = (at + 1 < self.begins.len()).then_some(skip);
        bases.iter().enumerate().map(of).chain(skip).collect()
    }

    /// Returns the work that begins in a cluster.
    fn part<'a>(&self, busy: &'a [Span], at: usize) -> &'a [Span] {
        let from = self.begins[at].1;
        let to = self.begins.get(at + 1).map_or(f64::INFINITY, |next| next.1);
        let begin = busy.partition_point(|span| span.0 < from);
        let end = busy.partition_point(|span| span.0 < to);
        &busy[begin..end]
    }
}

/// Returns the on-times of a machine that has to work at these times.
fn spans(busy: &[Span], machine: &Machine) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (from, to) in busy {
        let from = from - machine.start - EARLY;
        match spans.last_mut() {
            Some(last) if !is_off_between(from - last.1, machine) => last.1 = *to,
            _ => spans.push((from.max(0.0), *to)),
        }
    }
    spans
}

/// Returns whether the machine should be off between two works, with `gap` seconds until the start
/// for the second.
fn is_off_between(gap: f64, machine: &Machine) -> bool {
    gap > 0.0 && (gap + machine.start) * machine.idle_w > machine.start_joules()
}

fn joules(busy: &[Span], machine: &Machine) -> f64 {
    let working: f64 = busy.iter().map(|span| span.1 - span.0).sum();
    let gaps = busy.windows(2).map(|pair| pair[1].0 - pair[0].1);
    let between = |gap: f64| match is_off_between(gap - machine.start - EARLY, machine) {
        true => machine.start_joules(),
        false => gap * machine.idle_w,
    };
    let first = if busy.is_empty() { 0.0 } else { machine.start_joules() };
    working * machine.active_w + first + gaps.map(between).sum::<f64>()
}

/// Returns the on-times of each adapter in the bound's plan, its start ahead; extended by `linger`
/// break-even times.
fn planned(cell: &Cell, plan: &Plan, linger: f64) -> Vec<Vec<Span>> {
    let spans = |(index, machine): (usize, &Machine)| {
        let on = plan.masks.iter().enumerate().filter(|(_, mask)| *mask >> index & 1 == 1);
        let slot = |(at, _): (usize, &u16)| {
            let from = at as f64 * plan.slot;
            (from, from + plan.slot + linger * machine.break_even())
        };
        spans(&on.map(slot).collect::<Vec<_>>(), machine)
    };
    cell.machines.iter().enumerate().map(spans).collect()
}

/// Keeps adapters on at given times; a repairing law can turn on further ones.
struct Follow {
    spans: Vec<Vec<Span>>,
    at: Vec<usize>,
    repair: Option<Box<dyn Law>>,
    next: f64,
}

impl Law for Follow {
    fn next(&self) -> f64 {
        self.repair.as_ref().map_or(f64::INFINITY, |law| law.next()).min(self.next)
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        if let Some(repair) = &mut self.repair {
            repair.decide(sight, wanted);
        }
        self.next = f64::INFINITY;
        let now = sight.now + ROUNDING;
        for ((spans, at), (want, doing)) in
            self.spans.iter().zip(&mut self.at).zip(wanted.iter_mut().zip(sight.doing))
        {
            while spans.get(*at).is_some_and(|span| span.1 <= now) {
                *at += 1;
            }
            let span = spans.get(*at).copied().unwrap_or((f64::INFINITY, f64::INFINITY));
            self.next = self.next.min(if span.0 > now { span.0 } else { span.1 });
            // An adapter that should be off stays on as long as there is work.
            let done = matches!(doing, AdapterActivity::Idle { .. }) && sight.waiting == 0;
            if span.0 <= now {
                *want = true;
            } else if self.repair.is_none() && done {
                *want = false;
            }
        }
    }
}

fn follow(cell: &Cell, goal: Goal, spans: Vec<Vec<Span>>, repair: bool, joules: f64) -> Outcome {
    let give_up = Some(Worst { late: cell.late_max(), joules });
    let policy = Policy::Manual { goal };
    let options = Options { give_up, ..Options::new(policy, cell.slo) };
    let law = || {
        let spec = Spec::by_name("ski(factor=0.2)").expect("the law exists");
        spec.build(&cell.machines, cell.slo, &[])
    };
    let at = vec![0; spans.len()];
    let mut law = Follow { spans, at, repair: repair.then(law), next: 0.0 };
    cell.outcome(&cell.run_law(&options, Some(&mut law)))
}
