//! `model.toml`: the user's description of a model, parsed strictly.

mod batch;
mod time;

use crate::count;
use crate::files::{BadFile, Detail, is_safe_name};
use crate::info::GoldenSpec;
use crate::onnx::signature as onnx;
use crate::pipeline::{
    WrittenPipeline, WrittenPostprocess, WrittenPreprocess, WrittenStep, ensemble,
};
use crate::signature::{RowMode, Signature, TensorSpec};
pub(crate) use crate::versions::Versions;
use batch::WrittenBatch;
pub(crate) use batch::{DELAY_MAX, MAX_ROWS_MAX};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use time::check_latency_target;
use types::tensor::Datatype;

/// The name of the file in every model's folder.
pub(crate) const FILE: &str = "model.toml";
/// Largest `model.toml` that is read; labels of ten thousand classes fit.
pub(crate) const BYTES_MAX: u64 = 1 << 20;

/// Most inputs or outputs of a model.
const TENSORS_MAX: usize = 64;
/// Most dimensions of a tensor, without the batch axis.
const DIMS_MAX: usize = 8;
/// Most elements of a row of fixed shape: sizes that are computed from it do not overflow.
const ROW_ELEMENTS_MAX: i64 = 1 << 31;
/// Longest name of an input or output.
const TENSOR_NAME_MAX: usize = 128;
/// The default tolerance of a golden sample; adapters differ by less than 1e-4.
const TOLERANCE_DEFAULT: f64 = 1e-3;

/// A valid `model.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub(crate) kind: String,
    /// The name of the file with the graph; `None` if it is found by its name.
    pub(crate) file: Option<String>,
    /// Names of described inputs and outputs; the descriptions have no effect if the graph defines
    /// them.
    pub(crate) tensors: Vec<String>,
    /// `None` if `model.toml` leaves it to the model's file.
    pub signature: Option<Signature>,
    /// `None` if `[batch]` does not set it.
    pub(crate) max_rows: Option<usize>,
    pub(crate) delay: Duration,
    pub(crate) row_memory_bytes: u64,
    pub(crate) decoupled: bool,
    /// The field `rows`; `None` if the graph determines the mode.
    pub(crate) rows: Option<RowMode>,
    pub(crate) latency_target: Option<Duration>,
    pub(crate) labels: Vec<String>,
    pub(crate) versions: Versions,
    pub(crate) golden: Option<GoldenSpec>,
    /// `[preprocess]` and `[postprocess]`.
    pub(crate) pipeline: WrittenPipeline,
    /// `[[steps]]`.
    pub(crate) steps: Vec<WrittenStep>,
}

