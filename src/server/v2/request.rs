//! Parsing of a V2 inference request, independent of the model.
//!
//! A body that is not a V2 request is 400. A V2 request that contradicts itself or its datatype (a
//! wrong count, a number out of range, a negative dimension) is 422. Unknown parameters and fields
//! are ignored, since clients add their own (KServe's SDK adds `model_name` to the body).
//! Parameters that would change the answer are rejected.

use crate::http::fields::{Dimensions, List, Nullable, Scalar, Text};
use crate::http::object::Object;
use crate::v2::answer::{Named, WantedOutputs};
use crate::v2::binary::{self, RawTensors};
use bytes::Bytes;
use engine::{Account, Full, HeldMemory};
use model::signature::Signature;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::num::NonZero;
use std::time::Duration;
use types::error::Error;
use types::json::document::{self, DocumentError, Outline, SentDocument};
use types::json::{self, ExpectedTensor};
use types::tensor::{Datatype, Tensor, Tensors};

/// Inputs and outputs that are parsed in addition to those of a model, so that an error can name
/// them.
const UNKNOWN_MAX: usize = 16;

/// Maximum depth of nested arrays and objects, equal to serde_json's own limit.
const DEPTH_MAX: usize = 128;

/// Maximum length of a string other than the data of tensors, in bytes: serde_json repeats such a
/// string in errors.
const FORM_STRING_MAX: usize = 64 * 1024;

/// Copies of a string with escapes that exist while it is parsed: serde_json's, which may have
/// twice its length, and one for the tensor.
const ESCAPED_COPIES: usize = 3;

/// The limits of one request.
#[derive(Clone, Debug)]
pub(crate) struct RequestBounds {
    inputs_max: usize,
    outputs_max: usize,
    account: Account,
}

impl RequestBounds {
    pub(crate) fn new(signature: &Signature, account: Account) -> RequestBounds {
        let (inputs, outputs) = (signature.inputs.len(), signature.outputs.len());
        RequestBounds {
            inputs_max: inputs + UNKNOWN_MAX,
            outputs_max: outputs + UNKNOWN_MAX,
            account,
        }
    }
}

/// A well-formed request. The model's signature checks whether it fits the model.
#[derive(Debug)]
pub(crate) struct InferRequest {
    pub(crate) id: Option<String>,
    pub(crate) inputs: Tensors,
    pub(crate) wanted: WantedOutputs,
    /// The client's own timeout; a later answer is useless.
    pub(crate) timeout: Option<Duration>,
    /// 1 is the most urgent; 0 stands for the default.
    pub(crate) priority: u32,
}

struct RequestBody<'a> {
    id: Option<Text>,
    parameters: Option<Object<RequestParameters<'a>>>,
    inputs: Vec<Object<Input<'a>>>,
    outputs: Option<Vec<Object<RequestedOutput>>>,
}

/// The form of a request body with limited numbers of inputs and outputs.
#[derive(Clone)]
struct RequestSeed {
    inputs: List<()>,
    outputs: List<()>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Id,
    Parameters,
    Inputs,
    Outputs,
    #[serde(other)]
    Other,
}

impl RequestSeed {
    fn new(terms: &RequestBounds) -> RequestSeed {
        let inputs = List::new("inputs", terms.inputs_max);
        RequestSeed { inputs, outputs: List::new("outputs", terms.outputs_max) }
    }
}

impl<'a> DeserializeSeed<'a> for RequestSeed {
    type Value = RequestBody<'a>;

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<RequestBody<'a>, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for RequestSeed {
    type Value = RequestBody<'a>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<RequestBody<'a>, A::Error> {
        let (mut id, mut parameters, mut inputs, mut outputs) = (None, None, None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Id => once(&mut id, "id", map.next_value()?)?,
                Field::Parameters => once(&mut parameters, "parameters", map.next_value()?)?,
                Field::Inputs => {
                    once(&mut inputs, "inputs", map.next_value_seed(self.inputs.of())?)?;
                }
                Field::Outputs => {
                    let list = map.next_value_seed(Nullable(self.outputs.of()))?;
                    once(&mut outputs, "outputs", list)?;
                }
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let inputs = inputs.ok_or_else(|| A::Error::missing_field("inputs"))?;
        let (id, parameters) = (id.flatten(), parameters.flatten());
        Ok(RequestBody { id, parameters, inputs, outputs: outputs.flatten() })
    }
}

fn once<T, E: serde::de::Error>(
    field: &mut Option<T>,
    name: &'static str,
    value: T,
) -> Result<(), E> {
    if field.replace(value).is_some() {
        return Err(E::duplicate_field(name));
    }
    Ok(())
}

/// The parameters of a request.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct RequestParameters<'a> {
    binary_data_output: Option<Scalar<bool>>,
    /// In microseconds, 0 for none, as in Triton.
    timeout: Option<Scalar<u64>>,
    /// 1 is the most urgent, 0 the default, as in Triton.
    priority: Option<Scalar<u64>>,
    /// A number or a string, 0 or empty for none, as in Triton's sequence extension.
    ///
    /// They remain text: a parsed value of any form may be nested without a limit and takes many
    /// times the memory.
    #[serde(borrow)]
    sequence_id: Option<&'a RawValue>,
    #[serde(borrow)]
    sequence_start: Option<&'a RawValue>,
    #[serde(borrow)]
    sequence_end: Option<&'a RawValue>,
}

