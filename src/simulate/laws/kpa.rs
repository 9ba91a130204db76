//! Knative's pod autoscaler (knative/serving, `pkg/autoscaler/scaling/autoscaler.go`,
//! `pkg/autoscaler/aggregation/bucketing.go`, `pkg/reconciler/autoscaling/kpa/scaler.go`).

use super::meter::{LevelMeter, RecentValues};
use super::units::{Replicas, is_ready};
use super::{Knobs, Law, Sight, is_due, next_multiple};
use crate::fleet::Machine;

/// Seconds between evaluations.
const TICK: f64 = 2.0;
/// The smallest concurrency target of a pod.
const TARGET_MIN: f64 = 0.01;
/// Weight of the scrapes in a window (all but a ten-thousandth), and the least weight of the
/// newest.
const WEIGHTS: (f64, f64) = (0.9999, 0.2);

/// Parameters that Knative exposes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KpaParams {
    /// Seconds of the stable window.
    pub stable: f64,
    /// Panic window, in percent of the stable one.
    pub panic: f64,
    /// Desired pods, in percent of the ready ones, at which panic mode begins.
    pub threshold: f64,
    /// Target share of a unit's concurrency.
    pub utilisation: f64,
    /// Largest factor by which units increase at once.
    pub up: f64,
    /// Largest divisor by which units decrease at once.
    pub down: f64,
    /// Seconds that the last pod stays after it was marked inactive.
    pub grace: f64,
    /// Minimum of the same time, by the revision.
    pub retention: f64,
    /// Seconds that a lower number must last.
    pub delay: f64,
    /// Units that are always kept.
    pub least: f64,
    /// 1 weighs averages exponentially, 0 linearly.
    pub weighted: f64,
}

impl Default for KpaParams {
    fn default() -> KpaParams {
        KpaParams {
            stable: 60.0,
            panic: 10.0,
            threshold: 200.0,
            utilisation: 0.7,
            up: 1000.0,
            down: 2.0,
            grace: 30.0,
            retention: 0.0,
            delay: 0.0,
            least: 0.0,
            weighted: 0.0,
        }
    }
}

impl Knobs for KpaParams {
    fn knobs(&mut self) -> Vec<(&'static str, &'static str, &mut f64)> {
        vec![
            ("stable", "s", &mut self.stable),
            ("panic", "%", &mut self.panic),
            ("threshold", "%", &mut self.threshold),
            ("utilisation", "", &mut self.utilisation),
            ("up", "", &mut self.up),
            ("down", "", &mut self.down),
            ("grace", "s", &mut self.grace),
            ("retention", "s", &mut self.retention),
            ("delay", "s", &mut self.delay),
            ("least", "", &mut self.least),
            ("weighted", "", &mut self.weighted),
        ]
    }
}

/// Parameters to choose from in hindsight.
pub fn grid() -> Vec<KpaParams> {
    let mut grid = Vec::new();
    for stable in [6.0, 15.0, 30.0, 60.0] {
        for utilisation in [0.35, 0.7, 1.0, 1.5] {
            for (grace, least) in [(0.0, 0.0), (30.0, 0.0), (0.0, 1.0)] {
                grid.push(KpaParams { stable, utilisation, grace, least, ..KpaParams::default() });
            }
        }
    }
    grid
}

/// Whole seconds in which concurrency was reported: not while there are neither pods nor requests.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reported {
    first: u64,
    last: u64,
}

/// Concurrency in buckets of a second.
#[derive(Clone, Debug)]
struct Metric {
    meter: LevelMeter,
    reported: Option<Reported>,
    reporting: bool,
    /// Seconds of the stable window.
    window: u64,
    weighted: bool,
}

impl Metric {
    fn observe(&mut self, now: f64, level: f64, pods: bool) {
        let second = now.max(0.0) as u64;
        let was = std::mem::replace(&mut self.reporting, pods || level > 0.0);
        self.meter.observe(now, level);
        if !was && !self.reporting {
            return;
        }
        let goes_on = |seen: &Reported| was || second - seen.last < self.window;
        // After a window without reports the average begins anew.
        let first = self.reported.filter(goes_on).map_or(second, |seen| seen.first);
        self.reported = Some(Reported { first, last: second });
    }

    /// Returns the mean concurrency in the whole seconds before this one, of those in the window.
    fn average(&self, second: u64, window: u64) -> f64 {
        let (Some(seen), Some(newest)) = (self.reported, second.checked_sub(1)) else { return 0.0 };
        let last = seen.last.min(newest);
        let (age, oldest) = (newest - last, (newest + 1).saturating_sub(window));
        if age >= window || seen.first > last {
            return 0.0;
        }
        if self.weighted {
            let values = (oldest..=newest).rev().map(|at| self.meter.bucket(at));
            return weighted(values, weight_of_newest(window));
        }
        let sum: f64 = (oldest..=last).map(|at| self.meter.bucket(at)).sum();
        sum / (last - seen.first + 1).min(window - age) as f64
    }
}

