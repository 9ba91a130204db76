//! Observability of the server: snapshots, texts of decisions, metrics and statistics.

mod arrivals;
mod decision;
mod history;
mod metrics;
mod names;
#[cfg(test)]
mod reasons_tests;
mod recent;
mod record;
mod sample;
mod snapshot;
mod statistics;
mod traces;

pub use arrivals::{Arrivals, Arrived};
pub use decision::{DecisionNames, decision_view, expected_text};
pub use history::{History, SAMPLE_MS};
pub use metrics::{Metrics, ModelMeter, Notation};
pub use recent::{Done, LatencyView, Recent, RecentView};
pub use record::Recorder;
pub use sample::Sample;
pub use snapshot::{
    AdapterView, DecisionView, ExpectedView, ModelState, ModelView, PowerView, QueueView,
    ReplicaView, ServerView, Snapshot,
};
pub use statistics::{Compute, MemoryUsage, ModelStatistics};
pub use traces::{Ran, RequestSpan, Traces};
