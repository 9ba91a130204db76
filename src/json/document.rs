//! JSON documents that hold tensors. They may begin with a byte order mark, and they may contain
//! the literals `NaN`, `Infinity` and `-Infinity`, which JSON lacks. Triton and Python's `json`
//! read and write these literals.
//!
//! serde_json rejects the literals. A rejected document is parsed a second time with numbers of
//! the same length in their place. The data of tensors are then taken from the text as it was
//! sent. A document without literals is therefore parsed once, and no other value is mistaken for
//! a literal.

use serde::Deserialize;
use serde::ser::{Serialize, Serializer};
use serde_json::ser::Formatter;
use std::io;

/// The literals and their values.
const NOT_FINITE: [(&str, f64); 3] =
    [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)];

/// The byte order mark of UTF-8, which some editors and .NET write.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The value of a literal; `None` for any other scalar.
pub(crate) fn not_finite(scalar: &str) -> Option<f64> {
    NOT_FINITE.into_iter().find(|(name, _)| *name == scalar).map(|(_, value)| value)
}

/// The text without its byte order mark, if it has one.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// A document as it was sent, and as it was parsed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    sent: &'a [u8],
    parsed: &'a [u8],
}

impl<'a> Source<'a> {
    /// The sent text of a part that borrows from the parsed document.
    pub(crate) fn sent(&self, part: &'a str) -> &'a str {
        if std::ptr::eq(self.sent, self.parsed) {
            return part;
        }
        let start = part.as_ptr().addr().checked_sub(self.parsed.as_ptr().addr());
        let range = start.and_then(|start| Some(start..start.checked_add(part.len())?));
        let sent = range.and_then(|range| self.sent.get(range));
        // Only ASCII was replaced, so the sent text is UTF-8 where the parsed text is.
        sent.and_then(|sent| str::from_utf8(sent).ok()).unwrap_or(part)
    }
}

/// Parses a document. `scratch` holds the parsed text where it differs from the sent text.
///
/// # Errors
/// Those of serde_json, except for the three literals. A literal in place of an integer is an
/// error, as a fraction is.
pub(crate) fn parse<'a, T: Deserialize<'a>>(
    text: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<(T, Source<'a>), serde_json::Error> {
    let sent = without_mark(text);
    let refused = match serde_json::from_slice(sent) {
        Ok(parsed) => return Ok((parsed, Source { sent, parsed: sent })),
        Err(error) => error,
    };
    let Some(finite) = finite(sent) else { return Err(refused) };
    *scratch = finite;
    let parsed: &'a [u8] = scratch;
    Ok((serde_json::from_slice(parsed)?, Source { sent, parsed }))
}

/// The text with a finite number of the same length in place of each literal; `None` if there is
/// no literal.
fn finite(text: &[u8]) -> Option<Vec<u8>> {
    let mut finite = None;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += match byte {
            b'"' => super::string_length(text.get(at..).unwrap_or_default()),
            b'N' | b'I' | b'-' => match name_at(text, at) {
                Some(name) => {
                    let copy = finite.get_or_insert_with(|| text.to_vec());
                    if let Some(place) = copy.get_mut(at..at + name.len()) {
                        replace(place);
                    }
                    name.len()
                }
                None => 1,
            },
            _ => 1,
        };
    }
    finite
}

/// The literal at this position, if it is a complete value.
fn name_at(text: &[u8], at: usize) -> Option<&'static str> {
    let (before, here) = text.split_at_checked(at)?;
    let name = NOT_FINITE.into_iter().find(|(name, _)| here.starts_with(name.as_bytes()))?.0;
    let after = here.get(name.len());
    let begins = before.last().is_none_or(|byte| super::separates(*byte) || b"[:".contains(byte));
    (begins && after.is_none_or(|byte| super::ends_scalar(*byte))).then_some(name)
}

/// Overwrites a literal with a zero of the same length: `0.0` for `NaN`. The zero has a fraction,
/// so that it is not an integer.
fn replace(name: &mut [u8]) {
    let digits = name.strip_prefix(b"-").map_or(0, |_| 1);
    for (at, byte) in name.iter_mut().enumerate().skip(digits) {
        *byte = if at == digits + 1 { b'.' } else { b'0' };
    }
}

/// Text that is written into a document without quotes.
#[derive(Debug)]
pub(super) struct Literal(&'static str);

impl Literal {
    /// The literal of a value that is not finite; `None` for a finite one.
    pub(super) fn of(value: f64) -> Option<Literal> {
        if value.is_finite() {
            return None;
        }
        let same = |(_, other): &(&str, f64)| *other == value;
        Some(Literal(NOT_FINITE.into_iter().find(same).map_or("NaN", |(name, _)| name)))
    }
}

impl Serialize for Literal {
    /// Serializes the text as bytes, which [`Verbatim`] writes unchanged. No other value is
    /// serialized as bytes.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0.as_bytes())
    }
}

/// A formatter of compact JSON that writes bytes as text of the document.
struct Verbatim;

impl Formatter for Verbatim {
    fn write_byte_array<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        text: &[u8],
    ) -> io::Result<()> {
        to.write_all(text)
    }
}

/// Serializes `value` as a document.
///
/// # Errors
/// If a value cannot be serialized.
pub(crate) fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Verbatim))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    #[derive(Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }

    fn data(text: &str) -> Result<String, String> {
        let mut scratch = Vec::new();
        let parsed = parse::<Document<'_>>(text.as_bytes(), &mut scratch);
        let (document, source) = parsed.map_err(|error| error.to_string())?;
        Ok(source.sent(document.data.get()).to_owned())
    }

    #[test]
    fn data_are_as_they_were_sent() {
        for text in [
            "[1, 2.5]",
            "[NaN,Infinity,-Infinity]",
            "[ [NaN], [\n-Infinity ] ]",
            "NaN",
            r#"["NaN", "\"", NaN, "-Infinity\\"]"#,
            r#"["ü", Infinity]"#,
        ] {
            assert_eq!(data(&format!("{{\"data\":{text}}}")).as_deref(), Ok(text));
            assert_eq!(data(&format!("\u{feff}{{\"data\": {text}}}")).as_deref(), Ok(text));
        }
        assert_eq!(data(r#"{"other": NaN, "data": [1]}"#).as_deref(), Ok("[1]"));
    }

    #[test]
    fn other_spellings_are_refused_where_they_stand() {
        for wrong in
            ["nan", "NAN", "inf", "Inf", "infinity", "-NaN", "+Infinity", "NaNa", "1NaN", "N", "I-"]
        {
            let error = data(&format!("{{\"data\":[{wrong}]}}")).unwrap_err();
            assert!(error.contains("line 1 column"), "{wrong}: {error}");
            // A valid literal beside it does not make the document valid.
            assert!(data(&format!("{{\"data\":[NaN,{wrong}]}}")).is_err(), "{wrong}");
        }
        assert!(data(r#"{"data":[NaN"#).is_err());
        assert!(data(r#"{"data":["NaN]}"#).is_err());
        assert!(data(r#"{NaN:1, "data":[]}"#).is_err());
    }

    #[test]
    fn a_name_is_no_integer() {
        let mut scratch = Vec::new();
        assert!(parse::<Vec<i64>>(b"[NaN]", &mut scratch).is_err());
        assert!(parse::<Vec<u64>>(b"[Infinity]", &mut scratch).is_err());
    }

    #[test]
    fn literals_are_no_strings() {
        let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(Literal::of);
        assert_eq!(to_vec(&values).unwrap(), b"[NaN,Infinity,-Infinity]");
        assert!(Literal::of(f64::MAX).is_none());
    }
}
