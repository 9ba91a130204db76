//! Runs ONNX graphs on burn: reads the file, makes plans for the shapes that requests have, and
//! runs their steps on the device.

mod build;
mod cast;
mod compile;
mod control;
mod cpu;
mod dataset;
mod elem;
mod engine;
mod graph;
mod host;
mod indices;
mod matmul;
mod op;
mod ops;
mod plan;
mod profile;
mod proto;
mod raw;
mod sparse;
mod tensor;
#[cfg(test)]
mod test_graph;
mod tiny_floats;
mod trace;

pub(crate) use elem::Elem;
pub(crate) use engine::Engine;
pub(crate) use graph::{Dim, ModelFile, Port, Sort};
pub(crate) use profile::{Profile, Times};
pub(crate) use raw::Raw;
pub(crate) use tensor::Place;

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
) -> Result<usize, String> {
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

fn read(folder: &Path) -> Result<ModelFile, String> {
    let path = folder.join("model.onnx");
    let data = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let beside = |name: &str| match std::fs::read(folder.join(name)) {
        Ok(data) => Ok(bytes::Bytes::from(data)),
        Err(error) => Err(format!("external data: '{name}': {error}")),
    };
    ModelFile::read(data.into(), &beside)
}

/// How long the model in a folder takes for the inputs of its first data set: the median of some
/// runs behind others that warm it up. `threads` are not its business: see `RAYON_NUM_THREADS`.
///
/// # Errors
/// What failed.
pub fn time_data_set(
    folder: &Path,
    device: &burn::tensor::Device,
    budget: Duration,
) -> Result<Duration, String> {
    let file = read(folder)?;
    let inputs = dataset::tensors(&file, &folder.join("test_data_set_0"))?;
    let mut engine = Engine::new(file, Place::of(device))?;
    let begin = crate::clock::now();
    let mut times = Vec::new();
    while times.len() < 5 || begin.elapsed() < budget {
        let begin = crate::clock::now();
        engine.run(&inputs)?;
        times.push(begin.elapsed());
    }
    // The first ones make the plan and tune kernels.
    let mut times = times.split_off(times.len() / 3);
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}
