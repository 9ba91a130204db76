//! Reads a request body within its bounds: size, time, and the memory of all bodies together.

use crate::api::encoding::Coding;
use crate::api::limits::ApiLimits;
use crate::error::{Error, ErrorKind};
use crate::json::document;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::http::HeaderMap;
use warp::http::header::{CONTENT_LENGTH, CONTENT_TYPE};

/// Most bytes that are reserved for a declared length; beyond them, memory grows as bytes arrive.
const RESERVE_BYTES_MAX: usize = 1024 * 1024;

/// Delay before a retry if the memory for bodies is taken.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// The bounds on request bodies, shared by all connections.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    /// One permit is one byte of memory.
    budget: Arc<Semaphore>,
    bytes_max: usize,
    timeout: Duration,
}

/// A whole body. Dropping it releases its share of the memory budget.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    pub(crate) share: Share,
}

/// Part of the memory budget of all bodies.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let permits = u32::try_from(bytes).map_err(|_| busy())?;
        let more = self.budget.clone().try_acquire_many_owned(permits).map_err(|_| busy())?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

fn busy() -> Error {
    let message = "the memory for request bodies is taken by other requests; try again later";
    Error::new(ErrorKind::QueueFull, message).retry_after(BUSY_RETRY)
}

impl Bodies {
    pub(crate) fn new(limits: &ApiLimits) -> Bodies {
        let budget = limits.bodies_bytes_max.min(Semaphore::MAX_PERMITS);
        Bodies {
            budget: Arc::new(Semaphore::new(budget)),
            bytes_max: limits.body_bytes_max,
            timeout: limits.body_timeout,
        }
    }

    /// The same bounds with a smaller limit of one body.
    pub(crate) fn at_most(&self, bytes_max: usize) -> Bodies {
        Bodies { bytes_max: bytes_max.min(self.bytes_max), ..self.clone() }
    }

