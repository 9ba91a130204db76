//! Lazy capacity provisioning (Lin et al., "Dynamic right-sizing for power-proportional data
//! centers"): 3-competitive for equal servers. Here the servers are a prefix of the adapters,
//! ordered by joules per row.

use super::units::rates;
use super::{Knobs, Law, Sight, is_due, next_multiple};
use crate::fleet::Machine;

/// Parameters of the law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LcpParams {
    /// Seconds of a slot; 0 stands for the longest start.
    pub slot: f64,
    /// Cost of an activation, as a multiple of its energy.
    pub switch: f64,
}

impl Default for LcpParams {
    fn default() -> LcpParams {
        LcpParams { slot: 0.0, switch: 1.0 }
    }
}

impl Knobs for LcpParams {
    fn knobs(&mut self) -> Vec<(&'static str, &'static str, &mut f64)> {
        vec![("slot", "s", &mut self.slot), ("switch", "", &mut self.switch)]
    }
}

/// Parameters to choose from in hindsight.
pub fn grid() -> Vec<LcpParams> {
    let slots = [0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];
    let with = |slot: f64| [0.5, 1.0, 2.0, 5.0].map(|switch| LcpParams { slot, switch });
    slots.into_iter().flat_map(with).collect()
}

/// State in which a prefix of the ordered adapters is on.
#[derive(Clone, Copy, Debug, Default)]
struct AdapterPrefix {
    /// The last adapter of the prefix; `None` if the prefix is empty.
    adapter: Option<usize>,
    /// Rows per second of the last, and its joules per row beyond idling.
    rate: f64,
    row: f64,
    /// Watts of idling and joules of activating, of all adapters in the prefix.
    idle_w: f64,
    start: f64,
    /// Joules of the cheapest schedule that ends here: if activations have a cost, and if turning
    /// off has it instead; both less those of the cheapest of all.
    low: f64,
    high: f64,
}

/// The control law.
#[derive(Clone, Debug)]
pub struct Lcp {
    /// Seconds.
    slot: f64,
    /// Prefixes by length; the first is empty.
    prefixes: Vec<AdapterPrefix>,
    /// Next values of `low` and `high`.
    next: Vec<(f64, f64)>,
    on: usize,
    /// Arrivals until the slot began.
    arrived: usize,
    tick: f64,
}

impl Lcp {
    /// Creates the law for these machines and a latency target in seconds.
    pub fn new(params: LcpParams, machines: &[Machine], slo: f64) -> Lcp {
        let longest = machines.iter().map(|machine| machine.start).fold(0.1, f64::max);
        let slot = if params.slot > 0.0 { params.slot } else { longest };
        let prefixes = prefixes(machines, &rates(machines, slo), params.switch);
        let next = Vec::with_capacity(prefixes.len());
        Lcp { slot, prefixes, next, on: 0, arrived: 0, tick: 0.0 }
    }

    /// Ends a slot with a demand in rows per second. Returns whether that changed anything.
    fn step(&mut self, demand: f64) -> bool {
        let demand = demand.min(self.prefixes.iter().map(|prefix| prefix.rate).sum());
        let (mut left, mut watts) = (demand, 0.0);
        self.next.clear();
        for to in &self.prefixes {
            let rows = left.min(to.rate);
            (left, watts) = (left - rows, watts + rows * to.row);
            // Rates that add up to the demand may leave a rounding error of it.
            let is_short = left > 1e-9 * demand;
            let slot = if is_short { f64::INFINITY } else { (to.idle_w + watts) * self.slot };
            let from = self.prefixes.iter();
            let low = from.clone().map(|from| from.low + (to.start - from.start).max(0.0));
            let high = from.map(|from| from.high + (from.start - to.start).max(0.0));
            let least = |costs: &mut dyn Iterator<Item = f64>| costs.fold(f64::INFINITY, f64::min);
            self.next.push((slot + least(&mut { low }), slot + least(&mut { high })));
        }
        self.replace()
    }

    /// Applies the new costs and moves to the nearest length between the bounds.
    fn replace(&mut self) -> bool {
        let least =
            |(low, high): (f64, f64), next: &(f64, f64)| (low.min(next.0), high.min(next.1));
        let least = self.next.iter().fold((f64::INFINITY, f64::INFINITY), least);
        let (mut low, mut high, before) = (None, 0, self.on);
        let mut changed = false;
        for (at, (prefix, next)) in self.prefixes.iter_mut().zip(&self.next).enumerate() {
            let next = (next.0 - least.0, next.1 - least.1);
            changed |= differ(prefix.low, next.0) || differ(prefix.high, next.1);
            (prefix.low, prefix.high) = next;
            if !differ(next.0, 0.0) {
                low = low.or(Some(at));
            }
            if !differ(next.1, 0.0) {
                high = at;
            }
        }
        self.on = self.on.max(low.unwrap_or(0)).min(high);
        changed || self.on != before
    }
}

