//! Fusion of factors and summands of channels into the weights of a convolution, and of zeros
//! around its input into its padding.

use super::steps::Steps;
use crate::axes;
use crate::draft::Draft;
use crate::step::{Binary, Op};
use crate::trace::{PlanTensor, Tracer};
use graph::error::Result;

pub(super) fn run(t: &mut Tracer<'_>, steps: &mut Steps) -> Result<()> {
    for at in 0..steps.len() {
        while let Some(draft) = padded(steps, at) {
            steps.put(at, draft);
        }
        // Repeated, since a factor and a summand may follow each other.
        while let Some((user, draft)) = affine(t, steps, at)? {
            steps.remove(user);
            steps.put(at, draft);
        }
    }
    Ok(())
}

/// The convolution with the preceding padding as its own.
fn padded(steps: &mut Steps, at: usize) -> Option<Draft> {
    let conv = steps.get(at).filter(|draft| draft.is_float())?;
    let Op::Conv(window) = &conv.op else { return None };
    let (before, pad) = steps.own_maker(conv.inputs.first()?)?;
    // A convolution pads with zeros, and only along the axes of its window.
    let Op::Pad(padding, 0.0) = &pad.op else { return None };
    let [(0, 0), (0, 0), around @ ..] = &padding[..] else { return None };
    let mut window = window.clone();
    for (own, more) in window.padding.iter_mut().zip(around) {
        *own = (own.0 + more.0, own.1 + more.1);
    }
    let mut draft = Draft { op: Op::Conv(window), ..conv.clone() };
    *draft.inputs.first_mut()? = pad.inputs.first()?.clone();
    steps.remove(before);
    Some(draft)
}

/// The convolution with the following step in its weights.
fn affine(t: &mut Tracer<'_>, steps: &Steps, at: usize) -> Result<Option<(usize, Draft)>> {
    let Some(conv) = steps.get(at).filter(|draft| draft.is_float()) else { return Ok(None) };
    let Some((weight_axis, weight, bias)) = constants(conv) else { return Ok(None) };
    let Some((user, next)) = steps.next(conv) else { return Ok(None) };
    let Some((binary, factor)) = by_channel(t, conv, next)? else { return Ok(None) };
    let channels = weight.shape.get(weight_axis).copied().unwrap_or(0);
    let Some(line) = line(t, &factor, channels)? else { return Ok(None) };
    let (mut weight, mut bias) = (weight.clone(), bias.cloned());
    match binary {
        Binary::Mul | Binary::Div => {
            let mut shape = vec![1; weight.rank()];
            shape.iter_mut().skip(weight_axis).take(1).for_each(|length| *length = channels);
            let across = t.reshape(&line, &shape)?;
            weight = t.binary(binary, &weight, &across)?;
            bias = match bias {
                Some(bias) => Some(t.binary(binary, &bias, &line)?),
                None => None,
            };
        }
        _ => {
            let zero = axes::full(t, weight.elem, vec![channels], 0.0)?;
            bias = Some(t.binary(binary, &bias.unwrap_or(zero), &line)?);
        }
    }
    let inputs = conv.inputs.first().cloned().into_iter().chain([weight]).chain(bias).collect();
    let outputs = next.outputs.clone();
    Ok(Some((user, Draft { op: conv.op.clone(), inputs, outputs, node: conv.node.clone() })))
}

/// The axis of the weights for the result's channels, the weights, and the bias.
fn constants(conv: &Draft) -> Option<(usize, &PlanTensor, Option<&PlanTensor>)> {
    let axis = match &conv.op {
        Op::Conv(_) => 0,
        // With groups, this axis of the weights has the channels of one group only.
        Op::ConvTranspose(window, _) if window.groups == 1 => 1,
        _ => return None,
    };
    let (weight, bias) = (conv.inputs.get(1)?, conv.inputs.get(2));
    let known = weight.is_constant() && bias.is_none_or(PlanTensor::is_constant);
    known.then_some((axis, weight, bias))
}

/// The operation of a step on each channel.
fn by_channel(
    t: &mut Tracer<'_>,
    conv: &Draft,
    next: &Draft,
) -> Result<Option<(Binary, PlanTensor)>> {
    let Some((var, _)) = conv.result() else { return Ok(None) };
    for binary in [Binary::Mul, Binary::Div, Binary::Add, Binary::Sub] {
        if let Some(number) = next.number(binary) {
            return Ok(Some((binary, t.number(graph::elem::Elem::F32, number)?)));
        }
        let Some((factor, left)) = next.beside(binary, var) else { continue };
        // With the convolution on the right, only products and sums can move into its weights.
        let turned = left || matches!(binary, Binary::Mul | Binary::Add);
        if turned
            && factor.is_constant()
            // A factor of lower rank could be aligned with an axis other than that of the channels.
            && factor.rank() == conv.inputs.first().map_or(0, PlanTensor::rank)
        {
            return Ok(Some((binary, factor.clone())));
        }
    }
    Ok(None)
}

/// One number for each channel, if the tensor has one for each, or one for all.
fn line(t: &mut Tracer<'_>, factor: &PlanTensor, channels: usize) -> Result<Option<PlanTensor>> {
    if factor.len() == 1 {
        let one = t.reshape(factor, &[1])?;
        return axes::expand(t, &one, &[channels]).map(Some);
    }
    if factor.len() == channels && factor.shape.get(1) == Some(&channels) {
        return t.reshape(factor, &[channels]).map(Some);
    }
    Ok(None)
}
