//! Conversion between tensor data as JSON text and as little-endian bytes, without a tree.
//! Reading requires text that is known to be valid JSON and scans it once, without recursion. Data
//! are flat in row-major order, or nested exactly as in the shape. Integers may be written as whole
//! numbers with a fraction or an exponent (`3.0`, `1e2`); booleans as `true`, `false`, 1 or 0;
//! `BYTES` as strings. Floats may also be `NaN`, `Infinity` and `-Infinity`, and such values are
//! written in this form (see [`document`]). A number outside the range of its datatype is an error;
//! it is never rounded to infinity or wrapped.

pub mod document;

use crate::error::Error;
use crate::tensor::{Datatype, Tensor, product};
use bytes::Bytes;
use document::Literal;
use half::{bf16, f16};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::str::FromStr;

/// Most characters of a wrong value that its error quotes.
const QUOTED_CHARS_MAX: usize = 40;

/// Largest magnitude up to which every whole number is exact in an f64.
const EXACT_F64_MAX: f64 = 9_007_199_254_740_992.0;

/// The datatype and shape that the data of one tensor must have.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedTensor<'a> {
    /// The tensor's role, as errors name it: `input` in a request.
    pub what: &'static str,
    pub name: &'a str,
    pub datatype: Datatype,
    pub shape: &'a [usize],
}

impl ExpectedTensor<'_> {
    fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::unprocessable(format!("{} '{}': {what}", self.what, self.name))
    }
}

/// Converts `text`, a valid JSON value, to little-endian bytes.
///
/// # Errors
/// 422 with the index of the element if nesting, count or an element is not as expected.
pub fn decode(expected: ExpectedTensor<'_>, text: &str) -> Result<Bytes, Error> {
    decode_within(expected, text, |_| Ok(())).map(Bytes::from)
}

/// Converts like [`decode`]. `admit` is called with the capacity of the result before memory is
/// allocated for it.
///
/// # Errors
/// Those of [`decode`], and those of `admit`.
pub fn decode_within(
    expected: ExpectedTensor<'_>,
    text: &str,
    admit: impl FnOnce(usize) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let mut nesting = Nesting::new(expected)?;
    let append = appender(expected.datatype);
    let capacity = nesting.capacity(text.len());
    admit(capacity)?;
    let mut out = Vec::with_capacity(capacity);
    let mut rest = text;
    while let Some((token, after)) = next_token(rest) {
        rest = after;
        match token {
            "[" => nesting.open()?,
            "]" => nesting.close()?,
            scalar => {
                let index = nesting.element()?;
                append(scalar, &mut out).ok_or_else(|| wrong(&expected, scalar, index))?;
            }
        }
    }
    nesting.finish()?;
    Ok(out)
}

/// Converts like [`decode_within`]; a single element may also be given without an array.
///
/// # Errors
/// Those of [`decode_within`].
pub fn decode_value_within(
    expected: ExpectedTensor<'_>,
    text: &str,
    admit: impl FnOnce(usize) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let Some((scalar, _)) = next_token(text).filter(|(token, _)| *token != "[") else {
        return decode_within(expected, text, admit);
    };
    let nesting = Nesting::new(expected)?;
    if nesting.elements_max != 1 {
        return Err(nesting.miscounted("1"));
    }
    let capacity = nesting.capacity(scalar.len());
    admit(capacity)?;
    let mut out = Vec::with_capacity(capacity);
    let appended = appender(expected.datatype)(scalar, &mut out);
    appended.ok_or_else(|| wrong(&expected, scalar, 0))?;
    Ok(out)
}

/// The nesting of `text`, a valid JSON value: the lengths of its first array, of the first array in
/// that, and so on; and the number of all its elements.
pub fn nesting(text: &str) -> (Vec<usize>, usize) {
    let (mut lengths, mut open, mut elements) = (Vec::new(), Vec::new(), 0usize);
    let mut rest = text;
    while let Some((token, after)) = next_token(rest) {
        rest = after;
        if token == "]" {
            // The first array at its depth determines the length.
            if let Some((depth, length)) = open.pop()
                && let Some(first @ None) = lengths.get_mut(depth)
            {
                *first = Some(length);
            }
            continue;
        }
        if let Some((_, length)) = open.last_mut() {
            *length += 1;
        }
        match token {
            "[" => {
                let depth = open.len();
                open.push((depth, 0usize));
                lengths.resize(lengths.len().max(depth + 1), None);
            }
            _ => elements += 1,
        }
    }
    (lengths.into_iter().flatten().collect(), elements)
}

