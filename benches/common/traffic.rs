//! Traffic of three kinds: without pause, at given times, or one request after the other.

use super::client::{Client, Request};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// Largest number of requests in flight when they are sent at given times.
const CLIENTS: usize = 64;

/// The rule by which a client without knowledge of speeds selects a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest open requests, in turn among equals, as in nginx.
    LeastConnections,
}

/// Servers behind a balancer.
pub(crate) struct Balancer {
    servers: Vec<SocketAddr>,
    open: Vec<AtomicUsize>,
    turn: AtomicUsize,
    balance: Balance,
}

impl Balancer {
    /// One server needs no balancing.
    pub(crate) fn new(servers: &[SocketAddr], balance: Balance) -> Balancer {
        let open = servers.iter().map(|_| AtomicUsize::new(0)).collect();
        Balancer { servers: servers.to_vec(), open, turn: AtomicUsize::new(0), balance }
    }

    fn choose(&self) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.servers.len();
        let in_turn = (0..count).map(|n| (turn + n) % count);
        let chosen = match self.balance {
            Balance::RoundRobin => turn % count,
            Balance::LeastConnections => {
                let open = |n: &usize| self.open[*n].load(Ordering::Relaxed);
                in_turn.min_by_key(open).expect("there is a server")
            }
        };
        self.open[chosen].fetch_add(1, Ordering::Relaxed);
        chosen
    }
}

/// A client with a connection to every server.
struct Caller<'a> {
    balancer: &'a Balancer,
    clients: Vec<Client>,
}

impl Caller<'_> {
    fn new(balancer: &Balancer) -> Caller<'_> {
        let clients = balancer.servers.iter().map(|address| Client::connect(*address)).collect();
        Caller { balancer, clients }
    }

    fn call(&mut self, path: &str, request: &Request) {
        let chosen = self.balancer.choose();
        self.clients[chosen].post(path, request);
        self.balancer.open[chosen].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers per second to clients that send requests without pause.
pub(crate) fn saturate(
    balancer: &Balancer,
    path: &str,
    request: &Request,
    clients: usize,
    lasting: Duration,
) -> f64 {
    let begin = Instant::now();
    let run = || {
        let mut caller = Caller::new(balancer);
        let mut answers = 0usize;
        while begin.elapsed() < lasting {
            caller.call(path, request);
            answers += 1;
        }
        answers
    };
    let answers: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(run)).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).sum()
    });
    answers as f64 / begin.elapsed().as_secs_f64()
}

/// Latencies of requests that are sent at these times, whether earlier ones are answered or not.
pub(crate) fn at_moments(
    balancer: &Balancer,
    path: &str,
    request: &Request,
    moments: &[Duration],
) -> Vec<Duration> {
    let (send, receive) = mpsc::channel();
    let receive = Mutex::new(receive);
    let run = || {
        let mut caller = Caller::new(balancer);
        let mut latencies = Vec::new();
        loop {
            let due = receive.lock().expect("one queue").recv();
            let Ok(due): Result<Instant, _> = due else { return latencies };
            caller.call(path, request);
            latencies.push(due.elapsed());
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(run)).collect();
        std::thread::sleep(Duration::from_millis(50));
        let begin = Instant::now();
        for moment in moments {
            let due = begin + *moment;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            send.send(due).expect("the clients are there");
        }
        drop(send);
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    })
}

/// The times of `count` arrivals of independent clients at a mean rate (a Poisson process).
pub(crate) fn poisson(count: usize, per_second: f64, seed: u64) -> Vec<Duration> {
    let (mut state, mut at) = (seed, 0.0);
    let mut next = || {
        // Steele et al., splitmix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let uniform = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        at += -(1.0 - uniform).ln() / per_second;
        Duration::from_secs_f64(at)
    };
    (0..count).map(|_| next()).collect()
}
