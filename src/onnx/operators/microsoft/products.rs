//! Products and convolutions of quantised integers of 8 and 16 bits.

use super::super::quantise::{dynamic_codes, q_conv, shifted, to_range};
use super::super::{Call, Outputs, Table, one};
use super::activation::with_bias;
use super::{channels_first, channels_last};
use crate::step::Binary;
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, cast, matmul};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[
    ("DynamicQuantizeMatMul", |t, call| {
        let (x, scale) = dynamic_codes(t, call.tensor(0)?)?;
        let w = shifted(t, call.tensor(1)?, call.optional(3)?, Some(1))?;
        let product = scaled(t, (&x, &scale), (&w, call.tensor(2)?))?;
        one(with_bias(t, &product, call.optional(4)?)?)
    }),
    ("MatMulInteger16", |t, call| {
        let (x, y) = (
            cast::cast(t, call.tensor(0)?, Elem::I32)?,
            cast::cast(t, call.tensor(1)?, Elem::I32)?,
        );
        one(matmul::matmul(t, &x, &y)?)
    }),
    ("MatMulIntegerToFloat", |t, call| {
        let x = shifted(t, call.tensor(0)?, call.optional(4)?, None)?;
        let w = shifted(t, call.tensor(1)?, call.optional(5)?, Some(1))?;
        let product = scaled(t, (&x, call.tensor(2)?), (&w, call.tensor(3)?))?;
        let product = cast::cast(t, &product, call.tensor(2)?.elem)?;
        one(with_bias(t, &product, call.optional(6)?)?)
    }),
    ("QGemm", q_gemm),
    ("QLinearConv", |t, call| {
        if call.int_or("channels_last", 0)? == 0 {
            let x = call.tensor(0)?.clone();
            return one(q_conv(t, call, &x)?);
        }
        let x = channels_first(t, call.tensor(0)?)?;
        let y = q_conv(t, call, &x)?;
        one(channels_last(t, &y)?)
    }),
];

/// A scale for all elements or for each column, as a float that broadcasts.
fn factor(t: &mut Tracer<'_>, scale: &PlanTensor) -> Result<PlanTensor> {
    let scale = cast::cast(t, scale, Elem::F32)?;
    if scale.len() == 1 { t.reshape(&scale, &[]) } else { Ok(scale) }
}

/// The product of two factors, each with its zero point subtracted and with a scale.
fn scaled(
    t: &mut Tracer<'_>,
    (x, x_scale): (&PlanTensor, &PlanTensor),
    (w, w_scale): (&PlanTensor, &PlanTensor),
) -> Result<PlanTensor> {
    let sums = matmul::matmul(t, x, w)?;
    let (x_scale, w_scale) = (factor(t, x_scale)?, factor(t, w_scale)?);
    let scale = t.mul(&x_scale, &w_scale)?;
    let product = t.mul(&sums, &scale)?;
    if product.shape != sums.shape {
        return Err(OnnxError::input(format!(
            "scales of shape {:?} do not fit a product of shape {:?}",
            scale.shape, sums.shape
        )));
    }
    Ok(product)
}

/// The projection before QAttention.
///
/// # Errors
/// If shapes do not fit.
pub(super) fn projected(t: &mut Tracer<'_>, call: &Call<'_>) -> Result<PlanTensor> {
    let x = shifted(t, call.tensor(0)?, call.optional(6)?, None)?;
    let w = shifted(t, call.tensor(1)?, call.optional(7)?, Some(1))?;
    let product = scaled(t, (&x, call.tensor(3)?), (&w, call.tensor(4)?))?;
    let bias = call.tensor(2)?;
    let product = cast::cast(t, &product, bias.elem)?;
    t.add(&product, bias)
}

/// `alpha * a_scale * b_scale * (A B + C)`, quantised or not.
fn q_gemm(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let mut factors = Vec::with_capacity(2);
    for (at, name) in [(0, "transA"), (3, "transB")] {
        let x = call.tensor(at)?;
        if x.rank() != 2 {
            return Err(OnnxError::input(format!("shape {:?} is not a matrix", x.shape)));
        }
        let turned = call.int_or(name, 0)? != 0;
        let x = if turned { axes::permute(t, x, &[1, 0])? } else { x.clone() };
        factors.push(shifted(t, &x, call.optional(at + 2)?, (at == 3).then_some(1))?);
    }
    let [a, b] = &factors[..] else { return Err(OnnxError::internal("expected two matrices")) };
    let mut sums = matmul::matmul(t, a, b)?;
    if let Some(c) = call.optional(6)? {
        let c = cast::cast(t, c, Elem::F32)?;
        sums = t.add(&sums, &c)?;
    }
    let (a_scale, b_scale) = (factor(t, call.tensor(1)?)?, factor(t, call.tensor(4)?)?);
    let scale = t.mul(&a_scale, &b_scale)?;
    let scale = t.scalar(Binary::Mul, &scale, call.float_or("alpha", 1.0)?)?;
    let (Some(y_scale), Some(y_zero)) = (call.optional(7)?, call.optional(8)?) else {
        return one(t.mul(&sums, &scale)?);
    };
    let y_scale = factor(t, y_scale)?;
    let scale = t.div(&scale, &y_scale)?;
    let scaled = t.mul(&sums, &scale)?;
    let zero = factor(t, y_zero)?;
    one(to_range(t, &scaled, Some(&zero), y_zero.elem)?)
}
