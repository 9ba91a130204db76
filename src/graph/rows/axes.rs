//! Rules for operators that work element by element, or along some axes.

use super::arrange::one;
use super::constant::NUMBERS_MAX;
use super::length::Length;
use super::site::{Label, Obstacle, Operand, Outcome, Site, wrap};
use super::value::{Fact, Number};
use crate::graph::Attribute;

/// Operators that work element by element on inputs that broadcast.
pub(super) fn elementwise(site: &mut Site<'_>) -> Outcome {
    let count = site.inputs.iter().flatten().count();
    let outputs = site.node.outputs.len().max(1);
    let ranks = site.inputs.iter().flatten().map(Fact::rank).collect::<Option<Vec<_>>>();
    let Some(ranks) = ranks else {
        if site.inputs.iter().flatten().all(Fact::is_shared) {
            return Ok(vec![Fact::shared(None); outputs]);
        }
        return Err("the number of axes of an input is not known".into());
    };
    let rank = ranks.iter().copied().max().unwrap_or(0);
    let mut operands: Vec<Operand> = Vec::with_capacity(count);
    for (fact, own) in site.inputs.iter().flatten().zip(ranks) {
        operands.push((fact.clone(), (rank - own..rank).collect()));
    }
    let labels: Vec<Label> = (0..rank).collect();
    let mut all = site.pass(&operands, &vec![labels; outputs], true)?;
    if let (Some(output), Some(numbers)) = (all.first_mut(), computed(site))
        && let Some(shape) = output.shape.clone()
    {
        *output = Fact::numbers(shape, numbers);
    }
    Ok(all)
}

/// The numbers of a result, if it is a small tensor of known integers.
fn computed(site: &Site<'_>) -> Option<Vec<Number>> {
    let all: Vec<&Vec<Number>> =
        site.inputs.iter().flatten().map(|fact| fact.numbers.as_ref()).collect::<Option<_>>()?;
    let length = all.iter().map(|numbers| numbers.len()).max()?;
    if length > NUMBERS_MAX || all.iter().any(|one| one.len() != length && one.len() != 1) {
        return None;
    }
    let at = |at: usize| {
        let inputs = all.iter().map(|one| one.get(if one.len() == 1 { 0 } else { at }));
        let inputs = inputs.collect::<Option<Vec<_>>>()?;
        Some(number(site, &inputs))
    };
    (0..length).map(at).collect()
}

fn number(site: &Site<'_>, inputs: &[&Number]) -> Number {
    let unknown = match inputs.iter().any(|number| number.counts_rows()) {
        true => Number::Count,
        false => Number::Shared,
    };
    let lengths = inputs.iter().map(|number| match number {
        Number::Known(length) => Some(length),
        _ => None,
    });
    let Some(lengths) = lengths.collect::<Option<Vec<&Length>>>() else { return unknown };
    known(&site.node.op, &lengths).map_or(unknown, Number::Known)
}

