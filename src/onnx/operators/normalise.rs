//! Normalisations, with the formulas of the ONNX operators of the same names.

use super::{Call, Outputs, Table, one, several};
use crate::axes::axis;
use crate::step::{Binary, Op, Reduce, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, cast};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[
    ("BatchNormalization", batch),
    ("GroupNormalization", group),
    ("InstanceNormalization", |t, call| {
        let x = call.tensor(0)?;
        let axes: Vec<usize> = (2..x.rank()).collect();
        let epsilon = call.float_or("epsilon", 1e-5)?;
        let (normal, _, _) = standardised(t, x, &axes, epsilon)?;
        one(affine(t, &normal, call.tensor(1)?, Some(call.tensor(2)?))?)
    }),
    ("LRN", lrn),
    ("LayerNormalization", layer),
    ("LpNormalization", |t, call| {
        let x = call.tensor(0)?;
        let at = axis(call.int_or("axis", -1)?, x.rank())?;
        let norm = if call.int_or("p", 2)? == 1 {
            let size = t.unary(Unary::Abs, x)?;
            t.reduce(Reduce::Sum, &size, &[at])?
        } else {
            let squares = t.mul(x, x)?;
            let sum = t.reduce(Reduce::Sum, &squares, &[at])?;
            t.unary(Unary::Sqrt, &sum)?
        };
        // A slice of zeros stays zero.
        let zero = t.number(x.elem, 0.0)?;
        let none = t.compare(crate::step::Compare::Equal, &norm, &zero)?;
        let one_number = t.number(x.elem, 1.0)?;
        let norm = t.choose(&none, &one_number, &norm)?;
        one(t.div(x, &norm)?)
    }),
    ("MeanVarianceNormalization", |t, call| {
        let x = call.tensor(0)?;
        let all: Vec<i64> = (0..).take(x.rank()).filter(|at| *at != 1).collect();
        // The default is all axes except that of the channels, for any rank (as in ONNX Runtime).
        let axes = call.ints("axes")?.unwrap_or(&all);
        let axes = axes.iter().map(|at| axis(*at, x.rank())).collect::<Result<Vec<_>, _>>()?;
        let mean = t.reduce(Reduce::Mean, x, &axes)?;
        let centred = t.sub(x, &mean)?;
        let squares = t.mul(&centred, &centred)?;
        let variance = t.reduce(Reduce::Mean, &squares, &axes)?;
        let deviation = t.unary(Unary::Sqrt, &variance)?;
        // The function body of ONNX adds 1e-9 to the deviation, not to the variance.
        let deviation = t.scalar(Binary::Add, &deviation, 1e-9)?;
        one(t.div(&centred, &deviation)?)
    }),
    ("RMSNormalization", rms),
];

/// A value for each channel, which broadcasts over the axes behind.
fn per_channel(t: &mut Tracer<'_>, x: &PlanTensor, rank: usize) -> Result<PlanTensor> {
    let behind = std::iter::repeat_n(1, rank.saturating_sub(2));
    let shape: Vec<usize> = std::iter::once(x.len()).chain(behind).collect();
    t.reshape(x, &shape)
}

/// Scales and shifts each channel.
fn affine(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    scale: &PlanTensor,
    bias: Option<&PlanTensor>,
) -> Result<PlanTensor> {
    let scale = cast::cast(t, scale, x.elem)?;
    let scale = per_channel(t, &scale, x.rank())?;
    let scaled = t.mul(x, &scale)?;
    let Some(bias) = bias else { return Ok(scaled) };
    let bias = cast::cast(t, bias, x.elem)?;
    let bias = per_channel(t, &bias, x.rank())?;
    t.add(&scaled, &bias)
}

/// The tensor with mean 0 and variance 1 over some axes, the mean, and the reciprocal of the
/// deviation.
fn standardised(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    axes: &[usize],
    epsilon: f64,
) -> Result<(PlanTensor, PlanTensor, PlanTensor)> {
    let mean = t.reduce(Reduce::Mean, x, axes)?;
    let centred = t.sub(x, &mean)?;
    let squares = t.mul(&centred, &centred)?;
    let variance = t.reduce(Reduce::Mean, &squares, axes)?;
    let variance = t.scalar(Binary::Add, &variance, epsilon)?;
    let root = t.unary(Unary::Sqrt, &variance)?;
    let inverse = t.unary(Unary::Recip, &root)?;
    let normal = t.mul(&centred, &inverse)?;
    Ok((normal, mean, inverse))
}

/// At inference: one factor and one summand for each channel, which are constants.
fn batch(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let epsilon = call.float_or("epsilon", 1e-5)?;
    // Before opset 7 `is_test` selected the mode; one output is enough for inference only.
    let training = call.int_or("training_mode", 0)? != 0
        || (call.opset() < 7 && call.int_or("is_test", 0)? == 0 && call.outputs() > 1);
    let (mut mean, mut variance) = (call.tensor(3)?.clone(), call.tensor(4)?.clone());
    let mut running = Vec::new();
    if training {
        let axes: Vec<usize> = (0..x.rank()).filter(|at| *at != 1).collect();
        let (before_mean, before_variance) = (mean, variance);
        let length = before_mean.len();
        mean = t.reduce(Reduce::Mean, x, &axes)?;
        let centred = t.sub(x, &mean)?;
        let squares = t.mul(&centred, &centred)?;
        variance = t.reduce(Reduce::Mean, &squares, &axes)?;
        (mean, variance) = (t.reshape(&mean, &[length])?, t.reshape(&variance, &[length])?);
        let momentum = call.float_or("momentum", 0.9)?;
        for (before, now) in [(before_mean, &mean), (before_variance, &variance)] {
            let now = cast::cast(t, now, before.elem)?;
            // The momentum weights the old value in ONNX, the new one in PyTorch.
            let old = t.scalar(Binary::Mul, &before, momentum)?;
            let new = t.scalar(Binary::Mul, &now, 1.0 - momentum)?;
            running.push(t.add(&old, &new)?);
        }
    }
    // Since opset 15 scale and statistics may have types other than that of the data.
    let variance = cast::cast(t, &variance, Elem::F32)?;
    let variance = t.scalar(Binary::Add, &variance, epsilon)?;
    let root = t.unary(Unary::Sqrt, &variance)?;
    let (scale, bias) =
        (cast::cast(t, call.tensor(1)?, Elem::F32)?, cast::cast(t, call.tensor(2)?, Elem::F32)?);
    let mean = cast::cast(t, &mean, Elem::F32)?;
    let factor = t.div(&scale, &root)?;
    let shift = t.mul(&mean, &factor)?;
    let summand = t.sub(&bias, &shift)?;
    let y = affine(t, x, &factor, Some(&summand))?;
    several([y].into_iter().chain(running))
}

