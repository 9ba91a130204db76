//! Attention and rotary embeddings: the ONNX operators Attention and RotaryEmbedding.

use super::{Call, Outputs, Table, one};
use crate::axes::Cut;
use crate::host::HostTensor;
use crate::step::{Binary, Compare, Op, Unary};
use crate::trace::{PlanTensor, Tracer, Value};
use crate::{axes, cast, indices, matmul};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[("Attention", attention), ("RotaryEmbedding", rotary)];

/// `[batch, heads, length, size]` from `[batch, length, heads * size]`.
pub(super) fn apart(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    heads: Option<i64>,
    name: &str,
) -> Result<PlanTensor> {
    if x.rank() == 4 {
        return Ok(x.clone());
    }
    let heads = heads.and_then(|heads| usize::try_from(heads).ok()).filter(|heads| *heads > 0);
    let heads = heads.ok_or_else(|| OnnxError::invalid(format!("{name} is missing")))?;
    let [batch, length, width] = x.shape[..] else {
        return Err(OnnxError::input(format!(
            "shape {:?} has neither three nor four axes",
            x.shape
        )));
    };
    if width % heads != 0 {
        return Err(OnnxError::input(format!(
            "a width of {width} is not divisible by {heads} heads"
        )));
    }
    let split = t.reshape(x, &[batch, length, heads, width / heads])?;
    axes::permute(t, &split, &[0, 2, 1, 3])
}

/// `[batch, length, heads * size]` from `[batch, heads, length, size]`.
pub(super) fn together(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    let [batch, heads, length, size] = x.shape[..] else { return Ok(x.clone()) };
    let turned = axes::permute(t, x, &[0, 2, 1, 3])?;
    t.reshape(&turned, &[batch, length, heads * size])
}

/// Repeats keys or values that several heads share, for each of these heads.
pub(super) fn repeated(t: &mut Tracer<'_>, x: &PlanTensor, heads: usize) -> Result<PlanTensor> {
    let [batch, own, length, size] = x.shape[..] else {
        return Err(OnnxError::input(format!("shape {:?} does not have four axes", x.shape)));
    };
    if own == heads {
        return Ok(x.clone());
    }
    if own == 0 || !heads.is_multiple_of(own) {
        return Err(OnnxError::input(format!(
            "{heads} heads cannot share {own} heads of keys and values"
        )));
    }
    // Adjacent heads share keys and values (grouped-query attention).
    let single = t.reshape(x, &[batch, own, 1, length, size])?;
    let grown = axes::expand(t, &single, &[batch, own, heads / own, length, size])?;
    t.reshape(&grown, &[batch, heads, length, size])
}

fn attention(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let flat = call.tensor(0)?.rank() == 3;
    let q_heads = call.int("q_num_heads")?;
    let kv_heads = call.int("kv_num_heads")?;
    let query = apart(t, call.tensor(0)?, q_heads, "q_num_heads")?;
    let mut key = apart(t, call.tensor(1)?, kv_heads, "kv_num_heads")?;
    let mut value = apart(t, call.tensor(2)?, kv_heads, "kv_num_heads")?;
    let mut before = 0;
    if let (Some(past_key), Some(past_value)) = (call.optional(4)?, call.optional(5)?) {
        before = past_key.shape.get(2).copied().unwrap_or(0);
        key = axes::cat(t, &[past_key.clone(), key], 2)?;
        value = axes::cat(t, &[past_value.clone(), value], 2)?;
    }
    // The cache has the heads of the inputs, before they are repeated.
    let present = (key.clone(), value.clone());
    let [_, heads, length, size] = query.shape[..] else {
        return Err(OnnxError::input("expected four axes"));
    };
    let (key, value) = (repeated(t, &key, heads)?, repeated(t, &value, heads)?);
    let total = key.shape.get(2).copied().unwrap_or(0);
    let scale = call.float("scale")?.unwrap_or(1.0 / (size as f64).sqrt());
    let mask = mask(t, call, &query, (length, total), before)?;
    let softcap = call.float_or("softcap", 0.0)?;
    let wants_scores = call.outputs() > 3;
    let (y, scores) = if softcap == 0.0 && !wants_scores {
        (plain(t, (&query, &key, &value), mask.as_ref(), scale)?, None)
    } else {
        let mode = call.int_or("qk_matmul_output_mode", 0)?;
        let (y, scores) =
            with_scores(t, (&query, &key, &value), mask.as_ref(), scale, (softcap, mode))?;
        (y, Some(scores))
    };
    let y = if flat { together(t, &y)? } else { y };
    let mut outputs = vec![y, present.0, present.1];
    outputs.extend(scores);
    Ok(outputs.into_iter().map(Value::Tensor).collect())
}