impl RequestParameters<'_> {
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let micros = self.timeout.map_or(0, |Scalar(micros)| micros);
        Some(micros).filter(|limit| *limit > 0).map(Duration::from_micros)
    }

    /// Returns the priority; a number that is too large stands for the least urgent one.
    pub(crate) fn priority(&self) -> u32 {
        u32::try_from(self.priority.map_or(0, |Scalar(number)| number)).unwrap_or(u32::MAX)
    }

    /// Rejects requests of a sequence, which only stateful models can answer.
    pub(crate) fn check_stateless(&self) -> Result<(), Error> {
        let named = self.sequence_id.is_some_and(|id| !["0", "\"\""].contains(&id.get()));
        let is_set = |flag: Option<&RawValue>| flag.is_some_and(|flag| flag.get() == "true");
        if named || is_set(self.sequence_start) || is_set(self.sequence_end) {
            return Err(Error::unprocessable(
                "parameters: sequence_id, sequence_start and sequence_end are not supported, since \
                 no model keeps a state between requests; send the state as inputs",
            ));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Input<'a> {
    name: Text,
    shape: Dimensions,
    datatype: Text,
    parameters: Option<Object<InputParameters>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputParameters {
    binary_data_size: Option<Scalar<usize>>,
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RequestedOutput {
    name: Text,
    parameters: Option<Object<RequestedOutputParameters>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RequestedOutputParameters {
    binary_data: Option<Scalar<bool>>,
    /// Number of classes of each row, 0 for the output itself, as in Triton.
    classification: Option<Scalar<u64>>,
    shared_memory_region: Option<IgnoredAny>,
}

impl InferRequest {
    /// Returns one row of one input that takes a whole file, as a BYTES element: its length, then
    /// the file.
    pub(crate) fn of_file(input: &str, element: Bytes) -> Result<InferRequest, Error> {
        let tensor = Tensor::new(input, Datatype::Bytes, vec![1, 1], element);
        let tensor = tensor.map_err(|error| Error::internal(error.to_string()))?;
        Ok(InferRequest {
            id: None,
            inputs: Tensors(vec![tensor]),
            wanted: WantedOutputs::default(),
            timeout: None,
            priority: 0,
        })
    }
}

/// Parses a body with a JSON part of `header_length` bytes, or all of it. The tensors carry the
/// charge of their memory, if the body carries its own.
///
/// # Errors
/// 400 and 422 if the body is not a request; 413 and 429 if memory for its tensors is lacking.
pub(crate) fn parse(
    body: Bytes,
    header_length: Option<usize>,
    terms: &RequestBounds,
) -> Result<InferRequest, Error> {
    let parts = binary::split(body, header_length)?;
    if parts.json.is_empty() {
        return Err(Error::malformed("the request has no JSON body"));
    }
    let mut work = check_outline(&parts.json, &terms.account)?;
    let (mut scratch, form) = (Vec::new(), RequestSeed::new(terms));
    let admit = |bytes| work.grow(bytes);
    let parsed = document::parse_seed(&parts.json, &mut scratch, form, admit);
    let (body, source) = parsed.map_err(|refused| match refused {
        DocumentError::Text(error) => not_a_request(error),
        DocumentError::Memory(full) => Full::of_request(full),
    })?;
    let Object(parameters) = body.parameters.unwrap_or_default();
    parameters.check_stateless()?;
    Ok(InferRequest {
        id: body.id.map(|Text(id)| id),
        inputs: tensors(&body.inputs, source, parts.raw, &terms.account)?,
        wanted: wanted(body.outputs, parameters.binary_data_output.is_some_and(|set| set.0))?,
        timeout: parameters.timeout(),
        priority: parameters.priority(),
    })
}

fn not_a_request(error: impl fmt::Display) -> Error {
    Error::malformed(format!("the body is not a V2 inference request: {error}"))
}

/// Rejects text that would make the parser use much memory, and charges the memory that parsing the
/// rest needs.
pub(crate) fn check_outline(text: &[u8], account: &Account) -> Result<HeldMemory, Error> {
    let Outline { depth, form_string, escaped_string } = Outline::of(text);
    if depth > DEPTH_MAX {
        return Err(not_a_request(format!(
            "arrays and objects are nested {depth} deep; the maximum is {DEPTH_MAX}"
        )));
    }
    if form_string > FORM_STRING_MAX {
        return Err(not_a_request(format!(
            "a string besides the data of tensors has {form_string} bytes; at most \
             {FORM_STRING_MAX} are possible"
        )));
    }
    account.charge(escaped_string.saturating_mul(ESCAPED_COPIES)).map_err(Full::of_request)
}

fn tensors<'a>(
    inputs: &[Object<Input<'a>>],
    source: SentDocument<'a>,
    mut raw: Option<RawTensors>,
    account: &Account,
) -> Result<Tensors, Error> {
    let tensor = |Object(input): &Object<Input<'a>>| input.tensor(source, raw.as_mut(), account);
    let tensors: Result<_, Error> = inputs.iter().map(tensor).collect();
    let tensors = tensors?;
    raw.map_or(Ok(()), |raw| raw.finish())?;
    Ok(tensors)
}

impl<'a> Input<'a> {
    fn tensor(
        &self,
        source: SentDocument<'a>,
        raw: Option<&mut RawTensors>,
        account: &Account,
    ) -> Result<Tensor, Error> {
        let (datatype, shape) = (self.datatype()?, self.shape()?);
        let expected = ExpectedTensor { what: "input", name: self.name(), datatype, shape: &shape };
        let data = self.data(expected, source, raw, account)?;
        let tensor = Tensor::new(self.name(), datatype, shape, data);
        tensor.map_err(|error| Error::unprocessable(error.to_string()))
    }

    fn name(&self) -> &str {
        &self.name.0
    }

    fn datatype(&self) -> Result<Datatype, Error> {
        Datatype::parse(&self.datatype.0).ok_or_else(|| {
            let known = Datatype::ALL.map(Datatype::as_str).join(", ");
            let (name, datatype) = (self.name(), &self.datatype.0);
            let message = format!("input '{name}': datatype '{datatype}' is not one of {known}");
            Error::unprocessable(message)
        })
    }

    fn shape(&self) -> Result<Vec<usize>, Error> {
        let dimension = |dim: &i64| {
            usize::try_from(*dim).map_err(|_| {
                let message = format!("input '{}': dimension {dim} is invalid", self.name());
                Error::unprocessable(message)
            })
        };
        self.shape.0.iter().map(dimension).collect()
    }

    fn data(
        &self,
        expected: ExpectedTensor<'_>,
        source: SentDocument<'a>,
        raw: Option<&mut RawTensors>,
        account: &Account,
    ) -> Result<Bytes, Error> {
        let malformed = |what: &str| Error::malformed(format!("input '{}' {what}", self.name()));
        let parameters = self.parameters.as_ref().map(|Object(parameters)| parameters);
        if parameters.is_some_and(|parameters| parameters.shared_memory_region.is_some()) {
            return Err(malformed("names a shared memory region, which is not supported"));
        }
        match (self.data, parameters.and_then(|parameters| parameters.binary_data_size), raw) {
            (Some(data), None, _) => decode(expected, source.sent(data.get()), account),
            (None, Some(Scalar(size)), Some(raw)) => raw.take(self.name(), size),
            (None, Some(_), None) => Err(malformed(
                "has binary_data_size, but the header Inference-Header-Content-Length is missing",
            )),
            (Some(_), Some(_), _) => Err(malformed("has both 'data' and binary_data_size")),
            (None, None, _) => Err(malformed("has neither 'data' nor binary_data_size")),
        }
    }
}

fn decode(expected: ExpectedTensor<'_>, text: &str, account: &Account) -> Result<Bytes, Error> {
    charged(account, |admit| json::decode_within(expected, text, admit))
}

/// Decodes the data of a tensor, which carry the charge of their memory. `read` calls its argument
/// with the capacity of the data before it allocates them.
pub(crate) fn charged(
    account: &Account,
    read: impl FnOnce(&mut dyn FnMut(usize) -> Result<(), Error>) -> Result<Vec<u8>, Error>,
) -> Result<Bytes, Error> {
    let mut held = account.request();
    let mut data = read(&mut |bytes| held.grow(bytes).map_err(Full::of_request))?;
    // Strings with escapes may have a sixth of the length of their text.
    if data.len() < data.capacity() / 2 {
        data.shrink_to_fit();
    }
    held.shrink_to(data.capacity());
    Ok(held.wrap(data))
}

fn wanted(
    outputs: Option<Vec<Object<RequestedOutput>>>,
    binary: bool,
) -> Result<WantedOutputs, Error> {
    let mut wanted = WantedOutputs { binary, named: Vec::new() };
    for Object(output) in outputs.unwrap_or_default() {
        let Object(parameters) = output.parameters.unwrap_or_default();
        if parameters.shared_memory_region.is_some() {
            let message =
                format!("output '{}': a shared memory region is not supported", output.name.0);
            return Err(Error::malformed(message));
        }
        let classes = parameters.classification.map_or(0, |Scalar(classes)| classes);
        wanted.named.push(Named {
            name: output.name.0,
            binary: parameters.binary_data.map_or(binary, |Scalar(binary)| binary),
            // A larger number stands for all classes.
            classes: NonZero::new(usize::try_from(classes).unwrap_or(usize::MAX)),
        });
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests;
