//! The tables `[preprocess]` and `[postprocess]` of `model.toml`, read strictly and held against
//! the model's signature.

use super::after::Postprocess;
use super::before::Preprocess;
use super::ensemble::Ensemble;
use super::frame::SentFacts;
use super::picture::Picture;
use super::row::{BadRow, Budget};
use crate::files::{Detail, Files};
use crate::signature::{Signature, TensorSpec};
use serde::{Deserialize, Serialize};
use types::tensor::Tensors;

/// What a model's clients see instead of its graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "a repository has few of them")]
pub enum Pipeline {
    /// Steps before and after one graph.
    Around(Around),
    /// Models whose outputs feed the next.
    Ensemble(Ensemble),
}

/// What is done before and after one graph runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Around {
    pub(super) before: Option<Preprocess>,
    pub(super) after: Option<Postprocess>,
    /// What clients send and get.
    pub interface: Signature,
}

/// The tables as they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WrittenPipeline {
    pub preprocess: Option<super::before::WrittenPreprocess>,
    pub postprocess: Option<super::after::WrittenPostprocess>,
}

impl WrittenPipeline {
    pub(crate) fn is_empty(&self) -> bool {
        self.preprocess.is_none() && self.postprocess.is_none()
    }

    /// Holds the tables against the graph's signature; files they name are read from `files`.
    ///
    /// # Errors
    /// Naming the table and what is wrong in it.
    pub fn check(
        self,
        graph: &Signature,
        labels: &[String],
        files: &Files,
    ) -> Result<Around, Detail> {
        let before = self.preprocess.map(|written| written.check(graph));
        let before = before.transpose().map_err(|error| error.within("preprocess"))?;
        let after = self.postprocess.map(|written| written.check(graph, labels, files));
        let after = after.transpose().map_err(|error| error.within("postprocess"))?;
        if after.as_ref().is_some_and(Postprocess::needs_frame)
            && !before.as_ref().is_some_and(Preprocess::makes_frame)
        {
            return Err("postprocess: boxes and regions are places in an image, so that \
                        [preprocess.image] is needed"
                .into());
        }
        let (mut inputs, mut outputs) = (graph.inputs.clone(), graph.outputs.clone());
        if let Some(before) = &before {
            inputs.retain(|spec| !before.feeds(&spec.name));
            inputs.insert(0, before.interface());
        }
        if let Some(after) = &after {
            outputs.retain(|spec| !after.reads(&spec.name));
            outputs.splice(0..0, after.interface());
        }
        for (field, specs) in [("inputs", &inputs), ("outputs", &outputs)] {
            if let Some(name) = twice(specs) {
                return Err(format!("{field}: '{name}' would be named twice").into());
            }
        }
        let interface = Signature { inputs, outputs, ..Signature::default() };
        Ok(Around { before, after, interface })
    }
}

fn twice(specs: &[TensorSpec]) -> Option<&str> {
    let named = |(at, spec): &(usize, &TensorSpec)| {
        specs.iter().take(*at).any(|earlier| earlier.name == spec.name)
    };
    specs.iter().enumerate().find(named).map(|(_, spec)| spec.name.as_str())
}

impl Pipeline {
    /// What clients send and get.
    pub fn interface(&self) -> &Signature {
        match self {
            Pipeline::Around(around) => &around.interface,
            Pipeline::Ensemble(ensemble) => &ensemble.interface,
        }
    }

    /// The input that takes a whole file, if there is one and no other must be given.
    pub fn file_input(&self) -> Option<&TensorSpec> {
        match self.interface().inputs.as_slice() {
            [spec] if spec.takes_file() => Some(spec),
            _ => None,
        }
    }
}

impl Around {
    /// Fills the inputs of the graph for one row of what a client sent. `picture` stands for the
    /// input `image` where an earlier model of an ensemble made it.
    ///
    /// # Errors
    /// If what was sent is no such file, or there is no memory for it.
    pub fn prepare(
        &self,
        sent: &Tensors,
        picture: Option<&Picture>,
        budget: &mut Budget<'_>,
    ) -> Result<(Tensors, Option<SentFacts>), BadRow> {
        match &self.before {
            Some(before) => before.prepare(sent, picture, budget),
            None => Ok((sent.clone(), None)),
        }
    }

    /// Reads one row of the graph's outputs.
    ///
    /// # Errors
    /// If they are not what `model.toml` says.
    pub fn read(&self, outputs: Tensors, facts: Option<SentFacts>) -> Result<Tensors, BadRow> {
        match &self.after {
            Some(after) => after.read(outputs, facts),
            None => Ok(outputs),
        }
    }
}
