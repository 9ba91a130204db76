//! Operators that select elements or write them to indices.

use super::{Call, Outputs, Table, one, several};
use crate::axes::{Cut, axis};
use crate::host::first;
use crate::host::{Data, HostTensor};
use crate::trace::Tracer;
use crate::{axes, indices, literals};
use burn::tensor::IndexingUpdateOp;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[
    ("Compress", compress),
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("NonZero", non_zero),
    ("Scatter", scatter_elements),
    ("ScatterElements", scatter_elements),
    ("ScatterND", scatter_nd),
    ("TensorScatter", tensor_scatter),
    ("Unique", unique),
];

fn gather(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, indices) = (call.tensor(0)?, call.tensor(1)?);
    let at = axis(call.int_or("axis", 0)?, x.rank())?;
    let length = x.shape.get(at).copied().unwrap_or(0);
    let (before, behind) = x.shape.split_at(at);
    let behind = behind.iter().skip(1);
    let shape: Vec<usize> = before.iter().chain(&indices.shape).chain(behind).copied().collect();
    let places = indices::places_of(t, indices, length)?;
    let flat = t.reshape(&places, &[places.len()])?;
    let picked = indices::select(t, x, at, &flat)?;
    one(t.reshape(&picked, &shape)?)
}

fn gather_elements(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, indices) = (call.tensor(0)?, call.tensor(1)?);
    let at = axis(call.int_or("axis", 0)?, x.rank())?;
    if indices.rank() != x.rank() {
        return Err(OnnxError::input(format!(
            "indices of shape {:?} do not fit shape {:?}",
            indices.shape, x.shape
        )));
    }
    let places = indices::places_of(t, indices, x.shape.get(at).copied().unwrap_or(0))?;
    // Other axes may be shorter than those of the data.
    let cuts = x.shape.iter().zip(&indices.shape).enumerate().map(|(axis, (length, wanted))| {
        if axis == at { Cut::all(*length) } else { Cut::range(0, (*wanted).min(*length)) }
    });
    let x = axes::slice(t, x, &cuts.collect::<Vec<_>>())?;
    one(indices::gather(t, &x, at, &places)?)
}

fn gather_nd(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, indices) = (call.tensor(0)?, call.tensor(1)?);
    let batch = usize::try_from(call.int_or("batch_dims", 0)?).unwrap_or(usize::MAX);
    let Some((depth, lead)) = indices.shape.split_last() else {
        return Err(OnnxError::input("indices are a scalar"));
    };
    let fits = batch <= lead.len() && batch.checked_add(*depth).is_some_and(|d| d <= x.rank());
    if !fits || x.shape.get(..batch) != lead.get(..batch) {
        return Err(OnnxError::input(format!(
            "indices of shape {:?} do not fit shape {:?}",
            indices.shape, x.shape
        )));
    }
    let inner = x.shape.get(batch..batch + depth).unwrap_or(&[]).to_vec();
    let rest = x.shape.get(batch + depth..).unwrap_or(&[]).to_vec();
    let shape: Vec<usize> = lead.iter().chain(&rest).copied().collect();
    let (rows, run) = (lead.iter().product::<usize>(), rest.iter().product::<usize>());
    let groups: usize = lead.iter().take(batch).product();
    // One number for each place: its batch, then its indices.
    let mut flat = axes::full(t, Elem::I64, vec![rows], 0.0)?;
    let table = t.reshape(indices, &[rows, *depth])?;
    for (at, length) in inner.iter().enumerate() {
        let column = axes::narrow(t, &table, 1, Cut::range(at, at + 1))?;
        let column = t.reshape(&column, &[rows])?;
        let column = indices::places_of(t, &column, *length)?;
        let scale = t.number(Elem::I64, *length as f64)?;
        let wider = t.mul(&flat, &scale)?;
        flat = t.add(&wider, &column)?;
    }
    let per_group: usize = inner.iter().product();
    let group = (0..rows).map(|row| (row / (rows / groups.max(1)).max(1) * per_group) as i64);
    let group = literals::indices(t, group.collect())?;
    let flat = t.add(&flat, &group)?;
    let data = t.reshape(x, &[groups * per_group, run])?;
    let picked = indices::select(t, &data, 0, &flat)?;
    one(t.reshape(&picked, &shape)?)
}

fn update_of(call: &Call<'_>) -> Result<IndexingUpdateOp> {
    Ok(match call.text("reduction")?.unwrap_or("none") {
        "none" => IndexingUpdateOp::Assign,
        "add" => IndexingUpdateOp::Add,
        "mul" => IndexingUpdateOp::Mul,
        "min" => IndexingUpdateOp::Min,
        "max" => IndexingUpdateOp::Max,
        other => {
            return Err(OnnxError::unsupported(format!("reduction '{other}' is not supported")));
        }
    })
}

