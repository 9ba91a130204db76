//! Common part of the laws that turn adapters on by need and off after an idle timeout.

use super::{AdapterActivity, Sight, is_due, units};
use crate::fleet::Machine;

/// Benefit and cost of turning on an adapter.
#[derive(Clone, Copy, Debug)]
struct Offer {
    /// Rows that it serves within the latency target.
    rows: f64,
    /// Joules of an activation and of each row.
    start: f64,
    row: f64,
    /// Even a request that arrives when the adapter is turned on would be late.
    is_late: bool,
}

/// Turns adapters on by need, and off when they were idle for longer than a timeout.
#[derive(Clone, Debug)]
pub(super) struct OnDemand {
    offers: Vec<Offer>,
    next: f64,
}

impl OnDemand {
    /// Creates it for these machines and a latency target in seconds.
    pub(super) fn new(machines: &[Machine], slo: f64) -> OnDemand {
        let offer = |(machine, rate): (&Machine, f64)| Offer {
            rows: rate * slo,
            start: machine.start_joules(),
            row: machine.active_w / rate.max(1e-9),
            is_late: machine.start + machine.batch(1) > slo,
        };
        let offers = machines.iter().zip(units::rates(machines, slo)).map(offer).collect();
        OnDemand { offers, next: 0.0 }
    }

    /// Returns the end of the next idle timeout; infinite if no adapter is idle.
    pub(super) fn next(&self) -> f64 {
        self.next
    }

    /// Turns adapters on and off; `idle_timeout` returns the idle timeout in seconds of an adapter
    /// that has been idle since the given time.
    pub(super) fn decide(
        &mut self,
        sight: &Sight<'_>,
        wanted: &mut [bool],
        mut idle_timeout: impl FnMut(usize, f64) -> f64,
    ) {
        self.wake(sight, wanted);
        self.next = f64::INFINITY;
        if sight.waiting > 0 {
            return;
        }
        for (at, (doing, want)) in sight.doing.iter().zip(wanted).enumerate() {
            let AdapterActivity::Idle { since } = *doing else { continue };
            let end = since + idle_timeout(at, since);
            if is_due(sight.now, end) {
                *want = false;
            } else if *want {
                self.next = self.next.min(end);
            }
        }
    }

    /// Turns on the cheapest adapter that alone serves the unmet rows, or else the fastest ones.
    fn wake(&self, sight: &Sight<'_>, wanted: &mut [bool]) {
        let mut need = sight.unmet as f64 - self.coming(sight, wanted);
        if need <= 0.0 {
            return;
        }
        let cost = |offer: &Offer| offer.start + need * offer.row;
        let alone = self.asleep(wanted).filter(|(_, offer)| offer.rows >= need);
        if let Some((at, _)) = alone.min_by(|a, b| cost(a.1).total_cmp(&cost(b.1))) {
            return set(wanted, at);
        }
        while need > 0.0 {
            let fastest = self.asleep(wanted).max_by(|a, b| a.1.rows.total_cmp(&b.1.rows));
            let Some((at, offer)) = fastest else { return };
            set(wanted, at);
            need -= offer.rows;
        }
    }

    /// Adapters that could be turned on.
    fn asleep(&self, wanted: &[bool]) -> impl Iterator<Item = (usize, &Offer)> {
        let offers = self.offers.iter().zip(wanted).enumerate();
        offers.filter_map(|(at, (offer, want))| (!want && offer.rows > 0.0).then_some((at, offer)))
    }

    /// Returns the rows of adapters that were turned on and that `unmet` does not yet account for.
    /// An adapter with a start longer than the target can help no request in time, so the requests
    /// that it was turned on for stay unmet: without this, each event would turn on another.
    fn coming(&self, sight: &Sight<'_>, wanted: &[bool]) -> f64 {
        let woken = self.offers.iter().zip(sight.doing).zip(wanted).filter(|(_, want)| **want);
        let coming = woken.filter(|((offer, doing), _)| match doing {
            AdapterActivity::Off | AdapterActivity::Draining => true,
            AdapterActivity::Starting { .. } => offer.is_late,
            AdapterActivity::Idle { .. } | AdapterActivity::Busy => false,
        });
        coming.map(|((offer, _), _)| offer.rows).sum()
    }
}

fn set(wanted: &mut [bool], at: usize) {
    if let Some(want) = wanted.get_mut(at) {
        *want = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::units::tests::{fleet, sight};
    use super::*;

    /// Rows within 2 s: 2, 8 and 24.
    fn woken(unmet: usize, doing: [AdapterActivity; 3], mut wanted: [bool; 3]) -> [bool; 3] {
        let machines = fleet();
        let mut law = OnDemand::new(&machines, 2.0);
        let sight = Sight { unmet, ..sight(0.0, &machines, &doing, unmet) };
        law.decide(&sight, &mut wanted, |_, _| 1.0);
        wanted
    }

    #[test]
    fn turns_on_the_cheapest_that_suffices_or_the_fastest() {
        let off = [AdapterActivity::Off; 3];
        let none = [false; 3];
        assert_eq!(woken(0, off, none), none);
        assert_eq!(woken(2, off, none), [true, false, false]);
        assert_eq!(woken(3, off, none), [false, false, true], "the middle one idles at more");
        assert_eq!(woken(25, off, none), [false, true, true]);
        assert_eq!(woken(999, off, none), [true; 3]);
    }

    #[test]
    fn adapters_that_were_turned_on_count() {
        let starting =
            [AdapterActivity::Off, AdapterActivity::Off, AdapterActivity::Starting { until: 2.0 }];
        let fast = [false, false, true];
        assert_eq!(woken(24, starting, fast), fast, "2 s of start are late for all of them");
        assert_eq!(woken(26, starting, fast), [true, false, true]);
        let draining = [AdapterActivity::Off, AdapterActivity::Off, AdapterActivity::Draining];
        assert_eq!(woken(24, draining, fast), fast);
        let busy = [AdapterActivity::Off, AdapterActivity::Off, AdapterActivity::Busy];
        assert_eq!(
            woken(1, busy, fast),
            [true, false, true],
            "the busy one has no time for this request"
        );
    }
}