/// Weighs values, newest first, each by `1 - newest` times the weight of the one before.
fn weighted(values: impl Iterator<Item = f64>, newest: f64) -> f64 {
    let weigh = |(sum, weight): (f64, f64), value| (sum + value * weight, weight * (1.0 - newest));
    values.fold((0.0, newest), weigh).0
}

fn weight_of_newest(buckets: u64) -> f64 {
    let (all, least) = WEIGHTS;
    (1.0 - (1.0 - all).powf(1.0 / buckets.max(1) as f64)).max(least)
}

/// Input of an evaluation.
#[derive(Clone, Copy, Debug)]
struct KpaInputs {
    now: f64,
    /// Pods that are ready.
    ready: usize,
    /// Pods that were requested last.
    target: usize,
    /// Mean concurrency in the stable and in the panic window.
    stable: f64,
    panic: f64,
}

/// Decides the number of pods, and when to panic.
#[derive(Clone, Debug)]
struct Scaler {
    params: KpaParams,
    /// Target concurrency of one pod.
    concurrency: f64,
    panicking: Option<f64>,
    most_in_panic: usize,
    delayed: RecentValues,
}

impl Scaler {
    fn new(params: KpaParams, concurrency: f64) -> Scaler {
        let kept = (params.delay / TICK).ceil().max(0.0) as usize + 1;
        let concurrency = concurrency.max(TARGET_MIN);
        let (panicking, most_in_panic) = (None, 0);
        Scaler { params, concurrency, panicking, most_in_panic, delayed: RecentValues::new(kept) }
    }

    fn desired(&mut self, seen: KpaInputs) -> usize {
        // Rates apply to the number that was requested last: one large adapter may be more units
        // than that, and by halving those it would never turn off.
        let from = seen.target.max(1) as f64;
        let up = (self.params.up * from - 1e-9).ceil();
        let down = (from / self.params.down).floor();
        let pods = |average: f64| (average / self.concurrency - 1e-9).ceil();
        let within = |pods: f64| pods.max(down).min(up) as usize;
        let (stable, panic) = (pods(seen.stable), pods(seen.panic));
        self.alarm(seen.now, panic / seen.ready.max(1) as f64);
        let mut desired = within(stable);
        if self.panicking.is_some() {
            self.most_in_panic = self.most_in_panic.max(desired).max(within(panic));
            desired = self.most_in_panic;
        }
        self.delayed.push(desired);
        let kept = self.delayed.newest(usize::MAX).max().unwrap_or(desired);
        kept.max(self.params.least as usize)
    }

    /// Begins, continues or ends panic mode.
    fn alarm(&mut self, now: f64, ratio: f64) {
        if ratio >= self.params.threshold / 100.0 {
            self.panicking = Some(now);
        } else if self.panicking.is_some_and(|since| since + self.params.stable < now) {
            (self.panicking, self.most_in_panic) = (None, 0);
        }
    }
}

/// State that decides whether the last pod may be removed.
#[derive(Clone, Copy, Debug)]
enum Life {
    Active { since: f64 },
    Inactive { since: f64 },
}

/// The control law.
#[derive(Clone, Debug)]
pub struct Kpa {
    replicas: Replicas,
    metric: Metric,
    scaler: Scaler,
    life: Life,
    /// Seconds of the panic window.
    panic: u64,
    tick: f64,
}

impl Kpa {
    /// Creates the law for these machines and a latency target in seconds.
    pub fn new(params: KpaParams, machines: &[Machine], slo: f64) -> Kpa {
        let replicas = Replicas::new(machines, slo, 1);
        let window = params.stable.round().max(1.0);
        let panic = (params.stable * params.panic / 100.0).round().max(1.0) as u64;
        let metric = Metric {
            meter: LevelMeter::new(1.0, window),
            reported: None,
            reporting: false,
            window: window as u64,
            weighted: params.weighted > 0.0,
        };
        let scaler = Scaler::new(params, replicas.units.concurrency() * params.utilisation);
        let life = Life::Active { since: 0.0 };
        Kpa { replicas, metric, scaler, life, panic, tick: 0.0 }
    }

    /// Evaluates; a request that ended the sleep counts as one in flight.
    fn evaluate(&mut self, sight: &Sight<'_>, is_woken: bool) {
        let second = sight.now.max(0.0) as u64;
        let least = if is_woken { 1.0 } else { 0.0 };
        let desired = self.scaler.desired(KpaInputs {
            now: sight.now,
            ready: self.replicas.ready(sight),
            target: self.replicas.target(),
            stable: self.metric.average(second, self.metric.window).max(least),
            panic: self.metric.average(second, self.panic).max(least),
        });
        let units = self.last_pod(sight.now, desired);
        self.replicas.scale(units);
    }

    /// Keeps the last pod until the revision was active for a stable window, and through the grace
    /// period.
    fn last_pod(&mut self, now: f64, desired: usize) -> usize {
        let params = self.scaler.params;
        match self.life {
            Life::Inactive { .. } if desired > 0 => self.life = Life::Active { since: now },
            _ if desired > 0 || self.replicas.target() == 0 => {}
            Life::Active { since } if now - since >= params.stable => {
                self.life = Life::Inactive { since: now };
                return if params.grace.max(params.retention) > 0.0 { 1 } else { 0 };
            }
            Life::Inactive { since } if now - since >= params.grace.max(params.retention) => {}
            _ => return 1,
        }
        desired
    }
}

