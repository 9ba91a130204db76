//! Tensors as the protocol carries them, and their comparison.

use half::{bf16, f16};
use serde_json::{Value, json};
use std::fmt::Write;

/// The kind of element of a NumPy array.
pub enum Kind {
    /// Numbers of this datatype of the protocol.
    Number(&'static str),
    /// Code points in 32 bits each; the text is padded with zeros.
    Text,
    /// Bytes that are padded with zeros.
    Bytes,
}

/// A tensor in the form of the binary extension.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub datatype: String,
    pub shape: Vec<usize>,
    /// Little-endian, last axis innermost; each `BYTES` element follows its length.
    pub raw: Vec<u8>,
}

/// Elements for a comparison.
enum Elements {
    Floats(Vec<f64>),
    Integers(Vec<i128>),
    Texts(Vec<Vec<u8>>),
}

impl Array {
    pub fn new(kind: Kind, shape: Vec<usize>, elements: &[&[u8]]) -> Array {
        let (datatype, raw) = match kind {
            Kind::Number(datatype) => (datatype, elements.concat()),
            Kind::Text => {
                ("BYTES", elements.iter().flat_map(|units| sized(&text(units))).collect())
            }
            Kind::Bytes => {
                let plain = elements.iter().map(|bytes| bytes.trim_suffix_zeros());
                ("BYTES", plain.flat_map(sized).collect())
            }
        };
        Array { datatype: datatype.to_owned(), shape, raw }
    }

    /// An output of an answer; `binary` is its raw part, if it has one.
    ///
    /// # Errors
    /// Fails if the output does not follow the protocol or an element is not of its datatype.
    pub fn of_answer(output: &Value, binary: Option<&[u8]>) -> Result<Array, String> {
        let datatype = output["datatype"].as_str().ok_or("it has no datatype")?.to_owned();
        let shape = output["shape"].as_array().ok_or("it has no shape")?;
        let shape = shape.iter().map(|dim| dim.as_u64().map(|dim| dim as usize));
        let shape = shape.collect::<Option<Vec<_>>>().ok_or("its shape holds no lengths")?;
        let raw = match binary {
            Some(raw) => raw.to_vec(),
            None => {
                let data = output["data"].as_array().ok_or("it has no data")?;
                let raw = data.iter().map(|value| {
                    let wrong = || format!("{value} is not of type {datatype}");
                    raw_element(&datatype, value).ok_or_else(wrong)
                });
                raw.collect::<Result<Vec<_>, _>>()?.concat()
            }
        };
        Ok(Array { datatype, shape, raw })
    }

    /// The data as JSON. Non-finite values are bare words, as in Triton.
    pub fn to_json(&self) -> String {
        let mut text = String::from("[");
        let mut element = |element: &dyn std::fmt::Display| {
            let comma = if text.len() > 1 { "," } else { "" };
            let _ = write!(text, "{comma}{element}");
        };
        match self.elements() {
            Elements::Floats(values) => values.iter().for_each(|value| match value {
                value if value.is_nan() => element(&"NaN"),
                value if *value == f64::INFINITY => element(&"Infinity"),
                value if *value == f64::NEG_INFINITY => element(&"-Infinity"),
                value => element(value),
            }),
            Elements::Integers(values) if self.datatype == "BOOL" => {
                values.iter().for_each(|value| element(&(*value != 0)));
            }
            Elements::Integers(values) => values.iter().for_each(|value| element(value)),
            Elements::Texts(values) => {
                values.iter().for_each(|value| element(&json!(String::from_utf8_lossy(value))));
            }
        }
        text + "]"
    }

    fn elements(&self) -> Elements {
        let raw = &self.raw[..];
        match self.datatype.as_str() {
            "FP16" => floats(raw, |bytes| f16::from_le_bytes(bytes).to_f64()),
            "BF16" => floats(raw, |bytes| bf16::from_le_bytes(bytes).to_f64()),
            "FP32" => floats(raw, |bytes| f32::from_le_bytes(bytes).into()),
            "FP64" => floats(raw, f64::from_le_bytes),
            "BOOL" | "UINT8" => integers(raw, u8::from_le_bytes),
            "UINT16" => integers(raw, u16::from_le_bytes),
            "UINT32" => integers(raw, u32::from_le_bytes),
            "UINT64" => integers(raw, u64::from_le_bytes),
            "INT8" => integers(raw, i8::from_le_bytes),
            "INT16" => integers(raw, i16::from_le_bytes),
            "INT32" => integers(raw, i32::from_le_bytes),
            "INT64" => integers(raw, i64::from_le_bytes),
            _ => Elements::Texts(texts(raw)),
        }
    }

    /// Compares an answer with the expected one: `|a - b| <= absolute + relative * |b|` for
    /// floating-point numbers, equality for other elements.
    ///
    /// # Errors
    /// Returns the first difference.
    pub fn check(&self, expected: &Array, (relative, absolute): (f64, f64)) -> Result<(), String> {
        // An expected BF16 is written as FP32, since NumPy has no BF16.
        let same = self.datatype == expected.datatype
            || (self.datatype == "BF16" && expected.datatype == "FP32");
        if !same || self.shape != expected.shape {
            let (a, b) = (&self.datatype, &expected.datatype);
            return Err(format!("{a} {:?}, expected {b} {:?}", self.shape, expected.shape));
        }
        let wrong = match (self.elements(), expected.elements()) {
            (Elements::Floats(a), Elements::Floats(b)) => difference(&a, &b, |a, b| {
                a == b
                    || (a.is_nan() && b.is_nan())
                    || (b.is_finite() && (a - b).abs() <= absolute + relative * b.abs())
            }),
            (Elements::Integers(a), Elements::Integers(b)) => difference(&a, &b, |a, b| a == b),
            (Elements::Texts(a), Elements::Texts(b)) => difference(&a, &b, |a, b| a == b),
            _ => Some("elements of another kind".to_owned()),
        };
        wrong.map_or(Ok(()), Err)
    }
}