fn wrong(expected: &ExpectedTensor<'_>, scalar: &str, index: usize) -> Error {
    let shown: String = scalar.chars().take(QUOTED_CHARS_MAX).collect();
    let dots = if shown.len() < scalar.len() { "…" } else { "" };
    let datatype = expected.datatype;
    let is_float =
        matches!(datatype, Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64);
    // Some encoders write NaN and both infinities as null, so the value is not known.
    let remedy = match scalar {
        "null" if is_float => "; write NaN, Infinity or -Infinity, or send binary data",
        _ => "",
    };
    expected.error(format!("{shown}{dots} at index {index} is not a {datatype}{remedy}"))
}

/// The next bracket or scalar, and the text after it. An object is returned as the scalar `{`.
fn next_token(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let start = bytes.iter().position(|byte| !separates(*byte))?;
    let length = match bytes.get(start..)? {
        [b'[' | b']' | b'{', ..] => 1,
        string @ [b'"', ..] => string_length(string),
        other => other.iter().position(|byte| ends_scalar(*byte)).unwrap_or(other.len()).max(1),
    };
    text.get(start..)?.split_at_checked(length)
}

fn separates(byte: u8) -> bool {
    matches!(byte, b',' | b' ' | b'\t' | b'\n' | b'\r')
}

fn ends_scalar(byte: u8) -> bool {
    separates(byte) || matches!(byte, b']' | b'}')
}

/// Length of the string at the beginning of `text`, in bytes, with both quotes.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Layout of the data, known after the first element or inner array.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DataLayout {
    Unknown,
    Flat,
    Nested,
}

/// Counts elements and compares brackets with the shape.
struct Nesting<'a> {
    expected: ExpectedTensor<'a>,
    elements_max: usize,
    elements: usize,
    layout: DataLayout,
    /// Elements seen in each open array; at most as many arrays as the shape has dimensions.
    open: Vec<usize>,
}

