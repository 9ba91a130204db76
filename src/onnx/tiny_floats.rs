//! Floats of four and eight bits, decoded and encoded by tables of all their values.
//!
//! Formats: ONNX, "Float stored in 8 bits" and "Float stored in 4 bits" (docs/docsgen/source/technical).

use graph::elem::Elem;

/// Sign bit, bits of exponent and mantissa, bias.
fn format(elem: Elem) -> Option<(bool, u32, u32, i32)> {
    Some(match elem {
        Elem::F8E4m3fn => (true, 4, 3, 7),
        Elem::F8E4m3fnuz => (true, 4, 3, 8),
        Elem::F8E5m2 => (true, 5, 2, 15),
        Elem::F8E5m2fnuz => (true, 5, 2, 16),
        Elem::F8E8m0 => (false, 8, 0, 127),
        Elem::F4E2m1 => (true, 2, 1, 1),
        _ => return None,
    })
}

/// The value of a code; NaN for codes of other types.
pub(crate) fn decode(elem: Elem, code: u8) -> f32 {
    let Some((signed, exponents, mantissas, bias)) = format(elem) else { return f32::NAN };
    // A format without a sign may use all eight bits.
    let sign_bit = if signed { 1u32 << (exponents + mantissas) } else { 0 };
    let negative = u32::from(code) & sign_bit != 0;
    let size = u32::from(code) & ((1 << (exponents + mantissas)) - 1);
    let (exponent, mantissa) = ((size >> mantissas).cast_signed(), size & ((1 << mantissas) - 1));
    if let Some(special) = special(elem, negative, size) {
        return special;
    }
    let fraction = f64::from(mantissa) / f64::from(1u32 << mantissas);
    // E8M0 has no subnormal numbers and no zero: code 0 is 2^-127.
    let value = if exponent == 0 && elem != Elem::F8E8m0 {
        fraction * 2f64.powi(1 - bias)
    } else {
        (1.0 + fraction) * 2f64.powi(exponent - bias)
    };
    #[allow(clippy::cast_possible_truncation, reason = "all values of eight bits fit")]
    let value = value as f32;
    if negative { -value } else { value }
}

fn special(elem: Elem, negative: bool, size: u32) -> Option<f32> {
    let infinity = if negative { f32::NEG_INFINITY } else { f32::INFINITY };
    match elem {
        // FN types have no infinity; E4M3FN has one code for NaN for each sign.
        Elem::F8E4m3fn if size == 0x7f => Some(f32::NAN),
        // E5M2 is encoded like IEEE 754: the largest exponent is infinity, or NaN with a mantissa.
        Elem::F8E5m2 if size == 0x7c => Some(infinity),
        Elem::F8E5m2 if size > 0x7c => Some(f32::NAN),
        // UZ types have no negative zero: its code is their only NaN.
        Elem::F8E4m3fnuz | Elem::F8E5m2fnuz if negative && size == 0 => Some(f32::NAN),
        Elem::F8E8m0 if size == 0xff => Some(f32::NAN),
        _ => None,
    }
}

/// The rounding of a number to a float of eight bits without sign and mantissa.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    Nearest,
    Up,
    Down,
}

/// Rounds to the nearest value of the type (ties to even). Beyond the largest value the result is
/// the largest one if `saturate`, else infinity if the type has it, else NaN.
pub(crate) fn round(elem: Elem, value: f32, saturate: bool, how: Round) -> f32 {
    let Some((signed, exponents, mantissas, bias)) = format(elem) else { return value };
    if elem == Elem::F8E8m0 {
        return round_power(value, saturate, how);
    }
    if value.is_nan() {
        // E2M1 has neither NaN nor infinity.
        return if elem == Elem::F4E2m1 { -0.0 } else { value };
    }
    let largest = largest(elem);
    if value.is_infinite() && !saturate {
        return beyond(elem, value);
    }
    let least_exponent = 1 - bias;
    // Below the least exponent all subnormal numbers have the same distance.
    let exponent = exponent_of(value.abs()).max(least_exponent);
    let step = 2f64.powi(exponent - mantissas.cast_signed());
    #[allow(clippy::cast_possible_truncation, reason = "it came from a float of 32 bits")]
    // Division by a power of two is exact in 64 bits, so that there is a single rounding.
    let rounded = ((f64::from(value) / step).round_ties_even() * step) as f32;
    debug_assert!(signed && exponents > 0);
    if rounded.abs() <= largest {
        // A small negative number rounds to -0.0, and the code of -0.0 is NaN in these types.
        let unsigned_zero = matches!(elem, Elem::F8E4m3fnuz | Elem::F8E5m2fnuz);
        return if rounded == 0.0 && unsigned_zero { 0.0 } else { rounded };
    }
    if saturate || elem == Elem::F4E2m1 { largest.copysign(value) } else { beyond(elem, value) }
}

