//! Scores of attention and their softmax.

use super::super::attention::repeated;
use crate::axes::Cut;
use crate::step::{Binary, Op, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, matmul};
use graph::error::{OnnxError, Result};

/// Queries, keys and values, each `[batch, heads, length, size]`.
#[derive(Clone, Debug)]
pub(super) struct Heads {
    pub(super) query: PlanTensor,
    pub(super) key: PlanTensor,
    pub(super) value: PlanTensor,
}

/// The computation of scores from queries and keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Scoring {
    /// Factor of the products; 0 means 1 / sqrt(size of a head).
    pub(super) scale: f64,
    /// The bound of the scores, by a hyperbolic tangent; 0 for none.
    pub(super) cap: f64,
    /// The sum that is added to the scores.
    pub(super) bias: Option<PlanTensor>,
    /// An additional score for each head, `[1, heads, 1, 1]`, with a share that no value receives.
    pub(super) sink: Option<PlanTensor>,
}

/// The result `[batch, heads, length, size]`, the scores, and their shares.
pub(super) struct Attended {
    pub(super) y: PlanTensor,
    pub(super) scores: PlanTensor,
    pub(super) shares: PlanTensor,
}

/// `softmax(cap(query key^T * scale) + bias) value`; heads may share keys and values.
///
/// # Errors
/// If shapes do not fit.
pub(super) fn attend(t: &mut Tracer<'_>, heads: &Heads, scoring: &Scoring) -> Result<Attended> {
    let [_, count, _, size] = heads.query.shape[..] else {
        return Err(OnnxError::input(format!(
            "queries of shape {:?} do not have four axes",
            heads.query.shape
        )));
    };
    let (key, value) = (repeated(t, &heads.key, count)?, repeated(t, &heads.value, count)?);
    let turned = axes::swap(t, &key, 2, 3)?;
    let product = matmul::matmul(t, &heads.query, &turned)?;
    let scale =
        if scoring.scale == 0.0 { 1.0 / (size.max(1) as f64).sqrt() } else { scoring.scale };
    let mut scores = t.scalar(Binary::Mul, &product, scale)?;
    if scoring.cap > 0.0 {
        let small = t.scalar(Binary::Div, &scores, scoring.cap)?;
        let bent = t.unary(Unary::Tanh, &small)?;
        scores = t.scalar(Binary::Mul, &bent, scoring.cap)?;
    }
    if let Some(bias) = &scoring.bias {
        let sum = t.add(&scores, bias)?;
        if sum.shape != scores.shape {
            return Err(OnnxError::input(format!(
                "a bias of shape {:?} does not fit scores of shape {:?}",
                bias.shape, scores.shape
            )));
        }
        scores = sum;
    }
    let shares = shares(t, &scores, scoring.sink.as_ref())?;
    let y = matmul::matmul(t, &shares, &value)?;
    Ok(Attended { y, scores, shares })
}

/// Softmax along the last axis; a sink is an additional element, and its share is dropped.
fn shares(
    t: &mut Tracer<'_>,
    scores: &PlanTensor,
    sink: Option<&PlanTensor>,
) -> Result<PlanTensor> {
    let Some(sink) = sink else {
        return t.emit(Op::Softmax(3), &[scores], scores.elem, scores.shape.clone());
    };
    let [batch, heads, length, total] = scores.shape[..] else {
        return Err(OnnxError::input("the scores must have four axes"));
    };
    let sink = axes::expand(t, sink, &[batch, heads, length, 1])?;
    let all = axes::cat(t, &[scores.clone(), sink], 3)?;
    let shares = t.emit(Op::Softmax(3), &[&all], all.elem, all.shape.clone())?;
    axes::narrow(t, &shares, 3, Cut::range(0, total))
}
