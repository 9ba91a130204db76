//! Types that every other crate uses, and small helpers: tensors, errors, JSON of tensor data, the
//! clock, random numbers. Without burn and HTTP.

pub mod clock;
pub mod error;
pub mod escape;
pub mod json;
pub mod key_file;
pub mod random;
pub mod tensor;
