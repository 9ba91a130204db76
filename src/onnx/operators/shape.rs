//! Operators on the shapes of tensors and the order of their elements.

use super::{Call, Outputs, Table, one, several};
use crate::axes::{Cut, axis};
use crate::host::HostTensor;
use crate::step::{Compare, Op};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, indices, literals};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[
    ("CenterCropPad", center_crop_pad),
    ("Concat", concat),
    ("DepthToSpace", depth_to_space),
    ("Expand", expand),
    ("Flatten", flatten),
    ("Reshape", reshape),
    ("ReverseSequence", reverse_sequence),
    ("Shape", shape),
    ("Size", size),
    ("Slice", slice),
    ("SpaceToDepth", space_to_depth),
    ("Split", split),
    ("Squeeze", squeeze),
    ("Tile", tile),
    ("Transpose", transpose),
    ("Trilu", trilu),
    ("Unsqueeze", unsqueeze),
];

/// The axes of an input or, in older files, an attribute; `None` if neither is given.
pub(super) fn axes(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    input: usize,
    rank: usize,
) -> Result<Option<Vec<usize>>> {
    let given = match call.optional(input)? {
        Some(given) => Some(literals::ints(t, given)?),
        None => call.ints("axes")?.map(<[i64]>::to_vec),
    };
    given.map(|given| given.iter().map(|at| axis(*at, rank)).collect()).transpose()
}

fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn shape(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let rank = number(x.rank());
    // ONNX clamps both ends to the rank.
    let place = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank);
    let start = place(call.int_or("start", 0)?);
    let end = place(call.int_or("end", rank)?);
    let dims = x.shape.iter().enumerate().filter(|(at, _)| (start..end).contains(&number(*at)));
    one(literals::indices(t, dims.map(|(_, dim)| number(*dim)).collect())?)
}

fn size(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let length = number(call.tensor(0)?.len());
    one(t.constant(HostTensor::ints(Elem::I64, vec![], vec![length]))?)
}

fn reshape(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let wanted = match call.optional(1)? {
        Some(shape) => literals::ints(t, shape)?,
        None => call.ints("shape")?.unwrap_or(&[]).to_vec(),
    };
    let literal = call.int_or("allowzero", 0)? != 0;
    let mut shape = Vec::with_capacity(wanted.len());
    for (at, dim) in wanted.iter().enumerate() {
        let kept = x.shape.get(at).copied();
        shape.push(match usize::try_from(*dim) {
            // 0 copies the length of the input, unless `allowzero` is set (opset 14).
            Ok(0) if !literal => {
                kept.ok_or_else(|| OnnxError::input(format!("axis {at} to copy does not exist")))?
            }
            Ok(dim) => dim,
            // The length to infer.
            Err(_) if *dim == -1 => usize::MAX,
            Err(_) => return Err(OnnxError::input(format!("{wanted:?} is not a shape"))),
        });
    }
    let open = shape.iter().filter(|dim| **dim == usize::MAX).count();
    let mut known = shape.iter().filter(|dim| **dim != usize::MAX);
    let known = known.try_fold(1usize, |size, dim| size.checked_mul(*dim)).unwrap_or(0);
    // With another length of 0, no length follows from the number of elements.
    if open == 1 && known > 0 && x.len().is_multiple_of(known) {
        shape.iter_mut().filter(|dim| **dim == usize::MAX).for_each(|dim| *dim = x.len() / known);
    } else if open > 0 {
        return Err(OnnxError::input(format!(
            "shape {:?} cannot be reshaped to {wanted:?}",
            x.shape
        )));
    }
    one(t.reshape(x, &shape)?)
}

fn transpose(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let order = match call.ints("perm")? {
        Some(perm) => perm.iter().map(|at| axis(*at, x.rank())).collect::<Result<_, _>>()?,
        None => (0..x.rank()).rev().collect::<Vec<_>>(),
    };
    one(axes::permute(t, x, &order)?)
}

fn squeeze(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let ones = || x.shape.iter().enumerate().filter(|(_, dim)| **dim == 1).map(|(at, _)| at);
    let axes = axes(t, call, 1, x.rank())?.unwrap_or_else(|| ones().collect());
    if axes.iter().any(|at| x.shape.get(*at) != Some(&1)) {
        return Err(OnnxError::input(format!(
            "axes {axes:?} of shape {:?} are not all 1",
            x.shape
        )));
    }
    one(axes::squeeze(t, x, &axes)?)
}

