//! Fusion of mean and deviation over the last axis into a layer normalisation.

use super::steps::Steps;
use crate::draft::Draft;
use crate::step::{Binary, Op, Reduce, Unary};
use crate::trace::{PlanTensor, Tracer};
use graph::error::Result;

pub(super) fn run(t: &mut Tracer<'_>, steps: &mut Steps) -> Result<()> {
    for at in 0..steps.len() {
        let Some(found) = find(steps, at) else { continue };
        let Some(draft) = steps.get(found.last).cloned() else { continue };
        let length = found.x.shape.last().copied().unwrap_or(0);
        let mut inputs = vec![found.x];
        for line in std::iter::once(found.scale).chain(found.bias) {
            // The step takes vectors, and a line may have leading axes of length 1.
            inputs.push(t.reshape(&line, &[length])?);
        }
        found.parts.into_iter().for_each(|part| steps.remove(part));
        steps.put(found.last, Draft { op: Op::LayerNorm(found.epsilon), inputs, ..draft });
    }
    Ok(())
}

struct LayerNormMatch {
    /// All steps except the last.
    parts: Vec<usize>,
    last: usize,
    x: PlanTensor,
    epsilon: f64,
    scale: PlanTensor,
    bias: Option<PlanTensor>,
}

/// Finds `(x - mean) / sqrt(variance + epsilon) * scale + bias`, around the root.
fn find(steps: &Steps, at: usize) -> Option<LayerNormMatch> {
    let root = steps.get(at).filter(|draft| draft.is_float())?;
    if !matches!(root.op, Op::Unary(Unary::Sqrt)) {
        return None;
    }
    let (plus_at, plus) = steps.own_maker(root.inputs.first()?)?;
    let epsilon = plus.number(Binary::Add)?;
    let (variance_at, squares) = mean(steps, plus.inputs.first()?)?;
    let (squares_at, centred) = square(steps, squares)?;
    let (centred_at, difference) = steps.maker(centred)?;
    let [x, _] = &difference.inputs[..] else { return None };
    let (m, _) = difference.beside(Binary::Sub, x.var()?)?;
    let (mean_at, of) = mean(steps, m)?;
    let (over_at, over) = steps.next(root)?;
    let (above, left) = over.beside(Binary::Div, root.result()?.0)?;
    // The centred value disappears with its two users, the square and the quotient.
    let own = |user: &usize| [squares_at, over_at].contains(user);
    let both = steps.users(centred.var()?)?.iter().all(own);
    if of.var()? != x.var()? || above.var()? != centred.var()? || left || !both {
        return None;
    }
    let (scaled_at, scaled) = steps.next(over)?;
    let (scale, _) = scaled.beside(Binary::Mul, over.result()?.0)?;
    let parts = vec![plus_at, at, variance_at, squares_at, centred_at, mean_at, over_at];
    let (scale, x) = (is_line(scale, x)?.clone(), x.clone());
    let mut found = LayerNormMatch { parts, last: scaled_at, x, epsilon, scale, bias: None };
    let behind = steps.next(scaled).and_then(|(at, next)| {
        let (bias, _) = next.beside(Binary::Add, scaled.result()?.0)?;
        Some((at, is_line(bias, &found.x)?.clone()))
    });
    if let Some((at, bias)) = behind {
        found.parts.push(scaled_at);
        (found.last, found.bias) = (at, Some(bias));
    }
    Some(found)
}

/// The tensor of which this is the mean over the last axis.
fn mean<'s>(steps: &'s Steps, t: &PlanTensor) -> Option<(usize, &'s PlanTensor)> {
    let (at, draft) = steps.own_maker(t)?;
    let x = draft.inputs.first()?;
    let last = x.rank().checked_sub(1)?;
    matches!(draft.op, Op::Reduce(Reduce::Mean, axis) if axis == last).then_some((at, x))
}

/// The tensor of which this is the square.
fn square<'s>(steps: &'s Steps, t: &PlanTensor) -> Option<(usize, &'s PlanTensor)> {
    let (at, draft) = steps.own_maker(t)?;
    let same = match (&draft.op, &draft.inputs[..]) {
        (Op::Binary(Binary::Mul), [x, y]) => x.var() == y.var(),
        _ => draft.number(Binary::Pow) == Some(2.0),
    };
    same.then_some((at, draft.inputs.first()?))
}

/// A constant with a value for each place of the last axis.
fn is_line<'t>(line: &'t PlanTensor, x: &PlanTensor) -> Option<&'t PlanTensor> {
    let length = x.shape.last()?;
    let fits = line.is_constant() && line.len() == *length && line.shape.last() == Some(length);
    fits.then_some(line)
}
