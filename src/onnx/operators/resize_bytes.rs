//! Resizing of integer images with the arithmetic of ONNX Runtime: results are equal except for
//! ties, where one bit may differ.

use super::resize_rule::{Along, Rule, cubic, places};
use crate::host::HostTensor;
use crate::host::first;
use crate::trace::{PlanTensor, Tracer};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

/// The weight 1 in fixed point of a smoothed image, which is rounded after each axis (22 bits in
/// Pillow and ONNX Runtime).
const SMOOTH: f32 = 4_194_304.0;
/// The weight 1 in fixed point of an image with its channels last, which is truncated once at the
/// end (10 bits in ONNX Runtime's `NhwcUpsampleBilinearInteger`).
const PLAIN: f32 = 1024.0;

/// The resizing along one axis: for each place of the result, elements and their weights.
#[derive(Debug)]
struct Pass {
    axis: usize,
    taps: Vec<Vec<(usize, f32)>>,
}

/// The arithmetic of sums and the rounding to integers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ResizeArithmetic {
    /// Smoothed: rounded after each axis.
    Smooth,
    /// With the channels last: integer weights, truncated after both axes.
    Whole,
    /// Other images: 32-bit floating-point weights, truncated after both axes.
    Float,
}

/// The image resized like in ONNX Runtime; `None` if its elements are not integers, or another rule
/// applies.
///
/// # Errors
/// If the mode is unknown, or the work exceeds the limit for a step on the host.
pub(super) fn resized(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    along: &[Along],
    rule: &Rule,
) -> Result<Option<PlanTensor>> {
    let Some(way) = way(x, along, rule) else { return Ok(None) };
    let mut passes = Vec::new();
    let mut shape = x.shape.clone();
    // The innermost axis is first, since its rounded results are the inputs of the next one.
    for one in along.iter().filter(|one| one.changes()).rev() {
        t.fits(Elem::F64, &[one.to, one.from])?;
        passes.push(Pass { axis: one.axis, taps: taps(one, rule, way)? });
        if let Some(length) = shape.get_mut(one.axis) {
            *length = one.to;
        }
        let widest = passes.iter().flat_map(|pass| &pass.taps).map(Vec::len).max().unwrap_or(1);
        let size = shape.iter().fold(widest, |size, length| size.saturating_mul(*length));
        if size > t.most_work() {
            return Err(OnnxError::limit(format!(
                "resizing {:?} to {shape:?} is too much work",
                x.shape
            )));
        }
    }
    let (elem, from, form) = (x.elem, x.shape.clone(), (x.elem, shape.clone()));
    let run = move |inputs: &[HostTensor]| {
        let values = first(inputs)?.to_i64();
        let values = match way {
            ResizeArithmetic::Float => in_floats(&values, &from, &passes),
            _ => in_whole(values, from.clone(), &passes, way, elem),
        };
        Ok(vec![HostTensor::ints(elem, shape.clone(), values)])
    };
    Ok(t.host_op("resize bytes", &[x], &[form], run)?.pop())
}

fn way(x: &PlanTensor, along: &[Along], rule: &Rule) -> Option<ResizeArithmetic> {
    let bytes = matches!(x.elem, Elem::U8 | Elem::I8);
    let changes = |axis: usize| along.iter().any(|one| one.axis == axis && one.changes());
    let linear = rule.mode == "linear" && rule.places != "tf_crop_and_resize";
    let image = x.rank() == 2 || x.rank() == 4;
    let inner = (0..x.rank().saturating_sub(2)).all(|axis| !changes(axis));
    match rule.mode.as_str() {
        "nearest" => None,
        _ if rule.antialias => bytes.then_some(ResizeArithmetic::Smooth),
        _ if linear && image && inner => {
            (bytes || x.elem == Elem::I32).then_some(ResizeArithmetic::Float)
        }
        _ if linear && x.rank() == 4 && !changes(0) && !changes(3) => {
            bytes.then_some(ResizeArithmetic::Whole)
        }
        _ => None,
    }
}

fn taps(one: &Along, rule: &Rule, way: ResizeArithmetic) -> Result<Vec<Vec<(usize, f32)>>> {
    let both = |place: f64| {
        let last = one.from.saturating_sub(1);
        let place = (place as f32).clamp(0.0, last as f32);
        let first = (place as usize).min(last);
        let second = (first + 1).min(last);
        let rest = place - first as f32;
        match way {
            ResizeArithmetic::Whole => {
                let fixed = (place * PLAIN).trunc() - first as f32 * PLAIN;
                vec![(first, PLAIN - fixed), (second, fixed)]
            }
            // Two halves, since both are the same element at the end of an axis.
            _ if first == second => vec![(first, 0.5), (second, 0.5)],
            _ => vec![(first, (place - second as f32).abs()), (second, rest)],
        }
    };
    let taps = places(one, rule, true)?.into_iter().map(|place| match way {
        ResizeArithmetic::Smooth => smooth(place as f32, one, rule),
        _ => both(place),
    });
    Ok(taps.collect())
}

