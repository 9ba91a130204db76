//! Normalisations, most of them after a sum.

use super::super::{Call, Outputs, Table};
use super::activation::with_bias;
use super::{channels_first, channels_last, first_of, nothing};
use crate::axes::axis;
use crate::cast;
use crate::step::{Binary, Op, Reduce, Unary};
use crate::trace::{PlanTensor, Tracer, Value};
use graph::Attribute;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[
    ("GroupNorm", |t, call| {
        let x = call.tensor(0)?.clone();
        Ok(vec![Value::Tensor(group(t, call, &x)?)])
    }),
    ("SimplifiedLayerNormalization", simplified),
    ("SkipGroupNorm", skip_group),
    ("SkipLayerNormalization", skip_layer),
    ("SkipSimplifiedLayerNormalization", skip_simplified),
];

pub(super) const STANDARD: Table = &[
    ("SimplifiedLayerNormalization", simplified),
    ("SkipLayerNormalization", skip_layer),
    ("SkipSimplifiedLayerNormalization", skip_simplified),
];

/// The default epsilon of the operators with a sum.
const SKIP_EPSILON: f64 = 1e-12;

/// `x / sqrt(mean(x^2) + epsilon) * scale` over the axes from `at` on, and the reciprocal of the
/// root.
///
/// # Errors
/// If shapes do not fit.
pub(super) fn rms(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    scale: &PlanTensor,
    at: usize,
    epsilon: f64,
) -> Result<(PlanTensor, PlanTensor)> {
    let axes: Vec<usize> = (at..x.rank()).collect();
    let squares = t.mul(x, x)?;
    let mean = t.reduce(Reduce::Mean, &squares, &axes)?;
    let mean = t.scalar(Binary::Add, &mean, epsilon)?;
    let root = t.unary(Unary::Sqrt, &mean)?;
    let inverse = t.unary(Unary::Recip, &root)?;
    let normal = t.mul(x, &inverse)?;
    let scale = cast::cast(t, scale, x.elem)?;
    Ok((t.mul(&normal, &scale)?, inverse))
}

/// The normalisation over the last axis, with scale and bias.
///
/// # Errors
/// If their lengths differ from that of the axis.
pub(super) fn layer(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    scale: &PlanTensor,
    bias: Option<&PlanTensor>,
    epsilon: f64,
) -> Result<PlanTensor> {
    let width = x.shape.last().copied().unwrap_or(0);
    let scale = cast::cast(t, scale, x.elem)?;
    let bias = bias.map(|bias| cast::cast(t, bias, x.elem)).transpose()?;
    if scale.shape != [width] || bias.as_ref().is_some_and(|bias| bias.shape != [width]) {
        return Err(OnnxError::input(format!("gamma and beta must have {width} elements")));
    }
    let inputs: Vec<&PlanTensor> = [x, &scale].into_iter().chain(bias.as_ref()).collect();
    t.emit(Op::LayerNorm(epsilon), &inputs, x.elem, x.shape.clone())
}

/// `input + skip + bias`, in the shape of the input.
fn sum(t: &mut Tracer<'_>, call: &Call<'_>, bias: usize) -> Result<PlanTensor> {
    let (x, skip) = (call.tensor(0)?, call.tensor(1)?);
    let sum = t.add(x, skip)?;
    let sum = with_bias(t, &sum, call.optional(bias)?)?;
    if sum.shape != x.shape {
        return Err(OnnxError::input(format!(
            "a skip of shape {:?} does not fit shape {:?}",
            skip.shape, x.shape
        )));
    }
    Ok(sum)
}

fn wants(call: &Call<'_>, output: usize) -> bool {
    call.node.outputs.get(output).is_some_and(|name| !name.is_empty())
}

fn skip_layer(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let sum = sum(t, call, 4)?;
    let epsilon = call.float_or("epsilon", SKIP_EPSILON)?;
    let y = layer(t, &sum, call.tensor(2)?, call.optional(3)?, epsilon)?;
    let (mut mean, mut inverse) = (nothing(), nothing());
    if wants(call, 1) || wants(call, 2) {
        let (of_sum, over_root) = moments(t, &sum, epsilon)?;
        (mean, inverse) = (Value::Tensor(of_sum), Value::Tensor(over_root));
    }
    Ok(vec![Value::Tensor(y), mean, inverse, Value::Tensor(sum)])
}

