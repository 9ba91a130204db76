//! Operators that the standard has with other inputs, and algebra that the standard lacks.

use super::super::signal::{matrices, parts};
use super::super::{Call, Outputs, Table, one, several};
use super::{OPSET, as_standard};
use crate::axes::axis;
use crate::host::HostTensor;
use crate::host::first;
use crate::step::{Binary, Reduce, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, build, literals, matmul};
use graph::Attribute;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[
    ("CDist", cdist),
    ("ComplexMul", |t, call| complex(t, call, false)),
    ("ComplexMulConj", |t, call| complex(t, call, true)),
    ("ExpandDims", |t, call| {
        let x = call.tensor(0)?;
        let at = literals::ints(t, call.tensor(1)?)?
            .first()
            .copied()
            .ok_or_else(|| OnnxError::invalid("axis is missing"))?;
        let at = axis(at, x.rank() + 1)?;
        one(axes::unsqueeze(t, x, at)?)
    }),
    ("GatherND", |t, call| same(t, call, "GatherND")),
    ("GridSample", |t, call| same(t, call, "GridSample")),
    ("Inverse", inverse),
    ("Irfft", irfft),
    ("Pad", |t, call| same(t, call, "Pad")),
    ("Range", |t, call| {
        let (start, limit) = (call.tensor(0)?, call.tensor(1)?);
        let delta = match call.optional(2)? {
            Some(delta) => delta.clone(),
            None => t.number(start.elem, 1.0)?,
        };
        let inputs = [Some(start), Some(limit), Some(&delta)];
        as_standard(t, call, ("Range", OPSET), &[], &inputs)
    }),
    ("Rfft", rfft),
    ("Trilu", |t, call| same(t, call, "Trilu")),
    ("Unique", |t, call| {
        // The operator of this domain has no attribute: the order is that of the first occurrences.
        let more = [("sorted", Attribute::Int(0))];
        let all = as_standard(t, call, ("Unique", OPSET), &more, &[call.optional(0)?])?;
        // The standard also returns the first place of each.
        Ok(all.into_iter().enumerate().filter(|(at, _)| *at != 1).map(|(_, out)| out).collect())
    }),
];

/// The standard operator with the same inputs and attributes.
fn same(t: &mut Tracer<'_>, call: &Call<'_>, op: &str) -> Outputs {
    let inputs = (0..call.inputs.len()).map(|at| call.optional(at));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    as_standard(t, call, (op, OPSET), &[], &inputs)
}

/// Distances between all rows of two matrices: `|a|^2 + |b|^2 - 2 a b`, or its root.
fn cdist(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (a, b) = (call.tensor(0)?, call.tensor(1)?);
    let ([rows, width], [columns, other]) = (&a.shape[..], &b.shape[..]) else {
        return Err(OnnxError::input(format!(
            "shapes {:?} and {:?} are not matrices",
            a.shape, b.shape
        )));
    };
    if width != other {
        return Err(OnnxError::input(format!(
            "rows of {width} and {other} elements differ in length"
        )));
    }
    let (rows, columns) = (*rows, *columns);
    let mut squares = Vec::with_capacity(2);
    for x in [a, b] {
        let square = t.mul(x, x)?;
        squares.push(t.reduce(Reduce::Sum, &square, &[1])?);
    }
    let [of_a, of_b] = <[PlanTensor; 2]>::try_from(squares)
        .map_err(|_| OnnxError::internal("expected two matrices"))?;
    let of_b = t.reshape(&of_b, &[1, columns])?;
    let of_a = t.reshape(&of_a, &[rows, 1])?;
    let turned = axes::permute(t, b, &[1, 0])?;
    let product = matmul::matmul(t, a, &turned)?;
    let product = t.scalar(Binary::Mul, &product, -2.0)?;
    let sum = t.add(&product, &of_a)?;
    let sum = t.add(&sum, &of_b)?;
    // Rounding may give a square just below zero, with NaN as its root.
    let distance = build::clamp(t, &sum, Some(0.0), None)?;
    match call.text("metric")?.unwrap_or("sqeuclidean") {
        "sqeuclidean" => one(distance),
        "euclidean" => one(t.unary(Unary::Sqrt, &distance)?),
        other => Err(OnnxError::unsupported(format!("metric '{other}' is not supported"))),
    }
}

/// Products of complex numbers, with their two parts along the last axis; with `conjugate`, of the
/// second number's conjugate.
fn complex(t: &mut Tracer<'_>, call: &Call<'_>, conjugate: bool) -> Outputs {
    let (a, b) = (parts(t, call.tensor(0)?)?, parts(t, call.tensor(1)?)?);
    let ((a, Some(ai)), (b, Some(bi))) = (a, b) else {
        return Err(OnnxError::input("complex numbers need two parts"));
    };
    let bi = if conjugate { t.unary(Unary::Neg, &bi)? } else { bi };
    let (one_part, other) = (t.mul(&a, &b)?, t.mul(&ai, &bi)?);
    let real = t.sub(&one_part, &other)?;
    let (one_part, other) = (t.mul(&a, &bi)?, t.mul(&ai, &b)?);
    let imaginary = t.add(&one_part, &other)?;
    let last = real.rank();
    let (real, imaginary) =
        (axes::unsqueeze(t, &real, last)?, axes::unsqueeze(t, &imaginary, last)?);
    one(axes::cat(t, &[real, imaginary], last)?)
}

