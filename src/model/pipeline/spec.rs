//! The tables `[preprocess]` and `[postprocess]` of `model.toml`, parsed strictly and checked
//! against the model's signature.

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

/// The parts of a model that define another interface for clients than its graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "a repository has few of them")]
pub enum Pipeline {
    /// Steps before and after one graph.
    Around(Around),
    /// A chain of models.
    Ensemble(Ensemble),
}

/// The steps before and after one graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Around {
    pub(super) before: Option<Preprocess>,
    pub(super) after: Option<Postprocess>,
    /// The inputs and outputs for clients.
    pub interface: Signature,
}

/// The tables as written, before their values are checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WrittenPipeline {
    pub preprocess: Option<super::before::WrittenPreprocess>,
    pub postprocess: Option<super::after::WrittenPostprocess>,
}

impl WrittenPipeline {
    pub(crate) fn is_empty(&self) -> bool {
        self.preprocess.is_none() && self.postprocess.is_none()
    }

    /// Checks the tables against the graph's signature; files that they name are read from `files`.
    ///
    /// # Errors
    /// If a table is invalid, with its name and the cause.
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
            return Err("postprocess: boxes and regions are places in an image; add \
                        [preprocess.image]"
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
                return Err(format!("{field}: the name '{name}' is used twice").into());
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
    /// The inputs and outputs for clients.
    pub fn interface(&self) -> &Signature {
        match self {
            Pipeline::Around(around) => &around.interface,
            Pipeline::Ensemble(ensemble) => &ensemble.interface,
        }
    }

    /// The input that takes a whole file, if there is one and no other input is required.
    pub fn file_input(&self) -> Option<&TensorSpec> {
        match self.interface().inputs.as_slice() {
            [spec] if spec.takes_file() => Some(spec),
            _ => None,
        }
    }
}

impl Around {
    /// Fills the inputs of the graph for one row of a request. `picture` replaces the input `image`
    /// if an earlier model of an ensemble made it.
    ///
    /// # Errors
    /// If the sent data are not a valid file, or exceed the memory budget.
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
    /// If the outputs contradict `model.toml`.
    pub fn read(&self, outputs: Tensors, facts: Option<SentFacts>) -> Result<Tensors, BadRow> {
        match &self.after {
            Some(after) => after.read(outputs, facts),
            None => Ok(outputs),
        }
    }
}
