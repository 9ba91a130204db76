//! Operations on axes: moving, slicing, joining, padding.

use super::host::HostTensor;
use super::step::Op;
use super::trace::{PlanTensor, Tracer};
use burn::tensor::Slice;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

/// One axis of a slice: begin, end (exclusive) and step, which may be negative. All of it must be
/// inside the axis: with a negative step, `begin` is the last element and `end` may be -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) begin: i64,
    pub(crate) end: i64,
    pub(crate) step: i64,
}

impl Cut {
    pub(crate) fn all(length: usize) -> Cut {
        Cut { begin: 0, end: i64::try_from(length).unwrap_or(i64::MAX), step: 1 }
    }

    pub(crate) fn range(begin: usize, end: usize) -> Cut {
        let number = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
        Cut { begin: number(begin), end: number(end), step: 1 }
    }

    pub(crate) fn len(&self) -> usize {
        let (distance, step) = (self.end - self.begin, self.step);
        if step == 0 || distance.signum() != step.signum() {
            return 0;
        }
        // The quotient is rounded up: a last step that is cut short still begins at an element.
        usize::try_from((distance.abs() + step.abs() - 1) / step.abs()).unwrap_or(0)
    }

    fn lies_within(&self, length: usize) -> bool {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        // An empty cut may begin anywhere, since no element is read.
        self.len() == 0 || (0..length).contains(&self.begin) && (-1..=length).contains(&self.end)
    }
}

/// The shape that two shapes broadcast to (multidirectional broadcasting of ONNX).
///
/// # Errors
/// If two lengths differ and neither is 1.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], at: usize| {
        // Shapes are aligned at their last axes; an axis that is missing in front has length 1.
        (at + shape.len()).checked_sub(rank).and_then(|at| shape.get(at)).copied().unwrap_or(1)
    };
    let both = |at| match (dim(a, at), dim(b, at)) {
        (x, y) if x == y => Ok(x),
        (1, y) => Ok(y),
        (x, 1) => Ok(x),
        _ => Err(OnnxError::input(format!("shapes {a:?} and {b:?} cannot be broadcast together"))),
    };
    (0..rank).map(both).collect()
}

/// An axis, counted from the front.
///
/// # Errors
/// If the axis does not exist.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize> {
    let rank_number = i64::try_from(rank).unwrap_or(i64::MAX);
    let at = if axis < 0 { axis + rank_number } else { axis };
    let at = usize::try_from(at).ok().filter(|at| *at < rank);
    at.ok_or_else(|| OnnxError::input(format!("axis {axis} is out of range for {rank} axes")))
}

/// The tensor with axes of length 1 in front, up to `rank` axes.
pub(crate) fn with_rank(t: &mut Tracer<'_>, x: &PlanTensor, rank: usize) -> Result<PlanTensor> {
    let missing = rank.saturating_sub(x.rank());
    let shape: Vec<usize> = std::iter::repeat_n(1, missing).chain(x.shape.clone()).collect();
    t.reshape(x, &shape)
}

pub(crate) fn expand(t: &mut Tracer<'_>, x: &PlanTensor, shape: &[usize]) -> Result<PlanTensor> {
    if x.shape == shape {
        return Ok(x.clone());
    }
    // A smaller target broadcasts as well, since broadcasting works in both directions.
    if broadcast(&x.shape, shape)? != shape {
        return Err(OnnxError::input(format!(
            "shape {:?} cannot be expanded to {shape:?}",
            x.shape
        )));
    }
    let x = with_rank(t, x, shape.len())?;
    t.emit(Op::Expand(shape.to_vec()), &[&x], x.elem, shape.to_vec())
}

pub(crate) fn permute(t: &mut Tracer<'_>, x: &PlanTensor, axes: &[usize]) -> Result<PlanTensor> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if sorted != (0..x.rank()).collect::<Vec<_>>() {
        return Err(OnnxError::input(format!("{axes:?} is not an order of {} axes", x.rank())));
    }
    if axes.iter().enumerate().all(|(at, axis)| at == *axis) {
        return Ok(x.clone());
    }
    let shape = axes.iter().filter_map(|axis| x.shape.get(*axis)).copied().collect();
    t.emit(Op::Permute(axes.to_vec()), &[x], x.elem, shape)
}

/// The tensor with two axes exchanged.
pub(crate) fn swap(t: &mut Tracer<'_>, x: &PlanTensor, a: usize, b: usize) -> Result<PlanTensor> {
    let mut axes: Vec<usize> = (0..x.rank()).collect();
    axes.swap(a, b);
    permute(t, x, &axes)
}

/// A slice with one cut for each axis.
pub(crate) fn slice(t: &mut Tracer<'_>, x: &PlanTensor, cuts: &[Cut]) -> Result<PlanTensor> {
    let shape: Vec<usize> = cuts.iter().map(Cut::len).collect();
    // Checked here, since a range beyond the end would fail on a graphics card, as a fault of that.
    let mut both = cuts.iter().zip(&x.shape);
    if cuts.len() != x.rank() || !both.all(|(cut, length)| cut.lies_within(*length)) {
        return Err(OnnxError::input(format!(
            "a slice of shape {shape:?} is out of range for shape {:?}",
            x.shape
        )));
    }
    let whole = cuts.iter().zip(&x.shape).all(|(cut, length)| *cut == Cut::all(*length));
    if whole && cuts.len() == x.rank() {
        return Ok(x.clone());
    }
    if shape.contains(&0) {
        return t.constant(HostTensor::numbers(x.elem, shape, vec![]));
    }
    let slices = cuts.iter().zip(&shape).map(|(cut, length)| slice_of(cut, *length));
    t.emit(Op::Slice(slices.collect()), &[x], x.elem, shape)
}

