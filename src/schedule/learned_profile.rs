//! Learned values of each adapter and of the policy that are kept between two runs of the server.

use super::ids::{ClientId, ModelId};
use super::service::ServiceTime;
use std::time::Duration;

/// Learned values of an adapter that are kept between two runs of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LearnedProfile {
    /// Time from spawning the worker to an open and checked device.
    pub cold_start: Option<Duration>,
    pub replicas: Vec<(ModelId, LearnedReplica)>,
    /// Requests that a start makes late, on average, in thousandths.
    pub late_permille: Option<u32>,
    /// The last idle periods, each with the time for which waiting cost as much as a start.
    pub idle_periods: Vec<(Duration, Duration)>,
    /// Time since an adapter with more energy per row had to help it, and the time for which that
    /// counts.
    pub helped: Option<(Duration, Duration)>,
    /// Time until each of the last hour's starts will be an hour ago.
    pub starts: Vec<Duration>,
}

/// A learned duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LearnedDuration {
    pub time: Duration,
    /// Estimated from a load that tuned kernels; the first other one replaces it.
    pub estimated: bool,
}

/// Learned values of one model on one adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LearnedReplica {
    /// Time to load and warm up.
    pub load: Option<LearnedDuration>,
    /// Time to load and warm up with tuning of kernels.
    pub first_load: Option<Duration>,
    /// Bytes on the device.
    pub bytes: Option<u64>,
    /// Service models by the size of a row.
    pub service_times: Vec<(u8, ServiceTime)>,
}

/// Learned values of requests and clients. Times are counted back from the time at which they were
/// read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LearnedPolicy {
    /// Values learned from late requests, in millionths: the logarithm of the price of one, and the
    /// share of requests that were late although no adapter was starting.
    pub late_price: Option<(i64, u64)>,
    /// By model: exponentially decaying count of requests, in thousandths, and the time since the
    /// last one.
    pub models: Vec<(ModelId, u64, Duration)>,
    pub clients: Vec<LearnedClient>,
}

/// Rhythm of a client's requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LearnedClient {
    /// The client; `None` stands for all together.
    pub client: Option<ClientId>,
    /// The model that it requested last.
    pub model: ModelId,
    /// Time since its last busy period began and ended.
    pub began: Option<Duration>,
    pub ended: Duration,
    /// Times from the end of work to the next busy period, from beginning to beginning, and the
    /// longest pauses within busy periods; newest last.
    pub pauses: Vec<Duration>,
    pub periods: Vec<Duration>,
    pub inner_pauses: Vec<Duration>,
    /// Late requests of a busy period without a ready adapter, in thousandths.
    pub late_permille: u32,
}