fn beyond(elem: Elem, value: f32) -> f32 {
    match elem {
        Elem::F8E5m2 => f32::INFINITY.copysign(value),
        Elem::F4E2m1 => largest(elem).copysign(value),
        _ => f32::NAN,
    }
}

fn largest(elem: Elem) -> f32 {
    match elem {
        Elem::F8E4m3fn => 448.0,
        Elem::F8E4m3fnuz => 240.0,
        Elem::F4E2m1 => 6.0,
        _ => 57344.0,
    }
}

/// The exponent of a positive number, as if it were normal.
fn exponent_of(value: f32) -> i32 {
    if value == 0.0 {
        // Half of the least integer leaves room for sums with other exponents.
        return i32::MIN / 2;
    }
    let mut exponent = f64::from(value).log2().floor() as i32;
    // The logarithm of a power of two may be rounded to just below the whole number.
    if 2f64.powi(exponent + 1) <= f64::from(value) {
        exponent += 1;
    }
    exponent
}

/// Rounds to a power of two between 2^-127 and 2^127.
fn round_power(value: f32, saturate: bool, how: Round) -> f32 {
    if value.is_nan() || value < 0.0 {
        return f32::NAN;
    }
    let (least, most) = (2f64.powi(-127), 2f64.powi(127));
    let value = f64::from(value);
    if value > most && !saturate {
        return f32::NAN;
    }
    let value = value.clamp(least, most);
    let below = 2f64.powi(value.log2().floor() as i32);
    let up = match how {
        Round::Up => value > below,
        Round::Down => false,
        // The middle between two powers of two is 1.5 times the lower one; a tie rounds up.
        Round::Nearest => value >= below * 1.5,
    };
    #[allow(clippy::cast_possible_truncation, reason = "powers of two of this range fit")]
    let rounded = if up { (below * 2.0).min(most) as f32 } else { below as f32 };
    rounded
}

/// The code of a value of the type.
pub(crate) fn encode(elem: Elem, value: f32) -> u8 {
    let all = if elem == Elem::F4E2m1 { 0..=15u8 } else { 0..=255u8 };
    let same = |code: &u8| {
        let decoded = decode(elem, *code);
        // By their bits, since the two zeros are equal and have different codes.
        decoded.to_bits() == value.to_bits() || (decoded.is_nan() && value.is_nan())
    };
    all.clone().find(same).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Elem; 6] = [
        Elem::F8E4m3fn,
        Elem::F8E4m3fnuz,
        Elem::F8E5m2,
        Elem::F8E5m2fnuz,
        Elem::F8E8m0,
        Elem::F4E2m1,
    ];

    #[test]
    fn every_value_rounds_to_itself() {
        for elem in ALL {
            for code in 0..=if elem == Elem::F4E2m1 { 15 } else { 255 } {
                let value = decode(elem, code);
                let again = round(elem, value, false, Round::Nearest);
                assert!(
                    again == value || again.is_nan() && value.is_nan(),
                    "{elem} {code}: {value} {again}"
                );
                assert!(value.is_nan() || encode(elem, value) == code, "{elem} {code}: {value}");
            }
        }
    }

    #[test]
    fn known_codes() {
        assert_eq!(decode(Elem::F8E4m3fn, 0x7e), 448.0);
        assert_eq!(decode(Elem::F8E4m3fnuz, 0x7f), 240.0);
        assert_eq!(decode(Elem::F8E5m2, 0x7b), 57344.0);
        assert_eq!(decode(Elem::F8E5m2fnuz, 0x7f), 57344.0);
        assert_eq!(decode(Elem::F4E2m1, 0xf), -6.0);
        assert_eq!(decode(Elem::F8E8m0, 127), 1.0);
        assert_eq!(round(Elem::F8E4m3fn, 1e9, true, Round::Nearest), 448.0);
        assert!(round(Elem::F8E4m3fn, 1e9, false, Round::Nearest).is_nan());
        assert_eq!(round(Elem::F8E5m2, -1e9, false, Round::Nearest), f32::NEG_INFINITY);
        assert_eq!(round(Elem::F4E2m1, 2.5, false, Round::Nearest), 2.0);
    }
}
