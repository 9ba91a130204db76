//! Elastic model serving on every GPU in the box.
//!
//! One program serves burn models over HTTP on whatever adapters a mixed-vendor workstation has,
//! turns adapters on as concurrent requests rise and truly off as they fall. ARCHITECTURE.md tells
//! how; the rooms are:
//!
//! * [`config`]: arguments, environment and file become one checked `Config`
//! * [`api`]: HTTP; parses, asks the engine, renders
//! * [`engine`]: drives workers and requests; everything impure about scheduling
//! * [`schedule`]: decides which adapters are on and what runs where; pure
//! * [`wire`]: what server and worker say to each other
//! * [`worker`]: the process that holds one device
//! * [`model`]: the repository, the `Model` trait and the models that come with the program
//! * [`adapter`]: what adapters there are; opening, checking and timing one
//! * [`telemetry`]: what the server tells about itself
//! * `top`: a running server in a terminal
//! * [`tensor`], [`error`]: data and errors that travel between them
//! * `json`: tensor data as JSON, both ways
//! * `key_file`: files that hold a secret
//! * `lock`: locks of adapters, across servers and users
//! * `escape`: text of others, made harmless for terminals and logs
//! * [`random`]: numbers that are the same for the same seed

pub mod adapter;
pub mod api;
mod cli;
mod clock;
pub mod config;
pub mod engine;
pub mod error;
mod escape;
mod folders;
mod json;
mod key_file;
mod lock;
pub mod model;
pub mod onnx;
mod progress;
pub mod random;
mod signals;
pub mod simulate;
pub mod telemetry;
pub mod tensor;
mod top;
pub mod wire;
pub mod worker;

pub use cli::run;
pub use concertina_schedule as schedule;
