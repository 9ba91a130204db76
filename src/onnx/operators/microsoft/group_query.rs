//! Attention in which heads share keys and values, with a past of known or unknown lengths.

use super::super::attention::{together, turned};
use super::super::{Call, Outputs, Table};
use super::attention::as_heads;
use super::mask::{LOWEST, joined, places};
use super::normalise::rms;
use super::rotary::rows;
use super::scores::{Heads, Scoring, attend};
use super::{count, nothing};
use crate::axes::Cut;
use crate::step::{Binary, Compare};
use crate::trace::{PlanTensor, Tracer, Value};
use crate::{axes, build, cast, indices, literals};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(in crate::operators) const TABLE: Table = &[("GroupQueryAttention", group_query)];

/// The lengths of one step.
struct StepLengths {
    batch: usize,
    /// New tokens.
    length: usize,
    /// Capacity of the past, in tokens.
    past: usize,
    /// Tokens of the longest row, including the new ones.
    total: usize,
    /// True without a past.
    prompt: bool,
    /// Tokens before the new ones, `[batch or 1, 1, 1, 1]`.
    begin: PlanTensor,
    /// Tokens of each row, `[batch, 1, 1, 1]`.
    ends: PlanTensor,
}

fn check_supported(call: &Call<'_>) -> Result<()> {
    for (at, name) in [(12, "k_scale"), (13, "v_scale"), (16, "query_seqlens")] {
        if call.optional(at)?.is_some() {
            return Err(OnnxError::unsupported(format!("input {name} is not supported")));
        }
    }
    match call.int_or("sliding_window_cache", 0)? {
        0 => Ok(()),
        _ => Err(OnnxError::unsupported("attribute sliding_window_cache is not supported")),
    }
}

fn group_query(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    check_supported(call)?;
    let mut heads = separate(t, call)?;
    let (past_key, past_value) = (call.optional(3)?, call.optional(4)?);
    let step = step(t, call, &heads.query, past_key)?;
    if let (Some(query), Some(key)) = (call.optional(14)?, call.optional(15)?) {
        let shared = call.float_or("qk_norm_epsilon", 1e-6)?;
        let epsilon = call.float_or("q_norm_epsilon", shared)?;
        heads.query = rms(t, &heads.query, query, 3, epsilon)?.0;
        let epsilon = call.float_or("k_norm_epsilon", shared)?;
        heads.key = rms(t, &heads.key, key, 3, epsilon)?.0;
    }
    if call.int_or("do_rotary", 0)? != 0 {
        rotate(t, call, &mut heads, &step)?;
    }
    let key = present(t, past_key, &heads.key, &step)?;
    let value = present(t, past_value, &heads.value, &step)?;
    let used = Heads {
        query: heads.query,
        key: axes::narrow(t, &key, 2, Cut::range(0, step.total))?,
        value: axes::narrow(t, &value, 2, Cut::range(0, step.total))?,
    };
    let scoring = scoring(t, call, &used, &step)?;
    let attended = attend(t, &used, &scoring)?;
    let shown = match call.int_or("qk_output", 0)? {
        0 => nothing(),
        1 => Value::Tensor(attended.scores),
        _ => Value::Tensor(attended.shares),
    };
    let y = together(t, &attended.y)?;
    Ok(vec![Value::Tensor(y), Value::Tensor(key), Value::Tensor(value), shown])
}

/// Queries, keys and values from three inputs, or from one that holds all of them.
fn separate(t: &mut Tracer<'_>, call: &Call<'_>) -> Result<Heads> {
    let (own, shared) = (count(call, "num_heads")?, count(call, "kv_num_heads")?);
    let given = call.tensor(0)?;
    if let (Some(key), Some(value)) = (call.optional(1)?, call.optional(2)?) {
        return Ok(Heads {
            query: as_heads(t, given, own)?,
            key: as_heads(t, key, shared)?,
            value: as_heads(t, value, shared)?,
        });
    }
    let all = as_heads(t, given, own + 2 * shared)?;
    let mut part = |begin: usize, end: usize| axes::narrow(t, &all, 1, Cut::range(begin, end));
    Ok(Heads {
        query: part(0, own)?,
        key: part(own, own + shared)?,
        value: part(own + shared, own + 2 * shared)?,
    })
}

