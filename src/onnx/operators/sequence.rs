//! Sequences and optional values: lists of values while a plan is made, without steps of their own.

use super::{Call, Outputs, Table, one};
use crate::axes::{Cut, axis};
use crate::host::HostTensor;
use crate::trace::{PlanTensor, Tracer, Value};
use crate::{axes, literals};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[
    ("ConcatFromSequence", concat),
    ("Optional", |_, call| match call.inputs.first().cloned().flatten() {
        // A chain of them would be as deep as the file is long.
        Some(Value::Optional(_)) => {
            Err(OnnxError::invalid("an optional value cannot contain another"))
        }
        value => Ok(vec![Value::Optional(value.map(Box::new))]),
    }),
    ("OptionalGetElement", |_, call| match call.inputs.first() {
        Some(Some(Value::Optional(Some(value)))) => Ok(vec![(**value).clone()]),
        Some(Some(Value::Optional(None))) | Some(None) | None => {
            Err(OnnxError::input("the optional value is empty"))
        }
        Some(Some(value)) => Ok(vec![value.clone()]),
    }),
    ("OptionalHasElement", |t, call| {
        let there = match call.inputs.first() {
            Some(Some(Value::Optional(value))) => value.is_some(),
            Some(Some(_)) => true,
            _ => false,
        };
        one(t.constant(HostTensor::bools(vec![], [there]))?)
    }),
    ("SequenceAt", |t, call| {
        let (all, at) = (sequence(call)?, position(t, call, 1, 0)?);
        Ok(vec![
            all.get(at)
                .cloned()
                .ok_or_else(|| OnnxError::input("a position is out of range for the sequence"))?,
        ])
    }),
    ("SequenceConstruct", |_, call| {
        let all = call.inputs.iter().flatten().map(element);
        Ok(vec![Value::Sequence(all.collect::<Result<_, _>>()?)])
    }),
    ("SequenceEmpty", |_, _| Ok(vec![Value::Sequence(Vec::new())])),
    ("SequenceErase", |t, call| {
        let (mut all, at) = (sequence(call)?, position(t, call, 1, 0)?);
        if at >= all.len() {
            return Err(OnnxError::input("a position is out of range for the sequence"));
        }
        all.remove(at);
        Ok(vec![Value::Sequence(all)])
    }),
    ("SequenceInsert", |t, call| {
        let (mut all, at) = (sequence(call)?, position(t, call, 2, 1)?);
        if at > all.len() {
            return Err(OnnxError::input("a position is out of range for the sequence"));
        }
        let given = call.inputs.get(1).and_then(Option::as_ref);
        all.insert(
            at,
            element(given.ok_or_else(|| OnnxError::invalid("the tensor to insert is missing"))?)?,
        );
        Ok(vec![Value::Sequence(all)])
    }),
    ("SequenceLength", |t, call| {
        let length = i64::try_from(sequence(call)?.len()).unwrap_or(i64::MAX);
        one(t.constant(HostTensor::ints(Elem::I64, vec![], vec![length]))?)
    }),
    ("SplitToSequence", split),
];

/// Sequences hold tensors only: with nested sequences, each node could double the size.
fn element(value: &Value) -> Result<Value> {
    match value {
        Value::Tensor(_) => Ok(value.clone()),
        _ => Err(OnnxError::invalid("a sequence can contain tensors only")),
    }
}

fn sequence(call: &Call<'_>) -> Result<Vec<Value>> {
    match call.inputs.first() {
        Some(Some(Value::Sequence(all))) => Ok(all.clone()),
        Some(Some(Value::Optional(Some(value)))) => match value.as_ref() {
            Value::Sequence(all) => Ok(all.clone()),
            _ => Err(OnnxError::invalid("input 0 is not a sequence")),
        },
        _ => Err(OnnxError::invalid("input 0 is not a sequence")),
    }
}

/// A position in the sequence, from its end if negative; the last one (plus `beyond`) by default.
fn position(t: &mut Tracer<'_>, call: &Call<'_>, input: usize, beyond: i64) -> Result<usize> {
    let length = i64::try_from(sequence(call)?.len()).unwrap_or(i64::MAX);
    let at = match call.optional(input)? {
        Some(at) => literals::ints(t, at)?.first().copied().unwrap_or(0),
        None => length + beyond - 1,
    };
    let at = if at < 0 { at + length } else { at };
    usize::try_from(at).map_err(|_| OnnxError::input("a position is out of range for the sequence"))
}

fn concat(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let parts = sequence(call)?.into_iter().map(|value| match value {
        Value::Tensor(part) => Ok(part),
        _ => Err(OnnxError::invalid("the sequence contains other values than tensors")),
    });
    let mut parts = parts.collect::<Result<Vec<PlanTensor>, _>>()?;
    let rank = parts.first().map_or(0, PlanTensor::rank);
    let stacked = call.int_or("new_axis", 0)? != 0;
    let at = axis(
        call.int("axis")?.ok_or_else(|| OnnxError::invalid("axis is missing"))?,
        rank + usize::from(stacked),
    )?;
    if stacked {
        for part in &mut parts {
            *part = axes::unsqueeze(t, part, at)?;
        }
    }
    one(axes::cat(t, &parts, at)?)
}

fn split(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let at = axis(call.int_or("axis", 0)?, x.rank())?;
    let length = x.shape.get(at).copied().unwrap_or(0);
    let keeps = call.int_or("keepdims", 1)? != 0;
    let (lengths, single) = match call.optional(1)? {
        // `keepdims` has an effect only without lengths (ONNX SplitToSequence).
        None => (vec![1; length], !keeps),
        Some(given) if given.rank() == 0 => {
            let part = literals::lengths(t, given)?.first().copied().unwrap_or(0).max(1);
            let whole = length / part;
            let rest = length % part;
            let parts = std::iter::repeat_n(part, whole).chain((rest > 0).then_some(rest));
            (parts.collect(), false)
        }
        Some(given) => (literals::lengths(t, given)?, false),
    };
    if lengths.iter().try_fold(0usize, |sum, part| sum.checked_add(*part)) != Some(length) {
        return Err(OnnxError::input(format!("the sum of the parts {lengths:?} is not {length}")));
    }
    let (mut parts, mut begin) = (Vec::with_capacity(lengths.len()), 0);
    for part in lengths {
        let cut = axes::narrow(t, x, at, Cut::range(begin, begin + part))?;
        parts.push(Value::Tensor(if single { axes::squeeze(t, &cut, &[at])? } else { cut }));
        begin += part;
    }
    Ok(vec![Value::Sequence(parts)])
}
