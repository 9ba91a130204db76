//! Rows of different lengths, stored without the padding between them.

use super::super::attention::together;
use super::super::{Call, Outputs, Table, one, several};
use super::attention::{as_heads, widths};
use super::count;
use super::mask::{Lengths, padding};
use super::scores::{Heads, Scoring, attend};
use crate::axes::Cut;
use crate::host::HostTensor;
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, indices, literals, matmul};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[
    ("PackedAttention", |t, call| {
        let projected = matmul::matmul(t, call.tensor(0)?, call.tensor(1)?)?;
        let projected = t.add(&projected, call.tensor(2)?)?;
        let whole = projected.shape.last().copied().unwrap_or(0);
        let widths = widths(call, whole)?;
        let layout = TokenLayout::new(t, call.tensor(3)?, call.tensor(4)?)?;
        one(layout.attend(t, call, &projected, (widths, call.optional(5)?))?)
    }),
    ("PackedMultiHeadAttention", packed_multi_head),
    ("RemovePadding", remove),
    ("RestorePadding", |t, call| {
        let layout = TokenLayout::of_offsets(t, call.tensor(1)?)?;
        one(layout.restored(t, call.tensor(0)?)?)
    }),
];

/// The places of tokens in padded rows.
struct TokenLayout {
    batch: usize,
    length: usize,
    /// The place of each token, then those of padding.
    offsets: Vec<usize>,
    /// Tokens of each row.
    lengths: Vec<i64>,
}

impl TokenLayout {
    fn of_offsets(t: &mut Tracer<'_>, offsets: &PlanTensor) -> Result<TokenLayout> {
        let [batch, length] = offsets.shape[..] else {
            return Err(OnnxError::input(format!(
                "token_offset of shape {:?} does not have two axes",
                offsets.shape
            )));
        };
        let offsets: Vec<i64> = literals::ints(t, offsets)?;
        let offsets = offsets.iter().map(|at| usize::try_from(*at).unwrap_or(usize::MAX));
        let offsets: Vec<usize> = offsets.collect();
        if offsets.iter().any(|at| *at >= batch * length) {
            return Err(OnnxError::input("token_offset: an offset is out of range"));
        }
        Ok(TokenLayout { batch, length, offsets, lengths: Vec::new() })
    }

    /// The layout with the cumulative lengths of the rows, `[batch + 1]`.
    fn new(t: &mut Tracer<'_>, offsets: &PlanTensor, sums: &PlanTensor) -> Result<TokenLayout> {
        let mut layout = TokenLayout::of_offsets(t, offsets)?;
        let sums = literals::ints(t, sums)?;
        layout.lengths = sums
            .windows(2)
            .map(|pair| match pair {
                [one, two] => two.saturating_sub(*one),
                _ => 0,
            })
            .collect();
        if layout.lengths.len() != layout.batch {
            return Err(OnnxError::input(format!(
                "{} cumulative lengths do not fit {} rows",
                sums.len(),
                layout.batch
            )));
        }
        Ok(layout)
    }

    /// `[batch, length, width]` with zeros as padding, from `[tokens, width]`.
    fn restored(&self, t: &mut Tracer<'_>, x: &PlanTensor) -> Result<PlanTensor> {
        let [tokens, width] = x.shape[..] else {
            return Err(OnnxError::input(format!(
                "tokens of shape {:?} do not have two axes",
                x.shape
            )));
        };
        // Padding refers to the row behind the tokens, which has zeros.
        let mut index = vec![tokens; self.batch * self.length];
        for (token, place) in self.offsets.iter().take(tokens).enumerate() {
            index.get_mut(*place).into_iter().for_each(|own| *own = token);
        }
        let zeros = axes::full(t, x.elem, vec![1, width], 0.0)?;
        let all = axes::cat(t, &[x.clone(), zeros], 0)?;
        let index =
            literals::indices(t, index.iter().filter_map(|at| i64::try_from(*at).ok()).collect())?;
        let rows = indices::select(t, &all, 0, &index)?;
        t.reshape(&rows, &[self.batch, self.length, width])
    }

    /// The first `tokens` tokens of `[batch, length, width]`.
    fn removed(&self, t: &mut Tracer<'_>, x: &PlanTensor, tokens: usize) -> Result<PlanTensor> {
        let width = x.shape.last().copied().unwrap_or(0);
        let flat = t.reshape(x, &[self.batch * self.length, width])?;
        let index = self.offsets.iter().take(tokens).filter_map(|at| i64::try_from(*at).ok());
        let index = literals::indices(t, index.collect())?;
        indices::select(t, &flat, 0, &index)
    }