fn step(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    query: &PlanTensor,
    past: Option<&PlanTensor>,
) -> Result<StepLengths> {
    let [batch, _, length, _] = query.shape[..] else {
        return Err(OnnxError::input("expected four axes"));
    };
    let past = past.and_then(|past| past.shape.get(2).copied()).unwrap_or(0);
    let total = literals::lengths(t, call.tensor(6)?)?.first().copied().unwrap_or(0);
    if total < length || total > past.max(length).saturating_add(length) {
        return Err(OnnxError::input(format!(
            "total_sequence_length: {total} does not fit {length} new tokens and a past of {past}"
        )));
    }
    let lasts = cast::cast(t, call.tensor(5)?, Elem::I64)?;
    if lasts.len() != batch {
        return Err(OnnxError::input(format!(
            "seqlens_k: {} lengths do not fit {batch} rows",
            lasts.len()
        )));
    }
    let lasts = t.reshape(&lasts, &[batch, 1, 1, 1])?;
    let one = t.number(Elem::I64, 1.0)?;
    // `seqlens_k` has the index of the last token, which is the length less one.
    let ends = t.add(&lasts, &one)?;
    let prompt = length == total;
    let begin = if prompt {
        axes::full(t, Elem::I64, vec![1, 1, 1, 1], 0.0)?
    } else if batch == 1 && past + length == total {
        // The only row is the longest one, so its length is known without reading the input.
        axes::full(t, Elem::I64, vec![1, 1, 1, 1], past as f64)?
    } else {
        let own = t.number(Elem::I64, length as f64)?;
        t.sub(&ends, &own)?
    };
    Ok(StepLengths { batch, length, past, total, prompt, begin, ends })
}

/// Rotates queries and keys by their positions.
fn rotate(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    heads: &mut Heads,
    step: &StepLengths,
) -> Result<()> {
    let steps = places(t, Elem::I64, step.length)?;
    let positions = match call.optional(9)? {
        Some(given) if step.prompt => {
            // In a prompt, the position of the first token applies to all rows.
            let first = t.reshape(given, &[given.len()])?;
            let first = axes::narrow(t, &first, 0, Cut::range(0, 1))?;
            let first = t.reshape(&first, &[1, 1])?;
            t.add(&first, &steps)?
        }
        Some(given) => given.clone(),
        None => {
            let begin = t.reshape(&step.begin, &[step.begin.len(), 1])?;
            t.add(&begin, &steps)?
        }
    };
    let [cos, sin] = rows(t, [call.tensor(7)?, call.tensor(8)?], &positions)?;
    let mixed = call.int_or("rotary_interleaved", 0)? != 0;
    heads.query = turned(t, &heads.query, &cos, &sin, mixed)?;
    heads.key = turned(t, &heads.key, &cos, &sin, mixed)?;
    Ok(())
}

