//! Runs ONNX graphs on burn: reads the file, makes plans for the shapes that requests have, and
//! runs their steps on the device.

mod axes;
mod build;
mod cast;
mod cells;
mod compile;
mod constants;
mod control;
mod cpu;
mod dataset;
mod draft;
mod engine;
mod fuse;
mod held;
mod host;
mod indices;
mod kept;
mod literals;
mod matmul;
mod op;
mod ops;
mod plan;
mod profile;
mod tensor;
mod tiny_floats;
mod trace;
mod value;
mod words;

pub use constants::Limits;
pub use engine::Engine;
pub use profile::{Profile, Times};
pub use tensor::Place;

pub use dataset::DataSetError;
pub use graph::OnnxError;

use graph::error::Result;
use graph::{ModelFile, read_file};
use std::path::Path;
use std::time::Duration;

/// Runs the model in a folder (`model.onnx`) on the data sets beside it (`test_data_set_*`), as
/// ONNX's own tests have them.
///
/// # Errors
/// What failed first, or the first difference.
pub fn check_data_sets(
    folder: &Path,
    device: &burn::tensor::Device,
    tolerance: (f64, f64),
) -> Result<usize, DataSetError> {
    let file = read(folder)?;
    let place = Place::of(device);
    let mut checked = 0;
    loop {
        let set = folder.join(format!("test_data_set_{checked}"));
        if !set.is_dir() {
            return Ok(checked);
        }
        dataset::check(&file, &place, &set, tolerance)?;
        checked += 1;
    }
}

fn read(folder: &Path) -> Result<ModelFile> {
    read_file(&folder.join("model.onnx"))
}

/// How long the model in a folder takes for the inputs of a data set beside it: the median of some
/// runs behind others that warm it up. `threads` are not its business: see `RAYON_NUM_THREADS`.
///
/// # Errors
/// What failed.
pub fn time_data_set(
    folder: &Path,
    set: &str,
    device: &burn::tensor::Device,
    budget: Duration,
) -> Result<Duration, DataSetError> {
    let file = read(folder)?;
    let inputs = dataset::tensors(&file, &folder.join(set))?;
    let mut engine = Engine::new(file, Place::of(device))?;
    // Makes the plan and tunes kernels.
    engine.run(&inputs)?;
    engine.run(&inputs)?;
    let begin = types::clock::now();
    let mut times = Vec::new();
    while times.len() < 5 || begin.elapsed() < budget {
        let begin = types::clock::now();
        engine.run(&inputs)?;
        times.push(begin.elapsed());
    }
    let mut times = times.split_off(times.len() / 3);
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

/// How long it takes until the model in a folder is ready to be warmed up, and how many bytes of
/// weights it has.
///
/// # Errors
/// What failed.
pub fn time_load(folder: &Path, device: &burn::tensor::Device) -> Result<(Duration, usize)> {
    let begin = types::clock::now();
    let engine = Engine::new(read(folder)?, Place::of(device))?;
    Ok((begin.elapsed(), engine.weights_bytes()))
}
