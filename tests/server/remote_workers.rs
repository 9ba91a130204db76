//! Workers that reach their server over TCP, through a forwarder that delays and cuts connections.

use serde_json::json;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::http::request;
use testkit::{Folder, Server, Setup, models, report};

/// Half of the round trip.
const ONE_WAY: Duration = Duration::from_micros(2500);
const CLIENTS: usize = 8;

/// Forwards connections, each chunk after a delay, until it is dropped.
struct Forwarder {
    /// The address on which the server listens, and the one to which the worker connects.
    listen: SocketAddr,
    connect: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    over: Arc<AtomicBool>,
    traffic: Arc<Traffic>,
}

/// Bytes that were forwarded to workers.
#[derive(Default)]
struct Traffic {
    bytes: AtomicU64,
    /// The number of bytes after which the connection is cut; 0 for never.
    cut_at: AtomicU64,
}

impl Traffic {
    /// Counts a chunk; `true` if it is the last one to be forwarded.
    fn count(&self, chunk: &[u8]) -> bool {
        let bytes = self.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        let cut_at = self.cut_at.load(Ordering::Relaxed);
        let is_last = cut_at > 0 && bytes >= cut_at;
        if is_last {
            self.cut_at.store(0, Ordering::Relaxed);
        }
        is_last
    }

    fn take(&self) -> u64 {
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

impl Forwarder {
    fn new() -> Forwarder {
        // The port was free a moment ago.
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = door.local_addr().unwrap();
        let (streams, over) = (Arc::default(), Arc::<AtomicBool>::default());
        let traffic = Arc::<Traffic>::default();
        let forwarder =
            Forwarder { listen, connect, streams, over: over.clone(), traffic: traffic.clone() };
        let streams = forwarder.streams.clone();
        std::thread::spawn(move || {
            for worker in door.incoming().map_while(Result::ok) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(listen) else { continue };
                for stream in [&worker, &server] {
                    stream.set_nodelay(true).unwrap();
                    streams.lock().unwrap().push(stream.try_clone().unwrap());
                }
                let (to_worker, to_server) = (worker.try_clone(), server.try_clone());
                pass(worker, to_server.unwrap(), Arc::default());
                pass(server, to_worker.unwrap(), traffic.clone());
            }
        });
        forwarder
    }

    fn config(&self) -> String {
        format!("[test.link]\nlisten = '{}'\nconnect = '{}'\n", self.listen, self.connect)
    }

    /// Ends all connections; new ones are forwarded again.
    fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.connect);
        self.cut();
    }
}

/// Forwards one direction in threads that end with it.
fn pass(mut from: TcpStream, to: TcpStream, traffic: Arc<Traffic>) {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let _ = send.send((Instant::now() + ONE_WAY, buffer[..read].to_vec()));
        }
    });
    std::thread::spawn(move || deliver(&receive, to, &traffic));
}

fn deliver(chunks: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream, traffic: &Traffic) {
    while let Ok((due, chunk)) = chunks.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&chunk).is_err() || traffic.count(&chunk) {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// The weights of a model are sent once to a worker that cannot read the repository: a transfer
/// that is cut resumes where it ended, and a worker that starts again has all of them.
#[test]
fn model_files_are_sent_once_to_a_remote_worker() {
    const WEIGHTS: usize = 24 << 20;
    let repository = Folder::new();
    models::add_echo(&repository, "echo", 1, "0ms");
    let weights: Vec<u8> = (0..WEIGHTS / 4).flat_map(|n| (n as u32).to_le_bytes()).collect();
    repository.write("echo/1/weights", &weights);
    let forwarder = Forwarder::new();
    forwarder.traffic.cut_at.store(WEIGHTS as u64 / 2, Ordering::Relaxed);
    let cache = Folder::new();
    let setup = Setup::cpu().models(repository.path()).cache_dir(cache.path());
    let server = setup.config(&forwarder.config()).start();
    let infer = |value| {
        let answer = server.connect().exchange(&echo(value)).unwrap();
        assert_eq!(answer.json()["outputs"][0]["data"], json!([value]));
    };
    infer(7);
    assert_eq!(server.adapter("cpu")["starts"], 2, "the transfer was cut");
    let first = forwarder.traffic.take();
    forwarder.cut();
    infer(8);
    assert_eq!(server.adapter("cpu")["starts"], 3);
    let again = forwarder.traffic.take();
    report(&format!("{first} bytes for {WEIGHTS}, then {again}"));
    // Pieces that were in transit when the connection was cut, and the hashes.
    let rest = 6 << 20;
    assert!((WEIGHTS..WEIGHTS + rest).contains(&(first as usize)), "{first}");
    assert!(again < 100_000, "{again}");
    let received = cache.path().join("adapters/cpu/models");
    let version = std::fs::read_dir(received).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read(version.join("echo/1/weights")).unwrap(), weights);
}