    /// Reads the whole body, chunked or with a length, compressed or not.
    ///
    /// # Errors
    /// 413 if the body is too large, compressed or decompressed (before it is read where its length
    /// is declared); 408 if it is too slow; 415 if its coding is not supported; 429 if the memory
    /// for bodies is taken; 400 if it breaks off.
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
        let declared = declared_length(headers);
        if declared.is_some_and(|length| length > self.bytes_max as u64) {
            return Err(self.too_large());
        }
        let reserve = declared.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        let reading = self.read(stream, reserve.min(RESERVE_BYTES_MAX));
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
            let mut share = Share { budget: bodies.budget.clone(), held: None };
            let mut length = 0usize;
            let bytes = coding.decompress(&body.bytes, |more| {
                length = length.saturating_add(more);
                if length > bodies.bytes_max {
                    return Err(bodies.too_large());
                }
                share.grow(more)
            });
            Ok(Body { bytes: bytes?, share })
        };
        let done = tokio::task::spawn_blocking(decompress).await;
        done.unwrap_or_else(|error| Err(Error::internal(format!("the task failed: {error}"))))
    }

    async fn read<S, B, E>(&self, stream: S, reserve: usize) -> Result<Body, Error>
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
        E: Display,
    {
        let mut stream = std::pin::pin!(stream);
        let mut share = Share { budget: self.budget.clone(), held: None };
        let mut parts = Parts::Empty;
        while let Some(part) = stream.next().await {
            let broken = |error| Error::malformed(format!("the request body broke off: {error}"));
            let mut part = part.map_err(broken)?;
            if part.remaining() > self.bytes_max.saturating_sub(parts.len()) {
                return Err(self.too_large());
            }
            share.grow(part.remaining())?;
            parts = parts.and(part.copy_to_bytes(part.remaining()), reserve);
        }
        Ok(Body { bytes: parts.join(), share })
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

/// The received part of a body. A body that arrives in one piece is never copied.
enum Parts {
    Empty,
    One(Bytes),
    Many(BytesMut),
}

impl Parts {
    fn len(&self) -> usize {
        match self {
            Parts::Empty => 0,
            Parts::One(part) => part.len(),
            Parts::Many(parts) => parts.len(),
        }
    }

    fn and(self, next: Bytes, reserve: usize) -> Parts {
        match self {
            Parts::Empty => Parts::One(next),
            Parts::One(first) => {
                let mut parts = BytesMut::with_capacity(reserve.max(first.len() + next.len()));
                parts.extend_from_slice(&first);
                parts.extend_from_slice(&next);
                Parts::Many(parts)
            }
            Parts::Many(mut parts) => {
                parts.extend_from_slice(&next);
                Parts::Many(parts)
            }
        }
    }

    fn join(self) -> Bytes {
        match self {
            Parts::Empty => Bytes::new(),
            Parts::One(part) => part,
            Parts::Many(parts) => parts.freeze(),
        }
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::UnsupportedMediaType, message)
}

/// The media type without its parameters, in lower case; empty if none was sent.
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

/// True for content types under which clients send JSON: those of JSON, none at all (tritonclient),
/// and the defaults of `curl -d` and of `fetch` with a string.
fn is_taken_for_json(media_type: &str) -> bool {
    match media_type {
        "" | "application/json" | "text/json" => true,
        "application/x-www-form-urlencoded" | "text/plain" => true,
        other => other.starts_with("application/") && other.ends_with("+json"),
    }
}

/// True for a body that is a whole file, for a model that takes one: its content type is not that
/// of JSON, its JSON part has no bytes (Triton's raw binary request), or its first byte cannot
/// begin a JSON object.
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

/// Checks the content type on routes that change state: only `application/json`, which no HTML
/// form can send.
pub(crate) fn check_json_type(headers: &HeaderMap) -> Result<(), Error> {
    match media_type(headers).as_str() {
        "application/json" => Ok(()),
        given => Err(unsupported(format!(
            "content-type: '{given}' is not supported here, where something is changed; send \
             application/json"
        ))),
    }
}

/// Checks the content type like [`check_json_type`], on routes whose clients may omit it.
pub(crate) fn check_optional_json_type(headers: &HeaderMap) -> Result<(), Error> {
    if headers.contains_key(CONTENT_TYPE) { check_json_type(headers) } else { Ok(()) }
}

/// Checks the content type on routes that change nothing: any under which clients send JSON.
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
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;

    fn bodies(bytes_max: usize, budget: usize) -> Bodies {
        let budget = Arc::new(Semaphore::new(budget));
        Bodies { budget, bytes_max, timeout: Duration::from_millis(50) }
    }

    fn parts(parts: &[&'static str]) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
        let parts: Vec<_> =
            parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        stream::iter(parts)
    }

    fn header(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(warp::http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[tokio::test]
    async fn bodies_are_joined() {
        let bodies = bodies(10, 100);
        for (pieces, whole) in
            [(&[][..], ""), (&["abc"][..], "abc"), (&["ab", "", "cd", "e"], "abcde")]
        {
            let body = bodies.collect(&HeaderMap::new(), parts(pieces)).await.unwrap();
            assert_eq!(body.bytes, whole);
        }
    }

    #[tokio::test]
    async fn too_large_bodies_are_refused_early_and_late() {
        let bodies = bodies(4, 100);
        let early = bodies.collect(&header("content-length", "5"), parts(&[])).await;
        assert_eq!(early.unwrap_err().kind, ErrorKind::TooLarge);
        let late = bodies.collect(&HeaderMap::new(), parts(&["abc", "de"])).await;
        assert_eq!(late.unwrap_err().kind, ErrorKind::TooLarge);
        assert!(bodies.collect(&HeaderMap::new(), parts(&["abc", "d"])).await.is_ok());
        let small = bodies.at_most(3).collect(&HeaderMap::new(), parts(&["abcd"])).await;
        assert_eq!(small.unwrap_err().kind, ErrorKind::TooLarge);
    }

    #[tokio::test]
    async fn slow_bodies_end() {
        let stream = stream::pending::<Result<Bytes, Infallible>>();
        let slow = bodies(4, 100).collect(&HeaderMap::new(), stream).await;
        assert_eq!(slow.unwrap_err().kind, ErrorKind::RequestTimeout);
    }

    #[tokio::test]
    async fn all_bodies_share_one_bound() {
        let bodies = bodies(4, 6);
        let none = HeaderMap::new();
        let first = bodies.collect(&none, parts(&["ab", "cd"])).await.unwrap();
        let second = bodies.collect(&none, parts(&["ab", "cd"])).await.unwrap_err();
        assert_eq!((second.kind, second.retry_after), (ErrorKind::QueueFull, Some(BUSY_RETRY)));
        drop(first);
        let third = bodies.collect(&none, parts(&["ab", "cd"])).await.unwrap();
        assert_eq!(third.bytes, "abcd");
        drop(third);
        assert_eq!(bodies.budget.available_permits(), 6);
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn compressed(bodies: &Bodies, body: Vec<u8>) -> Result<Body, Error> {
        let parts = stream::iter([Ok::<_, Infallible>(Bytes::from(body))]);
        bodies.collect(&header("content-encoding", "gzip"), parts).await
    }

    #[tokio::test]
    async fn compressed_bodies_have_the_same_bounds() {
        let bodies = bodies(100, 200);
        let body = compressed(&bodies, gzip(&[b'x'; 100])).await.unwrap();
        assert_eq!(body.bytes, [b'x'; 100][..]);
        // The budget holds the decompressed length, and no longer the compressed one.
        assert_eq!(bodies.budget.available_permits(), 100);
        drop(body);
        let long = compressed(&bodies, gzip(&[b'x'; 101])).await.unwrap_err();
        assert_eq!(long.kind, ErrorKind::TooLarge);
        let wrong = compressed(&bodies, b"plain".to_vec()).await.unwrap_err();
        assert_eq!(wrong.kind, ErrorKind::Malformed);
        assert_eq!(bodies.budget.available_permits(), 200);
        let held = bodies.budget.clone().try_acquire_many_owned(150).unwrap();
        let busy = compressed(&bodies, gzip(&[b'x'; 100])).await.unwrap_err();
        assert_eq!(busy.kind, ErrorKind::QueueFull);
        drop(held);
    }

    #[tokio::test]
    async fn bodies_of_other_codings_are_refused() {
        let bodies = bodies(4, 6);
        let brotli = bodies.collect(&header("content-encoding", "br"), parts(&["x"])).await;
        assert_eq!(brotli.unwrap_err().kind, ErrorKind::UnsupportedMediaType);
        let plain = bodies.collect(&header("content-encoding", "Identity"), parts(&["x"])).await;
        assert!(plain.is_ok());
    }

    #[test]
    fn files_are_told_from_requests() {
        let cases: [(&str, Option<usize>, &[u8], bool); 9] = [
            ("image/png", None, b"\x89PNG", true),
            ("application/octet-stream", None, b"{}", true),
            ("application/octet-stream", Some(2), b"{}", false),
            ("application/octet-stream", Some(0), b"{}", true),
            ("application/x-www-form-urlencoded", None, b"\x89PNG", true),
            ("application/x-www-form-urlencoded", None, b" {}", false),
            ("application/json", None, b"\x89PNG", false),
            ("application/vnd.x+json", None, b"\x89PNG", false),
            ("text/html", None, b"<p>", true),
        ];
        for (given, length, body, file) in cases {
            assert_eq!(is_file(&header("content-type", given), length, body), file, "{given}");
        }
        assert!(is_file(&HeaderMap::new(), None, b"GIF89a"));
        assert!(!is_file(&HeaderMap::new(), None, b"{}"));
        assert!(!is_file(&HeaderMap::new(), None, "\u{feff} {}".as_bytes()));
    }

    #[test]
    fn content_types() {
        let cases = [
            ("application/json", true, true, true),
            ("Application/JSON; charset=utf-8", true, true, true),
            ("application/octet-stream", true, false, false),
            ("application/x-www-form-urlencoded", true, true, false),
            ("text/plain;charset=UTF-8", true, true, false),
            ("application/vnd.sagemaker-triton.binary+json;json-header-size=12", true, true, false),
            ("multipart/form-data; boundary=x", false, false, false),
            ("image/png", false, false, false),
            ("text/html", false, false, false),
        ];
        for (given, inference, lenient, json) in cases {
            let headers = header("content-type", given);
            assert_eq!(check_inference_type(&headers).is_ok(), inference, "{given}");
            assert_eq!(check_lenient_json_type(&headers).is_ok(), lenient, "{given}");
            assert_eq!(check_json_type(&headers).is_ok(), json, "{given}");
        }
        assert!(check_inference_type(&HeaderMap::new()).is_ok());
        assert!(check_json_type(&HeaderMap::new()).is_err());
    }
}
