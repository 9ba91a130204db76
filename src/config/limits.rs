//! Limits for clients, and timeouts of workers.

use super::environment;
use anyhow::ensure;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use wire::{self, BATCHES_MAX};

/// Limits of the resources that clients may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Maximum bytes of a request's body.
    pub body_bytes: usize,
    /// Maximum bytes of a request's header lines.
    pub header_bytes: usize,
    /// Maximum number of open connections.
    pub connections: usize,
    /// Time from the first byte of a request to the end of its header lines.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// Time from the end of the header lines to the end of the body.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Maximum time for which a client may leave an answer unread, and the period over which it
    /// must read 16 KiB per second on average.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Maximum number of open event streams.
    pub event_streams: usize,
    /// Maximum number of requests that wait for an adapter.
    pub queue_requests: usize,
    /// Maximum number of rows that wait for an adapter.
    pub queue_rows: u64,
    /// Maximum host memory for requests of clients, in bytes: bodies, parsed and decoded inputs,
    /// and answers until they are written.
    pub host_memory_bytes: usize,
    /// Time for which admitted requests may continue after the signal to stop.
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
}

/// Timeouts and options of workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workers {
    /// Time without any message from a worker after which it is killed.
    #[serde(with = "humantime_serde")]
    pub heartbeat_timeout: Duration,
    /// Longest time between two reports of progress while a worker starts. Tuning kernels for a new
    /// adapter can take most of a minute for a single shape.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// Longest time from sending a batch to a worker to its answer.
    #[serde(with = "humantime_serde")]
    pub run_timeout: Duration,
    /// Time from the request to exit until a worker is killed.
    #[serde(with = "humantime_serde")]
    pub stop_timeout: Duration,
    /// Longest wait for the end of a killed worker's process.
    #[serde(with = "humantime_serde")]
    pub kill_timeout: Duration,
    /// Maximum number of retries of a request that was lost with its worker.
    pub retries: u32,
    /// Batches that a worker may hold: the running one, and full ones that it has already received,
    /// so that it need not wait for the next one.
    pub slots: u32,
    /// Wait after an adapter's first fault; it doubles with each further consecutive fault.
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    /// Longest wait after a fault.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// Interval at which an idle worker computes a model's golden sample and compares the answer;
    /// never if zero.
    #[serde(with = "humantime_serde")]
    pub self_check_interval: Duration,
    /// Time limit of the validation load of a new model in a separate process, which does not delay
    /// other models; no validation load if zero.
    #[serde(with = "humantime_serde")]
    pub validation_timeout: Duration,
    /// Revokes the workers' access to the network, to writing files other than caches, and to
    /// running programs, if the platform supports it. To be turned off for a driver that fails with
    /// it.
    pub confine: bool,
    /// Names of environment variables that workers receive in addition to those that drivers are
    /// known to need.
    pub environment: Vec<String>,
    /// Maximum remaining quarantine of an adapter for which requests wait.
    #[serde(with = "humantime_serde")]
    pub quarantine_wait_max: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 64 << 20,
            header_bytes: 64 << 10,
            connections: 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            event_streams: 256,
            queue_requests: 10_000,
            queue_rows: 100_000,
            host_memory_bytes: 1 << 30,
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

impl Default for Workers {
    fn default() -> Workers {
        Workers {
            heartbeat_timeout: Duration::from_secs(5),
            start_timeout: Duration::from_secs(180),
            run_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(3),
            kill_timeout: Duration::from_secs(5),
            retries: 3,
            slots: 1,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            self_check_interval: Duration::from_secs(60),
            validation_timeout: Duration::from_secs(30),
            confine: true,
            environment: Vec::new(),
            quarantine_wait_max: Duration::from_secs(5),
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let counts = [
            ("body_bytes", self.body_bytes),
            ("connections", self.connections),
            ("queue_requests", self.queue_requests),
            ("queue_rows", usize::try_from(self.queue_rows).unwrap_or(usize::MAX)),
        ];
        for (name, value) in counts {
            ensure!(
                value >= 1,
                "limits.{name} is 0, so that no request could be served; set it to 1 or more"
            );
        }
        // hyper rejects a lower limit.
        ensure!(self.header_bytes >= 8192, "limits.header_bytes must be at least 8192");
        ensure!(
            self.host_memory_bytes >= self.body_bytes,
            "limits.host_memory_bytes ({}) is less than limits.body_bytes ({}): the largest request \
             could never be served",
            self.host_memory_bytes,
            self.body_bytes
        );
        // A batch cannot be larger than the held memory, and the wire protocol has a maximum size.
        ensure!(
            self.host_memory_bytes as u64 <= wire::BODY_MAX,
            "limits.host_memory_bytes is above {} bytes, the maximum of one batch",
            wire::BODY_MAX
        );
        positive("limits.header_timeout", self.header_timeout)?;
        positive("limits.body_timeout", self.body_timeout)?;
        positive("limits.write_timeout", self.write_timeout)
    }
}

impl Workers {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        // Four heartbeats are sent within this timeout; with a shorter one, scheduling delays of
        // the machine would be mistaken for a dead worker.
        ensure!(
            self.heartbeat_timeout >= Duration::from_millis(200),
            "workers.heartbeat_timeout must be at least 200ms"
        );
        environment::check(&self.environment)?;
        ensure!(
            (1..=BATCHES_MAX as u32).contains(&self.slots),
            "workers.slots must be between 1 and {BATCHES_MAX}"
        );
        ensure!(self.backoff <= self.backoff_max, "workers.backoff is above workers.backoff_max");
        positive("workers.start_timeout", self.start_timeout)?;
        positive("workers.run_timeout", self.run_timeout)?;
        positive("workers.stop_timeout", self.stop_timeout)?;
        positive("workers.kill_timeout", self.kill_timeout)?;
        positive("workers.backoff", self.backoff)
    }
}

pub(super) fn positive(name: &str, value: Duration) -> anyhow::Result<()> {
    ensure!(!value.is_zero(), "{name} is 0; set it to more than 0s");
    Ok(())
}