impl<'a> Nesting<'a> {
    fn new(expected: ExpectedTensor<'a>) -> Result<Nesting<'a>, Error> {
        let elements_max = product(expected.shape).ok_or_else(|| {
            expected.error(format_args!("the product of shape {:?} overflows", expected.shape))
        })?;
        let (layout, open) = (DataLayout::Unknown, Vec::new());
        Ok(Nesting { expected, elements_max, elements: 0, layout, open })
    }

    /// Bytes to reserve, which the result never exceeds: a number takes at least two characters of
    /// text and at most eight bytes, so a wrong shape reserves at most a few times the length of
    /// the text. An empty string takes three characters and four bytes.
    fn capacity(&self, text_bytes: usize) -> usize {
        match self.expected.datatype.size() {
            Some(size) => self.elements_max.min(text_bytes / 2 + 1).saturating_mul(size),
            None if self.elements_max == 0 => 0,
            None => text_bytes / 3 * 4 + 4,
        }
    }

    fn open(&mut self) -> Result<(), Error> {
        if let Some(parent) = self.open.last_mut() {
            *parent += 1;
            if self.layout == DataLayout::Flat || self.open.len() >= self.expected.shape.len() {
                return Err(self.misnested());
            }
            self.layout = DataLayout::Nested;
        }
        self.open.push(0);
        Ok(())
    }

    /// Counts an element and returns its index.
    fn element(&mut self) -> Result<usize, Error> {
        let depth = self.open.len();
        let Some(count) = self.open.last_mut() else {
            return Err(self.expected.error("'data' must be an array"));
        };
        *count += 1;
        match self.layout {
            DataLayout::Unknown => self.layout = DataLayout::Flat,
            DataLayout::Nested if depth != self.expected.shape.len() => {
                return Err(self.misnested());
            }
            DataLayout::Flat | DataLayout::Nested => {}
        }
        if self.elements == self.elements_max {
            return Err(self.miscounted("more"));
        }
        self.elements += 1;
        Ok(self.elements - 1)
    }

    fn close(&mut self) -> Result<(), Error> {
        let count = self.open.pop();
        let dimension = self.expected.shape.get(self.open.len()).copied();
        if self.layout == DataLayout::Nested && count != dimension {
            return Err(self.misnested());
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), Error> {
        if self.elements < self.elements_max {
            return Err(self.miscounted(&self.elements.to_string()));
        }
        Ok(())
    }

    fn misnested(&self) -> Error {
        let shape = self.expected.shape;
        self.expected.error(format!(
            "'data' must be flat or nested as shape {shape:?}; it differs near index {}",
            self.elements
        ))
    }

    fn miscounted(&self, found: &str) -> Error {
        let (shape, needed) = (self.expected.shape, self.elements_max);
        self.expected.error(format!("shape {shape:?} needs {needed} elements, 'data' hold {found}"))
    }
}

/// Appends one scalar's bytes; `None` if the scalar is not of the datatype.
type Append = fn(&str, &mut Vec<u8>) -> Option<()>;

macro_rules! append {
    ($parse:expr) => {
        |scalar, out| {
            out.extend_from_slice(&$parse(scalar)?.to_le_bytes());
            Some(())
        }
    };
}

fn appender(datatype: Datatype) -> Append {
    match datatype {
        Datatype::Bool => append!(boolean),
        Datatype::Uint8 => append!(integer::<u8>),
        Datatype::Uint16 => append!(integer::<u16>),
        Datatype::Uint32 => append!(integer::<u32>),
        Datatype::Uint64 => append!(integer::<u64>),
        Datatype::Int8 => append!(integer::<i8>),
        Datatype::Int16 => append!(integer::<i16>),
        Datatype::Int32 => append!(integer::<i32>),
        Datatype::Int64 => append!(integer::<i64>),
        Datatype::Fp16 => append!(float::<f16>),
        Datatype::Bf16 => append!(float::<bf16>),
        Datatype::Fp32 => append!(float::<f32>),
        Datatype::Fp64 => append!(float::<f64>),
        Datatype::Bytes => append_string,
    }
}

fn boolean(scalar: &str) -> Option<u8> {
    match scalar {
        "true" | "1" => Some(1),
        "false" | "0" => Some(0),
        _ => None,
    }
}

fn integer<T: FromStr + TryFrom<i128>>(scalar: &str) -> Option<T> {
    scalar.parse().ok().or_else(|| T::try_from(whole(scalar)?).ok())
}

/// A whole number in any of JSON's spellings, such as `-0`, `3.0` or `1e2`.
fn whole(scalar: &str) -> Option<i128> {
    let from_float = || {
        let value: f64 = scalar.parse().ok()?;
        (value.fract() == 0.0 && value.abs() <= EXACT_F64_MAX).then_some(value as i128)
    };
    scalar.parse().ok().or_else(from_float)
}

/// A floating-point datatype.
trait Float: Copy {
    /// The nearest value to a decimal number.
    fn read(scalar: &str) -> Option<Self>;
    fn of(value: f64) -> Self;
    fn is_finite(self) -> bool;
}

macro_rules! float {
    ($float:ty, $read:expr, $of:expr) => {
        impl Float for $float {
            fn read(scalar: &str) -> Option<$float> {
                $read(scalar)
            }

            fn of(value: f64) -> $float {
                $of(value)
            }

            fn is_finite(self) -> bool {
                self.is_finite()
            }
        }
    };
}

float!(f16, |scalar: &str| scalar.parse().ok().map(f16::from_f64), f16::from_f64);
float!(bf16, |scalar: &str| scalar.parse().ok().map(bf16::from_f64), bf16::from_f64);
float!(f32, |scalar: &str| scalar.parse().ok(), |value: f64| value as f32);
float!(f64, |scalar: &str| scalar.parse().ok(), |value: f64| value);

/// Reads a number or one of the three literals. A decimal number must not round to infinity.
fn float<F: Float>(scalar: &str) -> Option<F> {
    match document::not_finite(scalar) {
        Some(value) => Some(F::of(value)),
        None => F::read(scalar).filter(|value| value.is_finite()),
    }
}

/// A string as a `BYTES` element: its length, then its UTF-8 bytes.
fn append_string(scalar: &str, out: &mut Vec<u8>) -> Option<()> {
    let plain = scalar.strip_prefix('"')?.strip_suffix('"')?;
    if plain.contains('\\') {
        return append_element(serde_json::from_str::<String>(scalar).ok()?.as_bytes(), out);
    }
    append_element(plain.as_bytes(), out)
}

fn append_element(element: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&u32::try_from(element.len()).ok()?.to_le_bytes());
    out.extend_from_slice(element);
    Some(())
}

/// A tensor's data as a flat JSON array, for [`document::write`].
///
/// Serialization fails if a `BYTES` element is not UTF-8. The error suggests binary output.
pub struct JsonData<'a>(pub &'a Tensor);

