//! What dashboard and API show of the server at one moment. Times are milliseconds.

use super::recent::{LatencyView, RecentView};
use super::sample::Sample;
use super::words;
use adapter::entry::AdapterEntry;
use adapter::sensors::Reading;
use schedule::{Activity, Change, Reason, Wish};
use serde::Serialize;
use std::sync::Arc;

/// Everything at one moment, published by the engine whenever it changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    pub server: ServerView,
    pub adapters: Vec<AdapterView>,
    pub models: Vec<ModelView>,
    pub queue: QueueView,
    /// Clients that are expected, the soonest first.
    pub expected: Vec<ExpectedView>,
    /// The last decisions, newest last.
    pub decisions: Vec<DecisionView>,
    /// The newest sample of the history.
    pub sample: Option<Arc<Sample>>,
    /// The state of the catalogue of models that it was made of.
    #[serde(skip)]
    pub catalogue: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServerView {
    pub version: String,
    pub uptime_ms: u64,
    /// At least one adapter is on and healthy, or one can be started.
    pub ready: bool,
    /// Why it is not ready.
    pub reason: Option<String>,
    pub shutting_down: bool,
}

/// One adapter: what it is and what it is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterView {
    #[serde(flatten)]
    pub entry: AdapterEntry,
    /// `None` if it is not used. Shown as the field `state`, in place of the entry's own.
    #[serde(serialize_with = "words::activity")]
    pub activity: Option<Activity>,
    /// The operator's wish.
    #[serde(serialize_with = "words::mode")]
    pub mode: Wish,
    /// Since when the activity lasts, in milliseconds since the server started.
    pub since_ms: u64,
    /// While starting or loading: what it is doing now, such as `warming up digits (2 of 5)`.
    pub phase: Option<String>,
    /// While quarantined: when it is tried again, in milliseconds since the server started.
    pub retry_at_ms: Option<u64>,
    /// The last fault.
    pub fault: Option<String>,
    /// After a wrong answer: batches in which it must still agree with another adapter before it
    /// answers beside it.
    pub trial: u32,
    /// What was last decided about turning it on or off.
    pub last_decision: Option<DecisionView>,
    pub pid: Option<u32>,
    pub requests: u64,
    pub rows: u64,
    pub batches: u64,
    /// Workers started since the server did.
    pub starts: u64,
    /// Those of the last hour that were made for requests, across restarts of the server:
    /// `adapters.starts_per_hour_max` limits them.
    pub starts_last_hour: u64,
    /// Time with a worker process since the server started.
    pub on_ms: u64,
    /// Duration of the last start, warm-up of its first model included.
    pub cold_start_ms: Option<u64>,
    /// Learned time from spawning the worker to an open and checked device.
    pub open_ms: Option<u64>,
    /// `None` for adapters that are not used.
    pub power: Option<PowerView>,
    /// What is known of models on this adapter, loaded or not.
    pub replicas: Vec<ReplicaView>,
    /// Bytes that loaded models hold on the device.
    pub memory_used_bytes: u64,
    /// Bytes that models may take; `None` where nobody can tell.
    pub memory_budget_bytes: Option<u64>,
    /// Bytes of device memory that tensors hold, weights and all else; `None` while it is off, or
    /// where the device does not tell.
    pub memory_in_use_bytes: Option<u64>,
    /// What the kernel keeps its worker from, such as `files (landlock), system calls (seccomp)`;
    /// `None` while it is off.
    pub confinement: Option<String>,
    /// What it did lately.
    pub recent: Option<RecentView>,
    /// What the platform tells of the card.
    pub sensors: Option<Reading>,
}

impl From<AdapterEntry> for AdapterView {
    /// An adapter that is not used.
    fn from(entry: AdapterEntry) -> AdapterView {
        AdapterView {
            entry,
            activity: None,
            mode: Wish::Off,
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
    /// Whether these are guesses by class rather than the operator's figures.
    pub assumed: bool,
}

/// One model on one adapter: the service model `batch_ms + row_ms · rows`, rows counted as padded
/// to their bucket, and what loading costs. `None` where it is not known yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicaView {
    pub model: String,
    pub version: String,
    pub loaded: bool,
    pub bytes: Option<u64>,
    pub load_ms: Option<u64>,
    pub batch_ms: Option<f64>,
    pub row_ms: Option<f64>,
    /// Standard deviation of measured from predicted time, relative to the latter.
    pub spread: Option<f64>,
}

/// How far a model is from its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    Ready,
    /// Before it is served for the first time.
    Loading,
    /// While it finishes what it was asked before.
    Unloading,
    #[default]
    Unavailable,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelView {
    pub name: String,
    pub version: String,
    pub state: ModelState,
    /// Why it is unavailable, or why a newer state of it could not be loaded.
    pub reason: Option<String>,
    /// Whether its files, rather than the machine, are why its last load failed; `None` if none has.
    #[serde(skip)]
    pub failed: Option<bool>,
    pub kind: String,
    /// Latency target; `None` for an ensemble that names none, whose members have targets.
    pub slo_ms: Option<u64>,
    /// Rows of the largest batch.
    pub max_rows: u64,
    /// The mode by which the rows of a request become runs, `stacked`, `each` or `whole`, and its
    /// reason.
    pub rows: Option<String>,
    /// A remark of the worker that loaded it last, such as a failed warm-up.
    pub note: Option<String>,
    /// Ids of the adapters that hold it.
    pub adapters: Vec<String>,
    pub requests: u64,
    pub errors: u64,
    /// Why a request of it last failed or was turned away.
    pub last_error: Option<String>,
    /// What it did lately.
    pub recent: Option<LatencyView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueueView {
    pub queued_requests: u64,
    pub queued_rows: u64,
    pub in_flight_requests: u64,
    pub in_flight_rows: u64,
    /// How long it will take to serve what waits with what is on.
    pub drain_ms: u64,
    /// Host memory that queued inputs and unsent answers hold, and its bound.
    pub held_bytes: u64,
    pub held_bytes_max: u64,
}

/// A client that is expected, and the adapter that is to be ready for it. Times are in milliseconds
/// since the server started.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedView {
    pub model: String,
    pub adapter: String,
    /// When the adapter is started; `None` once that was tried.
    pub start_at_ms: Option<u64>,
    /// From when until when the next request is expected.
    pub from_ms: u64,
    pub until_ms: u64,
    /// Whether the client announced it; else it comes regularly.
    pub announced: bool,
    /// The reason in plain words.
    pub text: String,
}

/// One change of the wanted set, with its reason and numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecisionView {
    pub seq: u64,
    pub at_ms: u64,
    pub adapter: String,
    #[serde(serialize_with = "words::change")]
    pub change: Change,
    /// Which model is loaded or unloaded.
    pub model: Option<String>,
    #[serde(serialize_with = "words::reason")]
    pub reason: Reason,
    /// The reason in plain words, with its numbers.
    pub text: String,
}

#[cfg(any(test, feature = "testing"))]
impl AdapterView {
    /// An adapter about which nothing else is known.
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
        AdapterView { activity, mode: Wish::Auto, ..entry.into() }
    }
}
