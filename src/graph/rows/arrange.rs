//! Rules for operators that move elements: shapes, transpositions, slices, concatenations.

use super::constant::NUMBERS_MAX;
use super::length::Length;
use super::numbers;
use super::site::{Label, Obstacle, Outcome, Site, lengths, wrap};
use super::value::{Fact, Number, RowDependence};
use crate::elem::Elem;

/// The outcome of an operator with one output.
pub(super) fn one(fact: Fact) -> Outcome {
    Ok(vec![fact])
}

pub(super) fn shape(site: &mut Site<'_>) -> Outcome {
    let shape = site.shape(0)?.to_vec();
    let rank = i64::try_from(shape.len()).unwrap_or(0);
    let bound = |name: &str, default: i64| {
        let at = site.int(name).unwrap_or(default);
        let at = if at < 0 { at + rank } else { at };
        usize::try_from(at.clamp(0, rank)).unwrap_or(0)
    };
    let (start, end) = (bound("start", 0), bound("end", rank));
    let part = shape.get(start..end.max(start)).unwrap_or_default().to_vec();
    one(vector(part.into_iter().map(Number::Known).collect()))
}

pub(super) fn size(site: &mut Site<'_>) -> Outcome {
    let size = Length::product(site.shape(0)?).ok_or("it has too many elements")?;
    one(Fact::numbers(Vec::new(), vec![Number::Known(size)]))
}

/// Numbers as a tensor with one axis.
pub(super) fn vector(numbers: Vec<Number>) -> Fact {
    let length = i64::try_from(numbers.len()).unwrap_or(i64::MAX);
    Fact::numbers(vec![Length::fixed(length)], numbers)
}

/// The same elements, axes and rows, and the same known numbers.
pub(super) fn identity(site: &mut Site<'_>) -> Outcome {
    one(site.fact(0)?.clone())
}

pub(super) fn cast(site: &mut Site<'_>) -> Outcome {
    let fact = site.fact(0)?.clone();
    let wide = [Elem::F32, Elem::F64, Elem::I32, Elem::I64];
    let to = site.int("to").and_then(|to| Elem::from_onnx(i32::try_from(to).ok()?).ok());
    // Narrow types round or wrap.
    let keeps = to.is_some_and(|to| wide.contains(&to));
    one(if keeps { fact } else { fact.with_shape(fact.shape.clone()) })
}

pub(super) fn transpose(site: &mut Site<'_>) -> Outcome {
    let (fact, labels) = site.plain(0)?;
    let order: Vec<Label> = match site.ints("perm") {
        None => labels.iter().rev().copied().collect(),
        Some(order) => {
            let order = order.iter().map(|axis| wrap(*axis, labels.len()));
            order.collect::<Result<_, _>>()?
        }
    };
    if fact.rank().is_some_and(|rank| rank <= 1) {
        return one(fact);
    }
    site.pass(&[(fact, labels)], &[order], false)
}

