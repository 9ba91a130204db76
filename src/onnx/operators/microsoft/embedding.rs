//! Embeddings of words, positions and segments, and their normalisation.

use super::super::quantise::real;
use super::super::{Call, Outputs, Table};
use super::normalise::layer;
use crate::step::{Compare, Reduce};
use crate::trace::{PlanTensor, Tracer, Value};
use crate::{axes, cast, indices, literals};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[
    ("EmbedLayerNormalization", |t, call| {
        let tables = EmbeddingTables {
            word: call.tensor(2)?.clone(),
            place: call.tensor(3)?.clone(),
            segment: call.optional(4)?.cloned(),
            gamma: call.tensor(5)?.clone(),
            beta: call.tensor(6)?.clone(),
        };
        embed(t, call, &tables, call.optional(8)?)
    }),
    ("QEmbedLayerNormalization", |t, call| {
        let table = |t: &mut Tracer<'_>, at: usize, scale: usize, zero: usize| {
            real(t, call.tensor(at)?, call.tensor(scale)?, call.optional(zero)?)
        };
        let tables = EmbeddingTables {
            word: table(t, 2, 8, 13)?,
            place: table(t, 3, 9, 14)?,
            segment: match call.optional(4)? {
                Some(_) => Some(table(t, 4, 10, 15)?),
                None => None,
            },
            gamma: table(t, 5, 11, 16)?,
            beta: table(t, 6, 12, 17)?,
        };
        embed(t, call, &tables, None)
    }),
    ("TorchEmbedding", |t, call| {
        Ok(vec![Value::Tensor(picked(t, call.tensor(0)?, call.tensor(1)?)?)])
    }),
];

struct EmbeddingTables {
    word: PlanTensor,
    place: PlanTensor,
    segment: Option<PlanTensor>,
    gamma: PlanTensor,
    beta: PlanTensor,
}

/// Rows of a table at indices of any shape.
fn picked(t: &mut Tracer<'_>, table: &PlanTensor, index: &PlanTensor) -> Result<PlanTensor> {
    let [length, width] = table.shape[..] else {
        return Err(OnnxError::input(format!(
            "a table of shape {:?} does not have two axes",
            table.shape
        )));
    };
    let places = indices::places_of(t, index, length)?;
    let flat = t.reshape(&places, &[places.len()])?;
    let rows = indices::select(t, table, 0, &flat)?;
    let shape: Vec<usize> = index.shape.iter().copied().chain([width]).collect();
    t.reshape(&rows, &shape)
}

/// The normalised sum of the embeddings, the number of ones in each row of the mask, and the sum.
fn embed(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    tables: &EmbeddingTables,
    places: Option<&PlanTensor>,
) -> Outputs {
    let words = call.tensor(0)?;
    let [batch, length] = words.shape[..] else {
        return Err(OnnxError::input(format!(
            "input_ids of shape {:?} do not have two axes",
            words.shape
        )));
    };
    let mut sum = picked(t, &tables.word, words)?;
    let places = match places {
        Some(places) => places.clone(),
        None => {
            literals::indices(t, (0..length).filter_map(|at| i64::try_from(at).ok()).collect())?
        }
    };
    let by_place = picked(t, &tables.place, &places)?;
    sum = t.add(&sum, &by_place)?;
    if let (Some(table), Some(segments)) = (&tables.segment, call.optional(1)?) {
        let by_segment = picked(t, table, segments)?;
        sum = t.add(&sum, &by_segment)?;
    }
    let epsilon = call.float_or("epsilon", 1e-12)?;
    let y = layer(t, &sum, &tables.gamma, Some(&tables.beta), epsilon)?;
    let ones = match call.optional(7)? {
        Some(mask) => {
            let one = t.number(mask.elem, 1.0)?;
            let hit = t.compare(Compare::Equal, mask, &one)?;
            let hit = cast::cast(t, &hit, Elem::I32)?;
            let count = t.reduce(Reduce::Sum, &hit, &[1])?;
            t.reshape(&count, &[batch])?
        }
        None => axes::full(t, Elem::I32, vec![batch], 0.0)?,
    };
    Ok(vec![Value::Tensor(y), Value::Tensor(ones), Value::Tensor(sum)])
}
