//! Products of matrices and arithmetic of several tensors.

use super::{Call, Outputs, Table, one};
use crate::host::HostTensor;
use crate::host::first;
use crate::step::{Binary, Compare, Unary};
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, build, cast, literals, matmul};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[
    ("Clip", clip),
    ("Det", det),
    ("Einsum", super::einsum::einsum),
    ("Gemm", gemm),
    ("MatMul", |t, call| one(matmul::matmul(t, call.tensor(0)?, call.tensor(1)?)?)),
    ("Max", |t, call| one(fold(t, call, Binary::Max)?)),
    ("Mean", |t, call| {
        let sum = fold(t, call, Binary::Add)?;
        one(t.scalar(Binary::Div, &sum, call.inputs.len() as f64)?)
    }),
    ("Min", |t, call| one(fold(t, call, Binary::Min)?)),
    ("Mod", modulo),
    ("Pow", pow),
    ("Sum", |t, call| one(fold(t, call, Binary::Add)?)),
];

/// Combines all inputs, one after the other.
fn fold(t: &mut Tracer<'_>, call: &Call<'_>, binary: Binary) -> Result<PlanTensor> {
    let mut all = call.tensors()?.into_iter();
    let first = all.next().ok_or_else(|| OnnxError::invalid("inputs are missing"))?;
    all.try_fold(first, |sum, next| t.binary(binary, &sum, &next))
}

fn clip(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let (least, most) = (call.optional(1)?, call.optional(2)?);
    let constant = |bound: Option<&PlanTensor>| bound.is_none_or(PlanTensor::is_constant);
    // Bounds are 64-bit floats in this step, which are exact for 32-bit integers only.
    let plain = x.elem.is_float() || x.elem == Elem::I32;
    if constant(least) && constant(most) && plain {
        let mut number = |bound: Option<&PlanTensor>, name| match bound {
            Some(bound) => Ok::<_, OnnxError>(literals::floats(t, bound)?.first().copied()),
            None => call.float(name),
        };
        let (least, most) = (number(least, "min")?, number(most, "max")?);
        // If the bounds cross, the upper one has precedence.
        let least = least.zip(most).map_or(least, |(least, most)| Some(least.min(most)));
        return one(build::clamp(t, x, least, most)?);
    }
    let mut x = x.clone();
    if let Some(least) = least {
        x = t.binary(Binary::Max, &x, least)?;
    }
    if let Some(most) = most {
        x = t.binary(Binary::Min, &x, most)?;
    }
    one(x)
}

fn gemm(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let mut factors = Vec::with_capacity(2);
    for (at, name) in [(0, "transA"), (1, "transB")] {
        let x = call.tensor(at)?;
        if x.rank() != 2 {
            return Err(OnnxError::input(format!("shape {:?} is not a matrix", x.shape)));
        }
        let turned = call.int_or(name, 0)? != 0;
        factors.push(if turned { axes::permute(t, x, &[1, 0])? } else { x.clone() });
    }
    let [a, b] = &factors[..] else { return Err(OnnxError::internal("expected two matrices")) };
    let (alpha, beta) = (call.float_or("alpha", 1.0)?, call.float_or("beta", 1.0)?);
    let mut product = matmul::matmul(t, a, b)?;
    if alpha != 1.0 {
        product = scaled(t, &product, alpha)?;
    }
    let Some(c) = call.optional(2)? else { return one(product) };
    let c = if beta == 1.0 { c.clone() } else { scaled(t, c, beta)? };
    one(t.add(&product, &c)?)
}

fn scaled(t: &mut Tracer<'_>, x: &PlanTensor, by: f64) -> Result<PlanTensor> {
    if x.elem.is_float() {
        return t.scalar(Binary::Mul, x, by);
    }
    // alpha and beta are floats, also for integers.
    let float = cast::cast(t, x, Elem::F64)?;
    let scaled = t.scalar(Binary::Mul, &float, by)?;
    cast::cast(t, &scaled, x.elem)
}

/// The remainder with the sign of the divisor, or (`fmod`) of the dividend.
fn modulo(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, y) = (call.tensor(0)?, call.tensor(1)?);
    if call.int_or("fmod", 0)? == 0 {
        return one(t.binary(Binary::Rem, x, y)?);
    }
    // x - y * trunc(x / y)
    let ratio = t.div(x, y)?;
    let whole = if x.elem.is_float() { truncated(t, &ratio)? } else { ratio };
    let product = t.mul(y, &whole)?;
    one(t.sub(x, &product)?)
}