/// Longest transform: its matrices have the square of this number of elements.
const LENGTH_MAX: usize = 1 << 13;

fn one_axis(call: &Call<'_>, length: usize) -> Result<()> {
    if call.int_or("signal_ndim", 1)? != 1 {
        return Err(OnnxError::unsupported("attribute signal_ndim: only 1 is supported"));
    }
    if length == 0 || length > LENGTH_MAX {
        return Err(OnnxError::limit(format!(
            "a transform of {length} elements is too long; the maximum is {LENGTH_MAX}"
        )));
    }
    Ok(())
}

/// `[..., length]` to `[..., length / 2 + 1, 2]`
fn rfft(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let length = x.shape.last().copied().unwrap_or(0);
    one_axis(call, length)?;
    let (cos, sin) = matrices(t, x.elem, length, length / 2 + 1, false)?;
    let (real, imaginary) = (matmul::matmul(t, x, &cos)?, matmul::matmul(t, x, &sin)?);
    let last = real.rank();
    let (real, imaginary) =
        (axes::unsqueeze(t, &real, last)?, axes::unsqueeze(t, &imaginary, last)?);
    one(axes::cat(t, &[real, imaginary], last)?)
}

/// `[..., bins, 2]` to `[..., 2 * (bins - 1)]`. Each bin except the first and the last also stands
/// for its mirror image.
fn irfft(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (real, Some(imaginary)) = parts(t, call.tensor(0)?)? else {
        return Err(OnnxError::input("complex numbers need two parts"));
    };
    let bins = real.shape.last().copied().unwrap_or(0);
    let length = 2 * bins.saturating_sub(1);
    one_axis(call, length)?;
    t.fits(real.elem, &[bins, length])?;
    let twice = |bin: usize| if bin == 0 || bin + 1 == bins { 1.0 } else { 2.0 };
    let table = |wave: fn(f64) -> f64| {
        let places = (0..bins).flat_map(|bin| (0..length).map(move |at| (bin, at)));
        let value = |(bin, at): (usize, usize)| {
            let angle = std::f64::consts::TAU * ((bin * at) % length) as f64 / length as f64;
            twice(bin) * wave(angle) / length as f64
        };
        HostTensor::floats(real.elem, vec![bins, length], places.map(value).collect())
    };
    let (cos, sin) = (t.constant(table(f64::cos))?, t.constant(table(|angle| -angle.sin()))?);
    let (even, odd) = (matmul::matmul(t, &real, &cos)?, matmul::matmul(t, &imaginary, &sin)?);
    one(t.add(&even, &odd)?)
}

/// Inverses of square matrices, on the host.
fn inverse(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let [.., rows, size] = x.shape[..] else {
        return Err(OnnxError::input(format!("shape {:?} is not a matrix", x.shape)));
    };
    if rows != size {
        return Err(OnnxError::input(format!("a matrix of {rows} x {size} is not square")));
    }
    if x.len().saturating_mul(size) > t.most_work() {
        return Err(OnnxError::input(format!(
            "matrices of shape {:?} are too large to invert",
            x.shape
        )));
    }
    let (elem, shape) = (x.elem, x.shape.clone());
    let form = (elem, shape.clone());
    let run = move |inputs: &[HostTensor]| {
        let values = first(inputs)?.to_f64();
        let all = values.chunks((size * size).max(1)).map(|matrix| inverse_of(matrix, size));
        let all = all.collect::<Result<Vec<_>, _>>()?.concat();
        Ok(vec![HostTensor::floats(elem, shape.clone(), all)])
    };
    several(t.host_op("inverse", &[x], &[form], run)?)
}

/// Elimination with the largest pivot, of the matrix with the identity matrix beside it.
fn inverse_of(matrix: &[f64], size: usize) -> Result<Vec<f64>> {
    let mut rows: Vec<Vec<f64>> = matrix
        .chunks(size.max(1))
        .enumerate()
        .map(|(at, row)| {
            let unit = (0..size).map(|column| f64::from(u8::from(column == at)));
            row.iter().copied().chain(unit).collect()
        })
        .collect();
    let at = |row: &[f64], column: usize| row.get(column).copied().unwrap_or(0.0);
    for k in 0..size {
        let larger = |a: &usize, b: &usize| {
            let size_of = |row: &usize| rows.get(*row).map_or(0.0, |row| at(row, k).abs());
            size_of(a).total_cmp(&size_of(b))
        };
        let pivot = (k..size).max_by(larger).unwrap_or(k);
        rows.swap(k, pivot);
        let own: Vec<f64> = rows.get(k).cloned().unwrap_or_default();
        let value = at(&own, k);
        if value == 0.0 {
            return Err(OnnxError::input("a matrix has no inverse"));
        }
        let own: Vec<f64> = own.iter().map(|element| element / value).collect();
        for (row, elements) in rows.iter_mut().enumerate() {
            if row == k {
                elements.clone_from(&own);
                continue;
            }
            let factor = at(elements, k);
            elements.iter_mut().zip(&own).for_each(|(element, own)| *element -= factor * own);
        }
    }
    Ok(rows.iter().flat_map(|row| row.iter().skip(size).copied()).collect())
}
