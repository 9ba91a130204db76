//! Weights of a few bits in blocks with a common scale.

use super::super::quantise::{ScaleLayout, dequantised};
use super::super::{Call, Outputs, Table, one};
use super::activation::with_bias;
use super::count;
use crate::axes::{Cut, axis};
use crate::step::{Binary, Compare, Op, Packed, Reduce, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, build, cast, indices, literals};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table =
    &[("GatherBlockQuantized", gather), ("MatMulNBits", matmul)];

fn bits(call: &Call<'_>) -> Result<usize> {
    let bits = call.int_or("bits", 4)?;
    let bits = usize::try_from(bits).ok().filter(|bits| matches!(bits, 2 | 4 | 8));
    bits.ok_or_else(|| OnnxError::unsupported("attribute bits: only 2, 4 and 8 are supported"))
}

fn block(call: &Call<'_>, default: Option<i64>) -> Result<usize> {
    let size = call.int("block_size")?.or(default);
    let size = size.and_then(|size| usize::try_from(size).ok());
    let fits = |size: &usize| (16..=1 << 24).contains(size) && size.is_power_of_two();
    size.filter(fits).ok_or_else(|| {
        OnnxError::unsupported("attribute block_size: must be a power of two of at least 16")
    })
}

/// Packed weights in the form of the device: in words of 32 bits if it would hold each byte in one.
/// Also returns the bits of a word.
fn packed(t: &mut Tracer<'_>, codes: &PlanTensor) -> Result<(PlanTensor, usize)> {
    let last = codes.shape.last().copied().unwrap_or(0);
    if t.place().host || !codes.is_constant() || !last.is_multiple_of(4) || codes.len() == 0 {
        return Ok((codes.clone(), 8));
    }
    let mut shape = codes.shape.clone();
    if let Some(length) = shape.last_mut() {
        *length = last / 4;
    }
    Ok((t.emit(Op::Words, &[codes], Elem::I32, shape)?, 32))
}

/// Unpacks weights along the last axis, as floats.
fn unpacked(
    t: &mut Tracer<'_>,
    codes: &PlanTensor,
    bits: usize,
    word: usize,
) -> Result<PlanTensor> {
    let mut shape = codes.shape.clone();
    if let Some(length) = shape.last_mut() {
        *length *= word / bits;
    }
    t.emit(Op::Unpack(bits, word), &[codes], Elem::F32, shape)
}

/// Zero points `[columns, blocks]`, packed or of the type of the scales.
fn zeros(
    t: &mut Tracer<'_>,
    zeros: &PlanTensor,
    bits: usize,
    (columns, blocks): (usize, usize),
) -> Result<PlanTensor> {
    if zeros.elem != Elem::U8 {
        let zeros = cast::cast(t, zeros, Elem::F32)?;
        return t.reshape(&zeros, &[columns, blocks]);
    }
    let bytes = (blocks * bits).div_ceil(8);
    let zeros = t.reshape(zeros, &[columns, bytes])?;
    let all = unpacked(t, &zeros, bits, 8)?;
    axes::narrow(t, &all, 1, Cut::range(0, blocks))
}

