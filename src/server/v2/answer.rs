//! Rendering of a V2 inference answer: JSON, followed by raw tensors where requested.

use crate::http::growing::Growing;
use crate::v2::classification;
use bytes::Bytes;
use engine::{Account, Full, HeldMemory};
use model::info::ModelInfo;
use model::signature::{RowMode, Signature};
use serde::Serialize;
use std::borrow::Cow;
use std::num::NonZero;
use types::error::Error;
use types::json::{JsonData, document};
use types::tensor::{Datatype, Tensor, Tensors};

/// The requested outputs, and their form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WantedOutputs {
    /// The form of outputs that are not named.
    pub(crate) binary: bool,
    /// Outputs in the order of the request; empty for all outputs.
    pub(crate) named: Vec<Named>,
}

/// One output that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) binary: bool,
    /// The number of highest values of each row to return in place of the output; `None` for the
    /// output.
    pub(crate) classes: Option<NonZero<usize>>,
}

impl Named {
    /// Returns the output in the requested form.
    fn tensor<'a>(
        &self,
        model: &ModelInfo,
        outputs: &'a Tensors,
        work: &mut HeldMemory,
    ) -> Result<Cow<'a, Tensor>, Error> {
        let output = outputs.get(&self.name);
        let output = output
            .map_err(|error| Error::internal(format!("the answer is incomplete: {error}")))?;
        let Some(classes) = self.classes else { return Ok(Cow::Borrowed(output)) };
        // A whole request returns the outputs of the graph, which may have no rows.
        let has_rows = model.interface().rows != RowMode::Whole;
        let admit = |bytes| work.grow(bytes).map_err(Full::of_answer);
        classification::classify(output, classes, has_rows, &model.labels, admit).map(Cow::Owned)
    }
}

impl WantedOutputs {
    /// Adds the model's outputs if the request named none.
    ///
    /// # Errors
    /// 422 if the model has no such output, or one is named twice.
    pub(crate) fn resolve(self, signature: &Signature) -> Result<WantedOutputs, Error> {
        if self.named.is_empty() {
            let (binary, classes) = (self.binary, None);
            let all = signature.outputs.iter();
            let all = all.map(|spec| Named { name: spec.name.clone(), binary, classes });
            return Ok(WantedOutputs { named: all.collect(), ..self });
        }
        for (at, Named { name, .. }) in self.named.iter().enumerate() {
            if !signature.outputs.iter().any(|spec| spec.name == *name) {
                let names: Vec<_> =
                    signature.outputs.iter().map(|spec| spec.name.as_str()).collect();
                let names = names.join(", ");
                let message = format!("the model has no output '{name}'; its outputs are {names}");
                return Err(Error::unprocessable(message));
            }
            if self.named[..at].iter().any(|earlier| earlier.name == *name) {
                return Err(Error::unprocessable(format!("output '{name}' is requested twice")));
            }
        }
        Ok(self)
    }
}

/// The body of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RenderedBody {
    pub(crate) body: Bytes,
    /// Bytes of JSON before the raw tensors; `None` if the body is all JSON.
    pub(crate) header_length: Option<usize>,
}

#[derive(Serialize)]
struct AnswerBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    model_name: &'a str,
    model_version: &'a str,
    outputs: Vec<AnswerOutput<'a>>,
}

#[derive(Serialize)]
struct AnswerOutput<'a> {
    name: &'a str,
    datatype: Datatype,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<AnswerOutputParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<JsonData<'a>>,
}

#[derive(Serialize)]
struct AnswerOutputParameters {
    binary_data_size: usize,
}

impl AnswerOutput<'_> {
    fn new(tensor: &Tensor, binary: bool) -> AnswerOutput<'_> {
        AnswerOutput {
            name: &tensor.name,
            datatype: tensor.datatype,
            shape: &tensor.shape,
            parameters: binary
                .then(|| AnswerOutputParameters { binary_data_size: tensor.data.len() }),
            data: (!binary).then_some(JsonData(tensor)),
        }
    }
}

/// Renders the requested outputs, in the requested order.
///
/// # Errors
/// 422 if JSON cannot represent an output, or if an output has no classes; 500 if the engine
/// omitted one; 503 if memory for the answer is lacking, which is charged to `account`.
pub(crate) fn render(
    model: &ModelInfo,
    id: Option<&str>,
    outputs: &Tensors,
    wanted: &WantedOutputs,
    account: &Account,
) -> Result<RenderedBody, Error> {
    let mut work = account.answer();
    let answered = wanted.named.iter().map(|named| {
        let tensor = named.tensor(model, outputs, &mut work)?;
        Ok((tensor, named.binary))
    });
    let answered: Vec<(Cow<'_, Tensor>, bool)> = answered.collect::<Result<_, Error>>()?;
    let body = AnswerBody {
        id,
        model_name: &model.name,
        model_version: &model.version,
        outputs: answered
            .iter()
            .map(|(tensor, binary)| AnswerOutput::new(tensor, *binary))
            .collect(),
    };
    let mut text = Growing::new(account.answer());
    document::write(&mut text, &body).map_err(|error| match text.full() {
        Some(full) => full.of_answer(),
        None => Error::unprocessable(error.to_string()),
    })?;
    let raw = answered.iter().filter(|(_, binary)| *binary).map(|(tensor, _)| &tensor.data);
    append(text, &raw.collect::<Vec<_>>()).map_err(Full::of_answer)
}

fn append(mut json: Growing, raw: &[&Bytes]) -> Result<RenderedBody, Full> {
    if raw.is_empty() {
        return Ok(RenderedBody { body: json.finish(), header_length: None });
    }
    let header_length = Some(json.len());
    json.reserve(raw.iter().map(|data| data.len()).sum())?;
    raw.iter().try_for_each(|data| json.push(data))?;
    Ok(RenderedBody { body: json.finish(), header_length })
}

#[cfg(test)]
pub(crate) mod tests;
