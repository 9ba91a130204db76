//! Snapshot of the server's state for the dashboard and the API. Times are in milliseconds.

use super::names;
use super::recent::{LatencyView, RecentView};
use super::sample::Sample;
use adapter::entry::AdapterEntry;
use adapter::sensors::Reading;
use schedule::{Activity, AdapterMode, Change, Reason};
use serde::Serialize;
use std::sync::Arc;

/// The whole state at one moment, published by the engine whenever it has changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    pub server: ServerView,
    pub adapters: Vec<AdapterView>,
    pub models: Vec<ModelView>,
    pub queue: QueueView,
    /// Expected clients, the soonest first.
    pub expected: Vec<ExpectedView>,
    /// The last decisions, newest last.
    pub decisions: Vec<DecisionView>,
    /// The newest sample of the history.
    pub sample: Option<Arc<Sample>>,
    /// Version of the model catalogue in this snapshot.
    #[serde(skip)]
    pub catalogue: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServerView {
    pub version: String,
    pub uptime_ms: u64,
    /// At least one adapter is on and healthy, or one can be started.
    pub ready: bool,
    /// The reason why it is not ready.
    pub reason: Option<String>,
    pub shutting_down: bool,
}

/// One adapter: its identity and its state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterView {
    #[serde(flatten)]
    pub entry: AdapterEntry,
    /// `None` if the adapter is not used. Serialized as the field `state`, in place of the entry's
    /// own.
    #[serde(serialize_with = "names::activity")]
    pub activity: Option<Activity>,
    /// The mode set by the operator.
    #[serde(serialize_with = "names::mode")]
    pub mode: AdapterMode,
    /// Beginning of the activity, in milliseconds since the server started.
    pub since_ms: u64,
    /// While starting or loading: the current step, such as `warming up digits (2 of 5)`.
    pub phase: Option<String>,
    /// While quarantined: the time of the next attempt, in milliseconds since the server started.
    pub retry_at_ms: Option<u64>,
    /// The last fault.
    pub fault: Option<String>,
    /// After a wrong answer: number of batches that must still agree with another adapter before it
    /// answers unverified.
    pub trial: u32,
    /// The last decision to turn it on or off.
    pub last_decision: Option<DecisionView>,
    pub pid: Option<u32>,
    pub requests: u64,
    pub rows: u64,
    pub batches: u64,
    /// Workers started since the server started.
    pub starts: u64,
    /// Starts of the last hour that were made for requests, including those before a restart of the
    /// server: `adapters.starts_per_hour_max` limits them.
    pub starts_last_hour: u64,
    /// Time with a worker process since the server started.
    pub on_ms: u64,
    /// Duration of the last start, warm-up of its first model included.
    pub cold_start_ms: Option<u64>,
    /// Learned time from spawning the worker to an open and checked device.
    pub open_ms: Option<u64>,
    /// `None` for adapters that are not used.
    pub power: Option<PowerView>,
    /// Measurements of models on this adapter, loaded or not.
    pub replicas: Vec<ReplicaView>,
    /// Device memory of loaded models, in bytes.
    pub memory_used_bytes: u64,
    /// Memory budget of models, in bytes; `None` if it is unknown.
    pub memory_budget_bytes: Option<u64>,
    /// Device memory of tensors, weights and others, in bytes; `None` while the adapter is off, or
    /// if the device does not report it.
    pub memory_in_use_bytes: Option<u64>,
    /// Kernel restrictions of its worker, such as `files (landlock), system calls (seccomp)`;
    /// `None` while it is off.
    pub confinement: Option<String>,
    /// Recent load.
    pub recent: Option<RecentView>,
    /// Sensor readings that the platform reports for the card.
    pub sensors: Option<Reading>,
}

impl From<AdapterEntry> for AdapterView {
    /// An adapter that is not used.
    fn from(entry: AdapterEntry) -> AdapterView {
        AdapterView {
            entry,
            activity: None,
            mode: AdapterMode::Off,
            since_ms: 0,
            phase: None,
            retry_at_ms: None,
            fault: None,
            trial: 0,
            last_decision: None,
            pid: None,
            requests: 0,
            rows: 0,
            batches: 0,
            starts: 0,
            starts_last_hour: 0,
            on_ms: 0,
            cold_start_ms: None,
            open_ms: None,
            power: None,
            replicas: Vec::new(),
            memory_used_bytes: 0,
            memory_budget_bytes: None,
            memory_in_use_bytes: None,
            confinement: None,
            recent: None,
            sensors: None,
        }
    }
}

