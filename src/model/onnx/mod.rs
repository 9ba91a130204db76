//! The kind `onnx`: runs the graph of an ONNX file.

mod check;
mod convert;
mod served;
pub(crate) mod signature;

use crate::model::registry::LoadContext;
use crate::model::signature::{RowMode, Signature, TensorSpec};
use crate::model::{Model, ModelError};
use crate::onnx::{Engine, Limits, ModelFile, Place, Raw};
use crate::tensor::{Tensor, Tensors};

pub use check::check;
pub use signature::KIND;

/// A loaded graph.
#[derive(Debug)]
pub struct Onnx {
    signature: Signature,
    engine: Engine,
    /// The file calls the first axis of everything a batch, by leaving its length open.
    names_rows: bool,
    /// Only single rows can be run: a batch of one is written into the graph.
    single: bool,
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
    Onnx::of(file, stated, place, Limits::default()).map_err(broken)
}

impl Onnx {
    /// # Errors
    /// What is wrong with the file, or what of it is not supported.
    pub(super) fn of(
        file: ModelFile,
        signature: Signature,
        place: Place,
        limits: Limits,
    ) -> Result<Onnx, String> {
        file.check_operators()?;
        signature::check_names(&signature, &file)?;
        let names_rows = signature::names_rows(&file);
        let engine = Engine::limited(file, place, limits)?;
        Ok(Onnx { signature, engine, names_rows, single: false })
    }

    /// Whether the inputs have an axis for rows in front of the graph's own axes.
    fn is_framed(&self, inputs: &[(usize, &Tensor)]) -> bool {
        match self.signature.rows {
            RowMode::Whole => true,
            RowMode::Stacked | RowMode::Each => inputs.iter().any(|(at, tensor)| {
                let spec = self.signature.inputs.get(*at);
                spec.is_some_and(|spec| !spec.any_rank && tensor.shape.len() > spec.shape.len() + 1)
            }),
        }
    }
}

impl Model for Onnx {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn forward(&mut self, inputs: &Tensors, rows: usize) -> Result<Tensors, ModelError> {
        let specs = self.signature.inputs.iter().enumerate();
        let ordered = specs.filter_map(|(at, spec)| Some((at, inputs.get(&spec.name).ok()?)));
        let ordered: Vec<(usize, &Tensor)> = ordered.collect();
        if self.is_framed(&ordered) {
            return self.rows(&ordered, rows, true);
        }
        if self.signature.rows == RowMode::Each || (self.single && rows > 1) {
            return self.rows(&ordered, rows, false);
        }
        let all = ordered.iter().map(|(_, tensor)| (*tensor).clone()).collect();
        match self.run_tensors(&all) {
            Ok(outputs) => Ok(outputs),
            Err(error) if rows > 1 => self.single_rows(&ordered, rows).map_err(|_| error),
            Err(error) => Err(error),
        }
    }
}

impl Onnx {
    /// The rows of a batch that failed, one by one: where all succeed, the graph takes one only.
    fn single_rows(
        &mut self,
        inputs: &[(usize, &Tensor)],
        rows: usize,
    ) -> Result<Tensors, ModelError> {
        let outputs = self.rows(inputs, rows, false)?;
        self.single = true;
        Ok(outputs)
    }

    /// One run for each row. `framed`: the graph has no axis for them.
    fn rows(
        &mut self,
        inputs: &[(usize, &Tensor)],
        rows: usize,
        framed: bool,
    ) -> Result<Tensors, ModelError> {
        let runs = (0..rows).map(|row| self.one_row(inputs, row, framed));
        let runs = runs.collect::<Result<Vec<_>, _>>()?;
        let joined = Tensors::concat_rows(runs);
        joined.map_err(|error| ModelError::Input(format!("rows differ in their results: {error}")))
    }

    fn one_row(
        &mut self,
        inputs: &[(usize, &Tensor)],
        row: usize,
        framed: bool,
    ) -> Result<Tensors, ModelError> {
        let row = |(_, tensor): &(usize, &Tensor)| tensor.slice_rows(row, 1);
        let one = inputs.iter().map(row).collect::<Result<Tensors, _>>();
        let mut one = one.map_err(|error| ModelError::Input(error.to_string()))?;
        if !framed {
            return self.run_tensors(&one);
        }
        for tensor in &mut one.0 {
            tensor.shape.remove(0);
        }
        let mut outputs = match self.run_tensors(&one) {
            Err(error) if self.names_rows => self.apart(&one).ok_or(error)?,
            outcome => outcome?,
        };
        outputs.0.iter_mut().for_each(|tensor| tensor.shape.insert(0, 1));
        Ok(outputs)
    }

    /// What a request fails for whole, row by row. `None` unless the file calls the first axis a
    /// batch and the graph runs one row of it, but not two: exporters write a batch of one into
    /// shapes.
    fn apart(&mut self, inputs: &Tensors) -> Option<Tensors> {
        let rows = inputs.rows().ok().filter(|rows| *rows > 1)?;
        if !self.single {
            self.run_tensors(&inputs.slice_rows(0, 1).ok()?).ok()?;
            let two = inputs.slice_rows(0, 2).ok()?;
            self.single = self.run_tensors(&two).is_err();
        }
        if !self.single {
            return None;
        }
        let one = |row| self.run_tensors(&inputs.slice_rows(row, 1).ok()?).ok();
        let outputs = (0..rows).map(one).collect::<Option<Vec<_>>>()?;
        let single = |one: &Tensors| one.rows() == Ok(1);
        outputs.iter().all(single).then(|| Tensors::concat_rows(outputs).ok())?
    }

    fn run_tensors(&mut self, inputs: &Tensors) -> Result<Tensors, ModelError> {
        let raw = |spec: &TensorSpec| inputs.get(&spec.name).ok().map(convert::to_raw).transpose();
        let raws = self.signature.inputs.iter().map(raw).collect::<Result<Vec<_>, _>>()?;
        let given: Vec<Option<&Raw>> = raws.iter().map(Option::as_ref).collect();
        let outputs = self.engine.run_given(&given).map_err(ModelError::Input)?;
        self.named(outputs)
    }

    fn named(&self, outputs: Vec<Raw>) -> Result<Tensors, ModelError> {
        let specs = self.signature.outputs.iter();
        let named = specs.zip(outputs).map(|(spec, raw)| convert::from_raw(&spec.name, raw));
        named.collect()
    }
}
