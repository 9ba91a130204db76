//! Input of the loader of a kind of models.

use crate::model::files::Files;
use crate::model::info::ModelInfo;
use burn::tensor::Device;

/// Input of a loader.
#[derive(Clone, Copy, Debug)]
pub struct LoadContext<'a> {
    pub info: &'a ModelInfo,
    /// The files of the version being loaded.
    pub files: &'a Files,
    /// Where the model is to live.
    pub device: &'a Device,
}
