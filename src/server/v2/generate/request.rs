//! The body of a generate request: one JSON value for each input, by its name.
//!
//! Triton's generate extension (`extension_generate.md`): the names of inputs are fields beside
//! `id` and `parameters`. A value is a number, a boolean, a string, or a list, nested or flat. It
//! is one row.

use crate::http::fields::Text;
use crate::http::object::Object;
use crate::v2::request::{RequestParameters, charged, check_outline};
use bytes::Bytes;
use engine::{Account, Full};
use model::signature::{RowMode, Signature, TensorSpec};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::time::Duration;
use types::error::Error;
use types::json::document::{self, DocumentError};
use types::json::{self, ExpectedTensor};
use types::tensor::{Tensor, Tensors};

/// A well-formed request.
#[derive(Debug)]
pub(crate) struct GenerateRequest {
    pub(crate) id: Option<String>,
    pub(crate) inputs: Tensors,
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority: u32,
}

/// Fields of the body, each once.
#[derive(Default)]
struct GenerateFields<'a> {
    id: Option<Text>,
    parameters: Option<Object<RequestParameters<'a>>>,
    inputs: Vec<(&'a TensorSpec, &'a RawValue)>,
}

/// The form of a body for a model.
#[derive(Clone, Copy)]
struct GenerateSeed<'s>(&'s Signature);

impl<'a, 's: 'a> DeserializeSeed<'a> for GenerateSeed<'s> {
    type Value = GenerateFields<'a>;

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<GenerateFields<'a>, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'a, 's: 'a> Visitor<'a> for GenerateSeed<'s> {
    type Value = GenerateFields<'a>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<GenerateFields<'a>, A::Error> {
        let mut fields = GenerateFields::default();
        while let Some(Text(name)) = map.next_key()? {
            let spec = self.0.inputs.iter().find(|spec| spec.name == name);
            match (spec, name.as_str()) {
                (Some(spec), _) if fields.inputs.iter().any(|(other, _)| *other == spec) => {
                    return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
                }
                (Some(spec), _) => fields.inputs.push((spec, map.next_value()?)),
                (None, "id") => fields.id = Some(map.next_value()?),
                (None, "parameters") => fields.parameters = Some(map.next_value()?),
                (None, _) => return Err(A::Error::custom(self.unknown(&name))),
            }
        }
        Ok(fields)
    }
}

impl GenerateSeed<'_> {
    fn unknown(&self, name: &str) -> String {
        let names: Vec<_> = self.0.inputs.iter().map(|spec| spec.name.as_str()).collect();
        format!("the model has no input '{name}'; its inputs are {}", names.join(", "))
    }
}

/// Parses a body. The tensors carry the charge of their memory.
///
/// # Errors
/// 400 if the body is not an object of inputs of the model; 422 if a value does not fit its input;
/// 413 and 429 if memory for the tensors is lacking.
pub(crate) fn parse(
    body: &Bytes,
    signature: &Signature,
    account: &Account,
) -> Result<GenerateRequest, Error> {
    let mut work = check_outline(body, account)?;
    let mut scratch = Vec::new();
    let parsed =
        document::parse_seed(body, &mut scratch, GenerateSeed(signature), |bytes| work.grow(bytes));
    let (fields, source) = parsed.map_err(|refused| match refused {
        DocumentError::Text(error) => {
            Error::malformed(format!("the body is not a generate request: {error}"))
        }
        DocumentError::Memory(full) => Full::of_request(full),
    })?;
    let Object(parameters) = fields.parameters.unwrap_or_default();
    parameters.check_stateless()?;
    let tensor = |(spec, value): &(&TensorSpec, &RawValue)| {
        tensor(spec, signature.rows, source.sent(value.get()), account)
    };
    Ok(GenerateRequest {
        id: fields.id.map(|Text(id)| id),
        inputs: fields.inputs.iter().map(tensor).collect::<Result<_, _>>()?,
        timeout: parameters.timeout(),
        priority: parameters.priority(),
    })
}

fn tensor(
    spec: &TensorSpec,
    mode: RowMode,
    text: &str,
    account: &Account,
) -> Result<Tensor, Error> {
    let (datatype, shape) = (spec.datatype(), shape(spec, text));
    let expected = ExpectedTensor { what: "input", name: &spec.name, datatype, shape: &shape };
    let read = |admit: &mut dyn FnMut(usize) -> Result<(), Error>| {
        json::decode_value_within(expected, text, admit)
    };
    let data = charged(account, read)?;
    let rows = (mode != RowMode::Whole).then_some(1);
    let shape = rows.into_iter().chain(shape).collect();
    let tensor = Tensor::new(&spec.name, datatype, shape, data);
    tensor.map_err(|error| Error::unprocessable(error.to_string()))
}