/// softmax(q k^T * scale + mask) v. A row in which all keys are masked gives zeros.
fn plain(
    t: &mut Tracer<'_>,
    (query, key, value): (&PlanTensor, &PlanTensor, &PlanTensor),
    mask: Option<&PlanTensor>,
    scale: f64,
) -> Result<PlanTensor> {
    let (y, _) = with_scores(t, (query, key, value), mask, scale, (0.0, 3))?;
    Ok(y)
}

/// The result, and the scores at the stage that the mode names: after the product, the mask, the
/// cap, or the softmax.
fn with_scores(
    t: &mut Tracer<'_>,
    (query, key, value): (&PlanTensor, &PlanTensor, &PlanTensor),
    mask: Option<&PlanTensor>,
    scale: f64,
    (softcap, mode): (f64, i64),
) -> Result<(PlanTensor, PlanTensor)> {
    // The root of the scale on both sides keeps the products small.
    let root = scale.abs().sqrt();
    let query = t.scalar(Binary::Mul, query, root * scale.signum())?;
    let key = t.scalar(Binary::Mul, key, root)?;
    let key = axes::swap(t, &key, 2, 3)?;
    let product = matmul::matmul(t, &query, &key)?;
    let mut stage = product.clone();
    let mut scores = product;
    if softcap != 0.0 {
        let small = t.scalar(Binary::Div, &scores, softcap)?;
        let capped = t.unary(Unary::Tanh, &small)?;
        scores = t.scalar(Binary::Mul, &capped, softcap)?;
        if mode == 1 {
            stage = scores.clone();
        }
    } else if mode == 1 {
        stage = scores.clone();
    }
    if let Some(mask) = mask {
        scores = t.add(&scores, mask)?;
    }
    if mode == 2 {
        stage = scores.clone();
    }
    let shape = scores.shape.clone();
    let mut shares = t.emit(Op::Softmax(3), &[&scores], scores.elem, shape)?;
    if mask.is_some() {
        // If all keys are masked, the shares are NaN and become zero.
        let none = t.unary(Unary::IsNan, &shares)?;
        let zero = t.number(shares.elem, 0.0)?;
        shares = t.choose(&none, &zero, &shares)?;
    }
    if mode == 3 {
        stage = shares.clone();
    }
    Ok((matmul::matmul(t, &shares, value)?, stage))
}

/// The sum that is added to the scores: the mask of the node, causality, lengths of keys.
fn mask(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    query: &PlanTensor,
    (length, total): (usize, usize),
    before: usize,
) -> Result<Option<PlanTensor>> {
    let mut sum: Option<PlanTensor> = None;
    let elem = query.elem;
    if let Some(given) = call.optional(3)? {
        let given = widened(t, given, total)?;
        sum = Some(if given.elem == Elem::Bool { shut(t, &given, elem)? } else { given });
    }
    let padded = call.optional(6)?;
    if call.int_or("is_causal", 0)? != 0 {
        let mut rows = t.constant(HostTensor::ints(Elem::I64, vec![length, 1], count(length)))?;
        let columns = t.constant(HostTensor::ints(Elem::I64, vec![total], count(total)))?;
        let offset = match padded {
            // The last query sees the last valid key.
            Some(lengths) => {
                let lengths = cast::cast(t, lengths, Elem::I64)?;
                let lengths = t.reshape(&lengths, &[lengths.len(), 1, 1, 1])?;
                let own = t.number(Elem::I64, length as f64)?;
                t.sub(&lengths, &own)?
            }
            // The first query follows the last key of the cache.
            None => t.number(Elem::I64, before as f64)?,
        };
        rows = t.add(&rows, &offset)?;
        let seen = t.compare(Compare::LessEqual, &columns, &rows)?;
        let shut = shut(t, &seen, elem)?;
        sum = Some(join(t, sum, shut)?);
    }
    if let Some(lengths) = padded {
        let lengths = cast::cast(t, lengths, Elem::I64)?;
        let lengths = t.reshape(&lengths, &[lengths.len(), 1, 1, 1])?;
        let columns = t.constant(HostTensor::ints(Elem::I64, vec![total], count(total)))?;
        let seen = t.compare(Compare::Less, &columns, &lengths)?;
        let shut = shut(t, &seen, elem)?;
        sum = Some(join(t, sum, shut)?);
    }
    Ok(sum)
}

fn count(length: usize) -> Vec<i64> {
    (0..length).filter_map(|at| i64::try_from(at).ok()).collect()
}

fn join(t: &mut Tracer<'_>, sum: Option<PlanTensor>, next: PlanTensor) -> Result<PlanTensor> {
    match sum {
        Some(sum) => t.add(&sum, &next),
        None => Ok(next),
    }
}

/// Minus infinity where `seen` is false.
fn shut(t: &mut Tracer<'_>, seen: &PlanTensor, elem: Elem) -> Result<PlanTensor> {
    let (zero, shut) = (t.number(elem, 0.0)?, t.number(elem, f64::NEG_INFINITY)?);
    t.choose(seen, &zero, &shut)
}

