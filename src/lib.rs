//! Elastic model serving on every GPU in the box.
//!
//! One program serves burn models over HTTP on all adapters of a mixed-vendor workstation, turns
//! adapters on as concurrent requests rise, and turns them off completely as requests fall.
//! ARCHITECTURE.md describes the design. The parts are crates of their own, each in a folder of
//! `src`. This crate is the command line and the API for programs that serve custom models:
//!
//! ```no_run
//! use concertina::{LoadContext, Model, ModelError, Registry, Signature, Tensors};
//!
//! /// Returns its inputs as outputs. The `model.toml` contains `kind = "echo"` and the signature.
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
//! `examples/custom_model.rs` is an example with a burn module on the device of the adapter.

mod cli;

pub use cli::run;
pub use kinds::{LoadContext, Registry, convert};
pub use model::{Files, Generate, Generated, Model, ModelError, ModelInfo, Signature, TensorSpec};
pub use types::tensor::{Datatype, Tensor, TensorError, Tensors};
