//! The rule of each operator for the passage of rows.

use super::site::{Outcome, Site};
use super::value::{Fact, Number, RowDependence};
use super::{arrange, axes, contrib, ml, numbers, pick, products};
use crate::graph::Attribute;

/// Operators that work element by element.
const ELEMENTWISE: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "StringConcat",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Where",
    "Xor",
    "RegexFullMatch",
];

/// Reductions over axes that an attribute or an input names.
const REDUCTIONS: &[&str] = &[
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
];

/// Applies the rule of the operator; `None` if it has none.
pub(super) fn apply(site: &mut Site<'_>) -> Option<Outcome> {
    let (domain, op) = (site.node.domain.as_str(), site.node.op.as_str());
    match domain {
        "" => standard(site, op),
        "ai.onnx.ml" => ml::apply(site, op),
        "com.microsoft" => contrib::apply(site, op),
        _ => None,
    }
}

fn standard(site: &mut Site<'_>, op: &str) -> Option<Outcome> {
    if ELEMENTWISE.contains(&op) {
        return Some(axes::elementwise(site));
    }
    if REDUCTIONS.contains(&op) {
        return Some(axes::reduce(site));
    }
    moves(site, op).or_else(|| works(site, op)).or_else(|| contrib::apply(site, op))
}

/// Operators that move elements or create tensors.
fn moves(site: &mut Site<'_>, op: &str) -> Option<Outcome> {
    Some(match op {
        "Constant" => constant(site),
        "ConstantOfShape" => arrange::constant_of_shape(site),
        "Cast" => arrange::cast(site),
        "CastLike" => like(site),
        "Identity" => arrange::identity(site),
        "Dropout" => dropout(site),
        "Shape" => arrange::shape(site),
        "Size" => arrange::size(site),
        "Reshape" => arrange::reshape(site),
        "Flatten" => arrange::flatten(site),
        "Transpose" => arrange::transpose(site),
        "Unsqueeze" => arrange::unsqueeze(site),
        "Squeeze" => arrange::squeeze(site),
        "Expand" => arrange::expand(site),
        "Tile" => arrange::tile(site),
        "Concat" => arrange::concat(site),
        "Split" => arrange::split(site),
        "Pad" => arrange::pad(site),
        "Range" => arrange::range(site),
        "Slice" => pick::slice(site),
        "Gather" => pick::gather(site),
        "GatherElements" | "Scatter" | "ScatterElements" => pick::elements(site, 0),
        "GatherND" => pick::gather_nd(site),
        "ScatterND" => numbers::scatter_nd(site),
        "TopK" => pick::top_k(site),
        "OneHot" => pick::one_hot(site),
        "ReverseSequence" => pick::reverse_sequence(site),
        "ArgMax" | "ArgMin" => axes::arg_reduce(site),
        "DepthToSpace" | "SpaceToDepth" | "GridSample" => products::first_axis(site),
        "Trilu" => axes::matrices(site),
        _ => return None,
    })
}

/// Operators that compute.
fn works(site: &mut Site<'_>, op: &str) -> Option<Outcome> {
    Some(match op {
        "MatMul" => products::matmul(site, [0, 1]),
        "MatMulInteger" => products::quantised_matmul(site, [0, 1], &[2]),
        "QLinearMatMul" => products::quantised_matmul(site, [0, 3], &[1, 2, 6, 7]),
        "Gemm" => products::gemm(site),
        "Einsum" => products::einsum(site),
        "Conv" | "ConvInteger" => products::conv(site, &[0], 1),
        "QLinearConv" => products::conv(site, &[0], 3),
        "ConvTranspose" | "DeformConv" => products::first_axis(site),
        "AveragePool" | "LpPool" | "MaxPool" => products::pool(site),
        "GlobalAveragePool" | "GlobalLpPool" | "GlobalMaxPool" => products::global_pool(site),
        "RNN" | "GRU" | "LSTM" => products::recurrent(site),
        "Softmax" | "LogSoftmax" | "Hardmax" => axes::softmax(site),
        "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => {
            axes::layer_norm(site)
        }
        "InstanceNormalization" | "GroupNormalization" | "LRN" => axes::by_channel(site),
        "BatchNormalization" => axes::batch_norm(site),
        "LpNormalization" => axes::one_axis(site, -1),
        "MeanVarianceNormalization" => axes::mean_variance(site),
        "CumSum" | "CumProd" => axes::axis_input(site),
        "Det" => axes::determinant(site),
        "QuantizeLinear" | "DequantizeLinear" => axes::quantise(site),
        "Resize" | "Upsample" => axes::resize(site),
        "Attention" => attention(site),
        "RotaryEmbedding" => products::first_axis(site),
        "STFT" => products::open_batch(site, 0, 4),
        "TfIdfVectorizer" => first_axis_of_matrix(site),
        _ => return None,
    })
}

/// `Attention` of the standard: a mask with fewer than four axes has no batch axis.
fn attention(site: &mut Site<'_>) -> Outcome {
    if site.optional(3).is_some_and(|mask| mask.row_axis().is_some() && mask.rank() != Some(4)) {
        return Err("its mask has rows along another axis".into());
    }
    let rank = site.rank(0)?;
    let mut shapes = vec![Some((1..rank).map(|_| site.open()).collect())];
    for _ in 1..site.node.outputs.len() {
        shapes.push(Some((1..4).map(|_| site.open()).collect()));
    }
    products::by_first_axis(site, &shapes)
}

/// [`first_axis`](products::first_axis) for an operator that treats a vector as one row and a
/// matrix as many.
fn first_axis_of_matrix(site: &mut Site<'_>) -> Outcome {
    if site.rank(0)? < 2 {
        return Err("it treats a vector as one row".into());
    }
    products::first_axis(site)
}

fn dropout(site: &mut Site<'_>) -> Outcome {
    let trains = site.optional(2).is_some_and(|mode| mode.constants() != Some(vec![0]));
    if trains {
        return Err("it may draw random numbers".into());
    }
    let (fact, mask) = (site.fact(0)?.clone(), site.fact(0)?.shape.clone());
    let mask = site.fact(0)?.with_shape(mask);
    Ok(vec![fact, mask])
}

/// The first input with the type of the second; the elements of the second are not read.
fn like(site: &mut Site<'_>) -> Outcome {
    let fact = site.fact(0)?.clone();
    Ok(vec![fact.with_shape(fact.shape.clone())])
}

fn constant(site: &mut Site<'_>) -> Outcome {
    let fact = |numbers: Vec<i64>, scalar: bool| {
        let numbers: Vec<Number> = numbers.into_iter().map(Number::fixed).collect();
        match scalar {
            true => Fact::numbers(Vec::new(), numbers),
            false => arrange::vector(numbers),
        }
    };
    if let Some(Attribute::Tensor(raw)) = site.attribute("value") {
        return Ok(vec![super::constant::constant(raw)]);
    }
    if let Some(value) = site.int("value_int") {
        return Ok(vec![fact(vec![value], true)]);
    }
    if let Some(values) = site.ints("value_ints") {
        return Ok(vec![fact(values.to_vec(), false)]);
    }
    Ok(vec![Fact { content: RowDependence::Shared, shape: scalar_shape(site), numbers: None }])
}

fn scalar_shape(site: &Site<'_>) -> Option<Vec<super::length::Length>> {
    let scalar = ["value_float", "value_string"].iter().any(|name| site.attribute(name).is_some());
    scalar.then(Vec::new)
}
