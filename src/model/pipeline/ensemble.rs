//! Ensembles: chains of models in which outputs feed the next model, with a request for each piece
//! that an image was cut into.

use super::picture::Picture;
use super::row::{BadRow, Budget, charge};
use super::row_tensors;
use crate::files::Detail;
use crate::signature::{Signature, TensorSpec};
use ::image::{RgbImage, imageops};
use imageproc::geometric_transformations::{Border, Interpolation, Projection, warp_into};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use types::tensor::{Tensor, Tensors};

/// The name of the kind in `model.toml`.
pub const KIND: &str = "ensemble";
/// Most steps of an ensemble.
const STEPS_MAX: usize = 32;
/// Most pieces that an image is cut into.
const CROPS_MAX: usize = 4096;
/// Most pixels of all pieces of an image.
const CROP_PIXELS_MAX: u64 = 1 << 27;
/// A piece that is this many times higher than wide is text that runs upwards, and is turned.
const UPRIGHT: f32 = 1.5;

/// A chain of models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ensemble {
    pub steps: Vec<EnsembleStep>,
    pub interface: Signature,
}

/// A step. Values have names: the ensemble's inputs, and the outputs of earlier steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnsembleStep {
    /// Runs a model. The keys of `inputs` are the model's names, those of `outputs` the names of
    /// values.
    Model { name: String, inputs: BTreeMap<String, String>, outputs: BTreeMap<String, String> },
    /// Cuts an image into pieces.
    Crop { image: String, by: String, to: String },
}

/// A value between two steps.
#[derive(Clone, Debug)]
pub enum EnsembleValue {
    /// One row.
    Tensor(Tensor),
    /// Pieces of an image; a model that takes them receives a request for each.
    Pictures(Vec<Picture>),
}

impl Ensemble {
    /// # Errors
    /// If a step is invalid, with its number and the cause.
    pub(crate) fn check(steps: Vec<WrittenStep>, interface: Signature) -> Result<Ensemble, Detail> {
        if steps.is_empty() || steps.len() > STEPS_MAX {
            return Err(format!("steps: 1 to {STEPS_MAX} are possible, not {}", steps.len()).into());
        }
        let mut known: BTreeSet<String> =
            interface.inputs.iter().map(|spec| spec.name.clone()).collect();
        let mut checked = Vec::with_capacity(steps.len());
        for (at, step) in steps.into_iter().enumerate() {
            let step = step.check().map_err(|error| error.within(format!("steps: {}", at + 1)))?;
            if let Some(name) = step.takes().find(|name| !known.contains(*name)) {
                return Err(
                    format!("steps: {}: no earlier step gives the value '{name}'", at + 1).into()
                );
            }
            known.extend(step.gives().cloned());
            checked.push(step);
        }
        if let Some(spec) = interface.outputs.iter().find(|spec| !known.contains(&spec.name)) {
            return Err(format!("outputs: no step gives '{}'", spec.name).into());
        }
        Ok(Ensemble { steps: checked, interface })
    }

    /// Names of the models in its steps.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            EnsembleStep::Model { name, .. } => Some(name.as_str()),
            EnsembleStep::Crop { .. } => None,
        })
    }
}

/// One of the tables `[[steps]]` of an ensemble.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenStep {
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) inputs: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) crop: Option<String>,
    pub(crate) by: Option<String>,
    pub(crate) to: Option<String>,
}

impl WrittenStep {
    fn check(self) -> Result<EnsembleStep, Detail> {
        match (self.model, self.crop, self.by, self.to) {
            (Some(name), None, None, None) if !self.inputs.is_empty() => {
                // As written, the keys of `outputs` are the model's names too.
                let outputs: BTreeMap<_, _> =
                    self.outputs.iter().map(|(own, value)| (value.clone(), own.clone())).collect();
                if outputs.len() != self.outputs.len() || outputs.is_empty() {
                    return Err("outputs: give at least one, with unique names".into());
                }
                Ok(EnsembleStep::Model { name, inputs: self.inputs, outputs })
            }
            (None, Some(image), Some(by), Some(to))
                if self.inputs.is_empty() && self.outputs.is_empty() =>
            {
                Ok(EnsembleStep::Crop { image, by, to })
            }
            _ => Err("a step needs model, inputs and outputs; or crop, by and to".into()),
        }
    }
}

impl EnsembleStep {
    fn takes(&self) -> Box<dyn Iterator<Item = &String> + '_> {
        match self {
            EnsembleStep::Model { inputs, .. } => Box::new(inputs.values()),
            EnsembleStep::Crop { image, by, .. } => Box::new([image, by].into_iter()),
        }
    }

    fn gives(&self) -> Box<dyn Iterator<Item = &String> + '_> {
        match self {
            EnsembleStep::Model { outputs, .. } => Box::new(outputs.keys()),
            EnsembleStep::Crop { to, .. } => Box::new(std::iter::once(to)),
        }
    }
}

