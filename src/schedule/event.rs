//! Events: the input of the scheduler.

use super::ids::{AdapterId, BatchId, ClientId, Incarnation, ModelId, RequestId, Shape, Time};
use super::learned_profile::{LearnedPolicy, LearnedProfile};
use super::settings::{AdapterProfile, ModelProfile, Settings};
use std::time::Duration;

/// A request that wants to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrival {
    pub request: RequestId,
    pub model: ModelId,
    /// Who asks: clients get fair shares.
    pub client: ClientId,
    pub shape: Shape,
    /// At least 1; more than fit into a batch are cut into chunks.
    pub rows: u32,
    /// 1 is the most urgent; 0 stands for the default, [`Arrival::PRIORITY_DEFAULT`].
    pub priority: u32,
    /// From when on an answer is worth nothing to the client.
    pub deadline: Option<Time>,
    /// True for the next time slice of a request that was admitted before: it is admitted whatever
    /// waits, and is no arrival to what learns from arrivals of clients.
    pub continues: bool,
}

impl Arrival {
    /// Where requests stand that name no priority: behind those up to 99.
    pub const PRIORITY_DEFAULT: u32 = 100;
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// These adapters are in the machine now; those that are not named have gone.
    Discovered { adapters: Vec<(AdapterId, AdapterProfile)> },
    /// These are in the machine, and not to be used (any more); told before `Discovered`.
    Excluded { adapters: Vec<AdapterId> },
    /// What an earlier run learned of an adapter.
    ProfileRestored { adapter: AdapterId, profile: LearnedProfile },
    /// What the policy learned in an earlier run; the server was `down` since that was written.
    PolicyRestored { policy: LearnedPolicy, down: Duration },
    /// Bytes of an adapter's memory that models may take as long as other programs use what they
    /// use now: what models hold, and what is free; `None` where nobody can tell.
    MemoryBudget { adapter: AdapterId, bytes: Option<u64> },
    /// The operator has changed the settings.
    Configured { settings: Settings },
    /// A model is served from now on, or its limits changed.
    ModelAdded { model: ModelId, profile: ModelProfile },
    /// A model is served no more: who waits for it is turned away.
    ModelRemoved { model: ModelId },
    /// A request wants to be admitted.
    Arrived(Arrival),
    /// The caller went away.
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
    /// A model could not be loaded here; the worker lives on.
    LoadFailed { adapter: AdapterId, incarnation: Incarnation, model: ModelId, retry: LoadRetry },
    /// The device had no memory to load a model, or to run so many rows of it; 0 if not even its
    /// weights fit. The worker must go.
    NoMemory { adapter: AdapterId, incarnation: Incarnation, model: ModelId, rows: u32 },
    /// The worker's link thread answered a ping.
    Heartbeat { adapter: AdapterId, incarnation: Incarnation },
    /// A batch is answered; the engine holds its outputs until `Collect` or `Discard`.
    Done { adapter: AdapterId, incarnation: Incarnation, batch: BatchId },
    /// A batch failed; the worker lives on.
    Failed { adapter: AdapterId, incarnation: Incarnation, batch: BatchId, failure: Failure },
    /// The worker can no longer be trusted: it must go.
    Faulted { adapter: AdapterId, incarnation: Incarnation, fault: Fault },
    /// The server could not start the worker's process: the cause lies in its own environment, not
    /// in the adapter.
    NotStarted { adapter: AdapterId, incarnation: Incarnation },
    /// The server tried to start a process after `NotStarted`: `works` once that succeeds.
    StartTried { works: bool },
    /// The kernel killed the worker's process for want of memory, while it loaded `model` if it
    /// loaded one; it is gone and reaped.
    OutOfMemory { adapter: AdapterId, incarnation: Incarnation, model: Option<ModelId> },
    /// The worker's process is gone and reaped.
    Exited { adapter: AdapterId, incarnation: Incarnation },
    /// A client says that it will ask for a model in so long.
    Announced { model: ModelId, client: ClientId, within: Duration },
    /// The operator's hand.
    ModeSet { adapter: AdapterId, mode: AdapterMode },
    /// The time that `next_timeout` asked for has come.
    Timeout,
    /// Admit nothing more, finish what was admitted until `deadline`, bring every adapter down.
    Shutdown { deadline: Time },
}

/// Whose fault a failed batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The input's or the model's: another adapter would fail too.
    Input,
    /// The device's: another adapter may do better.
    Device,
    /// The device's memory is full: fewer rows may fit.
    Memory,
}

/// Why an adapter was let down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The process ended on its own, or could not be spawned.
    Crashed,
    /// No word for longer than the bound.
    HeartbeatTimeout,
    /// The start, or loading a model, made no progress for longer than the bound.
    StartStuck,
    /// A batch took longer than the bound.
    RunStuck,
    /// The device refused, was lost, or failed a batch.
    Device,
    /// The device had no memory for what was to be done.
    Memory,
    /// The known-answer check or a golden sample came out wrong.
    WrongAnswer,
    /// The worker broke the protocol.
    Protocol,
    /// Another server holds this adapter.
    InUse,
}

impl Fault {
    /// A short word for logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Crashed => "crashed",
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
    /// At once, since other files are read then.
    Now,
    /// After a while, since the cause may end by itself.
    Later,
    /// Not before the model is replaced, since its files are wrong.
    Never,
}

/// The operator's wish for an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AdapterMode {
    /// As the policy says.
    #[default]
    Auto,
    /// On, whatever the load.
    On,
    /// Off, whatever the load.
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