fn unsqueeze(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let count = match call.optional(1)? {
        Some(given) => given.len(),
        None => call.ints("axes")?.map_or(0, <[i64]>::len),
    };
    // Axes are counted in the result.
    let rank = x.rank() + count;
    let mut axes = axes(t, call, 1, rank)?.ok_or_else(|| OnnxError::invalid("axes are missing"))?;
    axes.sort_unstable();
    axes.dedup();
    if axes.len() != count {
        return Err(OnnxError::input("an axis is given twice"));
    }
    let mut dims = x.shape.iter().copied();
    let length = |at| if axes.contains(&at) { Some(1) } else { dims.next() };
    let shape: Vec<usize> = (0..rank).filter_map(length).collect();
    one(t.reshape(x, &shape)?)
}

fn flatten(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let at = call.int_or("axis", 1)?;
    let at = if at == number(x.rank()) { x.rank() } else { axis(at, x.rank())? };
    let (before, behind) = x.shape.split_at(at);
    one(t.reshape(x, &[before.iter().product(), behind.iter().product()])?)
}

fn concat(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let parts = call.tensors()?;
    let rank = parts.first().map_or(0, PlanTensor::rank);
    // Before opset 4 the axis was optional.
    let at = axis(call.int_or("axis", 1)?, rank)?;
    one(axes::cat(t, &parts, at)?)
}

fn expand(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let wanted = literals::lengths(t, call.tensor(1)?)?;
    let shape = crate::axes::broadcast(&x.shape, &wanted)?;
    one(axes::expand(t, x, &shape)?)
}

fn tile(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let times = literals::lengths(t, call.tensor(1)?)?;
    if times.len() != x.rank() {
        return Err(OnnxError::input(format!(
            "{} repeats do not fit {} axes",
            times.len(),
            x.rank()
        )));
    }
    // Each axis is split in two, of which the first is expanded.
    let pairs = || x.shape.iter().zip(&times);
    let apart: Vec<usize> = pairs().flat_map(|(dim, _)| [1, *dim]).collect();
    let grown: Vec<usize> = pairs().flat_map(|(dim, times)| [*times, *dim]).collect();
    let whole = pairs().map(|(dim, times)| dim.checked_mul(*times)).collect::<Option<Vec<_>>>();
    let whole = whole.ok_or_else(|| OnnxError::limit("the result is too large"))?;
    if whole.contains(&0) {
        return one(t.constant(HostTensor::numbers(x.elem, whole, vec![]))?);
    }
    let apart = t.reshape(x, &apart)?;
    let grown = axes::expand(t, &apart, &grown)?;
    one(t.reshape(&grown, &whole)?)
}

fn slice(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let (starts, ends, axes, steps) = match (call.optional(1)?, call.optional(2)?) {
        (Some(starts), Some(ends)) => {
            let axes = axes(t, call, 3, x.rank())?;
            let steps = call.optional(4)?.map(|steps| literals::ints(t, steps)).transpose()?;
            (literals::ints(t, starts)?, literals::ints(t, ends)?, axes, steps)
        }
        _ => {
            let axes = axes(t, call, usize::MAX, x.rank())?;
            let ints = |name| {
                Ok::<_, OnnxError>(
                    call.ints(name)?
                        .ok_or_else(|| OnnxError::invalid("starts or ends are missing"))?
                        .to_vec(),
                )
            };
            (ints("starts")?, ints("ends")?, axes, None)
        }
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len()).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if starts.len() != ends.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(OnnxError::input("starts, ends, axes and steps differ in number"));
    }
    let mut cuts: Vec<Cut> = x.shape.iter().map(|dim| Cut::all(*dim)).collect();
    for (((start, end), at), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let length = x.shape.get(*at).ok_or_else(|| OnnxError::input("an axis is out of range"))?;
        if let Some(cut) = cuts.get_mut(*at) {
            *cut = cut_of(number(*length), *start, *end, *step)?;
        }
    }
    one(axes::slice(t, x, &cuts)?)
}

