//! The steps after a graph: from its outputs to answers.

use super::boxes::Boxes;
use super::classes::Classes;
use super::ctc::Ctc;
use super::frame::SentFacts;
use super::regions::Regions;
use super::row::{BadRow, port};
use crate::files::{Detail, Files};
use crate::signature::{Signature, TensorSpec};
use serde::{Deserialize, Serialize};
use types::tensor::{Datatype, Tensor, Tensors};

/// `[postprocess]` as written, before its values are checked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenPostprocess {
    classes: Option<Classes>,
    text: Option<super::ctc::WrittenCtc>,
    boxes: Option<Boxes>,
    regions: Option<Regions>,
}

/// The results that are read from a graph's outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Postprocess {
    reading: OutputReading,
    /// The outputs that are read here, and therefore not in the answer.
    outputs: Vec<String>,
    labels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum OutputReading {
    Classes(Classes),
    Text(Ctc),
    Boxes(Boxes),
    Regions(Regions),
}

impl WrittenPostprocess {
    pub(super) fn check(
        self,
        graph: &Signature,
        labels: &[String],
        files: &Files,
    ) -> Result<Postprocess, Detail> {
        let find = |named: &Option<String>, field: &str| {
            let spec = port(&graph.outputs, named.as_deref(), field)?;
            match spec.datatype() {
                Datatype::Fp32 | Datatype::Fp16 => Ok(spec.name.clone()),
                other => Err(Detail::from(format!("{field}: '{}' is of {other}", spec.name))),
            }
        };
        let (reading, outputs) = match (self.classes, self.text, self.boxes, self.regions) {
            (Some(classes), None, None, None) => {
                classes.check().map_err(|error| error.within("classes"))?;
                let output = find(&classes.output, "classes.output")?;
                (OutputReading::Classes(classes), vec![output])
            }
            (None, Some(text), None, None) => {
                let output = find(&text.output, "text.output")?;
                let text = text.check(files).map_err(|error| error.within("text"))?;
                (OutputReading::Text(text), vec![output])
            }
            (None, None, Some(boxes), None) => {
                boxes.check().map_err(|error| error.within("boxes"))?;
                let outputs = match (&boxes.boxes, &boxes.scores) {
                    (None, None) => vec![find(&boxes.output, "boxes.output")?],
                    (places, scores) => {
                        vec![find(places, "boxes.boxes")?, find(scores, "boxes.scores")?]
                    }
                };
                (OutputReading::Boxes(boxes), outputs)
            }
            (None, None, None, Some(regions)) => {
                regions.check().map_err(|error| error.within("regions"))?;
                let output = find(&regions.output, "regions.output")?;
                (OutputReading::Regions(regions), vec![output])
            }
            _ => {
                return Err("needs one of the tables classes, text, boxes and regions".into());
            }
        };
        Ok(Postprocess { reading, outputs, labels: labels.to_vec() })
    }
}

impl Postprocess {
    /// Returns true if an output of the graph is read here: clients do not receive it.
    pub(super) fn reads(&self, name: &str) -> bool {
        self.outputs.iter().any(|output| output == name)
    }

    /// Returns true if the results are places in an image.
    pub(super) fn needs_frame(&self) -> bool {
        matches!(self.reading, OutputReading::Boxes(_) | OutputReading::Regions(_))
    }

    /// The outputs for clients.
    pub(super) fn interface(&self) -> Vec<TensorSpec> {
        let spec = |name: &str, datatype, shape: &[i64]| {
            TensorSpec::new(name, vec![datatype], shape.to_vec())
        };
        let (words, numbers) = (Datatype::Bytes, Datatype::Fp32);
        match &self.reading {
            OutputReading::Classes(_) => {
                vec![spec("label", words, &[-1]), spec("score", numbers, &[-1])]
            }
            OutputReading::Text(_) => vec![spec("text", words, &[1]), spec("score", numbers, &[1])],
            OutputReading::Boxes(_) => vec![
                spec("label", words, &[-1]),
                spec("score", numbers, &[-1]),
                spec("box", numbers, &[-1, 4]),
            ],
            OutputReading::Regions(_) => {
                vec![spec("polygon", numbers, &[-1, 4, 2]), spec("score", numbers, &[-1])]
            }
        }
    }

    /// Reads one row of a graph's outputs; outputs that are not read here are passed on.
    pub(super) fn read(
        &self,
        outputs: Tensors,
        sent: Option<SentFacts>,
    ) -> Result<Tensors, BadRow> {
        let frame = match sent {
            Some(SentFacts::Image(frame)) => Some(frame),
            Some(SentFacts::Empty) | None => None,
        };
        let name = |at: usize| self.outputs.get(at).map_or("", String::as_str);
        let lost = || BadRow::Output("the size of the image is not known".to_owned());
        let mut read: Vec<Tensor> = match &self.reading {
            OutputReading::Classes(classes) => {
                let is_empty = sent == Some(SentFacts::Empty);
                classes.read(&outputs, name(0), &self.labels, is_empty)?
            }
            OutputReading::Text(text) => text.read(&outputs, name(0))?,
            OutputReading::Boxes(boxes) => {
                let names = (name(0), self.outputs.get(1).map(String::as_str));
                boxes.read(&outputs, names, &self.labels, frame.ok_or_else(lost)?)?
            }
            OutputReading::Regions(regions) => {
                regions.read(&outputs, name(0), frame.ok_or_else(lost)?)?
            }
        };
        read.extend(outputs.0.into_iter().filter(|tensor| !self.reads(&tensor.name)));
        Ok(Tensors(read))
    }
}
