//! The report of `concertina models check` on an ONNX file: inputs and outputs, unsupported
//! operators, the steps and their costs, and the comparison with data sets beside the file.

use anyhow::anyhow;
use burn::tensor::Device;
use graph::{FileTensor, ModelFile, read_file};
use model::batch::{buckets, warm_up_inputs};
use model::layout::FILE;
use model::signature::{RowMode, Signature, TensorSpec};
use onnx::{Engine, Profile, TensorPlace, Times, check_data_sets};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use types::escape;
use types::tensor::{Tensor, Tensors};

/// Rows of the largest batch in the report.
const MAX_ROWS: usize = 8;
/// Tolerance of a comparison with a data set: relative, absolute.
const TOLERANCE: (f64, f64) = (1e-3, 1e-4);

/// The number of timed runs, and of the slowest kinds of steps in the report.
const RUNS: usize = 20;
const KINDS: usize = 12;

/// Checks a file on the CPU and returns the report; `profile` adds the time of each kind of step.
///
/// # Errors
/// The cause, after the report up to it.
pub fn check(path: &Path, profile: bool) -> anyhow::Result<String> {
    let mut text = String::new();
    match write(path, profile, &mut text) {
        Ok(()) => Ok(text),
        Err(error) => {
            let error = format!("{}: {error}", path.display());
            Err(anyhow!("{text}{}", escape::line(&error)))
        }
    }
}

fn write(path: &Path, profile: bool, text: &mut String) -> anyhow::Result<()> {
    let file = read_file(path)?;
    let operators = operators(&file);
    let nodes: usize = operators.values().sum();
    let weights: usize = file.weights_bytes();
    line(text, "nodes", &format!("{nodes}, opset {}, {} of weights", file.opset(), size(weights)));
    let all = operators.iter().map(|(name, count)| format!("{name} {count}"));
    line(text, "operators", &all.collect::<Vec<_>>().join(", "));
    file.check_operators()?;
    let info = super::served::check(path)?;
    let (signature, reason) = (info.signature, info.rows_reason);
    line(text, "inputs", &specs(&signature.inputs, signature.rows));
    line(text, "outputs", &specs(&signature.outputs, signature.rows));
    line(text, "rows", &explain(signature.rows, &reason));
    plans(text, file, &signature, profile)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    if path.file_name().is_some_and(|name| name == FILE) {
        let sets = check_data_sets(folder, &Device::flex(), TOLERANCE)?;
        if sets > 0 {
            line(text, "data sets", &format!("{sets} agree"));
        }
    }
    Ok(())
}

/// Makes the plans of all batch sizes and reports their costs.
fn plans(
    text: &mut String,
    file: ModelFile,
    signature: &Signature,
    profile: bool,
) -> anyhow::Result<()> {
    let mut engine = Engine::new(file, TensorPlace::of(&Device::flex()))?;
    let sizes = if signature.rows == RowMode::Stacked { buckets(MAX_ROWS) } else { vec![1] };
    for size in sizes {
        let Some(inputs) = warm_up_inputs(signature, size).into_iter().next() else { continue };
        let shapes: Vec<String> =
            inputs.0.iter().map(|tensor| format!("{} {:?}", tensor.name, tensor.shape)).collect();
        let raws = raws(&inputs, signature.rows)?;
        if let Err(error) = engine.run(&raws) {
            // The graph may reject default lengths and zeros: requests have real ones.
            line(text, "warm-up", &format!("failed at {}: {error}", shapes.join(", ")));
            return Ok(());
        }
        line(text, &format!("{size} rows"), &cost(&engine.profile(&raws)));
        if let Some(costs) = engine.profile(&raws).filter(|_| profile) {
            let each = costs.fused.iter().map(|(name, left)| format!("{name} {left}"));
            line(text, "", &format!("launches: {}", each.collect::<Vec<_>>().join(", ")));
            times(text, &engine.time(&raws, RUNS)?);
        }
    }
    Ok(())
}

fn raws(inputs: &Tensors, rows: RowMode) -> anyhow::Result<Vec<FileTensor>> {
    let raw = |tensor: &Tensor| {
        let mut raw = super::convert::to_raw(tensor)?;
        if rows == RowMode::Whole {
            raw.shape.remove(0);
        }
        Ok(raw)
    };
    inputs.0.iter().map(raw).collect()
}

/// The kinds of steps that take longest.
fn times(text: &mut String, times: &Times) {
    let mut all: Vec<_> = times.iter().collect();
    all.sort_by_key(|(_, (_, time))| std::cmp::Reverse(*time));
    #[allow(clippy::cast_precision_loss, reason = "a few runs")]
    let runs = RUNS as f64;
    for (name, (count, time)) in all.into_iter().take(KINDS) {
        let micros = time.as_secs_f64() * 1e6 / runs;
        line(text, "", &format!("{name:<40} {:>4} x {micros:>9.0} us", count / RUNS));
    }
}

fn cost(profile: &Option<Profile>) -> String {
    let Some(profile) = profile else {
        return "a new plan for each request: shapes depend on its values".to_owned();
    };
    let host: usize = profile.host.values().sum();
    let mut words = format!("{} launches, {} on the host", profile.launches, host);
    if host > 0 {
        let each = profile.host.iter().map(|(name, count)| format!("{name} {count}"));
        let _ = write!(words, " ({})", each.collect::<Vec<_>>().join(", "));
    }
    let (uploads, read_backs) = (profile.uploads, profile.read_backs);
    let _ = write!(words, ", {uploads} uploads, {read_backs} read-backs");
    let _ = write!(words, ", {} at once beside the weights", size(profile.bytes));
    words
}

fn explain(rows: RowMode, reason: &str) -> String {
    let runs = match rows {
        RowMode::Stacked => "one run for the rows of several requests",
        RowMode::Each => "one run for each row",
        RowMode::Whole => "one run for each request, as it is sent",
    };
    format!("{}: {runs}; {reason}", rows.as_str())
}

fn specs(specs: &[TensorSpec], mode: RowMode) -> String {
    let spec = |spec: &TensorSpec| {
        format!("{} {} {:?}", spec.name, spec.datatype(), spec.public_shape(mode))
    };
    specs.iter().map(spec).collect::<Vec<_>>().join(", ")
}

fn line(text: &mut String, name: &str, what: &str) {
    // It contains names from the file's graph.
    let _ = writeln!(text, "{:<10} {}", escape::line(name), escape::line(what));
}

fn size(bytes: usize) -> String {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = bytes as f64;
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..1_000_000 => format!("{:.0} kB", number / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", number / 1e6),
        _ => format!("{:.1} GB", number / 1e9),
    }
}

/// The number of uses of each operator in the main graph.
fn operators(file: &ModelFile) -> BTreeMap<&str, usize> {
    let mut all = BTreeMap::new();
    for node in &file.graph.nodes {
        *all.entry(node.op.as_str()).or_default() += 1;
    }
    all
}
