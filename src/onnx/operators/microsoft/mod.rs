//! Operators of ONNX Runtime (domain `com.microsoft`), after its ContribOperators.md and its
//! kernels for the CPU. Most are fused forms of standard operators and are split again.

mod activation;
mod attention;
mod conv;
mod embedding;
mod group_query;
mod lstm;
mod mask;
mod math;
mod matmul;
mod n_bits;
mod normalise;
mod packing;
mod products;
mod quantised;
mod rotary;
mod scores;

use super::{Call, Outputs, Table, find};
use crate::axes;
use crate::trace::{PlanTensor, Tracer, Value};
use graph::error::{OnnxError, Result};
use graph::{Attribute, Node};

/// Operators of the domain `com.microsoft`.
pub(super) const TABLES: &[Table] = &[
    activation::TABLE,
    attention::TABLE,
    conv::TABLE,
    embedding::TABLE,
    group_query::TABLE,
    lstm::TABLE,
    math::TABLE,
    matmul::TABLE,
    n_bits::TABLE,
    normalise::TABLE,
    packing::TABLE,
    products::TABLE,
    quantised::TABLE,
    rotary::TABLE,
];

/// Operators that ONNX Runtime registers in the standard domain, although the standard lacks them.
pub(super) const STANDARD: Table = normalise::STANDARD;

/// The operator set of the standard operators that implement them.
const OPSET: i64 = 22;

/// The outputs of a standard operator of a version, with the attributes of a node and `more`.
///
/// # Errors
/// Those of the operator.
fn as_standard(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    (op, opset): (&str, i64),
    more: &[(&str, Attribute)],
    inputs: &[Option<&PlanTensor>],
) -> Outputs {
    let mut node = Node { op: op.to_owned(), domain: String::new(), opset, ..call.node.clone() };
    let more = more.iter().map(|(name, attribute)| ((*name).to_owned(), attribute.clone()));
    node.attributes.extend(more);
    let operator = find("", op)
        .ok_or_else(|| OnnxError::unsupported(format!("operator {op} is not supported")))?;
    let inputs = inputs.iter().map(|input| input.cloned().map(Value::Tensor)).collect();
    operator(t, &Call { node: &node, inputs, outer: call.outer })
}

/// The first output of a standard operator, see [`as_standard`].
fn first_of(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    op: &str,
    more: &[(&str, Attribute)],
    inputs: &[Option<&PlanTensor>],
) -> Result<PlanTensor> {
    first(as_standard(t, call, (op, OPSET), more, inputs)?)
}

/// The first output of an operator.
fn first(outputs: Vec<Value>) -> Result<PlanTensor> {
    match outputs.into_iter().next() {
        Some(Value::Tensor(result)) => Ok(result),
        _ => Err(OnnxError::internal("the operator does not return a tensor")),
    }
}

/// A placeholder for an output that is not given.
fn nothing() -> Value {
    Value::Optional(None)
}

/// A positive integer attribute.
///
/// # Errors
/// If it is missing or not positive.
fn count(call: &Call<'_>, name: &str) -> Result<usize> {
    const MOST: usize = 1 << 24;
    let given = call.int(name)?.and_then(|value| usize::try_from(value).ok());
    given.filter(|value| (1..=MOST).contains(value)).ok_or_else(|| {
        OnnxError::invalid(format!("attribute {name} is missing or not a positive number"))
    })
}

/// Moves the channels from the last axis to the one behind the batch.
fn channels_first(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    let last = x
        .rank()
        .checked_sub(1)
        .filter(|last| *last > 0)
        .ok_or_else(|| OnnxError::input("the axis of the channels is missing"))?;
    let axes: Vec<usize> = [0, last].into_iter().chain(1..last).collect();
    axes::permute(t, x, &axes)
}

/// Moves the channels from the axis behind the batch to the last one.
fn channels_last(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    if x.rank() < 2 {
        return Err(OnnxError::input("the axis of the channels is missing"));
    }
    let axes: Vec<usize> = std::iter::once(0).chain(2..x.rank()).chain([1]).collect();
    axes::permute(t, x, &axes)
}
