//! ONNX files in the serving process: the signature, and the conversion of errors.

pub mod error;
pub mod signature;

pub use signature::KIND;
