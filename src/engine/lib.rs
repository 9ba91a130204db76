//! The driver around the scheduler: spawns workers, feeds events, performs actions, keeps payloads
//! and answer channels. It does all I/O of scheduling and makes no decision.

mod calls;
mod core;
mod driver;
mod learned_policy;
mod learned_profiles;
mod mode_changes;
mod models;
mod modes;
mod publish;
mod reports;
mod settings;
mod statistics;
mod targets;
mod workers;

pub use calls::admissions::Admission;
pub use calls::handle::EngineHandle;
pub use calls::held_memory::{Account, Full, HeldMemory, Memory};
pub use calls::messages::{InferAnswer, InferCall, Mode, WhatifInputs};
pub use calls::partial::{PartialAnswer, PartialAnswers};
pub use models::catalogue::Catalogue;
pub use models::folder::Marks;
pub use models::library::Library;
pub use workers::assumptions::Assumptions;
pub use workers::platform::private_folder;

use adapter::entry::AdapterEntry;
use schedule::Settings;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use telemetry::Recorder;
use tokio::task::JoinHandle;
pub use wire::WorkerOptions;
use wire::{Injection, Slow, TestLink};

/// The priority of requests that name none.
pub const PRIORITY_DEFAULT: u32 = schedule::Arrival::PRIORITY_DEFAULT;

/// Configuration of the engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    pub live: LiveConfig,
    /// The executable of this program, which is run as a worker and to list adapters.
    pub executable: PathBuf,
    pub cache_dir: PathBuf,
    /// Folder for sockets, accessible to this user only.
    pub runtime_dir: PathBuf,
    /// Folder for locks of adapters, shared by all users of the machine.
    pub lock_dir: PathBuf,
    /// Host memory that clients make the server hold, in bytes.
    pub held_bytes_max: usize,
    /// Time for admitted requests to end after the signal to stop.
    pub shutdown_grace: Duration,
    /// Maximum size in bytes of the model files that a remote worker keeps.
    pub models_bytes: u64,
    /// Records the arrival times of requests.
    pub recorder: Option<Recorder>,
    /// For tests: treats every kernel event as one about a card.
    pub all_uevents: bool,
    /// Timeout of the validation load of a new model in a separate process; zero disables it.
    pub validation: Duration,
    /// For tests: workers slowed by sleeping, by adapter id.
    pub slow: BTreeMap<String, Slow>,
    /// For tests: faults to inject into workers.
    pub faults: Vec<Injection>,
    /// For tests: workers connect over TCP.
    pub link: Option<TestLink>,
}

/// The part of the configuration that can change at run time. Running workers keep the values that
/// they were started with.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    pub settings: Settings,
    /// The complete environment of the processes that load drivers: workers and the lister.
    pub environment: Vec<(OsString, OsString)>,
    /// Arguments for the child that lists adapters.
    pub lister_args: Vec<String>,
    /// Ids of the adapters that the settings name.
    pub named_adapters: Vec<String>,
    /// Adapters to use if the listing fails: the CPU needs no driver.
    pub entries_without_listing: Vec<AdapterEntry>,
    /// Number of threads of the CPU backend; 0 lets the backend choose.
    pub cpu_threads: usize,
    /// Values for adapters that the operator has configured.
    pub assumptions: Assumptions,
    /// Latency target of models that do not name one.
    pub slo: Duration,
    pub worker_options: WorkerOptions,
}

/// Starts the engine. Later loads read models from `library`. The task ends when the engine has
/// been shut down and every worker has exited.
///
/// # Errors
/// If the runtime folder cannot be made private.
pub fn start(
    config: EngineConfig,
    catalogue: Catalogue,
    library: Library,
) -> anyhow::Result<(EngineHandle, JoinHandle<()>)> {
    workers::platform::make_private(&config.runtime_dir)?;
    workers::platform::sweep_sockets(&config.runtime_dir);
    tokio::spawn(workers::children::reap_orphans());
    let (driver, handle) = driver::Driver::new(config, catalogue, library);
    Ok((handle, tokio::spawn(driver.run())))
}
