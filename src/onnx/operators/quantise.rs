//! Quantised arithmetic: the ONNX operators QuantizeLinear, DequantizeLinear and those built on
//! them.

use super::{Call, Outputs, Table, one, several};
use crate::axes::axis;
use crate::step::{Binary, Reduce, Unary};
use crate::tiny_floats::Round;
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, build, cast, indices, literals, matmul};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[
    ("ConvInteger", |t, call| {
        let x = shifted(t, call.tensor(0)?, call.optional(2)?, None)?;
        let w = shifted(t, call.tensor(1)?, call.optional(3)?, Some(0))?;
        let sums = super::conv::conv(t, call, &x, &w, None)?;
        one(to_ints(t, &sums)?)
    }),
    ("DequantizeLinear", dequantise),
    ("DynamicQuantizeLinear", dynamic),
    ("MatMulInteger", |t, call| {
        let x = shifted(t, call.tensor(0)?, call.optional(2)?, None)?;
        let y = shifted(t, call.tensor(1)?, call.optional(3)?, Some(1))?;
        let sums = matmul::matmul(t, &x, &y)?;
        one(to_ints(t, &sums)?)
    }),
    ("QLinearConv", |t, call| {
        let x = call.tensor(0)?.clone();
        one(q_conv(t, call, &x)?)
    }),
    ("QLinearMatMul", q_matmul),
    ("QuantizeLinear", quantise),
];

pub(super) fn dequantise(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let elem = match call.int("output_dtype")? {
        // 0 is ONNX's undefined type, and the default.
        Some(number) if number != 0 => Elem::from_onnx(i32::try_from(number).unwrap_or(-1))?,
        _ => call.tensor(1)?.elem,
    };
    one(dequantised(t, x, call.tensor(1)?, call.optional(2)?, &layout(call, x)?, elem)?)
}

pub(super) fn quantise(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let zero = call.optional(2)?;
    let elem = match (zero, call.int("output_dtype")?) {
        (Some(zero), _) => zero.elem,
        (None, Some(number)) if number != 0 => {
            Elem::from_onnx(i32::try_from(number).unwrap_or(-1))?
        }
        _ => Elem::U8,
    };
    let saturate = call.int_or("saturate", 1)? != 0;
    one(quantised(t, x, call.tensor(1)?, zero, &layout(call, x)?, (elem, saturate))?)
}

/// The elements with a common scale: all, those with one index along an axis, or blocks along it.
pub(super) struct ScaleLayout {
    pub(super) axis: usize,
    pub(super) block: usize,
}

/// One scale for all elements.
const WHOLE: ScaleLayout = ScaleLayout { axis: 0, block: 0 };

/// Dequantises integers with one scale and zero point, to 32-bit floats.
pub(super) fn real(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    scale: &PlanTensor,
    zero: Option<&PlanTensor>,
) -> Result<PlanTensor> {
    dequantised(t, x, scale, zero, &WHOLE, Elem::F32)
}

/// Quantises numbers with one scale and zero point.
pub(super) fn coded(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    scale: &PlanTensor,
    zero: Option<&PlanTensor>,
    elem: Elem,
) -> Result<PlanTensor> {
    quantised(t, x, scale, zero, &WHOLE, (elem, true))
}

fn layout(call: &Call<'_>, x: &PlanTensor) -> Result<ScaleLayout> {
    // The default axis does not exist in a vector, which has one scale.
    let at = axis(call.int_or("axis", 1)?, x.rank()).unwrap_or(0);
    let block = usize::try_from(call.int_or("block_size", 0)?)
        .map_err(|_| OnnxError::invalid("block_size"))?;
    Ok(ScaleLayout { axis: at, block })
}

/// A scale or zero point in the shape of the data.
fn spread(
    t: &mut Tracer<'_>,
    scale: &PlanTensor,
    x: &PlanTensor,
    layout: &ScaleLayout,
) -> Result<PlanTensor> {
    if scale.len() == 1 && scale.rank() <= 1 {
        return t.reshape(scale, &[]);
    }
    if scale.rank() == 1 && layout.block == 0 {
        if x.shape.get(layout.axis) != Some(&scale.len()) {
            return Err(OnnxError::input(format!(
                "{} scales do not fit axis {} of {:?}",
                scale.len(),
                layout.axis,
                x.shape
            )));
        }
        let mut line = vec![1; x.rank()];
        if let Some(length) = line.get_mut(layout.axis) {
            *length = scale.len();
        }
        return t.reshape(scale, &line);
    }
    // Blocks: each scale belongs to this many elements.
    let length = x.shape.get(layout.axis).copied().unwrap_or(0);
    let blocks = scale.shape.get(layout.axis).copied().unwrap_or(0);
    if scale.rank() != x.rank() || blocks == 0 || length == 0 {
        return Err(OnnxError::input(format!(
            "scales of shape {:?} do not fit shape {:?}",
            scale.shape, x.shape
        )));
    }
    let block = if layout.block == 0 { length.div_ceil(blocks) } else { layout.block };
    let index = (0..length).map(|at| i64::try_from((at / block).min(blocks - 1)).unwrap_or(0));
    let index = literals::indices(t, index.collect())?;
    indices::select(t, scale, layout.axis, &index)
}