/// The elements that contribute to a place of a smoothed image, with their weights in fixed point.
/// Computed in 32 bits as in ONNX Runtime, since sums of small integers often are a tie.
fn smooth(place: f32, one: &Along, rule: &Rule) -> Vec<(usize, f32)> {
    let linear = rule.mode == "linear";
    let half: f32 = if linear { 1.0 } else { 2.0 };
    // Enlarged images are interpolated, not smoothed.
    let scale = (1.0 / (one.to as f32 / one.from as f32)).max(1.0);
    let (reach, centre) = (half * scale, place + 0.5);
    let last = one.from as i64 - 1;
    let mut all: Vec<(usize, f32)> = Vec::new();
    let mut sum = 0.0;
    for at in (centre - reach + 0.5).floor() as i64..(centre + reach + 0.5).floor() as i64 {
        if rule.exclude_outside && !(0..=last).contains(&at) {
            continue;
        }
        let distance = (at as f32 - centre + 0.5) * (1.0 / scale);
        let weight = match linear {
            true => (1.0 - distance.abs()).max(0.0),
            false => cubic(f64::from(distance), rule.cubic) as f32,
        };
        sum += weight;
        // Elements outside of the image count as its edge.
        let inside = usize::try_from(at.clamp(0, last)).unwrap_or(0);
        match all.last_mut() {
            Some((known, total)) if *known == inside => *total += weight,
            _ => all.push((inside, weight)),
        }
    }
    let sum = if sum == 0.0 { 1.0 } else { sum };
    all.iter_mut().for_each(|(_, weight)| *weight = (*weight / sum * SMOOTH).round());
    all
}

/// Both axes in one pass: a product of two weights for each of four elements.
fn in_floats(values: &[i64], from: &[usize], passes: &[Pass]) -> Vec<i64> {
    let length = |axis: usize| from.get(axis).copied().unwrap_or(1);
    let (tall, wide) = (from.len().saturating_sub(2), from.len().saturating_sub(1));
    let of = |axis: usize| {
        let made = passes.iter().find(|pass| pass.axis == axis);
        let same = || (0..length(axis)).map(|at| vec![(at, 1.0)]).collect::<Vec<_>>();
        made.map_or_else(same, |pass| pass.taps.clone())
    };
    let (rows, columns) = (of(tall), of(wide));
    let size = (length(tall) * length(wide)).max(1);
    let mut out = Vec::new();
    for plane in values.chunks(size) {
        for row in &rows {
            for column in &columns {
                let mut sum = 0.0f32;
                for (y, down) in row {
                    for (x, across) in column {
                        let value = plane.get(y * length(wide) + x).copied().unwrap_or(0);
                        sum += across * down * value as f32;
                    }
                }
                out.push(sum as i64);
            }
        }
    }
    out
}

fn in_whole(
    mut values: Vec<i64>,
    mut shape: Vec<usize>,
    passes: &[Pass],
    way: ResizeArithmetic,
    elem: Elem,
) -> Vec<i64> {
    let (least, most) = if elem == Elem::I8 { (-128, 127) } else { (0, 255) };
    let (smooth, plain) = (SMOOTH as i64, PLAIN as i64);
    for pass in passes {
        values = along_axis(&values, &shape, pass);
        if let Some(length) = shape.get_mut(pass.axis) {
            *length = pass.taps.len();
        }
        if way == ResizeArithmetic::Smooth {
            // Halves are rounded up, also below zero.
            let round = |value: i64| (value + smooth / 2).div_euclid(smooth).clamp(least, most);
            values.iter_mut().for_each(|value| *value = round(*value));
        }
    }
    if way == ResizeArithmetic::Whole {
        let full = passes.iter().fold(1i64, |full, _| full * plain);
        values.iter_mut().for_each(|value| *value = (*value / full).clamp(least, most));
    }
    values
}

/// Sums of the elements along one axis.
fn along_axis(values: &[i64], shape: &[usize], pass: &Pass) -> Vec<i64> {
    let inner: usize = shape.iter().skip(pass.axis + 1).product();
    let from = shape.get(pass.axis).copied().unwrap_or(1);
    let mut sums = Vec::new();
    for block in values.chunks((from * inner).max(1)) {
        for taps in &pass.taps {
            let begin = sums.len();
            sums.resize(begin + inner, 0);
            let Some(row) = sums.get_mut(begin..) else { continue };
            for (at, weight) in taps {
                let line = block.iter().skip(at * inner).take(inner);
                row.iter_mut().zip(line).for_each(|(sum, value)| *sum += value * *weight as i64);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothed_bytes_are_rounded_and_kept_in_range() {
        let run = |weights: [f32; 2], values: [i64; 2], elem| {
            let taps = vec![vec![(0, weights[0] * SMOOTH), (1, weights[1] * SMOOTH)]];
            let pass = Pass { axis: 0, taps };
            in_whole(values.into(), vec![2], &[pass], ResizeArithmetic::Smooth, elem)
        };
        assert_eq!(run([0.5, 0.5], [0, 255], Elem::U8), [128]);
        assert_eq!(run([0.5, 0.5], [-3, 0], Elem::I8), [-1]);
        assert_eq!(run([1.5, -0.5], [255, 0], Elem::U8), [255]);
        assert_eq!(run([1.5, -0.5], [0, 255], Elem::U8), [0]);
    }

    #[test]
    fn images_with_channels_last_are_truncated() {
        let taps = vec![vec![(0, PLAIN / 4.0), (1, PLAIN * 3.0 / 4.0)]];
        let run = |values: Vec<i64>, elem| {
            let pass = Pass { axis: 0, taps: taps.clone() };
            in_whole(values, vec![2, 1], &[pass], ResizeArithmetic::Whole, elem)
        };
        assert_eq!(run(vec![0, 255], Elem::U8), [191]);
        assert_eq!(run(vec![0, -127], Elem::I8), [-95]);
    }
}