/// A server with one adapter, which takes 3 ms for each batch of one row.
fn server(slots: u32, forwarder: Option<&Forwarder>) -> (Server, Folder) {
    let repository = Folder::new();
    models::add_echo(&repository, "echo", 1, "0ms");
    let link = forwarder.map(Forwarder::config).unwrap_or_default();
    let config = format!("{link}[workers]\nslots = {slots}\n[test.slow.cpu]\nbatch = '3ms'\n");
    let server = Setup::cpu().models(repository.path()).config(&config).start();
    server.wait_until_ready();
    (server, repository)
}

fn echo(value: usize) -> Vec<u8> {
    let input = json!({ "name": "x", "datatype": "INT32", "shape": [1, 1], "data": [value] });
    let body = json!({ "inputs": [input] }).to_string();
    request(
        "POST",
        "/v2/models/echo/infer",
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    )
}

/// The number of right answers to clients that send requests without pause for this time, and other
/// statuses.
fn load(server: &Server, lasting: Duration) -> (usize, VecDeque<String>) {
    let begin = Instant::now();
    let client = |number: usize| {
        let (mut right, mut wrong) = (0, VecDeque::new());
        let mut connection = server.connect();
        while begin.elapsed() < lasting {
            let value = right * CLIENTS + number;
            let answer = connection.exchange(&echo(value)).unwrap();
            match (answer.status, answer.json()["outputs"][0]["data"][0].as_u64()) {
                (200, Some(echoed)) if echoed == value as u64 => right += 1,
                other => wrong.push_back(format!("{value}: {other:?}")),
            }
        }
        (right, wrong)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || client(n))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).fold(
            (0, VecDeque::new()),
            |(sum, mut all), (right, wrong)| {
                all.extend(wrong);
                (sum + right, all)
            },
        )
    })
}

fn rate(server: &Server) -> f64 {
    load(server, Duration::from_millis(500));
    let (begin, (right, wrong)) = (Instant::now(), load(server, Duration::from_secs(2)));
    assert!(wrong.is_empty(), "{wrong:?}");
    right as f64 / begin.elapsed().as_secs_f64()
}

/// With a round trip of 5 ms one batch at a time leaves the worker idle for most of the time.
#[test]
fn several_slots_hide_the_round_trip_to_a_remote_worker() {
    let here = rate(&server(1, None).0);
    let rates = [1, 2, 3].map(|slots| {
        let forwarder = Forwarder::new();
        let (server, _repository) = server(slots, Some(&forwarder));
        rate(&server) / here
    });
    report(&format!("{here:.0} rows/s here; with 1, 2, 3 slots 5 ms away {rates:.2?} of that"));
    let [one, two, three] = rates;
    // On a busy machine the forwarder itself takes time.
    assert!(one < 0.5 && two > 1.4 * one && three > 1.2 * two, "{rates:?}");
}

#[test]
fn requests_are_answered_after_the_connection_to_a_worker_is_lost() {
    let forwarder = Forwarder::new();
    let (server, _repository) = server(3, Some(&forwarder));
    let (right, wrong) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&server, Duration::from_secs(6)));
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(1500));
            forwarder.cut();
        }
        load.join().unwrap()
    });
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(right > 50, "{right}");
    assert_eq!(server.adapter("cpu")["starts"], 3, "each loss costs a start");
}
