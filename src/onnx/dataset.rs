//! Data sets beside a model, in the format of ONNX's own tests: `test_data_set_0/input_0.pb` and
//! `output_0.pb`, each a tensor, a sequence or an optional. Runs the model and compares.

use super::compile::Compiler;
use super::constants::Constants;
use super::host::HostTensor;
use super::plan::Env;
use super::runtime_value::RuntimeValue;
use super::tensor::{DeviceTensor, TensorPlace, from_raw};
use super::trace::{PlanTensor, Tracer, Value};
use bytes::Bytes;
use graph::error::{OnnxError, Result};
use graph::proto::{OptionalProto, SequenceProto, TensorProto};
use graph::raw::FileTensor;
use graph::{ModelFile, Port, Sort};
use prost::Message;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The failure of a comparison of a model with a data set.
#[derive(Debug, thiserror::Error)]
pub enum DataSetError {
    /// A file of the data set cannot be read, or does not fit the graph.
    #[error("{}: {detail}", path.display())]
    File { path: PathBuf, detail: Box<dyn std::error::Error + Send + Sync> },
    #[error("input '{0}' is not a tensor")]
    Input(String),
    /// The model cannot be read or run.
    #[error(transparent)]
    Model(#[from] OnnxError),
    /// The plan for later requests fails, or is stale.
    #[error("the plan: {0}")]
    Plan(OnnxError),
    #[error("output '{output}': {difference}")]
    Different { output: String, difference: Difference },
}

impl DataSetError {
    fn file(
        path: &Path,
        detail: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> DataSetError {
        DataSetError::File { path: path.to_owned(), detail: detail.into() }
    }
}

/// The first difference between a data set and the outputs of the model.
#[derive(Debug, thiserror::Error)]
pub enum Difference {
    #[error("expected {expected}, found {found}")]
    Form { expected: String, found: String },
    #[error("expected '{expected}', found '{found}'")]
    Word { expected: String, found: String },
    #[error("element {at}: expected {expected}, found {found}")]
    Element { at: usize, expected: f64, found: f64 },
}

/// A value outside of any plan.
#[derive(Clone, Debug)]
enum HostValue {
    Tensor(FileTensor),
    Sequence(Vec<HostValue>),
    Nothing,
}

/// Runs a model on one folder of data and compares its outputs with the data.
///
/// # Errors
/// The failure, or the first difference.
pub(crate) fn check(
    file: &ModelFile,
    place: &TensorPlace,
    folder: &Path,
    (relative, absolute): (f64, f64),
) -> Result<(), DataSetError> {
    let graph = &file.graph;
    let mut inputs = Vec::new();
    let path = |at: usize| folder.join(format!("input_{at}.pb"));
    for (at, port) in graph.inputs.iter().enumerate() {
        if path(at).exists() {
            inputs.push(read(&path(at), port)?);
        } else if port.is_optional() {
            inputs.push(HostValue::Nothing);
        }
    }
    // Files for overridden initialisers follow those of the inputs and contain their names.
    let mut given = Vec::new();
    while path(graph.inputs.len() + given.len()).exists() {
        given.push(named(&path(graph.inputs.len() + given.len()), &graph.overridable)?);
    }
    let outputs = run(file, place, inputs, given)?;
    for (at, (port, found)) in graph.outputs.iter().zip(outputs).enumerate() {
        let path = folder.join(format!("output_{at}.pb"));
        if path.exists() {
            let expected = read(&path, port)?;
            same(&expected, &found, relative, absolute).map_err(|difference| {
                DataSetError::Different { output: port.name.clone(), difference }
            })?;
        }
    }
    Ok(())
}

/// The inputs of a data set, for graphs with tensors only.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn tensors(file: &ModelFile, folder: &Path) -> Result<Vec<FileTensor>, DataSetError> {
    let ports = file.graph.inputs.iter().enumerate();
    let inputs =
        ports.map(|(at, port)| match read(&folder.join(format!("input_{at}.pb")), port)? {
            HostValue::Tensor(raw) => Ok(raw),
            _ => Err(DataSetError::Input(port.name.clone())),
        });
    inputs.collect()
}

/// A value for an initialiser, with its name.
fn named(path: &Path, overridable: &[Port]) -> Result<(String, HostValue), DataSetError> {
    let bytes = std::fs::read(path).map_err(|error| DataSetError::file(path, error))?;
    let proto = TensorProto::decode(Bytes::from(bytes));
    let proto = proto.map_err(|error| DataSetError::file(path, error))?;
    let name = proto.name.clone().unwrap_or_default();
    if !overridable.iter().any(|port| port.name == name) {
        return Err(DataSetError::file(path, format!("the graph has no input '{name}'")));
    }
    Ok((name, tensor(&proto)?))
}

/// Runs the model; `given` are values for initialisers.
fn run(
    file: &ModelFile,
    place: &TensorPlace,
    inputs: Vec<HostValue>,
    given: Vec<(String, HostValue)>,
) -> Result<Vec<HostValue>, DataSetError> {
    let mut tensors = HashMap::new();
    for (name, raw) in &file.graph.constants {
        tensors.insert(name.clone(), PlanTensor::of_file(raw)?);
    }
    let mut constants = Constants::default();
    let mut t = Tracer::new(place.clone(), &mut constants);
    let mut held = Vec::new();
    let values = inputs.into_iter().map(|item| value(&mut t, item, place, &mut held));
    let values = values.collect::<Result<Vec<_>, _>>()?;
    for (name, item) in given {
        if let Value::Tensor(input) = value(&mut t, item, place, &mut held)? {
            tensors.insert(name, input);
        }
    }
    let outputs = Compiler { file }.main(&mut t, values, &tensors)?;
    let mut flat = Vec::new();
    outputs.iter().for_each(|output| flatten(output, &mut flat));
    let (mut results, plan) = t.finish(&flat, true)?;
    // The plan, if there is one, is what later requests run, so it is compared as well.
    if let Some(plan) = plan {
        let mut env = Env { place: place.clone(), values: held.into_iter().map(Some).collect() };
        results = plan.run(&mut env).map_err(|stop| DataSetError::Plan(stop.into()))?;
    }
    let mut results = results.into_iter();
    Ok(outputs.iter().map(|output| rebuild(output, &mut results)).collect())
}

/// Converts a value; adds the elements of the plan's inputs to `inputs`, in order.
fn value(
    t: &mut Tracer<'_>,
    item: HostValue,
    place: &TensorPlace,
    inputs: &mut Vec<RuntimeValue>,
) -> Result<Value> {
    Ok(match item {
        HostValue::Nothing => Value::Optional(None),
        HostValue::Sequence(items) => {
            let items = items.into_iter().map(|item| value(t, item, place, inputs));
            Value::Sequence(items.collect::<Result<_, _>>()?)
        }
        HostValue::Tensor(raw) => {
            let held = if raw.elem == graph::elem::Elem::Text {
                RuntimeValue::Text(Arc::new(HostTensor::from_raw(&raw)))
            } else {
                RuntimeValue::Tensor(DeviceTensor::upload(from_raw(&raw, place)?, &place.device))
            };
            inputs.push(held.clone());
            Value::Tensor(t.input(raw.elem, raw.shape, held))
        }
    })
}

fn flatten(value: &Value, into: &mut Vec<PlanTensor>) {
    match value {
        Value::Tensor(t) => into.push(t.clone()),
        Value::Sequence(all) => all.iter().for_each(|value| flatten(value, into)),
        Value::Optional(Some(value)) => flatten(value, into),
        Value::Optional(None) => {}
    }
}

fn rebuild(value: &Value, results: &mut impl Iterator<Item = FileTensor>) -> HostValue {
    match value {
        Value::Tensor(_) => results.next().map_or(HostValue::Nothing, HostValue::Tensor),
        Value::Sequence(all) => {
            HostValue::Sequence(all.iter().map(|value| rebuild(value, results)).collect())
        }
        Value::Optional(Some(value)) => rebuild(value, results),
        Value::Optional(None) => HostValue::Nothing,
    }
}

fn read(path: &Path, port: &Port) -> Result<HostValue, DataSetError> {
    let bytes = std::fs::read(path).map_err(|error| DataSetError::file(path, error))?;
    let bytes = Bytes::from(bytes);
    let bad = |error: prost::DecodeError| DataSetError::file(path, error);
    let item = match port.sort {
        Sort::Tensor => tensor(&TensorProto::decode(bytes).map_err(bad)?),
        Sort::Sequence => sequence(&SequenceProto::decode(bytes).map_err(bad)?),
        Sort::OptionalTensor | Sort::OptionalSequence => {
            // Some data sets contain the value itself.
            let optional = OptionalProto::decode(bytes).map_err(bad)?;
            match (optional.tensor_value, optional.sequence_value) {
                (Some(value), _) => tensor(&value),
                (_, Some(value)) => sequence(&value),
                (None, None) => Ok(HostValue::Nothing),
            }
        }
    };
    Ok(item?)
}

fn tensor(proto: &TensorProto) -> Result<HostValue> {
    let none = |_: &str| Err(OnnxError::invalid("external data are not supported in a data set"));
    FileTensor::read(proto, Some(&none)).map(HostValue::Tensor)
}

fn sequence(proto: &SequenceProto) -> Result<HostValue> {
    let tensors = proto.tensor_values.iter().map(tensor);
    let sequences = proto.sequence_values.iter().map(sequence);
    let items = tensors.chain(sequences).collect::<Result<Vec<_>, _>>()?;
    Ok(HostValue::Sequence(items))
}

fn same(
    expected: &HostValue,
    found: &HostValue,
    relative: f64,
    absolute: f64,
) -> Result<(), Difference> {
    match (expected, found) {
        (HostValue::Nothing, HostValue::Nothing) => Ok(()),
        (HostValue::Tensor(expected), HostValue::Tensor(found)) => close(
            &HostTensor::from_raw(expected),
            &HostTensor::from_raw_wide(found),
            relative,
            absolute,
        ),
        (HostValue::Sequence(expected), HostValue::Sequence(found))
            if expected.len() == found.len() =>
        {
            let mut pairs = expected.iter().zip(found);
            pairs.try_for_each(|(expected, found)| same(expected, found, relative, absolute))
        }
        _ => Err(Difference::Form { expected: describe(expected), found: describe(found) }),
    }
}

fn describe(item: &HostValue) -> String {
    match item {
        HostValue::Nothing => "nothing".to_owned(),
        HostValue::Tensor(raw) => format!("{}{:?}", raw.elem, raw.shape),
        HostValue::Sequence(all) => format!("a sequence of {}", all.len()),
    }
}

fn close(
    expected: &HostTensor,
    found: &HostTensor,
    relative: f64,
    absolute: f64,
) -> Result<(), Difference> {
    if expected.elem != found.elem || expected.shape != found.shape {
        let form = |host: &HostTensor| format!("{}{:?}", host.elem, host.shape);
        return Err(Difference::Form { expected: form(expected), found: form(found) });
    }
    if let Some((was, is)) =
        expected.to_text().iter().zip(found.to_text()).find(|(was, is)| was != is)
    {
        return Err(Difference::Word { expected: was.clone(), found: is.clone() });
    }
    for (at, (was, is)) in expected.to_f64().iter().zip(found.to_f64()).enumerate() {
        // The rule of numpy's assert_allclose, which ONNX's own test runner applies.
        let close = (was - is).abs() <= absolute + relative * was.abs();
        // The difference of two equal infinities is NaN, and NaN is not equal to itself.
        if !(close || *was == is || was.is_nan() && is.is_nan()) {
            return Err(Difference::Element { at, expected: *was, found: is });
        }
    }
    Ok(())
}