fn truncated(t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
    let below = build::compare_zero(t, x)?;
    let (floor, ceil) = (t.unary(Unary::Floor, x)?, t.unary(Unary::Ceil, x)?);
    t.choose(&below, &ceil, &floor)
}

/// The result has the type of the base.
fn pow(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, y) = (call.tensor(0)?, call.tensor(1)?);
    if x.elem.is_float() {
        if y.is_constant() && y.len() == 1 && literals::floats(t, y)?.first() == Some(&2.0) {
            let shape = crate::axes::broadcast(&x.shape, &y.shape)?;
            // WGSL defines pow by log2 of the base, which has no result for negative ones.
            let square = t.mul(x, x)?;
            return one(t.reshape(&square, &shape)?);
        }
        let y = cast::cast(t, y, x.elem)?;
        return one(t.binary(Binary::Pow, x, &y)?);
    }
    // By way of floats, since the exponent may be a fraction or negative.
    let (base, exponent) = (cast::cast(t, x, Elem::F64)?, cast::cast(t, y, Elem::F64)?);
    let power = t.binary(Binary::Pow, &base, &exponent)?;
    one(cast::cast(t, &power, x.elem)?)
}

/// The determinant by elimination, on the host.
fn det(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let [batch @ .., rows, columns] = &x.shape[..] else {
        return Err(OnnxError::input(format!("shape {:?} is not a matrix", x.shape)));
    };
    if rows != columns {
        return Err(OnnxError::input(format!("a matrix of {rows} x {columns} is not square")));
    }
    let (size, shape) = (*rows, batch.to_vec());
    let form = (x.elem, shape.clone());
    let elem = x.elem;
    let run = move |inputs: &[HostTensor]| {
        let values = first(inputs)?.to_f64();
        let matrices = values.chunks((size * size).max(1));
        let dets = matrices.map(|matrix| determinant(matrix.to_vec(), size)).collect();
        Ok(vec![HostTensor::floats(elem, shape.clone(), dets)])
    };
    super::several(t.host_op("det", &[x], &[form], run)?)
}

/// Gaussian elimination with the largest pivot.
fn determinant(mut m: Vec<f64>, size: usize) -> f64 {
    let mut det = 1.0;
    let at =
        |m: &[f64], row: usize, column: usize| m.get(row * size + column).copied().unwrap_or(0.0);
    for k in 0..size {
        let larger = |a: &usize, b: &usize| at(&m, *a, k).abs().total_cmp(&at(&m, *b, k).abs());
        let Some(pivot) = (k..size).max_by(larger) else { return det };
        if pivot != k {
            (0..size).for_each(|column| m.swap(k * size + column, pivot * size + column));
            det = -det;
        }
        let value = at(&m, k, k);
        if value == 0.0 {
            return 0.0;
        }
        det *= value;
        for row in k + 1..size {
            let factor = at(&m, row, k) / value;
            for column in k..size {
                let change = factor * at(&m, k, column);
                if let Some(cell) = m.get_mut(row * size + column) {
                    *cell -= change;
                }
            }
        }
    }
    det
}

/// Compares two tensors for equality, element by element; also of text.
pub(super) fn equal(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, y) = (call.tensor(0)?, call.tensor(1)?);
    if x.elem != Elem::Text || y.elem != Elem::Text {
        return one(t.compare(Compare::Equal, x, y)?);
    }
    let shape = crate::axes::broadcast(&x.shape, &y.shape)?;
    t.fits(Elem::I64, &shape)?;
    let (xs, ys) = (places(&x.shape, &shape), places(&y.shape, &shape));
    let form = (Elem::Bool, shape.clone());
    let run = move |inputs: &[HostTensor]| {
        let [x, y] = inputs else { return Err(OnnxError::internal("expected two inputs")) };
        let (x, y) = (x.to_text(), y.to_text());
        let same = xs.iter().zip(&ys).map(|(a, b)| x.get(*a) == y.get(*b));
        Ok(vec![HostTensor::bools(shape.clone(), same)])
    };
    super::several(t.host_op("equal", &[x, y], &[form], run)?)
}

/// For each place of a shape, the place of a smaller tensor that is broadcast to it.
pub(super) fn places(small: &[usize], shape: &[usize]) -> Vec<usize> {
    let missing = shape.len().saturating_sub(small.len());
    let strides = super::index::strides(small);
    let mut place = vec![0usize; shape.len()];
    let count: usize = shape.iter().product();
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let own = place.iter().skip(missing).zip(small).zip(&strides);
        all.push(
            own.map(|((at, length), stride)| if *length == 1 { 0 } else { at * stride }).sum(),
        );
        super::index::advance(&mut place, shape);
    }
    all
}
