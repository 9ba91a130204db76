//! Clients that send requests without pause and check every answer.

use super::Response;
use super::http::Connection;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Results of all clients.
#[derive(Debug, Default)]
pub struct Seen {
    pub answers: u64,
    /// Number of answers by adapter.
    pub adapters: BTreeMap<String, u64>,
    /// The first errors.
    pub wrong: Vec<String>,
}

/// Running clients; each has one connection and one request at a time.
pub struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// Starts `count` clients. Client `n` sends `requests(n)` repeatedly, and `check(n, _)` returns
    /// an error if an answer is wrong.
    pub fn start<C>(
        address: SocketAddr,
        count: usize,
        requests: impl Fn(usize) -> Vec<u8>,
        check: C,
    ) -> Load
    where
        C: Fn(usize, &Response) -> Result<(), String> + Clone + Send + 'static,
    {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |n: usize| {
            let (stop, answers, check) = (stop.clone(), answers.clone(), check.clone());
            let request = requests(n);
            std::thread::spawn(move || {
                let mut seen = Seen::default();
                if let Err(error) = run_client(address, &request, &stop, &mut seen, |response| {
                    answers.fetch_add(1, Ordering::Relaxed);
                    check(n, response)
                }) {
                    seen.wrong.push(format!("client {n}: {error}"));
                }
                seen
            })
        };
        let clients = (0..count).map(client).collect();
        Load { stop, answers, clients }
    }

    /// Returns the number of answers so far, right and wrong.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Waits until every client has finished its request, and returns their results.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in self.clients {
            let seen = client.join().expect("a client does not panic");
            all.answers += seen.answers;
            all.wrong.extend(seen.wrong);
            for (adapter, count) in seen.adapters {
                *all.adapters.entry(adapter).or_default() += count;
            }
        }
        all
    }
}

/// Runs one client. A second answer to one request would be read as the answer to the next one,
/// which has different content, or remain unread at the end.
fn run_client(
    address: SocketAddr,
    request: &[u8],
    stop: &AtomicBool,
    seen: &mut Seen,
    check: impl Fn(&Response) -> Result<(), String>,
) -> std::io::Result<()> {
    let mut connection = Connection::open(address)?;
    while !stop.load(Ordering::Relaxed) {
        let response = connection.exchange(request)?;
        seen.answers += 1;
        let adapter = response.header("x-concertina-adapter").unwrap_or("none").to_owned();
        *seen.adapters.entry(adapter).or_default() += 1;
        if let Err(wrong) = check(&response)
            && seen.wrong.len() < 5
        {
            seen.wrong.push(wrong);
        }
    }
    if connection.has_more() {
        seen.wrong.push("unread bytes after the last answer".to_owned());
    }
    Ok(())
}
