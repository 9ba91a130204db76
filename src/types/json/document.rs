//! JSON documents that hold tensors. They may begin with a byte order mark, and they may contain
//! the literals `NaN`, `Infinity` and `-Infinity`, which JSON lacks. Triton and Python's `json`
//! read and write these literals.
//!
//! serde_json rejects the literals. A rejected document is parsed a second time with numbers of
//! the same length in their place. The data of tensors are then taken from the text as it was
//! sent. A document without literals is therefore parsed once, and no other value is mistaken for
//! a literal.

use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde::ser::{Serialize, Serializer};
use serde_json::ser::Formatter;
use std::convert::Infallible;
use std::io;
use std::marker::PhantomData;

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
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// A document as it was sent, and as it was parsed.
#[derive(Clone, Copy, Debug)]
pub struct SentDocument<'a> {
    sent: &'a [u8],
    parsed: &'a [u8],
}

impl<'a> SentDocument<'a> {
    /// The sent text of a part that borrows from the parsed document.
    pub fn sent(&self, part: &'a str) -> &'a str {
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
pub fn parse<'a, T: Deserialize<'a>>(
    text: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<(T, SentDocument<'a>), serde_json::Error> {
    let admit = |_| Ok::<(), Infallible>(());
    parse_seed(text, scratch, PhantomData, admit).map_err(|refused| match refused {
        DocumentError::Text(error) => error,
    })
}

/// The reason why a document cannot be parsed.
#[derive(Debug)]
pub enum DocumentError<E> {
    Text(serde_json::Error),
    Memory(E),
}

/// Parses a document like [`parse`], with a seed. `admit` is called with a number of bytes before
/// memory is allocated for a second text.
///
/// # Errors
/// Those of [`parse`], and those of `admit`.
pub fn parse_seed<'a, S: DeserializeSeed<'a> + Clone, E>(
    text: &'a [u8],
    scratch: &'a mut Vec<u8>,
    seed: S,
    admit: impl FnOnce(usize) -> Result<(), E>,
) -> Result<(S::Value, SentDocument<'a>), DocumentError<E>> {
    let sent = without_mark(text);
    let refused = match read(sent, seed.clone()) {
        Ok(parsed) => return Ok((parsed, SentDocument { sent, parsed: sent })),
        Err(error) => error,
    };
    let Some(first) = next_name(sent, 0) else { return Err(DocumentError::Text(refused)) };
    admit(sent.len()).map_err(DocumentError::Memory)?;
    *scratch = finite(sent, first);
    let parsed: &'a [u8] = scratch;
    let value = read(parsed, seed).map_err(DocumentError::Text)?;
    Ok((value, SentDocument { sent, parsed }))
}

fn read<'a, S: DeserializeSeed<'a>>(text: &'a [u8], seed: S) -> serde_json::Result<S::Value> {
    let mut from = serde_json::Deserializer::from_slice(text);
    let value = seed.deserialize(&mut from)?;
    from.end()?;
    Ok(value)
}

/// The text with a finite number of the same length in place of each literal.
fn finite(text: &[u8], first: (usize, usize)) -> Vec<u8> {
    let mut finite = text.to_vec();
    let mut next = Some(first);
    while let Some((at, length)) = next {
        if let Some(place) = finite.get_mut(at..at + length) {
            replace(place);
        }
        next = next_name(text, at + length);
    }
    finite
}

/// Position and length of the first literal from a position on that is not in a string.
fn next_name(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    while let Some(byte) = text.get(at) {
        at += match byte {
            b'"' => super::string_length(text.get(at..).unwrap_or_default()),
            b'N' | b'I' | b'-' => match name_at(text, at) {
                Some(name) => return Some((at, name.len())),
                None => 1,
            },
            _ => 1,
        };
    }
    None
}

/// Sizes of a document that parsing depends on, found without memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Most arrays and objects around a value.
    pub depth: usize,
    /// The longest string in at most `FORM_DEPTH` arrays and objects, with its quotes.
    pub form_string: usize,
    /// The longest string with an escape: serde_json copies such a string.
    pub escaped_string: usize,
}

/// Arrays and objects around a field of a tensor. The data of a tensor are in one more.
const FORM_DEPTH: usize = 3;

impl Outline {
    pub fn of(text: &[u8]) -> Outline {
        let mut outline = Outline::default();
        let (mut depth, mut at) = (0usize, 0);
        while let Some(byte) = text.get(at) {
            at += 1;
            match byte {
                b'[' | b'{' => {
                    depth += 1;
                    outline.depth = outline.depth.max(depth);
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                b'"' => {
                    let string = text.get(at - 1..).unwrap_or_default();
                    let length = super::string_length(string);
                    outline.note_string(string.get(..length).unwrap_or(string), depth);
                    at += length - 1;
                }
                _ => {}
            }
        }
        outline
    }

    fn note_string(&mut self, string: &[u8], depth: usize) {
        if depth <= FORM_DEPTH {
            self.form_string = self.form_string.max(string.len());
        }
        if string.len() > self.escaped_string && string.contains(&b'\\') {
            self.escaped_string = string.len();
        }
    }
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
#[cfg(test)]
pub(crate) fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::new();
    write(&mut text, value)?;
    Ok(text)
}

/// Serializes `value` as a document into a writer.
///
/// # Errors
/// If a value cannot be serialized or written.
pub fn write<T: Serialize>(to: &mut impl io::Write, value: &T) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(to, Verbatim))
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
    fn data_are_the_text_that_was_sent() {
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
    fn other_spellings_are_rejected_at_their_position() {
        for wrong in
            ["nan", "NAN", "inf", "Inf", "infinity", "-NaN", "+Infinity", "NaNa", "1NaN", "N", "I-"]
        {
            let error = data(&format!("{{\"data\":[{wrong}]}}")).unwrap_err();
            assert!(error.contains("line 1 column"), "{wrong}: {error}");
            // A valid literal elsewhere does not make the document valid.
            assert!(data(&format!("{{\"data\":[NaN,{wrong}]}}")).is_err(), "{wrong}");
        }
        assert!(data(r#"{"data":[NaN"#).is_err());
        assert!(data(r#"{"data":["NaN]}"#).is_err());
        assert!(data(r#"{NaN:1, "data":[]}"#).is_err());
    }

    #[test]
    fn literal_is_not_an_integer() {
        let mut scratch = Vec::new();
        assert!(parse::<Vec<i64>>(b"[NaN]", &mut scratch).is_err());
        assert!(parse::<Vec<u64>>(b"[Infinity]", &mut scratch).is_err());
    }

    #[test]
    fn outline_has_the_sizes_that_parsing_depends_on() {
        let outline = |text: &str| {
            let Outline { depth, form_string, escaped_string } = Outline::of(text.as_bytes());
            (depth, form_string, escaped_string)
        };
        assert_eq!(outline(""), (0, 0, 0));
        assert_eq!(outline(r#"{"ab": [1, {"c": "]]]]"}]}"#), (3, 6, 0));
        assert_eq!(outline(r#"[[[["abc", "\\"]]]]"#), (4, 0, 4));
        assert_eq!(outline(r#"]]["a\"b"#), (1, 5, 5));
        assert_eq!(outline("\"abc"), (0, 4, 0));
    }

    #[test]
    fn a_second_text_is_admitted_first() {
        let mut scratch = Vec::new();
        let parsed = parse_seed(b"[NaN]", &mut scratch, PhantomData::<Vec<f32>>, Err);
        assert!(matches!(parsed, Err(DocumentError::Memory(5))), "{parsed:?}");
        let mut scratch = Vec::new();
        let parsed = parse_seed(b"[1]", &mut scratch, PhantomData::<Vec<f32>>, Err);
        assert!(parsed.is_ok(), "{parsed:?}");
    }

    #[test]
    fn literals_are_not_strings() {
        let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(Literal::of);
        assert_eq!(to_vec(&values).unwrap(), b"[NaN,Infinity,-Infinity]");
        assert!(Literal::of(f64::MAX).is_none());
    }
}