fn scatter_elements(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, indices, updates) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let at = axis(call.int_or("axis", 0)?, x.rank())?;
    if indices.shape != updates.shape || indices.rank() != x.rank() || updates.elem != x.elem {
        let (indices, updates) = (&indices.shape, &updates.shape);
        return Err(OnnxError::input(format!(
            "indices {indices:?} and updates {updates:?} do not fit {:?}",
            x.shape
        )));
    }
    let how = update_of(call)?;
    let form = (x.elem, x.shape.clone());
    let run = move |inputs: &[HostTensor]| {
        let [x, indices, updates] = inputs else {
            return Err(OnnxError::internal("expected three inputs"));
        };
        scatter_on_host(x, indices, updates, at, how).map(|host| vec![host])
    };
    several(t.host_op("scatter", &[x, indices, updates], &[form], run)?)
}

/// Writes the elements one by one, in their order.
fn scatter_on_host(
    x: &HostTensor,
    indices: &HostTensor,
    updates: &HostTensor,
    at: usize,
    how: IndexingUpdateOp,
) -> Result<HostTensor> {
    let mut result = x.clone();
    let strides = strides(&x.shape);
    let length = x.shape.get(at).copied().unwrap_or(0) as i64;
    let mut place = vec![0usize; indices.shape.len()];
    for (number, index) in indices.to_i64().into_iter().enumerate() {
        let index = if index < 0 { index + length } else { index };
        let index = usize::try_from(index).ok().filter(|_| index < length);
        let index = index.ok_or_else(|| {
            OnnxError::input(format!("an index is out of range for {length} elements"))
        })?;
        let coordinates =
            place.iter().enumerate().map(|(axis, c)| if axis == at { index } else { *c });
        let target = coordinates.zip(&strides).map(|(c, stride)| c * stride).sum();
        put(&mut result, target, updates, number, how)?;
        advance(&mut place, &indices.shape);
    }
    Ok(result)
}

/// Distances between adjacent elements along each axis.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        let next = strides.get(at).copied().unwrap_or(1) * shape.get(at).copied().unwrap_or(1);
        if let Some(stride) = strides.get_mut(at - 1) {
            *stride = next;
        }
    }
    strides
}

/// Moves to the next place in row-major order.
pub(super) fn advance(place: &mut [usize], shape: &[usize]) {
    for (at, length) in place.iter_mut().zip(shape).rev() {
        *at += 1;
        if *at < *length {
            return;
        }
        *at = 0;
    }
}

fn put(
    result: &mut HostTensor,
    target: usize,
    updates: &HostTensor,
    source: usize,
    how: IndexingUpdateOp,
) -> Result<()> {
    let outside = || OnnxError::input("an index is out of range for the data");
    match (&mut result.data, &updates.data) {
        (Data::Float(to), Data::Float(from)) => {
            let to = to.get_mut(target).ok_or_else(outside)?;
            let from = from.get(source).copied().ok_or_else(outside)?;
            *to = match how {
                IndexingUpdateOp::Assign => from,
                IndexingUpdateOp::Add => *to + from,
                IndexingUpdateOp::Mul => *to * from,
                IndexingUpdateOp::Min => to.min(from),
                IndexingUpdateOp::Max => to.max(from),
            };
        }
        (Data::Int(to), Data::Int(from)) => {
            let to = to.get_mut(target).ok_or_else(outside)?;
            let from = from.get(source).copied().ok_or_else(outside)?;
            *to = match how {
                IndexingUpdateOp::Assign => from,
                // Overflow wraps around: ONNX does not define it, and a panic would reject the
                // request.
                IndexingUpdateOp::Add => to.wrapping_add(from),
                IndexingUpdateOp::Mul => to.wrapping_mul(from),
                IndexingUpdateOp::Min => (*to).min(from),
                IndexingUpdateOp::Max => (*to).max(from),
            };
        }
        (Data::Text(to), Data::Text(from)) => {
            *to.get_mut(target).ok_or_else(outside)? =
                from.get(source).ok_or_else(outside)?.clone();
        }
        _ => return Err(OnnxError::invalid("data and updates differ in type")),
    }
    Ok(())
}

