//! Replicas, as laws count them, on unequal adapters: one replica is one *unit*, the rate of the
//! slowest adapter, and a number of units is carried by the cheapest set of adapters with rates
//! that add up to them.

use super::super::fleet::Machine;
use super::{AdapterActivity, Sight};

/// Largest number of units of a fleet: finer units are not distinguished.
const UNITS_MAX: f64 = 1024.0;
/// Limit of adapters, because all sets of them are examined; further adapters are never on.
const ADAPTERS_MAX: usize = 16;
/// Share of a unit that counts as rounding: sums of rates come from floats.
const ROUNDING: f64 = 1e-9;

/// Values of units, and the adapters that carry each number of them.
#[derive(Clone, Debug)]
pub struct Units {
    /// Rows per second of each adapter.
    rates: Vec<f64>,
    /// Rows per second of one unit.
    unit: f64,
    /// Latency target, in seconds.
    slo: f64,
    /// Bits of the adapters that carry 0, 1, 2... units.
    sets: Vec<u32>,
}

/// Returns the rows per second that each adapter can serve with batches no longer than the
/// deadline, in seconds; without a deadline if no adapter can meet it, because a late answer is
/// better than none.
pub fn rates(machines: &[Machine], deadline: f64) -> Vec<f64> {
    let by = |deadline: f64| machines.iter().map(|machine| machine.rate(deadline)).collect();
    let rates: Vec<f64> = by(deadline);
    if rates.iter().all(|rate| *rate <= 0.0) { by(f64::INFINITY) } else { rates }
}

impl Units {
    /// Computes the units of these machines at a latency target in seconds.
    pub fn new(machines: &[Machine], slo: f64) -> Units {
        Units::with_rates(machines, rates(machines, slo), slo)
    }

    /// Computes the units with given rates, in rows per second.
    pub fn with_rates(machines: &[Machine], rates: Vec<f64>, slo: f64) -> Units {
        let total: f64 = rates.iter().sum();
        let slowest =
            rates.iter().copied().filter(|rate| *rate > 0.0).fold(f64::INFINITY, f64::min);
        let unit = if slowest.is_finite() { slowest.max(total / UNITS_MAX) } else { 1.0 };
        let most = (total / unit + ROUNDING) as usize;
        let costs = SetCosts::new(machines, &rates);
        let sets = (0..=most).map(|units| costs.cheapest(units as f64 * unit)).collect();
        Units { rates, unit, slo, sets }
    }

    /// Units of all adapters together.
    pub fn most(&self) -> usize {
        self.sets.len().saturating_sub(1)
    }

    /// Rows per second of one unit.
    pub fn unit(&self) -> f64 {
        self.unit
    }

    /// Requests in flight that one unit carries when each takes half the target (Little).
    pub fn concurrency(&self) -> f64 {
        (self.unit * self.slo / 2.0).max(1e-6)
    }

    /// Returns the units that carry `rate` rows per second.
    pub fn needed(&self, rate: f64) -> usize {
        ((rate / self.unit - ROUNDING).ceil().max(0.0) as usize).min(self.most())
    }

    /// Returns bits of the adapters that carry `units`, or of all that serve if `units` is too
    /// large.
    pub fn set(&self, units: usize) -> u32 {
        self.sets.get(units.min(self.most())).copied().unwrap_or(0)
    }

    /// Rows per second of a set of adapters.
    pub fn rate_of(&self, set: u32) -> f64 {
        let rates = self.rates.iter().enumerate();
        rates.filter(|(at, _)| has(set, *at)).map(|(_, rate)| rate).sum()
    }

    /// Turns adapters on and off towards this set. Adapters that have left the set stay on until
    /// those that replace them are ready, because a law that adds a replica does not intend to lose
    /// another.
    pub fn settle(&self, set: u32, sight: &Sight<'_>, wanted: &mut [bool]) {
        let mut doing = sight.doing.iter().enumerate();
        let is_complete = doing.all(|(at, doing)| !has(set, at) || is_ready(doing));
        for (at, want) in wanted.iter_mut().enumerate() {
            if has(set, at) {
                *want = true;
            } else if is_complete {
                *want = false;
            }
        }
    }

