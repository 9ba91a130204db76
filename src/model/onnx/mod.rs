//! ONNX files as the serving process needs them: the signature, and the cause that an error stands for.

pub mod error;
pub mod signature;

pub use signature::KIND;