fn scatter_nd(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, indices, updates) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let depth =
        indices.shape.last().copied().ok_or_else(|| OnnxError::input("indices are a scalar"))?;
    let rest = x
        .shape
        .get(depth..)
        .ok_or_else(|| OnnxError::input("the indices have more axes than the data"))?;
    let lead = indices.shape.iter().take(indices.rank() - 1);
    let wanted: Vec<usize> = lead.chain(rest).copied().collect();
    if updates.shape != wanted || updates.elem != x.elem {
        return Err(OnnxError::input(format!(
            "updates have shape {:?}, not {wanted:?}",
            updates.shape
        )));
    }
    let how = update_of(call)?;
    let form = (x.elem, x.shape.clone());
    let run = move |inputs: &[HostTensor]| {
        let [x, indices, updates] = inputs else {
            return Err(OnnxError::internal("expected three inputs"));
        };
        scatter_nd_on_host(x, indices, updates, depth, how).map(|host| vec![host])
    };
    several(t.host_op("scatter_nd", &[x, indices, updates], &[form], run)?)
}

fn scatter_nd_on_host(
    x: &HostTensor,
    indices: &HostTensor,
    updates: &HostTensor,
    depth: usize,
    how: IndexingUpdateOp,
) -> Result<HostTensor> {
    let mut result = x.clone();
    let strides = strides(&x.shape);
    let run: usize = x.shape.iter().skip(depth).product();
    // A depth of 0 is valid and would make `chunks` panic.
    for (number, index) in indices.to_i64().chunks(depth.max(1)).enumerate() {
        let mut begin = 0;
        for ((index, length), stride) in index.iter().zip(&x.shape).zip(&strides) {
            let length = *length as i64;
            let place = if *index < 0 { *index + length } else { *index };
            let place = usize::try_from(place).ok().filter(|_| place < length);
            begin += place.ok_or_else(|| {
                OnnxError::input(format!("index {index} is out of range for {length} elements"))
            })? * stride;
        }
        for at in 0..run {
            put(&mut result, begin + at, updates, number * run + at, how)?;
        }
    }
    Ok(result)
}

/// Writes new keys or values into a cache, at places that differ between rows (ONNX operator
/// TensorScatter).
fn tensor_scatter(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (past, update) = (call.tensor(0)?, call.tensor(1)?);
    let at = axis(call.int_or("axis", -2)?, past.rank())?;
    let circular = call.text("mode")? == Some("circular");
    let rows = past.shape.first().copied().unwrap_or(0);
    let begins = match call.optional(2)? {
        Some(begins) => begins.clone(),
        None => axes::full(t, Elem::I64, vec![rows], 0.0)?,
    };
    // Axis 0 has the rows, and each of them its own place along the other axis.
    let fits = past.rank() == update.rank() && begins.len() == rows && at > 0;
    if !fits || past.elem != update.elem {
        return Err(OnnxError::input(format!(
            "an update of shape {:?} does not fit shape {:?}",
            update.shape, past.shape
        )));
    }
    let form = (past.elem, past.shape.clone());
    let run = move |inputs: &[HostTensor]| {
        let [past, update, begins] = inputs else {
            return Err(OnnxError::internal("expected three inputs"));
        };
        let mut result = past.clone();
        let strides = strides(&past.shape);
        let begins = begins.to_i64();
        let length = past.shape.get(at).copied().unwrap_or(1) as i64;
        let mut place = vec![0usize; update.shape.len()];
        for number in 0..update.len() {
            let row = place.first().copied().unwrap_or(0);
            let begin = begins.get(row).copied().unwrap_or(0);
            let shifted = begin + place.get(at).copied().unwrap_or(0) as i64;
            let shifted = if circular { shifted.rem_euclid(length.max(1)) } else { shifted };
            let shifted = usize::try_from(shifted).ok().filter(|_| shifted < length);
            let shifted = shifted
                .ok_or_else(|| OnnxError::input("an index is out of range for the cache"))?;
            let coordinates =
                place.iter().enumerate().map(|(axis, c)| if axis == at { shifted } else { *c });
            let target = coordinates.zip(&strides).map(|(c, stride)| c * stride).sum();
            put(&mut result, target, update, number, IndexingUpdateOp::Assign)?;
            advance(&mut place, &update.shape);
        }
        Ok(vec![result])
    };
    several(t.host_op("tensor_scatter", &[past, update, &begins], &[form], run)?)
}

fn compress(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, condition) = (call.tensor(0)?, call.tensor(1)?);
    let (x, at) = match call.int("axis")? {
        Some(at) => (x.clone(), axis(at, x.rank())?),
        None => (t.reshape(x, &[x.len()])?, 0),
    };
    let length = x.shape.get(at).copied().unwrap_or(0);
    // The condition may be shorter than the axis (ONNX Compress); the rest is dropped.
    let kept = literals::ints(t, condition)?.into_iter().take(length).enumerate();
    let kept = kept.filter(|(_, holds)| *holds != 0).map(|(at, _)| at as i64).collect();
    let kept = literals::indices(t, kept)?;
    one(indices::select(t, &x, at, &kept)?)
}

