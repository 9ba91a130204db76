//! Content codings (RFC 9110, section 8.4): gzip and deflate of request bodies and of answers.
//!
//! A request body is decompressed within the limits of all bodies. An answer is compressed if the
//! client accepts it and if that makes it smaller.

use crate::http::blocking::run_blocking_if_large;
use crate::http::growing::Growing;
use crate::http::respond::{Response, render};
use bytes::Bytes;
use engine::HeldMemory;
use flate2::Compression;
use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http_body_util::BodyExt;
use hyper::body::Body;
use std::io::{self, Read, Write};
use types::error::{Error, ErrorKind};
use warp::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, VARY};
use warp::http::{HeaderMap, HeaderValue, StatusCode};

/// The supported codings of request bodies, as listed in errors and in `Accept-Encoding`.
const SUPPORTED: &str = "gzip, deflate";

/// Minimum length of an answer that is compressed, in bytes: a shorter one fits into one packet.
const COMPRESSED_BYTES_MIN: usize = 1024;

/// The size of the pieces in which a body is decompressed.
const PIECE_BYTES: usize = 32 * 1024;

/// Maximum number of members of a gzip body. An empty one takes 20 bytes and 12 µs, so that a body
/// of 64 MiB could occupy a thread for 40 s. Block-wise compressors write one for each 64 KiB.
const MEMBERS_MAX: usize = 16 * 1024;

/// Length of the beginning of a long answer that is compressed first, to estimate the saving.
const SAMPLE_BYTES: usize = 16 * 1024;

/// A long answer is compressed only if its sample shrinks at least by this share, a third. Floats
/// shrink by a tenth at 35 MB/s, which is slower than sending them on any link above 25 Mbit/s;
/// JSON shrinks by half, integers and sparse floats by more.
const SAVED_MIN: f64 = 1.0 / 3.0;

/// A content coding that is both read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    /// The zlib format of the standard; raw deflate data are read too, since clients send
    /// both under this name.
    Deflate,
}

impl Coding {
    fn as_str(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    fn named(name: &[u8]) -> Option<Coding> {
        let is = |names: &[&str]| names.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name));
        if is(&["gzip", "x-gzip"]) {
            return Some(Coding::Gzip);
        }
        is(&["deflate"]).then_some(Coding::Deflate)
    }

    /// Returns the coding of a request body; `None` if it is not compressed.
    ///
    /// # Errors
    /// 415 for a coding that is not supported, and for more than one.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Coding>, Error> {
        let values = headers.get_all(CONTENT_ENCODING).iter();
        let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let is_coding = |name: &&[u8]| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity");
        let names: Vec<&[u8]> = names.map(<[u8]>::trim_ascii).filter(is_coding).collect();
        let unsupported = || {
            let shown = names.join(&b", "[..]);
            let shown: String = String::from_utf8_lossy(&shown).chars().take(40).collect();
            let message = format!(
                "content-encoding: '{shown}' is not supported here; send one of {SUPPORTED}, or the \
                 body as it is"
            );
            Error::new(ErrorKind::UnsupportedMediaType, message)
        };
        match names.as_slice() {
            [] => Ok(None),
            [name] => Coding::named(name).map(Some).ok_or_else(unsupported),
            _ => Err(unsupported()),
        }
    }

    /// Decompresses a body piece by piece, and passes each piece to `take`.
    ///
    /// # Errors
    /// 400 if the bytes are not of this coding or are truncated; the error of `take`.
    pub(crate) fn decompress(
        self,
        bytes: &[u8],
        take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut sink = Sink { piece: vec![0; PIECE_BYTES], take };
        let rest = match self {
            Coding::Gzip => sink.read_members(bytes),
            Coding::Deflate if is_zlib(bytes) => {
                sink.read(ZlibDecoder::new(bytes)).map(ZlibDecoder::into_inner)
            }
            Coding::Deflate => {
                sink.read(DeflateDecoder::new(bytes)).map(DeflateDecoder::into_inner)
            }
        };
        let rest = rest.map_err(|error| error.into_error(self))?;
        if !rest.is_empty() {
            let message = format!(
                "failed to decompress the body as {}: {} bytes follow its end",
                self.as_str(),
                rest.len()
            );
            return Err(Error::malformed(message));
        }
        Ok(())
    }

    /// Compresses bytes into memory that is charged; `None` if that saves little, or if there is no
    /// memory for it.
    fn compress(self, bytes: &[u8], held: HeldMemory) -> io::Result<Option<Bytes>> {
        let sample = bytes.get(..SAMPLE_BYTES).filter(|_| bytes.len() > 4 * SAMPLE_BYTES);
        if let Some(sample) = sample
            && self.write(sample, Vec::new())?.len() as f64
                > sample.len() as f64 * (1.0 - SAVED_MIN)
        {
            return Ok(None);
        }
        match self.write(bytes, Growing::new(held)) {
            Ok(compressed) => {
                Ok(Some(compressed.finish()).filter(|compressed| compressed.len() < bytes.len()))
            }
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write<W: Write>(self, bytes: &[u8], to: W) -> io::Result<W> {
        // The fastest level is used: answers are generated for one client and sent once.
        let level = Compression::fast();
        match self {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(to, level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(to, level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
        }
    }
}

/// Returns true for data that begin with the header of the zlib format (RFC 1950, section 2.2): the
/// method deflate, and a checksum. Encoders never write raw deflate data with this beginning.
fn is_zlib(bytes: &[u8]) -> bool {
    let [method, flags, ..] = bytes else { return false };
    method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
}

/// The cause of a failed decompression.
enum Broken {
    Data(io::Error),
    Refused(Error),
}

impl Broken {
    fn into_error(self, coding: Coding) -> Error {
        match self {
            Broken::Refused(error) => error,
            Broken::Data(error) => Error::malformed(format!(
                "failed to decompress the body as {}: {error}",
                coding.as_str()
            )),
        }
    }
}

/// The receiver of decompressed pieces.
struct Sink<F> {
    piece: Vec<u8>,
    take: F,
}

impl<F: FnMut(&[u8]) -> Result<(), Error>> Sink<F> {
    /// Reads a decoder to its end, and returns it.
    fn read<D: Read>(&mut self, mut decoder: D) -> Result<D, Broken> {
        loop {
            let length = decoder.read(&mut self.piece).map_err(Broken::Data)?;
            let read = self.piece.get(..length).unwrap_or_default();
            if read.is_empty() {
                return Ok(decoder);
            }
            (self.take)(read).map_err(Broken::Refused)?;
        }
    }

    /// Reads the members of a gzip file (RFC 1952, section 2.2), and returns the bytes after them.
    fn read_members<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Broken> {
        let mut rest = bytes;
        for _ in 0..MEMBERS_MAX {
            rest = self.read(GzDecoder::new(rest))?.into_inner();
            if rest.is_empty() {
                return Ok(rest);
            }
        }
        let message = format!("there are more than {MEMBERS_MAX} members");
        Err(Broken::Data(io::Error::new(io::ErrorKind::InvalidData, message)))
    }
}

/// Adds the supported codings to an answer that rejects the coding of a request. A 415 with another
/// cause must not contain them (RFC 9110, section 12.5.3).
pub(crate) fn name_supported(response: &mut Response) {
    if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(SUPPORTED));
    }
}

/// Returns the supported coding that a client prefers (RFC 9110, section 12.5.3), if it accepts
/// any.
pub(crate) fn accepted(headers: &HeaderMap) -> Option<Coding> {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let listed: Vec<(&str, f32)> =
        values.flat_map(|value| value.split(',')).filter_map(weighted).collect();
    let weight = |names: &[&str]| {
        let of = |name: &str| {
            listed.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, weight)| *weight)
        };
        names.iter().find_map(|name| of(name))
    };
    let gzip = weight(&["gzip", "x-gzip", "*"]).unwrap_or(0.0);
    let deflate = weight(&["deflate", "*"]).unwrap_or(0.0);
    let plain = weight(&["identity"]).unwrap_or(0.0);
    let best = gzip.max(deflate);
    if best <= 0.0 || plain > best {
        return None;
    }
    Some(if gzip >= deflate { Coding::Gzip } else { Coding::Deflate })
}

