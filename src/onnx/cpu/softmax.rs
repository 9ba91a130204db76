//! Softmax along the last axis.

use super::elementwise::exp;
use super::{in_rows, ordered, wrap};
use crate::tensor::DeviceTensor;
use pulp::Arch;

pub(super) fn run(x: DeviceTensor) -> Option<DeviceTensor> {
    let length = x.shape().last().copied().filter(|length| *length > 0)?;
    let mut flex = ordered(x)?;
    let rows = flex.storage_mut::<f32>();
    in_rows(rows, length, |_, row| Arch::new().dispatch(|| row_of(row)));
    Some(wrap(flex))
}

/// Lanes of the widest vectors, with separate sums and maxima.
const LANES: usize = 16;

#[inline(always)]
fn row_of(row: &mut [f32]) {
    // With a single maximum or sum, each element would wait for the one before it.
    let (pieces, rest) = row.as_chunks::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for piece in pieces {
        for (most, value) in largest.iter_mut().zip(piece) {
            *most = if *value > *most { *value } else { *most };
        }
    }
    let all = largest.iter().chain(rest);
    let largest = all.fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
    // A loop for each operation: only simple loops are vectorised.
    row.iter_mut().for_each(|value| *value = exp(*value - largest));
    let (pieces, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for piece in pieces {
        sums.iter_mut().zip(piece).for_each(|(sum, value)| *sum += value);
    }
    let sum: f32 = sums.iter().chain(rest).sum();
    // One division for the row, and products for its elements.
    let scale = 1.0 / sum;
    row.iter_mut().for_each(|value| *value *= scale);
}
