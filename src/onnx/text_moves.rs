//! Steps that move elements, for text: burn has no tensors of text, so the indices of the words are
//! moved instead.

use super::native_tensor::NativeTensor;
use super::step::Op;
use super::tensor::{DeviceTensor, TensorPlace, at_least_1d};
use burn::tensor::TensorData;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

/// Returns true if a step only moves elements.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Where
            | Op::Reshape(_)
            | Op::Permute(_)
            | Op::Expand(_)
            | Op::Slice(_)
            | Op::Cat(_)
            | Op::Flip(_)
            | Op::Select(_)
            | Op::Gather(_)
    )
}

fn moved(op: &Op, inputs: &[NativeTensor], shape: &[usize]) -> Result<NativeTensor> {
    let words: Vec<&String> = inputs.iter().flat_map(NativeTensor::to_words).collect();
    let mut next = 0;
    let tensors = inputs.iter().map(|cells| places(cells, &mut next));
    let result = op.run(tensors.collect::<Result<_, _>>()?)?;
    if result.shape() != at_least_1d(shape) {
        return Err(OnnxError::internal(format!(
            "{op:?} returned the shape {:?}, not {shape:?}",
            result.shape()
        )));
    }
    let places = NativeTensor::of_data(Elem::I64, shape.to_vec(), result.read()?);
    let places = places.to_integers()?;
    let word = |at: &i64| usize::try_from(*at).ok().and_then(|at| words.get(at));
    let moved = places.iter().map(|at| word(at).map(|word| (*word).clone()).unwrap_or_default());
    Ok(NativeTensor::words(shape.to_vec(), moved.collect()))
}

/// The indices of a text's words, counted over all texts of a step; other tensors are unchanged.
fn places(cells: &NativeTensor, next: &mut i64) -> Result<DeviceTensor> {
    let shape = at_least_1d(&cells.shape);
    let data = match cells.elem {
        Elem::Text => {
            let begin = *next;
            let count = i64::try_from(cells.to_words().len());
            *next += count.map_err(|error| OnnxError::internal(error.to_string()))?;
            TensorData::new((begin..*next).collect::<Vec<i64>>(), shape)
        }
        Elem::Bool => {
            let flags = cells.to_integers()?;
            TensorData::new(flags.iter().map(|flag| *flag != 0).collect::<Vec<_>>(), shape)
        }
        _ => TensorData::new(cells.to_integers()?.into_owned(), shape),
    };
    Ok(DeviceTensor::upload(data, &TensorPlace::host().device))
}

/// A function of the host that moves the words of texts like the step moves numbers.
///
/// # Errors
/// If the step does not only move elements.
pub(super) fn mover(
    op: Op,
    shape: Vec<usize>,
) -> Result<impl Fn(&[NativeTensor]) -> Result<Vec<NativeTensor>> + Send + Sync + 'static> {
    if !moves(&op) {
        return Err(OnnxError::unsupported("the operator does not support text"));
    }
    Ok(move |inputs: &[NativeTensor]| Ok(vec![moved(&op, inputs, &shape)?]))
}
