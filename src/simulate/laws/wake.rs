//! What laws that turn adapters on by need and off by patience share (elastic.md, 4.5).

use super::{AdapterActivity, Sight, is_due, units};
use crate::fleet::Machine;

/// What waking an adapter brings and costs.
#[derive(Clone, Copy, Debug)]
struct Offer {
    /// Rows that it serves within the latency target.
    rows: f64,
    /// Joules of an activation and of each row.
    start: f64,
    row: f64,
    /// Whether even a request that arrives when it is woken comes too late.
    is_late: bool,
}

/// Turns adapters on by need, and off when they were idle for longer than someone's patience.
#[derive(Clone, Debug)]
pub(super) struct OnDemand {
    offers: Vec<Offer>,
    next: f64,
}

impl OnDemand {
    /// For these machines and a latency target in seconds.
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

    /// When patience next ends; infinite if nobody idles.
    pub(super) fn next(&self) -> f64 {
        self.next
    }

    /// Wakes and puts to sleep; `patience` tells for an adapter and since when it idles how many
    /// seconds of that it may.
    pub(super) fn decide(
        &mut self,
        sight: &Sight<'_>,
        wanted: &mut [bool],
        mut patience: impl FnMut(usize, f64) -> f64,
    ) {
        self.wake(sight, wanted);
        self.next = f64::INFINITY;
        if sight.waiting > 0 {
            return;
        }
        for (at, (doing, want)) in sight.doing.iter().zip(wanted).enumerate() {
            let AdapterActivity::Idle { since } = *doing else { continue };
            let end = since + patience(at, since);
            if is_due(sight.now, end) {
                *want = false;
            } else if *want {
                self.next = self.next.min(end);
            }
        }
    }

    /// The cheapest adapter that serves alone what nobody else can, else the fastest ones.
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

    /// Adapters that could be woken.
    fn asleep(&self, wanted: &[bool]) -> impl Iterator<Item = (usize, &Offer)> {
        let offers = self.offers.iter().zip(wanted).enumerate();
        offers.filter_map(|(at, (offer, want))| (!want && offer.rows > 0.0).then_some((at, offer)))
    }

    /// Rows of adapters that were woken and that nobody counts on yet. One that starts for longer
    /// than the target can help no request in time, so that those it was woken for stay unmet:
    /// without this, each event would wake another.
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
    fn wakes_the_cheapest_that_suffices_or_the_fastest() {
        let off = [AdapterActivity::Off; 3];
        let none = [false; 3];
        assert_eq!(woken(0, off, none), none);
        assert_eq!(woken(2, off, none), [true, false, false]);
        assert_eq!(woken(3, off, none), [false, false, true], "the middle one idles at more");
        assert_eq!(woken(25, off, none), [false, true, true]);
        assert_eq!(woken(999, off, none), [true; 3]);
    }

    #[test]
    fn counts_on_what_was_woken() {
        let starting =
            [AdapterActivity::Off, AdapterActivity::Off, AdapterActivity::Starting { until: 2.0 }];
        let fast = [false, false, true];
        assert_eq!(woken(24, starting, fast), fast, "2 s of start are late for all of them");
        assert_eq!(woken(26, starting, fast), [true, false, true]);
        let draining = [AdapterActivity::Off, AdapterActivity::Off, AdapterActivity::Draining];
        assert_eq!(woken(24, draining, fast), fast);
        let busy = [AdapterActivity::Off, AdapterActivity::Off, AdapterActivity::Busy];
        assert_eq!(woken(1, busy, fast), [true, false, true], "it has no time for this one");
    }
}
