//! HTTP/1.1 as bytes over a socket, so that tests can send requests that no library would send.

use super::HANG;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Headers with names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// Returns the message of an error answer; empty if the answer is not an error.
    pub fn error(&self) -> String {
        let parsed: Result<Value, _> = serde_json::from_slice(&self.body);
        let error = parsed.ok().and_then(|body| body["error"].as_str().map(str::to_owned));
        error.unwrap_or_default()
    }

    /// Returns the JSON part of a binary answer, and the raw tensors after it.
    #[track_caller]
    pub fn split(&self) -> (Value, &[u8]) {
        let length = self.header("inference-header-content-length").expect("a binary answer");
        let (json, raw) = self.body.split_at(length.parse().expect("a length"));
        (serde_json::from_slice(json).expect("JSON"), raw)
    }
}

/// Returns a request as bytes.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n").into_bytes();
    let mut header = |name: &str, value: &str| {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    };
    headers.iter().for_each(|(name, value)| header(name, value));
    if !body.is_empty() || method != "GET" {
        header("Content-Length", &body.len().to_string());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A connection that stays open between requests.
pub struct Connection<S = TcpStream> {
    reader: BufReader<S>,
}

impl Connection {
    /// # Errors
    /// If no server listens.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, HANG)?;
        stream.set_read_timeout(Some(HANG * 2))?;
        stream.set_write_timeout(Some(HANG))?;
        stream.set_nodelay(true)?;
        Ok(Connection::over(stream))
    }

    /// Returns true if unrequested bytes are received.
    pub fn has_more(&mut self) -> bool {
        let _ = self.reader.get_ref().set_read_timeout(Some(Duration::from_millis(50)));
        matches!(self.reader.read(&mut [0]), Ok(1))
    }

    pub fn into_stream(self) -> TcpStream {
        self.reader.into_inner()
    }
}

impl<S: Read + Write> Connection<S> {
    pub fn over(stream: S) -> Connection<S> {
        Connection { reader: BufReader::new(stream) }
    }

    pub fn get_ref(&self) -> &S {
        self.reader.get_ref()
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads one line, including its end.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }

    /// Fills `to`.
    pub fn read(&mut self, to: &mut [u8]) -> io::Result<()> {
        self.reader.read_exact(to)
    }

    /// Reads one answer with a declared length, or one that ends with the connection.
    pub fn receive(&mut self) -> io::Result<Response> {
        let (status, headers) = self.head()?;
        let mut response = Response { status, headers, body: Vec::new() };
        match response.header("content-length").map(|length| length.parse()) {
            Some(Ok(length)) => {
                response.body = vec![0; length];
                self.reader.read_exact(&mut response.body)?;
            }
            Some(Err(_)) => return Err(io::ErrorKind::InvalidData.into()),
            None => drop(self.reader.read_to_end(&mut response.body)?),
        }
        Ok(response)
    }

    /// Reads status and headers, up to the body.
    pub fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { return Ok((status, headers)) };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }

    /// Sends one request and reads its answer.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Response> {
        self.send(request)?;
        self.receive()
    }

    /// Returns true if the other side has closed the connection, or does so within the read
    /// timeout.
    pub fn is_closed(&mut self) -> bool {
        match self.reader.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
