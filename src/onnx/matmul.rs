//! Products of matrices.

use super::axes::broadcast;
use super::build::same_type;
use super::step::Op;
use super::trace::{PlanTensor, Tracer};
use crate::{axes, cast};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

/// Products of matrices in the last two axes, like numpy's `matmul`; the other axes broadcast.
pub(crate) fn matmul(t: &mut Tracer<'_>, x: &PlanTensor, y: &PlanTensor) -> Result<PlanTensor> {
    let elem = x.elem;
    same_type(x, y)?;
    if matches!(elem, Elem::U32 | Elem::U64) {
        // The low bits of sums of products do not depend on the signs.
        let (x, y) = (cast::cast(t, x, Elem::I64)?, cast::cast(t, y, Elem::I64)?);
        let product = matmul(t, &x, &y)?;
        return cast::cast(t, &product, elem);
    }
    // A vector becomes a matrix with one row or column; the product loses that axis again.
    let (row, column) = (x.rank() == 1, y.rank() == 1);
    let x = if row { axes::unsqueeze(t, x, 0)? } else { x.clone() };
    let y = if column { axes::unsqueeze(t, y, 1)? } else { y.clone() };
    let (xs, ys) = (x.shape.clone(), y.shape.clone());
    let ([x_batch @ .., rows, inner], [y_batch @ .., inner2, columns]) = (&xs[..], &ys[..]) else {
        return Err(OnnxError::input(format!("shapes {xs:?} and {ys:?} cannot be multiplied")));
    };
    if inner != inner2 {
        return Err(OnnxError::input(format!("shapes {xs:?} and {ys:?} cannot be multiplied")));
    }
    let batch = broadcast(x_batch, y_batch)?;
    let shape: Vec<usize> = batch.iter().copied().chain([*rows, *columns]).collect();
    let product = matmul_of(t, &x, &y, (&batch, *rows, *inner, *columns), &shape)?;
    match (row, column) {
        (false, false) => Ok(product),
        _ => {
            let rank = product.rank();
            let rows = row.then_some(rank.saturating_sub(2));
            let columns = column.then_some(rank.saturating_sub(1));
            let axes: Vec<usize> = rows.into_iter().chain(columns).collect();
            axes::squeeze(t, &product, &axes)
        }
    }
}

fn matmul_of(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    y: &PlanTensor,
    (batch, rows, inner, columns): (&[usize], usize, usize, usize),
    shape: &[usize],
) -> Result<PlanTensor> {
    // Over an inner axis of length 0, each element is a sum without terms.
    if x.len() == 0 || y.len() == 0 {
        return axes::full(t, x.elem, shape.to_vec(), 0.0);
    }
    // One matrix of weights for all rows of a batch: one large product instead of many.
    if y.rank() == 2 && x.rank() > 2 {
        let all: usize = batch.iter().product::<usize>() * rows;
        let flat = t.reshape(x, &[all, inner])?;
        let product = t.emit(Op::MatMul, &[&flat, y], x.elem, vec![all, columns])?;
        return t.reshape(&product, shape);
    }
    let (x, y) = (axes::with_rank(t, x, shape.len())?, axes::with_rank(t, y, shape.len())?);
    let with = |tail: [usize; 2]| batch.iter().copied().chain(tail).collect::<Vec<_>>();
    let x = axes::expand(t, &x, &with([rows, inner]))?;
    let y = axes::expand(t, &y, &with([inner, columns]))?;
    t.emit(Op::MatMul, &[&x, &y], x.elem, shape.to_vec())
}