/// The result of an operator on known integers; `None` if it is not a product of lengths.
fn known(op: &str, inputs: &[&Length]) -> Option<Length> {
    let numbers = inputs.iter().map(|length| length.number()).collect::<Option<Vec<_>>>();
    let both = numbers.as_deref();
    match (op, inputs, both) {
        ("Mul", [a, b], _) => a.times(b),
        ("Div", [a, b], _) => a.over(b),
        ("Floor" | "Ceil" | "Round" | "Identity", [a], _) => Some((*a).clone()),
        ("Add", [a, b], _) if b.is(0) => Some((*a).clone()),
        ("Add", [a, b], _) if a.is(0) => Some((*b).clone()),
        ("Sub", [a, b], _) if b.is(0) => Some((*a).clone()),
        ("Equal", [a, b], _) if a == b => Some(Length::one()),
        // The length of an axis is never -1.
        ("Equal", [a, b], _) if a.is(-1) && b.number().is_none() => Some(Length::fixed(0)),
        ("Equal", [a, b], _) if b.is(-1) && a.number().is_none() => Some(Length::fixed(0)),
        ("Where", [condition, a, b], _) => {
            let chosen = if condition.number()? == 0 { b } else { a };
            Some((*chosen).clone())
        }
        (_, _, Some([a])) => Some(Length::fixed(match op {
            "Neg" => a.checked_neg()?,
            "Abs" => a.checked_abs()?,
            "Not" => i64::from(*a == 0),
            _ => return None,
        })),
        (_, _, Some([a, b])) => Some(Length::fixed(match op {
            "Add" => a.checked_add(*b)?,
            "Sub" => a.checked_sub(*b)?,
            "Max" => *a.max(b),
            "Min" => *a.min(b),
            "Equal" => i64::from(a == b),
            "Greater" => i64::from(a > b),
            "GreaterOrEqual" => i64::from(a >= b),
            "Less" => i64::from(a < b),
            "LessOrEqual" => i64::from(a <= b),
            "And" => i64::from(*a != 0 && *b != 0),
            "Or" => i64::from(*a != 0 || *b != 0),
            _ => return None,
        })),
        _ => None,
    }
}

/// An operator with results along `axes` that depend on all elements there; it keeps their
/// lengths.
pub(super) fn across(site: &mut Site<'_>, axes: &[usize], outputs: usize) -> Outcome {
    let (fact, labels) = site.plain(0)?;
    let mut output = labels.clone();
    for axis in axes {
        let length = fact.shape.as_ref().and_then(|shape| shape.get(*axis)).cloned();
        let label = site.fresh(length.unwrap_or_else(Length::one));
        output.splice(*axis..=*axis, [label]);
    }
    let mut operands = vec![(fact, labels)];
    for at in 1..site.inputs.len() {
        operands.extend(site.apart(at)?);
    }
    site.pass(&operands, &vec![output; outputs], false)
}

/// `Softmax` and similar operators: along one axis; in old operator sets, along all axes from one
/// on.
pub(super) fn softmax(site: &mut Site<'_>) -> Outcome {
    let old = site.node.opset < 13;
    let axis = site.axis(0, site.int("axis").unwrap_or(if old { 1 } else { -1 }))?;
    let axes: Vec<usize> = if old { (axis..site.rank(0)?).collect() } else { vec![axis] };
    across(site, &axes, 1)
}

/// `LayerNormalization` and similar operators: along all axes from one on.
pub(super) fn layer_norm(site: &mut Site<'_>) -> Outcome {
    let axis = site.axis(0, site.int("axis").unwrap_or(-1))?;
    let axes: Vec<usize> = (axis..site.rank(0)?).collect();
    let mut all = across(site, &axes, 1)?;
    // Mean and deviation have axes of length 1 in place of the normalised ones.
    for _ in 1..site.node.outputs.len() {
        let mut fact = all.first().cloned().ok_or("no output")?;
        for place in axes
            .iter()
            .filter_map(|axis| Some((*axis, fact.shape.as_ref()?.len())))
            .collect::<Vec<_>>()
        {
            if let Some(length) = fact.shape.as_mut().and_then(|shape| shape.get_mut(place.0)) {
                *length = Length::one();
            }
        }
        all.push(fact);
    }
    Ok(all)
}

/// Normalisations along the axes behind axis 0 (and 1), separately for each element of these.
pub(super) fn by_channel(site: &mut Site<'_>) -> Outcome {
    let axes: Vec<usize> = (1..site.rank(0)?).collect();
    across(site, &axes, 1)
}

/// `BatchNormalization` with the statistics of the file, not of the batch.
pub(super) fn batch_norm(site: &mut Site<'_>) -> Outcome {
    if site.int("training_mode") == Some(1)
        || site.node.outputs.iter().skip(1).any(|name| !name.is_empty())
    {
        return Err("it takes statistics over the rows".into());
    }
    let channels = usize::from(site.rank(0)? > 1);
    across(site, &[channels], 1)
}

