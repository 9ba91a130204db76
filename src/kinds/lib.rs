//! The built-in kinds of models, and the registry that custom kinds are added to.

mod context;
pub mod convert;
pub mod digits;
#[doc(hidden)]
pub mod hostile;
pub mod normalise;
pub mod onnx;
mod registry;

pub use context::LoadContext;
pub use registry::Registry;
