//! The order of a worker: every option that the server gives to the process that it starts.

use super::endpoint::Endpoint;
use super::injection::Injection;
use adapter::entry::AdapterEntry;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The one line of JSON that a worker reads from its stdin before anything else.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// Where to reach the server.
    pub server_endpoint: Endpoint,
    /// Proves that the worker is the one this line was written to.
    pub token: String,
    /// Process id of the server.
    pub server: u32,
    pub adapter: AdapterEntry,
    /// This adapter's own folder for caches.
    pub cache_dir: PathBuf,
    /// Folder for locks of adapters, which excludes other servers.
    pub lock_dir: PathBuf,
    pub options: WorkerOptions,
    /// Most bytes of the files of models that a worker elsewhere keeps in its cache folder.
    #[serde(default)]
    pub models_bytes: u64,
    /// For a validation load: the most memory that the worker may take, in bytes. It then runs with
    /// the lowest priority.
    #[serde(default)]
    pub validation: Option<u64>,
    /// Which worker of this adapter it is; the first one is 1.
    pub incarnation: u64,
    /// For tests: the worker is slowed by sleeping.
    pub slow: Option<Slow>,
    /// For tests: what is to go wrong.
    #[serde(default)]
    pub faults: Vec<Injection>,
}

/// What the settings of the server say of every worker alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerOptions {
    /// Whether the worker gives up the rights that it does not need, where the platform lets it.
    pub confine: bool,
    /// How often a worker that has nothing to do asks a model for the answer that is known; never
    /// if zero.
    #[serde(with = "humantime_serde")]
    pub check: Duration,
}

/// The least time that a slowed worker takes for a batch.
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
    /// The least time for a batch that is padded to `bucket` rows.
    pub fn least(&self, bucket: usize) -> Duration {
        self.batch
            .saturating_add(self.row.saturating_mul(u32::try_from(bucket).unwrap_or(u32::MAX)))
    }
}
