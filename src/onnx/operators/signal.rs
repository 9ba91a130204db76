//! Fourier transforms and windows. Transforms are products with matrices of cosines and sines,
//! which are constants of the plan. ONNX operators DFT, STFT, the windows, MelWeightMatrix.

use super::{Call, Outputs, Table, one};
use crate::axes::{Cut, axis};
use crate::host::HostTensor;
use crate::step::Binary;
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, indices, literals, matmul};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use std::f64::consts::PI;

pub(super) const TABLE: Table = &[
    ("BlackmanWindow", |t, call| window(t, call, &[0.42, -0.5, 0.08])),
    ("DFT", dft),
    // ONNX defines the coefficient as 25/46, not as 0.54.
    ("HammingWindow", |t, call| window(t, call, &[25.0 / 46.0, -21.0 / 46.0])),
    ("HannWindow", |t, call| window(t, call, &[0.5, -0.5])),
    ("MelWeightMatrix", mel),
    ("STFT", stft),
];

/// Longest transform: its matrices have the square of this number of elements.
const LENGTH_MAX: i64 = 1 << 13;
/// Farthest edge of a triangle of mel weights.
const EDGE_MAX: f64 = 1e9;
/// Longest window.
const WINDOW_MAX: i64 = 1 << 24;

fn elem(call: &Call<'_>, name: &str) -> Result<Elem> {
    let number = call.int(name)?;
    number.map_or(Ok(Elem::F32), |number| Elem::from_onnx(i32::try_from(number).unwrap_or(-1)))
}

/// A sum of cosines with these weights.
fn window(t: &mut Tracer<'_>, call: &Call<'_>, weights: &[f64]) -> Outputs {
    let size = literals::ints(t, call.tensor(0)?)?.first().copied().unwrap_or(0);
    if !(0..=WINDOW_MAX).contains(&size) {
        return Err(OnnxError::input(format!("a window of {size} elements is not possible")));
    }
    let periodic = call.int_or("periodic", 1)? != 0;
    let period = if periodic { size as f64 } else { (size - 1) as f64 };
    // A symmetric window of one element is 0 / 0, NaN (as in ONNX Runtime).
    let value = |at: i64| {
        let term =
            |(n, weight): (usize, &f64)| weight * (2.0 * PI * n as f64 * at as f64 / period).cos();
        weights.iter().enumerate().map(term).sum()
    };
    let length = usize::try_from(size).unwrap_or(0);
    t.fits(Elem::F64, &[length])?;
    let host = HostTensor::numbers(
        elem(call, "output_datatype")?,
        vec![length],
        (0..size).map(value).collect(),
    );
    one(t.constant(host)?)
}

/// Real and imaginary part of a transform as two matrices `[length, bins]`.
pub(super) fn matrices(
    t: &Tracer<'_>,
    elem: Elem,
    length: usize,
    bins: usize,
    inverse: bool,
) -> Result<(PlanTensor, PlanTensor)> {
    t.fits(Elem::F64, &[length, bins])?;
    let sign = if inverse { 1.0 } else { -1.0 };
    let scale = if inverse { 1.0 / length as f64 } else { 1.0 };
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for at in 0..length {
        for bin in 0..bins {
            // The product modulo the length keeps the angle exact.
            let angle = sign * 2.0 * PI * ((at * bin) % length) as f64 / length as f64;
            cos.push(scale * angle.cos());
            sin.push(scale * angle.sin());
        }
    }
    let shape = vec![length, bins];
    Ok((
        t.constant(HostTensor::floats(elem, shape.clone(), cos))?,
        t.constant(HostTensor::floats(elem, shape, sin))?,
    ))
}

/// `[..., length]` real and optional imaginary to `[..., bins, 2]`.
fn transform(
    t: &mut Tracer<'_>,
    real: &PlanTensor,
    imaginary: Option<&PlanTensor>,
    bins: usize,
    inverse: bool,
) -> Result<PlanTensor> {
    let length = real.shape.last().copied().unwrap_or(0);
    let (cos, sin) = matrices(t, real.elem, length, bins, inverse)?;
    let mut re = matmul::matmul(t, real, &cos)?;
    let mut im = matmul::matmul(t, real, &sin)?;
    if let Some(imaginary) = imaginary {
        let (a, b) = (matmul::matmul(t, imaginary, &sin)?, matmul::matmul(t, imaginary, &cos)?);
        (re, im) = (t.sub(&re, &a)?, t.add(&im, &b)?);
    }
    let last = re.rank();
    let (re, im) = (axes::unsqueeze(t, &re, last)?, axes::unsqueeze(t, &im, last)?);
    axes::cat(t, &[re, im], last)
}

