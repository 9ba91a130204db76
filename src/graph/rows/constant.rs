//! Facts about constant tensors of the file.

use super::length::Length;
use super::value::{Fact, Number};
use crate::elem::Elem;
use crate::raw::FileTensor;

/// Most integers of a tensor that are tracked one by one.
pub(super) const NUMBERS_MAX: usize = 64;

/// The facts about a constant tensor.
pub(super) fn constant(raw: &FileTensor) -> Fact {
    let length = |length: &usize| Length::fixed(i64::try_from(*length).unwrap_or(i64::MAX));
    let shape = raw.shape.iter().map(length).collect();
    Fact { numbers: small(raw), ..Fact::shared(Some(shape)) }
}

/// The elements of a small tensor, where they are integers.
pub(super) fn small(raw: &FileTensor) -> Option<Vec<Number>> {
    let count: usize = raw.shape.iter().product();
    let wanted = (raw.elem.is_int() || matches!(raw.elem, Elem::F32 | Elem::F64 | Elem::Bool))
        && raw.elem.bits() >= 8;
    if !wanted || count > NUMBERS_MAX || raw.bytes.len() * 8 != count * raw.elem.bits() {
        return None;
    }
    let width = raw.elem.bits() / 8;
    Some(raw.bytes.chunks_exact(width).map(|word| element(raw.elem, word)).collect())
}

fn element(elem: Elem, word: &[u8]) -> Number {
    let float = |value: f64| {
        #[allow(clippy::cast_possible_truncation, reason = "checked above")]
        let whole = (value.fract() == 0.0 && value.abs() < 1e15).then_some(value as i64);
        whole.map_or(Number::Shared, Number::fixed)
    };
    match (elem, word) {
        (Elem::F32, [a, b, c, d]) => float(f64::from(f32::from_le_bytes([*a, *b, *c, *d]))),
        (Elem::F64, word) => {
            word.try_into().map_or(Number::Shared, |w| float(f64::from_le_bytes(w)))
        }
        _ => {
            let signed = elem.range().is_some_and(|(least, _)| least < 0);
            let negative = signed && word.last().is_some_and(|byte| byte & 0x80 != 0);
            let mut bytes = [if negative { 0xff } else { 0 }; 8];
            for (to, from) in bytes.iter_mut().zip(word) {
                *to = *from;
            }
            Number::fixed(i64::from_le_bytes(bytes))
        }
    }
}
