//! Content codings (RFC 9110, section 8.4): gzip and deflate of request bodies and of answers.
//!
//! A request body is decompressed within the bounds that hold for any body. An answer is
//! compressed where the client accepts it and where that makes it smaller.

use crate::api::beside::beside;
use crate::api::respond::{Response, render};
use crate::error::{Error, ErrorKind};
use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http_body_util::BodyExt;
use hyper::body::Body;
use std::io::{self, Read, Write};
use warp::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, VARY};
use warp::http::{HeaderMap, HeaderValue};

/// What `Content-Encoding` of a request may be, as errors and `Accept-Encoding` name it.
pub(crate) const TAKEN: &str = "gzip, deflate";

/// A shorter answer gains nothing: it fits into one packet.
const COMPRESSED_BYTES_MIN: usize = 1024;

/// What is decompressed at once.
const PIECE_BYTES: usize = 32 * 1024;

/// The beginning of a long answer that is compressed to see whether the rest is worth it. Floats
/// of random bits shrink by a twelfth, text by more than half.
const SAMPLE_BYTES: usize = 16 * 1024;

/// A content coding that is both read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    /// The zlib format by its standard; the bare format inside it is read as well, since clients
    /// send both under this name.
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

    /// The coding of a request body; `None` if it is sent as it is.
    ///
    /// # Errors
    /// 415 for any other, and for more than one.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Coding>, Error> {
        let values = headers.get_all(CONTENT_ENCODING).iter();
        let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let is_coding = |name: &&[u8]| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity");
        let mut names = names.map(<[u8]>::trim_ascii).filter(is_coding);
        let Some(name) = names.next() else { return Ok(None) };
        match (Coding::named(name), names.next()) {
            (Some(coding), None) => Ok(Some(coding)),
            _ => {
                let shown = String::from_utf8_lossy(name);
                let shown: String = shown.chars().take(40).collect();
                Err(Error::new(
                    ErrorKind::UnsupportedMediaType,
                    format!(
                        "content-encoding: '{shown}' is not supported here; send one of {TAKEN}, \
                         or the body as it is"
                    ),
                ))
            }
        }
    }

    /// What the bytes were before they were compressed. `admit` is asked before memory for so
    /// many more bytes is taken.
    ///
    /// # Errors
    /// 400 if they are not of this coding or broken off; what `admit` refuses.
    pub(crate) fn decompress(
        self,
        bytes: &[u8],
        admit: impl FnMut(usize) -> Result<(), Error>,
    ) -> Result<Bytes, Error> {
        let (whole, rest) = match self {
            Coding::Gzip => read(MultiGzDecoder::new(bytes), admit, MultiGzDecoder::into_inner),
            Coding::Deflate if is_zlib(bytes) => {
                read(ZlibDecoder::new(bytes), admit, ZlibDecoder::into_inner)
            }
            Coding::Deflate => read(DeflateDecoder::new(bytes), admit, DeflateDecoder::into_inner),
        }
        .map_err(|error| error.into_error(self))?;
        if !rest.is_empty() {
            let message = format!(
                "failed to decompress the body as {}: {} bytes follow its end",
                self.as_str(),
                rest.len()
            );
            return Err(Error::malformed(message));
        }
        Ok(whole.into())
    }

    /// The compressed bytes; `None` if they are hardly fewer.
    fn compress(self, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if let Some(sample) = bytes.get(..SAMPLE_BYTES).filter(|_| bytes.len() > 4 * SAMPLE_BYTES)
            && self.write(sample)?.len() > SAMPLE_BYTES / 10 * 9
        {
            return Ok(None);
        }
        Ok(Some(self.write(bytes)?).filter(|compressed| compressed.len() < bytes.len()))
    }

    fn write(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        // The fastest level: answers are made for one client and sent once.
        let (level, to) = (Compression::fast(), Vec::with_capacity(bytes.len() / 2));
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

/// Whether data begin with the header of the zlib format (RFC 1950, section 2.2): the method
/// deflate, and a checksum. Bare deflate data never do as encoders write them.
fn is_zlib(bytes: &[u8]) -> bool {
    let [method, flags, ..] = bytes else { return false };
    method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
}

/// Why a body could not be decompressed.
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

/// All that a decoder gives, and what it left unread.
fn read<'a, D: Read>(
    mut decoder: D,
    mut admit: impl FnMut(usize) -> Result<(), Error>,
    rest: impl FnOnce(D) -> &'a [u8],
) -> Result<(Vec<u8>, &'a [u8]), Broken> {
    let (mut whole, mut piece) = (Vec::new(), vec![0; PIECE_BYTES]);
    loop {
        let length = decoder.read(&mut piece).map_err(Broken::Data)?;
        let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else { break };
        admit(read.len()).map_err(Broken::Refused)?;
        whole.extend_from_slice(read);
    }
    Ok((whole, rest(decoder)))
}

/// The coding that a client prefers among ours (RFC 9110, section 12.5.3); `None` for none.
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

/// `gzip;q=0.5` as name and weight; `None` if the weight is no number from 0 to 1.
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

/// The answer, compressed if it is long enough, whole, and the client accepts a coding.
pub(crate) async fn compressed(accepted: Option<Coding>, mut response: Response) -> Response {
    let length = response.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let is_eligible = length.is_some_and(|length| length >= COMPRESSED_BYTES_MIN)
        && !response.headers().contains_key(CONTENT_ENCODING);
    if !is_eligible {
        return response;
    }
    response.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = accepted else { return response };
    let (head, body) = response.into_parts();
    match squeeze(coding, body).await {
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

/// The body's bytes, and whether they are compressed.
async fn squeeze(
    coding: Coding,
    body: impl Body<Data = Bytes, Error: std::fmt::Display>,
) -> Result<(Bytes, bool), Error> {
    let broken = |error: &dyn std::fmt::Display| {
        Error::internal(format!("failed to compress the answer: {error}"))
    };
    let bytes = body.collect().await.map_err(|error| broken(&error))?.to_bytes();
    // A byte takes about four times as long as one of JSON.
    beside(bytes.len().saturating_mul(4), move || {
        let compressed = coding.compress(&bytes).map_err(|error| broken(&error))?;
        Ok(compressed.map_or((bytes, false), |compressed| (compressed.into(), true)))
    })
    .await
}

fn mark(coding: Coding, headers: &mut HeaderMap) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    // Other bytes of the same meaning: a weak tag.
    let strong = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    let weak = strong.and_then(|tag| format!("W/{}", tag.to_str().ok()?).try_into().ok());
    if let Some(weak) = weak {
        headers.insert(ETAG, weak);
    }
}

#[cfg(test)]
mod tests;
