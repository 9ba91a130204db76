//! Masks of attention: sums that are added to the scores of keys that a query must not see.

use crate::axes::Cut;
use crate::host::HostTensor;
use crate::step::{Binary, Compare};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, cast};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

/// The lengths of one attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    pub(super) batch: usize,
    /// The number of queries.
    pub(super) queries: usize,
    /// The number of keys of earlier steps.
    pub(super) past: usize,
    /// The number of all keys.
    pub(super) total: usize,
}

/// The score of later keys under a causal mask: the smallest float, which sums do not increase.
pub(super) const LOWEST: f64 = f32::MIN as f64;

/// The numbers from 0 to `length` - 1.
///
/// # Errors
/// If there are too many.
pub(super) fn places(t: &Tracer<'_>, elem: Elem, length: usize) -> Result<PlanTensor> {
    t.fits(elem, &[length])?;
    let all = (0..length).filter_map(|at| i64::try_from(at).ok()).collect();
    t.constant(HostTensor::ints(elem, vec![length], all))
}

/// `[batch, 1, 1 or queries, total]`: zero where a mask makes a key visible, else `filter`. Forms
/// of masks: lengths `[batch]` (or at the beginning of `[3 * batch + 2]`), ends and begins `[2 *
/// batch]`, ones and zeros `[batch, total]`, `[batch, queries, total]`, `[batch, 1, most, most]`.
///
/// # Errors
/// If the mask has another shape.
pub(super) fn padding(
    t: &mut Tracer<'_>,
    mask: &PlanTensor,
    lengths: Lengths,
    (elem, filter): (Elem, f64),
) -> Result<PlanTensor> {
    let Lengths { batch, queries, past, total } = lengths;
    let mask = cast::cast(t, mask, Elem::I32)?;
    let seen = match mask.shape[..] {
        [length] if length == batch || length == 3 * batch + 2 => {
            before(t, &mask, 0, batch, total)?
        }
        [length] if length == 2 * batch => {
            let below = before(t, &mask, 0, batch, total)?;
            let skipped = before(t, &mask, batch, batch, total)?;
            let begun = t.unary(crate::step::Unary::Not, &skipped)?;
            t.binary(Binary::And, &below, &begun)?
        }
        [rows, columns] if rows == batch && columns == total => {
            let mask = t.reshape(&mask, &[batch, 1, 1, total])?;
            positive(t, &mask)?
        }
        [rows, lines, columns] if (rows, lines, columns) == (batch, queries, total) => {
            let mask = t.reshape(&mask, &[batch, 1, queries, total])?;
            positive(t, &mask)?
        }
        [rows, 1, lines, columns]
            if rows == batch && lines >= past + queries && columns >= total =>
        {
            let mask = axes::narrow(t, &mask, 2, Cut::range(past, past + queries))?;
            let mask = axes::narrow(t, &mask, 3, Cut::range(0, total))?;
            positive(t, &mask)?
        }
        _ => {
            return Err(OnnxError::input(format!(
                "a mask of shape {:?} does not fit {batch} rows of {queries} queries and {total} keys",
                mask.shape
            )));
        }
    };
    let (zero, shut) = (t.number(elem, 0.0)?, t.number(elem, filter)?);
    t.choose(&seen, &zero, &shut)
}

/// `[batch, 1, 1, total]`: true for keys before the numbers at a place of a mask.
fn before(
    t: &mut Tracer<'_>,
    mask: &PlanTensor,
    at: usize,
    batch: usize,
    total: usize,
) -> Result<PlanTensor> {
    let limits = axes::narrow(t, mask, 0, Cut::range(at, at + batch))?;
    let limits = t.reshape(&limits, &[batch, 1, 1, 1])?;
    let columns = places(t, Elem::I32, total)?;
    t.compare(Compare::Less, &columns, &limits)
}

fn positive(t: &mut Tracer<'_>, mask: &PlanTensor) -> Result<PlanTensor> {
    let zero = t.number(mask.elem, 0.0)?;
    t.compare(Compare::Greater, mask, &zero)
}

/// A mask that hides the keys after each query's own place.
///
/// # Errors
/// If it is too large.
pub(super) fn causal(
    t: &mut Tracer<'_>,
    mask: Option<PlanTensor>,
    lengths: Lengths,
    elem: Elem,
) -> Result<Option<PlanTensor>> {
    let Lengths { queries, past, total, .. } = lengths;
    // A single query is behind all keys.
    if queries <= 1 {
        return Ok(mask);
    }
    t.fits(elem, &[queries, total])?;
    let seen = (0..queries).flat_map(|row| (0..total).map(move |column| column <= past + row));
    let seen = t.constant(HostTensor::bools(vec![queries, total], seen))?;
    let open = match mask {
        Some(mask) => mask,
        None => t.number(elem, 0.0)?,
    };
    let shut = t.number(elem, LOWEST)?;
    let both = t.choose(&seen, &open, &shut)?;
    let shape: Vec<usize> =
        std::iter::repeat_n(1, 4 - both.rank().min(4)).chain(both.shape.clone()).collect();
    t.reshape(&both, &shape).map(Some)
}

/// The sum of two masks, either of which may be missing.
///
/// # Errors
/// If they cannot be broadcast.
pub(super) fn joined(
    t: &mut Tracer<'_>,
    one: Option<PlanTensor>,
    other: Option<&PlanTensor>,
) -> Result<Option<PlanTensor>> {
    match (one, other) {
        (Some(one), Some(other)) => t.add(&one, other).map(Some),
        (None, Some(other)) => Ok(Some(other.clone())),
        (one, None) => Ok(one),
    }
}
