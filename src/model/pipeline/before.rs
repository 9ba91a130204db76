//! The steps before a graph: from a client's file to the inputs of the graph.

use super::frame::{Frame, SentFacts};
use super::image::ImageSpec;
use super::picture::Picture;
use super::row::{BadRow, Budget, charge, port};
use super::row_tensors;
use super::wave::Wave;
use super::window::ByteWindow;
use crate::files::Detail;
use crate::signature::{Signature, TensorSpec};
use serde::{Deserialize, Serialize};
use types::tensor::{Datatype, Tensor, Tensors};

/// `[preprocess]` as written, before its values are checked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenPreprocess {
    image: Option<ImageSpec>,
    bytes: Option<ByteWindow>,
    audio: Option<Wave>,
    /// Inputs of the graph that are filled with zeros, such as an initial state.
    #[serde(default)]
    zeros: Vec<String>,
}

/// The sources of a graph's inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Preprocess {
    source: WrittenPreprocessSource,
    /// The input that is filled from the client's file.
    input: TensorSpec,
    zeros: Vec<TensorSpec>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum WrittenPreprocessSource {
    Image(ImageSpec),
    Bytes(ByteWindow),
    Audio(Wave),
}

impl WrittenPreprocess {
    pub(super) fn check(self, graph: &Signature) -> Result<Preprocess, Detail> {
        let (name, source) = match (self.image, self.bytes, self.audio) {
            (Some(image), None, None) => {
                (image.input.clone(), WrittenPreprocessSource::Image(image))
            }
            (None, Some(window), None) => {
                (window.input.clone(), WrittenPreprocessSource::Bytes(window))
            }
            (None, None, Some(wave)) => (wave.input.clone(), WrittenPreprocessSource::Audio(wave)),
            _ => return Err("needs one of the tables image, bytes and audio".into()),
        };
        let zeros = self.zeros.iter().map(|name| zero(graph, name));
        let zeros = zeros.collect::<Result<Vec<_>, _>>()?;
        let rest = graph.inputs.iter().filter(|spec| !zeros.iter().any(|zero| zero == *spec));
        let rest: Vec<TensorSpec> = rest.cloned().collect();
        let field = source.name();
        let input = port(&rest, name.as_deref(), &format!("{field}.input"))?.clone();
        let fits = match &source {
            WrittenPreprocessSource::Image(image) => image.check(&input),
            WrittenPreprocessSource::Bytes(window) => window.check(&input),
            WrittenPreprocessSource::Audio(wave) => wave.check(&input),
        };
        fits.map_err(|error| error.within(field))?;
        Ok(Preprocess { source, input, zeros })
    }
}

fn zero(graph: &Signature, name: &str) -> Result<TensorSpec, Detail> {
    let spec = port(&graph.inputs, Some(name), "zeros")?;
    if spec.shape.iter().any(|dim| *dim < 0) || spec.datatype() == Datatype::Bytes {
        return Err(format!("zeros: '{name}' has no fixed size: {:?}", spec.shape).into());
    }
    Ok(spec.clone())
}

impl WrittenPreprocessSource {
    fn name(&self) -> &'static str {
        match self {
            WrittenPreprocessSource::Image(_) => "image",
            WrittenPreprocessSource::Bytes(_) => "bytes",
            WrittenPreprocessSource::Audio(_) => "audio",
        }
    }
}

impl Preprocess {
    /// Returns true if an input of the graph is filled here: clients do not send it.
    pub(super) fn feeds(&self, name: &str) -> bool {
        self.input.name == name || self.zeros.iter().any(|spec| spec.name == name)
    }

    pub(super) fn makes_frame(&self) -> bool {
        matches!(self.source, WrittenPreprocessSource::Image(_))
    }

    /// The input for clients: one file in each row.
    pub(super) fn interface(&self) -> TensorSpec {
        TensorSpec::file(self.source.name())
    }

    /// Fills the inputs of the graph for one row of a request; `picture` is given if an earlier
    /// model of an ensemble made it.
    pub(super) fn prepare(
        &self,
        sent: &Tensors,
        picture: Option<&Picture>,
        budget: &mut Budget<'_>,
    ) -> Result<(Tensors, Option<SentFacts>), BadRow> {
        let (filled, facts) = self.fill(sent, picture, budget)?;
        let mut inputs = vec![filled];
        for spec in &self.zeros {
            let shape: Vec<usize> =
                spec.shape.iter().filter_map(|dim| usize::try_from(*dim).ok()).collect();
            inputs.push(zeros(spec, &shape, budget)?);
        }
        let own = sent.0.iter().filter(|tensor| tensor.name != self.source.name());
        inputs.extend(own.cloned());
        Ok((Tensors(inputs), facts))
    }

    fn fill(
        &self,
        sent: &Tensors,
        picture: Option<&Picture>,
        budget: &mut Budget<'_>,
    ) -> Result<(Tensor, Option<SentFacts>), BadRow> {
        let file = || row_tensors::file(sent, self.source.name());
        let image =
            |(tensor, frame): (Tensor, Option<Frame>)| (tensor, frame.map(SentFacts::Image));
        match (&self.source, picture) {
            (WrittenPreprocessSource::Image(spec), Some(picture)) => {
                spec.prepare(picture, &self.input, budget).map(image)
            }
            (WrittenPreprocessSource::Image(spec), None) => {
                let picture = Picture::decode(&file()?, budget)?;
                spec.prepare(&picture, &self.input, budget).map(image)
            }
            (WrittenPreprocessSource::Bytes(window), _) => {
                let file = file()?;
                let empty = file.is_empty().then_some(SentFacts::Empty);
                Ok((window.prepare(&file, &self.input, budget)?, empty))
            }
            (WrittenPreprocessSource::Audio(wave), _) => {
                Ok((wave.prepare(&file()?, &self.input, budget)?, None))
            }
        }
    }
}

fn zeros(spec: &TensorSpec, shape: &[usize], budget: &mut Budget<'_>) -> Result<Tensor, BadRow> {
    let size = spec.datatype().size().unwrap_or(4);
    let bytes = shape.iter().try_fold(size, |bytes, dim| bytes.checked_mul(*dim));
    let bytes = bytes.ok_or(BadRow::Memory)?;
    charge(budget, bytes as u64)?;
    let data = vec![0u8; bytes];
    let shape = std::iter::once(1).chain(shape.iter().copied()).collect();
    Tensor::new(spec.name.as_str(), spec.datatype(), shape, data.into())
        .map_err(|error| BadRow::Input(error.to_string()))
}