pub(super) fn unsqueeze(site: &mut Site<'_>) -> Outcome {
    let axes = site.axes(1)?.ok_or("axes are missing")?;
    let (fact, mut labels) = site.plain(0)?;
    let rank = labels.len() + axes.len();
    let mut axes = axes.iter().map(|axis| wrap(*axis, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    for axis in axes {
        let label = site.fresh(Length::one());
        labels.insert(axis.min(labels.len()), label);
    }
    arranged(site, fact, labels)
}

pub(super) fn squeeze(site: &mut Site<'_>) -> Outcome {
    let (fact, mut labels) = site.plain(0)?;
    let Some(axes) = site.axes(1)? else {
        // Without axes, it removes all axes of length 1: a single row would lose its axis.
        let shape = site.shape(0)?;
        if shape.iter().any(|length| length.number().is_none()) {
            return Err("it removes axes by their length".into());
        }
        let long = shape.iter().map(|length| !length.is(1)).collect::<Vec<_>>();
        labels.retain(|label| long.get(*label) == Some(&true));
        return arranged(site, fact, labels);
    };
    let gone = axes.iter().map(|axis| wrap(*axis, labels.len())).collect::<Result<Vec<_>, _>>()?;
    labels.retain(|label| !gone.contains(label));
    arranged(site, fact, labels)
}

/// The same elements in the same order, with axes of length 1 added or removed.
fn arranged(site: &Site<'_>, fact: Fact, labels: Vec<Label>) -> Outcome {
    let (numbers, plain) = (fact.numbers.clone(), (0..fact.rank().unwrap_or(0)).collect());
    let mut outputs = site.pass(&[(fact.clone(), plain)], std::slice::from_ref(&labels), false)?;
    let shape = outputs.first().and_then(|output| output.shape.as_deref());
    if let Some(own) = shape.and_then(|shape| numbers::labelled(&fact, &labels, shape)) {
        return one(own);
    }
    if let (Some(output), Some(numbers)) = (outputs.first_mut(), numbers)
        && let Some(shape) = output.shape.clone()
    {
        *output = Fact::numbers(shape, numbers);
    }
    Ok(outputs)
}

pub(super) fn flatten(site: &mut Site<'_>) -> Outcome {
    let shape = site.shape(0)?;
    let axis = site.int("axis").unwrap_or(1);
    let axis = if axis == shape.len() as i64 { shape.len() } else { wrap(axis, shape.len())? };
    let (before, behind) = shape.split_at_checked(axis).ok_or("its axis is wrong")?;
    let product = |part: &[Length]| Length::product(part).ok_or("it has too many elements");
    let target = vec![product(before)?, product(behind)?];
    one(reshaped(site.fact(0)?, target)?)
}

/// Lengths come from an input; in old operator sets, from an attribute.
pub(super) fn reshape(site: &mut Site<'_>) -> Outcome {
    let numbers: Vec<Number> = match site.ints("shape") {
        Some(shape) => shape.iter().map(|length| Number::fixed(*length)).collect(),
        None => site.fact(1)?.numbers.clone().ok_or("its shape is computed from data")?,
    };
    let fact = site.fact(0)?.clone();
    let shape = fact.shape.clone().ok_or("the number of its axes is not known")?;
    let zero_stays = site.int("allowzero") == Some(1);
    let mut target = Vec::with_capacity(numbers.len());
    for (at, number) in numbers.iter().enumerate() {
        target.push(match number {
            Number::Known(length) if length.is(-1) => None,
            Number::Known(length) if length.is(0) && !zero_stays => {
                Some(shape.get(at).cloned().ok_or("its shape copies an axis that does not exist")?)
            }
            Number::Known(length) => Some(length.clone()),
            Number::Shared => Some(site.open()),
            Number::Count => return Err("a length depends on the number of rows".into()),
        });
    }
    let known = Length::product(target.iter().flatten()).ok_or("it has too many elements")?;
    let total = Length::product(&shape).ok_or("it has too many elements")?;
    let rest = total.over(&known);
    let mut all = Vec::with_capacity(target.len());
    for length in target {
        all.push(match (length, &rest) {
            (Some(length), _) => length,
            (None, Some(rest)) => rest.clone(),
            (None, None) => site.open(),
        });
    }
    if let Some(own) = numbers::arranged(&fact, &all) {
        return one(own);
    }
    let mut reshaped = reshaped(&fact, all)?;
    reshaped.numbers =
        fact.numbers.filter(|_| !matches!(reshaped.content, RowDependence::Rows { .. }));
    one(reshaped)
}

/// The same elements in row-major order with other axes: one of these axes must hold all rows.
fn reshaped(fact: &Fact, target: Vec<Length>) -> Result<Fact, Obstacle> {
    let (RowDependence::Rows { axis, outer }, Some(shape)) = (&fact.content, &fact.shape) else {
        // Rows on an axis of a tensor that is the same for all rows: its parts depend on the number
        // of rows.
        let counts = fact.is_shared() && target.iter().any(Length::has_rows);
        let content = if counts { RowDependence::Count } else { fact.content.clone() };
        return Ok(Fact { content, ..fact.clone() }.with_shape(Some(target)));
    };
    let large = || Obstacle::from("it has too many elements");
    let before = Length::product(shape.iter().take(*axis)).ok_or_else(large)?;
    let before = before.times(outer).ok_or_else(large)?;
    let holds: Vec<usize> = (0..target.len()).filter(|at| target[*at].has_rows()).collect();
    let [place] = holds[..] else { return Err("it gives rows an axis of a fixed length".into()) };
    let prefix = Length::product(target.iter().take(place)).ok_or_else(large)?;
    let unclear = || Obstacle::from("it may spread a row over several axes");
    let outer = before.over(&prefix).ok_or_else(unclear)?;
    let length = target.get(place).ok_or_else(unclear)?;
    let whole = outer.times(&Length::rows()).ok_or_else(large)?;
    let inner = length.over(&whole).ok_or_else(unclear)?;
    if inner.has_rows() {
        return Err(unclear());
    }
    Ok(Fact::rows(target, place, outer))
}

pub(super) fn expand(site: &mut Site<'_>) -> Outcome {
    let numbers = site.fact(1)?.numbers.clone().ok_or("its shape is computed from data")?;
    let target = lengths(site, &numbers)?;
    let (fact, labels) = site.plain(0)?;
    if let Some(own) = numbers::expanded(&fact, &target) {
        return one(own);
    }
    let rank = labels.len().max(target.len());
    let labels: Vec<Label> = labels.iter().map(|at| at + rank - labels.len()).collect();
    let uniform = uniform(&target)?;
    let target_labels = (0..target.len()).map(|at| at + rank - target.len()).collect();
    let outputs = [(0..rank).collect()];
    site.pass(&[(fact, labels), (uniform, target_labels)], &outputs, true)
}

/// A tensor of equal elements: if a length contains the number of rows, its rows are
/// equal too.
fn uniform(shape: &[Length]) -> Result<Fact, Obstacle> {
    let holds: Vec<usize> = (0..shape.len()).filter(|at| shape[*at].has_rows()).collect();
    match holds[..] {
        [] => Ok(Fact::shared(Some(shape.to_vec()))),
        [axis] => {
            let length = shape.get(axis).ok_or("its shape is wrong")?;
            // All elements are equal, so the rows can be assumed to be outermost.
            length
                .over(&Length::rows())
                .filter(|rest| !rest.has_rows())
                .ok_or("a length contains the number of rows twice")?;
            Ok(Fact::rows(shape.to_vec(), axis, Length::one()))
        }
        _ => Err("the lengths of two axes depend on the number of rows".into()),
    }
}

pub(super) fn constant_of_shape(site: &mut Site<'_>) -> Outcome {
    let numbers = site.fact(0)?.numbers.clone().ok_or("its shape is computed from data")?;
    let shape = lengths(site, &numbers)?;
    let value = match site.attribute("value") {
        Some(crate::graph::Attribute::Tensor(raw)) => super::constant::small(raw),
        _ => Some(vec![Number::fixed(0)]),
    };
    let mut fact = uniform(&shape)?;
    let count = Length::product(&shape).and_then(|count| count.number());
    let count = count.and_then(|count| usize::try_from(count).ok());
    if let (Some(count), Some([value]), true) = (count, value.as_deref(), fact.is_shared())
        && count <= NUMBERS_MAX
    {
        fact.numbers = Some(vec![value.clone(); count]);
    }
    one(fact)
}

pub(super) fn tile(site: &mut Site<'_>) -> Outcome {
    let repeats = site.fact(1)?.numbers.clone().ok_or("its repeats are computed from data")?;
    let repeats = lengths(site, &repeats)?;
    let fact = site.fact(0)?.clone();
    let shape = site.shape(0)?.to_vec();
    if repeats.len() != shape.len() {
        return Err("its repeats do not match its number of axes".into());
    }
    let pairs = shape.iter().zip(&repeats);
    let long = pairs.map(|(length, times)| length.times(times)).collect::<Option<Vec<_>>>();
    let long = long.ok_or("it has too many elements")?;
    match &fact.content {
        RowDependence::Rows { axis, outer } => {
            let others = repeats.iter().any(Length::has_rows);
            if others || !repeats.get(*axis).is_some_and(|times| times.is(1)) {
                return Err("it repeats rows".into());
            }
            one(Fact::rows(long, *axis, outer.clone()))
        }
        RowDependence::Shared if repeats.iter().any(Length::has_rows) => {
            // The whole axis is repeated for each row: rows are outermost on it.
            let fact = uniform(&long)?;
            one(fact)
        }
        _ => one(fact.with_shape(Some(long))),
    }
}

pub(super) fn concat(site: &mut Site<'_>) -> Outcome {
    let all = site.inputs.iter().flatten().cloned().collect::<Vec<_>>();
    if all.iter().all(|fact| fact.numbers.is_some() && fact.rank() == Some(1)) {
        let known = all.iter().filter_map(|fact| fact.numbers.clone()).flatten();
        let numbers: Vec<Number> = known.collect();
        if numbers.len() <= NUMBERS_MAX {
            return one(vector(numbers));
        }
    }
    let axis = site.axis(0, site.int("axis").unwrap_or(1))?;
    let rank = site.rank(0)?;
    if let Some(own) = numbers::joined(&all, axis) {
        return one(own);
    }
    let mut length: Option<i64> = Some(0);
    let mut operands = Vec::with_capacity(all.len());
    for fact in all {
        let own = fact.shape.as_ref().filter(|shape| shape.len() == rank);
        let own = own.ok_or("the number of axes of an input is not known")?;
        let number = own.get(axis).and_then(Length::number);
        length = length.zip(number).and_then(|(sum, number)| sum.checked_add(number));
        let mut labels: Vec<Label> = (0..rank).collect();
        let label = site.fresh_open();
        labels.splice(axis..=axis, [label]);
        operands.push((fact, labels));
    }
    let joined = match length {
        Some(length) => site.fresh(Length::fixed(length)),
        None => site.fresh_open(),
    };
    let mut output: Vec<Label> = (0..rank).collect();
    output.splice(axis..=axis, [joined]);
    site.pass(&operands, &[output], false)
}

pub(super) fn split(site: &mut Site<'_>) -> Outcome {
    let axis = site.axis(0, site.int("axis").unwrap_or(0))?;
    let (fact, labels) = site.plain(0)?;
    let count = site.node.outputs.len();
    let sizes = match site.ints("split") {
        Some(sizes) => Some(sizes.to_vec()),
        None => site.constants(1),
    };
    let whole = site.shape(0)?.get(axis).cloned().unwrap_or_else(Length::one);
    let even = (site.optional(1).is_none() && sizes.is_none())
        .then(|| whole.over(&Length::fixed(i64::try_from(count).ok()?)))
        .flatten();
    let mut outputs = Vec::with_capacity(count);
    for at in 0..count {
        let size = sizes.as_ref().and_then(|sizes| sizes.get(at)).map(|size| Length::fixed(*size));
        let length = match size.or(even.clone()) {
            Some(length) => length,
            None => site.open(),
        };
        let mut output = labels.clone();
        let label = site.fresh(length);
        output.splice(axis..=axis, [label]);
        outputs.push(output);
    }
    let shared = site.optional(1).is_none_or(Fact::is_shared);
    if !shared {
        return Err("the sizes of its parts are computed from rows".into());
    }
    site.pass(&[(fact, labels)], &outputs, false)
}

pub(super) fn pad(site: &mut Site<'_>) -> Outcome {
    let rank = site.rank(0)?;
    let numbers: Vec<Number> = match site.ints("pads").or(site.ints("paddings")) {
        Some(pads) => pads.iter().map(|pad| Number::fixed(*pad)).collect(),
        None => site.fact(1)?.numbers.clone().ok_or("its amounts are computed from data")?,
    };
    if numbers.iter().any(Number::counts_rows) {
        return Err("its amounts depend on the number of rows".into());
    }
    let axes: Vec<usize> = match site.optional(3) {
        None => (0..rank).collect(),
        Some(axes) => {
            let axes = axes.constants().ok_or("its axes are computed")?;
            axes.iter().map(|axis| wrap(*axis, rank)).collect::<Result<_, _>>()?
        }
    };
    if !site.optional(2).is_none_or(Fact::is_shared) {
        return Err("its value is computed from rows".into());
    }
    let (fact, mut labels) = site.plain(0)?;
    let plain = labels.clone();
    for (at, axis) in axes.iter().enumerate() {
        let amount = |at: usize| match numbers.get(at) {
            Some(Number::Known(length)) => length.number(),
            _ => None,
        };
        let (before, behind) = (amount(at), amount(at + axes.len()));
        if (before, behind) == (Some(0), Some(0)) {
            continue;
        }
        let own = fact.shape.as_ref().and_then(|shape| shape.get(*axis)).and_then(Length::number);
        let sum = own.zip(before).zip(behind).map(|((own, before), behind)| own + before + behind);
        let label = match sum {
            Some(sum) => site.fresh(Length::fixed(sum)),
            None => site.fresh_open(),
        };
        labels.splice(*axis..=*axis, [label]);
    }
    site.pass(&[(fact, plain)], &[labels], false)
}

pub(super) fn range(site: &mut Site<'_>) -> Outcome {
    let number = |at: usize| site.optional(at).and_then(|fact| fact.numbers.as_ref()?.first());
    let is = |at: usize, value: i64| matches!(number(at), Some(Number::Known(l)) if l.is(value));
    let limit = match number(1) {
        Some(Number::Known(limit)) if is(0, 0) && is(2, 1) => Some(limit.clone()),
        _ => None,
    };
    let inputs: Vec<&Fact> = site.inputs.iter().flatten().collect();
    if inputs.iter().any(|fact| matches!(fact.content, RowDependence::Rows { .. })) {
        return Err("its length is computed from data".into());
    }
    let count = inputs.iter().any(|fact| fact.counts());
    if let Some(numbers) = limit.clone().and_then(numbers::range) {
        return one(numbers);
    }
    let length = match limit {
        Some(limit) => limit,
        None if count => return Err("its length depends on the number of rows".into()),
        None => site.open(),
    };
    let content = if count { RowDependence::Count } else { RowDependence::Shared };
    one(Fact { shape: Some(vec![length]), content, numbers: None })
}
