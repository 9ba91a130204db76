//! Conversions between element types.

use super::host::{Data, HostTensor};
use super::step::Op;
use super::tensor::held;
use super::tiny_floats::{self, Round};
use super::trace::{PlanTensor, Tracer};
use crate::host::first;
use burn::tensor::DType;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use half::{bf16, f16};

/// Converts a tensor to another type, on the host.
///
/// # Errors
/// For text that is not a number.
pub(crate) fn convert(
    host: &HostTensor,
    to: Elem,
    saturate: bool,
    how: Round,
) -> Result<HostTensor> {
    let shape = host.shape.clone();
    if to == Elem::Text {
        return Ok(HostTensor::text(shape, to_text(host)));
    }
    let numbers = if let Data::Text(words) = &host.data { parse(words, to)? } else { host.clone() };
    if to.is_float() {
        let values = numbers.to_f64().into_iter().map(|value| round_to(to, value, saturate, how));
        return Ok(HostTensor::floats(to, shape, values.collect()));
    }
    if to == Elem::Bool {
        return Ok(HostTensor::bools(
            shape,
            numbers.to_f64().into_iter().map(|value| value != 0.0),
        ));
    }
    let values = numbers.to_i64().into_iter().map(|value| wrap_to(to, value)).collect();
    Ok(HostTensor::ints(to, shape, values))
}

/// The nearest value of a type.
#[allow(clippy::cast_possible_truncation, reason = "it rounds")]
pub(crate) fn round_to(to: Elem, value: f64, saturate: bool, how: Round) -> f64 {
    match to {
        Elem::F64 => value,
        Elem::F32 => f64::from(value as f32),
        Elem::F16 => f16::from_f32(value as f32).to_f64(),
        Elem::Bf16 => bf16::from_f32(value as f32).to_f64(),
        _ => f64::from(tiny_floats::round(to, value as f32, saturate, how)),
    }
}

/// The low bits of an integer, interpreted as the type.
pub(crate) fn wrap_to(to: Elem, value: i64) -> i64 {
    let bits = u32::try_from(to.bits()).unwrap_or(64);
    if bits >= 64 {
        return value;
    }
    let shift = 64 - bits;
    // The arithmetic shift back extends the sign bit; the logical one fills with zeros.
    let signed = to.range().is_some_and(|(least, _)| least < 0);
    if signed {
        (value << shift) >> shift
    } else {
        ((value << shift).cast_unsigned() >> shift).cast_signed()
    }
}

fn to_text(host: &HostTensor) -> Vec<String> {
    match &host.data {
        Data::Text(words) => words.clone(),
        Data::Float(values) => values.iter().map(|value| float_text(*value)).collect(),
        Data::Int(values) => values.iter().map(ToString::to_string).collect(),
    }
}

fn float_text(value: f64) -> String {
    match value {
        // ONNX's Cast reserves the literals NaN, INF and -INF for these values.
        _ if value.is_nan() => "NaN".to_owned(),
        _ if value.is_infinite() => if value > 0.0 { "INF" } else { "-INF" }.to_owned(),
        #[allow(clippy::cast_possible_truncation, reason = "a float has this many digits")]
        _ => (value as f32).to_string(),
    }
}

fn parse(words: &[String], to: Elem) -> Result<HostTensor> {
    let number = |word: &String| {
        // Rust's parser accepts INF, +INF, -INF and NaN in any case, as Cast requires.
        word.trim()
            .parse::<f64>()
            .map_err(|_| OnnxError::input(format!("'{word}' is not a number")))
    };
    let values = words.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    Ok(HostTensor::numbers(
        if to.is_float() { Elem::F64 } else { Elem::I64 },
        vec![words.len()],
        values,
    ))
}

/// Converts a tensor to another type. Floats of 16 bits are rounded to values of the type; other
/// types are only held in a type that contains them. Integers that do not fit keep their low bits.
pub(crate) fn cast(t: &mut Tracer<'_>, x: &PlanTensor, to: Elem) -> Result<PlanTensor> {
    cast_as(t, x, to, true, Round::Nearest)
}

/// Like [`cast`], with options for floats of eight bits: `saturate` turns too large numbers into
/// the largest one, and `how` rounds numbers between two values.
pub(crate) fn cast_as(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    to: Elem,
    saturate: bool,
    how: Round,
) -> Result<PlanTensor> {
    if x.elem == to {
        return Ok(x.clone());
    }
    let text = x.elem == Elem::Text || to == Elem::Text;
    // These floats are held in 32 bits, so that no cast of burn rounds to their values.
    let tiny = to.is_float() && !matches!(to, Elem::F32 | Elem::F64);
    let narrow = to.is_int() && to != Elem::I64 && to != Elem::U64;
    let place = if x.is_constant() { t.host_place() } else { t.place().clone() };
    // On the host a cast keeps the low bits already, if the held type has the same width.
    let held_wider = narrow && DType::size(&held(to, &place)) * 8 != to.bits();
    // On the host a float becomes 64 bits wide first, and then keeps its low bits like an integer.
    let from_float = x.elem.is_float() && to.is_int();
    if text || tiny || held_wider || (from_float && narrow && to != Elem::I32) {
        let shape = x.shape.clone();
        let convert = move |inputs: &[HostTensor]| {
            let host = first(inputs)?;
            Ok(vec![convert(host, to, saturate, how)?])
        };
        let made = t.host_op("cast", &[x], &[(to, shape)], convert)?;
        return made.into_iter().next().ok_or_else(|| OnnxError::internal("a result is missing"));
    }
    let dtype = held(to, &place);
    t.emit(Op::Cast(dtype), &[x], to, x.shape.clone())
}

/// Converts a tensor to a type that has every value of `x`: any type that holds `to` is sufficient.
///
/// # Errors
/// If the result is too large.
pub(crate) fn cast_inside(t: &mut Tracer<'_>, x: &PlanTensor, to: Elem) -> Result<PlanTensor> {
    let place = if x.is_constant() { t.host_place() } else { t.place().clone() };
    t.emit(Op::Cast(held(to, &place)), &[x], to, x.shape.clone())
}
