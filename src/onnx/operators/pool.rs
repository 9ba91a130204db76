//! Pooling.

use super::conv::spatial;
use super::index::{advance, strides};
use super::window::{attribute, same, window};
use super::{Call, Outputs, Table, one, several};
use crate::host::HostTensor;
use crate::host::first;
use crate::step::{Binary, Op, Reduce, SlidingWindow, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, literals};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[
    ("AveragePool", average),
    ("Col2Im", col2im),
    ("GlobalAveragePool", |t, call| global(t, call, super::activation::mean)),
    ("GlobalLpPool", |t, call| {
        let p = power(call)?;
        let x = call.tensor(0)?;
        let axes: Vec<usize> = (2..x.rank()).collect();
        one(norm(t, x, p, |t, x| t.reduce(Reduce::Sum, x, &axes))?)
    }),
    ("GlobalMaxPool", |t, call| global(t, call, |t, x, axes| t.reduce(Reduce::Max, x, axes))),
    ("LpPool", lp_pool),
    ("MaxPool", max),
    ("MaxUnpool", unpool),
];

type Pool = fn(&mut Tracer<'_>, &PlanTensor, &[usize]) -> Result<PlanTensor>;

fn global(t: &mut Tracer<'_>, call: &Call<'_>, pool: Pool) -> Outputs {
    let x = call.tensor(0)?;
    let axes: Vec<usize> = (2..x.rank()).collect();
    one(pool(t, x, &axes)?)
}

fn kernel_of(call: &Call<'_>, axes: usize) -> Result<Vec<usize>> {
    if call.ints("kernel_shape")?.is_none() {
        return Err(OnnxError::invalid("kernel_shape is missing"));
    }
    attribute(call, "kernel_shape", axes, 1)
}

/// The window of a pool, and the shape of its result.
fn layout(t: &Tracer<'_>, call: &Call<'_>, x: &PlanTensor) -> Result<(SlidingWindow, Vec<usize>)> {
    let (batch, channels, lengths) = spatial(x)?;
    let ceil = call.int_or("ceil_mode", 0)? != 0;
    let mut window = window(call, kernel_of(call, lengths.len())?, &lengths, 1)?;
    // ONNX Runtime ignores dilations in the automatic padding of pools.
    if call.text("auto_pad")?.is_some_and(|pad| pad.starts_with("SAME")) {
        let dense = SlidingWindow { dilation: vec![1; lengths.len()], ..window.clone() };
        window.padding = same(&dense, &lengths, call.text("auto_pad")? != Some("SAME_LOWER"));
    }
    let mut shape = vec![batch, channels];
    for (axis, length) in lengths.iter().enumerate() {
        shape.push(window.places(axis, *length, ceil)?);
    }
    let work = shape.iter().chain(&window.kernel).fold(1usize, |all, n| all.saturating_mul(*n));
    if work > t.most_work() {
        return Err(OnnxError::input(format!(
            "a kernel of {:?} at {shape:?} places is too much work",
            window.kernel
        )));
    }
    Ok((window, shape))
}

/// Padding up to the end of the windows, so that a pool without padding has the same places.
fn reached(window: &SlidingWindow, x: &PlanTensor, shape: &[usize]) -> Vec<(usize, usize)> {
    let axis = |at: usize| {
        let (before, _) = window.padding.get(at).copied().unwrap_or((0, 0));
        let places = shape.get(at + 2).copied().unwrap_or(1);
        let stride = window.stride.get(at).copied().unwrap_or(1);
        let length = x.shape.get(at + 2).copied().unwrap_or(0);
        let end = places.saturating_sub(1) * stride + window.reach(at);
        (before, end.saturating_sub(length + before))
    };
    [(0, 0), (0, 0)].into_iter().chain((0..window.kernel.len()).map(axis)).collect()
}

fn max(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let (window, shape) = layout(t, call, x)?;
    // burn pools floats over two axes, and returns no indices with `storage_order`.
    let flat = window.kernel.len() <= 2 && x.elem.is_float();
    if call.outputs() > 1 || !flat {
        let columns = call.int_or("storage_order", 0)? != 0;
        return max_on_host(t, x, window, shape, columns);
    }
    let padding = reached(&window, x, &shape);
    // The least finite number: infinity would have to be concatenated (`axes::pad`).
    let padded = axes::pad(t, x, &padding, f64::from(f32::MIN))?;
    one(pooled(t, &padded, window, shape, |window| Op::MaxPool(window, false))?)
}

/// A pool without padding over one or two axes.
fn pooled(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    mut window: SlidingWindow,
    shape: Vec<usize>,
    op: impl Fn(SlidingWindow) -> Op,
) -> Result<PlanTensor> {
    window.padding = vec![(0, 0); window.kernel.len()];
    if window.kernel.len() == 2 {
        return t.emit(op(window), &[x], x.elem, shape);
    }
    // A row is pooled as an image with a height of 1.
    let image = axes::unsqueeze(t, x, 2)?;
    let mut tall = shape.clone();
    tall.insert(2, 1);
    let done = t.emit(op(window.with_axis()), &[&image], x.elem, tall)?;
    t.reshape(&done, &shape)
}

/// For each place of a result: the elements under the window, and the number of places of the
/// kernel that are in the padding.
fn windows(
    window: &SlidingWindow,
    x: &[usize],
    out: &[usize],
    mut visit: impl FnMut(usize, &[usize], usize),
) {
    let (axes, strides) = (window.kernel.len(), strides(x));
    let lengths: Vec<usize> = x.iter().skip(2).copied().collect();
    let mut place = vec![0usize; out.len()];
    let kernel: usize = window.kernel.iter().product();
    let get = |values: &[usize], at: usize| values.get(at).copied().unwrap_or(0);
    for number in 0..out.iter().product() {
        let base = get(&place, 0) * get(&strides, 0) + get(&place, 1) * get(&strides, 1);
        let (mut inside, mut tap) = (Vec::with_capacity(kernel), vec![0usize; axes]);
        let mut padded = 0;
        for _ in 0..kernel {
            let mut offset = Some((base, true));
            for axis in 0..axes {
                let (before, behind) = window.padding.get(axis).copied().unwrap_or((0, 0));
                let at = get(&place, axis + 2) * get(&window.stride, axis)
                    + get(&tap, axis) * get(&window.dilation, axis);
                let length = get(&lengths, axis);
                offset = offset.and_then(|(sum, within)| {
                    // Places beyond the padding do not count.
                    if at >= before + length + behind {
                        return None;
                    }
                    let real = at.checked_sub(before).filter(|at| *at < length);
                    let step = real.unwrap_or(0) * get(&strides, axis + 2);
                    Some((sum + step, within && real.is_some()))
                });
            }
            match offset {
                Some((at, true)) => inside.push(at),
                Some((_, false)) => padded += 1,
                None => {}
            }
            advance(&mut tap, &window.kernel);
        }
        visit(number, &inside, padded);
        advance(&mut place, out);
    }
}

fn max_on_host(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    window: SlidingWindow,
    shape: Vec<usize>,
    columns: bool,
) -> Outputs {
    let forms = [(x.elem, shape.clone()), (Elem::I64, shape.clone())];
    let from = x.shape.clone();
    let run = move |inputs: &[HostTensor]| {
        let host = first(inputs)?;
        let values = host.to_f64();
        let (mut best, mut places) = (Vec::new(), Vec::new());
        windows(&window, &from, &shape, |_, inside, _| {
            let value = |at: &usize| values.get(*at).copied().unwrap_or(f64::NAN);
            // `max_by` returns the last of equal elements; the reversed index makes that the first.
            let larger = |a: &&usize, b: &&usize| value(a).total_cmp(&value(b)).then(b.cmp(a));
            let at = inside.iter().max_by(larger).copied().unwrap_or(0);
            best.push(value(&at));
            places.push(if columns { by_columns(at, &from) } else { at } as i64);
        });
        let best = HostTensor::numbers(host.elem, shape.clone(), best);
        Ok(vec![best, HostTensor::ints(Elem::I64, shape.clone(), places)])
    };
    several(t.host_op("max_pool", &[x], &forms, run)?)
}

/// The index of an element if the first axis of an image were the innermost.
fn by_columns(at: usize, shape: &[usize]) -> usize {
    let lengths: Vec<usize> = shape.iter().skip(2).copied().collect();
    let size: usize = lengths.iter().product();
    let (image, mut inside) = (at / size.max(1), at % size.max(1));
    let mut place = vec![0; lengths.len()];
    for (at, length) in place.iter_mut().zip(&lengths).rev() {
        *at = inside % length.max(&1);
        inside /= length.max(&1);
    }
    let back = place.iter().zip(&lengths).rev();
    image * size + back.fold(0, |sum, (at, length)| sum * length + at)
}

fn average(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let (window, shape) = layout(t, call, x)?;
    let counts = call.int_or("count_include_pad", 0)? != 0;
    let dilated = window.dilation.iter().any(|dilation| *dilation != 1);
    let ceil = call.int_or("ceil_mode", 0)? != 0;
    let padding = reached(&window, x, &shape);
    let padded = padding.iter().any(|pair| *pair != (0, 0));
    // With `ceil_mode` a window may reach beyond the padding, where places do not count.
    if window.kernel.len() > 2 || dilated || !x.elem.is_float() || (ceil && padded) {
        return average_on_host(t, x, window, shape, counts);
    }
    let average = |t: &mut Tracer<'_>, x: &PlanTensor| {
        let x = axes::pad(t, x, &padding, 0.0)?;
        let op = |window| Op::AveragePool(window, true, false);
        pooled(t, &x, window.clone(), shape.clone(), op)
    };
    let y = average(t, x)?;
    if counts || !padded {
        return one(y);
    }
    // Divided by the share of each window that is not padding.
    let ones = axes::full(t, x.elem, x.shape.clone(), 1.0)?;
    let share = average(t, &ones)?;
    one(t.div(&y, &share)?)
}

