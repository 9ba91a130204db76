//! What the server tells about itself: snapshots and decisions in words.

mod decision;
mod snapshot;

pub use decision::{Names, decision_view};
pub use snapshot::{
    AdapterView, DecisionView, ModelView, PowerView, QueueView, ReplicaView, ServerView, Snapshot,
};