/// The file as written, before its values are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenManifest {
    kind: String,
    inputs: Option<Vec<WrittenTensor>>,
    outputs: Option<Vec<WrittenTensor>>,
    #[serde(default)]
    batch: WrittenBatch,
    rows: Option<RowMode>,
    decoupled: Option<bool>,
    latency_target: Option<String>,
    /// Another name of `latency_target`.
    slo: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    versions: Option<toml::Value>,
    golden: Option<WrittenGolden>,
    pub preprocess: Option<WrittenPreprocess>,
    pub postprocess: Option<WrittenPostprocess>,
    #[serde(default)]
    steps: Vec<WrittenStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTensor {
    name: String,
    datatype: Option<Datatype>,
    datatypes: Option<Vec<Datatype>>,
    shape: Vec<i64>,
    /// Lengths for the warm-up.
    warm_up: Option<Vec<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGolden {
    file: Option<String>,
    tolerance: Option<f64>,
}

impl Manifest {
    /// The manifest of a model without `model.toml`: the model's file determines the rest.
    pub fn of_kind(kind: &str) -> Manifest {
        Manifest {
            kind: kind.to_owned(),
            file: None,
            tensors: Vec::new(),
            signature: None,
            max_rows: None,
            delay: Duration::ZERO,
            row_memory_bytes: 0,
            decoupled: false,
            rows: None,
            latency_target: None,
            labels: Vec::new(),
            versions: Versions::Latest,
            golden: None,
            pipeline: WrittenPipeline::default(),
            steps: Vec::new(),
        }
    }

    /// Parses and checks the text of a `model.toml`; `path` is for messages.
    ///
    /// # Errors
    /// Those of the TOML parser, or of a field, with the file and the line or field.
    pub fn parse(path: &str, data: &[u8]) -> Result<Manifest, BadFile> {
        let bad = |detail: Detail| BadFile::new(path, detail);
        let text = std::str::from_utf8(data).map_err(|_| bad("is not UTF-8 text".into()))?;
        let written: WrittenManifest =
            toml::from_str(text).map_err(|e| bad(describe(text, &e).into()))?;
        written.check().map_err(bad)
    }
}

/// A TOML error on one line: its position, the text there, the cause.
fn describe(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', ", ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default().trim();
    let shown: String = line.chars().take(60).collect();
    format!("line {number}, `{shown}`: {message}")
}

impl WrittenManifest {
    fn check(self) -> Result<Manifest, Detail> {
        if !is_safe_name(&self.kind) {
            return Err(format!("kind: '{}' is not a name", self.kind).into());
        }
        let signature = match (self.inputs, self.outputs) {
            (None, None) if self.kind == onnx::KIND => None,
            (None, None) if self.kind == count::KIND => Some(count::signature()),
            (inputs, outputs) => {
                let inputs = inputs.ok_or("missing field `inputs`")?;
                Some(check_signature(inputs, outputs.ok_or("missing field `outputs`")?)?)
            }
        };
        let row_memory_bytes = self.batch.row_memory_bytes.unwrap_or(0);
        let (max_rows, delay) = self.batch.check()?;
        let decoupled = self.decoupled.unwrap_or(self.kind == count::KIND);
        if self.rows.is_some() && self.kind != onnx::KIND {
            return Err(format!("rows: is only for models of kind '{}'", onnx::KIND).into());
        }
        let chain = self.kind == ensemble::KIND;
        if chain == self.steps.is_empty() {
            return Err("steps: an ensemble needs [[steps]]; other kinds must not have them".into());
        }
        if chain && (self.preprocess.is_some() || self.postprocess.is_some()) {
            return Err(
                "an ensemble has no preprocess or postprocess; set them for its models".into()
            );
        }
        let pipeline = self.preprocess.is_some() || self.postprocess.is_some();
        if decoupled && (chain || pipeline || self.golden.is_some()) {
            let what =
                "decoupled: cannot be combined with steps, preprocess, postprocess or golden";
            return Err(what.into());
        }
        Ok(Manifest {
            kind: self.kind,
            file: None,
            tensors: Vec::new(),
            signature,
            max_rows,
            delay,
            row_memory_bytes,
            decoupled,
            rows: self.rows,
            latency_target: check_latency_target(self.latency_target, self.slo)?,
            labels: self.labels,
            versions: Versions::of_toml(self.versions)?,
            golden: self.golden.map(WrittenGolden::check).transpose()?,
            pipeline: WrittenPipeline {
                preprocess: self.preprocess,
                postprocess: self.postprocess,
            },
            steps: self.steps,
        })
    }
}

fn check_tensors(field: &str, written: Vec<WrittenTensor>) -> Result<Vec<TensorSpec>, Detail> {
    if written.is_empty() || written.len() > TENSORS_MAX {
        return Err(format!(
            "{field}: {} tensors, but 1 to {TENSORS_MAX} are possible",
            written.len()
        )
        .into());
    }
    let mut specs: Vec<TensorSpec> = Vec::with_capacity(written.len());
    for tensor in written {
        let name = tensor.name.clone();
        let spec = tensor.check().map_err(|detail| detail.within(format!("{field}: '{name}'")))?;
        if specs.iter().any(|earlier| earlier.name == name) {
            return Err(format!("{field}: '{name}' is given twice").into());
        }
        specs.push(spec);
    }
    Ok(specs)
}

impl WrittenTensor {
    fn check(self) -> Result<TensorSpec, Detail> {
        let printable = !self.name.chars().any(char::is_control);
        if self.name.is_empty() || self.name.len() > TENSOR_NAME_MAX || !printable {
            return Err(
                format!("name: must have 1 to {TENSOR_NAME_MAX} printable characters").into()
            );
        }
        let datatypes = match (self.datatype, self.datatypes) {
            (Some(one), None) => vec![one],
            (None, Some(several)) if !several.is_empty() => several,
            (None, _) => return Err("datatype: is missing; give one, such as \"FP32\"".into()),
            (Some(_), Some(_)) => return Err("give datatype or datatypes, not both".into()),
        };
        for (at, datatype) in datatypes.iter().enumerate() {
            if datatypes[..at].contains(datatype) {
                return Err(format!("datatypes: {datatype} is given twice").into());
            }
        }
        check_shape(&self.shape)?;
        Ok(TensorSpec::new(self.name, datatypes, self.shape))
    }
}

fn check_shape(shape: &[i64]) -> Result<(), Detail> {
    if shape.len() > DIMS_MAX {
        return Err(format!(
            "shape: {} dimensions, but at most {DIMS_MAX} are possible",
            shape.len()
        )
        .into());
    }
    if let Some(dim) = shape.iter().find(|dim| **dim == 0 || **dim < -1) {
        return Err(format!(
            "shape: {dim} is not a dimension; use -1 where any length is accepted"
        )
        .into());
    }
    let fixed = shape.iter().filter(|dim| **dim > 0);
    let elements = fixed.copied().try_fold(1i64, i64::checked_mul);
    match elements {
        Some(elements) if elements <= ROW_ELEMENTS_MAX => Ok(()),
        _ => Err(format!("shape: one row has more than {ROW_ELEMENTS_MAX} elements").into()),
    }
}

fn check_signature(
    inputs: Vec<WrittenTensor>,
    outputs: Vec<WrittenTensor>,
) -> Result<Signature, Detail> {
    let mut warm_up = BTreeMap::new();
    for tensor in &inputs {
        if let Some(shape) = &tensor.warm_up {
            if !check_warm_up(shape, &tensor.shape) {
                let name = &tensor.name;
                return Err(
                    format!("inputs: '{name}': warm_up: {shape:?} does not fit shape").into()
                );
            }
            warm_up.insert(tensor.name.clone(), shape.clone());
        }
    }
    let inputs = check_tensors("inputs", inputs)?;
    let outputs = check_tensors("outputs", outputs)?;
    let warm_up_stated = !warm_up.is_empty();
    Ok(Signature { inputs, outputs, warm_up, warm_up_stated, ..Signature::default() })
}

fn check_warm_up(given: &[usize], shape: &[i64]) -> bool {
    let fits = |(length, dim): (&usize, &i64)| {
        *length > 0 && (*dim < 0 || i64::try_from(*length) == Ok(*dim))
    };
    let size = given.iter().try_fold(1usize, |size, length| size.checked_mul(*length));
    let small = size.is_some_and(|size| i64::try_from(size).is_ok_and(|n| n <= ROW_ELEMENTS_MAX));
    given.len() == shape.len() && given.iter().zip(shape).all(fits) && small
}

impl WrittenGolden {
    fn check(self) -> Result<GoldenSpec, Detail> {
        let file = self.file.unwrap_or_else(|| "golden.json".into());
        if !is_safe_name(&file) {
            return Err(format!(
                "golden.file: '{file}' is not a file name in the version's folder"
            )
            .into());
        }
        let tolerance = self.tolerance.unwrap_or(TOLERANCE_DEFAULT);
        if !tolerance.is_finite() || tolerance < 0.0 {
            return Err(
                format!("golden.tolerance: {tolerance} is not a number of at least 0").into()
            );
        }
        Ok(GoldenSpec { file, tolerance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"
kind = "identity"
latency_target = "200ms"
labels = ["no", "yes"]
versions = [2, 1]
[[inputs]]
name = "x"
datatypes = ["FP32", "UINT8"]
shape = [-1, 3]
[[outputs]]
name = "y"
datatype = "FP32"
shape = []
[batch]
max_rows = 16
delay = "250us"
[golden]
tolerance = 0.5
"#;

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse("m/model.toml", text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_field_is_read() {
        let manifest = parse(GOOD).unwrap();
        let signature = manifest.signature.unwrap();
        let input = &signature.inputs[0];
        assert_eq!(input.datatypes, [Datatype::Fp32, Datatype::Uint8]);
        assert_eq!(input.shape, [-1, 3]);
        assert_eq!(signature.outputs[0].shape, [0i64; 0]);
        assert_eq!(manifest.versions, Versions::These(vec![1, 2]));
        assert_eq!((manifest.max_rows, manifest.delay), (Some(16), Duration::from_micros(250)));
        assert_eq!(manifest.latency_target, Some(Duration::from_millis(200)));
        assert_eq!(manifest.labels, ["no", "yes"]);
        let golden = GoldenSpec { file: "golden.json".into(), tolerance: 0.5 };
        assert_eq!(manifest.golden, Some(golden));
    }

    #[test]
    fn optional_fields_have_defaults() {
        let head = GOOD.split("[batch]").next().unwrap();
        let head = head.replace("versions = [2, 1]", "").replace("latency_target = \"200ms\"", "");
        let manifest = parse(&head).unwrap();
        assert_eq!(manifest.latency_target, None);
        assert_eq!((manifest.max_rows, manifest.delay), (None, Duration::ZERO));
        assert_eq!(manifest.versions, Versions::Latest);
        assert_eq!(manifest.golden, None);
    }

    #[test]
    fn slo_is_another_name_of_latency_target_and_both_together_are_an_error() {
        let named = GOOD.replace("latency_target =", "slo =");
        assert_eq!(parse(&named), parse(GOOD));
        let both = parse(&format!("slo = \"1s\"\n{GOOD}")).unwrap_err();
        assert!(both.contains("slo and latency_target are two names"), "{both}");
        let error = parse(&named.replace("200ms", "soon")).unwrap_err();
        assert!(error.contains("slo: 'soon' is not a time"), "{error}");
    }

    /// Replaces one piece of the valid file and expects an error with this text.
    #[track_caller]
    fn check(from: &str, to: &str, words: &str) {
        assert!(GOOD.contains(from), "{from}");
        let error = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(error.starts_with("m/model.toml: "), "{error}");
        assert!(error.contains(words), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn every_error_names_its_field() {
        check("kind = \"identity\"", "", "missing field `kind`");
        check("kind = \"identity\"", "kind = \"../x\"", "kind: '../x' is not a name");
        check("kind =", "knid =", "line 2, `knid = \"identity\"`: unknown field `knid`");
        check("max_rows = 16", "max_row = 16", "unknown field `max_row`");
        check("max_rows = 16", "max_rows = 0", "batch.max_rows: 0 is not between 1 and 4096");
        check("max_rows = 16", "max_rows = -1", "line 15, `max_rows = -1`: invalid value");
        check("250us", "soon", "batch.delay: 'soon' is not a time");
        check("250us", "2", "batch.delay: '2' is not a time");
        check("250us", "99999999999999999999s", "batch.delay");
        check("250us", "11s", "longer than 10 s");
        check("200ms", "soon", "latency_target: 'soon' is not a time");
        check("200ms", "0ms", "latency_target: must be greater than zero");
        check("200ms", "-1ms", "latency_target: '-1ms' is not a time");
        check("200ms", "3601s", "latency_target: '3601s' is longer than 3600 s");
        check("\"200ms\"", "200", "line 3, `latency_target = 200`: invalid type");
        check("[2, 1]", "\"newest\"", "versions: must be");
        check("[2, 1]", "[0]", "versions: must be");
        check("[2, 1]", "[]", "versions: must be");
        check("0.5", "-0.5", "golden.tolerance: -0.5");
        check("0.5", "nan", "golden.tolerance: NaN");
        check("tolerance = 0.5", "file = \"../x\"", "golden.file: '../x'");
        check(
            "\"FP32\", \"UINT8\"",
            "\"FP33\"",
            "line 8, `datatypes = [\"FP33\"]`: unknown variant",
        );
        check("\"FP32\", \"UINT8\"", "", "inputs: 'x': datatype: is missing");
        check("\"FP32\", \"UINT8\"", "\"FP32\", \"FP32\"", "datatypes: FP32 is given twice");
        check("datatype = \"FP32\"", "", "outputs: 'y': datatype: is missing");
        check("[-1, 3]", "[-2]", "inputs: 'x': shape: -2 is not a dimension");
        check("[-1, 3]", "[0]", "shape: 0 is not a dimension");
        check("[-1, 3]", "[9223372036854775807, 9]", "one row has more than");
        check("[-1, 3]", "[1,1,1,1,1,1,1,1,1]", "9 dimensions");
        check("name = \"x\"", "name = \"\"", "name: must have 1 to 128 printable");
        check("[[outputs]]", "[[outpust]]", "unknown field `outpust`");
        check("labels = [", "labels = [1, ", "line 4, `labels = [1, ");
    }

    #[test]
    fn other_text_is_an_error() {
        assert!(parse("").unwrap_err().contains("missing field"));
        assert!(parse("\0\u{7f}").unwrap_err().contains("line 1"));
        let error = Manifest::parse("m/model.toml", &[0xff, 0xfe]).unwrap_err();
        assert_eq!(error.to_string(), "m/model.toml: is not UTF-8 text");
    }

    #[test]
    fn names_of_tensors_are_unique() {
        let twice = GOOD.replace(
            "[[outputs]]",
            "[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = []\n[[outputs]]",
        );
        assert!(parse(&twice).unwrap_err().contains("inputs: 'x' is given twice"));
    }

    /// A manifest with steps around a graph.
    const FULL: &str = include_str!("../../models/text-regions/model.toml");

    // Longer: `PROPTEST_CASES=1000000 cargo test --release --lib manifests_`.
    proptest! {
        #[test]
        fn manifests_with_changed_bytes_never_panic(
            spots in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
            number in any::<i64>(),
            at in any::<prop::sample::Index>(),
        ) {
            let mut text = FULL.as_bytes().to_vec();
            for (spot, byte) in spots {
                let at = spot.index(text.len());
                text[at] = byte;
            }
            let _ = Manifest::parse("model.toml", &text);
            // A number in place of the value of any field.
            let lines: Vec<&str> = FULL.lines().collect();
            let spoilt = at.index(lines.len());
            let line = |(number_of, line): (usize, &&str)| match line.split_once('=') {
                Some((key, _)) if number_of == spoilt => format!("{key}= {number}"),
                _ => (*line).to_owned(),
            };
            let text: Vec<String> = lines.iter().enumerate().map(line).collect();
            let _ = Manifest::parse("model.toml", text.join("\n").as_bytes());
        }
    }
}
