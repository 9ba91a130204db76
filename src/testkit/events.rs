//! Server-sent events of `generate_stream`, read from a chunked body.

use super::Server;
use super::http::{Connection, Response, request};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read};

/// The answer to a request to `generate_stream`, read while it is sent.
pub struct Events {
    lines: BufReader<Chunks>,
    pub headers: Vec<(String, String)>,
}

/// One event of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `error`, or empty for data.
    pub name: String,
    pub data: Value,
}

impl Events {
    /// Sends a request and reads the header of its answer.
    ///
    /// # Errors
    /// The answer, if it is not a stream.
    pub fn open(server: &Server, path: &str, body: &str) -> Result<Events, Response> {
        let mut connection = server.connect();
        let headers = [("content-type", "application/json")];
        connection.send(&request("POST", path, &headers, body.as_bytes())).expect("it is sent");
        let (status, headers) = connection.head().expect("an answer");
        let response = Response { status, headers, body: Vec::new() };
        if response.header("content-type") != Some("text/event-stream") {
            let length = response.header("content-length").and_then(|text| text.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            connection.read(&mut body).expect("the body");
            return Err(Response { body, ..response });
        }
        let chunks = Chunks { connection, left: 0, is_over: false };
        Ok(Events { lines: BufReader::new(chunks), headers: response.headers })
    }

    /// Returns the next event; `None` after the last one.
    ///
    /// # Errors
    /// If the connection is closed early.
    #[allow(clippy::should_implement_trait, reason = "an end and an error are two things")]
    pub fn next(&mut self) -> io::Result<Option<Event>> {
        let (mut name, mut line) = (String::new(), String::new());
        loop {
            line.clear();
            if self.lines.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end().split_once(':') {
                Some(("event", text)) => text.trim().clone_into(&mut name),
                Some(("data", text)) => {
                    let data = serde_json::from_str(text).map_err(io::Error::other)?;
                    return Ok(Some(Event { name, data }));
                }
                _ => {}
            }
        }
    }

    /// Returns all further events.
    ///
    /// # Errors
    /// If the connection is closed early.
    pub fn rest(mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        while let Some(event) = self.next()? {
            events.push(event);
        }
        Ok(events)
    }
}

impl Events {
    /// Reads a stream of `numbers` numbers from `start` of the kind `count`. Returns true if all
    /// arrived in order, and false if some did, followed by an error event.
    ///
    /// # Errors
    /// A description of any other result.
    pub fn count(self, start: i64, numbers: i64) -> Result<bool, String> {
        let all = self.rest().map_err(|error| error.to_string())?;
        let failed = all.last().is_some_and(|last| last.name == "error");
        let found: Vec<_> = all.iter().map(|event| event.data["number"].as_i64()).collect();
        let count = if failed { all.len() as i64 - 1 } else { numbers };
        let expected: Vec<_> = (start..start + count).map(Some).collect();
        let before = found.get(..expected.len()).unwrap_or_default();
        let in_order = before == expected && all.len() as i64 == count + i64::from(failed);
        if in_order { Ok(!failed) } else { Err(format!("{all:?}")) }
    }
}

/// The body of a chunked answer.
struct Chunks {
    connection: Connection,
    /// Unread bytes of the current chunk.
    left: usize,
    is_over: bool,
}

impl Read for Chunks {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.is_over {
            let line = self.connection.line()?;
            let length = usize::from_str_radix(line.trim(), 16);
            self.left = length.map_err(io::Error::other)?;
            self.is_over = self.left == 0;
        }
        let most = to.len().min(self.left);
        let Some(part) = to.get_mut(..most).filter(|_| !self.is_over) else { return Ok(0) };
        self.connection.read(part)?;
        self.left -= most;
        if self.left == 0 {
            self.connection.line()?;
        }
        Ok(most)
    }
}