/// The real and, if given, the imaginary part of `[..., 1 or 2]`.
pub(super) fn parts(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
) -> Result<(PlanTensor, Option<PlanTensor>)> {
    let last = x.rank().checked_sub(1).ok_or_else(|| OnnxError::input("a scalar has no parts"))?;
    let mut part = |at: usize| {
        let part = axes::narrow(t, x, last, Cut::range(at, at + 1))?;
        axes::squeeze(t, &part, &[last])
    };
    match x.shape.get(last) {
        Some(1) => Ok((part(0)?, None)),
        Some(2) => Ok((part(0)?, Some(part(1)?))),
        _ => Err(OnnxError::input(format!("shape {:?} ends with neither 1 nor 2", x.shape))),
    }
}

/// Truncates or pads with zeros to a length, along the last axis.
fn fitted(t: &mut Tracer<'_>, x: &PlanTensor, length: usize) -> Result<PlanTensor> {
    let last = x.rank().saturating_sub(1);
    let own = x.shape.get(last).copied().unwrap_or(0);
    if own >= length {
        return axes::narrow(t, x, last, Cut::range(0, length));
    }
    let mut padding = vec![(0, 0); x.rank()];
    if let Some(pair) = padding.last_mut() {
        *pair = (0, length - own);
    }
    axes::pad(t, x, &padding, 0.0)
}

fn dft(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let at = match (call.optional(2)?, call.int("axis")?) {
        (Some(at), _) => literals::ints(t, at)?.first().copied().unwrap_or(-2),
        (None, Some(at)) => at,
        // Before opset 20: the axis behind the batch.
        (None, None) => {
            if call.opset() < 20 {
                1
            } else {
                -2
            }
        }
    };
    let at = axis(at, x.rank())?;
    let own = x.shape.get(at).copied().unwrap_or(0);
    let wanted = call.optional(1)?.map(|length| literals::ints(t, length)).transpose()?;
    let wanted = wanted.and_then(|length| length.first().copied());
    let (inverse, onesided) = (call.int_or("inverse", 0)? != 0, call.int_or("onesided", 0)? != 0);
    // The inverse of a one-sided transform has twice as many elements, without those in the middle.
    let half = inverse && onesided;
    let natural = if half { 2 * own.saturating_sub(1) } else { own };
    let length = wanted.unwrap_or(natural as i64);
    // The last axis has the real and the imaginary parts.
    if !(1..=LENGTH_MAX).contains(&length) || at + 1 == x.rank() {
        return Err(OnnxError::input(format!(
            "a transform of {length} elements along axis {at} is not possible"
        )));
    }
    let length = usize::try_from(length).unwrap_or(0);
    let (real, imaginary) = parts(t, x)?;
    let last = real.rank() - 1;
    let mut turned = Vec::with_capacity(2);
    for part in [Some(real), imaginary] {
        turned.push(match part {
            Some(part) => {
                let part = axes::swap(t, &part, at, last)?;
                let part = if half { mirrored(t, &part, length, turned.is_empty())? } else { part };
                Some(fitted(t, &part, length)?)
            }
            None => None,
        });
    }
    let [Some(real), imaginary] = &turned[..] else {
        return Err(OnnxError::internal("the real part is missing"));
    };
    let bins = if onesided && !inverse { length / 2 + 1 } else { length };
    let done = transform(t, real, imaginary.as_ref(), bins, inverse)?;
    let done = if half {
        let rank = done.rank() - 1;
        // The inverse of a one-sided transform is real.
        axes::narrow(t, &done, rank, Cut::range(0, 1))?
    } else {
        done
    };
    one(axes::swap(t, &done, at, last)?)
}

/// The other side of a spectrum: the conjugate of this side, reversed.
fn mirrored(t: &mut Tracer<'_>, x: &PlanTensor, length: usize, real: bool) -> Result<PlanTensor> {
    let last = x.rank() - 1;
    let own = x.shape.get(last).copied().unwrap_or(0);
    let rest = length.saturating_sub(own);
    if rest == 0 || rest + 1 > own {
        return Ok(x.clone());
    }
    let begin = i64::try_from(rest).unwrap_or(0);
    let other = axes::narrow(t, x, last, Cut { begin, end: 0, step: -1 })?;
    let other = if real { other } else { t.scalar(Binary::Mul, &other, -1.0)? };
    axes::cat(t, &[x.clone(), other], last)
}

