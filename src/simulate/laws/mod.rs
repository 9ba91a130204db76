//! Control laws of others: which adapters should be on. Each is written from its source, named in
//! its file, with its own constants and units; the simulator asks it and obeys.
//!
//! Laws count *replicas*; adapters are unequal. One replica stands for one *unit*: the rate of
//! the slowest adapter ([`Units`]). So many units are carried by the cheapest set of adapters
//! whose rates add up to them.
//!
//! [`Spec`] says which law with which parameters; parameters are [`Knobs`].

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

/// Clocks may count in nanoseconds, of which ticks are no multiple: so many seconds are none.
const ROUNDING: f64 = 1e-8;

/// Whether it is time.
fn is_due(now: f64, at: f64) -> bool {
    now + ROUNDING >= at
}

/// The next multiple of so many seconds.
fn next_multiple(now: f64, seconds: f64) -> f64 {
    (((now + ROUNDING) / seconds).floor() + 1.0) * seconds
}

/// What an adapter does, as a law may see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AdapterActivity {
    Off,
    /// Ready at this time.
    Starting {
        until: f64,
    },
    /// Since this time.
    Idle {
        since: f64,
    },
    Busy,
    /// Still runs its last batch, then goes off.
    Draining,
}

/// What a law may see. Times in seconds since the trace began.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    pub now: f64,
    pub machines: &'a [Machine],
    pub doing: &'a [AdapterActivity],
    /// Requests that wait.
    pub waiting: usize,
    /// Requests in running batches.
    pub running: usize,
    /// Requests that arrived so far.
    pub arrived: usize,
    /// Rows that wait and that no adapter which is on or starting can serve within the target.
    pub unmet: usize,
    /// Latency target, in seconds.
    pub slo: f64,
}

/// A control law.
pub trait Law {
    /// When it wants to be asked next although nothing happened; infinite if never.
    fn next(&self) -> f64;

    /// Looks at what is, after every event and at `next`, and says in `wanted` which adapters
    /// should be on; what it leaves alone stays as it last said. An adapter that is no longer
    /// wanted finishes its batch and goes off.
    fn decide(&mut self, sight: &Sight<'_>, wanted: &mut [bool]);
}
