//! Rules for operators that select elements: gathers, slices, the largest, one-hot.

use super::arrange::{one, vector};
use super::length::Length;
use super::numbers;
use super::site::{Label, Operand, Outcome, Site, wrap};
use super::value::{Fact, Number};

/// Bounds of at least this value mean "to the end" of an axis: tf2onnx writes 1e9, which exceeds
/// the rows of any request.
const FAR: i64 = 1_000_000_000;

/// An operator with results along `axis` that depend on the whole axis; their number is unknown.
pub(super) fn along(site: &mut Site<'_>, axis: i64, outputs: usize) -> Outcome {
    let axis = site.axis(0, axis)?;
    let (fact, labels) = site.plain(0)?;
    if !site.inputs.iter().skip(1).flatten().all(Fact::is_shared) {
        return Err("its further inputs are computed from rows".into());
    }
    let mut output = labels.clone();
    let label = site.fresh_open();
    output.splice(axis..=axis, [label]);
    site.pass(&[(fact, labels)], &vec![output; outputs], false)
}

pub(super) fn top_k(site: &mut Site<'_>) -> Outcome {
    let count = match site.int("k") {
        Some(count) => Some(count),
        None => site.constants(1).and_then(|counts| counts.first().copied()),
    };
    let mut outputs = along(site, site.int("axis").unwrap_or(-1), 2)?;
    let axis = site.axis(0, site.int("axis").unwrap_or(-1))?;
    for output in &mut outputs {
        let place = output.shape.as_mut().and_then(|shape| shape.get_mut(axis));
        if let (Some(place), Some(count)) = (place, count) {
            *place = Length::fixed(count);
        }
    }
    Ok(outputs)
}

pub(super) fn gather(site: &mut Site<'_>) -> Outcome {
    let axis = site.axis(0, site.int("axis").unwrap_or(0))?;
    if let Some(numbers) = picked_numbers(site) {
        return one(numbers);
    }
    if let Some(own) = numbers::gather(site.fact(0)?, site.fact(1)?, axis) {
        return one(own);
    }
    let (data, labels) = site.plain(0)?;
    let (indices, rank) = (site.fact(1)?.clone(), site.rank(1)?);
    let own: Vec<Label> = (0..rank).map(|at| labels.len() + at).collect();
    let mut output = labels.clone();
    output.splice(axis..=axis, own.iter().copied());
    // The selected axis is removed: rows along it would depend on each other.
    site.pass(&[(data, labels), (indices, own)], &[output], false)
}

/// A gather from a small tensor of integers, such as a shape.
fn picked_numbers(site: &Site<'_>) -> Option<Fact> {
    let numbers = site.optional(0)?.numbers.as_ref()?;
    let (indices, shape) = (site.constants(1)?, site.optional(1)?.shape.clone()?);
    if site.optional(0)?.rank() != Some(1) {
        return None;
    }
    let place = |index: &i64| {
        let at = wrap(*index, numbers.len()).ok()?;
        numbers.get(at).cloned()
    };
    let picked = indices.iter().map(place).collect::<Option<Vec<_>>>()?;
    Some(Fact::numbers(shape, picked))
}

/// `GatherElements` and `ScatterElements`: all inputs have the same rows, selected along one axis.
pub(super) fn elements(site: &mut Site<'_>, default: i64) -> Outcome {
    let axis = site.axis(0, site.int("axis").unwrap_or(default))?;
    let rank = site.rank(0)?;
    let mut operands: Vec<Operand> = Vec::new();
    let scatters = site.inputs.len() > 2;
    for fact in site.inputs.iter().flatten().cloned().collect::<Vec<_>>() {
        if fact.rank() != Some(rank) {
            return Err("the number of axes of an input is not known".into());
        }
        let mut labels: Vec<Label> = (0..rank).collect();
        let label = site.fresh_open();
        labels.splice(axis..=axis, [label]);
        operands.push((fact, labels));
    }
    // A scatter has the shape of the data, a gather that of the indices.
    let like = operands.get(usize::from(!scatters)).and_then(|(fact, _)| fact.shape.clone());
    let mut output: Vec<Label> = (0..rank).collect();
    let label = site.fresh_open();
    output.splice(axis..=axis, [label]);
    let mut outputs = site.pass(&operands, &[output], false)?;
    if let Some(output) = outputs.first_mut() {
        output.shape = like;
    }
    Ok(outputs)
}

