//! The transformation of scores (`post_transform`), in 32 bits like ONNX Runtime.

use graph::error::{OnnxError, Result};
use std::f32::consts::{PI, SQRT_2};

/// A transformation of the scores of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Transform {
    /// # Errors
    /// If the name is not supported.
    pub(super) fn named(name: Option<&str>) -> Result<Transform> {
        Ok(match name.unwrap_or("NONE") {
            "NONE" => Transform::None,
            "SOFTMAX" => Transform::Softmax,
            "LOGISTIC" => Transform::Logistic,
            "SOFTMAX_ZERO" => Transform::SoftmaxZero,
            "PROBIT" => Transform::Probit,
            other => {
                return Err(OnnxError::unsupported(format!(
                    "post_transform: '{other}' is not supported"
                )));
            }
        })
    }

    /// Transforms the scores of one row. A single score is transformed by PROBIT only.
    pub(super) fn row(self, scores: &mut [f32]) {
        match self {
            Transform::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            _ if scores.len() < 2 => {}
            Transform::None => {}
            Transform::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Transform::Softmax => softmax(scores, false),
            Transform::SoftmaxZero => softmax(scores, true),
        }
    }
}

pub(super) fn logistic(value: f32) -> f32 {
    // The exponential of a negative number does not overflow.
    let positive = 1.0 / (1.0 + (-value.abs()).exp());
    if value < 0.0 { 1.0 - positive } else { positive }
}

/// `keeps_zero`: scores near zero are excluded from the sum and stay near zero.
fn softmax(scores: &mut [f32], keeps_zero: bool) {
    let most =
        scores.iter().fold(f32::MIN, |most, score| if *score > most { *score } else { most });
    let mut sum = 0.0;
    for score in &mut *scores {
        if keeps_zero && !(*score > 1e-7 || *score < -1e-7) {
            *score *= (-most).exp();
        } else {
            *score = (*score - most).exp();
            sum += *score;
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The quantile of the normal distribution, by the approximation of the inverse error function of
/// S. Winitzki (2008).
pub(super) fn probit(value: f32) -> f32 {
    let x = 2.0 * value - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (PI * 0.147) + 0.5 * log;
    let root = (-v + (v * v - 1.0 / 0.147 * log).sqrt()).sqrt();
    SQRT_2 * if x < 0.0 { -root } else { root }
}