fn average_on_host(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    window: SlidingWindow,
    shape: Vec<usize>,
    counts: bool,
) -> Outputs {
    let (elem, from) = (x.elem, x.shape.clone());
    let form = (elem, shape.clone());
    let run = move |inputs: &[HostTensor]| {
        let values = first(inputs)?.to_f64();
        let mut means = Vec::new();
        windows(&window, &from, &shape, |_, inside, padded| {
            let sum: f64 = inside.iter().filter_map(|at| values.get(*at)).sum();
            let count = inside.len() + if counts { padded } else { 0 };
            means.push(sum / count as f64);
        });
        Ok(vec![HostTensor::numbers(elem, shape.clone(), means)])
    };
    several(t.host_op("average_pool", &[x], &[form], run)?)
}

fn power(call: &Call<'_>) -> Result<f64> {
    let p = match call.attribute("p") {
        // p was a float in opset 1.
        Some(graph::Attribute::Float(p)) => f64::from(*p),
        _ => call.int_or("p", 2)? as f64,
    };
    if p > 0.0 {
        Ok(p)
    } else {
        Err(OnnxError::invalid(format!("attribute p: {p} must be greater than zero")))
    }
}

/// The p-th root of the sums of p-th powers.
fn norm(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    p: f64,
    sum: impl Fn(&mut Tracer<'_>, &PlanTensor) -> Result<PlanTensor>,
) -> Result<PlanTensor> {
    let size = t.unary(Unary::Abs, x)?;
    let powers = if p == 1.0 { size } else { t.scalar(Binary::Pow, &size, p)? };
    let sums = sum(t, &powers)?;
    if p == 1.0 { Ok(sums) } else { t.scalar(Binary::Pow, &sums, 1.0 / p) }
}

fn lp_pool(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, p) = (call.tensor(0)?, power(call)?);
    let (window, shape) = layout(t, call, x)?;
    let count: usize = window.kernel.iter().product();
    let padding = reached(&window, x, &shape);
    let dilated = window.dilation.iter().any(|dilation| *dilation != 1);
    one(norm(t, x, p, |t, powers| {
        if window.kernel.len() > 2 || dilated {
            let (window, shape, from) = (window.clone(), shape.clone(), powers.shape.clone());
            let form = (powers.elem, shape.clone());
            let elem = powers.elem;
            let run = move |inputs: &[HostTensor]| {
                let values = first(inputs)?.to_f64();
                let mut sums = Vec::new();
                windows(&window, &from, &shape, |_, inside, _| {
                    sums.push(inside.iter().filter_map(|at| values.get(*at)).sum());
                });
                Ok(vec![HostTensor::floats(elem, shape.clone(), sums)])
            };
            let made = t.host_op("lp_pool", &[powers], &[form], run)?;
            return made
                .into_iter()
                .next()
                .ok_or_else(|| OnnxError::internal("a result is missing"));
        }
        let padded = axes::pad(t, powers, &padding, 0.0)?;
        let op = |window| Op::AveragePool(window, true, false);
        // A sum is the mean times the size of the kernel; burn pools means only.
        let means = pooled(t, &padded, window.clone(), shape.clone(), op)?;
        t.scalar(Binary::Mul, &means, count as f64)
    })?)
}