fn matmul(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, codes) = (call.tensor(0)?, call.tensor(1)?);
    let (bits, block) = (bits(call)?, block(call, None)?);
    let (inner, columns) = (count(call, "K")?, count(call, "N")?);
    if call.int_or("weight_prepacked", 0)? != 0 {
        return Err(OnnxError::unsupported(
            "attribute weight_prepacked: weights for one device are not supported",
        ));
    }
    let Some((own, before)) = x.shape.split_last().filter(|(own, _)| **own == inner) else {
        return Err(OnnxError::input(format!(
            "attribute K: {inner} does not fit shape {:?}",
            x.shape
        )));
    };
    let rows = x.len() / own;
    let shape: Vec<usize> = before.iter().copied().chain([columns]).collect();
    if rows == 0 || codes.len() == 0 {
        let nothing = axes::full(t, x.elem, shape, 0.0)?;
        return one(with_bias(t, &nothing, call.optional(5)?)?);
    }
    let blocks = inner.div_ceil(block);
    let bytes = block * bits / 8;
    if codes.elem != Elem::U8 || codes.len() != columns * blocks * bytes {
        return Err(OnnxError::input(format!(
            "weights of {}{:?} do not fit {columns} columns",
            codes.elem, codes.shape
        )));
    }
    let codes = t.reshape(codes, &[columns, blocks, bytes])?;
    let (codes, word) = packed(t, &codes)?;
    if !x.elem.is_float() {
        return Err(OnnxError::invalid(format!("an input of type {} is not supported", x.elem)));
    }
    let scales = cast::cast(t, call.tensor(2)?, Elem::F32)?;
    let scales = t.reshape(&scales, &[columns, blocks])?;
    let zeros = match call.optional(3)? {
        Some(given) => Some(zeros(t, given, bits, (columns, blocks))?),
        None => None,
    };
    grouped(t, call, inner, block)?;
    let flat = t.reshape(x, &[rows, inner])?;
    let flat = rounded(t, call, &flat, block)?;
    let layout = Packed { bits, word, block, inner, columns };
    let inputs: Vec<&PlanTensor> =
        [&flat, &codes, &scales].into_iter().chain(zeros.as_ref()).collect();
    let y = t.emit(Op::Packed(layout), &inputs, x.elem, vec![rows, columns])?;
    let y = t.reshape(&y, &shape)?;
    one(with_bias(t, &y, call.optional(5)?)?)
}

/// Rejects groups of elements other than blocks of adjacent ones.
fn grouped(t: &mut Tracer<'_>, call: &Call<'_>, inner: usize, block: usize) -> Result<()> {
    let Some(groups) = call.optional(4)? else { return Ok(()) };
    let groups = literals::ints(t, groups)?;
    let mut all = groups.iter().take(inner).enumerate();
    let plain = all.all(|(at, group)| usize::try_from(*group).is_ok_and(|own| own == at / block));
    if plain || groups.is_empty() {
        return Ok(());
    }
    Err(OnnxError::unsupported(
        "input g_idx: groups of elements that are not adjacent are not supported",
    ))
}

/// The input at accuracy level 4: signed 8-bit integers, with one scale for each block.
fn rounded(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    x: &PlanTensor,
    block: usize,
) -> Result<PlanTensor> {
    let [rows, inner] = x.shape[..] else { return Err(OnnxError::input("expected two axes")) };
    if call.int_or("accuracy_level", 0)? != 4 {
        return Ok(x.clone());
    }
    let blocks = inner.div_ceil(block);
    let padded = axes::pad(t, x, &[(0, 0), (0, blocks * block - inner)], 0.0)?;
    let apart = t.reshape(&padded, &[rows, blocks, block])?;
    let size = t.unary(Unary::Abs, &apart)?;
    let most = t.reduce(Reduce::Max, &size, &[2])?;
    let scale = t.scalar(Binary::Div, &most, 127.0)?;
    let zero = t.number(scale.elem, 0.0)?;
    let none = t.compare(Compare::Equal, &scale, &zero)?;
    let unit = t.number(scale.elem, 1.0)?;
    let scale = t.choose(&none, &unit, &scale)?;
    let ratio = t.div(&apart, &scale)?;
    let codes = t.unary(Unary::Round, &ratio)?;
    let values = t.mul(&codes, &scale)?;
    let flat = t.reshape(&values, &[rows, blocks * block])?;
    axes::narrow(t, &flat, 1, Cut::range(0, inner))
}

