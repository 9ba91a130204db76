//! The driver around the scheduler.

pub mod handle;

pub use handle::{EngineHandle, InferAnswer, InferCall, Mode};
