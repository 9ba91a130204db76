//! Routing with a queue per adapter: each request is bound to an adapter's queue when it arrives,
//! all adapters are always on, and batches contain all waiting rows. It is compared with the
//! product's single queue, from which rows go to an adapter when it is free.

use crate::cells::Cell;
use simulate::{Doing, Machine, Meter, Outcome, RestartState, Run};
use std::collections::VecDeque;
use std::time::Duration;
use types::random::SplitMix64;

/// Rule for the choice of a queue; of equal queues the first is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Router {
    RoundRobin,
    /// Join the shortest queue.
    Shortest,
    /// The shorter of two drawn at random (Mitzenmacher, *The power of two choices*, 2001).
    TwoChoices,
    /// Shortest expected delay: queue over speed.
    ExpectedDelay,
    /// Smallest expected completion time, including the rest of the running batch.
    Completion,
}

pub(crate) const ROUTERS: [(&str, Router); 5] = [
    ("round-robin", Router::RoundRobin),
    ("jsq", Router::Shortest),
    ("p2c", Router::TwoChoices),
    ("sed", Router::ExpectedDelay),
    ("sect", Router::Completion),
];

/// An adapter with a queue.
#[derive(Debug)]
struct Server<'a> {
    machine: &'a Machine,
    /// Requests that wait, and that run, by their number.
    waiting: VecDeque<usize>,
    running: Vec<usize>,
    done_at: f64,
    meter: Meter,
    served: u64,
}

impl Server<'_> {
    fn queued(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    fn delay(&self) -> f64 {
        (self.queued() + 1) as f64 / self.machine.rate(f64::INFINITY)
    }

    /// Returns the seconds until one more request would be answered.
    fn completion(&self, now: f64) -> f64 {
        let remaining = if self.running.is_empty() { 0.0 } else { self.done_at - now };
        let max_rows = self.machine.max_rows as usize;
        let (full, rest) = (self.waiting.len() / max_rows, self.waiting.len() % max_rows + 1);
        let full = full as f64 * self.machine.batch(self.machine.max_rows);
        remaining + full + self.machine.batch(rest as u32)
    }

    fn begin(&mut self, now: f64) {
        let rows = self.waiting.len().min(self.machine.max_rows as usize);
        self.running.extend(self.waiting.drain(..rows));
        let doing = if rows == 0 { Doing::Idle } else { Doing::Busy };
        self.meter.set(now, doing, self.machine);
        let took = if rows == 0 { f64::INFINITY } else { self.machine.batch(rows as u32) };
        self.done_at = now + took;
    }
}

impl Router {
    fn choose(
        self,
        now: f64,
        number: usize,
        servers: &[Server<'_>],
        noise: &mut SplitMix64,
    ) -> usize {
        let count = servers.len();
        let least = |merit: &dyn Fn(&Server<'_>) -> f64| {
            let all = (0..count).min_by(|a, b| merit(&servers[*a]).total_cmp(&merit(&servers[*b])));
            all.unwrap_or(0)
        };
        match self {
            Router::RoundRobin => number % count,
            Router::Shortest => least(&|server| server.queued() as f64),
            Router::ExpectedDelay => least(&|server| server.delay()),
            Router::Completion => least(&|server| server.completion(now)),
            Router::TwoChoices => {
                let one = (noise.uniform() * count as f64) as usize;
                let step = 1 + (noise.uniform() * (count - 1) as f64) as usize;
                let other = (one + step) % count;
                if servers[other].queued() < servers[one].queued() { other } else { one }
            }
        }
    }
}

/// Serves the cell's trace; requests count as one row each.
pub(crate) fn serve(cell: &Cell, router: Router) -> Outcome {
    let times = cell.trace.times();
    let mut latencies = vec![f64::INFINITY; times.len()];
    let server = |machine| Server {
        machine,
        waiting: VecDeque::new(),
        running: Vec::new(),
        done_at: f64::INFINITY,
        meter: Meter::new(false),
        served: 0,
    };
    let mut servers: Vec<Server<'_>> = cell.machines.iter().map(server).collect();
    servers.iter_mut().for_each(|server| server.begin(0.0));
    let (mut next, mut noise, mut now) = (0, SplitMix64::new(1), 0.0);
    loop {
        let first = (0..servers.len())
            .min_by(|a, b| servers[*a].done_at.total_cmp(&servers[*b].done_at))
            .expect("there are adapters");
        let arrival = times.get(next).copied().unwrap_or(f64::INFINITY);
        if arrival.is_infinite() && servers[first].done_at.is_infinite() {
            break;
        }
        now = arrival.min(servers[first].done_at);
        if servers[first].done_at <= arrival {
            let server = &mut servers[first];
            server.served += server.running.len() as u64;
            server.running.drain(..).for_each(|request| latencies[request] = now - times[request]);
            server.begin(now);
        } else {
            let at = router.choose(now, next, &servers, &mut noise);
            servers[at].waiting.push_back(next);
            if servers[at].running.is_empty() {
                servers[at].begin(now);
            }
            next += 1;
        }
    }
    servers.iter_mut().for_each(|server| server.meter.settle(now));
    let late = latencies.iter().filter(|latency| **latency > cell.slo + 1e-9).count() as u64;
    cell.outcome(&Run {
        latencies,
        late,
        served: servers.iter().map(|server| (server.served, server.served)).collect(),
        meters: servers.into_iter().map(|server| server.meter).collect(),
        loads: 0,
        unloads: 0,
        span: now,
        events: 0,
        deciding: Duration::ZERO,
        learned: RestartState::default(),
    })
}