impl Picture {
    /// The pieces of the picture that polygons of four corners select, each made upright.
    ///
    /// # Shapes
    /// - polygons: `[1, pieces, 4, 2]`, corners from the top left clockwise, in pixels
    ///
    /// # Errors
    /// If the tensor has another shape, holds too many pieces, or the pieces exceed the memory
    /// budget.
    pub fn crops(
        &self,
        polygons: &Tensor,
        budget: &mut Budget<'_>,
    ) -> Result<Vec<Picture>, BadRow> {
        let bad = |detail: &str| BadRow::Output(format!("'{}' {detail}", polygons.name));
        let all = Tensors(vec![polygons.clone()]);
        let (shape, values) = row_tensors::read(&all, &polygons.name)?;
        let [pieces, 4, 2] = shape else { return Err(bad("is not [pieces, 4, 2]")) };
        if *pieces > CROPS_MAX {
            return Err(bad("has too many pieces"));
        }
        let (wide, high) = (self.0.width() as f32, self.0.height() as f32);
        // NaN becomes 0.
        let inside = |at: f32, edge: f32| if at.is_nan() { 0.0 } else { at.clamp(0.0, edge) };
        let (mut crops, mut pixels) = (Vec::with_capacity(*pieces), 0u64);
        for corners in values.as_chunks::<8>().0 {
            let [a, b, c, d] =
                [0, 2, 4, 6].map(|at| (inside(corners[at], wide), inside(corners[at + 1], high)));
            let quad = [a, b, c, d];
            let (width, height) = extent(quad);
            // Checked before the piece is made: crossed corners make a piece larger than the image.
            let piece = width as u64 * height as u64;
            pixels += piece;
            if pixels > CROP_PIXELS_MAX {
                return Err(bad("selects more pixels than the memory budget allows"));
            }
            // Twice, since a piece may be turned, which copies it.
            charge(budget, piece * 6)?;
            crops.push(self.crop(quad));
        }
        Ok(crops)
    }

    /// Stretches a quadrilateral into a rectangle with edges of the same length.
    fn crop(&self, quad: [(f32, f32); 4]) -> Picture {
        let (width, height) = extent(quad);
        let corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)];
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "inside an image"
        )]
        let mut piece = RgbImage::new(width as u32, height as u32);
        // Collinear corners have no area: such a piece stays black.
        if let Some(projection) = Projection::from_control_points(quad, corners) {
            let bilinear = Interpolation::Bilinear;
            warp_into(&self.0, projection, bilinear, Border::Replicate, &mut piece);
        }
        let high = height >= UPRIGHT * width;
        Picture(Arc::new(if high { imageops::rotate270(&piece) } else { piece }))
    }
}

/// Width and height of the rectangle for a quadrilateral: its longer edges, in whole pixels.
fn extent([a, b, c, d]: [(f32, f32); 4]) -> (f32, f32) {
    let length = |(x0, y0): (f32, f32), (x1, y1): (f32, f32)| (x1 - x0).hypot(y1 - y0);
    let edge = |one: f32, other: f32| one.max(other).round().max(1.0);
    (edge(length(a, b), length(d, c)), edge(length(a, d), length(b, c)))
}

/// The answers to several requests as one row: their rows along the first axis, or in place of an
/// axis of length 1. Without `each` there was one request in total, and its answer is returned.
///
/// # Errors
/// If the answers differ in shape.
pub fn gather(
    spec: &TensorSpec,
    name: &str,
    rows: &[Tensor],
    each: bool,
) -> Result<Tensor, BadRow> {
    if let ([only], false) = (rows, each) {
        return Ok(only.clone());
    }
    let parts = rows.iter().map(|row| Tensors(vec![row.clone()])).collect::<Vec<_>>();
    let bad = |error: types::tensor::TensorError| BadRow::Output(error.to_string());
    let joined = match parts.is_empty() {
        true => {
            let dims = spec.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(0));
            let shape = std::iter::once(0).chain(dims).collect();
            Tensor::new(name, spec.datatype(), shape, bytes::Bytes::new()).map_err(bad)?
        }
        false => Tensors::concat_rows(parts)
            .map_err(bad)?
            .0
            .pop()
            .ok_or_else(|| BadRow::Output(format!("output '{name}' is missing")))?,
    };
    let mut shape = joined.shape;
    if shape.get(1..) == Some(&[1]) {
        shape.truncate(1);
    }
    shape.insert(0, 1);
    Tensor::new(name, joined.datatype, shape, joined.data).map_err(bad)
}
