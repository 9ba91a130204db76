//! Fields of a request with a size that is limited while they are parsed.
//!
//! serde's own types build a value, or an error that repeats it, at any length: a list of numbers
//! takes several times the memory of its text. These types reject a field before that.

use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;

/// Maximum length of a name of an input or output, and of an id, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// Maximum length of the JSON text of a number or a boolean. A number has at most 20 digits; a
/// fraction may have more.
const SCALAR_BYTES_MAX: usize = 64;

/// Maximum number of dimensions of an input.
const DIMENSIONS_MAX: usize = 16;

/// A number or a boolean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar<T>(pub(crate) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Scalar<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Scalar<T>, D::Error> {
        parse(from, SCALAR_BYTES_MAX, "a number or a boolean").map(Scalar)
    }
}

/// A name or an id.
#[derive(Debug)]
pub(crate) struct Text(pub(crate) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
        // The longest escape of a byte is `\u0000`.
        let text: String = parse(from, TEXT_BYTES_MAX * 6 + 2, "a short string")?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(too_long(text.len(), "a short string"));
        }
        Ok(Text(text))
    }
}

fn parse<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    from: D,
    bytes_max: usize,
    expected: &str,
) -> Result<T, D::Error> {
    let text = <&RawValue>::deserialize(from)?.get();
    if text.len() > bytes_max {
        return Err(too_long(text.len(), expected));
    }
    serde_json::from_str(text).map_err(|error| {
        // The position in the field is not helpful.
        let error = error.to_string();
        D::Error::custom(error.rsplit_once(" at line ").map_or(error.as_str(), |(cause, _)| cause))
    })
}

fn too_long<E: Error>(bytes: usize, expected: &str) -> E {
    E::custom(format_args!("a value of {bytes} bytes is too long, expected {expected}"))
}

/// The dimensions of an input.
#[derive(Debug)]
pub(crate) struct Dimensions(pub(crate) Vec<i64>);

impl<'de> Deserialize<'de> for Dimensions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Dimensions, D::Error> {
        let list: Vec<Scalar<i64>> = List::new("dimensions", DIMENSIONS_MAX).deserialize(from)?;
        Ok(Dimensions(list.into_iter().map(|Scalar(length)| length).collect()))
    }
}

/// A list of at most `max` elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<T> {
    /// The kind of the elements, for errors.
    what: &'static str,
    max: usize,
    of: PhantomData<T>,
}

impl<T> List<T> {
    pub(crate) fn new(what: &'static str, max: usize) -> List<T> {
        List { what, max, of: PhantomData }
    }
}

impl List<()> {
    /// Returns a list of other elements with the same limit.
    pub(crate) fn of<T>(&self) -> List<T> {
        List::new(self.what, self.max)
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for List<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vec<T>, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            if list.len() == self.max {
                let List { what, max, .. } = self;
                return Err(A::Error::custom(format_args!("there are more than {max} {what}")));
            }
            list.push(element);
        }
        Ok(list)
    }
}

/// A value that may be `null`.
pub(crate) struct Nullable<S>(pub(crate) S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(from).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<'a, T: Deserialize<'a>>(text: &'a str) -> String {
        serde_json::from_str::<T>(text).err().unwrap().to_string()
    }

    #[test]
    fn fields_within_their_bounds_are_read() {
        let Scalar(number) = serde_json::from_str::<Scalar<u64>>(" 7 ").unwrap();
        let Text(text) = serde_json::from_str(r#""\u00fc\"""#).unwrap();
        let Dimensions(lengths) = serde_json::from_str("[1, -1]").unwrap();
        assert_eq!((number, text.as_str(), lengths), (7, "ü\"", vec![1, -1]));
        let longest = format!("\"{}\"", r"\u0001".repeat(TEXT_BYTES_MAX));
        assert_eq!(serde_json::from_str::<Text>(&longest).unwrap().0.len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn errors_do_not_contain_long_values() {
        let long = format!("\"{}\"", "x".repeat(100_000));
        for error in [
            error::<Scalar<u64>>(&long),
            error::<Text>(&long),
            error::<Text>(&format!("\"{}\"", "x".repeat(2_000))),
            error::<Dimensions>(&format!("[{long}]")),
        ] {
            assert!(error.len() < 200, "{error}");
        }
        assert!(error::<Text>(&long).contains("100002 bytes is too long"));
        assert!(error::<Scalar<u64>>("-1").contains("`-1`"));
        assert!(error::<Scalar<bool>>("1").contains("expected a boolean"));
    }

    #[test]
    fn lists_are_rejected_above_their_maximum() {
        let lengths = |count| format!("[{}]", vec!["1"; count].join(","));
        assert!(serde_json::from_str::<Dimensions>(&lengths(DIMENSIONS_MAX)).is_ok());
        let error = error::<Dimensions>(&lengths(DIMENSIONS_MAX + 1));
        assert!(error.contains("more than 16 dimensions"), "{error}");
    }
}
