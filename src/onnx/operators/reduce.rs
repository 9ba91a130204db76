//! Reductions and cumulations along axes; sorting.

use super::{Call, Outputs, Table, one, several};
use crate::axes::axis;
use crate::host::first;
use crate::host::{Data, HostTensor};
use crate::step::{Binary, Op, Reduce, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, cast, literals};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use std::cmp::Ordering;

pub(super) const TABLE: Table = &[
    ("ArgMax", |t, call| arg(t, call, true)),
    ("ArgMin", |t, call| arg(t, call, false)),
    ("CumProd", |t, call| cumulate(t, call, true)),
    ("CumSum", |t, call| cumulate(t, call, false)),
    ("ReduceL1", |t, call| {
        reduce(t, call, |t, x, axes| {
            let x = t.unary(Unary::Abs, x)?;
            sum(t, &x, axes)
        })
    }),
    ("ReduceL2", |t, call| {
        reduce(t, call, |t, x, axes| {
            let squares = t.mul(x, x)?;
            let sum = sum(t, &squares, axes)?;
            root(t, &sum)
        })
    }),
    ("ReduceLogSum", |t, call| {
        reduce(t, call, |t, x, axes| {
            let sum = sum(t, x, axes)?;
            in_floats(t, &sum, |t, sum| t.unary(Unary::Log, sum))
        })
    }),
    ("ReduceLogSumExp", |t, call| {
        reduce(t, call, |t, x, axes| in_floats(t, x, |t, x| log_sum_exp(t, x, axes)))
    }),
    ("ReduceMax", |t, call| reduce(t, call, |t, x, axes| extreme(t, x, axes, Reduce::Max))),
    ("ReduceMean", |t, call| reduce(t, call, mean)),
    ("ReduceMin", |t, call| reduce(t, call, |t, x, axes| extreme(t, x, axes, Reduce::Min))),
    ("ReduceProd", |t, call| reduce(t, call, |t, x, axes| whole_or(t, x, axes, Reduce::Prod, 1.0))),
    ("ReduceSum", |t, call| reduce(t, call, sum)),
    ("ReduceSumSquare", |t, call| {
        reduce(t, call, |t, x, axes| {
            let squares = t.mul(x, x)?;
            sum(t, &squares, axes)
        })
    }),
    ("TopK", top_k),
];