fn stft(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (signal, step) = (call.tensor(0)?, literals::ints(t, call.tensor(1)?)?);
    let step = step
        .first()
        .copied()
        .filter(|step| *step > 0)
        .ok_or_else(|| OnnxError::input("the frame step must be greater than zero"))?;
    let window = call.optional(2)?;
    let frame = match call.optional(3)? {
        Some(frame) => literals::ints(t, frame)?.first().copied(),
        None => window.map(|window| window.len() as i64),
    };
    let frame = frame
        .filter(|frame| (1..=LENGTH_MAX).contains(frame))
        .ok_or_else(|| OnnxError::input("the frame length must be greater than zero"))?;
    let (real, imaginary) = parts(t, signal)?;
    let [batch, length] = real.shape[..] else {
        return Err(OnnxError::input(format!(
            "shape {:?} is not a batch of signals",
            signal.shape
        )));
    };
    let (frame, step) = (frame as usize, usize::try_from(step).unwrap_or(1));
    let frames = length
        .checked_sub(frame)
        .ok_or_else(|| OnnxError::input("the signal is shorter than a frame"))?
        / step
        + 1;
    let bins = if call.int_or("onesided", 1)? != 0 { frame / 2 + 1 } else { frame };
    t.fits(Elem::I64, &[frames, frame])?;
    let starts =
        (0..frames).flat_map(|at| (0..frame).map(move |inside| (at * step + inside) as i64));
    let index = literals::indices(t, starts.collect())?;
    let mut cut = |x: &PlanTensor| -> Result<PlanTensor> {
        let picked = indices::select(t, x, 1, &index)?;
        let framed = t.reshape(&picked, &[batch, frames, frame])?;
        match window {
            Some(window) => t.mul(&framed, window),
            None => Ok(framed),
        }
    };
    let real = cut(&real)?;
    let imaginary = imaginary.map(|part| cut(&part)).transpose()?;
    one(transform(t, &real, imaginary.as_ref(), bins, false)?)
}

/// Triangles over the bins of a spectrum, evenly spaced on the mel scale.
fn mel(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let mut numbers = Vec::with_capacity(5);
    for at in 0..5 {
        numbers.extend(literals::floats(t, call.tensor(at)?)?.first().copied());
    }
    let [bands, length, rate, low, high] = numbers[..] else {
        return Err(OnnxError::input("expected five numbers"));
    };
    if !(1.0..=1e4).contains(&bands) || !(1.0..=1e6).contains(&length) || rate <= 0.0 {
        return Err(OnnxError::input(format!(
            "{bands} bands of {length} elements at {rate} Hz are not possible"
        )));
    }
    // The mel scale of HTK, as in ONNX's reference.
    let to_mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let (low, high) = (to_mel(low), to_mel(high));
    let edge = |at: usize| {
        let mel = low + at as f64 * (high - low) / (bands + 2.0);
        let hertz = 700.0 * (10f64.powf(mel / 2595.0) - 1.0);
        // Beyond the spectrum, all places are equivalent.
        ((length + 1.0) * hertz / rate).floor().clamp(-EDGE_MAX, EDGE_MAX) as i64
    };
    let (bands, bins) = (bands as usize, length as usize / 2 + 1);
    t.fits(Elem::F64, &[bins, bands])?;
    let mut weights = vec![0.0; bins * bands];
    for band in 0..bands {
        let (left, middle, right) = (edge(band), edge(band + 1), edge(band + 2));
        let mut set = |bin: i64, value: f64| {
            let at = usize::try_from(bin).ok().filter(|bin| *bin < bins);
            if let Some(cell) = at.and_then(|bin| weights.get_mut(bin * bands + band)) {
                *cell = value;
            }
        };
        // A band that is narrower than a bin has a weight nevertheless.
        if left == middle {
            set(middle, 1.0);
        }
        (left.max(0)..=middle.min(bins as i64)).filter(|_| left != middle).for_each(|bin| {
            set(bin, (bin - left) as f64 / (middle - left) as f64);
        });
        (middle.max(0)..right.min(bins as i64)).filter(|_| middle != right).for_each(|bin| {
            set(bin, (right - bin) as f64 / (right - middle) as f64);
        });
    }
    let elem = elem(call, "output_datatype")?;
    one(t.constant(HostTensor::numbers(elem, vec![bins, bands], weights))?)
}
