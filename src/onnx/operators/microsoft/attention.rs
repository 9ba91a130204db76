//! Multi-head attention, with or without the projection of its input.

use super::super::attention::{apart, together};
use super::super::{Call, Outputs, Table};
use super::mask::{self, Lengths};
use super::scores::{Heads, Scoring, attend};
use super::{count, products};
use crate::axes::Cut;
use crate::trace::{PlanTensor, Tracer, Value};
use crate::{axes, literals, matmul};
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[
    ("Attention", |t, call| {
        let projected = matmul::matmul(t, call.tensor(0)?, call.tensor(1)?)?;
        let projected = super::activation::with_bias(t, &projected, call.optional(2)?)?;
        of_projected(t, call, &projected, [call.optional(3)?, call.optional(4)?, call.optional(5)?])
    }),
    ("DecoderMaskedMultiHeadAttention", |t, call| multi_head(t, call, &DECODER)),
    ("MultiHeadAttention", |t, call| multi_head(t, call, &MULTI_HEAD)),
    ("QAttention", |t, call| {
        let projected = products::projected(t, call)?;
        of_projected(t, call, &projected, [call.optional(5)?, call.optional(8)?, None])
    }),
];

/// The default score of a key that is padding.
const FILTER: f64 = -10_000.0;

/// The widths of queries, keys and values in a projection.
///
/// # Errors
/// If their sum is not the projection's width.
pub(super) fn widths(call: &Call<'_>, whole: usize) -> Result<[usize; 3]> {
    let sizes = match call.ints("qkv_hidden_sizes")? {
        Some(sizes) if !sizes.is_empty() => graph::raw::shape(sizes)?,
        _ if whole.is_multiple_of(3) => vec![whole / 3; 3],
        _ => return Err(OnnxError::input(format!("a width of {whole} is not divisible by three"))),
    };
    match sizes[..] {
        [query, key, value] if query == key && query + key + value == whole => {
            Ok([query, key, value])
        }
        _ => Err(OnnxError::input(format!(
            "qkv_hidden_sizes: {sizes:?} do not fit a width of {whole}"
        ))),
    }
}

/// Parts of the last axis, split into heads.
fn parts(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    widths: &[usize],
    heads: usize,
) -> Result<Vec<PlanTensor>> {
    let axis = x.rank().saturating_sub(1);
    let mut begin = 0;
    let mut parts = Vec::with_capacity(widths.len());
    for width in widths {
        let part = axes::narrow(t, x, axis, Cut::range(begin, begin + width))?;
        parts.push(as_heads(t, &part, heads)?);
        begin += width;
    }
    Ok(parts)
}

/// `[batch, heads, length, size]`
pub(super) fn as_heads(t: &mut Tracer<'_>, x: &PlanTensor, heads: usize) -> Result<PlanTensor> {
    apart(t, x, i64::try_from(heads).ok(), "num_heads")
}

/// Attention on projected queries, keys and values; optional: mask, past, bias of scores.
fn of_projected(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    projected: &PlanTensor,
    [mask, past, bias]: [Option<&PlanTensor>; 3],
) -> Outputs {
    for name in ["do_rotary", "past_present_share_buffer"] {
        if call.int_or(name, 0)? != 0 {
            return Err(OnnxError::unsupported(format!(
                "attribute {name}: values other than 0 are not supported"
            )));
        }
    }
    let [batch, queries, whole] = projected.shape[..] else {
        return Err(OnnxError::input(format!(
            "an input of shape {:?} does not have three axes",
            projected.shape
        )));
    };
    let heads = count(call, "num_heads")?;
    let parts = parts(t, projected, &widths(call, whole)?, heads)?;
    let [query, mut key, mut value] = <[PlanTensor; 3]>::try_from(parts)
        .map_err(|_| OnnxError::internal("expected three parts"))?;
    let mut before = 0;
    if let Some(past) = past {
        before = past.shape.get(3).copied().unwrap_or(0);
        let [one, two] = halves(t, past)?;
        (key, value) = (axes::cat(t, &[one, key], 2)?, axes::cat(t, &[two, value], 2)?);
    }
    let total = key.shape.get(2).copied().unwrap_or(0);
    let lengths = Lengths { batch, queries, past: before, total };
    let heads = Heads { query, key, value };
    let bias = masked(t, call, mask, bias, (lengths, &heads))?;
    let scoring = Scoring { scale: call.float_or("scale", 0.0)?, bias, ..Scoring::default() };
    let attended = attend(t, &heads, &scoring)?;
    let mut outputs = vec![Value::Tensor(together(t, &attended.y)?)];
    if call.outputs() > 1 {
        let (key, value) =
            (axes::unsqueeze(t, &heads.key, 0)?, axes::unsqueeze(t, &heads.value, 0)?);
        outputs.push(Value::Tensor(axes::cat(t, &[key, value], 0)?));
    }
    Ok(outputs)
}

