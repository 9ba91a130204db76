//! Nexus (uwsampl/nexus, `src/nexus/scheduler`): batches that fill half the target, and a plan for
//! an epoch that is replaced early if the rate leaves its bounds.

use super::units::Units;
use super::{Knobs, Law, Sight, is_due, next_multiple};
use crate::fleet::Machine;

/// Seconds between beacons.
const BEACON: f64 = 1.0;
/// Shares of the throughput of a plan beyond which it is replaced early.
const EARLY: (f64, f64) = (0.8, 1.1);

/// Constants of the law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NexusParams {
    /// Seconds of an epoch, and of the shortest one.
    pub epoch: f64,
    pub early: f64,
    /// Seconds that the rate is averaged over.
    pub average: f64,
    /// Share of its throughput below which a plan releases adapters.
    pub release: f64,
    /// Share of its throughput above which a plan adds adapters.
    pub spill: f64,
}

impl Default for NexusParams {
    fn default() -> NexusParams {
        NexusParams { epoch: 30.0, early: 10.0, average: 10.0, release: 0.97, spill: 1.05 }
    }
}

impl Knobs for NexusParams {
    fn knobs(&mut self) -> Vec<(&'static str, &'static str, &mut f64)> {
        vec![
            ("epoch", "s", &mut self.epoch),
            ("early", "s", &mut self.early),
            ("average", "s", &mut self.average),
            ("release", "", &mut self.release),
            ("spill", "", &mut self.spill),
        ]
    }
}

/// Parameters to choose from in hindsight.
pub fn grid() -> Vec<NexusParams> {
    let mut grid = Vec::new();
    for (epoch, early) in [(5.0, 2.0), (10.0, 5.0), (30.0, 10.0), (60.0, 10.0)] {
        for average in [2.0, 5.0, 10.0, 30.0] {
            for release in [0.5, 0.97] {
                grid.push(NexusParams { epoch, early, average, release, ..NexusParams::default() });
            }
        }
    }
    grid
}

/// Batches of an adapter under a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Serving {
    /// Rows of a batch.
    pub rows: u32,
    /// Seconds from one batch to the next.
    pub duty: f64,
    /// Rows per second.
    pub rate: f64,
}

/// Returns the batches at full load: the largest batch that fits twice into the target, in seconds,
/// since a request may arrive when one has just begun. An adapter without such a batch takes rows
/// one by one.
pub fn saturated(machine: &Machine, slo: f64) -> Serving {
    let half = machine.rows_within(slo / 2.0);
    let rows = if half == 0 { machine.rows_within(slo).min(1) } else { half };
    let duty = machine.batch(rows);
    Serving { rows, duty, rate: f64::from(rows) / duty }
}

/// Returns the batches at a load of `rate` rows per second, less than [`saturated`]: the largest
/// batch that still leaves its first row in time after the last has arrived. `None` if batches
/// would overlap.
pub fn residual(machine: &Machine, rate: f64, slo: f64) -> Option<Serving> {
    let gathered = |rows: u32| f64::from(rows.saturating_sub(1)) / rate.max(1e-12);
    let fits = |rows: &u32| gathered(*rows) + machine.batch(*rows) <= slo;
    let rows = (1..=machine.max_rows).take_while(fits).last()?;
    let duty = (slo - machine.batch(rows)).min(f64::from(rows) / rate.max(1e-12));
    (machine.batch(rows) <= duty).then_some(Serving { rows, duty, rate })
}

/// The control law.
#[derive(Clone, Debug)]
pub struct Nexus {
    params: NexusParams,
    units: Units,
    /// Bits of the adapters in the plan.
    plan: u32,
    /// Requests per second, averaged, and arrivals until the last beacon.
    rate: f64,
    arrived: usize,
    epoch: f64,
    tick: f64,
}

impl Nexus {
    /// Creates the law for these machines and a latency target in seconds.
    pub fn new(params: NexusParams, machines: &[Machine], slo: f64) -> Nexus {
        let rates = machines.iter().map(|machine| saturated(machine, slo).rate).collect();
        let units = Units::with_rates(machines, rates, slo);
        let plan = units.set(1);
        Nexus { params, units, plan, rate: 0.0, arrived: 0, epoch: 0.0, tick: 0.0 }
    }

    /// Handles one beacon, `since` the last epoch began; replaces a plan that is due.
    fn beacon(&mut self, rate: f64, since: f64) -> bool {
        let weight = 1.0 - (-BEACON / self.params.average.max(1e-3)).exp();
        self.rate += weight * (rate - self.rate);
        let load = self.rate / self.units.rate_of(self.plan).max(1e-12);
        let is_early = since >= self.params.early && (load < EARLY.0 || load > EARLY.1);
        let is_due = since >= self.params.epoch || is_early;
        if is_due && (load < self.params.release || load > self.params.spill) {
            self.plan = self.units.set(self.units.needed(self.rate).max(1));
        }
        is_due
    }
}

impl Law for Nexus {
    fn next(&self) -> f64 {
        self.tick
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        if is_due(sight.now, self.tick) {
            let rate = sight.arrived.saturating_sub(self.arrived) as f64 / BEACON;
            self.arrived = sight.arrived;
            self.tick = next_multiple(sight.now, BEACON);
            if self.beacon(rate, sight.now - self.epoch) {
                self.epoch = sight.now;
            }
        }
        self.units.settle(self.plan, sight, wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::super::units::tests::fleet;
    use super::*;

    fn batching(alpha: f64) -> Machine {
        let [machine, ..] = &fleet()[..] else { panic!("a fleet") };
        Machine { alpha, beta: 0.01, max_rows: 64, ..machine.clone() }
    }

    #[test]
    fn batches_fill_half_the_target() {
        // 0.1 + 0.01 * 32 = 0.42 s fits twice into 1 s, 0.74 s does not.
        let serving = saturated(&batching(0.1), 1.0);
        assert_eq!((serving.rows, serving.rate), (32, 32.0 / 0.42));
        assert_eq!(saturated(&batching(0.6), 1.0).rows, 1);
        assert_eq!(saturated(&batching(2.0), 1.0).rate, 0.0);
    }

    #[test]
    fn a_residual_batch_gathers_for_as_long_as_its_first_row_may_wait() {
        // At 10 rows per second: (8 - 1) / 10 + 0.18 = 0.88 s; nine take 0.8 + 0.26 = 1.06 s.
        let serving = residual(&batching(0.1), 10.0, 1.0);
        let Some(Serving { rows, duty, .. }) = serving else { panic!("the rest has a serving") };
        assert_eq!(rows, 8);
        assert!((duty - 0.8).abs() < 1e-9, "{duty}");
        assert_eq!(residual(&batching(0.6), 1.0, 1.0), None, "0.61 s in every 0.39 s");
    }

    #[test]
    fn plans_last_for_an_epoch_unless_the_rate_leaves_their_bounds() {
        let mut law =
            Nexus::new(NexusParams { average: 1e-3, ..NexusParams::default() }, &fleet(), 2.0);
        law.plan = law.units.set(12);
        let throughput = law.units.rate_of(law.plan);
        assert_eq!(throughput, 12.0);
        assert!(!law.beacon(1.04 * throughput, 29.0));
        assert!(law.beacon(1.04 * throughput, 30.0) && law.plan == 0b100, "within the spill");
        assert!(!law.beacon(1.2 * throughput, 9.0));
        assert!(law.beacon(1.2 * throughput, 10.0) && law.plan == 0b110);
        assert!(law.beacon(0.5, 10.0) && law.plan == 0b001);
    }
}