pub(super) fn dequantised(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    scale: &PlanTensor,
    zero: Option<&PlanTensor>,
    layout: &ScaleLayout,
    elem: Elem,
) -> Result<PlanTensor> {
    let spread_scale = spread(t, scale, x, layout)?;
    let spread_scale = cast::cast(t, &spread_scale, Elem::F32)?;
    let mut value = cast::cast(t, x, Elem::F32)?;
    if let Some(zero) = zero {
        let zero = spread(t, zero, x, layout)?;
        let zero = cast::cast(t, &zero, Elem::F32)?;
        value = t.sub(&value, &zero)?;
    }
    let scaled = t.mul(&value, &spread_scale)?;
    cast::cast(t, &scaled, elem)
}

fn quantised(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    scale: &PlanTensor,
    zero: Option<&PlanTensor>,
    layout: &ScaleLayout,
    (elem, saturate): (Elem, bool),
) -> Result<PlanTensor> {
    let spread_scale = spread(t, scale, x, layout)?;
    let spread_scale = cast::cast(t, &spread_scale, Elem::F32)?;
    let value = cast::cast(t, x, Elem::F32)?;
    let ratio = t.div(&value, &spread_scale)?;
    let zero = match zero {
        Some(zero) => {
            let zero = spread(t, zero, x, layout)?;
            Some(cast::cast(t, &zero, Elem::F32)?)
        }
        None => None,
    };
    if elem.is_float() {
        let sum = match &zero {
            Some(zero) => t.add(&ratio, zero)?,
            None => ratio,
        };
        return cast::cast_as(t, &sum, elem, saturate, Round::Nearest);
    }
    to_range(t, &ratio, zero.as_ref(), elem)
}

/// Rounds to even, adds the zero point, and limits the numbers to the range of a type.
pub(super) fn to_range(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    zero: Option<&PlanTensor>,
    elem: Elem,
) -> Result<PlanTensor> {
    // ONNX rounds first: with an odd zero point, a tie would round the other way.
    let mut x = t.unary(Unary::Round, x)?;
    if let Some(zero) = zero {
        x = t.add(&x, zero)?;
    }
    let (least, most) =
        elem.range().ok_or_else(|| OnnxError::invalid(format!("{elem} is not an integer type")))?;
    let clamped = build::clamp(t, &x, Some(least as f64), Some(most as f64))?;
    cast::cast_inside(t, &clamped, elem)
}

/// Integers less their zero point, as floats: sums of their products are exact below 2^24.
pub(super) fn shifted(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    zero: Option<&PlanTensor>,
    columns: Option<usize>,
) -> Result<PlanTensor> {
    let value = cast::cast(t, x, Elem::F32)?;
    let Some(zero) = zero else { return Ok(value) };
    let zero_value = cast::cast(t, zero, Elem::F32)?;
    let zero_value = if zero.len() <= 1 {
        t.reshape(&zero_value, &[])?
    } else if zero.rank() == 1 {
        // One for each row of the first factor, column of the second, or channel of weights.
        let axis = match columns {
            None => x.rank().saturating_sub(2),
            Some(0) => 0,
            Some(_) => x.rank().saturating_sub(1),
        };
        let mut line = vec![1; x.rank()];
        if let Some(length) = line.get_mut(axis) {
            *length = zero.len();
        }
        t.reshape(&zero_value, &line)?
    } else {
        zero_value
    };
    t.sub(&value, &zero_value)
}

fn to_ints(t: &mut Tracer<'_>, sums: &PlanTensor) -> Result<PlanTensor> {
    let rounded = t.unary(Unary::Round, sums)?;
    // By way of 64 bits, so that sums beyond 32 bits wrap around as integers do.
    let wide = cast::cast(t, &rounded, Elem::I64)?;
    cast::cast(t, &wide, Elem::I32)
}

/// Quantises to 8 bits, with scale and zero point from the smallest and the largest element.
fn dynamic(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let range = range_of(t, x)?;
    let zero = cast::cast_inside(t, &range.zero, Elem::U8)?;
    let y = coded(t, x, &range.scale, Some(&zero), Elem::U8)?;
    several([y, range.scale, zero])
}

/// Scale and zero point, as floats, for unsigned 8-bit integers of a tensor's elements.
struct Range {
    /// 1 if all elements are zero, or there are none.
    scale: PlanTensor,
    zero: PlanTensor,
}