/// The past and new tokens of each row, then zeros, `[batch, heads, length, size]`.
fn present(
    t: &mut Tracer<'_>,
    past: Option<&PlanTensor>,
    new: &PlanTensor,
    step: &StepLengths,
) -> Result<PlanTensor> {
    let [batch, heads, length, size] = new.shape[..] else {
        return Err(OnnxError::input("expected four axes"));
    };
    let whole = step.total.max(step.past);
    let known = step.begin.is_constant() && step.begin.len() == 1;
    let past = past.filter(|past| past.len() > 0);
    let Some(past) = past.filter(|_| !known) else {
        let before = literals::lengths(t, &step.begin)?.first().copied().unwrap_or(0);
        let mut parts = Vec::with_capacity(3);
        if let Some(past) = past.filter(|_| before > 0) {
            parts.push(axes::narrow(t, past, 2, Cut::range(0, before))?);
        }
        parts.push(new.clone());
        let behind = whole.saturating_sub(before + length);
        if behind > 0 {
            parts.push(axes::full(t, new.elem, vec![batch, heads, behind, size], 0.0)?);
        }
        return axes::cat(t, &parts, 2);
    };
    let all = axes::cat(t, &[past.clone(), new.clone()], 2)?;
    let columns = places(t, Elem::I64, whole)?;
    let columns = t.reshape(&columns, &[1, 1, whole, 1])?;
    let old = t.compare(Compare::Less, &columns, &step.begin)?;
    let first_new = t.number(Elem::I64, step.past as f64)?;
    let shifted = t.sub(&columns, &step.begin)?;
    let among_new = t.add(&shifted, &first_new)?;
    let index = t.choose(&old, &columns, &among_new)?;
    // Lengths come from a request: indices are clamped to the range.
    let last = (step.past + length).saturating_sub(1);
    let index = build::clamp(t, &index, Some(0.0), Some(last as f64))?;
    let index = axes::expand(t, &index, &[batch, heads, whole, size])?;
    let picked = indices::gather(t, &all, 2, &index)?;
    let own = t.number(Elem::I64, length as f64)?;
    let end = t.add(&step.begin, &own)?;
    let inside = t.compare(Compare::Less, &columns, &end)?;
    let zero = t.number(new.elem, 0.0)?;
    t.choose(&inside, &picked, &zero)
}

fn scoring(
    t: &mut Tracer<'_>,
    call: &Call<'_>,
    heads: &Heads,
    step: &StepLengths,
) -> Result<Scoring> {
    let elem = heads.query.elem;
    let mask = match seen(t, call, step)? {
        Some(seen) => {
            let (zero, shut) = (t.number(elem, 0.0)?, t.number(elem, LOWEST)?);
            Some(t.choose(&seen, &zero, &shut)?)
        }
        None => None,
    };
    let given = match call.optional(10)? {
        Some(bias) => {
            let last = bias.rank().saturating_sub(1);
            // The bias may have the capacity of the buffer.
            Some(axes::narrow(t, bias, last, Cut::range(0, step.total))?)
        }
        None => None,
    };
    let count = heads.query.shape.get(1).copied().unwrap_or(0);
    let sink = match call.optional(11)? {
        Some(sink) => Some(t.reshape(sink, &[1, count, 1, 1])?),
        // A smooth softmax adds 1 to the sum, which is exp(0): a sink with the score 0.
        None if call.int_or("smooth_softmax", 0)? == 1 => {
            Some(axes::full(t, elem, vec![1, count, 1, 1], 0.0)?)
        }
        None => None,
    };
    Ok(Scoring {
        scale: call.float_or("scale", 0.0)?,
        cap: call.float_or("softcap", 0.0)?,
        bias: joined(t, mask, given.as_ref())?,
        sink,
    })
}

/// True where a query sees a key, `[batch or 1, 1, length, total]`; `None` if each sees all.
fn seen(t: &mut Tracer<'_>, call: &Call<'_>, step: &StepLengths) -> Result<Option<PlanTensor>> {
    let columns = places(t, Elem::I64, step.total)?;
    if call.int_or("causal", 1)? == 0 {
        return Ok(Some(t.compare(Compare::Less, &columns, &step.ends)?));
    }
    let window = call.int_or("local_window_size", -1)?;
    let alone = step.batch == 1 && step.length == 1 && step.begin.is_constant();
    if alone && window <= 0 {
        return Ok(None);
    }
    let rows = places(t, Elem::I64, step.length)?;
    let rows = t.reshape(&rows, &[step.length, 1])?;
    let rows = t.add(&step.begin, &rows)?;
    let seen = t.compare(Compare::LessEqual, &columns, &rows)?;
    if window <= 0 {
        return Ok(Some(seen));
    }
    let width = t.number(Elem::I64, window as f64)?;
    let first = t.sub(&rows, &width)?;
    let near = t.compare(Compare::Greater, &columns, &first)?;
    t.binary(Binary::And, &seen, &near).map(Some)
}
