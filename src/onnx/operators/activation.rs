//! Activation functions, with the formulas of the ONNX operators of the same names.

use super::random::generator;
use super::{Call, Outputs, Table, one, several};
use crate::axes::axis;
use crate::host::HostTensor;
use crate::step::{Binary, Compare, Op, Reduce, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, build, cast, literals};
use graph::elem::Elem;
use graph::error::Result;

pub(super) const TABLE: Table = &[
    ("BitShift", |t, call| {
        let left = call.text("direction")? == Some("LEFT");
        let binary = if left { Binary::ShiftLeft } else { Binary::ShiftRight };
        one(t.binary(binary, call.tensor(0)?, call.tensor(1)?)?)
    }),
    ("BitwiseAnd", |t, call| one(t.binary(Binary::BitAnd, call.tensor(0)?, call.tensor(1)?)?)),
    ("BitwiseNot", |t, call| one(t.unary(Unary::BitNot, call.tensor(0)?)?)),
    ("BitwiseOr", |t, call| one(t.binary(Binary::BitOr, call.tensor(0)?, call.tensor(1)?)?)),
    ("BitwiseXor", |t, call| one(t.binary(Binary::BitXor, call.tensor(0)?, call.tensor(1)?)?)),
    ("Celu", |t, call| {
        let (x, alpha) = (call.tensor(0)?, call.float_or("alpha", 1.0)?);
        let ratio = t.scalar(Binary::Div, x, alpha)?;
        let below = exponential(t, &ratio, alpha)?;
        // For large x the exponential is infinite; the minimum with 0 removes it.
        let below = build::clamp(t, &below, None, Some(0.0))?;
        let above = t.unary(Unary::Relu, x)?;
        one(t.add(&above, &below)?)
    }),
    ("Dropout", dropout),
    ("Elu", |t, call| {
        let (x, alpha) = (call.tensor(0)?, call.float_or("alpha", 1.0)?);
        let below = exponential(t, x, alpha)?;
        one(where_negative(t, x, &below, x)?)
    }),
    ("Gelu", gelu),
    ("HardSigmoid", |t, call| {
        let (alpha, beta) = (call.float_or("alpha", 0.2)?, call.float_or("beta", 0.5)?);
        one(hard_sigmoid(t, call.tensor(0)?, alpha, beta)?)
    }),
    ("HardSwish", |t, call| {
        let x = call.tensor(0)?;
        // ONNX defines HardSwish by HardSigmoid with alpha = 1/6 and beta = 0.5.
        let gate = hard_sigmoid(t, x, 1.0 / 6.0, 0.5)?;
        one(t.mul(x, &gate)?)
    }),
    ("Hardmax", |t, call| by_axis(t, call, hardmax)),
    ("IsInf", is_inf),
    ("LeakyRelu", |t, call| {
        let (x, alpha) = (call.tensor(0)?, call.float_or("alpha", 0.01)?);
        let below = t.scalar(Binary::Mul, x, alpha)?;
        one(where_negative(t, x, &below, x)?)
    }),
    ("LogSoftmax", |t, call| {
        by_axis(t, call, |t, x, at| t.emit(Op::LogSoftmax(at), &[x], x.elem, x.shape.clone()))
    }),
    ("Mish", |t, call| {
        let x = call.tensor(0)?;
        let soft = softplus(t, x)?;
        let gate = t.unary(Unary::Tanh, &soft)?;
        one(t.mul(x, &gate)?)
    }),
    ("PRelu", |t, call| {
        let (x, slope) = (call.tensor(0)?, call.tensor(1)?);
        // Before opset 7, slopes of channels did not have to be broadcast.
        let channels = slope.rank() == 1 && x.rank() > 2 && x.shape.get(1) == Some(&slope.len());
        let slope = if call.opset() < 7 && channels {
            let behind = std::iter::repeat_n(1, x.rank() - 2);
            let shape: Vec<usize> = std::iter::once(slope.len()).chain(behind).collect();
            t.reshape(slope, &shape)?
        } else {
            slope.clone()
        };
        let below = t.mul(x, &slope)?;
        one(where_negative(t, x, &below, x)?)
    }),
    ("Selu", |t, call| {
        // The defaults of ONNX are the 32-bit floats nearest to the constants of the paper.
        let alpha = call.float_or("alpha", 1.673_263_192_176_818_8)?;
        let gamma = call.float_or("gamma", 1.050_700_998_306_274_4)?;
        let x = call.tensor(0)?;
        let below = exponential(t, x, alpha)?;
        let both = where_negative(t, x, &below, x)?;
        one(t.scalar(Binary::Mul, &both, gamma)?)
    }),
    ("Shrink", shrink),
    ("Softmax", |t, call| {
        by_axis(t, call, |t, x, at| t.emit(Op::Softmax(at), &[x], x.elem, x.shape.clone()))
    }),
    ("Softplus", |t, call| one(softplus(t, call.tensor(0)?)?)),
    ("Softsign", |t, call| one(softsign(t, call.tensor(0)?)?)),
    ("Swish", |t, call| {
        let (x, alpha) = (call.tensor(0)?, call.float_or("alpha", 1.0)?);
        let scaled = if alpha == 1.0 { x.clone() } else { t.scalar(Binary::Mul, x, alpha)? };
        let gate = t.unary(Unary::Sigmoid, &scaled)?;
        one(t.mul(x, &gate)?)
    }),
    ("ThresholdedRelu", |t, call| one(above(t, call.tensor(0)?, call.float_or("alpha", 1.0)?)?)),
];

