//! A V2 inference request, parsed from bytes. It knows no model yet.
//!
//! A body that is not a V2 request is 400. A V2 request that contradicts itself or its datatype
//! (a wrong count, a number out of range, a negative dimension) is 422. Parameters and fields
//! without a meaning here are ignored, since clients add their own (KServe's SDK puts `model_name`
//! into the body). Parameters that would change the answer are rejected.

use crate::api::answer::{Named, Wanted};
use crate::api::binary::{self, Raw};
use crate::api::object::Object;
use crate::error::{Error, ErrorKind};
use crate::json::document::{self, Source};
use crate::json::{self, Expected};
use crate::tensor::{Datatype, Tensor, Tensors};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::num::NonZero;
use std::time::Duration;

/// A well-formed request. The model's signature checks whether it fits the model.
#[derive(Debug)]
pub(crate) struct InferRequest {
    pub(crate) id: Option<String>,
    pub(crate) inputs: Tensors,
    pub(crate) wanted: Wanted,
    /// The client's own timeout; an answer after it is useless.
    pub(crate) timeout: Option<Duration>,
    /// 1 is the most urgent; 0 stands for the default.
    pub(crate) priority: u32,
}

#[derive(Deserialize)]
struct RequestBody<'a> {
    id: Option<String>,
    #[serde(borrow)]
    parameters: Option<Object<RequestParameters<'a>>>,
    #[serde(borrow)]
    inputs: Vec<Object<Input<'a>>>,
    outputs: Option<Vec<Object<Output>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RequestParameters<'a> {
    binary_data_output: Option<bool>,
    /// In microseconds, 0 for none, as in Triton.
    timeout: Option<u64>,
    /// 1 is the most urgent, 0 the default, as in Triton.
    priority: Option<u64>,
    /// A number or a string, 0 or empty for none, as in Triton's sequence extension.
    ///
    /// They stay text: a parsed value of any form may be nested without a bound and takes many
    /// times the memory.
    #[serde(borrow)]
    sequence_id: Option<&'a RawValue>,
    #[serde(borrow)]
    sequence_start: Option<&'a RawValue>,
    #[serde(borrow)]
    sequence_end: Option<&'a RawValue>,
}