fn unpool(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, indices) = (call.tensor(0)?, call.tensor(1)?);
    let (batch, channels, lengths) = spatial(x)?;
    let window = window(call, kernel_of(call, lengths.len())?, &lengths, 1)?;
    let mut natural = vec![batch, channels];
    for (axis, length) in lengths.iter().enumerate() {
        let (before, behind) = window.padding.get(axis).copied().unwrap_or((0, 0));
        let stride = window.stride.get(axis).copied().unwrap_or(1);
        let grown = length.saturating_sub(1) * stride + window.reach(axis);
        natural.push(grown.saturating_sub(before + behind));
    }
    t.fits(x.elem, &natural)?;
    let shape = match call.optional(2)? {
        Some(shape) => literals::lengths(t, shape)?,
        None => natural.clone(),
    };
    if shape.len() != natural.len() || indices.shape != x.shape {
        return Err(OnnxError::input(format!(
            "a result of shape {shape:?} does not fit shape {:?}",
            x.shape
        )));
    }
    let (elem, form) = (x.elem, (x.elem, shape.clone()));
    let run = move |inputs: &[HostTensor]| {
        let [x, indices] = inputs else { return Err(OnnxError::internal("expected two inputs")) };
        let mut values = vec![0.0; shape.iter().product()];
        let (natural_steps, steps) = (strides(&natural), strides(&shape));
        for (value, at) in x.to_f64().into_iter().zip(indices.to_i64()) {
            let mut rest =
                usize::try_from(at).map_err(|_| OnnxError::input("an index is negative"))?;
            let mut target = 0;
            // The place in the natural result, for a result that may be larger.
            for (natural, step) in natural_steps.iter().zip(&steps) {
                target += rest / natural.max(&1) * step;
                rest %= natural.max(&1);
            }
            *values
                .get_mut(target)
                .ok_or_else(|| OnnxError::input("an index is out of range for the result"))? =
                value;
        }
        Ok(vec![HostTensor::numbers(elem, shape.clone(), values)])
    };
    several(t.host_op("max_unpool", &[x, indices], &[form], run)?)
}