pub(super) fn one_axis(site: &mut Site<'_>, default: i64) -> Outcome {
    let axis = site.axis(0, site.int("axis").unwrap_or(default))?;
    across(site, &[axis], 1)
}

/// `CumSum` and similar operators: the axis is an input.
pub(super) fn axis_input(site: &mut Site<'_>) -> Outcome {
    let axis = site.constants(1).and_then(|axes| axes.first().copied());
    let axis = site.axis(0, axis.ok_or("its axis is computed")?)?;
    across(site, &[axis], 1)
}

pub(super) fn mean_variance(site: &mut Site<'_>) -> Outcome {
    let axes = site.ints("axes").unwrap_or(&[0, 2, 3]).to_vec();
    let rank = site.rank(0)?;
    let axes = axes.iter().map(|axis| wrap(*axis, rank)).collect::<Result<Vec<_>, _>>()?;
    across(site, &axes, 1)
}

/// The last two axes, which are those of matrices.
pub(super) fn matrices(site: &mut Site<'_>) -> Outcome {
    let rank = site.rank(0)?;
    across(site, &[rank.saturating_sub(2), rank.saturating_sub(1)], 1)
}

pub(super) fn determinant(site: &mut Site<'_>) -> Outcome {
    let (fact, mut labels) = site.plain(0)?;
    let plain = labels.clone();
    labels.truncate(plain.len().saturating_sub(2));
    site.pass(&[(fact, plain)], &[labels], false)
}

