//! The kind `onnx`: runs the graph of an ONNX file.

mod check;
mod convert;
mod served;

use crate::context::LoadContext;
use graph::{FileTensor, ModelFile, OnnxError};
use model::onnx::{error, signature};
use model::signature::{RowMode, Signature, TensorSpec};
use model::{Model, ModelError};
use onnx::{Engine, PlanLimits, TensorPlace};
use types::tensor::{TensorError, Tensors};

pub use check::check;
pub use signature::KIND;

/// A loaded graph.
#[derive(Debug)]
pub struct Onnx {
    signature: Signature,
    engine: Engine,
    /// The first axis of all inputs and outputs is a batch, by the signature or by the file.
    names_rows: bool,
    /// Only single rows can be run: the graph contains a batch of one as a constant.
    single: bool,
}

/// Loads the graph of a version.
///
/// # Errors
/// [`ModelError::Broken`] with the file and the cause: it is invalid, uses unsupported operators,
/// or `model.toml` has another signature; [`ModelError::Device`] and [`ModelError::Memory`] if the
/// device failed.
pub fn load(context: &LoadContext<'_>) -> Result<Onnx, ModelError> {
    let (files, name) = (context.files, context.info.graph_file());
    let file = signature::read(files, &name, true)?;
    let stated = context.info.signature.clone();
    let place = TensorPlace::of(context.device);
    let loaded = Onnx::of(file, stated, place, PlanLimits::default());
    loaded.map_err(|error| error::of_load(error.within(files.path_of(&name))))
}

impl Onnx {
    /// # Errors
    /// If the file is invalid or uses unsupported features.
    pub(super) fn of(
        file: ModelFile,
        signature: Signature,
        place: TensorPlace,
        limits: PlanLimits,
    ) -> Result<Onnx, OnnxError> {
        file.check_operators()?;
        signature::check_names(&signature, &file)?;
        let names_rows = signature.rows == RowMode::Stacked || signature::names_rows(&file);
        let engine = Engine::limited(file, place, limits)?;
        Ok(Onnx { signature, engine, names_rows, single: false })
    }
}

impl Model for Onnx {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn forward(&mut self, inputs: &Tensors, rows: usize) -> Result<Tensors, ModelError> {
        match self.signature.rows {
            RowMode::Stacked => self.batch(inputs),
            RowMode::Each => self.each(inputs, rows, |model, row| model.run(&row)),
            RowMode::Whole => self.each(inputs, rows, Onnx::whole),
        }
    }
}

impl Onnx {
    /// One run for each row.
    fn each(
        &mut self,
        inputs: &Tensors,
        rows: usize,
        run: impl Fn(&mut Onnx, Tensors) -> Result<Tensors, ModelError>,
    ) -> Result<Tensors, ModelError> {
        let bad = |error: TensorError| ModelError::Input(error.to_string());
        let runs = (0..rows).map(|row| run(self, inputs.slice_rows(row, 1).map_err(bad)?));
        let runs = runs.collect::<Result<Vec<_>, _>>()?;
        let joined = Tensors::concat_rows(runs);
        joined.map_err(|error| {
            ModelError::Input(format!("the results of rows do not fit together: {error}"))
        })
    }

    /// Runs a request as sent: its only row has an axis in front of the graph's own axes.
    fn whole(&mut self, row: Tensors) -> Result<Tensors, ModelError> {
        let own = row.unframed().map_err(|error| ModelError::Input(error.to_string()))?;
        Ok(self.batch(&own)?.framed())
    }

    /// One run for all rows, or a run for each row if the graph does not accept more.
    fn batch(&mut self, inputs: &Tensors) -> Result<Tensors, ModelError> {
        match self.run(inputs) {
            Err(error @ (ModelError::Input(_) | ModelError::Broken(_))) if self.names_rows => {
                self.apart(inputs)?.ok_or(error)
            }
            outcome => outcome,
        }
    }

    /// Runs the rows of a failed batch one by one. `None` unless the graph accepts one row, but not
    /// two: exporters write a batch of one into shapes.
    fn apart(&mut self, inputs: &Tensors) -> Result<Option<Tensors>, ModelError> {
        let Some(rows) = inputs.rows().ok().filter(|rows| *rows > 1) else { return Ok(None) };
        if !self.single {
            let one = self.part(inputs, 0, 1)?;
            self.single = one.is_some() && self.part(inputs, 0, 2)?.is_none();
        }
        if !self.single {
            return Ok(None);
        }
        let mut outputs = Vec::with_capacity(rows);
        for row in 0..rows {
            match self.part(inputs, row, 1)? {
                Some(one) if one.rows() == Ok(1) => outputs.push(one),
                _ => return Ok(None),
            }
        }
        Ok(Tensors::concat_rows(outputs).ok())
    }

    /// A run of some of the rows; `None` if the graph does not accept them.
    ///
    /// # Errors
    /// If the device or the machine failed, which does not depend on the graph.
    fn part(
        &mut self,
        inputs: &Tensors,
        begin: usize,
        count: usize,
    ) -> Result<Option<Tensors>, ModelError> {
        let Ok(part) = inputs.slice_rows(begin, count) else { return Ok(None) };
        match self.run(&part) {
            Ok(outputs) => Ok(Some(outputs)),
            Err(ModelError::Input(_) | ModelError::Broken(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn run(&mut self, inputs: &Tensors) -> Result<Tensors, ModelError> {
        let raw = |spec: &TensorSpec| inputs.get(&spec.name).ok().map(convert::to_raw).transpose();
        let raws = self.signature.inputs.iter().map(raw).collect::<Result<Vec<_>, _>>()?;
        let given: Vec<Option<&FileTensor>> = raws.iter().map(Option::as_ref).collect();
        let outputs = self.engine.run_given(&given)?;
        self.named(outputs)
    }

    fn named(&self, outputs: Vec<FileTensor>) -> Result<Tensors, ModelError> {
        let specs = self.signature.outputs.iter();
        let named = specs.zip(outputs).map(|(spec, raw)| convert::from_raw(&spec.name, raw));
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use types::tensor::{Datatype, Tensor};

    fn load(data: &'static [u8]) -> Result<Onnx, ModelError> {
        let none = |_: &str| Err(OnnxError::invalid("no such file"));
        let file = ModelFile::read(Bytes::from_static(data).into(), Some(&none)).unwrap();
        let own = signature::of(&file, None).unwrap();
        Onnx::of(file, own.signature, TensorPlace::host(), PlanLimits::default())
            .map_err(error::of_load)
    }

    #[test]
    fn unknown_operator_is_a_fault_of_the_model_and_a_wrong_shape_of_the_request() {
        let error = load(include_bytes!("../../../tests/data/unknown_operator.onnx")).unwrap_err();
        let text = "unsupported operators: Magic of ai.onnx";
        assert_eq!(error, ModelError::Broken(text.to_owned()));
        let mut model = load(include_bytes!("../../../tests/data/linear.onnx")).unwrap();
        let x = Tensor::new("x", Datatype::Fp32, vec![1, 4], vec![0; 16].into()).unwrap();
        let error = model.forward(&Tensors(vec![x]), 1).unwrap_err();
        let label = "node 'm' (MatMul): ";
        assert!(matches!(&error, ModelError::Input(text) if text.starts_with(label)), "{error:?}");
    }
}
