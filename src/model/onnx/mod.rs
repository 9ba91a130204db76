//! What the serving process needs to know of an ONNX file: its signature, and whom its errors blame.

pub mod error;
pub mod signature;

pub use signature::KIND;