impl Law for Kpa {
    fn next(&self) -> f64 {
        self.tick
    }

    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]) {
        let in_flight = sight.waiting + sight.running;
        let pods = sight.doing.iter().any(is_ready);
        self.metric.observe(sight.now, in_flight as f64, pods);
        let is_woken = self.replicas.target() == 0 && in_flight > 0;
        if is_woken || is_due(sight.now, self.tick) {
            self.evaluate(sight, is_woken);
            self.tick = next_multiple(sight.now, TICK);
        }
        if self.replicas.target() == 0 && in_flight == 0 {
            self.tick = f64::INFINITY;
        }
        self.replicas.settle(sight, wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::super::AdapterActivity;
    use super::super::units::tests::{fleet, sight};
    use super::*;

    fn seen(now: f64, ready: usize, stable: f64, panic: f64) -> KpaInputs {
        KpaInputs { now, ready, target: ready, stable, panic }
    }

    #[test]
    fn increases_are_limited_by_a_factor() {
        let params = KpaParams { up: 1.1, ..KpaParams::default() };
        // Upstream's vector: 2 ready, concurrency 3, target 1, rate 1.1 make 3 pods.
        assert_eq!(Scaler::new(params, 1.0).desired(seen(0.0, 2, 3.0, 3.0)), 3);
        assert_eq!(Scaler::new(params, 1.0).desired(seen(0.0, 2, 30.0, 30.0)), 3);
    }

    #[test]
    fn decreases_are_limited_by_a_factor() {
        let mut scaler = Scaler::new(KpaParams::default(), 1.0);
        assert_eq!([9, 4, 2, 1].map(|n| scaler.desired(seen(0.0, n, 0.0, 0.0))), [4, 2, 1, 0]);
    }

    #[test]
    fn panic_never_shrinks_and_ends_after_a_window() {
        let mut scaler = Scaler::new(KpaParams::default(), 1.0);
        assert_eq!(
            scaler.desired(seen(0.0, 2, 1.0, 3.9)),
            4,
            "3.9 need 4 pods, twice the ready ones"
        );
        assert_eq!(scaler.desired(seen(2.0, 4, 1.0, 1.0)), 4);
        assert_eq!(scaler.desired(seen(60.0, 4, 1.0, 1.0)), 4, "the window is not over");
        assert_eq!(scaler.desired(seen(62.0, 4, 1.0, 1.0)), 2);
    }

    #[test]
    fn a_lower_number_must_last() {
        let mut scaler = Scaler::new(KpaParams { delay: 4.0, ..KpaParams::default() }, 1.0);
        let mut at = |now, n| scaler.desired(seen(now, 5, n, n));
        assert_eq!([at(0.0, 5.0), at(2.0, 3.0), at(4.0, 3.0), at(6.0, 3.0)], [5, 5, 5, 3]);
    }

    #[test]
    fn weighted_buckets_equal_those_of_upstream() {
        let newest_first = [5.0, 5.0, 10.0, 10.0].into_iter();
        assert!((weighted(newest_first, 0.6) - 5.544).abs() < 1e-9);
        assert_eq!(weight_of_newest(60), 0.2);
    }

    #[test]
    fn averages_begin_with_the_first_report() {
        let law = Kpa::new(KpaParams::default(), &fleet(), 2.0);
        let mut metric = law.metric;
        metric.observe(100.0, 4.0, false);
        metric.observe(102.0, 0.0, true);
        assert_eq!([metric.average(102, 60), metric.average(102, 6)], [4.0, 4.0]);
        metric.observe(108.0, 0.0, true);
        assert_eq!([metric.average(108, 60), metric.average(108, 6)], [1.0, 0.0]);
        metric.observe(110.0, 0.0, false);
        metric.observe(500.0, 3.0, false);
        metric.observe(501.0, 3.0, true);
        assert_eq!(metric.average(501, 60), 3.0);
    }

    #[test]
    fn sleeps_at_zero_until_a_request_arrives() {
        let (machines, mut wanted) = (fleet(), [false; 3]);
        let mut law = Kpa::new(KpaParams::default(), &machines, 2.0);
        let on = [AdapterActivity::Idle { since: 0.0 }, AdapterActivity::Off, AdapterActivity::Off];
        let mut off_at = f64::NAN;
        while law.next().is_finite() {
            off_at = law.next();
            law.decide(&sight(off_at, &machines, &on, 0), &mut wanted);
        }
        assert_eq!((off_at, wanted), (90.0, [false; 3]), "60 s active and 30 s of grace");
        law.decide(&sight(777.5, &machines, &[AdapterActivity::Off; 3], 1), &mut wanted);
        assert_eq!((law.next(), law.replicas.target()), (778.0, 2), "1 / 0.7 pods, at once");
    }
}
