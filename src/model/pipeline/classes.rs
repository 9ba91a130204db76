//! The most likely classes, with their names.

use super::row::BadRow;
use super::row_tensors;
use crate::files::Detail;
use serde::{Deserialize, Serialize};
use types::tensor::{Datatype, Tensor, Tensors};

/// `[postprocess.classes]`: the `top` classes with the highest scores, and their scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Classes {
    #[serde(default)]
    pub(super) output: Option<String>,
    #[serde(default)]
    activation: Activation,
    #[serde(default = "five")]
    top: usize,
    /// Classes with lower scores are omitted.
    #[serde(default)]
    threshold: Option<f32>,
    /// The class of an empty file, which the graph cannot classify; it has the score 1, and all
    /// others have 0.
    #[serde(default)]
    empty: Option<String>,
}

/// The function that turns a graph's numbers into scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Activation {
    /// The numbers are scores already.
    #[default]
    None,
    Sigmoid,
    Softmax,
}

fn five() -> usize {
    5
}

impl Activation {
    pub(super) fn apply(self, values: &mut [f32]) {
        match self {
            Activation::None => {}
            Activation::Sigmoid => {
                values.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp()));
            }
            Activation::Softmax => {
                let highest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                values.iter_mut().for_each(|value| *value = (*value - highest).exp());
                let sum: f32 = values.iter().sum();
                values.iter_mut().for_each(|value| *value /= sum);
            }
        }
    }
}

/// The name of a class, or its number if it has none.
pub(super) fn label(labels: &[String], class: usize) -> String {
    labels.get(class).cloned().unwrap_or_else(|| class.to_string())
}

impl Classes {
    pub(super) fn check(&self) -> Result<(), Detail> {
        if self.top == 0 {
            return Err("top: must be at least 1".into());
        }
        Ok(())
    }

    /// # Shapes
    /// - labels and scores: `[1, classes]`, at most `top`
    pub(super) fn read(
        &self,
        outputs: &Tensors,
        name: &str,
        labels: &[String],
        is_empty: bool,
    ) -> Result<Vec<Tensor>, BadRow> {
        let (_, mut scores) = row_tensors::read(outputs, name)?;
        self.activation.apply(&mut scores);
        let mut best: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
        let least = self.threshold.unwrap_or(f32::NEG_INFINITY);
        // NaN is not a score.
        best.retain(|(_, score)| *score >= least);
        best.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        best.truncate(self.top);
        let mut names: Vec<String> = best.iter().map(|(class, _)| label(labels, *class)).collect();
        if let Some(empty) = self.empty.as_ref().filter(|_| is_empty) {
            names.insert(0, empty.clone());
            names.truncate(best.len().max(1));
            best = (0..names.len()).map(|at| (at, if at == 0 { 1.0 } else { 0.0 })).collect();
        }
        let scores = best.iter().map(|(_, score)| *score);
        Ok(vec![
            row_tensors::words("label", &names)?,
            row_tensors::floats("score", Datatype::Fp32, &[best.len()], scores)?,
        ])
    }
}