/// Power above that of the adapter when it is off.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PowerView {
    pub idle_watts: f64,
    pub active_watts: f64,
    pub start_watts: f64,
    /// True if these are estimates by class rather than the operator's values.
    pub assumed: bool,
}

/// One model on one adapter: the service model `batch_ms + row_ms · rows`, with rows padded to
/// their bucket, and the cost of loading. `None` for a value that is not known yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicaView {
    pub model: String,
    pub version: String,
    pub loaded: bool,
    pub bytes: Option<u64>,
    pub load_ms: Option<u64>,
    pub batch_ms: Option<f64>,
    pub row_ms: Option<f64>,
    /// Standard deviation of measured from predicted time, relative to the predicted time.
    pub spread: Option<f64>,
}

/// The availability of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    Ready,
    /// The model is loaded for the first time.
    Loading,
    /// The model finishes the requests that it received before.
    Unloading,
    #[default]
    Unavailable,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelView {
    pub name: String,
    pub version: String,
    pub state: ModelState,
    /// The reason why it is unavailable, or why a newer version of its files could not be loaded.
    pub reason: Option<String>,
    /// True if its last load failed because of its files, false if because of the machine; `None`
    /// if none has failed.
    #[serde(skip)]
    pub failed: Option<bool>,
    pub kind: String,
    /// Latency target; `None` for an ensemble without a target of its own, where members have
    /// targets.
    pub slo_ms: Option<u64>,
    /// Maximum number of rows of a batch.
    pub max_rows: u64,
    /// The mode by which the rows of a request are run, `stacked`, `each` or `whole`, and its
    /// reason.
    pub rows: Option<String>,
    /// A remark of the worker that loaded the model last, such as a failed warm-up.
    pub note: Option<String>,
    /// Ids of the adapters on which it is loaded.
    pub adapters: Vec<String>,
    pub requests: u64,
    pub errors: u64,
    /// The reason why a request for it last failed or was rejected.
    pub last_error: Option<String>,
    /// Recent load.
    pub recent: Option<LatencyView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueueView {
    pub queued_requests: u64,
    pub queued_rows: u64,
    pub in_flight_requests: u64,
    pub in_flight_rows: u64,
    /// Estimated time to serve the queued rows with the active adapters.
    pub drain_ms: u64,
    /// Host memory of queued inputs and unsent answers, and its limit.
    pub held_bytes: u64,
    pub held_bytes_max: u64,
}

/// An expected client, and the adapter that is to be ready for it. Times are in milliseconds since
/// the server started.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedView {
    pub model: String,
    pub adapter: String,
    /// The time at which the adapter is started; `None` once the start was attempted.
    pub start_at_ms: Option<u64>,
    /// The interval in which the next request is expected.
    pub from_ms: u64,
    pub until_ms: u64,
    /// True if the client announced the request; false if it sends requests regularly.
    pub announced: bool,
    /// The reason as text.
    pub text: String,
}

/// A change of the set of active adapters or loaded models, with its reason and numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecisionView {
    pub seq: u64,
    pub at_ms: u64,
    pub adapter: String,
    #[serde(serialize_with = "names::change")]
    pub change: Change,
    /// The model that is loaded or unloaded.
    pub model: Option<String>,
    #[serde(serialize_with = "names::reason")]
    pub reason: Reason,
    /// The reason as text, with its numbers.
    pub text: String,
}

#[cfg(any(test, feature = "testing"))]
impl AdapterView {
    /// An adapter of which nothing else is known.
    pub fn example(id: &str, activity: Option<Activity>) -> AdapterView {
        use adapter::entry::{Api, Class, Usability};
        let entry = AdapterEntry {
            id: id.to_owned(),
            name: "card".to_owned(),
            api: Api::Vulkan,
            class: Class::Discrete,
            vendor: "NVIDIA".to_owned(),
            vendor_id: 0x10de,
            device_id: 1,
            pci: None,
            driver: String::new(),
            driver_info: String::new(),
            memory: Default::default(),
            memory_bytes: None,
            state: if activity.is_none() { Usability::Unused } else { Usability::Usable },
            reason: None,
            fallback: false,
            bridge: false,
            unreachable: false,
            probe: None,
        };
        AdapterView { activity, mode: AdapterMode::Auto, ..entry.into() }
    }
}
