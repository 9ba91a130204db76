//! How fast ONNX files run on the CPU adapter, beside ONNX Runtime on the same inputs and cores.
//!
//! `RAYON_NUM_THREADS=1 CONCERTINA_TEST_ONNX=$(tests/onnx/fetch.sh) cargo bench --bench onnx`
//! prints a line per real model: medians, and the ratio. Both run in turns on one thread.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a benchmark")]
#![allow(clippy::disallowed_methods, reason = "the folder comes from the environment")]

use burn::tensor::Device;
use concertina::onnx::time_data_set;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Time for each model and side.
const BUDGET: Duration = Duration::from_secs(3);

fn main() {
    let Some(root) = std::env::var_os("CONCERTINA_TEST_ONNX").map(PathBuf::from) else {
        return println!("CONCERTINA_TEST_ONNX names no folder; tests/onnx/fetch.sh makes one");
    };
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut names: Vec<_> = root.join("real").read_dir().expect("models").flatten().collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    let (mut logs, mut ratios) = (0.0, Vec::new());
    println!("{:<18} {:>10} {:>14} {:>7}", "model", "ours ms", "ONNX Runtime", "ratio");
    for entry in names {
        let name = entry.file_name().to_string_lossy().into_owned();
        let chosen = wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
        if !chosen || !entry.path().join("model.onnx").exists() {
            continue;
        }
        let (ours, theirs) = (ours(&entry.path()), theirs(&root, &entry.path()));
        let ratio = ours / theirs;
        println!("{name:<18} {ours:>10.2} {theirs:>14.2} {ratio:>7.2}");
        logs += ratio.ln();
        ratios.push(ratio);
    }
    #[allow(clippy::cast_precision_loss, reason = "a dozen models")]
    let mean = (logs / ratios.len().max(1) as f64).exp();
    println!("geometric mean of the ratios: {mean:.2}");
}

/// Milliseconds.
fn ours(folder: &Path) -> f64 {
    match time_data_set(folder, &Device::flex(), BUDGET) {
        Ok(time) => time.as_secs_f64() * 1e3,
        Err(error) => {
            println!("{}: {error}", folder.display());
            f64::NAN
        }
    }
}

/// Milliseconds of ONNX Runtime's CPU provider on one thread.
fn theirs(root: &Path, folder: &Path) -> f64 {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/onnx/onnxruntime_time.py");
    let mut command = Command::new(root.join("python/bin/python"));
    let output = command.arg(script).arg(folder).arg(BUDGET.as_secs().to_string()).output();
    let output = output.expect("the Python of tests/onnx/fetch.sh");
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(f64::NAN)
}