pub(super) fn gather_nd(site: &mut Site<'_>) -> Outcome {
    let batch = usize::try_from(site.int("batch_dims").unwrap_or(0))
        .map_err(|_| "its batch_dims are negative")?;
    let own = numbers::gather_nd(site.fact(0)?, site.fact(1)?).filter(|_| batch == 0);
    if let Some(own) = own {
        return one(own);
    }
    let (data, labels) = site.plain(0)?;
    let shape = site.shape(1)?.to_vec();
    let depth = shape.last().and_then(Length::number).and_then(|depth| usize::try_from(depth).ok());
    let depth = depth.ok_or("the number of axes that it picks from is not known")?;
    let rank = shape.len();
    let mut own: Vec<Label> = (0..rank).map(|at| labels.len() + at).collect();
    let shared = batch.min(rank).min(labels.len());
    own.splice(..shared, 0..shared);
    let last = own.pop().ok_or("its indices are a scalar")?;
    let rest = labels.get((batch + depth).min(labels.len())..).unwrap_or_default();
    let output = own.iter().chain(rest).copied().collect();
    own.push(last);
    let indices = site.fact(1)?.clone();
    site.pass(&[(data, labels), (indices, own)], &[output], false)
}

pub(super) fn slice(site: &mut Site<'_>) -> Outcome {
    let rank = site.rank(0)?;
    let known = |name: &str, at: usize| match site.ints(name) {
        Some(values) => Some(values.iter().map(|value| Number::fixed(*value)).collect()),
        None => site.optional(at).and_then(|fact| fact.numbers.clone()),
    };
    let starts = known("starts", 1).ok_or("its starts are computed from data")?;
    let ends = known("ends", 2).ok_or("its ends are computed from data")?;
    let axes: Vec<i64> = match known("axes", 3) {
        Some(axes) => constants(&axes).ok_or("its axes are computed")?,
        None if site.optional(3).is_some() => return Err("its axes are computed".into()),
        None => (0..i64::try_from(starts.len()).unwrap_or(0)).collect(),
    };
    let steps: Option<Vec<i64>> = match site.optional(4) {
        None => Some(vec![1; axes.len()]),
        Some(_) => site.constants(4),
    };
    let steps = steps.ok_or("its steps are computed")?;
    if let Some(part) = sliced_numbers(site, &starts, &ends, &steps) {
        return one(part);
    }
    let (fact, labels) = site.plain(0)?;
    let mut output = labels.clone();
    for (at, axis) in axes.iter().enumerate() {
        let axis = wrap(*axis, rank)?;
        let (start, end, step) = (starts.get(at), ends.get(at), steps.get(at));
        let whole = fact.shape.as_ref().and_then(|shape| shape.get(axis)).cloned();
        let (Some(start), Some(end), Some(step), Some(whole)) = (start, end, step, whole) else {
            return Err("the numbers of its bounds and axes differ".into());
        };
        if is_all(start, end, *step, &whole) {
            continue;
        }
        if start.counts_rows() || end.counts_rows() {
            return Err("its bounds depend on the number of rows".into());
        }
        let label = match part_length(start, end, *step, &whole) {
            Some(length) => site.fresh(Length::fixed(length)),
            None => site.fresh_open(),
        };
        output.splice(axis..=axis, [label]);
    }
    site.pass(&[(fact, labels)], &[output], false)
}