fn range_of(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<Range> {
    if x.shape.contains(&0) {
        return Ok(Range { scale: t.number(Elem::F32, 1.0)?, zero: t.number(Elem::F32, 0.0)? });
    }
    let axes: Vec<usize> = (0..x.rank()).collect();
    let (least, most) = (t.reduce(Reduce::Min, x, &axes)?, t.reduce(Reduce::Max, x, &axes)?);
    let (least, most) = (t.reshape(&least, &[])?, t.reshape(&most, &[])?);
    // ONNX extends the range to include zero, which must have an exact code.
    let (least, most) =
        (build::clamp(t, &least, None, Some(0.0))?, build::clamp(t, &most, Some(0.0), None)?);
    let width = t.sub(&most, &least)?;
    let scale = t.scalar(Binary::Div, &width, 255.0)?;
    // If all elements are zero, any scale is valid.
    let none = t.number(Elem::F32, 0.0)?;
    let flat = t.compare(crate::step::Compare::Equal, &scale, &none)?;
    let unit = t.number(Elem::F32, 1.0)?;
    let scale = t.choose(&flat, &unit, &scale)?;
    let ratio = t.div(&least, &scale)?;
    let zero = t.unary(Unary::Neg, &ratio)?;
    let zero = t.unary(Unary::Round, &zero)?;
    let zero = build::clamp(t, &zero, Some(0.0), Some(255.0))?;
    Ok(Range { scale, zero })
}

/// Integers of 8 bits less their zero point, as floats, and their scale; one for the whole tensor.
///
/// # Errors
/// If the tensor is empty.
pub(super) fn dynamic_codes(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
) -> Result<(PlanTensor, PlanTensor)> {
    let x = cast::cast(t, x, Elem::F32)?;
    let range = range_of(t, &x)?;
    let ratio = t.div(&x, &range.scale)?;
    let codes = t.unary(Unary::Round, &ratio)?;
    let codes = t.add(&codes, &range.zero)?;
    let codes = build::clamp(t, &codes, Some(0.0), Some(255.0))?;
    Ok((t.sub(&codes, &range.zero)?, range.scale))
}

fn q_matmul(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let [a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero] = &call.tensors()?[..] else {
        return Err(OnnxError::internal("expected eight inputs"));
    };
    let x = shifted(t, a, Some(a_zero), None)?;
    let y = shifted(t, b, Some(b_zero), Some(1))?;
    let sums = matmul::matmul(t, &x, &y)?;
    let row = |t: &mut Tracer<'_>, scale: &PlanTensor| -> Result<PlanTensor> {
        let scale = cast::cast(t, scale, Elem::F32)?;
        // Scales of rows are on the axis before the last one.
        if scale.rank() == 1 && scale.len() > 1 { axes::unsqueeze(t, &scale, 1) } else { Ok(scale) }
    };
    let (a_scale, b_scale) = (row(t, a_scale)?, cast::cast(t, b_scale, Elem::F32)?);
    let y_scale = cast::cast(t, y_scale, Elem::F32)?;
    let scale = t.mul(&a_scale, &b_scale)?;
    let scale = t.div(&scale, &y_scale)?;
    let scaled = t.mul(&sums, &scale)?;
    let shape = sums.shape.clone();
    let scaled = t.reshape(&scaled, &shape)?;
    let zero = cast::cast(t, y_zero, Elem::F32)?;
    let zero = if zero.len() == 1 { t.reshape(&zero, &[])? } else { zero };
    one(to_range(t, &scaled, Some(&zero), y_zero.elem)?)
}

/// A quantised convolution, with the inputs of a node after `x`.
///
/// # Errors
/// If shapes do not fit.
pub(super) fn q_conv(t: &mut Tracer<'_>, call: &Call<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    let x = shifted(t, x, Some(call.tensor(2)?), None)?;
    let w = shifted(t, call.tensor(3)?, Some(call.tensor(5)?), Some(0))?;
    let bias = match call.optional(8)? {
        Some(bias) => Some(cast::cast(t, bias, Elem::F32)?),
        None => None,
    };
    let sums = super::conv::conv(t, call, &x, &w, bias.as_ref())?;
    let mut scales = Vec::with_capacity(3);
    for at in [1, 4, 6] {
        scales.push(cast::cast(t, call.tensor(at)?, Elem::F32)?);
    }
    let [x_scale, w_scale, y_scale] = &scales[..] else {
        return Err(OnnxError::internal("expected three scales"));
    };
    let w_scale = if w_scale.len() > 1 {
        let behind = std::iter::repeat_n(1, sums.rank().saturating_sub(2));
        let shape: Vec<usize> = std::iter::once(w_scale.len()).chain(behind).collect();
        t.reshape(w_scale, &shape)?
    } else {
        t.reshape(w_scale, &[])?
    };
    let (x_scale, y_scale) = (t.reshape(x_scale, &[])?, t.reshape(y_scale, &[])?);
    let scale = t.mul(&x_scale, &w_scale)?;
    let scale = t.div(&scale, &y_scale)?;
    let scaled = t.mul(&sums, &scale)?;
    let y_zero = call.tensor(7)?;
    let zero = cast::cast(t, y_zero, Elem::F32)?;
    let zero = t.reshape(&zero, &[])?;
    to_range(t, &scaled, Some(&zero), y_zero.elem)
}
