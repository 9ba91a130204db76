//! The kind `onnx`: runs the graph of an ONNX file.

mod check;
mod convert;
pub(crate) mod signature;

use crate::model::registry::LoadContext;
use crate::model::signature::Signature;
use crate::model::{Model, ModelError};
use crate::onnx::{Engine, Limits, ModelFile, Place, Raw};
use crate::tensor::{Tensor, Tensors};
use signature::Rows;

pub use check::check;
pub use signature::KIND;

/// A loaded graph.
#[derive(Debug)]
pub struct Onnx {
    signature: Signature,
    rows: Rows,
    engine: Engine,
}

/// Loads the graph of a version.
///
/// # Errors
/// [`ModelError::Broken`], naming the file and what is wrong with it: what cannot be parsed,
/// operators that are not supported, a signature in `model.toml` that is not the graph's.
pub fn load(context: &LoadContext<'_>) -> Result<Onnx, ModelError> {
    let (files, name) = (context.files, context.info.graph_file());
    let broken = |detail: String| ModelError::Broken(format!("{}: {detail}", files.path_of(&name)));
    let file = signature::read(files, &name, true)?;
    let stated = context.info.signature.clone();
    let place = Place::of(context.device);
    Onnx::of(file, Some(stated), place, Limits::default()).map_err(broken)
}

impl Onnx {
    /// # Errors
    /// What is wrong with the file, or what of it is not supported.
    pub(super) fn of(
        file: ModelFile,
        stated: Option<Signature>,
        place: Place,
        limits: Limits,
    ) -> Result<Onnx, String> {
        let missing = file.missing_operators();
        if !missing.is_empty() {
            return Err(format!("operators that are not supported: {}", missing.join(", ")));
        }
        let (own, rows) = signature::of(&file)?;
        let signature = match stated {
            Some(stated) => signature::narrows(&stated, &own).map(|()| stated)?,
            None => own,
        };
        Ok(Onnx { signature, rows, engine: Engine::limited(file, place, limits)? })
    }
}

impl Model for Onnx {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn forward(&mut self, inputs: &Tensors, rows: usize) -> Result<Tensors, ModelError> {
        let ordered = self.signature.inputs.iter().map(|spec| {
            inputs.get(&spec.name).map_err(|error| ModelError::Input(error.to_string()))
        });
        let ordered: Vec<&Tensor> = ordered.collect::<Result<_, _>>()?;
        if self.rows == Rows::Stacked {
            let raws = ordered.iter().map(|tensor| convert::to_raw(tensor));
            let raws = raws.collect::<Result<Vec<_>, _>>()?;
            let outputs = self.run(&raws)?;
            return self.named(outputs);
        }
        let runs = (0..rows).map(|row| self.one_row(&ordered, row));
        let runs = runs.collect::<Result<Vec<_>, _>>()?;
        let joined = Tensors::concat_rows(runs);
        joined.map_err(|error| ModelError::Input(format!("rows differ in their results: {error}")))
    }
}

impl Onnx {
    fn run(&mut self, inputs: &[Raw]) -> Result<Vec<Raw>, ModelError> {
        self.engine.run(inputs).map_err(ModelError::Input)
    }

    fn one_row(&mut self, inputs: &[&Tensor], row: usize) -> Result<Tensors, ModelError> {
        let whole = self.rows == Rows::Whole;
        let mut raws = Vec::with_capacity(inputs.len());
        for tensor in inputs {
            let one = tensor.slice_rows(row, 1);
            let one = one.map_err(|error| ModelError::Input(error.to_string()))?;
            let mut raw = convert::to_raw(&one)?;
            if whole {
                raw.shape.remove(0);
            }
            raws.push(raw);
        }
        let mut outputs = self.run(&raws)?;
        if whole {
            outputs.iter_mut().for_each(|raw| raw.shape.insert(0, 1));
        }
        self.named(outputs)
    }

    fn named(&self, outputs: Vec<Raw>) -> Result<Tensors, ModelError> {
        let specs = self.signature.outputs.iter();
        let named = specs.zip(outputs).map(|(spec, raw)| convert::from_raw(&spec.name, raw));
        named.collect()
    }
}
