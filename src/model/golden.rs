//! Golden samples: inputs with known outputs, which a replica must reproduce before it serves.
//!
//! A sample is a JSON file in the version's folder, in the form of requests and answers of the V2
//! protocol: `{"inputs": [tensor, …], "outputs": [tensor, …]}`, each tensor with `name`,
//! `datatype`, `shape` and `data`, by the same rules. Outputs that are missing in the sample are
//! not compared.

use crate::batch::run_batch;
use crate::files::{BadFile, Detail, Files};
use crate::info::{GoldenSpec, ModelInfo};
use crate::signature::{SentForm, Signature};
use crate::{Model, ModelError};
use half::{bf16, f16};
use serde::Deserialize;
use serde_json::value::RawValue;
use types::json::document::{self, SentDocument};
use types::json::{self, ExpectedTensor};
use types::tensor::{Datatype, Tensor, TensorError, Tensors};

/// Largest sample that is read, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// A sample that fits its model's signature.
#[derive(Clone, Debug, PartialEq)]
pub struct GoldenSample {
    inputs: Tensors,
    rows: usize,
    expected: Tensors,
    tolerance: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSample<'a> {
    #[serde(borrow)]
    inputs: Vec<GoldenTensor<'a>>,
    #[serde(borrow)]
    outputs: Vec<GoldenTensor<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenTensor<'a> {
    name: String,
    datatype: Datatype,
    shape: Vec<usize>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Reads the model's sample, if it has one.
///
/// # Errors
/// If the sample cannot be read, or does not fit the model.
pub fn sample(files: &Files, info: &ModelInfo) -> Result<Option<GoldenSample>, BadFile> {
    info.golden.as_ref().map(|spec| read(files, spec, &info.signature)).transpose()
}

impl GoldenSample {
    /// The sample's inputs with `rows` rows: its rows in their order, repeated from the first one.
    ///
    /// # Errors
    /// If the sample has no rows.
    pub fn inputs(&self, rows: usize) -> Result<Tensors, TensorError> {
        let row = |at: usize| self.inputs.slice_rows(at % self.rows.max(1), 1);
        Tensors::concat_rows((0..rows).map(row).collect::<Result<_, _>>()?)
    }

    /// Runs the sample through its model, in batches of at most `max_rows` rows, and compares the
    /// outputs.
    ///
    /// # Errors
    /// [`ModelError::Golden`] with the first difference beyond the tolerance, else the error of the
    /// model.
    pub fn check(&self, model: &mut dyn Model, max_rows: usize) -> Result<(), ModelError> {
        let outputs = run_batch(model, max_rows.max(self.rows), &self.inputs, self.rows);
        let outputs = outputs.map_err(|error| match error {
            ModelError::Input(detail) => ModelError::Broken(format!("golden sample: {detail}")),
            other => other,
        })?;
        for expected in &self.expected.0 {
            compare(expected, &outputs, self.tolerance)
                .map_err(|mismatch| ModelError::Golden(mismatch.to_string()))?;
        }
        Ok(())
    }
}

/// Reads the sample and checks that it fits the signature.
pub(crate) fn read(
    files: &Files,
    spec: &GoldenSpec,
    signature: &Signature,
) -> Result<GoldenSample, BadFile> {
    let bad = |detail: Detail| BadFile::new(files.path_of(&spec.file), detail);
    let data = files.read_up_to(&spec.file, BYTES_MAX)?;
    let mut scratch = Vec::new();
    let parsed = document::parse::<WrittenSample<'_>>(&data, &mut scratch);
    let (written, source) = parsed.map_err(|error| bad(error.to_string().into()))?;
    let inputs = tensors(written.inputs, source).map_err(bad)?;
    let request = signature.frame(inputs).map_err(|error| bad(error.to_string().into()))?;
    let (inputs, rows) = (request.inputs, request.rows);
    let expected = tensors(written.outputs, source).map_err(bad)?;
    let expected = if request.sent == SentForm::Own { expected.framed() } else { expected };
    check_expected(&expected, signature, rows).map_err(bad)?;
    Ok(GoldenSample { inputs, rows, expected, tolerance: spec.tolerance })
}

fn check_expected(expected: &Tensors, signature: &Signature, rows: usize) -> Result<(), Detail> {
    if expected.0.is_empty() {
        return Err("has no outputs; give at least one to compare".into());
    }
    for tensor in &expected.0 {
        let name = &tensor.name;
        let spec = signature.outputs.iter().find(|spec| spec.name == *name);
        let spec = spec.ok_or_else(|| Detail::from(format!("the model has no output '{name}'")))?;
        let fits = signature.output_hints || spec.fits_shape(&tensor.shape);
        if !spec.datatypes.contains(&tensor.datatype) || !fits {
            return Err(format!("output '{name}' does not fit the model's signature").into());
        }
        if tensor.shape.first() != Some(&rows) {
            return Err(format!("output '{name}' must have {rows} rows, as the inputs have").into());
        }
    }
    Ok(())
}

fn tensors<'a>(
    written: Vec<GoldenTensor<'a>>,
    source: SentDocument<'a>,
) -> Result<Tensors, Detail> {
    written.into_iter().map(|written| tensor(written, source)).collect()
}