/// The mean and the reciprocal of the deviation along the last axis.
fn moments(t: &mut Tracer<'_>, x: &PlanTensor, epsilon: f64) -> Result<(PlanTensor, PlanTensor)> {
    let last =
        x.rank().checked_sub(1).ok_or_else(|| OnnxError::input("a scalar has no last axis"))?;
    let mean = t.reduce(Reduce::Mean, x, &[last])?;
    let centred = t.sub(x, &mean)?;
    let squares = t.mul(&centred, &centred)?;
    let variance = t.reduce(Reduce::Mean, &squares, &[last])?;
    let variance = t.scalar(Binary::Add, &variance, epsilon)?;
    let root = t.unary(Unary::Sqrt, &variance)?;
    // ONNX Runtime gives statistics a type of their own, 32-bit floats.
    let (mean, root) = (cast::cast(t, &mean, Elem::F32)?, cast::cast(t, &root, Elem::F32)?);
    Ok((mean, t.unary(Unary::Recip, &root)?))
}

fn skip_simplified(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let sum = sum(t, call, 3)?;
    let last =
        sum.rank().checked_sub(1).ok_or_else(|| OnnxError::input("a scalar has no last axis"))?;
    let epsilon = call.float_or("epsilon", SKIP_EPSILON)?;
    let (y, inverse) = rms(t, &sum, call.tensor(2)?, last, epsilon)?;
    Ok(vec![Value::Tensor(y), nothing(), Value::Tensor(inverse), Value::Tensor(sum)])
}

fn simplified(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let at = axis(call.int_or("axis", -1)?, x.rank())?;
    let (y, inverse) = rms(t, x, call.tensor(1)?, at, call.float_or("epsilon", 1e-5)?)?;
    Ok(vec![Value::Tensor(y), Value::Tensor(inverse)])
}

/// A group normalisation, followed by an activation (1: SiLU).
fn group(t: &mut Tracer<'_>, call: &Call<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    let last = call.int_or("channels_last", 1)? != 0;
    let first = if last { channels_first(t, x)? } else { x.clone() };
    let groups =
        call.int("groups")?.ok_or_else(|| OnnxError::invalid("attribute groups is missing"))?;
    let more = [("num_groups", Attribute::Int(groups))];
    let inputs = [Some(&first), call.optional(1)?, call.optional(2)?];
    let mut y = first_of(t, call, "GroupNormalization", &more, &inputs)?;
    match call.int_or("activation", 0)? {
        0 => {}
        1 => {
            let gate = t.unary(Unary::Sigmoid, &y)?;
            y = t.mul(&y, &gate)?;
        }
        other => {
            return Err(OnnxError::unsupported(format!("activation {other} is not supported")));
        }
    }
    if last { channels_last(t, &y) } else { Ok(y) }
}

/// The normalisation of `x + skip + bias`, and that sum.
fn skip_group(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, skip) = (call.tensor(0)?, call.tensor(3)?);
    let last = call.int_or("channels_last", 1)? != 0;
    let channels = x.shape.get(if last { x.rank().saturating_sub(1) } else { 1 }).copied();
    let channels = channels.unwrap_or(0);
    let skip = by_channel(t, skip, channels, (last, x.rank()))?;
    let mut sum = t.add(x, &skip)?;
    if let Some(bias) = call.optional(4)? {
        let bias = by_channel(t, bias, channels, (last, x.rank()))?;
        sum = t.add(&sum, &bias)?;
    }
    if sum.shape != x.shape {
        return Err(OnnxError::input(format!(
            "a skip of shape {:?} does not fit shape {:?}",
            skip.shape, x.shape
        )));
    }
    let y = group(t, call, &sum)?;
    Ok(vec![Value::Tensor(y), Value::Tensor(sum)])
}

/// `[batch, channels]` or `[channels]` in the shape of an image; images are unchanged.
fn by_channel(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    channels: usize,
    (last, rank): (bool, usize),
) -> Result<PlanTensor> {
    let batch = match &x.shape[..] {
        [own] if *own == channels => 1,
        [batch, own] if *own == channels => *batch,
        _ => return Ok(x.clone()),
    };
    let mut shape = vec![1; rank];
    if let Some(rows) = shape.first_mut() {
        *rows = batch;
    }
    let at = if last { rank.saturating_sub(1) } else { 1 };
    if let Some(own) = shape.get_mut(at) {
        *own = channels;
    }
    t.reshape(x, &shape)
}