fn non_zero(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let run = |inputs: &[HostTensor]| {
        let host = first(inputs)?;
        // A scalar has the indices of a vector of one element (as in ONNX Runtime).
        let shape = if host.shape.is_empty() { &[1][..] } else { &host.shape };
        let mut places = vec![Vec::new(); shape.len()];
        let mut place = vec![0usize; shape.len()];
        for value in host.to_f64() {
            if value != 0.0 {
                let numbers = places.iter_mut().zip(&place);
                numbers.for_each(|(all, at)| all.push(*at as i64));
            }
            advance(&mut place, shape);
        }
        let count = places.first().map_or(0, Vec::len);
        let shape = vec![places.len(), count];
        Ok(vec![HostTensor::ints(Elem::I64, shape, places.concat())])
    };
    several(t.host_now(&[x], &run)?)
}

fn unique(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let at = call.int("axis")?.map(|at| axis(at, x.rank())).transpose()?;
    let sorted = call.int_or("sorted", 1)? != 0;
    let flat = match at {
        // The axis is moved to the front, so that compared elements are adjacent.
        Some(at) => axes::swap(t, x, 0, at)?,
        None => t.reshape(x, &[x.len()])?,
    };
    let host = t.read_value(&flat)?;
    let rows = host.shape.first().copied().unwrap_or(0);
    let (firsts, inverse, counts) = distinct(&keys(&host), rows, sorted);
    let number = |values: &[usize]| values.iter().map(|value| *value as i64).collect::<Vec<_>>();
    let order = literals::indices(t, number(&firsts))?;
    let picked = indices::select(t, &flat, 0, &order)?;
    let values = match at {
        Some(at) => axes::swap(t, &picked, 0, at)?,
        None => picked,
    };
    let (firsts, inverse) =
        (literals::indices(t, number(&firsts))?, literals::indices(t, number(&inverse))?);
    let counts = literals::indices(t, number(&counts))?;
    several([values, firsts, inverse, counts])
}

/// Numbers with the same order and equality as the elements.
fn keys(host: &HostTensor) -> Vec<f64> {
    match &host.data {
        // -0.0 + 0.0 is 0.0: the zeros are equal, but `total_cmp` orders them.
        Data::Float(values) => values.iter().map(|value| value + 0.0).collect(),
        // Ranks, since floats cannot represent every 64-bit integer.
        Data::Int(values) if host.elem == Elem::U64 => {
            ranks(values.iter().map(|value| value.cast_unsigned()).collect())
        }
        Data::Int(values) => ranks(values.clone()),
        Data::Text(values) => ranks(values.iter().map(String::as_str).collect()),
    }
}

/// The rank of each value among the sorted distinct values.
fn ranks<V: Ord + Copy>(values: Vec<V>) -> Vec<f64> {
    let mut sorted = values.clone();
    sorted.sort_unstable();
    sorted.dedup();
    values.iter().map(|value| sorted.binary_search(value).unwrap_or(0) as f64).collect()
}

/// The first place of each distinct row, the distinct row of each row, and the number of each
/// distinct row.
fn distinct(values: &[f64], rows: usize, sorted: bool) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
    let width = values.len() / rows.max(1);
    let row = |at: usize| values.get(at * width..(at + 1) * width).unwrap_or(&[]);
    let compare = |a: usize, b: usize| {
        let pairs = row(a).iter().zip(row(b)).map(|(a, b)| a.total_cmp(b));
        pairs.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    };
    let mut order: Vec<usize> = (0..rows).collect();
    // Equal rows are in the order of their places, so that each group begins with the first.
    order.sort_by(|a, b| compare(*a, *b).then(a.cmp(b)));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for at in order {
        match groups.last_mut() {
            Some(group) if group.first().is_some_and(|first| compare(*first, at).is_eq()) => {
                group.push(at);
            }
            _ => groups.push(vec![at]),
        }
    }
    // ONNX defines this order as that of the first occurrences.
    if !sorted {
        groups.sort_by_key(|group| group.first().copied());
    }
    let mut inverse = vec![0; rows];
    for (number, group) in groups.iter().enumerate() {
        for at in group {
            if let Some(place) = inverse.get_mut(*at) {
                *place = number;
            }
        }
    }
    let firsts = groups.iter().filter_map(|group| group.first().copied()).collect();
    (firsts, inverse, groups.iter().map(Vec::len).collect())
}