/// Numpy's rules: negative numbers count from the end, and bounds are clamped to the range.
fn cut_of(length: i64, start: i64, end: i64, step: i64) -> Result<Cut> {
    if step == 0 {
        return Err(OnnxError::input("a step is zero"));
    }
    let place = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    // A longer step takes the same elements, and sums with it do not overflow.
    let step = step.clamp(-length.max(1), length.max(1));
    let (begin, end) = if step > 0 {
        (place(start).clamp(0, length), place(end).clamp(0, length))
    } else {
        // ONNX Runtime treats the largest integers as an open end, also backwards.
        let open = end == i64::MAX || end == i64::from(i32::MAX);
        let end = if open { -1 } else { place(end).clamp(-1, length - 1) };
        (place(start).clamp(-1, length - 1), end)
    };
    let cut = Cut { begin, end, step };
    // The ends of an empty slice may be in any order.
    Ok(if cut.len() == 0 { Cut { begin: 0, end: 0, step: 1 } } else { cut })
}

fn split(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let at = axis(call.int_or("axis", 0)?, x.rank())?;
    let length = x.shape.get(at).copied().unwrap_or(0);
    let given = match call.optional(1)? {
        Some(lengths) => Some(literals::lengths(t, lengths)?),
        None => call.ints("split")?.map(graph::raw::shape).transpose()?,
    };
    let count = call
        .int("num_outputs")?
        .map_or(call.outputs(), |count| usize::try_from(count).unwrap_or(0));
    // Bounds `num_outputs`, since `even` makes a list of this length.
    t.fits(x.elem, &[count])?;
    let lengths = given.unwrap_or_else(|| even(length, count));
    if lengths.iter().try_fold(0usize, |sum, part| sum.checked_add(*part)) != Some(length) {
        return Err(OnnxError::input(format!("the sum of the parts {lengths:?} is not {length}")));
    }
    let mut parts = Vec::with_capacity(lengths.len());
    let mut begin = 0;
    for part in lengths {
        parts.push(axes::narrow(t, x, at, Cut::range(begin, begin + part))?);
        begin += part;
    }
    several(parts)
}

/// Parts of equal length; the last one is shorter if the length is not a multiple.
fn even(length: usize, count: usize) -> Vec<usize> {
    let part = length.div_ceil(count.max(1));
    let parts = (0..count).map(|at| part.min(length.saturating_sub(at.saturating_mul(part))));
    parts.collect()
}

/// The batch, the channels and the two axes of an image.
fn image(x: &PlanTensor) -> Result<[usize; 4]> {
    x.shape
        .as_slice()
        .try_into()
        .map_err(|_| OnnxError::input(format!("shape {:?} does not have four axes", x.shape)))
}

fn block(call: &Call<'_>) -> Result<usize> {
    let block = call.int("blocksize")?.and_then(|block| usize::try_from(block).ok());
    block
        // Bounded, so that the square does not overflow.
        .filter(|block| (1..1 << 16).contains(block))
        .ok_or_else(|| OnnxError::invalid("attribute blocksize must be greater than zero"))
}

fn depth_to_space(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, block) = (call.tensor(0)?, block(call)?);
    let [n, c, h, w] = image(x)?;
    let depth = c / (block * block);
    if depth * block * block != c {
        return Err(OnnxError::input(format!(
            "{c} channels are not a multiple of {block} x {block}"
        )));
    }
    let first = call.text("mode")?.is_none_or(|mode| mode == "DCR");
    // DCR has the block in front of the depth, CRD behind it.
    let apart = if first { [n, block, block, depth, h, w] } else { [n, depth, block, block, h, w] };
    let order = if first { [0, 3, 4, 1, 5, 2] } else { [0, 1, 4, 2, 5, 3] };
    let apart = t.reshape(x, &apart)?;
    let turned = axes::permute(t, &apart, &order)?;
    one(t.reshape(&turned, &[n, depth, h * block, w * block])?)
}

fn space_to_depth(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, block) = (call.tensor(0)?, block(call)?);
    let [n, c, h, w] = image(x)?;
    if h % block != 0 || w % block != 0 {
        return Err(OnnxError::input(format!("{h} x {w} is not a multiple of {block}")));
    }
    let apart = t.reshape(x, &[n, c, h / block, block, w / block, block])?;
    let turned = axes::permute(t, &apart, &[0, 3, 5, 1, 2, 4])?;
    one(t.reshape(&turned, &[n, c * block * block, h / block, w / block])?)
}

