//! Elastic model serving on every GPU in the box.
//!
//! One program serves burn models over HTTP on whatever adapters a mixed-vendor workstation has,
//! turns adapters on as concurrent requests rise and truly off as they fall. ARCHITECTURE.md tells
//! how. This crate is the command line, and the way to a program with models of your own; the
//! parts are crates of their own, each a folder of `src`:
//!
//! * [`config`]: arguments, environment and file become one checked `Config`
//! * [`server`]: HTTP; parses, asks the engine, renders
//! * [`engine`]: drives workers and requests; everything impure about scheduling
//! * [`schedule`]: decides which adapters are on and what runs where; pure
//! * [`wire`]: what server and worker send to each other
//! * [`worker`]: the process that holds one device
//! * [`model`]: the repository and the `Model` trait; [`kinds`]: the models that come with the program
//! * [`graph`]: an ONNX file as a graph; [`onnx`]: runs it
//! * [`adapter`]: what adapters there are; [`device`]: lists, opens, checks and times them
//! * [`telemetry`]: what the server reports about itself
//! * [`simulate`]: the scheduler and its rivals on recorded requests
//! * [`top`]: a running server in a terminal
//! * [`types`]: data and errors that travel between them

mod cli;

pub use cli::run;
pub use kinds::convert;
pub use kinds::{LoadContext, Registry};
pub use model::{Files, Generate, Generated, Model, ModelError, ModelInfo, Signature, TensorSpec};
pub use types::tensor::{Datatype, Tensor, TensorError, Tensors};
