//! Simulation of a request trace on a description of adapters, in virtual time, with the same
//! scheduler that the server runs.
//!
//! ```text
//! trace.rs ─┐                        ┌─ outcome.rs  attainment, latencies, energy, activations
//!           ├─► world.rs ─► meter.rs ┤
//! mix.rs  ──┘     ▲                  └─ plot.rs     demand against adapters
//!                 │ active adapters: the scheduler's own policy, or a rival law (laws/)
//! ```

pub mod bound;
mod calendar;
mod command;
mod fleet;
pub mod laws;
mod meter;
mod mix;
mod outcome;
mod plot;
mod recorded;
mod trace;
mod whatif;
mod world;

pub use command::{SimulateArgs, simulate as command};
pub use fleet::Machine;
pub use meter::{Doing, Meter};
pub use mix::{ANY_MODEL, AdapterInMix, Mix, ModelInMix, Times};
pub use outcome::{Outcome, Share};
pub use plot::plot;
pub use trace::{Trace, TraceRequest};
pub use whatif::{Case, Situation};
pub use world::{Options, RestartState, Run, Worst, simulate, simulate_restarts};
