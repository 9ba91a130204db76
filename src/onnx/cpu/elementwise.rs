//! Vectorised approximations, within a few units in the last place, of functions that libraries
//! compute one element at a time.

use crate::step::Unary;
use pulp::Arch;

/// The approximation of a function of floats.
pub(super) fn function(unary: Unary) -> Option<fn(&mut [f32])> {
    Some(match unary {
        Unary::Abs => |values| map(values, f32::abs),
        Unary::Acos => |values| map(values, f32::acos),
        Unary::Acosh => |values| map(values, f32::acosh),
        Unary::Asin => |values| map(values, f32::asin),
        Unary::Asinh => |values| map(values, f32::asinh),
        Unary::Atan => |values| map(values, f32::atan),
        Unary::Atanh => |values| map(values, f32::atanh),
        Unary::Ceil => |values| map(values, f32::ceil),
        Unary::Cos => |values| map(values, f32::cos),
        Unary::Cosh => |values| map(values, f32::cosh),
        Unary::Erf => |values| map(values, erf),
        Unary::Exp => |values| map(values, exp),
        Unary::Floor => |values| map(values, f32::floor),
        Unary::Gelu => |values| map(values, |x| 0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))),
        Unary::Log => |values| map(values, f32::ln),
        Unary::Neg => |values| map(values, |x| -x),
        Unary::Recip => |values| map(values, f32::recip),
        // NaN is kept.
        Unary::Relu => |values| map(values, |x| if x < 0.0 { 0.0 } else { x }),
        Unary::Round => |values| map(values, f32::round_ties_even),
        Unary::Sigmoid => |values| map(values, |x| 1.0 / (1.0 + exp(-x))),
        Unary::Sin => |values| map(values, f32::sin),
        Unary::Sinh => |values| map(values, f32::sinh),
        Unary::Sqrt => |values| map(values, f32::sqrt),
        Unary::Tan => |values| map(values, f32::tan),
        Unary::Tanh => |values| map(values, tanh),
        Unary::BitNot | Unary::IsInf | Unary::IsNan | Unary::Not | Unary::Sign => return None,
    })
}

/// Limits elements to two bounds; NaN is kept.
pub(super) fn clamp(least: Option<f64>, most: Option<f64>) -> impl Fn(&mut [f32]) + Send + Sync {
    #[allow(clippy::cast_possible_truncation, reason = "the tensor has floats of 32 bits")]
    let (least, most) =
        (least.unwrap_or(f64::NEG_INFINITY) as f32, most.unwrap_or(f64::INFINITY) as f32);
    let inside = move |x: f32| {
        let x = if x < least { least } else { x };
        if x > most { most } else { x }
    };
    move |values: &mut [f32]| map(values, inside)
}

const FRAC_1_SQRT_2: f32 = std::f32::consts::FRAC_1_SQRT_2;

#[inline(always)]
pub(super) fn map(values: &mut [f32], function: impl Fn(f32) -> f32) {
    Arch::new().dispatch(|| {
        for value in values {
            *value = function(*value);
        }
    });
}

/// Combines the elements with those of another slice.
#[inline(always)]
pub(super) fn map_with(values: &mut [f32], others: &[f32], function: impl Fn(f32, f32) -> f32) {
    Arch::new().dispatch(|| {
        for (value, other) in values.iter_mut().zip(others) {
            *value = function(*value, *other);
        }
    });
}

/// After Cephes' `expf` (S. Moshier): a power of two times a polynomial of the remainder.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Outside of these bounds the result is infinite or zero.
    let inside = x.clamp(-87.336_54, 88.722_83);
    let n = (inside * std::f32::consts::LOG2_E + 0.5).floor();
    // ln 2 in two parts (Cody and Waite): the product with the short first part is exact.
    let r = inside - n * 0.693_359_4 + n * 2.121_944_4e-4;
    // Horner's scheme, from the highest power down.
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    #[allow(clippy::cast_possible_truncation, reason = "between -126 and 128")]
    let power = f32::from_bits((((n as i32).min(127) + 127) << 23).cast_unsigned());
    // 2^128 cannot be represented, so it is applied as 2^127 times 2.
    let scaled = value * power * if n > 127.0 { 2.0 } else { 1.0 };
    // The bounds are the logarithms of the largest and of the least normal number.
    if x > 88.722_83 {
        f32::INFINITY
    } else if x < -87.336_54 {
        0.0
    } else {
        scaled
    }
}