    /// Returns the whole units of the adapters that are ready.
    fn ready(&self, doing: &[AdapterActivity]) -> usize {
        let ready = self.rates.iter().zip(doing).filter(|(_, doing)| is_ready(doing));
        (ready.map(|(rate, _)| rate).sum::<f64>() / self.unit + ROUNDING) as usize
    }
}

/// Returns whether a set includes this adapter.
pub fn has(set: u32, adapter: usize) -> bool {
    adapter < ADAPTERS_MAX && set >> adapter & 1 == 1
}

/// Returns whether an adapter accepts batches.
pub fn is_ready(doing: &AdapterActivity) -> bool {
    matches!(doing, AdapterActivity::Idle { .. } | AdapterActivity::Busy)
}

/// Power of sets of adapters, in watts.
struct SetCosts {
    /// Adapters that serve, by joules per row; each with its bit, joules per row and rows per
    /// second.
    by_row: Vec<(u32, f64, f64)>,
    /// Watts of idling, set and rows per second, of all sets, by watts.
    sets: Vec<(f64, u32, f64)>,
}

impl SetCosts {
    fn new(machines: &[Machine], rates: &[f64]) -> SetCosts {
        let serving = machines
            .iter()
            .zip(rates)
            .take(ADAPTERS_MAX)
            .enumerate()
            .filter(|(_, (_, rate))| **rate > 0.0);
        let serving: Vec<(u32, f64, f64, f64)> = serving
            .map(|(at, (machine, rate))| {
                (1 << at, (machine.active_w - machine.idle_w) / rate, *rate, machine.idle_w)
            })
            .collect();
        let mut sets = vec![(0.0, 0, 0.0)];
        for (bit, _, rate, idle_w) in &serving {
            let with =
                |(watts, set, sum): &(f64, u32, f64)| (watts + idle_w, set | bit, sum + rate);
            let more: Vec<(f64, u32, f64)> = sets.iter().map(with).collect();
            sets.extend(more);
        }
        sets.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut by_row: Vec<_> =
            serving.iter().map(|(bit, row, rate, _)| (*bit, *row, *rate)).collect();
        by_row.sort_by(|a, b| a.1.total_cmp(&b.1));
        SetCosts { by_row, sets }
    }

    /// Returns the set that carries `rate` rows per second with the least watts.
    fn cheapest(&self, rate: f64) -> u32 {
        // No set serves with fewer watts than all adapters together do.
        let least = self.serving(u32::MAX, rate);
        let mut best = (f64::INFINITY, 0);
        for (idle_w, set, sum) in &self.sets {
            // Sets are in the order of their idle watts: all further ones cost more.
            if idle_w + least >= best.0 {
                break;
            }
            if sum * (1.0 + ROUNDING) < rate {
                continue;
            }
            let watts = idle_w + self.serving(*set, rate);
            if watts < best.0 {
                best = (watts, *set);
            }
        }
        best.1
    }

    /// Returns the watts above idling if the adapters that need least per row get the rows first.
    fn serving(&self, set: u32, rate: f64) -> f64 {
        let (mut left, mut watts) = (rate, 0.0);
        for (bit, row, most) in &self.by_row {
            if set & bit != 0 {
                let rows = left.min(*most);
                left -= rows;
                watts += rows * row;
            }
        }
        watts
    }
}

/// The number of replicas that a law requested last, and the adapters that stand for it.
#[derive(Clone, Debug)]
pub struct Replicas {
    pub units: Units,
    target: usize,
}

impl Replicas {
    /// Starts with `initial` units.
    pub fn new(machines: &[Machine], slo: f64, initial: usize) -> Replicas {
        let units = Units::new(machines, slo);
        let target = initial.min(units.most());
        Replicas { units, target }
    }

    /// Returns the units that were requested last.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Requests this number of units.
    pub fn scale(&mut self, units: usize) {
        self.target = units.min(self.units.most());
    }

    /// Returns the ready units, up to the requested ones: the surplus of a large adapter does not
    /// count as replicas of the law.
    pub fn ready(&self, sight: &Sight<'_>) -> usize {
        self.units.ready(sight.doing).min(self.target)
    }

