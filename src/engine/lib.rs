//! The driver around the scheduler: spawns workers, feeds events, performs actions, keeps payloads
//! and answer channels. Everything impure about scheduling is here, and no decision is.

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

/// Where requests stand that name no priority.
pub const PRIORITY_DEFAULT: u32 = schedule::Arrival::PRIORITY_DEFAULT;

/// What the engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    pub live: LiveConfig,
    /// Our own executable: run again as worker and as lister of adapters.
    pub executable: PathBuf,
    pub cache_dir: PathBuf,
    /// Sockets; made private to the user.
    pub runtime_dir: PathBuf,
    /// Locks of adapters, for all users of the machine.
    pub lock_dir: PathBuf,
    /// Host memory that clients make the server hold, in bytes.
    pub held_bytes_max: usize,
    /// How long admitted requests may go on after the signal to stop.
    pub shutdown_grace: Duration,
    /// Most bytes of files of models that a worker elsewhere keeps.
    pub models_bytes: u64,
    /// Writes down when requests arrive.
    pub recorder: Option<Recorder>,
    /// For tests: whatever the kernel says may be about a card.
    pub all_uevents: bool,
    /// Time for the validation load of a new model in a process of its own; none if zero.
    pub validation: Duration,
    /// For tests: workers slowed by sleeping, by adapter id.
    pub slow: BTreeMap<String, Slow>,
    /// For tests: what is to go wrong in workers.
    pub faults: Vec<Injection>,
    /// For tests: workers connect over TCP.
    pub link: Option<TestLink>,
}

/// What may change while the engine runs. Workers that are there stay as they were started.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    pub settings: Settings,
    /// The whole environment of the processes that load drivers: workers, and the listing.
    pub environment: Vec<(OsString, OsString)>,
    /// Arguments for the child that lists adapters.
    pub lister_args: Vec<String>,
    /// Ids of adapters that the settings name.
    pub named_adapters: Vec<String>,
    /// Used when the listing fails: the CPU needs no driver.
    pub entries_without_listing: Vec<AdapterEntry>,
    /// Threads of the CPU backend; 0 leaves the choice to it.
    pub cpu_threads: usize,
    /// What the operator knows of adapters.
    pub assumptions: Assumptions,
    /// Latency target of models that name none.
    pub slo: Duration,
    pub worker_options: WorkerOptions,
}

/// Starts the engine. `library` is where models are loaded from later. The task ends when it was
/// shut down and every worker is gone.
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