/// Splits `gzip;q=0.5` into name and weight; `None` if the weight is not a number from 0 to 1.
fn weighted(listed: &str) -> Option<(&str, f32)> {
    let mut parts = listed.split(';').map(str::trim);
    let name = parts.next()?;
    let weight = match parts.next() {
        None => 1.0,
        Some(weight) => {
            let (key, value) = weight.split_once('=')?;
            let value: f32 = value.trim().parse().ok()?;
            let is_weight = key.trim().eq_ignore_ascii_case("q") && (0.0..=1.0).contains(&value);
            is_weight.then_some(value)?
        }
    };
    Some((name, weight))
}

/// Compresses an answer if it is long enough, its length is known and the client accepts a coding.
pub(crate) async fn compressed(
    accepted: Option<Coding>,
    mut response: Response,
    held: HeldMemory,
) -> Response {
    if response.status() == StatusCode::NOT_MODIFIED {
        mark_not_modified(accepted, response.headers_mut());
        return response;
    }
    let length = response.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let is_eligible = length.is_some_and(|length| length >= COMPRESSED_BYTES_MIN)
        && !response.headers().contains_key(CONTENT_ENCODING);
    if !is_eligible {
        return response;
    }
    response.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = accepted else { return response };
    let (head, body) = response.into_parts();
    match compress_if_smaller(coding, body, held).await {
        Ok((bytes, is_compressed)) => {
            let mut response = Response::from_parts(head, bytes.into());
            if is_compressed {
                mark(coding, response.headers_mut());
            }
            response
        }
        Err(error) => render(Err(error.into())),
    }
}

/// Returns the body's bytes, and true if they are compressed.
async fn compress_if_smaller(
    coding: Coding,
    body: impl Body<Data = Bytes, Error: std::fmt::Display>,
    held: HeldMemory,
) -> Result<(Bytes, bool), Error> {
    let broken = |error: &dyn std::fmt::Display| {
        Error::internal(format!("failed to compress the answer: {error}"))
    };
    let bytes = body.collect().await.map_err(|error| broken(&error))?.to_bytes();
    // Compression takes about four times as long as rendering JSON of the same length.
    run_blocking_if_large(bytes.len().saturating_mul(4), move || {
        let compressed = coding.compress(&bytes, held).map_err(|error| broken(&error))?;
        Ok(compressed.map_or((bytes, false), |compressed| (compressed, true)))
    })
    .await
}

fn mark(coding: Coding, headers: &mut HeaderMap) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    weaken_tag(headers);
}

/// Adds to a 304 the `Vary` and the tag of the answer that it represents (RFC 9110, section
/// 15.4.5), which may have been compressed.
fn mark_not_modified(accepted: Option<Coding>, headers: &mut HeaderMap) {
    headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    if accepted.is_some() {
        weaken_tag(headers);
    }
}

/// Makes a tag weak, since a compressed answer has other bytes with the same meaning.
fn weaken_tag(headers: &mut HeaderMap) {
    let strong = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    let weak = strong.and_then(|tag| format!("W/{}", tag.to_str().ok()?).try_into().ok());
    if let Some(weak) = weak {
        headers.insert(ETAG, weak);
    }
}

#[cfg(test)]
mod tests;
