//! Rules for the operators of ONNX Runtime (domain `com.microsoft`).

use super::axes;
use super::length::Length;
use super::products;
use super::site::{Label, Operand, Outcome, Site};
use super::value::Fact;

pub(super) fn apply(site: &mut Site<'_>, op: &str) -> Option<Outcome> {
    Some(match op {
        "BiasGelu" | "FastGelu" | "Gelu" | "QuickGelu" | "QLinearAdd" | "QLinearMul"
        | "QLinearSigmoid" | "QLinearLeakyRelu" | "BiasAdd" => axes::elementwise(site),
        "QuantizeLinear" | "DequantizeLinear" => axes::quantise(site),
        "QLinearSoftmax" => softmax(site),
        "FusedMatMul" | "TransposeMatMul" => fused_matmul(site),
        "MatMulIntegerToFloat" => products::quantised_matmul(site, [0, 1], &[2, 4]),
        "MatMulInteger16" => products::matmul(site, [0, 1]),
        "MatMulNBits" => quantised_weights(site),
        "FusedGemm" => products::gemm(site),
        "QGemm" => q_gemm(site),
        "FusedConv" => products::conv(site, &[0, 3], 1),
        "QLinearGlobalAveragePool" => open_rank(site, 0),
        "QLinearAveragePool" => open_rank(site, 0),
        "SimplifiedLayerNormalization" => axes::layer_norm(site),
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => skip_norm(site),
        "EmbedLayerNormalization" => embed(site),
        "Attention" => attention(site, &[0, 3], 4),
        "QAttention" => attention(site, &[0, 5], 8),
        "MultiHeadAttention" => heads(site),
        // The positions of the whole batch are those of its first row, so rows depend on each
        // other.
        "GroupQueryAttention" if site.optional(9).is_some() => return None,
        "GroupQueryAttention" => heads(site),
        "RotaryEmbedding" => products::first_axis(site),
        _ => return None,
    })
}

/// Softmax along all axes from one on, independent of the operator set.
fn softmax(site: &mut Site<'_>) -> Outcome {
    let axis = site.axis(0, site.int("axis").unwrap_or(-1))?;
    let axes: Vec<usize> = (axis..site.rank(0)?).collect();
    axes::across(site, &axes, 1)
}

fn fused_matmul(site: &mut Site<'_>) -> Outcome {
    let set = |name: &str| site.int(name).unwrap_or(0) != 0;
    if set("transBatchA") || set("transBatchB") {
        return Err("it transposes batch axes".into());
    }
    let turned = [set("transA"), set("transB")];
    products::turned_matmul(site, [0, 1], turned)
}

/// A product with packed weights: the last axis becomes one of `N` elements.
fn quantised_weights(site: &mut Site<'_>) -> Outcome {
    let (fact, mut labels) = site.plain(0)?;
    let plain = labels.clone();
    let width = match site.int("N") {
        Some(width) => Length::fixed(width),
        None => site.open(),
    };
    let width = site.fresh(width);
    labels.pop();
    labels.push(width);
    if !site.inputs.iter().skip(1).flatten().all(Fact::is_shared) {
        return Err("its weights are computed from rows".into());
    }
    site.pass(&[(fact, plain)], &[labels], false)
}

fn q_gemm(site: &mut Site<'_>) -> Outcome {
    const LEFT: Label = 0;
    const RIGHT: Label = 1;
    const SUMMED: Label = 2;
    let side = |turned: bool, outer: Label, first: bool| match turned == first {
        true => vec![SUMMED, outer],
        false => vec![outer, SUMMED],
    };
    let set = |name: &str| site.int(name).unwrap_or(0) != 0;
    if site.rank(0)? != 2 || site.rank(3)? != 2 {
        return Err("a factor is not a matrix".into());
    }
    let a = (site.fact(0)?.clone(), side(set("transA"), LEFT, true));
    let b = (site.fact(3)?.clone(), side(set("transB"), RIGHT, false));
    let others = [1, 2, 4, 5, 6, 7, 8].into_iter().filter_map(|at| site.optional(at));
    if !others.into_iter().all(Fact::is_shared) {
        return Err("its scales or bias are computed from rows".into());
    }
    site.pass(&[a, b], &[vec![LEFT, RIGHT]], false)
}

/// Results with as many axes as the main input, of unknown lengths.
fn open_rank(site: &mut Site<'_>, main: usize) -> Outcome {
    let rank = site.rank(main)?;
    products::open_batch(site, main, rank)
}

/// A sum that is normalised along its last axis.
fn skip_norm(site: &mut Site<'_>) -> Outcome {
    let rank = site.rank(0)?;
    let mut operands: Vec<Operand> = Vec::new();
    for at in 0..site.inputs.len() {
        let Some(fact) = site.optional(at).cloned() else { continue };
        let own = fact
            .rank()
            .filter(|own| *own <= rank)
            .ok_or("the number of axes of an input is not known")?;
        operands.push((fact, (rank - own..rank).collect()));
    }
    let last = rank.checked_sub(1).ok_or("its input is a scalar")?;
    let width = site.shape(0)?.get(last).cloned().unwrap_or_else(Length::one);
    let mut labels: Vec<Label> = (0..last).collect();
    let mut small = labels.clone();
    labels.push(site.fresh(width));
    small.push(site.fresh(Length::one()));
    // The sum is the fourth output; mean and deviation precede it.
    site.pass(&operands, &[labels.clone(), small.clone(), small, labels], true)
}

/// Embedding: indices of words in, vectors and the number of words of each row out.
fn embed(site: &mut Site<'_>) -> Outcome {
    let length = site.shape(0)?.get(1).cloned().unwrap_or_else(Length::one);
    let width = site.optional(2).and_then(|table| table.shape.as_ref()?.get(1).cloned());
    let width = match width {
        Some(width) => width,
        None => site.open(),
    };
    let vectors = Some(vec![length, width]);
    products::by_first_axis(site, &[vectors.clone(), Some(Vec::new()), vectors])
}

/// Attention with projected inputs: rows are along axis 0, except in the state of earlier steps,
/// which has them along axis 1.
fn attention(site: &mut Site<'_>, first: &[usize], past: usize) -> Outcome {
    let mut operands = Vec::new();
    for at in 0..site.inputs.len() {
        let Some((fact, mut labels)) = site.apart(at)? else { continue };
        let place = match fact.row_axis() {
            Some(0) if first.contains(&at) || fact.rank() == Some(4) => labels.first_mut(),
            Some(1) if at == past => labels.get_mut(1),
            _ => None,
        };
        if let Some(label) = place {
            *label = 0;
        }
        operands.push((fact, labels));
    }
    let length = site.shape(0)?.get(1).cloned().unwrap_or_else(Length::one);
    let output = vec![0, site.fresh(length), site.fresh_open()];
    let two = site.fresh(Length::fixed(2));
    let present = vec![two, 0, site.fresh_open(), site.fresh_open(), site.fresh_open()];
    site.pass(&operands, &[output, present], false)
}

/// Attention over heads: rows are along axis 0 of all tensors.
fn heads(site: &mut Site<'_>) -> Outcome {
    let length = site.shape(0)?.get(1).cloned().unwrap_or_else(Length::one);
    let kept = |site: &mut Site<'_>| Some(vec![site.open(), site.open(), site.open()]);
    let output = Some(vec![length, site.open()]);
    let shapes = [output, kept(site), kept(site), kept(site)];
    products::by_first_axis(site, &shapes)
}