/// A part of one axis.
pub(crate) fn narrow(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    axis: usize,
    cut: Cut,
) -> Result<PlanTensor> {
    let mut cuts: Vec<Cut> = x.shape.iter().map(|length| Cut::all(*length)).collect();
    if let Some(place) = cuts.get_mut(axis) {
        *place = cut;
    }
    slice(t, x, &cuts)
}

pub(crate) fn cat(t: &mut Tracer<'_>, parts: &[PlanTensor], axis: usize) -> Result<PlanTensor> {
    // Some exporters give empty parts, of any shape, for "nothing".
    let full: Vec<&PlanTensor> = parts.iter().filter(|part| part.len() > 0).collect();
    let Some(first) = full.first().copied().or(parts.first()) else {
        return Err(OnnxError::input("inputs to concatenate are missing"));
    };
    if full.len() <= 1 && parts.len() == 1 || full.is_empty() {
        return cat_empty(t, parts, first, axis);
    }
    let mut shape = first.shape.clone();
    let mut length = 0;
    for part in &full {
        let fits = part.rank() == shape.len()
            && part.shape.iter().zip(&shape).enumerate().all(|(at, (a, b))| at == axis || a == b);
        if !fits || part.elem != first.elem {
            return Err(OnnxError::input(format!(
                "{}{:?} and {}{:?} cannot be concatenated along axis {axis}",
                first.elem, first.shape, part.elem, part.shape
            )));
        }
        length += part.shape.get(axis).copied().unwrap_or(0);
    }
    if let Some(place) = shape.get_mut(axis) {
        *place = length;
    }
    t.emit(Op::Cat(axis), &full, first.elem, shape)
}

/// The result if there is at most one part with elements.
fn cat_empty(
    t: &mut Tracer<'_>,
    parts: &[PlanTensor],
    first: &PlanTensor,
    axis: usize,
) -> Result<PlanTensor> {
    if parts.len() == 1 {
        return Ok(first.clone());
    }
    let mut shape = first.shape.clone();
    let length = parts.iter().filter_map(|part| part.shape.get(axis)).sum();
    if let Some(place) = shape.get_mut(axis) {
        *place = length;
    }
    t.constant(HostTensor::numbers(first.elem, shape, vec![]))
}

/// The tensor without axes of length 1.
pub(crate) fn squeeze(t: &mut Tracer<'_>, x: &PlanTensor, axes: &[usize]) -> Result<PlanTensor> {
    let kept = x.shape.iter().enumerate().filter(|(at, _)| !axes.contains(at));
    let shape: Vec<usize> = kept.map(|(_, length)| *length).collect();
    t.reshape(x, &shape)
}

/// The tensor with a new axis of length 1.
pub(crate) fn unsqueeze(t: &mut Tracer<'_>, x: &PlanTensor, axis: usize) -> Result<PlanTensor> {
    let mut shape = x.shape.clone();
    shape.insert(axis.min(shape.len()), 1);
    t.reshape(x, &shape)
}

/// Pads both ends of each axis with a number. Negative widths are not supported.
pub(crate) fn pad(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    padding: &[(usize, usize)],
    value: f64,
) -> Result<PlanTensor> {
    if padding.iter().all(|pair| *pair == (0, 0)) {
        return Ok(x.clone());
    }
    let grown = x.shape.iter().zip(padding);
    let sum = |(length, (a, b)): (&usize, &(usize, usize))| {
        // Widths come from the file or from a request, so that a sum may overflow.
        length.checked_add(*a).and_then(|sum| sum.checked_add(*b))
    };
    let shape: Option<Vec<usize>> = grown.map(sum).collect();
    let shape = shape.ok_or_else(|| OnnxError::limit("the padded tensor is too large"))?;
    if x.elem.is_float() && x.len() > 0 && value.abs() <= f64::from(f32::MAX) {
        return t.emit(Op::Pad(padding.to_vec(), value), &[x], x.elem, shape);
    }
    let mut result = x.clone();
    for (axis, (before, behind)) in padding.iter().enumerate() {
        let mut parts = Vec::new();
        for (width, inside) in [(*before, false), (0, true), (*behind, false)] {
            if inside {
                parts.push(result.clone());
            } else if width > 0 {
                let mut shape = result.shape.clone();
                if let Some(length) = shape.get_mut(axis) {
                    *length = width;
                }
                parts.push(full(t, x.elem, shape, value)?);
            }
        }
        result = cat(t, &parts, axis)?;
    }
    Ok(result)
}

fn slice_of(cut: &Cut, length: usize) -> Slice {
    let number = |at: i64| isize::try_from(at).unwrap_or(isize::MAX);
    if cut.step > 0 {
        return Slice::new(number(cut.begin), Some(number(cut.end)), number(cut.step));
    }
    // burn walks a range backwards from its last element.
    let count = i64::try_from(length).unwrap_or(0);
    let last = cut.begin + (count - 1) * cut.step;
    Slice::new(number(last), Some(number(cut.begin + 1)), number(cut.step))
}

/// A constant tensor of equal numbers.
pub(crate) fn full(
    t: &mut Tracer<'_>,
    elem: Elem,
    shape: Vec<usize>,
    value: f64,
) -> Result<PlanTensor> {
    let one = t.number(elem, value)?;
    expand(t, &one, &shape)
}
