//! An engine that runs ONNX graphs on burn: it makes plans for the shapes of inputs, and runs their
//! steps on a device. The crate `graph` reads the file.
//!
//! ```
//! use concertina_onnx::{Engine, TensorPlace};
//! use graph::{Elem, FileTensor, read_file};
//!
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data");
//! # let path = std::path::Path::new(folder).join("mean_of_one.onnx");
//! // Takes `x` of shape [1, n, 2], returns its mean over `n`. `TensorPlace::of` selects a device.
//! let mut engine = Engine::new(read_file(&path)?, TensorPlace::host())?;
//! let values = [1.0_f32, 2.0, 3.0, 6.0];
//! let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
//! let (shape, text) = (vec![1, 2, 2], Vec::new());
//! let x = FileTensor { elem: Elem::F32, shape, bytes: bytes.into(), text };
//!
//! let outputs = engine.run(&[x])?;
//! assert_eq!(outputs[0].shape, [1, 2]);
//! assert_eq!(outputs[0].bytes[..4], 2.0_f32.to_le_bytes());
//! assert_eq!(outputs[0].bytes[4..], 4.0_f32.to_le_bytes());
//! # Ok::<(), concertina_onnx::OnnxError>(())
//! ```

mod attribute_values;
mod axes;
mod build;
mod cast;
mod compile;
mod constants;
mod control;
mod cpu;
mod dataset;
mod draft;
mod engine;
mod fuse;
mod host;
mod indices;
mod literals;
mod matmul;
mod native_tensor;
mod operators;
mod plan;
mod profile;
mod runtime_value;
mod step;
mod tensor;
mod text_moves;
mod tiny_floats;
mod trace;
mod value;

pub use constants::PlanLimits;
pub use dataset::DataSetError;
pub use engine::Engine;
pub use graph::OnnxError;
pub use profile::{Profile, Times};
pub use tensor::TensorPlace;

use graph::error::Result;
use graph::{ModelFile, read_file};
use std::path::Path;
use std::time::Duration;

/// Runs the model in a folder (`model.onnx`) on the data sets beside it (`test_data_set_*`), which
/// are in the format of ONNX's own tests. Returns their number.
///
/// # Errors
/// The first failure, or the first difference.
pub fn check_data_sets(
    folder: &Path,
    device: &burn::tensor::Device,
    tolerance: (f64, f64),
) -> Result<usize, DataSetError> {
    let file = read(folder)?;
    let place = TensorPlace::of(device);
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

/// The duration of a run of the model in a folder with the inputs of a data set beside it: the
/// median of some runs after a warm-up. `RAYON_NUM_THREADS` sets the number of threads.
///
/// # Errors
/// If the model fails.
pub fn time_data_set(
    folder: &Path,
    set: &str,
    device: &burn::tensor::Device,
    budget: Duration,
) -> Result<Duration, DataSetError> {
    let file = read(folder)?;
    let inputs = dataset::tensors(&file, &folder.join(set))?;
    let mut engine = Engine::new(file, TensorPlace::of(device))?;
    // The first run makes the plan and tunes kernels.
    engine.run(&inputs)?;
    engine.run(&inputs)?;
    let begin = types::clock::now();
    let mut times = Vec::new();
    // Five runs at least, so that a slow model has a median too.
    while times.len() < 5 || begin.elapsed() < budget {
        let begin = types::clock::now();
        engine.run(&inputs)?;
        times.push(begin.elapsed());
    }
    // The first third counts as warm-up as well.
    let mut times = times.split_off(times.len() / 3);
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

/// The duration until the model in a folder is ready for its warm-up, and the bytes of its weights.
///
/// # Errors
/// If the model cannot be loaded.
pub fn time_load(folder: &Path, device: &burn::tensor::Device) -> Result<(Duration, usize)> {
    let begin = types::clock::now();
    let engine = Engine::new(read(folder)?, TensorPlace::of(device))?;
    Ok((begin.elapsed(), engine.weights_bytes()))
}
