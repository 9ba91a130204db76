//! Run times of ONNX files, compared with other engines on the same inputs, cores and adapters.
//!
//! ```sh
//! eval "$(benches/onnx/fetch.sh)"; export RAYON_NUM_THREADS=1 LP_NUM_THREADS=1
//! cargo bench --bench onnx              # on the CPU: ONNX Runtime and tract, one row and eight
//! cargo bench --bench onnx -- adapters  # on the first Vulkan adapter: ncnn and WebGPU
//! cargo bench --bench onnx -- load      # time and memory to load 100 MB of weights
//! ```
//! More arguments select models by parts of their names. Each figure is a median; engines take
//! turns.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a benchmark")]
#![allow(clippy::disallowed_methods, reason = "the folder comes from the environment")]

use adapter::entry::{Api, Usability};
use adapter::select::{Rules, Software};
use burn::tensor::Device;
use device::list::list;
use device::open::{open, register};
use onnx::{check_data_sets, time_data_set, time_load};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use worker::caches::set_up;

/// Time for each model and engine.
const BUDGET: Duration = Duration::from_secs(3);
const SINGLE: &str = "test_data_set_0";
const BATCH: &str = "batch_8";
/// Models that run on software adapters in seconds.
const SMALL: &[&str] = &[
    "blazeface_front",
    "ppocr_cls",
    "silero_openvino",
    "silero_sequence",
    "tinyocr_rec",
    "magika",
];

fn main() {
    // `cargo test` runs benches once without this flag: there is nothing to assert here.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let Some(root) = std::env::var_os("CONCERTINA_TEST_ONNX").map(PathBuf::from) else {
        return println!("CONCERTINA_TEST_ONNX names no folder; benches/onnx/fetch.sh makes one");
    };
    let mut words: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mode = words.first().cloned().unwrap_or_default();
    match mode.as_str() {
        "adapters" => adapters(&root, &words.split_off(1)),
        "load" => load(&root, words.get(1)),
        _ => cpu(&root, &words),
    }
}

fn models(root: &Path, words: &[String]) -> Vec<(String, PathBuf)> {
    let entries = root.join("real").read_dir().expect("models").flatten();
    let mut all: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(_, path)| path.join("model.onnx").exists())
        .filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word)))
        .collect();
    all.sort();
    all
}

fn cpu(root: &Path, words: &[String]) {
    for (set, title) in [(SINGLE, "one row"), (BATCH, "eight rows")] {
        println!(
            "{title:<18} {:>9} {:>13} {:>7} {:>9}",
            "ours ms", "ONNX Runtime", "ratio", "tract"
        );
        let (mut ratios, mut ahead, mut known) = (Vec::new(), 0, 0);
        for (name, path) in models(root, words) {
            if !path.join(set).exists() {
                continue;
            }
            let ours = ours(&path, set, &Device::flex());
            let (theirs, tract) =
                (rival(root, "onnxruntime", &path, set), rival(root, "tract", &path, set));
            let ratio = ours / theirs.0;
            println!("{name:<18} {ours:>9.2} {:>13.2} {ratio:>7.2} {:>9.2}", theirs.0, tract.0);
            ratios.push(ratio);
            // An engine that cannot run the model counts as slower.
            ahead += usize::from(tract.0.is_nan() || ours < tract.0);
            known += 1;
        }
        println!(
            "geometric mean of the ratios: {:.2}; ahead of tract on {ahead} of {known}",
            mean(&ratios)
        );
    }
}

/// The geometric mean.
fn mean(ratios: &[f64]) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a dozen models")]
    let count = ratios.len().max(1) as f64;
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / count).exp()
}

/// The time of this engine, in milliseconds.
fn ours(folder: &Path, set: &str, device: &Device) -> f64 {
    match time_data_set(folder, set, device, BUDGET) {
        Ok(time) => time.as_secs_f64() * 1e3,
        Err(error) => {
            println!("{}: {error}", folder.display());
            f64::NAN
        }
    }
}

/// The time of another engine in milliseconds, and its error; NaN if it cannot run the model.
fn rival(root: &Path, engine: &str, folder: &Path, set: &str) -> (f64, f64) {
    let python = ["rivals/bin/python", "python/bin/python"].map(|path| root.join(path));
    let Some(python) = python.into_iter().find(|path| path.exists()) else {
        return (f64::NAN, f64::NAN);
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/onnx/rival.py");
    let mut command = Command::new(python);
    command.arg(script).arg(engine).arg(folder).arg(set).arg(BUDGET.as_secs().to_string());
    let output = command.output().expect("Python");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.lines().last().unwrap_or_default().split(' ');
    let mut next = || numbers.next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN);
    (next(), next())
}

fn adapters(root: &Path, words: &[String]) {
    let rules = Rules { software: Software::Allow, ..Rules::default() };
    let mut entries = list(&rules);
    entries.retain(|entry| entry.api == Api::Vulkan && entry.state == Usability::Usable);
    let Some(entry) = entries.first() else { return println!("no Vulkan adapter") };
    println!("on {}", entry.name);
    set_up(&root.join("tuned"), entry);
    let device = register(open(entry).expect("it opens")).expect("burn takes it");
    println!("{:<18} {:>9} {:>9} {:>9}   off by", "model", "ours ms", "ncnn", "WebGPU");
    let (mut ahead, mut known) = (0, 0);
    for (name, path) in models(root, words) {
        if words.is_empty() && !SMALL.contains(&name.as_str()) {
            continue;
        }
        let right = check_data_sets(&path, &device, (1e-3, 1e-4));
        let ours = if right.is_ok() { ours(&path, SINGLE, &device) } else { f64::NAN };
        let [ncnn, webgpu] = ["ncnn", "webgpu"].map(|engine| rival(root, engine, &path, SINGLE));
        let off = format!("ncnn {:.0e}, WebGPU {:.0e}", ncnn.1, webgpu.1);
        println!("{name:<18} {ours:>9.1} {:>9.1} {:>9.1}   {off}", ncnn.0, webgpu.0);
        right.err().inspect(|error| println!("  ours: {error}"));
        let behind = |other: f64| other <= ours;
        ahead += usize::from(!behind(ncnn.0) && !behind(webgpu.0) && !ours.is_nan());
        known += 1;
    }
    println!("ahead of both on {ahead} of {known}");
}

/// Loads a large file in a process of its own, which prints the time and the memory.
fn load(root: &Path, child: Option<&String>) {
    if let Some(folder) = child {
        let before = resident("VmRSS:");
        let (time, weights) = time_load(Path::new(folder), &Device::flex()).expect("it loads");
        let more = resident("VmHWM:").saturating_sub(before);
        #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
        let ratio = more as f64 / weights as f64;
        let (more, weights) = (more / 1_000_000, weights / 1_000_000);
        return println!(
            "{weights} MB of weights ready in {time:.2?}, {more} MB at most: {ratio:.2} x"
        );
    }
    let folder = root.join("large");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/onnx/large.py");
    let made = Command::new(root.join("python/bin/python")).arg(script).arg(&folder).status();
    assert!(made.expect("Python").success());
    for kind in ["inside", "beside"] {
        for _ in 0..3 {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            let command = command.args(["--bench", "load"]).arg(folder.join(kind));
            let output = command.output().expect("itself");
            assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
            print!("{kind} the file: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

/// A line of `/proc/self/status`, in bytes.
fn resident(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    let kilobytes =
        found.and_then(|text| text.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}