fn difference<T: std::fmt::Debug>(
    a: &[T],
    b: &[T],
    same: impl Fn(&T, &T) -> bool,
) -> Option<String> {
    if a.len() != b.len() {
        return Some(format!("{} elements, expected {}", a.len(), b.len()));
    }
    let wrong = (0..a.len()).filter(|at| !same(&a[*at], &b[*at]));
    let count = wrong.clone().count();
    let first = wrong.min()?;
    let (found, expected) = (&a[first], &b[first]);
    Some(format!("{count} of {} differ: at {first} {found:?}, expected {expected:?}", a.len()))
}

trait Trimmed {
    fn trim_suffix_zeros(&self) -> &[u8];
}

impl Trimmed for [u8] {
    fn trim_suffix_zeros(&self) -> &[u8] {
        let end = self.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        &self[..end]
    }
}

/// Code points of 32 bits each as UTF-8, without the padding of zeros.
fn text(units: &[u8]) -> Vec<u8> {
    let points = units.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit));
    let text: String = points.filter_map(char::from_u32).collect();
    text.trim_end_matches('\0').as_bytes().to_vec()
}

/// A `BYTES` element: its length, then its bytes.
fn sized(element: &[u8]) -> Vec<u8> {
    [&(element.len() as u32).to_le_bytes(), element].concat()
}

fn floats<const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> f64) -> Elements {
    Elements::Floats(raw.as_chunks().0.iter().map(|bytes| read(*bytes)).collect())
}

fn integers<T: Into<i128>, const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Elements {
    Elements::Integers(raw.as_chunks().0.iter().map(|bytes| read(*bytes).into()).collect())
}

fn texts(mut raw: &[u8]) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = raw.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (text, rest) = rest.split_at(length.min(rest.len()));
        texts.push(text.to_vec());
        raw = rest;
    }
    texts
}

/// One element of JSON in the form of the binary extension.
fn raw_element(datatype: &str, value: &Value) -> Option<Vec<u8>> {
    let float = || match value {
        Value::String(word) => word.parse().ok(),
        value => value.as_f64(),
    };
    let whole = || value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    let integer = |bytes: usize| Some(whole()?.to_le_bytes()[..bytes].to_vec());
    match datatype {
        "FP16" => Some(f16::from_f64(float()?).to_le_bytes().to_vec()),
        "BF16" => Some(bf16::from_f64(float()?).to_le_bytes().to_vec()),
        "FP32" => Some((float()? as f32).to_le_bytes().to_vec()),
        "FP64" => Some(float()?.to_le_bytes().to_vec()),
        "BOOL" => Some(vec![u8::from(value.as_bool()?)]),
        "UINT8" | "INT8" => integer(1),
        "UINT16" | "INT16" => integer(2),
        "UINT32" | "INT32" => integer(4),
        "UINT64" | "INT64" => integer(8),
        "BYTES" => Some(sized(value.as_str()?.as_bytes())),
        _ => None,
    }
}

#[test]
fn differences_in_datatype_shape_and_elements_are_found() {
    let array = |values: &[f32]| {
        let bytes: Vec<[u8; 4]> = values.iter().map(|value| value.to_le_bytes()).collect();
        let elements: Vec<&[u8]> = bytes.iter().map(|bytes| &bytes[..]).collect();
        Array::new(Kind::Number("FP32"), vec![values.len()], &elements)
    };
    let (one, nan) = (array(&[1.0, 100.0]), array(&[f32::NAN, f32::INFINITY]));
    let near = (0.01, 0.1);
    assert_eq!(array(&[1.1, 101.0]).check(&one, near), Ok(()));
    assert!(array(&[1.2, 100.0]).check(&one, near).unwrap_err().contains("at 0 1.2"));
    assert!(array(&[1.0]).check(&one, near).unwrap_err().contains("[1], expected FP32 [2]"));
    assert_eq!(nan.check(&nan, near), Ok(()));
    assert!(nan.check(&one, near).is_err() && one.check(&nan, near).is_err());
    assert!(array(&[f32::NAN, f32::NEG_INFINITY]).check(&nan, near).is_err());
    let whole = Array { datatype: "INT32".into(), ..one.clone() };
    assert!(whole.check(&one, near).unwrap_err().contains("expected FP32"));
    assert_eq!(nan.to_json(), "[NaN,Infinity]");
    let word = Array::new(Kind::Text, vec![2], &[b"h\0\0\0i\0\0\0", b"\0\0\0\0\0\0\0\0"]);
    assert_eq!(word.to_json(), r#"["hi",""]"#);
    let data = json!({"datatype": "BYTES", "shape": [2], "data": ["hi", ""]});
    assert_eq!(Array::of_answer(&data, None), Ok(word));
}