type Reduction = fn(&mut Tracer<'_>, &PlanTensor, &[usize]) -> Result<PlanTensor>;

/// Axes from the input or the attribute, all axes by default; kept with length 1 or removed.
fn reduce(t: &mut Tracer<'_>, call: &Call<'_>, reduction: Reduction) -> Outputs {
    let x = call.tensor(0)?;
    let axes = super::shape::axes(t, call, 1, x.rank())?.unwrap_or_default();
    if axes.is_empty() && call.int_or("noop_with_empty_axes", 0)? != 0 {
        // The function of each element, such as a square or a logarithm, applies nevertheless.
        return one(reduction(t, x, &[])?);
    }
    let axes = if axes.is_empty() { (0..x.rank()).collect() } else { axes };
    let reduced = reduction(t, x, &axes)?;
    one(if call.int_or("keepdims", 1)? != 0 { reduced } else { axes::squeeze(t, &reduced, &axes)? })
}

/// Reduces a tensor; an empty one gives the number `nothing`.
fn whole_or(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    axes: &[usize],
    reduce: Reduce,
    nothing: f64,
) -> Result<PlanTensor> {
    if x.len() > 0 || axes.is_empty() {
        return t.reduce(reduce, x, axes);
    }
    let kept = |(at, length): (usize, &usize)| if axes.contains(&at) { 1 } else { *length };
    let shape: Vec<usize> = x.shape.iter().enumerate().map(kept).collect();
    axes::full(t, x.elem, shape, nothing)
}

fn sum(t: &mut Tracer<'_>, x: &PlanTensor, axes: &[usize]) -> Result<PlanTensor> {
    whole_or(t, x, axes, Reduce::Sum, 0.0)
}

fn mean(t: &mut Tracer<'_>, x: &PlanTensor, axes: &[usize]) -> Result<PlanTensor> {
    if x.elem.is_float() {
        // As in ONNX Runtime, the mean of zero elements is 0, not 0 / 0.
        return whole_or(t, x, axes, Reduce::Mean, 0.0);
    }
    let count: usize = axes.iter().filter_map(|at| x.shape.get(*at)).product();
    let sum = sum(t, x, axes)?;
    t.scalar(Binary::Div, &sum, count as f64)
}

/// The largest or smallest element; also of booleans.
fn extreme(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    axes: &[usize],
    reduce: Reduce,
) -> Result<PlanTensor> {
    if x.elem == Elem::Bool {
        let numbers = cast::cast(t, x, Elem::I32)?;
        let found = extreme(t, &numbers, axes, reduce)?;
        return cast::cast(t, &found, Elem::Bool);
    }
    // ONNX defines the maximum of no elements as the least value of the type, or minus infinity.
    let nothing = match (x.elem.range(), reduce) {
        (Some((least, _)), Reduce::Max) => least as f64,
        (Some((_, most)), _) => most as f64,
        (None, Reduce::Max) => f64::NEG_INFINITY,
        (None, _) => f64::INFINITY,
    };
    whole_or(t, x, axes, reduce, nothing)
}

fn root(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    in_floats(t, x, |t, x| t.unary(Unary::Sqrt, x))
}

/// Applies a function of floats; results for integers are truncated.
fn in_floats(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    run: impl Fn(&mut Tracer<'_>, &PlanTensor) -> Result<PlanTensor>,
) -> Result<PlanTensor> {
    if x.elem.is_float() {
        return run(t, x);
    }
    let float = cast::cast(t, x, Elem::F64)?;
    let done = run(t, &float)?;
    cast::cast(t, &done, x.elem)
}

/// Elements are shifted by the largest, which avoids overflow.
fn log_sum_exp(t: &mut Tracer<'_>, x: &PlanTensor, axes: &[usize]) -> Result<PlanTensor> {
    if x.len() == 0 {
        return whole_or(t, x, axes, Reduce::Sum, f64::NEG_INFINITY);
    }
    let largest = t.reduce(Reduce::Max, x, axes)?;
    let shifted = t.sub(x, &largest)?;
    let exp = t.unary(Unary::Exp, &shifted)?;
    let sum = sum(t, &exp, axes)?;
    let log = t.unary(Unary::Log, &sum)?;
    t.add(&log, &largest)
}

fn arg(t: &mut Tracer<'_>, call: &Call<'_>, max: bool) -> Outputs {
    let x = call.tensor(0)?;
    let at = axis(call.int_or("axis", 0)?, x.rank())?;
    let last = call.int_or("select_last_index", 0)? != 0;
    let length = x.shape.get(at).copied().unwrap_or(0);
    let mut shape = x.shape.clone();
    match shape.get_mut(at) {
        Some(length) if *length > 0 => *length = 1,
        _ => return Err(OnnxError::input("an axis has length 0")),
    }
    // Reversed, if the last of equal elements is requested.
    let x = if last { super::shape::flip(t, x, &[at])? } else { x.clone() };
    let op = if max { Op::ArgMax(at) } else { Op::ArgMin(at) };
    let mut found = t.emit(op, &[&x], Elem::I64, shape)?;
    if last {
        let end = t.number(Elem::I64, length as f64 - 1.0)?;
        found = t.sub(&end, &found)?;
    }
    one(if call.int_or("keepdims", 1)? != 0 { found } else { axes::squeeze(t, &found, &[at])? })
}

fn cumulate(t: &mut Tracer<'_>, call: &Call<'_>, product: bool) -> Outputs {
    let x = call.tensor(0)?;
    let at = literals::ints(t, call.tensor(1)?)?.first().copied().unwrap_or(0);
    let at = axis(at, x.rank())?;
    let (exclusive, reverse) = (call.int_or("exclusive", 0)? != 0, call.int_or("reverse", 0)? != 0);
    let length = x.shape.get(at).copied().unwrap_or(0);
    if x.len() == 0 {
        return one(x.clone());
    }
    let mut x = if reverse { super::shape::flip(t, x, &[at])? } else { x.clone() };
    if exclusive {
        let mut padding = vec![(0, 0); x.rank()];
        if let Some(pair) = padding.get_mut(at) {
            *pair = (1, 0);
        }
        // An exclusive sum leaves out the element itself: all elements move by one place.
        let shifted = axes::pad(t, &x, &padding, f64::from(u8::from(product)))?;
        x = axes::narrow(t, &shifted, at, crate::axes::Cut::range(0, length))?;
    }
    let op = if product { Op::CumProd(at) } else { Op::CumSum(at) };
    let shape = x.shape.clone();
    let done = t.emit(op, &[&x], x.elem, shape)?;
    one(if reverse { super::shape::flip(t, &done, &[at])? } else { done })
}

fn top_k(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let at = axis(call.int_or("axis", -1)?, x.rank())?;
    let k = match call.optional(1)? {
        Some(k) => literals::ints(t, k)?.first().copied(),
        None => call.int("k")?,
    };
    let length = x.shape.get(at).copied().unwrap_or(0);
    let k = k.and_then(|k| usize::try_from(k).ok()).filter(|k| *k <= length);
    let k =
        k.ok_or_else(|| OnnxError::input(format!("k is out of range for {length} elements")))?;
    let largest = call.int_or("largest", 1)? != 0;
    let rows = axes::swap(t, x, at, x.rank() - 1)?;
    let mut shape = rows.shape.clone();
    if let Some(last) = shape.last_mut() {
        *last = k;
    }
    let forms = [(x.elem, shape.clone()), (Elem::I64, shape.clone())];
    let run = move |inputs: &[HostTensor]| {
        let host = first(inputs)?;
        Ok(first_of_rows(host, length, k, largest, &shape))
    };
    let found = t.host_op("top_k", &[&rows], &forms, run)?;
    let back = found.iter().map(|found| axes::swap(t, found, at, x.rank() - 1));
    several(back.collect::<Result<Vec<_>, _>>()?)
}

/// The first `k` elements of each row in order, and their indices.
fn first_of_rows(
    host: &HostTensor,
    length: usize,
    k: usize,
    largest: bool,
    shape: &[usize],
) -> Vec<HostTensor> {
    let rows = host.len() / length.max(1);
    let mut places = Vec::with_capacity(rows * k);
    let compare = |a: usize, b: usize| match &host.data {
        Data::Float(values) => match (values.get(a), values.get(b)) {
            // Zeros of both signs are equal.
            (Some(a), Some(b)) => (a + 0.0).total_cmp(&(b + 0.0)),
            _ => Ordering::Equal,
        },
        Data::Int(values) if host.elem == Elem::U64 => {
            values.get(a).map(|a| a.cast_unsigned()).cmp(&values.get(b).map(|b| b.cast_unsigned()))
        }
        Data::Int(values) => values.get(a).cmp(&values.get(b)),
        Data::Text(values) => values.get(a).cmp(&values.get(b)),
    };
    for row in 0..rows {
        let mut order: Vec<usize> = (row * length..(row + 1) * length).collect();
        order.sort_by(|a, b| {
            let by_value = if largest { compare(*b, *a) } else { compare(*a, *b) };
            // ONNX: of equal elements, the one with the lower index is first.
            by_value.then(a.cmp(b))
        });
        places.extend(order.into_iter().take(k));
    }
    let indices = places.iter().map(|at| (at % length.max(1)) as i64).collect();
    let values = match &host.data {
        Data::Float(all) => {
            Data::Float(places.iter().filter_map(|at| all.get(*at)).copied().collect())
        }
        Data::Int(all) => Data::Int(places.iter().filter_map(|at| all.get(*at)).copied().collect()),
        Data::Text(all) => {
            Data::Text(places.iter().filter_map(|at| all.get(*at)).cloned().collect())
        }
    };
    let values = HostTensor { elem: host.elem, shape: shape.to_vec(), data: values };
    vec![values, HostTensor::ints(Elem::I64, shape.to_vec(), indices)]
}