/// The two parts of a past, `[2, batch, heads, length, size]`.
fn halves(t: &mut Tracer<'_>, past: &PlanTensor) -> Result<[PlanTensor; 2]> {
    if past.rank() != 5 || past.shape.first() != Some(&2) {
        return Err(OnnxError::input(format!("the past has the invalid shape {:?}", past.shape)));
    }
    let one = axes::narrow(t, past, 0, Cut::range(0, 1))?;
    let two = axes::narrow(t, past, 0, Cut::range(1, 2))?;
    Ok([axes::squeeze(t, &one, &[0])?, axes::squeeze(t, &two, &[0])?])
}

/// The sum that is added to the scores: padding, causality, the bias.
fn masked(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    mask: Option<&PlanTensor>,
    bias: Option<&PlanTensor>,
    (lengths, heads): (Lengths, &Heads),
) -> Result<Option<PlanTensor>> {
    let elem = heads.query.elem;
    let filter = call.float_or("mask_filter_value", FILTER)?;
    let mut sum = match mask {
        Some(mask) => Some(mask::padding(t, mask, lengths, (elem, filter))?),
        None => None,
    };
    if call.int_or("unidirectional", 0)? != 0 {
        sum = mask::causal(t, sum, lengths, elem)?;
    }
    mask::joined(t, sum, bias)
}

/// The positions of the inputs.
struct InputPositions {
    bias: usize,
    mask: usize,
    scores: usize,
    past: usize,
    /// The length of the past in a buffer; the input after it is the origin of each beam.
    length: usize,
    beams: Option<usize>,
}

const MULTI_HEAD: InputPositions =
    InputPositions { bias: 3, mask: 4, scores: 5, past: 6, length: 8, beams: None };
const DECODER: InputPositions =
    InputPositions { bias: 10, mask: 3, scores: 4, past: 5, length: 7, beams: Some(8) };

fn multi_head(t: &mut Tracer<'_>, call: &Call<'_>, places: &InputPositions) -> Outputs {
    let heads = count(call, "num_heads")?;
    if call.optional(9)?.is_some() && beams(t, call, places)? != 1 {
        return Err(OnnxError::unsupported(
            "input cache_indirection: more than one beam is not supported",
        ));
    }
    let Heads { query, key, value } = separate(t, call, heads, call.optional(places.bias)?)?;
    let past = (call.optional(places.past)?, call.optional(places.past + 1)?);
    let length = match call.optional(places.length)? {
        Some(length) => literals::lengths(t, length)?.first().copied(),
        None => None,
    };
    let key = Grown::new(t, past.0, &key, length)?;
    let value = Grown::new(t, past.1, &value, length)?;
    let [batch, _, queries, _] = query.shape[..] else {
        return Err(OnnxError::input("expected four axes"));
    };
    let total = key.all.shape.get(2).copied().unwrap_or(0);
    let lengths = Lengths { batch, queries, past: key.past, total };
    let heads = Heads { query, key: key.all, value: value.all };
    let mask = call.optional(places.mask)?;
    let bias = masked(t, call, mask, call.optional(places.scores)?, (lengths, &heads))?;
    let scoring = Scoring { scale: call.float_or("scale", 0.0)?, bias, ..Scoring::default() };
    let attended = attend(t, &heads, &scoring)?;
    let y = together(t, &attended.y)?;
    let outputs = [y, key.present, value.present, attended.scores];
    Ok(outputs.into_iter().map(Value::Tensor).collect())
}

