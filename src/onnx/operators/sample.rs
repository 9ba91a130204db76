//! Sampling of images at places that are data: `GridSample`, and `AffineGrid`, which makes grids.

use super::index::{advance, strides};
use super::resize_rule::cubic;
use super::{Call, Outputs, Table, one, several};
use crate::host::HostTensor;
use crate::trace::Tracer;
use crate::{axes, literals, matmul};
use graph::error::OnnxError;

pub(super) const TABLE: Table = &[("AffineGrid", affine_grid), ("GridSample", grid_sample)];

/// The interpolation between elements.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Interpolation {
    Nearest,
    Linear,
    Cubic,
}

/// The treatment of places outside of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outside {
    Zeros,
    Border,
    Reflection,
}

/// The formulas of the ONNX operator GridSample for any number of axes, on the host.
pub(super) fn grid_sample(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, grid) = (call.tensor(0)?, call.tensor(1)?);
    let mode = match call.text("mode")?.unwrap_or("linear") {
        "nearest" => Interpolation::Nearest,
        // Opset 20 renamed bilinear and bicubic.
        "linear" | "bilinear" => Interpolation::Linear,
        "cubic" | "bicubic" => Interpolation::Cubic,
        other => return Err(OnnxError::unsupported(format!("mode '{other}' is not supported"))),
    };
    let outside = match call.text("padding_mode")?.unwrap_or("zeros") {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        other => {
            return Err(OnnxError::unsupported(format!("padding_mode '{other}' is not supported")));
        }
    };
    let corners = call.int_or("align_corners", 0)? != 0;
    let axes = x.rank().saturating_sub(2);
    let fits = grid.rank() == x.rank()
        && grid.shape.first() == x.shape.first()
        && grid.shape.last() == Some(&axes)
        && !x.shape.iter().skip(2).any(|length| *length == 0);
    if !fits || axes == 0 {
        return Err(OnnxError::input(format!(
            "a grid of shape {:?} does not fit shape {:?}",
            grid.shape, x.shape
        )));
    }
    let out = grid.shape.iter().skip(1).take(axes);
    let shape: Vec<usize> = x.shape.iter().take(2).chain(out).copied().collect();
    if shape.contains(&0) {
        return one(t.constant(HostTensor::numbers(x.elem, shape, vec![]))?);
    }
    let (elem, from) = (x.elem, x.shape.clone());
    let form = (elem, shape.clone());
    let run = move |inputs: &[HostTensor]| {
        let [x, grid] = inputs else { return Err(OnnxError::internal("expected two inputs")) };
        let (values, grid) = (x.to_f64(), grid.to_f64());
        let lengths: Vec<usize> = from.iter().skip(2).copied().collect();
        let size: usize = lengths.iter().product();
        let channels = shape.get(1).copied().unwrap_or(0);
        let places: usize = shape.iter().skip(2).product();
        let mut sampled = vec![0.0; shape.iter().product()];
        for (row, grid) in grid.chunks(places * axes).enumerate() {
            for (at, place) in grid.chunks(axes).enumerate() {
                // The grid has the innermost axis first.
                let place: Vec<f64> = place.iter().rev().copied().collect();
                let taps = taps(&place, &lengths, mode, outside, corners);
                for channel in 0..channels {
                    let plane = row * channels + channel;
                    let base = plane * size;
                    let value = taps.iter().map(|(offset, weight)| {
                        values.get(base + offset).copied().unwrap_or(0.0) * weight
                    });
                    if let Some(cell) = sampled.get_mut(plane * places + at) {
                        *cell = value.sum::<f64>();
                    }
                }
            }
        }
        Ok(vec![HostTensor::numbers(elem, shape.clone(), sampled)])
    };
    several(t.host_op("grid_sample", &[x, grid], &[form], run)?)
}

/// The elements around a place, with their weights.
fn taps(
    place: &[f64],
    lengths: &[usize],
    mode: Interpolation,
    outside: Outside,
    corners: bool,
) -> Vec<(usize, f64)> {
    let steps = strides(lengths);
    let per_axis: Vec<Vec<(Option<usize>, f64)>> = place
        .iter()
        .zip(lengths)
        .map(|(place, length)| of_axis(*place, *length, mode, outside, corners))
        .collect();
    let counts: Vec<usize> = per_axis.iter().map(Vec::len).collect();
    let mut tap = vec![0usize; counts.len()];
    let mut all = Vec::new();
    for _ in 0..counts.iter().product() {
        let chosen = tap.iter().zip(&per_axis).zip(&steps);
        let whole =
            chosen.into_iter().try_fold((0, 1.0), |(offset, weight), ((at, axis), step)| {
                let (index, own) = axis.get(*at).copied()?;
                Some((offset + index? * step, weight * own))
            });
        all.extend(whole);
        advance(&mut tap, &counts);
    }
    all
}

