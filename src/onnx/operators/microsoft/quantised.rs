//! Operators on quantised integers of 8 and 16 bits: the inputs are dequantised, and the result is
//! quantised again.

use super::super::quantise::{coded, dequantise, quantise, real, shifted, to_range};
use super::super::{Call, Outputs, Table, one};
use super::{as_standard, channels_first, channels_last, first, first_of};
use crate::axes::axis;
use crate::step::{Binary, Reduce, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, build, cast};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[
    ("DequantizeLinear", dequantise),
    ("MulInteger", |t, call| {
        let x = shifted(t, call.tensor(0)?, call.optional(1)?, None)?;
        let y = shifted(t, call.tensor(2)?, call.optional(3)?, None)?;
        let product = t.mul(&x, &y)?;
        one(cast::cast_inside(t, &product, Elem::I32)?)
    }),
    ("QLinearAdd", sum),
    ("QLinearAveragePool", |t, call| pooled(t, call, "AveragePool")),
    ("QLinearConcat", concat),
    ("QLinearGlobalAveragePool", |t, call| pooled(t, call, "GlobalAveragePool")),
    ("QLinearLeakyRelu", |t, call| of_one(t, call, leaky)),
    ("QLinearMul", product),
    ("QLinearReduceMean", |t, call| of_one(t, call, mean)),
    ("QLinearSigmoid", |t, call| of_one(t, call, |t, _, x| t.unary(Unary::Sigmoid, x))),
    ("QLinearSoftmax", |t, call| {
        of_one(t, call, |t, call, x| {
            // The meaning of the axes depends on the version that the attribute states.
            let opset = call.int_or("opset", 13)?;
            first(as_standard(t, call, ("Softmax", opset), &[], &[Some(x)])?)
        })
    }),
    ("QLinearWhere", choice),
    ("QuantizeLinear", quantise),
    ("ReduceSumInteger", |t, call| {
        let x = cast::cast(t, call.tensor(0)?, Elem::I32)?;
        one(reduced(t, call, &x, Reduce::Sum)?)
    }),
];

type OfOne = fn(&mut Tracer<'_>, &Call<'_>, &PlanTensor) -> Result<PlanTensor>;

/// Inputs: data, scale and zero point; scale and zero point of the result.
fn of_one(t: &mut Tracer<'_>, call: &Call<'_>, run: OfOne) -> Outputs {
    let x = call.tensor(0)?;
    let number = real(t, x, call.tensor(1)?, call.optional(2)?)?;
    let result = run(t, call, &number)?;
    one(coded(t, &result, call.tensor(3)?, call.optional(4)?, x.elem)?)
}

/// Inputs: data, scale and zero point of each, and scale and zero point of the result.
fn product(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, y) = (call.tensor(0)?, call.tensor(3)?);
    let a = real(t, x, call.tensor(1)?, call.optional(2)?)?;
    let b = real(t, y, call.tensor(4)?, call.optional(5)?)?;
    let result = t.mul(&a, &b)?;
    one(coded(t, &result, call.tensor(6)?, call.optional(7)?, x.elem)?)
}

/// `a * a_scale / c_scale + b * b_scale / c_scale + rest`, with all zero points in the rest: ONNX
/// Runtime rounds in this order, which matters if the sum is a tie between two integers.
fn sum(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let number = |t: &mut Tracer<'_>, at: usize| -> Result<PlanTensor> {
        match call.optional(at)? {
            Some(given) => {
                let given = cast::cast(t, given, Elem::F32)?;
                t.reshape(&given, &[])
            }
            None => t.number(Elem::F32, 0.0),
        }
    };
    let (scale, mut rest) = (number(t, 6)?, number(t, 7)?);
    let mut total: Option<PlanTensor> = None;
    let mut zeros: Option<PlanTensor> = None;
    for at in [0, 3] {
        let (own, zero) = (number(t, at + 1)?, number(t, at + 2)?);
        let ratio = t.div(&own, &scale)?;
        let codes = cast::cast(t, call.tensor(at)?, Elem::F32)?;
        let (part, shift) = (t.mul(&codes, &ratio)?, t.mul(&zero, &ratio)?);
        total = Some(added(t, total, part)?);
        zeros = Some(added(t, zeros, shift)?);
    }
    let (Some(total), Some(zeros)) = (total, zeros) else {
        return Err(OnnxError::internal("expected two summands"));
    };
    rest = t.sub(&rest, &zeros)?;
    let total = t.add(&total, &rest)?;
    one(to_range(t, &total, None, call.tensor(0)?.elem)?)
}

fn added(t: &mut Tracer<'_>, sum: Option<PlanTensor>, next: PlanTensor) -> Result<PlanTensor> {
    match sum {
        Some(sum) => t.add(&sum, &next),
        None => Ok(next),
    }
}

fn leaky(t: &mut Tracer<'_>, call: &Call<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    let below = t.scalar(Binary::Mul, x, call.float_or("alpha", 0.01)?)?;
    let negative = build::compare_zero(t, x)?;
    t.choose(&negative, &below, x)
}

fn mean(t: &mut Tracer<'_>, call: &Call<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    reduced(t, call, x, Reduce::Mean)
}

/// Reduces the axes that an attribute names, or all of them.
fn reduced(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    x: &PlanTensor,
    reduce: Reduce,
) -> Result<PlanTensor> {
    let axes = match call.ints("axes")?.filter(|axes| !axes.is_empty()) {
        Some(axes) => axes.iter().map(|at| axis(*at, x.rank())).collect::<Result<_, _>>()?,
        None => (0..x.rank()).collect::<Vec<_>>(),
    };
    let reduced = t.reduce(reduce, x, &axes)?;
    if call.int_or("keepdims", 1)? != 0 { Ok(reduced) } else { axes::squeeze(t, &reduced, &axes) }
}

fn pooled(t: &mut Tracer<'_>, call: &Call<'_>, op: &str) -> Outputs {
    let x = call.tensor(0)?;
    let mut number = real(t, x, call.tensor(1)?, call.optional(2)?)?;
    let last = call.int_or("channels_last", 0)? != 0;
    if last {
        number = channels_first(t, &number)?;
    }
    let mut result = first_of(t, call, op, &[], &[Some(&number)])?;
    if last {
        result = channels_last(t, &result)?;
    }
    one(coded(t, &result, call.tensor(3)?, call.optional(4)?, x.elem)?)
}

/// Scale and zero point of the result, then data, scale and zero point of each part.
fn concat(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let mut parts = Vec::new();
    for at in (2..call.inputs.len()).step_by(3) {
        parts.push(real(t, call.tensor(at)?, call.tensor(at + 1)?, call.optional(at + 2)?)?);
    }
    let rank = parts.first().map_or(0, PlanTensor::rank);
    let at = axis(
        call.int("axis")?.ok_or_else(|| OnnxError::invalid("attribute axis is missing"))?,
        rank,
    )?;
    let whole = axes::cat(t, &parts, at)?;
    let zero = call.tensor(1)?;
    one(coded(t, &whole, call.tensor(0)?, Some(zero), zero.elem)?)
}

fn choice(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = real(t, call.tensor(1)?, call.tensor(2)?, call.optional(3)?)?;
    let y = real(t, call.tensor(4)?, call.tensor(5)?, call.optional(6)?)?;
    let chosen = t.choose(call.tensor(0)?, &x, &y)?;
    one(coded(t, &chosen, call.tensor(7)?, call.optional(8)?, call.tensor(1)?.elem)?)
}
