//! Rotary position embeddings.

use super::super::attention::{together, turned};
use super::super::{Call, Outputs, Table, one};
use super::attention::as_heads;
use super::mask::places;
use crate::trace::{PlanTensor, Tracer};
use crate::{cast, indices};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[("RotaryEmbedding", rotary)];

/// Rows of the tables of cosines and sines at positions `[batch or 1, length]`, each
/// `[batch or 1, 1, length, half]`.
///
/// # Errors
/// If a position is out of range for the tables.
pub(super) fn rows(
    t: &mut Tracer<'_>,
    tables: [&PlanTensor; 2],
    positions: &PlanTensor,
) -> Result<[PlanTensor; 2]> {
    let [batch, length] = positions.shape[..] else {
        return Err(OnnxError::input(format!(
            "positions of shape {:?} do not have two axes",
            positions.shape
        )));
    };
    let flat = t.reshape(positions, &[batch * length])?;
    let mut picked = Vec::with_capacity(2);
    for table in tables {
        let [most, half] = table.shape[..] else {
            return Err(OnnxError::input(format!(
                "a table of shape {:?} does not have two axes",
                table.shape
            )));
        };
        let flat = indices::places_of(t, &flat, most)?;
        let rows = indices::select(t, table, 0, &flat)?;
        picked.push(t.reshape(&rows, &[batch, 1, length, half])?);
    }
    <[PlanTensor; 2]>::try_from(picked).map_err(|_| OnnxError::internal("expected two tables"))
}

fn rotary(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (given, cos, sin) = (call.tensor(0)?, call.tensor(2)?, call.tensor(3)?);
    let half = cos.shape.last().copied().unwrap_or(0);
    let heads = match call.int_or("num_heads", 0)? {
        // Without a number of heads, the tables cover whole heads.
        0 => given.shape.last().copied().unwrap_or(0) / (2 * half).max(1),
        heads => usize::try_from(heads).unwrap_or(0),
    };
    let x = as_heads(t, given, heads)?;
    let [_, _, length, _] = x.shape[..] else { return Err(OnnxError::input("expected four axes")) };
    let positions = cast::cast(t, call.tensor(1)?, Elem::I64)?;
    let positions = if positions.len() == 1 && positions.rank() < 2 {
        // The position of the first token; the others follow.
        let first = t.reshape(&positions, &[1, 1])?;
        let steps = places(t, Elem::I64, length)?;
        t.add(&first, &steps)?
    } else {
        positions
    };
    let [cos, sin] = rows(t, [cos, sin], &positions)?;
    let mixed = call.int_or("interleaved", 0)? != 0;
    let y = turned(t, &x, &cos, &sin, mixed)?;
    one(if given.rank() == 3 { together(t, &y)? } else { y })
}
