//! The input of the loader of a kind of models.

use burn::tensor::Device;
use model::files::Files;
use model::info::ModelInfo;

/// The input of a loader.
#[derive(Clone, Copy, Debug)]
pub struct LoadContext<'a> {
    pub info: &'a ModelInfo,
    /// The files of the version being loaded.
    pub files: &'a Files,
    /// The device that the model is loaded onto.
    pub device: &'a Device,
}
