//! The specification of a worker: all options that the server passes to the process that it starts.

use super::endpoint::Endpoint;
use super::injection::Injection;
use adapter::entry::AdapterEntry;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The specification of a worker, which it reads as one line of JSON from stdin when it starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// The endpoint of the server.
    pub server_endpoint: Endpoint,
    /// Token that authenticates the worker to the server.
    pub token: String,
    /// Process id of the server.
    pub server: u32,
    pub adapter: AdapterEntry,
    /// The folder for caches of this adapter.
    pub cache_dir: PathBuf,
    /// The folder for locks of adapters, shared with other servers.
    pub lock_dir: PathBuf,
    pub options: WorkerOptions,
    /// Maximum size in bytes of the model files that a remote worker keeps in its cache folder.
    #[serde(default)]
    pub models_bytes: u64,
    /// For a validation load: the memory limit of the worker, in bytes. It then runs with the
    /// lowest priority.
    #[serde(default)]
    pub validation: Option<u64>,
    /// The number of this worker among those of its adapter, starting at 1.
    pub incarnation: u64,
    /// For tests: the worker is slowed by sleeping.
    pub slow: Option<Slow>,
    /// For tests: faults to inject.
    #[serde(default)]
    pub faults: Vec<Injection>,
}

/// Options from the server's settings that are the same for all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerOptions {
    /// True if the worker drops the rights that it does not need, as far as the platform supports
    /// it.
    pub confine: bool,
    /// Interval at which an idle worker runs the golden sample of a model; zero disables these
    /// checks.
    #[serde(with = "humantime_serde")]
    pub check: Duration,
}

/// The minimum time that a slowed worker needs for a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slow {
    #[serde(with = "humantime_serde")]
    pub batch: Duration,
    /// For each row of the bucket that the batch is padded to.
    #[serde(with = "humantime_serde")]
    pub row: Duration,
}

impl Slow {
    /// The minimum time for a batch that is padded to `bucket` rows.
    pub fn least(&self, bucket: usize) -> Duration {
        self.batch
            .saturating_add(self.row.saturating_mul(u32::try_from(bucket).unwrap_or(u32::MAX)))
    }
}
