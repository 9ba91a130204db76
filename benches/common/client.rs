//! A blocking HTTP/1.1 client of a few lines, so that the bench measures the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A body with its headers.
pub(crate) struct Request {
    headers: String,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn json(body: Vec<u8>) -> Request {
        Request { headers: "content-type: application/json\r\n".to_owned(), body }
    }
}

/// One input in the binary form of the V2 protocol; requests binary outputs.
pub(crate) fn binary_request(name: &str, datatype: &str, shape: &[usize], data: &[u8]) -> Request {
    let json = format!(
        r#"{{"inputs":[{{"name":"{name}","datatype":"{datatype}","shape":{shape:?},"parameters":{{"binary_data_size":{}}}}}],"parameters":{{"binary_data_output":true}}}}"#,
        data.len()
    );
    let headers = format!("inference-header-content-length: {}\r\n", json.len());
    Request { headers, body: [json.as_bytes(), data].concat() }
}

/// Idle time before a reconnect: the server closes connections that are idle for twice as long.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// One kept-alive connection, which is reopened after an idle time.
pub(crate) struct Client {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    used: Instant,
    /// The adapter that gave the last answer.
    pub(crate) adapter: String,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let (stream, used) = (open(address), Instant::now());
        Client { address, stream, used, adapter: String::new() }
    }

    /// Posts and reads the whole answer, which must be a 200.
    pub(crate) fn post(&mut self, path: &str, request: &Request) -> Vec<u8> {
        let Request { headers, body } = request;
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        if self.used.elapsed() > IDLE_MAX {
            self.stream = open(self.address);
        }
        self.used = Instant::now();
        self.stream.get_mut().write_all(&bytes).expect("the server reads");
        self.answer()
    }

    /// Gets a document.
    pub(crate) fn get(&mut self, path: &str) -> Vec<u8> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).expect("the server reads");
        self.answer()
    }

    fn answer(&mut self) -> Vec<u8> {
        let mut length = 0;
        let mut status = String::new();
        self.stream.read_line(&mut status).expect("the server answers");
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line).expect("the server answers");
            assert!(read > 0, "the server hung up");
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            } else if let Some(value) = line.strip_prefix("x-concertina-adapter: ") {
                self.adapter = value.trim().to_owned();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a whole body");
        assert!(status.contains(" 200 "), "{status}: {}", String::from_utf8_lossy(&body));
        body
    }
}

fn open(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("timeout");
    BufReader::new(stream)
}

/// The time that this percentage of the requests did not exceed.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

pub(crate) fn median(times: &mut [Duration]) -> Duration {
    percentile(times, 50)
}