    /// Attention within each row, on concatenated queries, keys and values.
    fn attend(
        &self,
        t: &mut Tracer<'_>,
        call: &Call<'_>,
        projected: &PlanTensor,
        (widths, bias): ([usize; 3], Option<&PlanTensor>),
    ) -> Result<PlanTensor> {
        let heads = count(call, "num_heads")?;
        let tokens = projected.shape.first().copied().unwrap_or(0);
        let rows = self.restored(t, projected)?;
        let mut begin = 0;
        let mut parts = Vec::with_capacity(3);
        for width in widths {
            let part = axes::narrow(t, &rows, 2, Cut::range(begin, begin + width))?;
            parts.push(as_heads(t, &part, heads)?);
            begin += width;
        }
        let [query, key, value] = <[PlanTensor; 3]>::try_from(parts)
            .map_err(|_| OnnxError::internal("expected three parts"))?;
        let ends = HostTensor::ints(Elem::I32, vec![self.batch], self.lengths.clone());
        let ends = t.constant(ends)?;
        let lengths =
            Lengths { batch: self.batch, queries: self.length, past: 0, total: self.length };
        let filter = call.float_or("mask_filter_value", super::mask::LOWEST)?;
        let mask = padding(t, &ends, lengths, (query.elem, filter))?;
        let bias = super::mask::joined(t, Some(mask), bias)?;
        let scoring = Scoring { scale: call.float_or("scale", 0.0)?, bias, ..Scoring::default() };
        let attended = attend(t, &Heads { query, key, value }, &scoring)?;
        let y = together(t, &attended.y)?;
        self.removed(t, &y, tokens)
    }
}

fn packed_multi_head(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let query = call.tensor(0)?;
    let mut parts = Vec::with_capacity(3);
    if let [tokens, heads, 3, size] = query.shape[..] {
        for at in 0..3 {
            let part = axes::narrow(t, query, 2, Cut::range(at, at + 1))?;
            parts.push(t.reshape(&part, &[tokens, heads * size])?);
        }
    } else {
        parts = vec![query.clone(), call.tensor(1)?.clone(), call.tensor(2)?.clone()];
    }
    let width = |part: &PlanTensor| part.shape.last().copied().unwrap_or(0);
    let widths: Vec<usize> = parts.iter().map(width).collect();
    let widths =
        <[usize; 3]>::try_from(widths).map_err(|_| OnnxError::internal("expected three parts"))?;
    let all = axes::cat(t, &parts, 1)?;
    let all = super::activation::with_bias(t, &all, call.optional(3)?)?;
    let layout = TokenLayout::new(t, call.tensor(4)?, call.tensor(5)?)?;
    one(layout.attend(t, call, &all, (widths, call.optional(6)?))?)
}

/// Tokens, their places, cumulative lengths, and the longest length.
fn remove(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let [batch, length, _] = x.shape[..] else {
        return Err(OnnxError::input(format!(
            "an input of shape {:?} does not have three axes",
            x.shape
        )));
    };
    let counts = literals::lengths(t, call.tensor(1)?)?;
    if counts.len() != batch || counts.iter().any(|count| *count > length) {
        return Err(OnnxError::input(format!(
            "{counts:?} tokens do not fit {batch} rows of {length}"
        )));
    }
    let place = |inside: bool| {
        let rows = counts.iter().enumerate();
        rows.flat_map(move |(row, count)| {
            let columns = if inside { 0..*count } else { *count..length };
            columns.map(move |column| row * length + column)
        })
    };
    let offsets: Vec<usize> = place(true).chain(place(false)).collect();
    let tokens = counts.iter().sum();
    let numbers = |values: &[usize]| -> Vec<i64> {
        values.iter().filter_map(|value| i64::try_from(*value).ok()).collect()
    };
    let mut sums = vec![0];
    sums.extend(counts.iter().scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    }));
    let most = counts.iter().copied().max().unwrap_or(0);
    let places = HostTensor::ints(Elem::I32, vec![batch, length], numbers(&offsets));
    let layout = TokenLayout { batch, length, offsets, lengths: Vec::new() };
    let packed = layout.removed(t, x, tokens)?;
    let places = t.constant(places)?;
    let sums = t.constant(HostTensor::ints(Elem::I32, vec![batch + 1], numbers(&sums)))?;
    let most = t.constant(HostTensor::ints(Elem::I32, vec![1], numbers(&[most])))?;
    several([packed, places, sums, most])
}
