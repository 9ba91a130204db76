//! Activation functions with a bias, and activations that are attributes of other operators.

use super::super::activation::fast_gelu;
use super::super::{Call, Outputs, Table, one};
use super::{first_of, nothing};
use crate::axes::Cut;
use crate::step::{Binary, Op, Unary};
use crate::trace::{PlanTensor, Tracer, Value};
use crate::{axes, build, literals, matmul};
use graph::Attribute;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[
    ("BiasAdd", |t, call| {
        let sum = t.add(call.tensor(0)?, call.tensor(1)?)?;
        one(t.add(&sum, call.tensor(2)?)?)
    }),
    ("BiasDropout", bias_dropout),
    ("BiasGelu", |t, call| {
        let x = t.add(call.tensor(0)?, call.tensor(1)?)?;
        one(t.unary(Unary::Gelu, &x)?)
    }),
    ("BiasSoftmax", bias_softmax),
    ("BiasSplitGelu", bias_split_gelu),
    ("FastGelu", |t, call| {
        let x = with_bias(t, call.tensor(0)?, call.optional(1)?)?;
        one(fast_gelu(t, &x)?)
    }),
    ("Gelu", |t, call| one(t.unary(Unary::Gelu, call.tensor(0)?)?)),
    ("GemmFastGelu", |t, call| {
        let product = matmul::matmul(t, call.tensor(0)?, call.tensor(1)?)?;
        let x = with_bias(t, &product, call.optional(2)?)?;
        one(fast_gelu(t, &x)?)
    }),
    ("QuickGelu", |t, call| {
        one(quick_gelu(t, call.tensor(0)?, call.float_or("alpha", QUICK_ALPHA)?)?)
    }),
];

/// Default factor of QuickGelu.
const QUICK_ALPHA: f64 = 1.702;

/// The sum with a bias, if it is given.
///
/// # Errors
/// If they cannot be broadcast.
pub(super) fn with_bias(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    bias: Option<&PlanTensor>,
) -> Result<PlanTensor> {
    match bias {
        Some(bias) => t.add(x, bias),
        None => Ok(x.clone()),
    }
}

/// `x * sigmoid(alpha * x)`
fn quick_gelu(t: &mut Tracer<'_>, x: &PlanTensor, alpha: f64) -> Result<PlanTensor> {
    let scaled = if alpha == 1.0 { x.clone() } else { t.scalar(Binary::Mul, x, alpha)? };
    let gate = t.unary(Unary::Sigmoid, &scaled)?;
    t.mul(x, &gate)
}

/// The activation that an attribute names, with its parameters in the order alpha, beta, gamma.
///
/// # Errors
/// If it is not supported.
pub(super) fn named(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    name: &str,
    numbers: &[Option<f32>],
    x: &PlanTensor,
) -> Result<PlanTensor> {
    let number = |at: usize| numbers.get(at).copied().flatten().map(f64::from);
    let or = |at: usize, default: f64| number(at).unwrap_or(default);
    match name {
        "" => Ok(x.clone()),
        "Clip" => build::clamp(t, x, number(0), number(1)),
        "QuickGelu" => quick_gelu(t, x, or(0, QUICK_ALPHA)),
        "FastGelu" => fast_gelu(t, x),
        "ScaledTanh" => {
            let scaled = t.scalar(Binary::Mul, x, or(1, 1.0))?;
            let tanh = t.unary(Unary::Tanh, &scaled)?;
            t.scalar(Binary::Mul, &tanh, or(0, 1.0))
        }
        "Relu" | "Sigmoid" | "Tanh" | "LeakyRelu" | "HardSigmoid" | "HardSwish" | "Elu"
        | "Softplus" | "Softsign" | "Selu" | "ThresholdedRelu" | "Gelu" | "Celu" | "Mish" => {
            let names = ["alpha", "beta", "gamma"];
            // Attributes of the node itself have another meaning.
            let given = names.iter().enumerate().filter_map(|(at, name)| {
                let value = numbers.get(at).copied().flatten()?;
                Some((*name, Attribute::Float(value)))
            });
            let plain = Call {
                node: &graph::Node {
                    attributes: std::collections::HashMap::new(),
                    ..call.node.clone()
                },
                inputs: Vec::new(),
                outer: call.outer,
            };
            first_of(t, &plain, name, &given.collect::<Vec<_>>(), &[Some(x)])
        }
        other => Err(OnnxError::unsupported(format!("activation '{other}' is not supported"))),
    }
}

/// `softmax(data + bias)` over all axes from `axis` on, merged.
fn bias_softmax(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let sum = t.add(x, call.tensor(1)?)?;
    if sum.shape != x.shape {
        return Err(OnnxError::input(format!(
            "a bias of shape {:?} does not fit shape {:?}",
            call.tensor(1)?.shape,
            x.shape
        )));
    }
    let at = crate::axes::axis(call.int_or("axis", 1)?, x.rank())?;
    let (before, behind) = x.shape.split_at(at);
    let flat = t.reshape(&sum, &[before.iter().product(), behind.iter().product()])?;
    let done = t.emit(Op::Softmax(1), &[&flat], flat.elem, flat.shape.clone())?;
    one(t.reshape(&done, &x.shape)?)
}

/// The sum and a mask of ones: inference drops nothing.
fn bias_dropout(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let training = match call.optional(4)? {
        Some(training) => literals::ints(t, training)?.first().is_some_and(|value| *value != 0),
        None => false,
    };
    if training {
        return Err(OnnxError::unsupported("input training_mode: training is not supported"));
    }
    let sum = t.add(call.tensor(0)?, call.tensor(1)?)?;
    let sum = with_bias(t, &sum, call.optional(2)?)?;
    let mask = match call.outputs() {
        0 | 1 => nothing(),
        _ => Value::Tensor(axes::full(t, graph::Elem::Bool, sum.shape.clone(), 1.0)?),
    };
    Ok(vec![Value::Tensor(sum), mask])
}

/// The left half of the last axis, times the Gelu of the right half.
fn bias_split_gelu(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = t.add(call.tensor(0)?, call.tensor(1)?)?;
    let axis =
        x.rank().checked_sub(1).ok_or_else(|| OnnxError::input("a scalar cannot be halved"))?;
    let width = x.shape.get(axis).copied().unwrap_or(0);
    if !width.is_multiple_of(2) {
        return Err(OnnxError::input(format!("a width of {width} cannot be halved")));
    }
    let left = axes::narrow(t, &x, axis, Cut::range(0, width / 2))?;
    let right = axes::narrow(t, &x, axis, Cut::range(width / 2, width))?;
    let gate = t.unary(Unary::Gelu, &right)?;
    one(t.mul(&left, &gate)?)
}
