//! Events: the input of the scheduler.

use super::ids::{AdapterId, BatchId, ClientId, Incarnation, ModelId, RequestId, Shape, Time};
use super::learned_profile::{LearnedPolicy, LearnedProfile};
use super::settings::{AdapterProfile, ModelProfile, Settings};
use std::time::Duration;

/// A request to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrival {
    pub request: RequestId,
    pub model: ModelId,
    /// The client of the request; clients get fair shares.
    pub client: ClientId,
    pub shape: Shape,
    /// At least 1; more rows than a batch holds are cut into chunks.
    pub rows: u32,
    /// 1 is the most urgent; 0 stands for the default, [`Arrival::PRIORITY_DEFAULT`].
    pub priority: u32,
    /// Time after which an answer has no value for the client.
    pub deadline: Option<Time>,
    /// True for the next time slice of a request that was admitted before: it is admitted even if
    /// the queue is full, and does not count as an arrival of its client.
    pub continues: bool,
}

impl Arrival {
    /// Priority of requests without one: after those up to 99.
    pub const PRIORITY_DEFAULT: u32 = 100;
}

/// An input of the scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// These adapters are in the machine now; all others are absent.
    Discovered { adapters: Vec<(AdapterId, AdapterProfile)> },
    /// These adapters are in the machine and excluded from use; sent before `Discovered`.
    Excluded { adapters: Vec<AdapterId> },
    /// Values that an earlier run learned of an adapter.
    ProfileRestored { adapter: AdapterId, profile: LearnedProfile },
    /// Values that the policy learned in an earlier run; the server was `down` since they were
    /// written.
    PolicyRestored { policy: LearnedPolicy, down: Duration },
    /// Bytes of an adapter's memory that models may use at the present use of other programs: those
    /// of loaded models and the free ones; `None` if unknown.
    MemoryBudget { adapter: AdapterId, bytes: Option<u64> },
    /// The operator changed the settings.
    Configured { settings: Settings },
    /// A model is served from now on, or its limits changed.
    ModelAdded { model: ModelId, profile: ModelProfile },
    /// A model was removed: its waiting requests are rejected.
    ModelRemoved { model: ModelId },
    /// A request to be admitted.
    Arrived(Arrival),
    /// The caller closed the request.
    Cancelled { request: RequestId },
    /// The worker made progress in its start or in loading a model.
    Progress { adapter: AdapterId, incarnation: Incarnation },
    /// The device is open and passed its check; models may be loaded now. `speed` is measured, in
    /// any unit that is the same for all adapters; more is faster, 0 is unknown.
    Ready { adapter: AdapterId, incarnation: Incarnation, speed: u64 },
    /// A model is loaded and warm. `bytes` is the memory that it took on the device, 0 if unknown;
    /// `measured` are rows and times of batches run while warming up.
    Loaded {
        adapter: AdapterId,
        incarnation: Incarnation,
        model: ModelId,
        bytes: u64,
        measured: Vec<(u32, Duration)>,
        /// Time of it that was spent on tuning kernels, where caches of this adapter were filled: the
        /// next load needs none of it. `None` if the caches had everything.
        tuning: Option<Duration>,
    },
    /// A model failed to load here; the worker lives on.
    LoadFailed { adapter: AdapterId, incarnation: Incarnation, model: ModelId, retry: LoadRetry },
    /// The device had no memory to load a model, or to run `rows` rows of it; 0 if not even its
    /// weights fit. The worker must exit.
    NoMemory { adapter: AdapterId, incarnation: Incarnation, model: ModelId, rows: u32 },
    /// The worker's link thread answered a ping.
    Heartbeat { adapter: AdapterId, incarnation: Incarnation },
    /// A batch is answered; the engine holds its outputs until `Collect` or `Discard`.
    Done { adapter: AdapterId, incarnation: Incarnation, batch: BatchId },
    /// A batch failed; the worker lives on.
    Failed { adapter: AdapterId, incarnation: Incarnation, batch: BatchId, failure: Failure },
    /// The worker has a fault: it must exit.
    Faulted { adapter: AdapterId, incarnation: Incarnation, fault: Fault },
    /// The server failed to start the worker's process: the cause lies in its own environment, not
    /// in the adapter.
    NotStarted { adapter: AdapterId, incarnation: Incarnation },
    /// The server retried to start a process after `NotStarted`; `works` is true once that
    /// succeeds.
    StartTried { works: bool },
    /// The kernel killed the worker's process for lack of memory, while it loaded `model` if there
    /// was a load; the process has been reaped.
    OutOfMemory { adapter: AdapterId, incarnation: Incarnation, model: Option<ModelId> },
    /// The worker's process has exited and been reaped.
    Exited { adapter: AdapterId, incarnation: Incarnation },
    /// A client announced a request of a model after the time `within`.
    Announced { model: ModelId, client: ClientId, within: Duration },
    /// The operator set the mode of an adapter.
    ModeSet { adapter: AdapterId, mode: AdapterMode },
    /// The time returned by `next_timeout` has come.
    Timeout,
    /// Reject further requests, finish the admitted ones until `deadline`, and turn every adapter
    /// off.
    Shutdown { deadline: Time },
}

/// The cause of a failed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The input or the model: another adapter would fail too.
    Input,
    /// The device: another adapter may succeed.
    Device,
    /// The device's memory is full: fewer rows may fit.
    Memory,
}

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The process exited unexpectedly, or failed to start.
    Crashed,
    /// No heartbeat within the heartbeat timeout.
    HeartbeatTimeout,
    /// The start or a load made no progress within its timeout.
    StartStuck,
    /// A batch took longer than its timeout.
    RunStuck,
    /// The device failed to open, was lost, or failed a batch.
    Device,
    /// The device had no memory for a load or a batch.
    Memory,
    /// The known-answer check or a golden sample gave a wrong result.
    WrongAnswer,
    /// The worker violated the protocol.
    Protocol,
    /// Another server holds this adapter.
    InUse,
}

impl Fault {
    /// Returns the label for logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Crashed => "crashed",
            // Labels of metrics and words in JSON keep their names when a variant is renamed.
            Fault::HeartbeatTimeout => "silent",
            Fault::StartStuck => "start_stuck",
            Fault::RunStuck => "run_stuck",
            Fault::Device => "device",
            Fault::Memory => "memory",
            Fault::WrongAnswer => "wrong_answer",
            Fault::Protocol => "protocol",
            Fault::InUse => "in_use",
        }
    }
}

/// The time of the next attempt after a failed load on the same adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadRetry {
    /// At once, since the next load reads other files.
    Now,
    /// Later, since the cause may be temporary.
    Later,
    /// Not before the model is replaced, since its files are wrong.
    Never,
}

/// The operator's mode for an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AdapterMode {
    /// On or off by the policy.
    #[default]
    Auto,
    /// On at any load.
    On,
    /// Off at any load.
    Off,
}

impl AdapterMode {
    pub fn as_str(self) -> &'static str {
        match self {
            AdapterMode::Auto => "auto",
            AdapterMode::On => "on",
            AdapterMode::Off => "off",
        }
    }
}