/// Rational approximation after Eigen's `generic_fast_tanh_float` (MathFunctionsImpl.h).
#[inline(always)]
fn tanh(x: f32) -> f32 {
    // Eigen's bound: the polynomials diverge beyond it, where tanh differs from 1 by less than
    // 3e-7.
    let inside = x.clamp(-7.905_311, 7.905_311);
    let s = inside * inside;
    let mut p = -2.760_768_5e-16;
    p = p * s + 2.000_188e-13;
    p = p * s + -8.604_672e-11;
    p = p * s + 5.122_297_2e-8;
    p = p * s + 1.485_722_4e-5;
    p = p * s + 6.372_619_3e-4;
    p = p * s + 4.893_524_6e-3;
    let mut q = 1.198_258_4e-6;
    q = q * s + 1.185_347e-4;
    q = q * s + 2.268_434_6e-3;
    q = q * s + 4.893_525e-3;
    // Near zero x itself is closer than the quotient (as in Eigen).
    if x.abs() < 4e-4 { x } else { inside * p / q }
}

/// Rational approximation after Eigen's float `erf` (SpecialFunctionsImpl.h).
#[inline(always)]
fn erf(x: f32) -> f32 {
    // Beyond 4 the error function rounds to 1 in 32 bits.
    let inside = x.clamp(-4.0, 4.0);
    let s = inside * inside;
    let mut p = -2.726_142_3e-10;
    p = p * s + 2.770_681_4e-8;
    p = p * s + -2.101_024e-6;
    p = p * s + -5.692_506_4e-5;
    p = p * s + -7.349_906_4e-4;
    p = p * s + -2.954_6e-3;
    p = p * s + -1.609_603_3e-2;
    let mut q = -1.456_607_2e-5;
    q = q * s + -2.133_740_6e-4;
    q = q * s + -1.682_827e-3;
    q = q * s + -7.373_329_3e-3;
    q = q * s + -1.426_473_9e-2;
    // The quotient may exceed 1 by a rounding error.
    (inside * p / q).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest difference from a function over a range, in small steps.
    fn off(own: fn(f32) -> f32, exact: fn(f64) -> f64, range: f32, relative: bool) -> f64 {
        let steps = 200_001;
        let at = |step: i32| range * (step as f32 / (steps / 2) as f32 - 1.0);
        let difference = |x: f32| {
            let (own, exact) = (f64::from(own(x)), exact(f64::from(x)));
            (own - exact).abs() / if relative { exact.abs().max(1e-30) } else { 1.0 }
        };
        (0..steps).map(|step| difference(at(step))).fold(0.0, f64::max)
    }

    #[test]
    fn approximations_are_close() {
        assert!(off(exp, f64::exp, 80.0, true) < 3e-7, "{}", off(exp, f64::exp, 80.0, true));
        assert!(off(tanh, f64::tanh, 20.0, false) < 1e-6, "{}", off(tanh, f64::tanh, 20.0, false));
        // The series is exact enough for the comparison.
        assert!(off(erf, exact_erf, 6.0, false) < 1e-6, "{}", off(erf, exact_erf, 6.0, false));
    }

    /// The series of Abramowitz and Stegun, 7.1.6.
    fn exact_erf(x: f64) -> f64 {
        if x.abs() > 5.0 {
            return x.signum();
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
    }

    #[test]
    fn results_at_the_ends_are_exact() {
        assert_eq!((exp(-1e9), exp(0.0), exp(1e9)), (0.0, 1.0, f32::INFINITY));
        assert!(exp(88.7).is_finite() && exp(88.73).is_infinite());
        assert_eq!((tanh(-1e9), tanh(0.0), tanh(f32::INFINITY)), (tanh(-8.0), 0.0, tanh(8.0)));
        assert_eq!((erf(-1e9), erf(0.0), erf(1e9)), (-erf(9.0), 0.0, erf(9.0)));
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && erf(f32::NAN).is_nan());
    }
}
