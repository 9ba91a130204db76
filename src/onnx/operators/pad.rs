//! The operator `Pad`.

use super::{Call, Outputs, Table, one, shape};
use crate::axes::Cut;
use crate::host::HostTensor;
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, indices, literals};
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[("Pad", pad)];

/// Most elements that are added at each end of an axis.
const LENGTH_MAX: u64 = 1 << 32;

pub(super) fn pad(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let pads = match call.optional(1)? {
        Some(pads) => literals::ints(t, pads)?,
        None => call
            .ints("pads")?
            // The name in opset 1.
            .or(call.ints("paddings")?)
            .ok_or_else(|| OnnxError::invalid("pads are missing"))?
            .to_vec(),
    };
    let value = match call.optional(2)? {
        Some(value) => literals::floats(t, value)?.first().copied().unwrap_or(0.0),
        None => call.float_or("value", 0.0)?,
    };
    let axes = shape::axes(t, call, 3, x.rank())?.unwrap_or_else(|| (0..x.rank()).collect());
    if pads.len() != 2 * axes.len() {
        return Err(OnnxError::input(format!(
            "{} pads do not fit {} axes",
            pads.len(),
            axes.len()
        )));
    }
    let (before, behind) = pads.split_at(axes.len());
    let mode = call.text("mode")?.unwrap_or("constant");
    let mut widths = vec![(0, 0); x.rank()];
    let mut x = x.clone();
    for ((at, before), behind) in axes.iter().zip(before).zip(behind) {
        // `abs` would overflow for i64::MIN.
        if before.unsigned_abs().max(behind.unsigned_abs()) > LENGTH_MAX {
            return Err(OnnxError::input(format!("pads of {before} and {behind} are too large")));
        }
        if mode != "constant" {
            // Before copies are made: elements that a negative pad removes are not copied.
            x = crop(t, &x, *at, *before, *behind)?;
        }
        let width = |width: &i64| usize::try_from(*width).unwrap_or(0);
        if let Some(pair) = widths.get_mut(*at) {
            *pair = (width(before), width(behind));
        }
    }
    if mode == "constant" {
        // A negative pad may remove elements that a positive one added.
        x = axes::pad(t, &x, &widths, value)?;
        for ((at, before), behind) in axes.iter().zip(before).zip(behind) {
            x = crop(t, &x, *at, *before, *behind)?;
        }
        return one(x);
    }
    for (at, pair) in widths.into_iter().enumerate() {
        x = copy(t, &x, at, pair, mode)?;
    }
    one(x)
}

/// Negative widths remove elements.
fn crop(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    at: usize,
    before: i64,
    behind: i64,
) -> Result<PlanTensor> {
    let length = x.shape.get(at).copied().unwrap_or(0);
    let off = |width: i64| usize::try_from(-width).unwrap_or(0);
    let (begin, end) = (off(before), length.saturating_sub(off(behind)));
    if begin > end {
        return Err(OnnxError::input(format!(
            "pads of {before} and {behind} remove all of {length} elements"
        )));
    }
    axes::narrow(t, x, at, Cut::range(begin, end))
}

/// Fills the widths with existing elements, by an index for each place of the axis.
fn copy(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    at: usize,
    (before, behind): (usize, usize),
    mode: &str,
) -> Result<PlanTensor> {
    if (before, behind) == (0, 0) {
        return Ok(x.clone());
    }
    let length = x.shape.get(at).copied().unwrap_or(0);
    t.fits(graph::Elem::I64, &[length.saturating_add(before).saturating_add(behind)])?;
    let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let (length, before, behind) = (number(length), number(before), number(behind));
    if length == 0 {
        return Err(OnnxError::input("an empty axis cannot be padded with its elements"));
    }
    let source = |place: i64| match mode {
        "edge" => Ok(place.clamp(0, length - 1)),
        "wrap" => Ok(place.rem_euclid(length)),
        // The period would be 0.
        "reflect" if length == 1 => Ok(0),
        "reflect" => {
            // Edges are not repeated; pads longer than the axis are reflected several times.
            let period = 2 * (length - 1);
            let place = place.rem_euclid(period);
            Ok(if place < length { place } else { period - place })
        }
        other => Err(OnnxError::unsupported(format!("mode '{other}' is not supported"))),
    };
    let places = (-before..length + behind).map(source).collect::<Result<Vec<_>, _>>()?;
    let places = t.constant(HostTensor::ints(graph::Elem::I64, vec![places.len()], places))?;
    indices::select(t, x, at, &places)
}