/// Returns whether costs differ by more than rounding.
fn differ(a: f64, b: f64) -> bool {
    a != b && (a - b).abs() > 1e-9 * (1.0 + a.abs().min(b.abs()))
}

fn prefixes(machines: &[Machine], rates: &[f64], switch: f64) -> Vec<AdapterPrefix> {
    let serving = machines.iter().zip(rates).enumerate().filter(|(_, (_, rate))| **rate > 0.0);
    let mut serving: Vec<(usize, &Machine, f64)> =
        serving.map(|(at, (machine, rate))| (at, machine, *rate)).collect();
    serving.sort_by(|a, b| (a.1.active_w / a.2).total_cmp(&(b.1.active_w / b.2)));
    let mut prefixes = vec![AdapterPrefix::default()];
    let (mut idle_w, mut start) = (0.0, 0.0);
    for (at, machine, rate) in serving {
        (idle_w, start) = (idle_w + machine.idle_w, start + machine.start_joules() * switch);
        let row = (machine.active_w - machine.idle_w) / rate;
        let (low, high) = (f64::INFINITY, f64::INFINITY);
        prefixes.push(AdapterPrefix { adapter: Some(at), rate, row, idle_w, start, low, high });
    }
    prefixes
}

impl Law for Lcp {
    fn next(&self) -> f64 {
        self.tick
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        let in_flight = sight.waiting + sight.running;
        let next = next_multiple(sight.now, self.slot);
        if !is_due(sight.now, self.tick) {
            // A request ends the sleep; the slot that it came in ends at the next tick.
            self.tick = if in_flight > 0 { self.tick.min(next) } else { self.tick };
            return;
        }
        let arrivals = sight.arrived.saturating_sub(self.arrived);
        self.arrived = sight.arrived;
        // Work that is left over from earlier slots needs an adapter that is on.
        let least = if in_flight > 0 { f64::MIN_POSITIVE } else { 0.0 };
        let changed = self.step((arrivals as f64 / self.slot).max(least));
        let asleep = !changed && self.on == 0 && in_flight == 0;
        self.tick = if asleep { f64::INFINITY } else { next };
        wanted.fill(false);
        for adapter in self.prefixes.iter().take(self.on + 1).filter_map(|prefix| prefix.adapter) {
            if let Some(want) = wanted.get_mut(adapter) {
                *want = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::AdapterActivity;
    use super::super::units::tests::{fleet, machine, sight};
    use super::*;

    #[test]
    fn one_server_is_ski_rental() {
        // Idles at 10 W; an activation takes 60 J: off after 6 slots of a second.
        let params = LcpParams { slot: 1.0, ..LcpParams::default() };
        let mut law = Lcp::new(params, &[machine(1.0, 10.0, 10.0)], 2.0);
        law.step(0.5);
        assert_eq!(law.on, 1);
        let slots = (1..).find(|_| {
            law.step(0.0);
            law.on == 0
        });
        assert!(matches!(slots, Some(6 | 7)), "{slots:?}");
    }

    #[test]
    fn demand_turns_adapters_on_in_order_and_pauses_turn_them_off() {
        let machines = fleet();
        let mut law = Lcp::new(LcpParams::default(), &machines, 2.0);
        assert_eq!(law.slot, 2.0);
        law.step(1.0);
        assert_eq!(law.on, 1);
        law.step(99.0);
        assert_eq!(law.on, 3);
        assert!((0..100).any(|_| !law.step(0.0)) && law.on == 0);
    }

    #[test]
    fn a_demand_equal_to_the_sum_of_all_rates_is_carried_by_all() {
        let machines = [0.1, 0.2, 0.3, 0.7].map(|rate| machine(rate, 1.0, 9.0));
        let mut law = Lcp::new(LcpParams::default(), &machines, 20.0);
        law.step(9.0);
        assert!(law.on == 4 && law.prefixes.iter().all(|prefix| prefix.low >= 0.0));
    }

    #[test]
    fn decides_by_the_previous_slot() {
        let (machines, mut wanted, off) = (fleet(), [false; 3], [AdapterActivity::Off; 3]);
        let mut law = Lcp::new(LcpParams::default(), &machines, 2.0);
        let mut see = |now, arrived, in_flight| {
            let sight = Sight { arrived, ..sight(now, &machines, &off, in_flight) };
            law.decide(&sight, &mut wanted);
            (law.next(), wanted)
        };
        assert_eq!(see(0.0, 0, 0).1, [false; 3]);
        while see(2.0, 0, 0).0 < 10.0 {}
        assert_eq!(see(1e4 + 1.0, 4, 4), (1e4 + 2.0, [false; 3]));
        assert_eq!(see(1e4 + 2.0, 4, 4).1, [false, false, true]);
    }
}
