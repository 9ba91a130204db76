//! The devices of adapters: listing in a separate process; opening, checking and timing of one
//! adapter. The serving process never runs this code.

pub mod check;
pub mod child;
mod kernel;
pub mod list;
pub mod open;
pub mod probe;
