//! Learned values of each adapter and of the policy that are kept between two runs of the server.

use super::ids::{ClientId, ModelId};
use super::service::Line;
use std::time::Duration;

/// What is worth keeping of an adapter between two runs of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recollection {
    /// From spawning the worker to an open and checked device.
    pub cold_start: Option<Duration>,
    pub replicas: Vec<(ModelId, ReplicaMemory)>,
    /// Requests that a start makes late, on average, in thousandths.
    pub late_permille: Option<u32>,
    /// The last spells without work, and for each how long waiting cost as much as a start.
    pub spells: Vec<(Duration, Duration)>,
    /// How long ago a dearer adapter had to help it, and for how long that counts.
    pub helped: Option<(Duration, Duration)>,
    /// In how long the starts of the last hour will be an hour ago.
    pub starts: Vec<Duration>,
}

/// A learned duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Took {
    pub time: Duration,
    /// Whether it was estimated from a load that tuned kernels; the first other one replaces it.
    pub estimated: bool,
}

/// What is worth keeping of one model on one adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplicaMemory {
    /// Time to load and warm up.
    pub load: Option<Took>,
    /// The same where kernels had to be tuned first.
    pub first_load: Option<Duration>,
    /// Bytes on the device.
    pub bytes: Option<u64>,
    /// Service models by the size of a row.
    pub lines: Vec<(u8, Line)>,
}

/// What the policy learned of requests and clients. Times are counted back from when it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LearnedPolicy {
    /// What late requests taught, in millionths: the logarithm of the price of one, and the share
    /// of requests that were late although nothing was starting.
    pub misses: Option<(i64, u64)>,
    /// By model: requests, each of which counts less with time, in thousandths, and how long ago the
    /// last one came.
    pub models: Vec<(ModelId, u64, Duration)>,
    pub clients: Vec<LearnedClient>,
}

/// When a client comes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LearnedClient {
    /// `None` stands for all together.
    pub client: Option<ClientId>,
    /// The model that it asked for last.
    pub model: ModelId,
    /// How long ago its last spell of work began and ended.
    pub began: Option<Duration>,
    pub worked: Duration,
    /// From the end of work to the next spell, from spell to spell, and the longest pauses within
    /// spells; newest last.
    pub pauses: Vec<Duration>,
    pub periods: Vec<Duration>,
    pub lulls: Vec<Duration>,
    /// Late requests of a spell for which no adapter is ready, in thousandths.
    pub late_permille: u32,
}