/// Adds columns of blocks at the places that they came from (ONNX operator Col2Im).
fn col2im(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let image = literals::lengths(t, call.tensor(1)?)?;
    let block = literals::lengths(t, call.tensor(2)?)?;
    let [batch, rows, columns] = x.shape[..] else {
        return Err(OnnxError::input(format!("shape {:?} does not have three axes", x.shape)));
    };
    let window = window(call, block.clone(), &image, 1)?;
    let size: usize = block.iter().product();
    let channels = rows / size.max(1);
    let mut places = vec![batch, channels];
    for (axis, length) in image.iter().enumerate() {
        places.push(window.places(axis, *length, false)?);
    }
    let count: usize = places.iter().skip(2).product();
    if channels * size != rows || count != columns {
        return Err(OnnxError::input(format!(
            "a matrix of {rows} x {columns} does not fit {channels} channels at {count} places"
        )));
    }
    let shape: Vec<usize> = [batch, channels].into_iter().chain(image).collect();
    let (elem, form) = (x.elem, (x.elem, shape.clone()));
    let run = move |inputs: &[HostTensor]| {
        let values = first(inputs)?.to_f64();
        let mut sums = vec![0.0; shape.iter().product()];
        // The destination of each element of each window; padding is dropped.
        let mut taps: Vec<Vec<Option<usize>>> = Vec::new();
        all_taps(&window, &shape, &places, &mut taps);
        for (number, taps) in taps.iter().enumerate() {
            let (plane, place) = (number / count, number % count);
            for (tap, target) in taps.iter().enumerate() {
                let from = (plane * size + tap) * columns + place;
                if let Some(sum) = target.and_then(|target| sums.get_mut(target)) {
                    *sum += values.get(from).copied().unwrap_or(0.0);
                }
            }
        }
        Ok(vec![HostTensor::numbers(elem, shape.clone(), sums)])
    };
    several(t.host_op("col2im", &[x], &[form], run)?)
}

fn all_taps(window: &SlidingWindow, x: &[usize], out: &[usize], all: &mut Vec<Vec<Option<usize>>>) {
    let strides = strides(x);
    let get = |values: &[usize], at: usize| values.get(at).copied().unwrap_or(0);
    let mut place = vec![0usize; out.len()];
    for _ in 0..out.iter().product() {
        let base = get(&place, 0) * get(&strides, 0) + get(&place, 1) * get(&strides, 1);
        let mut tap = vec![0usize; window.kernel.len()];
        let mut taps = Vec::new();
        for _ in 0..window.kernel.iter().product() {
            let mut target = Some(base);
            for axis in 0..window.kernel.len() {
                let (before, _) = window.padding.get(axis).copied().unwrap_or((0, 0));
                let at = get(&place, axis + 2) * get(&window.stride, axis)
                    + get(&tap, axis) * get(&window.dilation, axis);
                let real = at.checked_sub(before).filter(|at| *at < get(x, axis + 2));
                let step = real.map(|at| at * get(&strides, axis + 2));
                target = target.zip(step).map(|(sum, step)| sum + step);
            }
            taps.push(target);
            advance(&mut tap, &window.kernel);
        }
        all.push(taps);
        advance(&mut place, out);
    }
}
