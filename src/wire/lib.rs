//! The wire between server and worker: frames over a local socket, both ends.
//!
//! A frame is a fixed prefix (magic, header length, payload length), a postcard header and at
//! most [`PIECE_MAX`] bytes of payload. A message that carries tensors declares their lengths in
//! its header; their bytes follow in order, first in its own frame, then in `Piece` frames.
//! Messages without tensors may stand between the pieces, so that a large tensor never delays a
//! `Stop` or a `Pong`.

pub mod client;
mod endpoint;
mod files;
mod frame;
#[doc(hidden)]
pub mod hostile;
mod injection;
mod message;
pub mod server;
mod worker_spec;

/// Maximum number of batches in flight per worker, including the one that runs.
pub const BATCHES_MAX: usize = 8;

pub use endpoint::{Endpoint, TestLink};
pub use files::{FilesAnswer, FilesRequest};
pub use frame::{BODY_MAX, CompleteMessage, PIECE_MAX, WireError};
pub use injection::{Injected, Injection};
pub use message::{
    Cause, FromWorker, LoadRequest, TensorHeader, TimeSlice, Timings, ToWorker, Unfit, VERSION,
    tensor_headers, tensors_from,
};
pub use worker_spec::{Slow, WorkerOptions, WorkerSpec};
