//! Rival control laws, which decide which adapters should be on. Each one is implemented from its
//! source, which its file names, with the original constants and units; the simulator queries it
//! and applies its decisions.
//!
//! Laws count *replicas*; adapters are unequal. One replica stands for one *unit*: the rate of the
//! slowest adapter ([`Units`]). A number of units is carried by the cheapest set of adapters with
//! rates that add up to them.
//!
//! [`Spec`] is a law with its parameters; parameters are [`Knobs`].

pub mod fixed;
pub mod hpa;
pub mod idle;
pub mod infaas;
pub mod keda;
mod knobs;
pub mod kpa;
pub mod lcp;
pub mod mark;
mod meter;
pub mod nexus;
pub mod ray;
pub mod ski;
mod spec;
pub mod units;
mod wake;

pub use knobs::Knobs;
pub use spec::{Family, Spec};
pub use units::Units;

use super::fleet::Machine;

/// Tolerance in seconds: clocks may count in nanoseconds, and ticks are not always multiples of
/// them.
const ROUNDING: f64 = 1e-8;

/// Returns whether `at` has been reached.
fn is_due(now: f64, at: f64) -> bool {
    now + ROUNDING >= at
}

/// Returns the next multiple of `seconds`.
fn next_multiple(now: f64, seconds: f64) -> f64 {
    (((now + ROUNDING) / seconds).floor() + 1.0) * seconds
}

/// Activity of an adapter, as laws see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AdapterActivity {
    Off,
    /// Ready at this time.
    Starting {
        until: f64,
    },
    /// Idle since this time.
    Idle {
        since: f64,
    },
    Busy,
    /// Still runs its last batch, then turns off.
    Draining,
}

/// Input of a law. Times are in seconds since the trace began.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    pub now: f64,
    pub machines: &'a [Machine],
    pub doing: &'a [AdapterActivity],
    /// Requests that wait.
    pub waiting: usize,
    /// Requests in running batches.
    pub running: usize,
    /// Requests that have arrived so far.
    pub arrived: usize,
    /// Rows that wait and that no adapter which is on or starting can serve within the target.
    pub unmet: usize,
    /// Latency target, in seconds.
    pub slo: f64,
}

/// A control law.
pub trait Law {
    /// Time of the next evaluation that the law needs even without an event; infinite if there is
    /// none.
    fn next(&self) -> f64;

    /// Evaluates the law after every event and at `next`, and sets in `wanted` which adapters
    /// should be on; an unchanged entry keeps the previous decision. An adapter outside `wanted`
    /// finishes its batch and turns off.
    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]);
}
