//! Fusion of `softmax(q k^T * scale + mask) v` on four axes. A row in which all keys are masked
//! gives zeros; the separate steps gave NaN unless they were guarded against it.

use super::steps::Steps;
use crate::draft::Draft;
use crate::runtime_value::Form;
use crate::step::{Binary, Op, Unary, is_direct};
use crate::trace::{PlanTensor, Tracer};
use graph::error::Result;

pub(super) fn run(t: &mut Tracer<'_>, steps: &mut Steps) -> Result<()> {
    // burn would search for the fastest kernel there.
    if !t.place().host && is_direct() {
        return Ok(());
    }
    for at in 0..steps.len() {
        let Some(found) = find(steps, at) else { continue };
        let Some(last) = steps.get(found.last).cloned() else { continue };
        found.parts.iter().for_each(|part| steps.remove(*part));
        // Keys are transposed in a product; the transposition takes the place of that product.
        let mut shape = found.turned.shape.clone();
        shape.swap(2, 3);
        let (key, step) = t.draft(
            Op::Permute(vec![0, 1, 3, 2]),
            &found.turned,
            Form { elem: found.turned.elem, shape },
        );
        steps.put(found.product, Draft { node: last.node.clone(), ..step });
        let inputs = [found.query, key, found.value].into_iter().chain(found.mask).collect();
        steps.put(found.last, Draft { op: Op::Attention(found.scale), inputs, ..last });
    }
    Ok(())
}

struct AttentionMatch {
    /// Steps that are removed: all except the first product and the last one.
    parts: Vec<usize>,
    product: usize,
    last: usize,
    query: PlanTensor,
    /// The keys, with the last two axes exchanged.
    turned: PlanTensor,
    value: PlanTensor,
    mask: Option<PlanTensor>,
    /// `None` for 1 / sqrt(length of a query).
    scale: Option<f64>,
}

/// Finds the steps around a softmax.
fn find(steps: &Steps, at: usize) -> Option<AttentionMatch> {
    let softmax = steps.get(at).filter(|draft| draft.is_float())?;
    let scores = softmax.inputs.first()?;
    if !matches!(softmax.op, Op::Softmax(3)) || scores.rank() != 4 {
        return None;
    }
    let mut parts = vec![at];
    let (last, end, value) = behind(steps, softmax, &mut parts)?;
    let (mut from, mut maker) = steps.own_maker(scores)?;
    let (mut mask, mut scale) = (None, 1.0);
    if let (Op::Binary(Binary::Add), [x, y]) = (&maker.op, &maker.inputs[..]) {
        // The mask is the other operand; it broadcasts to the scores.
        let (own, other) = if is_scaled_product(steps, x) { (x, y) } else { (y, x) };
        (mask, parts) = (Some(other.clone()), [parts, vec![from]].concat());
        (from, maker) = steps.own_maker(own)?;
    }
    if let Some(number) = number(maker) {
        scale = number;
        parts.push(from);
        (from, maker) = steps.own_maker(maker.inputs.first()?)?;
    }
    let (Op::MatMul, [query, turned]) = (&maker.op, &maker.inputs[..]) else { return None };
    let size = *query.shape.last()?;
    #[allow(clippy::cast_precision_loss, reason = "the length of a row")]
    // The scale in a file is a rounded 32-bit number.
    let usual = (scale * (size as f64).sqrt() - 1.0).abs() < 1e-5;
    let alike = query.rank() == 4 && turned.rank() == 4 && value.rank() == 4 && end.is_float();
    (alike && query.elem == turned.elem).then_some(AttentionMatch {
        parts,
        product: from,
        last,
        query: query.clone(),
        turned: turned.clone(),
        value,
        mask,
        scale: (!usual).then_some(scale),
    })
}

/// The product with the values, after a guard against rows of NaN only.
fn behind<'s>(
    steps: &'s Steps,
    softmax: &'s Draft,
    parts: &mut Vec<usize>,
) -> Option<(usize, &'s Draft, PlanTensor)> {
    let mut shares = softmax.result()?.0;
    let users = steps.users(shares)?;
    // Some exporters replace NaN by zero after the softmax, for rows with all keys masked.
    if users.len() == 2 {
        let is_guard = |at: &&usize| {
            let draft = steps.get(**at);
            draft.is_some_and(|draft| matches!(draft.op, Op::Unary(Unary::IsNan)))
        };
        let guard = *users.iter().find(is_guard)?;
        let (choice_at, choice) = steps.next(steps.get(guard)?)?;
        let (Op::Where, [_, zero, other]) = (&choice.op, &choice.inputs[..]) else { return None };
        if !zero.is_constant() || other.var()? != shares || !users.contains(&choice_at) {
            return None;
        }
        parts.extend([guard, choice_at]);
        shares = choice.result()?.0;
    }
    let (last, end) = steps.only_user(shares)?;
    match (&end.op, &end.inputs[..]) {
        (Op::MatMul, [own, value]) if own.var()? == shares => Some((last, end, value.clone())),
        _ => None,
    }
}

fn is_scaled_product(steps: &Steps, t: &PlanTensor) -> bool {
    let Some((_, mut maker)) = steps.own_maker(t) else { return false };
    if number(maker).is_some() {
        let Some((_, before)) = maker.inputs.first().and_then(|x| steps.own_maker(x)) else {
            return false;
        };
        maker = before;
    }
    matches!(maker.op, Op::MatMul)
}

/// The factor of a step.
fn number(draft: &Draft) -> Option<f64> {
    let over = draft.number(Binary::Div).map(|number| 1.0 / number);
    draft.number(Binary::Mul).or(over)
}
