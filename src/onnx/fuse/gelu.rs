//! Fusion of `x (1 + erf(x / sqrt 2)) / 2`, in any order.

use super::steps::Steps;
use crate::draft::Draft;
use crate::step::{Binary, Op, Unary};
use crate::trace::{PlanTensor, Tracer};
use graph::error::Result;

pub(super) fn run(_: &mut Tracer<'_>, steps: &mut Steps) -> Result<()> {
    for at in 0..steps.len() {
        if let Some((parts, last, x)) = find(steps, at) {
            let Some(draft) = steps.get(last).cloned() else { continue };
            parts.into_iter().for_each(|part| steps.remove(part));
            steps.put(last, Draft { op: Op::Unary(Unary::Gelu), inputs: vec![x], ..draft });
        }
    }
    Ok(())
}

/// The steps of one around an error function, the last of them, and its input.
fn find(steps: &Steps, at: usize) -> Option<(Vec<usize>, usize, PlanTensor)> {
    let erf = steps.get(at).filter(|draft| draft.is_float())?;
    if !matches!(erf.op, Op::Unary(Unary::Erf)) {
        return None;
    }
    let (scale_at, scale) = steps.own_maker(erf.inputs.first()?)?;
    let root = match (scale.number(Binary::Div), scale.number(Binary::Mul)) {
        (Some(number), _) => number,
        (_, Some(number)) => 1.0 / number,
        _ => return None,
    };
    let x = scale.inputs.first()?.clone();
    let (plus_at, plus) = steps.next(erf)?;
    let mut parts = vec![at, scale_at, plus_at];
    // The root of 2 in a file is a rounded number.
    if (root - std::f64::consts::SQRT_2).abs() > 1e-4 || plus.number(Binary::Add) != Some(1.0) {
        return None;
    }
    let (mut last_at, mut last) = steps.next(plus)?;
    let mut var = plus.result()?.0;
    // The factor 1/2 may be at the sum, at x, or at the product.
    let mut halved = false;
    if is_half(last) {
        (halved, var) = (true, last.result()?.0);
        parts.push(last_at);
        (last_at, last) = steps.next(last)?;
    }
    let (other, _) = last.beside(Binary::Mul, var)?;
    if other.var()? != x.var()? {
        let (half_at, half) = steps.own_maker(other)?;
        if halved || !is_half(half) || half.inputs.first()?.var()? != x.var()? {
            return None;
        }
        halved = true;
        parts.push(half_at);
    }
    if !halved {
        parts.push(last_at);
        (last_at, last) = steps.next(last)?;
        halved = is_half(last);
    }
    halved.then_some((parts, last_at, x))
}

fn is_half(draft: &Draft) -> bool {
    draft.number(Binary::Mul) == Some(0.5) || draft.number(Binary::Div) == Some(2.0)
}
