//! Elastic model serving on every GPU in the box.
//!
//! One program serves burn models over HTTP on whatever adapters a mixed-vendor workstation has,
//! turns adapters on as concurrent requests rise and truly off as they fall. ARCHITECTURE.md tells
//! how. The parts are crates of their own, each a folder of `src`; this crate is the command line,
//! and what a program needs that serves models of its own:
//!
//! ```no_run
//! use concertina::{LoadContext, Model, ModelError, Registry, Signature, Tensors};
//!
//! /// Gives its inputs back. `model.toml` of a model says `kind = "echo"`, and the signature.
//! struct Echo(Signature);
//!
//! impl Model for Echo {
//!     fn signature(&self) -> &Signature {
//!         &self.0
//!     }
//!
//!     fn forward(&mut self, inputs: &Tensors, _rows: usize) -> Result<Tensors, ModelError> {
//!         Ok(inputs.clone())
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let mut registry = Registry::builtin();
//!     registry.register("echo", |context: &LoadContext<'_>| {
//!         Ok(Box::new(Echo(context.info.signature.clone())))
//!     });
//!     concertina::run(registry)
//! }
//! ```
//!
//! `examples/custom_model.rs` is one with a burn module on the device of the adapter.

mod cli;

pub use cli::run;
pub use kinds::{LoadContext, Registry, convert};
pub use model::{Files, Generate, Generated, Model, ModelError, ModelInfo, Signature, TensorSpec};
pub use types::tensor::{Datatype, Tensor, TensorError, Tensors};
