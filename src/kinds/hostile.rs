//! Untrusted files of a model folder: for fuzzing (`fuzz/`), and for the test that replays the
//! findings of fuzzing.

use crate::onnx::Onnx;
use anyhow::{anyhow, bail};
use bytes::Bytes;
use graph::{ModelFile, OnnxError};
use model::files::Files;
use model::layout::Layout;
use model::manifest::Manifest;
use model::onnx::signature;
use model::pipeline::{
    Around, Picture, PictureBounds, SentFacts, WrittenPipeline, WrittenPostprocess,
    WrittenPreprocess,
};
use model::repository::Repository;
use model::signature::{Signature, TensorSpec};
use model::{Model, identity};
use onnx::{PlanLimits, TensorPlace};
use serde::Deserialize;
use types::tensor::{Datatype, Tensor, Tensors};

/// Models that provide the other files for a manifest: a golden sample, a list of characters,
/// graphs.
const MODELS: [&str; 3] = ["digits", "text-lines", "filetype"];
/// Limits of a graph here: enough to reach every operator, but not to run for long.
const LIMITS: PlanLimits =
    PlanLimits { bytes: 1 << 16, steps: 2000, node_runs: 2000, work: 1 << 22 };
/// Most elements of an input of a run.
const ELEMENTS_MAX: usize = 1 << 12;
/// Rows of such an input.
const ROWS: usize = 2;
/// Bounds of an image here: enough for every decoder, but not to run for long.
const BOUNDS: PictureBounds = PictureBounds { edge: 1024, pixels: 1 << 17, bytes: 1 << 24 };
/// Memory limit of the steps before a graph.
const MEMORY_BYTES: usize = 1 << 26;
/// Most digits of a number in the tables of a file: the operator sets sizes there, so larger ones
/// are allowed, but would run for long here.
const DIGITS_MAX: usize = 3;
/// Most numbers in a row of an output: the number of characters of [`CHARACTERS`], and a few more.
const COLUMNS_MAX: usize = 36;
/// A folder of the embedded models with a file that serves as a list of characters.
const CHARACTERS: (&str, &str) = ("digits", "1");
/// Tables for files that contain none.
const TABLES: [&str; 4] = [
    "[preprocess.image]\nlongest = [8, 64]\nmultiple_of = 4\n[postprocess.regions]\n",
    "[preprocess.image]\nwidth = 8\nheight = 8\nfit = 'cover'\n[postprocess.boxes]\n",
    "[preprocess.audio]\nrate = 16\n[postprocess.classes]\n",
    "[preprocess.bytes]\nhead = 16\ntail = 16\n\
     [postprocess.text]\ncharacters = 'golden.json'\n",
];

/// Checks a `model.toml`, in place of that of each of some embedded models.
///
/// # Errors
/// If all of them reject it, the last error.
pub fn manifest(data: &[u8]) -> anyhow::Result<()> {
    let manifest = Manifest::parse("model.toml", data)?;
    if let Some(signature) = &manifest.signature {
        let _ = identity::check(signature);
    }
    let repository = Repository::embedded();
    let info = |name: &&str| repository.info(name, "1", Layout::Version, &manifest);
    let outcomes = MODELS.iter().map(info).map(|info| info.map(drop));
    Ok(outcomes.reduce(Result::or).unwrap_or(Ok(()))?)
}

/// Checks an ONNX file: its signature as in the server, then a run on zeros as in a worker, on the
/// host, and a run on other numbers, for which a plan may exist already.
///
/// # Errors
/// The first error.
pub fn graph(data: &[u8]) -> anyhow::Result<()> {
    let data = Bytes::copy_from_slice(data);
    let light = ModelFile::read(data.clone().into(), None)?;
    let own = signature::of(&light, None)?;
    let none = |name: &str| Err(OnnxError::invalid(format!("file '{name}' does not exist")));
    let file = ModelFile::read(data.into(), Some(&none))?;
    let mut model = Onnx::of(file, own.signature, TensorPlace::host(), LIMITS)?;
    for byte in [0, 1] {
        let inputs = inputs(model.signature(), byte)?;
        model.forward(&inputs, ROWS)?;
    }
    Ok(())
}

/// The tables of a `model.toml` for the steps around a graph.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PipelineTables {
    preprocess: Option<WrittenPreprocess>,
    postprocess: Option<WrittenPostprocess>,
}

/// Checks a file that a client uploads; it may begin with its own tables of a `model.toml` and an
/// empty line. It is prepared for a graph; outputs of the graph are made from its bytes, and read;
/// an image is cut into pieces.
///
/// # Errors
/// The last error, if all tables reject the file.
pub fn upload(data: &[u8]) -> anyhow::Result<()> {
    let end = data.windows(2).position(|two| two == b"\n\n");
    let own = end.and_then(|end| Some((tables(data.get(..end)?).ok()?, data.get(end + 2..)?)));
    if let Some((tables, file)) = own {
        return around(tables, file);
    }
    let outcomes = TABLES.iter().map(|text| around(tables(text.as_bytes())?, data));
    outcomes.reduce(Result::or).unwrap_or(Ok(()))
}

