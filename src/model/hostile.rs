//! What may lie in a model folder: for fuzzing (`fuzz/`), and for the test that replays what fuzzing
//! found.

use crate::model::manifest::Manifest;
use crate::model::onnx::{Onnx, signature};
use crate::model::repository::{Layout, Repository};
use crate::model::signature::{Signature, TensorSpec};
use crate::model::{Model, identity};
use crate::onnx::{Limits, ModelFile, Place};
use crate::tensor::{Datatype, Tensor, Tensors};
use bytes::Bytes;

/// Models whose other files a manifest is read with: a golden sample, a list of characters, graphs.
const MODELS: [&str; 3] = ["digits", "text-lines", "filetype"];
/// What a graph may ask for here: enough to reach every operator, too little to take long.
const LIMITS: Limits = Limits { bytes: 1 << 16, steps: 2000, turns: 2000, work: 1 << 22 };
/// Most elements of an input that a graph is run with.
const ELEMENTS_MAX: usize = 1 << 12;
/// Rows of such an input.
const ROWS: usize = 2;

/// A `model.toml`, in place of that of each of some models in the binary.
///
/// # Errors
/// What is wrong with all of them.
pub fn manifest(data: &[u8]) -> Result<(), String> {
    let manifest = Manifest::parse("model.toml", data).map_err(|error| error.to_string())?;
    if let Some(signature) = &manifest.signature {
        let _ = identity::check(signature);
    }
    let repository = Repository::embedded();
    let info = |name: &&str| repository.info(name, "1", Layout::Version, &manifest);
    let outcomes = MODELS.iter().map(info).map(|info| info.map(drop));
    outcomes.reduce(Result::or).unwrap_or(Ok(())).map_err(|error| error.to_string())
}

/// An ONNX file: its signature as the server reads it, then a run on zeros as a worker makes it on
/// the host, and one on other numbers, for which there may be a plan already.
///
/// # Errors
/// What is refused first.
pub fn graph(data: &[u8]) -> Result<(), String> {
    let data = Bytes::copy_from_slice(data);
    let light = ModelFile::read(data.clone().into(), None)?;
    let _ = signature::of(&light);
    let none = |name: &str| Err(format!("there is no file '{name}' beside it"));
    let file = ModelFile::read(data.into(), Some(&none))?;
    let mut model = Onnx::of(file, None, Place::host(), LIMITS)?;
    for byte in [0, 1] {
        let inputs = inputs(model.signature(), byte)?;
        model.forward(&inputs, ROWS).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Inputs for a signature, all of whose bytes are the same.
fn inputs(signature: &Signature, byte: u8) -> Result<Tensors, String> {
    signature.inputs.iter().map(|spec| input(spec, byte)).collect()
}

fn input(spec: &TensorSpec, byte: u8) -> Result<Tensor, String> {
    let lengths = spec.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(2));
    let shape: Vec<usize> = std::iter::once(ROWS).chain(lengths).collect();
    let elements = shape.iter().try_fold(1usize, |size, dim| size.checked_mul(*dim));
    let elements = elements.filter(|elements| *elements <= ELEMENTS_MAX);
    let elements = elements.ok_or_else(|| format!("'{}' is too large to be tried", spec.name))?;
    let data = match spec.datatype() {
        // Each element is its length and so many letters.
        Datatype::Bytes => [&[byte, 0, 0, 0], &b"a"[..usize::from(byte)]].concat().repeat(elements),
        other => vec![byte; elements * other.size().unwrap_or(1)],
    };
    let tensor = Tensor::new(spec.name.as_str(), spec.datatype(), shape, data.into());
    tensor.map_err(|error| error.to_string())
}