/// `x / (1 + |x|)`
pub(super) fn softsign(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    let size = t.unary(Unary::Abs, x)?;
    let below = t.scalar(Binary::Add, &size, 1.0)?;
    t.div(x, &below)
}

/// The elements above a limit; 0 in place of the others.
pub(super) fn above(t: &mut Tracer<'_>, x: &PlanTensor, limit: f64) -> Result<PlanTensor> {
    let limit = t.number(x.elem, limit)?;
    let above = t.compare(Compare::Greater, x, &limit)?;
    let zero = t.number(x.elem, 0.0)?;
    t.choose(&above, x, &zero)
}

/// `alpha * (exp(x) - 1)`
pub(super) fn exponential(t: &mut Tracer<'_>, x: &PlanTensor, alpha: f64) -> Result<PlanTensor> {
    let exp = t.unary(Unary::Exp, x)?;
    let less = t.scalar(Binary::Sub, &exp, 1.0)?;
    t.scalar(Binary::Mul, &less, alpha)
}

fn where_negative(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    below: &PlanTensor,
    above: &PlanTensor,
) -> Result<PlanTensor> {
    let negative = build::compare_zero(t, x)?;
    t.choose(&negative, below, above)
}

fn hard_sigmoid(t: &mut Tracer<'_>, x: &PlanTensor, alpha: f64, beta: f64) -> Result<PlanTensor> {
    let scaled = t.scalar(Binary::Mul, x, alpha)?;
    let shifted = t.scalar(Binary::Add, &scaled, beta)?;
    build::clamp(t, &shifted, Some(0.0), Some(1.0))
}

/// `max(x, 0) + log(1 + exp(-|x|))`, which does not overflow.
pub(super) fn softplus(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    let size = t.unary(Unary::Abs, x)?;
    let negative = t.unary(Unary::Neg, &size)?;
    let exp = t.unary(Unary::Exp, &negative)?;
    let more = t.scalar(Binary::Add, &exp, 1.0)?;
    let log = t.unary(Unary::Log, &more)?;
    let above = t.unary(Unary::Relu, x)?;
    t.add(&above, &log)
}

fn gelu(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    if call.text("approximate")? != Some("tanh") {
        return one(t.unary(Unary::Gelu, x)?);
    }
    one(fast_gelu(t, x)?)
}

/// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`
pub(super) fn fast_gelu(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    // x + c x^3 is computed as x (1 + c x^2), which has one product less.
    let square = t.mul(x, x)?;
    let inner = t.scalar(Binary::Mul, &square, 0.044_715)?;
    let inner = t.scalar(Binary::Add, &inner, 1.0)?;
    let inner = t.mul(x, &inner)?;
    let inner = t.scalar(Binary::Mul, &inner, (2.0 / std::f64::consts::PI).sqrt())?;
    let gate = t.unary(Unary::Tanh, &inner)?;
    let gate = t.scalar(Binary::Add, &gate, 1.0)?;
    let half = t.scalar(Binary::Mul, x, 0.5)?;
    t.mul(&half, &gate)
}

