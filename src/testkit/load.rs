//! Clients that ask without pause, each checking every answer.

use super::Response;
use super::http::Connection;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// What the clients saw, all together.
#[derive(Debug, Default)]
pub struct Seen {
    pub answers: u64,
    /// Answers of each adapter.
    pub adapters: BTreeMap<String, u64>,
    /// The first few things that were wrong.
    pub wrong: Vec<String>,
}

/// Running clients; each has one connection and one request at a time.
pub struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Load {
    /// Starts `count` clients. Client `n` sends `requests(n)` again and again, and `check(n, _)`
    /// says what is wrong with an answer.
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
                if let Err(error) = ask(address, &request, &stop, &mut seen, |response| {
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

    /// Answers so far, right and wrong.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Lets every client finish its request and collects what they saw.
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

/// One client's life. A second answer to one request would be read as the answer to the next,
/// and its content would be wrong; or be left over at the end.
fn ask(
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
        let adapter = response.header("x-concertina-adapter").unwrap_or("nobody").to_owned();
        *seen.adapters.entry(adapter).or_default() += 1;
        if let Err(wrong) = check(&response)
            && seen.wrong.len() < 5
        {
            seen.wrong.push(wrong);
        }
    }
    if connection.has_more() {
        seen.wrong.push("bytes were left over behind the last answer".to_owned());
    }
    Ok(())
}
