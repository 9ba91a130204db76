//! The binary tensor data extension: the split of a body into its JSON part and the tensors.

use bytes::Bytes;
use types::error::Error;
use warp::http::{HeaderMap, HeaderName};

/// Length of the JSON part of a body, in bytes; raw tensors follow it.
pub(crate) const HEADER_LENGTH: HeaderName =
    HeaderName::from_static("inference-header-content-length");

/// A request body, split.
#[derive(Debug)]
pub(crate) struct SplitBody {
    pub(crate) json: Bytes,
    /// The raw tensors, one after another; `None` if the request did not announce any.
    pub(crate) raw: Option<RawTensors>,
}

/// Returns the raw tensors in order, sharing the body's memory.
#[derive(Debug)]
pub(crate) struct RawTensors {
    rest: Bytes,
}

/// Returns the value of `Inference-Header-Content-Length`.
pub(crate) fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Error> {
    let mut values = headers.get_all(HEADER_LENGTH).iter();
    let (value, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Error::malformed("Inference-Header-Content-Length is repeated"));
    }
    let Some(value) = value else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse().ok());
    let wrong =
        || Error::malformed(format!("Inference-Header-Content-Length {value:?} is not a length"));
    length.map(Some).ok_or_else(wrong)
}

/// Splits a body after its JSON part.
pub(crate) fn split(mut body: Bytes, header_length: Option<usize>) -> Result<SplitBody, Error> {
    let Some(length) = header_length else { return Ok(SplitBody { json: body, raw: None }) };
    if length > body.len() {
        return Err(Error::malformed(format!(
            "Inference-Header-Content-Length is {length}, but the body has {} bytes",
            body.len()
        )));
    }
    let json = body.split_to(length);
    Ok(SplitBody { json, raw: Some(RawTensors { rest: body }) })
}

impl RawTensors {
    /// Returns the next `length` bytes.
    pub(crate) fn take(&mut self, input: &str, length: usize) -> Result<Bytes, Error> {
        if length > self.rest.len() {
            return Err(Error::malformed(format!(
                "input '{input}': binary_data_size is {length}, but only {} bytes are left in \
                 the body",
                self.rest.len()
            )));
        }
        Ok(self.rest.split_to(length))
    }

    /// Checks that all bytes have been taken.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let message = format!("{} bytes are left after the binary inputs", self.rest.len());
        Err(Error::malformed(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_lengths() {
        let length = |values: &[&str]| {
            let value = |value: &&str| (HEADER_LENGTH, value.parse().unwrap());
            header_length(&values.iter().map(value).fold(
                HeaderMap::new(),
                |mut map, (name, value)| {
                    map.append(name, value);
                    map
                },
            ))
        };
        assert_eq!(length(&[]), Ok(None));
        assert_eq!(length(&["12"]), Ok(Some(12)));
        for wrong in
            [&["12", "12"][..], &["+1"], &["-1"], &[""], &["1 2"], &["99999999999999999999999"]]
        {
            assert_eq!(length(wrong).unwrap_err().kind.status(), 400, "{wrong:?}");
        }
    }

    #[test]
    fn tensors_are_taken_in_order_without_copying() {
        let body = Bytes::from(b"{}abcde".to_vec());
        let mut raw = split(body.clone(), Some(2)).unwrap().raw.unwrap();
        let first = raw.take("a", 2).unwrap();
        assert_eq!(first.as_ptr(), body[2..].as_ptr());
        assert!(raw.take("b", usize::MAX).is_err());
        assert!(raw.finish().unwrap_err().message.contains("3 bytes are left after"));
        assert_eq!(raw.take("b", 3).unwrap(), "cde");
        assert!(raw.finish().is_ok());
        assert!(split(body, Some(8)).is_err());
    }
}