fn tensor<'a>(written: GoldenTensor<'a>, source: SentDocument<'a>) -> Result<Tensor, Detail> {
    let GoldenTensor { name, datatype, shape, data } = written;
    let expected = ExpectedTensor { what: "tensor", name: &name, datatype, shape: &shape };
    let data = json::decode(expected, source.sent(data.get())).map_err(|error| error.message)?;
    Tensor::new(name, datatype, shape, data).map_err(|error| error.to_string().into())
}

/// The first difference between an answer and the expected answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Mismatch {
    /// An output is missing.
    #[error(transparent)]
    Missing(#[from] TensorError),
    #[error("output '{output}' is {found}, not {wanted}")]
    Form { output: String, found: String, wanted: String },
    #[error("output '{output}' has other bytes than the sample")]
    Bytes { output: String },
    #[error("output '{output}' [{at}] is {actual}, not {wanted} ± {tolerance}")]
    Element { output: String, at: usize, actual: f64, wanted: f64, tolerance: f64 },
    /// More elements differ than the outputs of two devices may.
    #[error("output '{output}' has {actual}, not {wanted}")]
    Number { output: String, actual: f64, wanted: f64 },
}

fn compare(expected: &Tensor, outputs: &Tensors, tolerance: f64) -> Result<(), Mismatch> {
    let name = &expected.name;
    let actual = outputs.get(name)?;
    if actual.datatype != expected.datatype || actual.shape != expected.shape {
        let form = |tensor: &Tensor| format!("{} {:?}", tensor.datatype, tensor.shape);
        let (output, found, wanted) = (name.clone(), form(actual), form(expected));
        return Err(Mismatch::Form { output, found, wanted });
    }
    if actual.data == expected.data {
        return Ok(());
    }
    let Some(size) = expected.datatype.size() else {
        return Err(Mismatch::Bytes { output: name.clone() });
    };
    let pairs = actual.data.chunks_exact(size).zip(expected.data.chunks_exact(size));
    for (at, (actual, wanted)) in pairs.enumerate() {
        let (actual, wanted) =
            (decode(expected.datatype, actual), decode(expected.datatype, wanted));
        let near = (actual - wanted).abs() <= tolerance;
        let same = actual == wanted || (actual.is_nan() && wanted.is_nan());
        if !near && !same {
            let output = name.clone();
            return Err(Mismatch::Element { output, at, actual, wanted, tolerance });
        }
    }
    Ok(())
}

/// Largest difference between outputs of two devices, relative to the number or to 1, whichever is
/// larger.
const DEVICE_TOLERANCE: f64 = 1e-2;
/// One element in this many may differ further: of two classes that are equally likely, either may
/// be named.
const ELEMENTS_PER_OUTLIER: usize = 100;

/// Checks that two devices give the same answer, apart from rounding.
///
/// # Errors
/// The first difference beyond that.
pub fn agree(expected: &Tensors, outputs: &Tensors) -> Result<(), Mismatch> {
    for tensor in &expected.0 {
        let actual = outputs.get(&tensor.name)?;
        let size = tensor.datatype.size().filter(|_| actual.shape == tensor.shape);
        let Some(size) = size.filter(|_| actual.datatype == tensor.datatype) else {
            compare(tensor, outputs, 0.0)?;
            continue;
        };
        let apart = |bytes: (&[u8], &[u8])| {
            let (actual, wanted) =
                (decode(tensor.datatype, bytes.0), decode(tensor.datatype, bytes.1));
            let near = (actual - wanted).abs() <= DEVICE_TOLERANCE * wanted.abs().max(1.0);
            let same = near || actual == wanted || (actual.is_nan() && wanted.is_nan());
            (!same).then_some((actual, wanted))
        };
        let pairs = actual.data.chunks_exact(size).zip(tensor.data.chunks_exact(size));
        let mut odd = pairs.filter_map(apart);
        let allowed = tensor.data.len() / size / ELEMENTS_PER_OUTLIER;
        if let Some((actual, wanted)) = odd.nth(allowed) {
            return Err(Mismatch::Number { output: tensor.name.clone(), actual, wanted });
        }
    }
    Ok(())
}