impl RequestParameters<'_> {
    /// Rejects requests of a sequence, which only models with a state can answer.
    fn check_stateless(&self) -> Result<(), Error> {
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
    name: String,
    shape: Vec<i64>,
    datatype: String,
    parameters: Option<Object<InputParameters>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputParameters {
    binary_data_size: Option<usize>,
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    parameters: Option<Object<OutputParameters>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputParameters {
    binary_data: Option<bool>,
    /// How many classes of each row, 0 for the output as it is, as in Triton.
    classification: Option<u64>,
    shared_memory_region: Option<IgnoredAny>,
}

impl InferRequest {
    /// One row of one input that takes a whole file.
    ///
    /// # Errors
    /// 413 if the file is longer than a BYTES element can be.
    pub(crate) fn of_file(input: &str, file: &[u8]) -> Result<InferRequest, Error> {
        let too_long = |_| Error::new(ErrorKind::TooLarge, "the file is longer than 4 GiB");
        let length = u32::try_from(file.len()).map_err(too_long)?;
        let data = [&length.to_le_bytes(), file].concat();
        let tensor = Tensor::new(input, Datatype::Bytes, vec![1, 1], data.into());
        let tensor = tensor.map_err(|error| Error::internal(error.to_string()))?;
        Ok(InferRequest {
            id: None,
            inputs: Tensors(vec![tensor]),
            wanted: Wanted::default(),
            timeout: None,
            priority: 0,
        })
    }
}

/// Parses a body whose JSON part is `header_length` bytes, or all of it.
pub(crate) fn parse(body: Bytes, header_length: Option<usize>) -> Result<InferRequest, Error> {
    let parts = binary::split(body, header_length)?;
    if parts.json.is_empty() {
        return Err(Error::malformed("the request has no JSON body"));
    }
    let mut scratch = Vec::new();
    let parsed = document::parse::<Object<RequestBody<'_>>>(&parts.json, &mut scratch);
    let (Object(body), source) = parsed.map_err(|error| {
        Error::malformed(format!("the body is not a V2 inference request: {error}"))
    })?;
    let Object(parameters) = body.parameters.unwrap_or_default();
    parameters.check_stateless()?;
    Ok(InferRequest {
        id: body.id,
        inputs: tensors(&body.inputs, source, parts.raw)?,
        wanted: wanted(body.outputs, parameters.binary_data_output.unwrap_or(false))?,
        timeout: parameters.timeout.filter(|limit| *limit > 0).map(Duration::from_micros),
        // A number that is too large stands for the least urgent priority.
        priority: u32::try_from(parameters.priority.unwrap_or(0)).unwrap_or(u32::MAX),
    })
}

fn tensors<'a>(
    inputs: &[Object<Input<'a>>],
    source: Source<'a>,
    mut raw: Option<Raw>,
) -> Result<Tensors, Error> {
    let tensors: Result<_, Error> =
        inputs.iter().map(|Object(input)| input.tensor(source, raw.as_mut())).collect();
    let tensors = tensors?;
    raw.map_or(Ok(()), |raw| raw.finish())?;
    Ok(tensors)
}

impl<'a> Input<'a> {
    fn tensor(&self, source: Source<'a>, raw: Option<&mut Raw>) -> Result<Tensor, Error> {
        let (datatype, shape) = (self.datatype()?, self.shape()?);
        let expected = Expected { what: "input", name: &self.name, datatype, shape: &shape };
        let data = self.data(expected, source, raw)?;
        let tensor = Tensor::new(self.name.as_str(), datatype, shape, data);
        tensor.map_err(|error| Error::unprocessable(error.to_string()))
    }

    fn datatype(&self) -> Result<Datatype, Error> {
        Datatype::parse(&self.datatype).ok_or_else(|| {
            let known = Datatype::ALL.map(Datatype::as_str).join(", ");
            let (name, datatype) = (&self.name, &self.datatype);
            let message = format!("input '{name}': datatype '{datatype}' is none of {known}");
            Error::unprocessable(message)
        })
    }

    fn shape(&self) -> Result<Vec<usize>, Error> {
        let dimension = |dim: &i64| {
            usize::try_from(*dim).map_err(|_| {
                let message = format!("input '{}': dimension {dim} is not possible", self.name);
                Error::unprocessable(message)
            })
        };
        self.shape.iter().map(dimension).collect()
    }

    fn data(
        &self,
        expected: Expected<'_>,
        source: Source<'a>,
        raw: Option<&mut Raw>,
    ) -> Result<Bytes, Error> {
        let malformed = |what: &str| Error::malformed(format!("input '{}' {what}", self.name));
        let parameters = self.parameters.as_ref().map(|Object(parameters)| parameters);
        if parameters.is_some_and(|parameters| parameters.shared_memory_region.is_some()) {
            return Err(malformed("names a shared memory region, which is not supported"));
        }
        match (self.data, parameters.and_then(|parameters| parameters.binary_data_size), raw) {
            (Some(data), None, _) => json::decode(expected, source.sent(data.get())),
            (None, Some(size), Some(raw)) => raw.take(&self.name, size),
            (None, Some(_), None) => Err(malformed(
                "has binary_data_size, but the header Inference-Header-Content-Length is missing",
            )),
            (Some(_), Some(_), _) => Err(malformed("has both 'data' and binary_data_size")),
            (None, None, _) => Err(malformed("has neither 'data' nor binary_data_size")),
        }
    }
}

fn wanted(outputs: Option<Vec<Object<Output>>>, binary: bool) -> Result<Wanted, Error> {
    let mut wanted = Wanted { binary, named: Vec::new() };
    for Object(output) in outputs.unwrap_or_default() {
        let Object(parameters) = output.parameters.unwrap_or_default();
        if parameters.shared_memory_region.is_some() {
            let message =
                format!("output '{}': a shared memory region is not supported", output.name);
            return Err(Error::malformed(message));
        }
        let classes = parameters.classification.unwrap_or(0);
        wanted.named.push(Named {
            name: output.name,
            binary: parameters.binary_data.unwrap_or(binary),
            // A larger number stands for all classes.
            classes: NonZero::new(usize::try_from(classes).unwrap_or(usize::MAX)),
        });
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests;
