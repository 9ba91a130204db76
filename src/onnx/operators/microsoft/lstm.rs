//! Recurrent networks with weights of 8 bits.

use super::super::recurrent::{RecurrentCell, run};
use super::super::recurrent_weights::{ProductWeights, of_direction};
use super::super::{Call, Table};
use crate::cast;
use crate::trace::{PlanTensor, Tracer};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table =
    &[("DynamicQuantizeLSTM", |t, call| run(t, call, RecurrentCell::Lstm, weights))];

fn weights(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    at: usize,
) -> Result<(ProductWeights, ProductWeights)> {
    let own = of_input(t, call, (1, 8, 9), at)?;
    Ok((own, of_input(t, call, (2, 10, 11), at)?))
}

/// Quantised weights `[directions, width, 4 * hidden]`, with one scale and zero point for each
/// direction or each of its columns.
fn of_input(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    (codes, scale, zero): (usize, usize, usize),
    at: usize,
) -> Result<ProductWeights> {
    let values = of_direction(t, call.tensor(codes)?, at)?;
    let [_, columns] = values.shape[..] else {
        return Err(OnnxError::input(format!(
            "the weights have the invalid shape {:?}",
            call.tensor(codes)?.shape
        )));
    };
    let mut line = |x: &PlanTensor| -> Result<PlanTensor> {
        let x = of_direction(t, x, at)?;
        if x.len() != 1 && x.len() != columns {
            return Err(OnnxError::input(format!(
                "{} scales do not fit {columns} columns",
                x.len()
            )));
        }
        let x = cast::cast(t, &x, Elem::F32)?;
        if x.len() == 1 { t.reshape(&x, &[]) } else { t.reshape(&x, &[columns]) }
    };
    let scale = line(call.tensor(scale)?)?;
    let zero = line(call.tensor(zero)?)?;
    let values = cast::cast(t, &values, Elem::F32)?;
    Ok(ProductWeights { values: t.sub(&values, &zero)?, scale: Some(scale) })
}