fn group(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, scale, bias) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let groups = usize::try_from(call.int("num_groups")?.unwrap_or(0)).unwrap_or(0);
    let (batch, channels) = match &x.shape[..] {
        [batch, channels, ..] if groups > 0 && channels % groups == 0 => (*batch, *channels),
        shape => {
            return Err(OnnxError::input(format!(
                "shape {shape:?} cannot be divided into {groups} groups"
            )));
        }
    };
    let rest = x.len() / (batch * groups).max(1);
    let apart = t.reshape(x, &[batch, groups, rest])?;
    let (normal, _, _) = standardised(t, &apart, &[2], call.float_or("epsilon", 1e-5)?)?;
    // Before opset 21, scale and bias belonged to groups.
    let normal = if scale.len() == groups && call.opset() < 21 {
        let affine = affine(t, &normal, scale, Some(bias))?;
        return one(t.reshape(&affine, &x.shape)?);
    } else {
        t.reshape(&normal, &x.shape)?
    };
    if scale.len() != channels {
        return Err(OnnxError::input(format!(
            "{} scales do not fit {channels} channels",
            scale.len()
        )));
    }
    one(affine(t, &normal, scale, Some(bias))?)
}

fn layer(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, scale, bias) = (call.tensor(0)?, call.tensor(1)?, call.optional(2)?);
    let at = axis(call.int_or("axis", -1)?, x.rank())?;
    let epsilon = call.float_or("epsilon", 1e-5)?;
    let last = x.shape.last().copied().unwrap_or(0);
    let line = |t: &PlanTensor| t.shape == [last];
    let plain = at + 1 == x.rank() && line(scale) && bias.is_none_or(line);
    // The step returns neither mean nor deviation.
    if plain && call.outputs() == 1 && scale.elem == x.elem {
        let inputs: Vec<&PlanTensor> = [x, scale].into_iter().chain(bias).collect();
        return one(t.emit(Op::LayerNorm(epsilon), &inputs, x.elem, x.shape.clone())?);
    }
    let axes: Vec<usize> = (at..x.rank()).collect();
    let (normal, mean, inverse) = standardised(t, x, &axes, epsilon)?;
    let mut y = t.mul(&normal, scale)?;
    if let Some(bias) = bias {
        y = t.add(&y, bias)?;
    }
    several([y, mean, inverse])
}

fn rms(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, scale) = (call.tensor(0)?, call.tensor(1)?);
    let at = axis(call.int_or("axis", -1)?, x.rank())?;
    let axes: Vec<usize> = (at..x.rank()).collect();
    let squares = t.mul(x, x)?;
    let mean = t.reduce(Reduce::Mean, &squares, &axes)?;
    let mean = t.scalar(Binary::Add, &mean, call.float_or("epsilon", 1e-5)?)?;
    let root = t.unary(Unary::Sqrt, &mean)?;
    let normal = t.div(x, &root)?;
    let scale = cast::cast(t, scale, x.elem)?;
    one(t.mul(&normal, &scale)?)
}

/// Divides by the sums of nearby channels: `x / (bias + alpha / size * sum of squares) ^ beta`.
fn lrn(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let size = call.int("size")?.and_then(|size| usize::try_from(size).ok());
    let size = size
        // Each place of the window becomes a step, so that the size needs a bound.
        .filter(|size| (1..=1 << 16).contains(size))
        .ok_or_else(|| OnnxError::invalid("attribute size must be greater than zero"))?;
    let channels = x
        .shape
        .get(1)
        .copied()
        .ok_or_else(|| OnnxError::input("the axis of the channels is missing"))?;
    let squares = t.mul(x, x)?;
    let mut padding = vec![(0, 0); x.rank()];
    if let Some(pair) = padding.get_mut(1) {
        // ONNX: floor((size - 1) / 2) channels in front, ceil((size - 1) / 2) behind.
        *pair = ((size - 1) / 2, size / 2);
    }
    let padded = axes::pad(t, &squares, &padding, 0.0)?;
    let mut sum = axes::narrow(t, &padded, 1, crate::axes::Cut::range(0, channels))?;
    for at in 1..size {
        let next = axes::narrow(t, &padded, 1, crate::axes::Cut::range(at, at + channels))?;
        sum = t.add(&sum, &next)?;
    }
    let scaled = t.scalar(Binary::Mul, &sum, call.float_or("alpha", 1e-4)? / size as f64)?;
    let base = t.scalar(Binary::Add, &scaled, call.float_or("bias", 1.0)?)?;
    let power = t.scalar(Binary::Pow, &base, call.float_or("beta", 0.75)?)?;
    one(t.div(x, &power)?)
}