/// Extends a mask for fewer keys; the other keys are masked.
fn widened(t: &mut Tracer<'_>, mask: &PlanTensor, total: usize) -> Result<PlanTensor> {
    let last = mask.shape.last().copied().unwrap_or(0);
    // A single column is broadcast to all keys.
    if last == total || last == 1 {
        return Ok(mask.clone());
    }
    let missing = total
        .checked_sub(last)
        .ok_or_else(|| OnnxError::input(format!("the mask has {last} keys, which are too many")))?;
    let mut padding = vec![(0, 0); mask.rank()];
    if let Some(pair) = padding.last_mut() {
        *pair = (0, missing);
    }
    let value = if mask.elem == Elem::Bool { 0.0 } else { f64::NEG_INFINITY };
    axes::pad(t, mask, &padding, value)
}

fn rotary(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let given = call.tensor(0)?;
    let flat = given.rank() == 3;
    let x = apart(t, given, call.int("num_heads")?, "num_heads")?;
    let [batch, _, length, size] = x.shape[..] else {
        return Err(OnnxError::input("expected four axes"));
    };
    let part = usize::try_from(call.int_or("rotary_embedding_dim", 0)?).unwrap_or(0);
    // 0 is the default and stands for all elements.
    let part = if part == 0 { size } else { part };
    if part > size || !part.is_multiple_of(2) {
        return Err(OnnxError::input(format!("cannot rotate {part} of {size} elements")));
    }
    let half = part / 2;
    let mut tables = Vec::with_capacity(2);
    for at in [1, 2] {
        let table = call.tensor(at)?;
        let picked = match call.optional(3)? {
            Some(places) => {
                let flat = cast::cast(t, places, Elem::I64)?;
                let flat = t.reshape(&flat, &[places.len()])?;
                let flat = indices::places_of(t, &flat, table.shape.first().copied().unwrap_or(0))?;
                let picked = indices::select(t, table, 0, &flat)?;
                let width = table.shape.last().copied().unwrap_or(0);
                t.reshape(&picked, &[batch, length, width])?
            }
            None => table.clone(),
        };
        let axis = picked.rank() - 1;
        let picked = axes::narrow(t, &picked, axis, Cut::range(0, half))?;
        // All heads share the table.
        tables.push(axes::unsqueeze(t, &picked, 1)?);
    }
    let [cos, sin] = &tables[..] else { return Err(OnnxError::internal("expected two tables")) };
    let whole = turned(t, &x, cos, sin, call.int_or("interleaved", 0)? != 0)?;
    one(if flat { together(t, &whole)? } else { whole })
}

/// Rotates pairs of the first elements of `[batch, heads, length, size]` by tables of cosines and
/// sines `[batch or 1, 1, length, half]`; the elements of a pair are adjacent if `mixed`.
pub(super) fn turned(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    cos: &PlanTensor,
    sin: &PlanTensor,
    mixed: bool,
) -> Result<PlanTensor> {
    let half = cos.shape.last().copied().unwrap_or(0);
    let size = x.shape.last().copied().unwrap_or(0);
    let turned = 2 * half;
    if turned > size || x.rank() != 4 {
        return Err(OnnxError::input(format!(
            "cannot rotate {turned} elements of shape {:?}",
            x.shape
        )));
    }
    let part = axes::narrow(t, x, 3, Cut::range(0, turned))?;
    let end = i64::try_from(turned).unwrap_or(0);
    let (first, second) = if mixed {
        let every = |begin| Cut { begin, end, step: 2 };
        (axes::narrow(t, &part, 3, every(0))?, axes::narrow(t, &part, 3, every(1))?)
    } else {
        (
            axes::narrow(t, &part, 3, Cut::range(0, half))?,
            axes::narrow(t, &part, 3, Cut::range(half, turned))?,
        )
    };
    // A pair is a complex number, and is multiplied by cos + i sin.
    let (a, b) = (t.mul(&first, cos)?, t.mul(&second, sin)?);
    let real = t.sub(&a, &b)?;
    let (a, b) = (t.mul(&first, sin)?, t.mul(&second, cos)?);
    let imaginary = t.add(&a, &b)?;
    let both = if mixed {
        let (real, imaginary) = (axes::unsqueeze(t, &real, 4)?, axes::unsqueeze(t, &imaginary, 4)?);
        let pairs = axes::cat(t, &[real, imaginary], 4)?;
        t.reshape(&pairs, &part.shape)?
    } else {
        axes::cat(t, &[real, imaginary], 3)?
    };
    if turned == size {
        return Ok(both);
    }
    let rest = axes::narrow(t, x, 3, Cut::range(turned, size))?;
    axes::cat(t, &[both, rest], 3)
}
