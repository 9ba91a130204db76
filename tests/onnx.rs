//! ONNX's own backend tests and real models, on the CPU.
//!
//! `CONCERTINA_TEST_ONNX` is the folder that `tests/onnx/fetch.sh` fills; `tests/run` sets it.
//! Without it the tests are skipped with a message.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "what the test runner shows")]
#![allow(clippy::disallowed_methods, reason = "the folder comes from the environment")]
#![allow(clippy::expect_used, reason = "a helper that fails fails its test")]

use adapter::entry::{AdapterEntry, Api, Class, Usability};
use adapter::select::{Rules, Software};
use burn::tensor::Device;
use device::list::list;
use device::open::{open, register};
use onnx::check_data_sets;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use worker::caches::set_up;

/// The default tolerance of ONNX's own runner, and the tolerance for real models in 32 bits.
const OFFICIAL: (f64, f64) = (1e-3, 1e-5);
const REAL: (f64, f64) = (1e-3, 1e-4);
/// The tolerance for the light networks (`data.json` beside them has 2e-3 for one of them).
const LIGHT: (f64, f64) = (2e-3, 1e-7);

/// Tests that fail, each with its reason. The list may only shrink.
const EXPECTED: &str = include_str!("onnx/expected_failures.txt");

fn folder(name: &str) -> Option<PathBuf> {
    LazyLock::force(&ADAPTERS);
    let root = std::env::var_os("CONCERTINA_TEST_ONNX");
    let folder = root.map(|root| PathBuf::from(root).join(name)).filter(|folder| folder.is_dir());
    if folder.is_none() {
        eprintln!("SKIPPED: CONCERTINA_TEST_ONNX names no folder with {name}; tests/run makes one");
    }
    folder
}

/// Runs the test in each folder; returns the number of tests and the failures by name.
fn run(root: &Path, tolerance: (f64, f64)) -> (usize, BTreeMap<String, String>) {
    let entries = root.read_dir().expect("the folder can be read");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("model.onnx").exists())
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    let (count, names, failed) = (names.len(), Mutex::new(names), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let name = names.lock().expect("no panic").pop();
                    let Some(name) = name else { return };
                    if let Err(error) = one(&root.join(&name), &Device::flex(), tolerance) {
                        failed.lock().expect("no panic").insert(name, error);
                    }
                }
            });
        }
    });
    (count, failed.into_inner().expect("no panic"))
}

fn one(folder: &Path, device: &Device, tolerance: (f64, f64)) -> Result<(), String> {
    let run = catch_unwind(AssertUnwindSafe(|| check_data_sets(folder, device, tolerance)));
    match run {
        Ok(Ok(0)) => Err("the folder has no data set".to_owned()),
        Ok(outcome) => outcome.map(|_| ()).map_err(|error| error.to_string()),
        Err(_) => Err("it panicked".to_owned()),
    }
}

fn expected() -> BTreeMap<&'static str, &'static str> {
    let lines = EXPECTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(": ")).collect()
}

#[test]
fn official_backend_tests() {
    let Some(root) = folder("backend/onnx/backend/test/data") else { return };
    let expected = expected();
    let mut wrong = Vec::new();
    for group in ["node", "simple", "pytorch-operator", "pytorch-converted"] {
        let (count, failed) = run(&root.join(group), OFFICIAL);
        println!("{group}: {} of {count} pass", count - failed.len());
        for (name, error) in &failed {
            if !expected.contains_key(name.as_str()) {
                wrong.push(format!("{group}/{name} fails: {error}"));
            }
        }
        let here = |name: &&&str| root.join(group).join(name).is_dir();
        for name in expected.keys().filter(here) {
            if !failed.contains_key(*name) {
                wrong.push(format!("{group}/{name} passes: take it off expected_failures.txt"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn light_networks() {
    let Some(root) = folder("light") else { return };
    let (count, failed) = run(&root, LIGHT);
    println!("light networks: {} of {count} pass", count - failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The stride of the tests that are run on software adapters; other adapters run all of them.
const EVERY: usize = 12;
/// Tests with values that 32 bits cannot hold.
const WIDE: &[&str] = &["test_bitcast_float64_to_int64", "test_bitcast_int64_to_float64"];
/// Tests with a result that a card may round the other way: Vulkan allows a quotient an error of
/// 2.5 units in the last place, and this one is 25.5 before it is rounded.
const HALVES: &[&str] = &["test_dynamicquantizelinear_expanded"];
/// The real models that run on software adapters in seconds.
const SMALL: &[&str] = &[
    "blazeface_front",
    "ppocr_cls",
    "silero",
    "silero_openvino",
    "silero_sequence",
    "tinyocr_det",
    "tinyocr_rec",
];

/// One adapter of each vendor, software ones included.
fn adapters() -> Vec<AdapterEntry> {
    let mut entries = list(&Rules { software: Software::Allow, ..Rules::default() });
    entries.retain(|entry| entry.api != Api::Cpu && entry.state == Usability::Usable);
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.dedup_by(|a, b| a.name == b.name);
    if entries.is_empty() {
        eprintln!("SKIPPED: no graphics driver found; set VK_ICD_FILENAMES or install one");
    }
    entries
}

/// The adapters, with caches set up as in workers, here once for all of them. The first use of burn
/// fixes the settings of its caches for the whole process, so that each test needs this first.
static ADAPTERS: LazyLock<Vec<AdapterEntry>> = LazyLock::new(|| {
    let adapters = adapters();
    let cache = std::env::temp_dir().join("concertina-test-tuned");
    adapters.first().inspect(|entry| set_up(&cache, entry));
    adapters
});

#[test]
fn a_sample_passes_on_graphics_adapters_of_every_vendor() {
    let Some(root) = folder("backend/onnx/backend/test/data/node") else { return };
    let expected = expected();
    let entries = root.read_dir().expect("the folder can be read").flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let known = |name: &String| {
        !expected.contains_key(name.as_str())
            && !WIDE.contains(&&**name)
            && !HALVES.contains(&&**name)
    };
    let names: Vec<_> = names.into_iter().filter(known).collect();
    let mut failed = Vec::new();
    for entry in &*ADAPTERS {
        let device = register(open(entry).expect("it opens")).expect("burn takes it");
        let software = entry.class == Class::Software;
        let sample: Vec<_> = names.iter().step_by(if software { EVERY } else { 1 }).collect();
        let before = failed.len();
        for name in sample.iter() {
            if let Err(error) = one(&root.join(name), &device, OFFICIAL) {
                failed.push(format!("{}: {name}: {error}", entry.name));
            }
        }
        let passed = sample.len() - (failed.len() - before);
        println!("{}: {passed} of {} pass", entry.name, sample.len());
        let Some(real) = folder("real") else { continue };
        let all = real.read_dir().expect("the folder can be read").flatten();
        let all = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
        for name in all.filter(|name| !software || SMALL.contains(&name.as_str())) {
            let folder = real.join(&name);
            if let Err(error) = one(&folder, &device, REAL) {
                failed.push(format!("{}: {name}: {error}", entry.name));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn real_models_agree_with_onnx_runtime() {
    let Some(root) = folder("real") else { return };
    let (count, failed) = run(&root, REAL);
    println!("real models: {} of {count} agree", count - failed.len());
    let lines: Vec<String> =
        failed.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}