    /// Turns adapters on and off, as [`Units::settle`] does.
    pub fn settle(&self, sight: &Sight<'_>, wanted: &mut [bool]) {
        self.units.settle(self.units.set(self.target), sight, wanted);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Creates an adapter with this best rate in rows per second, which idles at `idle_w` watts.
    pub(in super::super) fn machine(rate: f64, idle_w: f64, active_w: f64) -> Machine {
        let beta = 1.0 / rate;
        let (alpha, start, start_w) = (0.0, 2.0, idle_w * 3.0);
        let name = format!("{rate}");
        Machine { name, alpha, beta, max_rows: 1, start, idle_w, active_w, start_w }
    }

    /// Units of 1, 4 and 12 rows per second.
    pub(in super::super) fn fleet() -> Vec<Machine> {
        vec![machine(1.0, 3.0, 40.0), machine(4.0, 30.0, 190.0), machine(12.0, 25.0, 350.0)]
    }

    pub(in super::super) fn sight<'a>(
        now: f64,
        machines: &'a [Machine],
        doing: &'a [AdapterActivity],
        in_flight: usize,
    ) -> Sight<'a> {
        let (waiting, running, arrived, unmet, slo) = (in_flight, 0, 0, 0, 2.0);
        Sight { now, machines, doing, waiting, running, arrived, unmet, slo }
    }

    #[test]
    fn units_are_carried_by_the_cheapest_set() {
        let units = Units::new(&fleet(), 2.0);
        assert_eq!((units.most(), units.unit(), units.concurrency()), (17, 1.0, 1.0));
        let sets: Vec<u32> = (0..=18).map(|n| units.set(n)).collect();
        // 2 to 12: the fast adapter idles at less than the middle one and needs 27 J for a row
        // where the middle one needs 40 J.
        let fast = [0b100; 11];
        assert_eq!(
            sets,
            [&[0, 0b001][..], &fast, &[0b101, 0b110, 0b110, 0b110, 0b111, 0b111]].concat()
        );
        assert_eq!([0.0, 0.5, 1.0, 1.1, 99.0].map(|rate| units.needed(rate)), [0, 1, 1, 2, 17]);
        assert_eq!(units.rate_of(0b101), 13.0);
    }

    #[test]
    fn the_cheapest_set_equals_that_of_brute_force() {
        let machines = [machine(1.0, 9.0, 20.0), machine(2.5, 4.0, 90.0), machine(3.1, 8.0, 50.0)];
        let units = Units::new(&machines, 1.0);
        let costs = SetCosts::new(&machines, &rates(&machines, 1.0));
        for n in 1..=units.most() {
            let rate = n as f64;
            let watts = |set: u32| {
                let idle = (0..3).filter(|at| has(set, *at)).map(|at| machines[at].idle_w);
                idle.sum::<f64>() + costs.serving(set, rate)
            };
            let carries = (1..8).filter(|set| units.rate_of(*set) >= rate);
            let least = carries.map(watts).fold(f64::INFINITY, f64::min);
            assert!((watts(units.set(n)) - least).abs() < 1e-9, "{n} units");
        }
    }

    #[test]
    fn machines_too_slow_for_the_target_carry_nothing_unless_all_are() {
        let machines = [machine(0.25, 1.0, 2.0), machine(2.0, 5.0, 9.0)];
        assert_eq!(Units::new(&machines, 1.0).set(1), 0b10);
        assert_eq!(Units::new(&machines, 0.1).set(1), 0b01);
        assert_eq!(Units::new(&[], 1.0).most(), 0);
    }

    #[test]
    fn a_replaced_adapter_stays_on_until_its_successor_is_ready() {
        let machines = fleet();
        let mut replicas = Replicas::new(&machines, 2.0, 1);
        let mut wanted = [false; 3];
        replicas.scale(5);
        let small =
            [AdapterActivity::Busy, AdapterActivity::Off, AdapterActivity::Starting { until: 3.0 }];
        wanted[0] = true;
        replicas.settle(&sight(1.0, &machines, &small, 1), &mut wanted);
        assert_eq!(wanted, [true, false, true]);
        assert_eq!(replicas.ready(&sight(1.0, &machines, &small, 1)), 1);
        let both =
            [AdapterActivity::Busy, AdapterActivity::Off, AdapterActivity::Idle { since: 3.0 }];
        replicas.settle(&sight(3.0, &machines, &both, 1), &mut wanted);
        assert_eq!(wanted, [false, false, true]);
        assert_eq!(replicas.ready(&sight(3.0, &machines, &both, 1)), 5);
    }
}
