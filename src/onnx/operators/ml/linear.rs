//! Linear models.

use super::scores::{Transform, logistic, probit};
use super::{Labels, floats, in_blocks, table};
use crate::host::first;
use crate::native_tensor::NativeTensor;
use crate::operators::{Call, Outputs, Table, one, several};
use crate::trace::{PlanTensor, Tracer};
use crate::{attribute_values, cast, matmul};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use graph::raw::FileTensor;
use std::sync::Arc;

pub(in crate::operators) const TABLE: Table =
    &[("LinearClassifier", classify), ("LinearRegressor", regress)];

/// Weights `[columns, targets]` and optional intercepts `[1, targets]`.
#[derive(Debug)]
struct LinearWeights {
    weights: Arc<FileTensor>,
    intercepts: Option<Arc<FileTensor>>,
}

fn raw(shape: Vec<usize>, values: impl Iterator<Item = f32>) -> Arc<FileTensor> {
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    Arc::new(FileTensor { elem: Elem::F32, shape, bytes: bytes.into(), text: Vec::new() })
}

impl LinearWeights {
    /// # Errors
    /// If the number of coefficients is not a multiple of the targets.
    fn read(call: &Call<'_>, targets: usize) -> Result<LinearWeights> {
        let (all, own) = (floats(call, "coefficients")?, floats(call, "intercepts")?);
        let columns = all.len().checked_div(targets).unwrap_or(0);
        if columns * targets != all.len() || all.is_empty() {
            return Err(OnnxError::invalid(format!(
                "{} coefficients do not fit {targets} targets",
                all.len()
            )));
        }
        // Coefficients are stored by target; the product needs them by column.
        let turned = (0..columns).flat_map(|column| all.iter().skip(column).step_by(columns));
        let weights = raw(vec![columns, targets], turned.copied());
        let intercepts = (own.len() == targets).then(|| raw(vec![1, targets], own.iter().copied()));
        Ok(LinearWeights { weights, intercepts })
    }

    /// Scores `[rows, targets]` of a matrix.
    fn scores(&self, t: &mut Tracer<'_>, call: &Call<'_>) -> Result<PlanTensor> {
        let x = call.tensor(0)?;
        let (rows, columns) = table(x)?;
        let weights = attribute_values::weights(t, call, &self.weights)?;
        if weights.shape.first() != Some(&columns) {
            let expected = weights.shape.first().copied().unwrap_or(0);
            return Err(OnnxError::input(format!(
                "rows have {columns} columns, but the weights {expected}"
            )));
        }
        let x = t.reshape(x, &[rows, columns])?;
        let x = cast::cast(t, &x, Elem::F32)?;
        let scores = matmul::matmul(t, &x, &weights)?;
        match &self.intercepts {
            None => Ok(scores),
            Some(intercepts) => {
                let intercepts = attribute_values::weights(t, call, intercepts)?;
                t.add(&scores, &intercepts)
            }
        }
    }
}

fn regress(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let targets = usize::try_from(call.int_or("targets", 1)?)
        .map_err(|e| OnnxError::input(format!("targets: {e}")))?;
    let transform = Transform::named(call.text("post_transform")?)?;
    let weights = attribute_values::value(t, call, || LinearWeights::read(call, targets))?;
    let scores = weights.scores(t, call)?;
    if transform == Transform::None || targets == 1 && transform != Transform::Probit {
        return one(scores);
    }
    let form = (Elem::F32, scores.shape.clone());
    let run = move |inputs: &[NativeTensor]| {
        let scores = first(inputs)?;
        let mut values = scores.to_singles()?.into_owned();
        values.chunks_mut(targets.max(1)).for_each(|row| transform.row(row));
        Ok(vec![NativeTensor::singles(scores.shape.clone(), values)])
    };
    several(t.native_op("linear_scores", &[&scores], &[form], run)?)
}

/// A classifier's weights, and the transformation of its scores.
#[derive(Debug)]
struct LinearClassifier {
    weights: LinearWeights,
    labels: Labels,
    targets: usize,
    transform: Transform,
}

impl LinearClassifier {
    fn read(call: &Call<'_>) -> Result<LinearClassifier> {
        let labels = Labels::read(call, "classlabels_strings", "classlabels_ints")?;
        // For two classes, a single score is that of the second.
        let targets = match floats(call, "intercepts")?.len() {
            0 => labels.len(),
            count => count,
        };
        if labels.len() < targets || targets == 1 && labels.len() != 2 {
            return Err(OnnxError::invalid(format!(
                "{} class labels do not fit {targets} intercepts",
                labels.len()
            )));
        }
        let transform = Transform::named(call.text("post_transform")?)?;
        Ok(LinearClassifier {
            weights: LinearWeights::read(call, targets)?,
            labels,
            targets,
            transform,
        })
    }

    /// The number of scores of a row in the answer.
    fn width(&self) -> usize {
        self.targets.max(2)
    }

    /// The class of a row; its scores are appended to the others.
    fn row(&self, scores: &[f32], all: &mut Vec<f32>) -> usize {
        let begin = all.len();
        if let [score] = scores {
            all.extend(match self.transform {
                Transform::Probit => [probit(*score), 0.0],
                Transform::Logistic => [logistic(-score), logistic(*score)],
                _ => [1.0 - score, *score],
            });
            return usize::from(*score > 0.0);
        }
        all.extend_from_slice(scores);
        self.transform.row(all.get_mut(begin..).unwrap_or_default());
        let (mut best, mut most) = (0, f32::NAN);
        for (class, score) in scores.iter().enumerate() {
            if class == 0 || *score > most {
                (best, most) = (class, *score);
            }
        }
        best
    }
}

fn classify(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let model = attribute_values::value(t, call, || LinearClassifier::read(call))?;
    let scores = model.weights.scores(t, call)?;
    let rows = scores.shape.first().copied().unwrap_or(0);
    let width = model.width();
    let forms = [(model.labels.elem(), vec![rows]), (Elem::F32, vec![rows, width])];
    let run = move |inputs: &[NativeTensor]| {
        let scores = first(inputs)?.to_singles()?;
        let parts = in_blocks(rows, |block| {
            let (mut classes, mut all) = (Vec::new(), Vec::with_capacity(block.len() * width));
            let targets = model.targets;
            let own = scores.get(block.start * targets..block.end * targets).unwrap_or_default();
            classes.extend(own.chunks(targets.max(1)).map(|row| model.row(row, &mut all)));
            Ok((classes, all))
        })?;
        let (classes, all): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let classes = model.labels.pick(&classes.concat());
        Ok(vec![classes, NativeTensor::singles(vec![rows, width], all.concat())])
    };
    several(t.native_op("linear_classes", &[&scores], &forms, run)?)
}