fn tables(text: &[u8]) -> anyhow::Result<WrittenPipeline> {
    let text = std::str::from_utf8(text)?;
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let mut numbers = words.filter(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
    // Decimals of a mean may be longer.
    if numbers.any(|word| word.len() > DIGITS_MAX && !text.contains(&format!(".{word}"))) {
        bail!("its numbers are too large for this test");
    }
    let PipelineTables { preprocess, postprocess } = toml::from_str(text)?;
    Ok(WrittenPipeline { preprocess, postprocess })
}

/// Tries the graphs in order until the tables fit one.
fn around(tables: WrittenPipeline, file: &[u8]) -> anyhow::Result<()> {
    let labels = ["a".to_owned(), "b".to_owned()];
    let files = Files::embedded().folder(CHARACTERS.0).folder(CHARACTERS.1);
    let graphs = graphs();
    let fits = graphs.iter().map(|graph| tables.clone().check(graph, &labels, &files));
    let around = fits.reduce(Result::or).unwrap_or(Err("no graph fits".into()))?;
    let length = u32::try_from(file.len())?;
    let data = [&length.to_le_bytes(), file].concat();
    let sent = around.interface.inputs.iter().filter(|spec| spec.takes_file()).map(|spec| {
        Tensor::new(spec.name.as_str(), Datatype::Bytes, vec![1, 1], data.clone().into())
    });
    let sent = sent.collect::<Result<Vec<_>, _>>()?;
    let takes_image = sent.iter().any(|tensor| tensor.name == "image");
    let mut left = MEMORY_BYTES;
    let mut budget = |bytes: usize| left.checked_sub(bytes).map(|less| left = less).is_some();
    let picture = takes_image.then(|| Picture::decode_within(file, BOUNDS, &mut budget));
    let picture = picture.transpose();
    let picture = picture?;
    let prepared = around.prepare(&Tensors(sent), picture.as_ref(), &mut budget);
    let (_, facts) = prepared?;
    if let Some(picture) = picture {
        let _ = picture.crops(&table("polygons", file, &[4, 2])?, &mut budget);
    }
    answer(&around, file, facts)
}

/// Reads outputs that are made from the file's bytes.
fn answer(around: &Around, file: &[u8], facts: Option<SentFacts>) -> anyhow::Result<()> {
    let columns = file.first().map_or(1, |byte| 1 + usize::from(*byte) % COLUMNS_MAX);
    let outputs = ["y", "boxes", "scores"].map(|name| table(name, file, &[columns]));
    let outputs = outputs.into_iter().collect::<Result<Vec<_>, _>>()?;
    around.read(Tensors(outputs), facts)?;
    Ok(())
}

/// A row of FP32 lines, as many as the bytes give.
fn table(name: &str, bytes: &[u8], line: &[usize]) -> anyhow::Result<Tensor> {
    let size: usize = 4 * line.iter().product::<usize>();
    let lines = bytes.len() / size;
    let shape = [&[1, lines], line].concat();
    let data = bytes.get(..lines * size).unwrap_or_default().to_vec();
    Ok(Tensor::new(name, Datatype::Fp32, shape, data.into())?)
}

/// Graphs of every kind that tables can be used with, without weights.
fn graphs() -> Vec<Signature> {
    let spec =
        |name: &str, datatype, shape: &[i64]| TensorSpec::new(name, vec![datatype], shape.to_vec());
    let (floats, bytes) = (Datatype::Fp32, Datatype::Uint8);
    let inputs = [
        spec("x", floats, &[-1, -1, -1]),
        spec("x", bytes, &[-1, -1, -1]),
        spec("x", floats, &[-1, -1]),
        spec("x", floats, &[-1]),
        spec("x", Datatype::Int32, &[-1]),
    ];
    let one = vec![spec("y", floats, &[-1, -1])];
    let two = vec![spec("boxes", floats, &[-1, 4]), spec("scores", floats, &[-1, -1])];
    let with = |outputs: &[TensorSpec]| {
        let graph = |input: &TensorSpec| Signature {
            inputs: vec![input.clone()],
            outputs: outputs.to_vec(),
            ..Signature::default()
        };
        inputs.iter().map(graph).collect::<Vec<_>>()
    };
    [with(&one), with(&two)].concat()
}

/// Inputs for a signature, with all bytes equal.
fn inputs(signature: &Signature, byte: u8) -> anyhow::Result<Tensors> {
    signature.inputs.iter().map(|spec| input(spec, byte)).collect()
}

fn input(spec: &TensorSpec, byte: u8) -> anyhow::Result<Tensor> {
    let lengths = spec.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(2));
    let shape: Vec<usize> = std::iter::once(ROWS).chain(lengths).collect();
    let elements = shape.iter().try_fold(1usize, |size, dim| size.checked_mul(*dim));
    let elements = elements.filter(|elements| *elements <= ELEMENTS_MAX);
    let elements = elements.ok_or_else(|| anyhow!("'{}' is too large for this test", spec.name))?;
    let data = match spec.datatype() {
        // Each element has a length and this many letters.
        Datatype::Bytes => [&[byte, 0, 0, 0], &b"a"[..usize::from(byte)]].concat().repeat(elements),
        other => vec![byte; elements * other.size().unwrap_or(1)],
    };
    Ok(Tensor::new(spec.name.as_str(), spec.datatype(), shape, data.into())?)
}
