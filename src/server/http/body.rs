//! Reads a request body within its limits: size, time, and the memory of all bodies together.

use crate::http::encoding::Coding;
use crate::http::growing::Growing;
use crate::http::limits::ApiLimits;
use bytes::{Buf, Bytes};
use engine::{Account, Full, HeldMemory, Memory};
use futures_util::{Stream, StreamExt};
use std::fmt::Display;
use std::time::Duration;
use types::error::{Error, ErrorKind};
use types::json::document;
use warp::http::HeaderMap;
use warp::http::header::{CONTENT_LENGTH, CONTENT_TYPE};

/// Length of the number that precedes the bytes of a BYTES element.
const LENGTH_BYTES: usize = 4;

/// The limits of request bodies, shared by all connections.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    /// The account to which the memory of one request is charged.
    account: Account,
    memory: Memory,
    bytes_max: usize,
    timeout: Duration,
    /// Bytes to reserve in memory before the body.
    room: usize,
}

/// A whole body, and the charge of its memory.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    /// The body as a BYTES element, if that was requested and is possible.
    pub(crate) element: Option<Bytes>,
}

impl Bodies {
    /// Creates the limits for requests of operators, which count as one client.
    pub(crate) fn new(limits: &ApiLimits, memory: Memory) -> Bodies {
        let (bytes_max, timeout) = (limits.body_bytes_max, limits.body_timeout);
        Bodies { account: memory.of(0), memory, bytes_max, timeout, room: 0 }
    }

    /// Returns the same limits with a smaller maximum size of a body.
    pub(crate) fn at_most(&self, bytes_max: usize) -> Bodies {
        let account = self.memory.of(0);
        Bodies { bytes_max: bytes_max.min(self.bytes_max), account, ..self.clone() }
    }

    /// Returns the same limits for one request of a client.
    pub(crate) fn of(&self, client: u64) -> Bodies {
        Bodies { account: self.memory.of(client), ..self.clone() }
    }

    /// Returns the same limits for bodies that may become BYTES elements without a copy.
    pub(crate) fn as_elements(&self) -> Bodies {
        Bodies { room: LENGTH_BYTES, ..self.clone() }
    }

    /// Returns the account to which the memory of bodies is charged.
    pub(crate) fn account(&self) -> Account {
        self.account.clone()
    }

    /// Reads the whole body, chunked or with a declared length, compressed or not.
    ///
    /// # Errors
    /// 413 if the body is too large, compressed or decompressed (before it is read if its length is
    /// declared); 408 if it is too slow; 415 if its coding is not supported; 429 if the memory for
    /// bodies is in use; 400 if it is incomplete.
    pub(crate) async fn collect<S, B, E>(
        &self,
        headers: &HeaderMap,
        stream: S,
    ) -> Result<Body, Error>
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
        E: Display,
    {
        let coding = Coding::of_request(headers)?;
        let declared = declared_length(headers).unwrap_or_default();
        let declared = usize::try_from(declared).unwrap_or(usize::MAX);
        if declared > self.bytes_max {
            return Err(self.too_large());
        }
        // A compressed body becomes an element when it is decompressed.
        let room = if coding.is_some() { 0 } else { self.room };
        let reading = self.read(stream, PartialBody::new(self.account().request(), room, declared));
        let read = tokio::time::timeout(self.timeout, reading).await;
        let body = read.unwrap_or_else(|_| Err(self.too_slow()))?;
        match coding {
            None => Ok(body),
            Some(coding) => self.decompress(coding, body).await,
        }
    }

    /// Decompresses a body outside the event loop, since a short body may expand to a long one.
    async fn decompress(&self, coding: Coding, body: Body) -> Result<Body, Error> {
        let bodies = self.clone();
        let decompress = move || {
            let mut parts = PartialBody::new(bodies.account().request(), bodies.room, 0);
            coding.decompress(&body.bytes, |piece| {
                if piece.len() > bodies.bytes_max.saturating_sub(parts.length) {
                    return Err(bodies.too_large());
                }
                parts.push(piece).map_err(Full::of_request)
            })?;
            parts.join().map_err(Full::of_request)
        };
        let done = tokio::task::spawn_blocking(decompress).await;
        done.unwrap_or_else(|error| Err(Error::internal(format!("the task failed: {error}"))))
    }

    async fn read<S, B, E>(&self, stream: S, mut parts: PartialBody) -> Result<Body, Error>
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
        E: Display,
    {
        let mut stream = std::pin::pin!(stream);
        while let Some(part) = stream.next().await {
            let broken =
                |error| Error::malformed(format!("the request body is incomplete: {error}"));
            let mut part = part.map_err(broken)?;
            if part.remaining() > self.bytes_max.saturating_sub(parts.length) {
                return Err(self.too_large());
            }
            let part = part.copy_to_bytes(part.remaining());
            parts.add(part).map_err(Full::of_request)?;
        }
        parts.join().map_err(Full::of_request)
    }

    fn too_large(&self) -> Error {
        let message = format!("the request body is larger than {} bytes", self.bytes_max);
        Error::new(ErrorKind::TooLarge, message)
    }