fn reverse_sequence(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let batch = axis(call.int_or("batch_axis", 1)?, x.rank())?;
    let time = axis(call.int_or("time_axis", 0)?, x.rank())?;
    let (rows, steps) = (x.shape.get(batch).copied(), x.shape.get(time).copied());
    let (rows, steps) = (rows.unwrap_or(0), number(steps.unwrap_or(0)));
    let lengths = literals::ints(t, call.tensor(1)?)?;
    if lengths.len() != rows || batch == time || lengths.iter().any(|n| !(0..=steps).contains(n)) {
        return Err(OnnxError::input(format!(
            "lengths {lengths:?} do not fit {rows} rows of {steps} steps"
        )));
    }
    let mut done = Vec::with_capacity(rows);
    for (row, length) in lengths.iter().enumerate() {
        let of_one = axes::narrow(t, x, batch, Cut::range(row, row + 1))?;
        let order = (0..steps).map(|at| if at < *length { length - 1 - at } else { at }).collect();
        let order = literals::indices(t, order)?;
        done.push(indices::select(t, &of_one, time, &order)?);
    }
    one(axes::cat(t, &done, batch)?)
}

fn trilu(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let [.., rows, columns] = x.shape[..] else {
        return Err(OnnxError::input(format!("shape {:?} is not a matrix", x.shape)));
    };
    let k = call.optional(1)?.map(|k| literals::ints(t, k)).transpose()?;
    let k = k.and_then(|k| k.first().copied()).unwrap_or(0);
    let upper = call.int_or("upper", 1)? != 0;
    if x.len() == 0 {
        return one(x.clone());
    }
    let row =
        t.constant(HostTensor::ints(Elem::I64, vec![rows, 1], (0..number(rows)).collect()))?;
    let column =
        t.constant(HostTensor::ints(Elem::I64, vec![columns], (0..number(columns)).collect()))?;
    // k may be any 64-bit integer; diagonals outside of the matrix are equivalent.
    let far = number(rows).saturating_add(number(columns));
    let diagonal = t.constant(HostTensor::ints(Elem::I64, vec![], vec![k.clamp(-far, far)]))?;
    let row = t.add(&row, &diagonal)?;
    let compare = if upper { Compare::GreaterEqual } else { Compare::LessEqual };
    let kept = t.compare(compare, &column, &row)?;
    let zero = t.number(x.elem, 0.0)?;
    if x.elem == Elem::Bool {
        let kept = axes::expand(t, &kept, &x.shape)?;
        return one(t.binary(crate::step::Binary::And, x, &kept)?);
    }
    one(t.choose(&kept, x, &zero)?)
}

fn center_crop_pad(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let mut x = call.tensor(0)?.clone();
    let wanted = literals::lengths(t, call.tensor(1)?)?;
    let axes = axes(t, call, usize::MAX, x.rank())?.unwrap_or_else(|| (0..x.rank()).collect());
    if axes.len() != wanted.len() {
        return Err(OnnxError::input(format!(
            "{} lengths do not fit {} axes",
            wanted.len(),
            axes.len()
        )));
    }
    for (at, wanted) in axes.into_iter().zip(wanted) {
        let length = x.shape.get(at).copied().unwrap_or(0);
        if wanted < length {
            let begin = (length - wanted) / 2;
            x = axes::narrow(t, &x, at, Cut::range(begin, begin + wanted))?;
        } else if wanted > length {
            let mut padding = vec![(0, 0); x.rank()];
            let before = (wanted - length) / 2;
            if let Some(pair) = padding.get_mut(at) {
                *pair = (before, wanted - length - before);
            }
            x = axes::pad(t, &x, &padding, 0.0)?;
        }
    }
    one(x)
}

/// The tensor with its elements along some axes reversed.
pub(super) fn flip(t: &mut Tracer<'_>, x: &PlanTensor, axes: &[usize]) -> Result<PlanTensor> {
    t.emit(Op::Flip(axes.to_vec()), &[x], x.elem, x.shape.clone())
}
