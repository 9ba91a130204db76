//! Bounds on clients and patience with workers.

use super::environment;
use anyhow::ensure;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use wire::{self, BATCHES_MAX};

/// Bounds on what clients may ask of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one request's body.
    pub body_bytes: usize,
    /// Bytes of one request's header lines.
    pub header_bytes: usize,
    /// Connections open at once.
    pub connections: usize,
    /// From the first byte of a request to the end of its header lines.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// From the end of the header lines to the end of the body.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Longest time for which a client may leave an answer unread, and the period over which it must
    /// read 16 KiB per second.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// Event streams open at once.
    pub event_streams: usize,
    /// Requests that may wait for an adapter.
    pub queue_requests: usize,
    /// Rows that may wait for an adapter.
    pub queue_rows: u64,
    /// Host memory that clients may make the server hold, in bytes: bodies, parsed and decoded
    /// inputs, and answers until they are written.
    pub held_bytes: usize,
    /// How long admitted requests may go on after the signal to stop.
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
}

/// Patience with workers, and what they may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workers {
    /// Between two signs of life of a worker's link.
    #[serde(with = "humantime_serde")]
    pub silence: Duration,
    /// Between two signs of progress while a worker starts. Tuning kernels for a new adapter can
    /// take most of a minute for a single shape.
    #[serde(with = "humantime_serde")]
    pub start: Duration,
    /// From handing over a batch to its answer.
    #[serde(with = "humantime_serde")]
    pub run: Duration,
    /// From asking a worker to exit to killing it.
    #[serde(with = "humantime_serde")]
    pub stop: Duration,
    /// From killing a worker to giving up on its process.
    #[serde(with = "humantime_serde")]
    pub reap: Duration,
    /// How often a request may run again after it was lost with its worker.
    pub retries: u32,
    /// Batches that a worker may hold: the one that it runs, and full ones that it has received
    /// already, so that it need not wait for the next one.
    pub slots: u32,
    /// Wait after an adapter's first fault; doubles with every further one in a row.
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// How often an idle worker asks a model for the answer of its golden sample; never if zero.
    #[serde(with = "humantime_serde")]
    pub check: Duration,
    /// Time for the validation load of a new model in a process of its own, which delays no other
    /// model; none if zero.
    #[serde(with = "humantime_serde")]
    pub validation: Duration,
    /// Workers give up the network, writing to files other than caches, and running programs,
    /// where the platform lets them. Off for a driver that does not bear it.
    pub confine: bool,
    /// Names of variables of the environment that workers receive besides those that drivers are
    /// known to need.
    pub environment: Vec<String>,
    /// Requests wait for a quarantined adapter if it is tried again within this time.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
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
            held_bytes: 1 << 30,
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

impl Default for Workers {
    fn default() -> Workers {
        Workers {
            silence: Duration::from_secs(5),
            start: Duration::from_secs(180),
            run: Duration::from_secs(60),
            stop: Duration::from_secs(3),
            reap: Duration::from_secs(5),
            retries: 3,
            slots: 1,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            check: Duration::from_secs(60),
            validation: Duration::from_secs(30),
            confine: true,
            environment: Vec::new(),
            patience: Duration::from_secs(5),
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
            ensure!(value >= 1, "limits.{name} is 0: nothing could be served");
        }
        // hyper refuses less than this.
        ensure!(self.header_bytes >= 8192, "limits.header_bytes must be at least 8192");
        ensure!(
            self.held_bytes >= self.body_bytes,
            "limits.held_bytes ({}) is less than limits.body_bytes ({}): the largest request \
             could never be served",
            self.held_bytes,
            self.body_bytes
        );
        // A batch cannot be larger than what is held, and the wire carries no larger one.
        ensure!(
            self.held_bytes as u64 <= wire::BODY_MAX,
            "limits.held_bytes is above {} bytes, the most that one batch may have",
            wire::BODY_MAX
        );
        positive("limits.header_timeout", self.header_timeout)?;
        positive("limits.body_timeout", self.body_timeout)?;
        positive("limits.write_timeout", self.write_timeout)
    }
}

impl Workers {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        // Four heartbeats fit into the silence bound; below this the machine's own scheduling
        // would look like a dead worker.
        ensure!(
            self.silence >= Duration::from_millis(200),
            "workers.silence must be at least 200ms"
        );
        environment::check(&self.environment)?;
        ensure!(
            (1..=BATCHES_MAX as u32).contains(&self.slots),
            "workers.slots must be between 1 and {BATCHES_MAX}"
        );
        ensure!(self.backoff <= self.backoff_max, "workers.backoff is above workers.backoff_max");
        positive("workers.start", self.start)?;
        positive("workers.run", self.run)?;
        positive("workers.stop", self.stop)?;
        positive("workers.reap", self.reap)?;
        positive("workers.backoff", self.backoff)
    }
}

pub(super) fn positive(name: &str, value: Duration) -> anyhow::Result<()> {
    ensure!(!value.is_zero(), "{name} is 0: nothing could ever be in time");
    Ok(())
}