    fn too_slow(&self) -> Error {
        let message = format!("the request body took longer than {:?}", self.timeout);
        Error::new(ErrorKind::RequestTimeout, message)
    }
}

/// The received part of a body, after reserved space.
struct PartialBody {
    room: usize,
    declared: usize,
    /// Length without the reserved space.
    length: usize,
    /// The only part so far, if no space is reserved: a body that arrives in one piece is not
    /// copied.
    first: Option<(Bytes, HeldMemory)>,
    rest: Growing,
}

impl PartialBody {
    fn new(held: HeldMemory, room: usize, declared: usize) -> PartialBody {
        PartialBody { room, declared, length: 0, first: None, rest: Growing::new(held) }
    }

    fn add(&mut self, part: Bytes) -> Result<(), Full> {
        if self.length > 0 || self.room > 0 || part.is_empty() {
            return self.push(&part);
        }
        self.length = part.len();
        let held = self.rest.charge(part.len())?;
        self.first = Some((part, held));
        Ok(())
    }

    fn push(&mut self, part: &[u8]) -> Result<(), Full> {
        if self.rest.len() == 0 && !part.is_empty() {
            self.rest.expect(self.declared.saturating_add(self.room));
            if self.room > 0 {
                self.rest.push(&[0; LENGTH_BYTES])?;
            }
        }
        if let Some((first, _held)) = self.first.take() {
            self.rest.push(&first)?;
        }
        self.rest.push(part)?;
        self.length = self.length.saturating_add(part.len());
        Ok(())
    }

    fn join(mut self) -> Result<Body, Full> {
        if let Some((only, held)) = self.first {
            return Ok(Body { bytes: held.wrap(only), element: None });
        }
        if self.room == 0 {
            return Ok(Body { bytes: self.rest.finish(), element: None });
        }
        if self.rest.len() == 0 {
            self.rest.push(&[0; LENGTH_BYTES])?;
        }
        let length = u32::try_from(self.length).ok();
        if let (Some(place), Some(length)) = (self.rest.first_mut(), length) {
            *place = length.to_le_bytes();
        }
        let element = self.rest.finish();
        let bytes = element.slice(LENGTH_BYTES.min(element.len())..);
        Ok(Body { bytes, element: length.map(|_| element) })
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::UnsupportedMediaType, message)
}

/// Returns the media type without its parameters, in lower case; empty if none was sent.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
    String::from_utf8_lossy(essence.trim_ascii()).to_ascii_lowercase()
}

/// Checks the content type of an inference request. It may also be that of octets, which
/// `perf_analyzer` sends.
pub(crate) fn check_inference_type(headers: &HeaderMap) -> Result<(), Error> {
    let given = media_type(headers);
    if is_taken_for_json(&given) || given == "application/octet-stream" {
        return Ok(());
    }
    Err(unsupported(format!(
        "content-type: '{given}' is not supported; send application/json or \
         application/octet-stream"
    )))
}

/// Returns true for content types under which clients send JSON: those of JSON, none at all
/// (tritonclient), and the defaults of `curl -d` and of `fetch` with a string.
fn is_taken_for_json(media_type: &str) -> bool {
    match media_type {
        "" | "application/json" | "text/json" => true,
        "application/x-www-form-urlencoded" | "text/plain" => true,
        other => other.starts_with("application/") && other.ends_with("+json"),
    }
}

/// Returns true for a body that is a whole file, for a model that takes one: its content type is
/// not that of JSON, its JSON part has no bytes (Triton's raw binary request), or its first byte
/// cannot begin a JSON object.
pub(crate) fn is_file(headers: &HeaderMap, header_length: Option<usize>, body: &[u8]) -> bool {
    match (header_length, media_type(headers).as_str()) {
        (Some(length), _) => length == 0,
        (None, "" | "application/x-www-form-urlencoded" | "text/plain") => {
            document::without_mark(body).trim_ascii_start().first() != Some(&b'{')
        }
        (None, "application/json" | "text/json") => false,
        (None, given) => !given.ends_with("+json"),
    }
}

/// Checks the content type on routes that change state: only `application/json`, which HTML forms
/// cannot send.
pub(crate) fn check_json_type(headers: &HeaderMap) -> Result<(), Error> {
    match media_type(headers).as_str() {
        "application/json" => Ok(()),
        given => Err(unsupported(format!(
            "content-type: '{given}' is not supported here, where something is changed; send \
             application/json"
        ))),
    }
}

/// Like [`check_json_type`], for routes where clients may omit the content type.
pub(crate) fn check_optional_json_type(headers: &HeaderMap) -> Result<(), Error> {
    if headers.contains_key(CONTENT_TYPE) { check_json_type(headers) } else { Ok(()) }
}

/// Checks the content type on routes that change nothing: any type under which clients send JSON.
pub(crate) fn check_lenient_json_type(headers: &HeaderMap) -> Result<(), Error> {
    let given = media_type(headers);
    if is_taken_for_json(&given) {
        return Ok(());
    }
    Err(unsupported(format!(
        "content-type: '{given}' is not supported here; send application/json"
    )))
}

#[cfg(test)]
mod tests;