/// Returns the shape of a row: the model's, with the value's lengths for open dimensions.
fn shape(spec: &TensorSpec, text: &str) -> Vec<usize> {
    let fixed: Option<Vec<usize>> =
        spec.shape.iter().map(|dim| usize::try_from(*dim).ok()).collect();
    if let Some(fixed) = fixed.filter(|_| !spec.any_rank) {
        return fixed;
    }
    let (nested, elements) = json::nesting(text);
    if spec.any_rank || nested.len() == spec.shape.len() {
        return nested;
    }
    // For a flat list or one scalar, the first open dimension takes all that the fixed ones leave.
    let others: usize = spec.shape.iter().filter_map(|dim| usize::try_from(*dim).ok()).product();
    let mut length = elements.checked_div(others);
    let dim = |dim: &i64| usize::try_from(*dim).unwrap_or_else(|_| length.take().unwrap_or(1));
    spec.shape.iter().map(dim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Memory;
    use types::tensor::Datatype;

    fn signature() -> Signature {
        let spec = |name: &str, datatype, shape: &[i64]| {
            TensorSpec::new(name, vec![datatype], shape.to_vec())
        };
        let inputs = vec![
            spec("n", Datatype::Int64, &[1]),
            spec("list", Datatype::Fp32, &[-1]),
            spec("grid", Datatype::Uint8, &[-1, 2]),
            spec("text", Datatype::Bytes, &[1]),
        ];
        Signature { inputs, ..Signature::default() }
    }

    fn parsed(body: &'static str) -> Result<GenerateRequest, Error> {
        let memory = Memory::new(1 << 20);
        parse(&Bytes::from_static(body.as_bytes()), &signature(), &memory.of(1))
    }

    fn shape_of(body: &'static str) -> Vec<usize> {
        parsed(body).unwrap().inputs.0.remove(0).shape
    }

    #[test]
    fn values_become_one_row_of_each_input() {
        let body = r#"{"n": 7, "text": "hi", "id": "a", "parameters": {"timeout": 5, "x": [1]}}"#;
        let request = parsed(body).unwrap();
        assert_eq!((request.id.as_deref(), request.priority), (Some("a"), 0));
        assert_eq!(request.timeout, Some(Duration::from_micros(5)));
        let [n, text] = &request.inputs.0[..] else { panic!("{:?}", request.inputs) };
        assert_eq!((&n.shape[..], &n.data[..]), (&[1, 1][..], &7i64.to_le_bytes()[..]));
        assert_eq!((&text.shape[..], &text.data[..]), (&[1, 1][..], &b"\x02\0\0\0hi"[..]));
    }

    #[test]
    fn open_dimensions_are_as_long_as_the_value() {
        for (body, shape) in [
            (r#"{"n": 7}"#, vec![1, 1]),
            (r#"{"n": [7]}"#, vec![1, 1]),
            (r#"{"list": 7}"#, vec![1, 1]),
            (r#"{"list": [1, 2, 3]}"#, vec![1, 3]),
            (r#"{"list": []}"#, vec![1, 0]),
            (r#"{"grid": [[1, 2], [3, 4], [5, 6]]}"#, vec![1, 3, 2]),
            (r#"{"grid": [1, 2, 3, 4]}"#, vec![1, 2, 2]),
        ] {
            assert_eq!(shape_of(body), shape, "{body}");
        }
    }

    #[test]
    fn other_bodies_are_errors() {
        for (body, status, words) in [
            ("", 400, "not a generate request"),
            ("[]", 400, "expected an object"),
            ("{\"m\": 7}", 400, "no input 'm'; its inputs are n, list, grid, text"),
            ("{\"n\": 7, \"n\": 8}", 400, "duplicate field `n`"),
            ("{\"n\": 7} 8", 400, "trailing"),
            ("{\"n\": [7, 8]}", 422, "needs 1 elements"),
            ("{\"n\": \"7\"}", 422, "is not a INT64"),
            ("{\"n\": {}}", 422, "is not a INT64"),
            ("{\"grid\": [[1, 2], [3]]}", 422, "'data' must be flat or nested"),
            ("{\"grid\": [1, 2, 3]}", 422, "needs 2 elements"),
            ("{\"parameters\": {\"sequence_id\": 5}}", 422, "sequence_id"),
        ] {
            let error = parsed(body).unwrap_err();
            let got = (error.kind.status(), error.message.contains(words));
            assert_eq!(got, (status, true), "{body}: {error}");
        }
    }
}