/// Dequantised rows of a table at indices; zeros for indices out of range.
fn gather(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (data, index, scales) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    if !index.elem.is_int() || !scales.elem.is_float() {
        return Err(OnnxError::invalid(format!(
            "indices of type {} and scales of type {} are not supported",
            index.elem, scales.elem
        )));
    }
    let by = axis(call.int_or("gather_axis", 0)?, data.rank())?;
    let along = axis(call.int_or("quantize_axis", 1)?, data.rank())?;
    let block = block(call, Some(128))?;
    let bits = if data.elem == Elem::U8 { bits(call)? } else { 8 };
    if bits < 8 && (along + 1 != data.rank() || by == along) {
        return Err(OnnxError::unsupported(
            "attribute quantize_axis: packed data must be quantised along the last axis",
        ));
    }
    let length = data.shape.get(by).copied().unwrap_or(0);
    let (flat, inside) = places(t, index, length)?;
    let (codes, word) = if bits < 8 { packed(t, data)? } else { (data.clone(), 8) };
    let mut codes = indices::select(t, &codes, by, &flat)?;
    if bits < 8 {
        codes = unpacked(t, &codes, bits, word)?;
    }
    let own = if by == along {
        let width = t.number(Elem::I64, block as f64)?;
        t.div(&flat, &width)?
    } else {
        flat
    };
    let scales = indices::select(t, scales, by, &own)?;
    let zeros = match call.optional(3)? {
        Some(zeros) => {
            let zeros = indices::select(t, zeros, by, &own)?;
            Some(if bits < 8 { unpacked_to(t, &zeros, bits, &scales)? } else { zeros })
        }
        None if data.elem == Elem::U8 => {
            let middle = (1u32 << (bits - 1)).into();
            Some(axes::full(t, Elem::F32, scales.shape.clone(), middle)?)
        }
        None => None,
    };
    // Each gathered element has its own scale if the blocks are along the gathered axis.
    let block = if by == along { 1 } else { block };
    let layout = ScaleLayout { axis: along, block };
    let y = dequantised(t, &codes, &scales, zeros.as_ref(), &layout, scales.elem)?;
    let zero = t.number(y.elem, 0.0)?;
    let mut line = vec![1; y.rank()];
    if let Some(own) = line.get_mut(by) {
        *own = inside.len();
    }
    let inside = t.reshape(&inside, &line)?;
    let y = t.choose(&inside, &y, &zero)?;
    let (before, behind) = y.shape.split_at(by);
    let shape: Vec<usize> =
        before.iter().chain(&index.shape).chain(behind.iter().skip(1)).copied().collect();
    one(t.reshape(&y, &shape)?)
}

/// Indices with one axis, clamped to the range, and a tensor that is true for those in range.
fn places(
    t: &mut Tracer<'_>,
    index: &PlanTensor,
    length: usize,
) -> Result<(PlanTensor, PlanTensor)> {
    let index = cast::cast(t, index, Elem::I64)?;
    let index = t.reshape(&index, &[index.len()])?;
    let end = t.number(Elem::I64, length as f64)?;
    let below = build::compare_zero(t, &index)?;
    let shifted = t.add(&index, &end)?;
    let index = t.choose(&below, &shifted, &index)?;
    let negative = build::compare_zero(t, &index)?;
    let from_zero = t.unary(Unary::Not, &negative)?;
    let to_end = t.compare(Compare::Less, &index, &end)?;
    let inside = t.binary(Binary::And, &from_zero, &to_end)?;
    let index = build::clamp(t, &index, Some(0.0), Some((length as f64 - 1.0).max(0.0)))?;
    Ok((index, inside))
}

/// Unpacks as many zero points as there are scales.
fn unpacked_to(
    t: &mut Tracer<'_>,
    zeros: &PlanTensor,
    bits: usize,
    scales: &PlanTensor,
) -> Result<PlanTensor> {
    let last =
        scales.rank().checked_sub(1).ok_or_else(|| OnnxError::input("scales are a scalar"))?;
    let all = unpacked(t, zeros, bits, 8)?;
    axes::narrow(t, &all, last, Cut::range(0, scales.shape.get(last).copied().unwrap_or(0)))
}
