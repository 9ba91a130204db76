//! Activity of adapters over time, and its cost.

use super::fleet::Machine;

/// Activity of an adapter, as far as it affects power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    #[default]
    Off,
    /// Starting, or loading a model.
    Starting,
    Idle,
    Busy,
}

/// Meter of one adapter.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    doing: Doing,
    since: f64,
    /// Seconds spent in each of [`Doing`], in its order.
    pub seconds: [f64; 4],
    /// Number of activations.
    pub starts: u64,
    /// Number of off periods so short that staying on would have cost less.
    pub flaps: u64,
    went_off: Option<f64>,
    /// All changes, if they are kept.
    pub changes: Option<Vec<(f64, Doing)>>,
}

impl Meter {
    /// A meter of an adapter that is off at time 0.
    pub fn new(keep_changes: bool) -> Meter {
        Meter { changes: keep_changes.then(|| vec![(0.0, Doing::Off)]), ..Meter::default() }
    }

    /// Records that the adapter has this activity from now on.
    pub fn set(&mut self, now: f64, doing: Doing, machine: &Machine) {
        if doing == self.doing {
            return;
        }
        self.settle(now);
        if self.doing == Doing::Off {
            self.starts += 1;
            let slept = self.went_off.map_or(f64::INFINITY, |off| now - off);
            self.flaps += u64::from(slept < machine.break_even());
        }
        if doing == Doing::Off {
            self.went_off = Some(now);
        }
        self.doing = doing;
        if let Some(changes) = &mut self.changes {
            changes.push((now, doing));
        }
    }

    /// Counts the time up to now.
    pub fn settle(&mut self, now: f64) {
        if let Some(seconds) = self.seconds.get_mut(self.doing as usize) {
            *seconds += now - self.since;
        }
        self.since = now;
    }

    pub fn doing(&self) -> Doing {
        self.doing
    }

    /// Seconds that the adapter was not off.
    pub fn on_seconds(&self) -> f64 {
        let [_, starting, idle, busy] = self.seconds;
        starting + idle + busy
    }

    /// Joules above those of the adapter when it is off.
    pub fn joules(&self, machine: &Machine) -> f64 {
        let [_, starting, idle, busy] = self.seconds;
        starting * machine.start_w + idle * machine.idle_w + busy * machine.active_w
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_conserved_and_costs() {
        let machine = Machine {
            name: String::new(),
            alpha: 1.0,
            beta: 0.0,
            max_rows: 1,
            start: 2.0,
            idle_w: 10.0,
            active_w: 100.0,
            start_w: 50.0,
        };
        let mut meter = Meter::new(true);
        let doings =
            [(1.0, Doing::Starting), (3.0, Doing::Busy), (4.0, Doing::Idle), (6.0, Doing::Off)];
        for (at, doing) in doings.into_iter().chain([(10.0, Doing::Starting), (30.0, Doing::Off)]) {
            meter.set(at, doing, &machine);
        }
        meter.set(50.0, Doing::Starting, &machine);
        meter.settle(50.0);
        assert_eq!(meter.seconds, [1.0 + 4.0 + 20.0, 2.0 + 20.0, 2.0, 1.0]);
        assert_eq!((meter.on_seconds(), meter.joules(&machine)), (25.0, 1100.0 + 20.0 + 100.0));
        // Break-even is 10 s: 4 s off were too short, 20 s were not.
        assert_eq!((meter.starts, meter.flaps), (3, 1));
        assert_eq!(meter.changes.unwrap().len(), 8);
    }
}
