//! Elastic model serving on every GPU in the box.

pub mod adapter;
pub mod api;
pub mod engine;
pub mod error;
pub mod model;
pub mod schedule;
pub mod telemetry;
pub mod tensor;
