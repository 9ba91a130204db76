//! Costs of being on, starting and computing, for each objective.

use super::Objective;
use crate::fleet::Machine;

/// One machine's prices; joules or device-seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prices {
    /// Price of one activation.
    pub(super) start: f64,
    /// Price of an idle second on.
    pub(super) idle: f64,
    /// Price of a second spent computing.
    pub(super) active: f64,
}

impl Prices {
    pub(super) fn new(machine: &Machine, objective: Objective) -> Self {
        match objective {
            Objective::Energy => Prices {
                start: machine.start_joules().max(0.0),
                idle: machine.idle_w.max(0.0),
                active: machine.active_w.max(0.0),
            },
            Objective::DeviceSeconds => {
                Prices { start: machine.start.max(0.0), idle: 1.0, active: 1.0 }
            }
        }
    }

    /// Least price of a second on, for any activity, as the bound counts it with slots of `slot`
    /// seconds: two slots must not cost more than a start.
    pub(super) fn run(&self, slot: f64) -> f64 {
        self.idle.min(self.active).min(self.start / (2.0 * slot))
    }

    /// Price of a second of computing in addition to [`Prices::run`].
    pub(super) fn extra(&self, slot: f64) -> f64 {
        self.active - self.run(slot)
    }

    /// Price of a start less the repayment for slots that are only partly on: an interval of length
    /// L touches slots of less than L + 2 slots in all.
    pub(super) fn start_repaid(&self, slot: f64) -> f64 {
        (self.start - 2.0 * slot * self.run(slot)).max(0.0)
    }
}

/// Rows of the machine's full batches, smallest first: the powers of two below the largest batch,
/// and that batch.
pub(super) fn buckets(machine: &Machine) -> impl Iterator<Item = u32> {
    let most = machine.max_rows.max(1);
    let powers = std::iter::successors(Some(1_u32), |rows| rows.checked_mul(2));
    powers.take_while(move |rows| *rows < most).chain(std::iter::once(most))
}
