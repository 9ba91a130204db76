//! What the server tells about itself: snapshots, decisions in words, metrics and statistics.

mod decision;
mod metrics;
mod snapshot;
mod statistics;

pub use decision::{Names, decision_view};
pub use metrics::{METRICS_TYPE, Metrics, ModelMeter};
pub use snapshot::{
    AdapterView, DecisionView, ModelView, PowerView, QueueView, ReplicaView, ServerView, Snapshot,
};
pub use statistics::{Compute, MemoryUsage, ModelStatistics};