type AlongAxis = fn(&mut Tracer<'_>, &PlanTensor, usize) -> Result<PlanTensor>;

/// Applies a function along an axis; before opset 13, along all axes from it on, merged.
fn by_axis(t: &mut Tracer<'_>, call: &Call<'_>, run: AlongAxis) -> Outputs {
    let x = call.tensor(0)?;
    if call.opset() >= 13 {
        let at = axis(call.int_or("axis", -1)?, x.rank().max(1))?;
        // A scalar is normalised like a vector of one element.
        let whole = if x.rank() == 0 { t.reshape(x, &[1])? } else { x.clone() };
        let done = run(t, &whole, at)?;
        return one(t.reshape(&done, &x.shape)?);
    }
    let at = call.int_or("axis", 1)?;
    let end = i64::try_from(x.rank()).unwrap_or(i64::MAX);
    // An axis equal to the rank was valid: all axes are then in front of it.
    let at = if at == end { x.rank() } else { axis(at, x.rank())? };
    let (before, behind) = x.shape.split_at(at);
    let flat = t.reshape(x, &[before.iter().product(), behind.iter().product()])?;
    let done = run(t, &flat, 1)?;
    one(t.reshape(&done, &x.shape)?)
}

/// One for the first of the largest elements, zero for the others.
fn hardmax(t: &mut Tracer<'_>, x: &PlanTensor, at: usize) -> Result<PlanTensor> {
    let mut shape = x.shape.clone();
    if let Some(length) = shape.get_mut(at) {
        *length = 1;
    }
    let length = x.shape.get(at).copied().unwrap_or(0);
    let largest = t.emit(Op::ArgMax(at), &[x], Elem::I64, shape.clone())?;
    let mut line = vec![1; x.rank()];
    if let Some(place) = line.get_mut(at) {
        *place = length;
    }
    let places = t.constant(HostTensor::ints(Elem::I64, line, (0..length as i64).collect()))?;
    let hit = t.compare(Compare::Equal, &places, &largest)?;
    cast::cast(t, &hit, x.elem)
}

fn is_inf(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let positive = call.int_or("detect_positive", 1)? != 0;
    let negative = call.int_or("detect_negative", 1)? != 0;
    match (positive, negative) {
        (true, true) => one(t.unary(Unary::IsInf, x)?),
        (false, false) => one(axes::full(t, Elem::Bool, x.shape.clone(), 0.0)?),
        _ => {
            let end = if positive { f64::INFINITY } else { f64::NEG_INFINITY };
            let end = t.number(x.elem, end)?;
            one(t.compare(Compare::Equal, x, &end)?)
        }
    }
}

fn shrink(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let (bias, lambda) = (call.float_or("bias", 0.0)?, call.float_or("lambd", 0.5)?);
    let (low, high) = (t.number(x.elem, -lambda)?, t.number(x.elem, lambda)?);
    let (below, above) =
        (t.compare(Compare::Less, x, &low)?, t.compare(Compare::Greater, x, &high)?);
    let raised = t.scalar(Binary::Add, x, bias)?;
    let lowered = t.scalar(Binary::Sub, x, bias)?;
    let zero = t.number(x.elem, 0.0)?;
    let upper = t.choose(&above, &lowered, &zero)?;
    one(t.choose(&below, &raised, &upper)?)
}

/// The identity, except in training mode: a generator with a seed then selects elements to drop.
fn dropout(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let ratio = match call.optional(1)? {
        Some(ratio) => literals::floats(t, ratio)?.first().copied().unwrap_or(0.5),
        None => call.float_or("ratio", 0.5)?,
    };
    let training = match call.optional(2)? {
        Some(training) => literals::ints(t, training)?.first().is_some_and(|value| *value != 0),
        None => false,
    };
    // Before opset 10 the mask had the type of the data.
    let mask_elem = if call.opset() < 10 { x.elem } else { Elem::Bool };
    if !training || ratio == 0.0 {
        // Since opset 12 the mask marks kept elements; before, ONNX Runtime gives zeros.
        let kept = if call.opset() < 12 { 0.0 } else { 1.0 };
        let mask = axes::full(t, mask_elem, x.shape.clone(), kept)?;
        return several([x.clone(), mask]);
    }
    let mut random = generator(call)?;
    let kept: Vec<bool> = (0..x.len()).map(|_| random.uniform() >= ratio).collect();
    let mask = t.constant(HostTensor::bools(x.shape.clone(), kept))?;
    // Kept elements are scaled, so that the expected value stays the same.
    let scaled = t.scalar(Binary::Mul, x, 1.0 / (1.0 - ratio))?;
    let zero = t.number(x.elem, 0.0)?;
    let left = t.choose(&mask, &scaled, &zero)?;
    several([left, mask])
}

/// The mean over axes, which are kept with length 1.
pub(super) fn mean(t: &mut Tracer<'_>, x: &PlanTensor, axes: &[usize]) -> Result<PlanTensor> {
    t.reduce(Reduce::Mean, x, axes)
}