/// The number that an element's bytes encode; large 64-bit integers are rounded.
fn decode(datatype: Datatype, bytes: &[u8]) -> f64 {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().unwrap_or([0; N])
    }
    match datatype {
        Datatype::Bool | Datatype::Uint8 => f64::from(u8::from_le_bytes(array(bytes))),
        Datatype::Uint16 => f64::from(u16::from_le_bytes(array(bytes))),
        Datatype::Uint32 => f64::from(u32::from_le_bytes(array(bytes))),
        Datatype::Uint64 => u64::from_le_bytes(array(bytes)) as f64,
        Datatype::Int8 => f64::from(i8::from_le_bytes(array(bytes))),
        Datatype::Int16 => f64::from(i16::from_le_bytes(array(bytes))),
        Datatype::Int32 => f64::from(i32::from_le_bytes(array(bytes))),
        Datatype::Int64 => i64::from_le_bytes(array(bytes)) as f64,
        Datatype::Fp16 => f16::from_le_bytes(array(bytes)).to_f64(),
        Datatype::Bf16 => bf16::from_le_bytes(array(bytes)).to_f64(),
        Datatype::Fp32 => f64::from(f32::from_le_bytes(array(bytes))),
        Datatype::Fp64 => f64::from_le_bytes(array(bytes)),
        Datatype::Bytes => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::TensorSpec;
    use testkit::Folder;

    fn one(name: &str, datatype: Datatype) -> Vec<TensorSpec> {
        vec![TensorSpec::new(name, vec![datatype], vec![2])]
    }

    fn signature() -> Signature {
        let (inputs, outputs) = (one("x", Datatype::Int8), one("y", Datatype::Fp32));
        Signature { inputs, outputs, ..Signature::default() }
    }

    const GOOD: &str = r#"{
        "inputs": [{"name": "x", "datatype": "INT8", "shape": [1, 2], "data": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 3]}]}"#;

    fn read_text(text: &str) -> Result<GoldenSample, String> {
        let folder = Folder::new();
        folder.write("g.json", text.as_bytes());
        let spec = GoldenSpec { file: "g.json".into(), tolerance: 0.0 };
        let files = Files::open(folder.path()).unwrap();
        read(&files, &spec, &signature()).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn rejects(from: &str, to: &str, words: &str) {
        assert!(GOOD.contains(from), "{from}");
        let error = read_text(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(error.starts_with("g.json: ") && error.contains(words), "{error}");
    }

    #[test]
    fn samples_are_read_and_must_fit() {
        let sample = read_text(GOOD).unwrap();
        assert_eq!(&sample.inputs.0[0].data[..], [255, 2]);
        assert_eq!(sample.rows, 1);
        rejects("[-1, 2]", "[-1, 200]", "tensor 'x': 200 at index 1 is not a INT8");
        rejects("[-1, 2]", "[-1]", "shape [1, 2] needs 2 elements, 'data' hold 1");
        rejects("[-1, 2]", "[NaN, 2]", "NaN at index 0 is not a INT8");
        rejects("[-1, 2]", "[nan, 2]", "line 2");
        rejects("[-1, 2]", "-1", "'data' must be an array");
        rejects("\"x\"", "\"z\"", "the model has no input 'z'");
        rejects("\"y\"", "\"z\"", "the model has no output 'z'");
        rejects("FP32", "FP64", "output 'y' does not fit the model's signature");
        rejects("FP32", "FP31", "unknown variant");
        rejects(r#""shape": [1, 2], "data": [0.25, 3]"#, r#""shape": [0, 2], "data": []"#, "rows");
        rejects(
            r#"{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 3]}"#,
            "",
            "has no outputs",
        );
        rejects("{", "", "line");
    }

    /// A model that returns prepared outputs.
    struct Fixed(Signature, Vec<f32>);

    impl Model for Fixed {
        fn signature(&self) -> &Signature {
            &self.0
        }

        fn forward(&mut self, _inputs: &Tensors, rows: usize) -> Result<Tensors, ModelError> {
            let data: Vec<u8> = self.1.iter().flat_map(|value| value.to_le_bytes()).collect();
            let tensor = Tensor::new("y", Datatype::Fp32, vec![rows, 2], data.into());
            Ok(Tensors(vec![tensor.unwrap()]))
        }
    }

    fn run(answer: [f32; 2], tolerance: f64) -> Result<(), ModelError> {
        run_sample(GOOD, answer, tolerance)
    }

    fn run_sample(text: &str, answer: [f32; 2], tolerance: f64) -> Result<(), ModelError> {
        let folder = Folder::new();
        folder.write("m/1/golden.json", text.as_bytes());
        let info = ModelInfo {
            name: "m".into(),
            version: "1".into(),
            kind: "fixed".into(),
            source: crate::ModelSource::Folder(folder.path().to_owned()),
            signature: signature(),
            batch: crate::Batching {
                max_rows: 1,
                grows: false,
                delay: std::time::Duration::ZERO,
                row_memory_bytes: 0,
            },
            slo: None,
            labels: Vec::new(),
            golden: Some(GoldenSpec { file: "golden.json".into(), tolerance }),
            layout: crate::Layout::default(),
            graph: Default::default(),
            pipeline: None,
            rows_reason: String::new(),
            decoupled: false,
            files_bytes: 0,
            files_changed: None,
        };
        let sample = sample(&info.files().unwrap(), &info).unwrap().unwrap();
        sample.check(&mut Fixed(signature(), answer.to_vec()), info.batch.max_rows)
    }

    #[test]
    fn devices_may_differ_by_rounding_only() {
        let floats = |values: &[f32]| {
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Tensors(vec![
                Tensor::new("y", Datatype::Fp32, vec![1, values.len()], data.into()).unwrap(),
            ])
        };
        let agree = |a: &[f32], b: &[f32]| agree(&floats(a), &floats(b));
        assert_eq!(agree(&[0.5, 1000.0], &[0.501, 1009.0]), Ok(()));
        assert_eq!(agree(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY]), Ok(()));
        for (a, b) in [([0.5, 2.0], [0.5, 2.1]), ([0.5, 2.0], [f32::NAN, 2.0])] {
            assert!(agree(&a, &b).is_err(), "{a:?} {b:?}");
        }
        // One of a hundred may be another class; two are too many.
        let (mut many, mut other) = ([0.0; 100], [0.0; 100]);
        other[7] = 3.0;
        assert_eq!(agree(&many, &other), Ok(()));
        many[8] = 3.0;
        assert!(agree(&many, &other).unwrap_err().to_string().contains("output 'y'"));
        assert!(super::agree(&floats(&[1.0]), &floats(&[1.0, 1.0])).is_err());
        assert!(super::agree(&floats(&[1.0]), &Tensors(Vec::new())).is_err());
    }

    #[test]
    fn expected_values_may_be_infinite_or_nan() {
        let text = GOOD.replace("[0.25, 3]", "[[NaN, -Infinity]]");
        let (nan, infinity) = (f32::from_bits(0xffc0_0001), f32::NEG_INFINITY);
        run_sample(&text, [nan, infinity], 0.0).unwrap();
        for wrong in [[0.0, infinity], [nan, 0.0], [nan, -infinity]] {
            assert!(run_sample(&text, wrong, 1e9).is_err(), "{wrong:?}");
        }
        let marked = format!("\u{feff}{text}");
        run_sample(&marked, [nan, infinity], 0.0).unwrap();
    }

    #[test]
    fn only_answers_within_the_tolerance_pass() {
        run([0.25, 3.0], 0.0).unwrap();
        run([0.26, 2.99], 0.02).unwrap();
        let error = run([0.25, 3.5], 0.02).unwrap_err();
        assert_eq!(error.to_string(), "golden sample failed: output 'y' [1] is 3.5, not 3 ± 0.02");
        assert!(matches!(run([f32::NAN, 3.0], 1e9), Err(ModelError::Golden(_))));
        assert!(matches!(run([f32::INFINITY, 3.0], 1e9), Err(ModelError::Golden(_))));
    }

    #[test]
    fn every_datatype_is_decoded() {
        for datatype in Datatype::ALL {
            let (text, expected) = match datatype {
                Datatype::Bool => ("true", 1.0),
                Datatype::Bytes => ("\"hi\"", f64::NAN),
                Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => ("1.5", 1.5),
                _ => ("7", 7.0),
            };
            let read = |text: &str| {
                let expected = ExpectedTensor { what: "tensor", name: "x", datatype, shape: &[1] };
                json::decode(expected, &format!("[{text}]"))
            };
            let bytes = read(text).unwrap();
            assert_eq!(bytes.len(), datatype.size().unwrap_or(6));
            if datatype != Datatype::Bytes {
                assert_eq!(decode(datatype, &bytes), expected, "{datatype}");
            }
            assert!(read("null").is_err());
        }
    }
}
