//! What the server tells about itself: the snapshot and the set-up of logs.

pub mod snapshot;

pub use snapshot::{AdapterView, DecisionView, ModelView, QueueView, ServerView, Snapshot};