pub(super) fn reduce(site: &mut Site<'_>) -> Outcome {
    let axes = site.axes(1)?;
    let rank = site.rank(0)?;
    let keeps = site.int("keepdims").unwrap_or(1) != 0;
    let none = axes.as_ref().is_none_or(Vec::is_empty);
    if none && site.int("noop_with_empty_axes") == Some(1) {
        return elementwise(site);
    }
    let axes = match axes.filter(|axes| !axes.is_empty()) {
        Some(axes) => axes.iter().map(|axis| wrap(*axis, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    reduced(site, &axes, keeps)
}

pub(super) fn arg_reduce(site: &mut Site<'_>) -> Outcome {
    let axis = site.axis(0, site.int("axis").unwrap_or(0))?;
    reduced(site, &[axis], site.int("keepdims").unwrap_or(1) != 0)
}

fn reduced(site: &mut Site<'_>, axes: &[usize], keeps: bool) -> Outcome {
    let (fact, labels) = site.plain(0)?;
    if fact.numbers.as_ref().is_some_and(|numbers| numbers.len() > 1)
        && site.node.op == "ReduceProd"
        && let Some(product) = product(&fact)
    {
        let shape = if keeps { vec![Length::one()] } else { Vec::new() };
        return one(Fact::numbers(shape, vec![product]));
    }
    let mut output = Vec::new();
    for label in &labels {
        if !axes.contains(label) {
            output.push(*label);
        } else if keeps {
            output.push(site.fresh(Length::one()));
        }
    }
    site.pass(&[(fact, labels)], &[output], false)
}

/// The product of all numbers of a shape.
fn product(fact: &Fact) -> Option<Number> {
    let lengths = fact.numbers.as_ref()?.iter().map(|number| match number {
        Number::Known(length) => Some(length),
        _ => None,
    });
    let lengths = lengths.collect::<Option<Vec<_>>>()?;
    Length::product(lengths).map(Number::Known)
}

/// `QuantizeLinear` and `DequantizeLinear`: the scales are constants, along any axis except that of
/// the rows.
pub(super) fn quantise(site: &mut Site<'_>) -> Outcome {
    let scalar = |at: usize| {
        site.optional(at).is_none_or(|fact| {
            fact.shape.as_ref().is_some_and(|shape| shape.iter().all(|length| length.is(1)))
        })
    };
    if scalar(1) && scalar(2) {
        let (fact, labels) = site.plain(0)?;
        let scales = [1, 2].into_iter().filter_map(|at| site.optional(at).cloned());
        let operands: Vec<Operand> = std::iter::once((fact, labels.clone()))
            .chain(scales.map(|fact| (Fact { shape: Some(Vec::new()), ..fact }, Vec::new())))
            .collect();
        return site.pass(&operands, &[labels], false);
    }
    one_axis(site, 1)
}

/// `Resize` and `Upsample`: along every axis except those with a scale of 1 or an unchanged length.
pub(super) fn resize(site: &mut Site<'_>) -> Outcome {
    let rank = site.rank(0)?;
    let new = site.node.op == "Resize" && site.node.opset >= 11;
    let (scales_at, sizes_at) = if new { (2, 3) } else { (1, usize::MAX) };
    let axes: Vec<usize> = match site.ints("axes") {
        Some(axes) => axes.iter().map(|axis| wrap(*axis, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    if let Some(sizes) = site.optional(sizes_at) {
        if site.text("keep_aspect_ratio_policy").is_some_and(|policy| policy != "stretch") {
            return resized(site, &axes, |_| None);
        }
        let numbers = sizes.numbers.clone().ok_or("its sizes are computed from data")?;
        return resized(site, &axes, |at| match numbers.get(at) {
            Some(Number::Known(length)) => Some(length.clone()),
            _ => None,
        });
    }
    let scales = scales(site, scales_at)?;
    let shape = site.shape(0)?.to_vec();
    let places = axes.clone();
    resized(site, &axes, move |at| {
        let (own, scale) = (shape.get(*places.get(at)?)?, scales.get(at).copied().flatten()?);
        if scale == 1.0 { Some(own.clone()) } else { own.number().map(|n| scaled(n, scale)) }
    })
}

/// The scales of a resize, where they are known.
fn scales(site: &Site<'_>, at: usize) -> Result<Vec<Option<f32>>, Obstacle> {
    if let Some(Attribute::Floats(scales)) = site.attribute("scales") {
        return Ok(scales.iter().copied().map(Some).collect());
    }
    let numbers = site.fact(at)?.numbers.as_ref().ok_or("its scales are computed")?;
    #[allow(clippy::cast_precision_loss, reason = "small integers")]
    let scale = |number: &Number| match number {
        Number::Known(length) => length.number().map(|number| number as f32),
        _ => None,
    };
    Ok(numbers.iter().map(scale).collect())
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the operator truncates too"
)]
fn scaled(length: i64, scale: f32) -> Length {
    Length::fixed((length as f32 * scale).floor() as i64)
}

fn resized(
    site: &mut Site<'_>,
    axes: &[usize],
    length: impl Fn(usize) -> Option<Length>,
) -> Outcome {
    let (fact, labels) = site.plain(0)?;
    let shape = site.shape(0)?.to_vec();
    if !site.inputs.iter().skip(1).flatten().all(|fact| fact.row_axis().is_none()) {
        return Err("its sizes are computed from rows".into());
    }
    let new = site.node.op == "Resize" && site.node.opset >= 11;
    let at = match new {
        true => {
            if site.optional(3).is_some() {
                3
            } else {
                2
            }
        }
        false => 1,
    };
    let numbers = site.optional(at).and_then(|fact| fact.numbers.clone()).unwrap_or_default();
    let counts = |at: usize| numbers.get(at).is_some_and(Number::counts_rows);
    if new && site.optional(1).is_some_and(Fact::counts) {
        return Err("its part of the image depends on the number of rows".into());
    }
    let mut output = labels.clone();
    for (at, axis) in axes.iter().enumerate() {
        let after = length(at);
        if after.is_some() && after.as_ref() == shape.get(*axis) {
            continue;
        }
        let label = match after {
            Some(length) if length.has_rows() => {
                return Err("a size depends on the number of rows".into());
            }
            Some(length) => site.fresh(length),
            None if counts(at) => return Err("a size depends on the number of rows".into()),
            None => site.fresh_open(),
        };
        output.splice(*axis..=*axis, [label]);
    }
    site.pass(&[(fact, labels)], &[output], false)
}