fn beams(t: &mut Tracer<'_>, call: &Call<'_>, places: &InputPositions) -> Result<usize> {
    match places.beams {
        Some(at) => match call.optional(at)? {
            Some(beams) => Ok(literals::lengths(t, beams)?.first().copied().unwrap_or(1)),
            None => Ok(1),
        },
        None => Ok(usize::MAX),
    }
}

/// Keys or values with those of earlier steps.
struct Grown {
    all: PlanTensor,
    past: usize,
    /// The output for the next step.
    present: PlanTensor,
}

impl Grown {
    /// `length`: valid elements of the past, if it is a buffer with a larger capacity.
    fn new(
        t: &mut Tracer<'_>,
        past: Option<&PlanTensor>,
        new: &PlanTensor,
        length: Option<usize>,
    ) -> Result<Grown> {
        let Some(past) = past else {
            return Ok(Grown { all: new.clone(), past: 0, present: new.clone() });
        };
        let most = past.shape.get(2).copied().unwrap_or(0);
        let Some(length) = length else {
            let all = axes::cat(t, &[past.clone(), new.clone()], 2)?;
            return Ok(Grown { present: all.clone(), all, past: most });
        };
        let end = length.saturating_add(new.shape.get(2).copied().unwrap_or(0));
        if end > most {
            return Err(OnnxError::input(format!(
                "past_sequence_length: {end} keys exceed a buffer of {most}"
            )));
        }
        let before = axes::narrow(t, past, 2, Cut::range(0, length))?;
        let all = axes::cat(t, &[before, new.clone()], 2)?;
        // The output has the capacity of the buffer, so that it can be the next input.
        let rest = axes::narrow(t, past, 2, Cut::range(end, most))?;
        let present = axes::cat(t, &[all.clone(), rest], 2)?;
        Ok(Grown { all, past: length, present })
    }
}

/// Queries, keys and values from inputs that hold one, two or all of them, with their bias.
fn separate(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    heads: usize,
    bias: Option<&PlanTensor>,
) -> Result<Heads> {
    let query = call.tensor(0)?;
    let mut all = match (query.rank(), call.optional(1)?, call.optional(2)?) {
        (5, _, _) => unpacked(t, query, 3)?,
        (_, None, _) => {
            let width = query.shape.last().copied().unwrap_or(0);
            let mut all = Vec::with_capacity(3);
            let mut begin = 0;
            for part in widths(call, width)? {
                all.push(axes::narrow(t, query, 2, Cut::range(begin, begin + part))?);
                begin += part;
            }
            all
        }
        (_, Some(key), _) if key.rank() == 5 => {
            let mut all = vec![query.clone()];
            all.extend(unpacked(t, key, 2)?);
            all
        }
        (_, Some(key), Some(value)) => vec![query.clone(), key.clone(), value.clone()],
        _ => return Err(OnnxError::invalid("input value is missing")),
    };
    let mut begin = 0;
    for part in &mut all {
        // Keys and values that have heads already come from another node, which added the bias.
        if let (Some(bias), 3) = (bias, part.rank()) {
            let width = part.shape.last().copied().unwrap_or(0);
            let own = axes::narrow(t, bias, 0, Cut::range(begin, begin + width))?;
            *part = t.add(part, &own)?;
            begin += width;
        }
        *part = as_heads(t, part, heads)?;
    }
    let [query, key, value] = <[PlanTensor; 3]>::try_from(all)
        .map_err(|_| OnnxError::internal("expected three inputs"))?;
    Ok(Heads { query, key, value })
}

/// The parts of `[batch, length, heads, parts, size]`, each `[batch, length, heads * size]`.
fn unpacked(t: &mut Tracer<'_>, x: &PlanTensor, count: usize) -> Result<Vec<PlanTensor>> {
    let [batch, length, heads, parts, size] = x.shape[..] else {
        return Err(OnnxError::input(format!("shape {:?} does not have five axes", x.shape)));
    };
    if parts != count {
        return Err(OnnxError::input(format!("the input has {parts} parts, not {count}")));
    }
    let mut all = Vec::with_capacity(count);
    for at in 0..count {
        let part = axes::narrow(t, x, 3, Cut::range(at, at + 1))?;
        all.push(t.reshape(&part, &[batch, length, heads * size])?);
    }
    Ok(all)
}