fn constants(numbers: &[Number]) -> Option<Vec<i64>> {
    let number = |number: &Number| match number {
        Number::Known(length) => length.number(),
        _ => None,
    };
    numbers.iter().map(number).collect()
}

/// Returns true if a slice takes the whole axis.
fn is_all(start: &Number, end: &Number, step: i64, whole: &Length) -> bool {
    let from_start = matches!(start, Number::Known(start) if start.is(0));
    let to_end = match end {
        Number::Known(end) => end == whole || end.number().is_some_and(|end| end >= FAR),
        _ => false,
    };
    from_start && to_end && step == 1
}

/// The number of elements that a slice takes from an axis of known length.
fn part_length(start: &Number, end: &Number, step: i64, whole: &Length) -> Option<i64> {
    let bounds = constants(&[start.clone(), end.clone()])?;
    let ([start, end], whole) = (bounds.get(..2)?.try_into().ok()?, whole.number()?);
    Some(places(start, end, step, whole)?.len() as i64)
}

/// The indices that a slice takes.
fn places(start: i64, end: i64, step: i64, whole: i64) -> Option<Vec<i64>> {
    if step == 0 || whole > 1 << 20 {
        return None;
    }
    let own = |at: i64| if at < 0 { at.saturating_add(whole) } else { at };
    let (mut at, end) = match step > 0 {
        true => (own(start).clamp(0, whole), own(end).clamp(0, whole)),
        false => (own(start).clamp(-1, whole - 1), own(end).clamp(-1, whole - 1)),
    };
    let mut all = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        all.push(at);
        at = at.saturating_add(step);
    }
    Some(all)
}

/// A slice of a small tensor of integers, such as a shape.
fn sliced_numbers(
    site: &Site<'_>,
    starts: &[Number],
    ends: &[Number],
    steps: &[i64],
) -> Option<Fact> {
    let fact = site.optional(0)?;
    let numbers = fact.numbers.as_ref().filter(|_| fact.rank() == Some(1))?;
    let (starts, ends) = (constants(starts)?, constants(ends)?);
    let whole = i64::try_from(numbers.len()).ok()?;
    let all = places(*starts.first()?, *ends.first()?, *steps.first()?, whole)?;
    let number = |at: &i64| numbers.get(usize::try_from(*at).ok()?).cloned();
    Some(vector(all.iter().map(number).collect::<Option<Vec<_>>>()?))
}

pub(super) fn one_hot(site: &mut Site<'_>) -> Outcome {
    let depth = site.constants(1).and_then(|depth| depth.first().copied());
    let (fact, labels) = site.plain(0)?;
    if !site.inputs.iter().skip(1).flatten().all(Fact::is_shared) {
        return Err("its depth or values are computed from rows".into());
    }
    let axis = wrap(site.int("axis").unwrap_or(-1), labels.len() + 1)?;
    let label = match depth {
        Some(depth) => site.fresh(Length::fixed(depth)),
        None => site.fresh_open(),
    };
    let mut output = labels.clone();
    output.insert(axis, label);
    site.pass(&[(fact, labels)], &[output], false)
}

/// `ReverseSequence`: the batch axis may be that of the rows; the lengths then have these rows.
pub(super) fn reverse_sequence(site: &mut Site<'_>) -> Outcome {
    let (fact, labels) = site.plain(0)?;
    let (batch, time) = (site.int("batch_axis").unwrap_or(1), site.int("time_axis").unwrap_or(0));
    let (batch, time) = (wrap(batch, labels.len())?, wrap(time, labels.len())?);
    let length = site.shape(0)?.get(time).cloned().unwrap_or_else(Length::one);
    let mut output = labels.clone();
    let label = site.fresh(length);
    output.splice(time..=time, [label]);
    let lengths = (site.fact(1)?.clone(), vec![batch]);
    site.pass(&[(fact, labels), lengths], &[output], false)
}
