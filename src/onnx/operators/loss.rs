//! Losses, which exports of training graphs contain.

use super::{Call, Table, one, several};
use crate::step::{Binary, Compare, Op, Reduce, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, cast, indices};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[
    ("NegativeLogLikelihoodLoss", |t, call| {
        one(likelihood(t, call, call.tensor(0)?, call.tensor(1)?, call.optional(2)?)?)
    }),
    ("SoftmaxCrossEntropyLoss", |t, call| {
        let x = call.tensor(0)?;
        let shape = x.shape.clone();
        let logs = t.emit(Op::LogSoftmax(1), &[x], x.elem, shape)?;
        let loss = likelihood(t, call, &logs, call.tensor(1)?, call.optional(2)?)?;
        several([loss, logs])
    }),
];

/// The negative logarithms at the targets, weighted by class.
///
/// # Shapes
/// - logs: `[rows, classes, ...]`
/// - target: `[rows, ...]`
fn likelihood(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    logs: &PlanTensor,
    target: &PlanTensor,
    weight: Option<&PlanTensor>,
) -> Result<PlanTensor> {
    let classes = logs
        .shape
        .get(1)
        .copied()
        .ok_or_else(|| OnnxError::input("the axis of the classes is missing"))?;
    let mut expected = logs.shape.clone();
    expected.remove(1);
    if target.shape != expected || weight.is_some_and(|weight| weight.shape != [classes]) {
        return Err(OnnxError::input(format!(
            "targets of shape {:?} do not fit shape {:?}",
            target.shape, logs.shape
        )));
    }
    let target = cast::cast(t, target, Elem::I64)?;
    let ignored = match call.int("ignore_index")? {
        Some(index) => {
            let index = t.number(Elem::I64, index as f64)?;
            Some(t.compare(Compare::Equal, &target, &index)?)
        }
        None => None,
    };
    let zero = t.number(Elem::I64, 0.0)?;
    // An ignored index may be out of range; class 0 takes its place, with weight 0.
    let target = match &ignored {
        Some(ignored) => t.choose(ignored, &zero, &target)?,
        None => target,
    };
    let index = axes::unsqueeze(t, &target, 1)?;
    let index = indices::places_of(t, &index, classes)?;
    let picked = indices::gather(t, logs, 1, &index)?;
    let picked = axes::squeeze(t, &picked, &[1])?;
    let loss = t.unary(Unary::Neg, &picked)?;
    let weights = weights(t, weight, &target, ignored.as_ref(), loss.elem)?;
    let weighted = match &weights {
        Some(weights) => t.mul(&loss, weights)?,
        None => loss,
    };
    let axes: Vec<usize> = (0..weighted.rank()).collect();
    match call.text("reduction")?.unwrap_or("mean") {
        "none" => Ok(weighted),
        "sum" => {
            let sum = t.reduce(Reduce::Sum, &weighted, &axes)?;
            axes::squeeze(t, &sum, &axes)
        }
        "mean" => {
            let sum = t.reduce(Reduce::Sum, &weighted, &axes)?;
            let sum = axes::squeeze(t, &sum, &axes)?;
            match weights {
                None => t.scalar(Binary::Div, &sum, weighted.len() as f64),
                Some(weights) => {
                    // ONNX divides by the sum of the weights, which leaves ignored targets out.
                    let all = t.reduce(Reduce::Sum, &weights, &axes)?;
                    let all = axes::squeeze(t, &all, &axes)?;
                    t.div(&sum, &all)
                }
            }
        }
        other => Err(OnnxError::unsupported(format!("reduction '{other}' is not supported"))),
    }
}

/// The weight of each target; zero for ignored ones.
fn weights(
    t: &mut Tracer<'_>,
    weight: Option<&PlanTensor>,
    target: &PlanTensor,
    ignored: Option<&PlanTensor>,
    elem: Elem,
) -> Result<Option<PlanTensor>> {
    let mut weights = match weight {
        Some(weight) => {
            let flat = t.reshape(target, &[target.len()])?;
            let picked = indices::select(t, weight, 0, &flat)?;
            Some(t.reshape(&picked, &target.shape)?)
        }
        None => None,
    };
    if let Some(ignored) = ignored {
        let ones = match weights {
            Some(weights) => weights,
            None => axes::full(t, elem, target.shape.clone(), 1.0)?,
        };
        let zero = t.number(elem, 0.0)?;
        weights = Some(t.choose(ignored, &zero, &ones)?);
    }
    Ok(weights)
}