impl Serialize for JsonData<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let data = &self.0.data[..];
        match self.0.datatype {
            Datatype::Bool => numbers(to, data, |[byte]: [u8; 1]| byte != 0),
            Datatype::Uint8 => numbers(to, data, u8::from_le_bytes),
            Datatype::Uint16 => numbers(to, data, u16::from_le_bytes),
            Datatype::Uint32 => numbers(to, data, u32::from_le_bytes),
            Datatype::Uint64 => numbers(to, data, u64::from_le_bytes),
            Datatype::Int8 => numbers(to, data, i8::from_le_bytes),
            Datatype::Int16 => numbers(to, data, i16::from_le_bytes),
            Datatype::Int32 => numbers(to, data, i32::from_le_bytes),
            Datatype::Int64 => numbers(to, data, i64::from_le_bytes),
            Datatype::Fp16 => self.floats(to, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Datatype::Bf16 => self.floats(to, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Datatype::Fp32 => self.floats(to, f32::from_le_bytes),
            Datatype::Fp64 => self.floats(to, f64::from_le_bytes),
            Datatype::Bytes => self.strings(to),
        }
    }
}

fn numbers<S: Serializer, T: Serialize, const N: usize>(
    to: S,
    data: &[u8],
    read: impl Fn([u8; N]) -> T,
) -> Result<S::Ok, S::Error> {
    to.collect_seq(data.as_chunks().0.iter().map(|bytes| read(*bytes)))
}

impl JsonData<'_> {
    fn floats<S: Serializer, T: Serialize + Copy + Into<f64>, const N: usize>(
        &self,
        to: S,
        read: impl Fn([u8; N]) -> T,
    ) -> Result<S::Ok, S::Error> {
        let elements = self.0.data.as_chunks().0;
        let mut sequence = to.serialize_seq(Some(elements.len()))?;
        for bytes in elements {
            let value = read(*bytes);
            match Literal::of(value.into()) {
                None => sequence.serialize_element(&value)?,
                Some(literal) => sequence.serialize_element(&literal)?,
            }
        }
        sequence.end()
    }

    fn strings<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut sequence = to.serialize_seq(None)?;
        let mut rest = &self.0.data[..];
        let mut index = 0;
        while let Some((element, after)) = split_element(rest) {
            let text = std::str::from_utf8(element);
            sequence.serialize_element(
                text.map_err(|_| self.not_representable(index, "invalid UTF-8"))?,
            )?;
            (rest, index) = (after, index + 1);
        }
        sequence.end()
    }

    fn not_representable<E: serde::ser::Error>(&self, index: usize, what: &str) -> E {
        E::custom(format_args!(
            "output '{}' holds {what} at index {index}, which JSON cannot represent; request binary \
             output",
            self.0.name
        ))
    }
}

/// A tensor's data as [`JsonData`], without brackets if it has one element.
pub struct Flat<'a>(pub &'a Tensor);

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let data = JsonData(self.0);
        if product(&self.0.shape) != Some(1) {
            return data.serialize(to);
        }
        let mut text = Vec::new();
        document::write(&mut text, &data).map_err(serde::ser::Error::custom)?;
        let inner = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]"));
        // Bytes are written unchanged.
        to.serialize_bytes(inner.unwrap_or(&text))
    }
}

/// The first `BYTES` element and the bytes after it.
fn split_element(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests;