/// Places along one axis with weights; `None` for places that count as zero.
fn of_axis(
    place: f64,
    length: usize,
    mode: Interpolation,
    outside: Outside,
    corners: bool,
) -> Vec<(Option<usize>, f64)> {
    let size = length as f64;
    let mut at = if corners {
        (place + 1.0) / 2.0 * (size - 1.0)
    } else {
        ((place + 1.0) * size - 1.0) / 2.0
    };
    // Cubic weights need the distance of the original place; its elements are moved inside later.
    if mode != Interpolation::Cubic {
        at = brought_inside(at, length, outside, corners);
    }
    let index = |at: f64| {
        let at = if mode == Interpolation::Cubic {
            brought_inside(at, length, outside, corners)
        } else {
            at
        };
        (at >= 0.0 && at < size).then_some(at as usize)
    };
    let floor = at.floor();
    match mode {
        // Like C's `nearbyint` in PyTorch and ONNX Runtime.
        Interpolation::Nearest => vec![(index(at.round_ties_even()), 1.0)],
        Interpolation::Linear => {
            vec![(index(floor), 1.0 - (at - floor)), (index(floor + 1.0), at - floor)]
        }
        Interpolation::Cubic => {
            let around = (-1..=2).map(|step| floor + f64::from(step));
            around.map(|near| (index(near), cubic(near - at, -0.75))).collect()
        }
    }
}

fn brought_inside(at: f64, length: usize, outside: Outside, corners: bool) -> f64 {
    let size = length as f64;
    match outside {
        Outside::Zeros => at,
        Outside::Border => at.clamp(0.0, size - 1.0),
        Outside::Reflection => {
            // Aligned corners reflect at the centres of the edge elements, others at their borders.
            let (low, high) = if corners { (0.0, size - 1.0) } else { (-0.5, size - 0.5) };
            let range = high - low;
            if range <= 0.0 || !at.is_finite() {
                return 0.0;
            }
            let beyond = (at - low).rem_euclid(2.0 * range);
            let inside = if beyond > range { 2.0 * range - beyond } else { beyond };
            (inside + low).clamp(0.0, size - 1.0)
        }
    }
}

/// The grid of an affine map: a product with the places of the result (ONNX operator AffineGrid).
pub(super) fn affine_grid(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let theta = call.tensor(0)?;
    let size = literals::lengths(t, call.tensor(1)?)?;
    let corners = call.int_or("align_corners", 0)? != 0;
    let (Some(batch), Some(lengths)) = (size.first().copied(), size.get(2..)) else {
        return Err(OnnxError::input(format!("a size of {size:?} is not possible")));
    };
    let axes = lengths.len();
    if theta.shape != [batch, axes, axes + 1] {
        return Err(OnnxError::input(format!(
            "theta of shape {:?} does not fit a size of {size:?}",
            theta.shape
        )));
    }
    let count: usize = lengths.iter().product();
    t.fits(theta.elem, &[axes + 1, count])?;
    // Columns of places, the innermost axis first, and a row of ones.
    let mut base = vec![1.0; (axes + 1) * count];
    let mut place = vec![0usize; axes];
    for at in 0..count {
        for (axis, (index, length)) in place.iter().zip(lengths).rev().enumerate() {
            let (index, length) = (*index as f64, *length as f64);
            let value = match corners {
                // A single place is the last one (1) as in ONNX Runtime, not the middle (0) as in
                // PyTorch.
                true if length <= 1.0 => 1.0,
                true => 2.0 * index / (length - 1.0) - 1.0,
                false => (2.0 * index + 1.0) / length - 1.0,
            };
            if let Some(cell) = base.get_mut(axis * count + at) {
                *cell = value;
            }
        }
        advance(&mut place, lengths);
    }
    let base = t.constant(HostTensor::floats(theta.elem, vec![axes + 1, count], base))?;
    let product = matmul::matmul(t, theta, &base)?;
    let turned = axes::permute(t, &product, &[0, 2, 1])?;
    let shape: Vec<usize> =
        std::iter::once(batch).chain(lengths.iter().copied()).chain([axes]).collect();
    one(t.reshape(&turned, &shape)?)
}
