//! Indices, which may come from a request: checked on the host, clamped on graphics cards, where
//! burn does not check them and a wrong one would read memory of other requests.

use super::host::HostTensor;
use super::step::Op;
use super::trace::{PlanTensor, Tracer};
use crate::host::first;
use crate::{build, cast, literals};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

fn checked(indices: &[i64], length: usize) -> Result<Vec<i64>> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let one = |index: &i64| {
        let place = if *index < 0 { index.saturating_add(length) } else { *index };
        let fits = (0..length).contains(&place);
        if fits {
            Ok(place)
        } else {
            Err(OnnxError::input(format!("index {index} is out of range for {length} elements")))
        }
    };
    indices.iter().map(one).collect()
}

/// Indices without negative numbers, which count from the end.
///
/// # Errors
/// If they are not integers, or constants out of range. Indices of requests are an error when the
/// plan runs on the host, and are clamped to the range on a graphics card.
pub(crate) fn places_of(
    t: &mut Tracer<'_>,
    indices: &PlanTensor,
    length: usize,
) -> Result<PlanTensor> {
    if !indices.elem.is_int() {
        return Err(OnnxError::invalid(format!(
            "indices of type {} are not supported",
            indices.elem
        )));
    }
    let shape = indices.shape.clone();
    if indices.is_constant() {
        // Constants are checked once, when the plan is made; others in each run.
        let checked = checked(&literals::ints(t, indices)?, length)?;
        return t.constant(HostTensor::ints(Elem::I64, shape, checked));
    }
    if t.place().host {
        let form = (Elem::I64, shape.clone());
        let check = move |inputs: &[HostTensor]| {
            let values = first(inputs)?.to_i64();
            Ok(vec![HostTensor::ints(Elem::I64, shape.clone(), checked(&values, length)?)])
        };
        let made = t.host_op("indices", &[indices], &[form], check)?;
        return made.into_iter().next().ok_or_else(|| OnnxError::internal("a result is missing"));
    }
    // A check on a graphics card would need a read back, which waits for all steps so far.
    let indices = cast::cast(t, indices, Elem::I64)?;
    let count = t.number(Elem::I64, length as f64)?;
    let below = build::compare_zero(t, &indices)?;
    let shifted = t.add(&indices, &count)?;
    let indices = t.choose(&below, &shifted, &indices)?;
    inside(t, &indices, length)
}

/// Whole slices along an axis, by an index of one axis without negative numbers.
pub(crate) fn select(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    axis: usize,
    indices: &PlanTensor,
) -> Result<PlanTensor> {
    let mut shape = x.shape.clone();
    let length = match shape.get_mut(axis) {
        Some(length) => std::mem::replace(length, indices.len()),
        None => {
            return Err(OnnxError::input(format!(
                "axis {axis} is out of range for shape {:?}",
                x.shape
            )));
        }
    };
    if shape.contains(&0) {
        return t.constant(HostTensor::numbers(x.elem, shape, vec![]));
    }
    let indices = inside(t, indices, length)?;
    t.emit(Op::Select(axis), &[x, &indices], x.elem, shape)
}

/// Elements along an axis, by an index of the same rank without negative numbers.
pub(crate) fn gather(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    axis: usize,
    indices: &PlanTensor,
) -> Result<PlanTensor> {
    let length = x.shape.get(axis).copied().unwrap_or(0);
    let indices = inside(t, indices, length)?;
    let shape = indices.shape.clone();
    t.emit(Op::Gather(axis), &[x, &indices], x.elem, shape)
}

/// Clamps indices to the range where burn does not check them.
fn inside(t: &mut Tracer<'_>, indices: &PlanTensor, length: usize) -> Result<PlanTensor> {
    if indices.is_constant() || t.place().host {
        return Ok(indices.clone());
    }
    build::clamp(t, indices, Some(0.0), Some(length as f64 - 1.0))
}
