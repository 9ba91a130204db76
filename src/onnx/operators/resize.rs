//! Resizing of images.
//!
//! Axes are resized one by one: nearest neighbours by an index, the others as a product with a
//! matrix of weights, both constants of the plan. ONNX operator Resize and its reference
//! implementation.

use super::resize_rule::{Along, Rule, cubic, places};
use super::{Call, Outputs, Table, one};
use crate::axes::axis;
use crate::host::HostTensor;
use crate::trace::{PlanTensor, Tracer};
use crate::{axes, cast, indices, literals, matmul};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[("Resize", resize), ("Upsample", upsample)];

/// The rounding to the nearest element in operator sets without an attribute for it: up if the
/// image becomes smaller, else down (ONNX Runtime's mode of this name).
const SIMPLE: &str = "simple";

/// Longest axis of a result.
const LENGTH_MAX: f64 = 1e6;

fn resize(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let old = call.opset() < 11;
    let text =
        |name, default: &str| Ok::<_, OnnxError>(call.text(name)?.unwrap_or(default).to_owned());
    // Opset 10 had no attribute for coordinates, which were asymmetric.
    let places = if old { "asymmetric" } else { "half_pixel" };
    let rule = Rule {
        mode: text("mode", "nearest")?,
        places: text("coordinate_transformation_mode", places)?,
        nearest: text("nearest_mode", if old { SIMPLE } else { "round_prefer_floor" })?,
        cubic: call.float_or("cubic_coeff_a", -0.75)?,
        exclude_outside: call.int_or("exclude_outside", 0)? != 0,
        antialias: call.int_or("antialias", 0)? != 0,
        extrapolation: call.float_or("extrapolation_value", 0.0)?,
    };
    let axes = match call.ints("axes")? {
        Some(axes) => axes.iter().map(|at| axis(*at, x.rank())).collect::<Result<Vec<_>, _>>()?,
        None => (0..x.rank()).collect(),
    };
    // Opset 11 requires the inputs in front of `sizes`, so that unused ones are empty tensors.
    let given = |at: usize| -> Result<Option<&PlanTensor>> {
        Ok(call.optional(at)?.filter(|t| t.len() > 0))
    };
    let (roi, scales, sizes) =
        if old { (None, given(1)?, None) } else { (given(1)?, given(2)?, given(3)?) };
    let roi = roi.map(|roi| literals::floats(t, roi)).transpose()?.unwrap_or_default();
    let scales = scales.map(|scales| literals::floats(t, scales)).transpose()?;
    let sizes = sizes.map(|sizes| literals::ints(t, sizes)).transpose()?;
    let policy = call.text("keep_aspect_ratio_policy")?.unwrap_or("stretch");
    let all = lengths(x, &axes, scales, sizes, policy)?;
    // The region has all beginnings first, then all ends.
    let part = |at: usize| {
        let of = |at: usize, default| roi.get(at).copied().unwrap_or(default);
        (of(at, 0.0), of(at + axes.len(), 1.0))
    };
    let along = axes.iter().zip(all).enumerate().map(|(at, (axis, (to, scale)))| Along {
        axis: *axis,
        from: x.shape.get(*axis).copied().unwrap_or(0),
        to,
        scale,
        roi: part(at),
    });
    one(resized(t, x, &along.collect::<Vec<_>>(), &rule)?)
}

/// The length and the scale of each axis.
fn lengths(
    x: &PlanTensor,
    axes: &[usize],
    scales: Option<Vec<f64>>,
    sizes: Option<Vec<i64>>,
    policy: &str,
) -> Result<Vec<(usize, f64)>> {
    let from: Vec<f64> =
        axes.iter().filter_map(|at| x.shape.get(*at)).map(|length| *length as f64).collect();
    let wrong = || OnnxError::input(format!("scales or sizes do not fit {} axes", axes.len()));
    let length = |value: f64| {
        let fits = (0.0..=LENGTH_MAX).contains(&value);
        if fits {
            Ok(value as usize)
        } else {
            Err(OnnxError::input(format!("an axis of {value} elements is not possible")))
        }
    };
    if let Some(sizes) = sizes {
        if sizes.len() != from.len() {
            return Err(wrong());
        }
        let ratios = sizes.iter().zip(&from).map(|(size, from)| *size as f64 / from);
        let ratio = match policy {
            "stretch" => None,
            "not_larger" => ratios.reduce(f64::min),
            "not_smaller" => ratios.reduce(f64::max),
            other => {
                return Err(OnnxError::unsupported(format!(
                    "keep_aspect_ratio_policy '{other}' is not supported"
                )));
            }
        };
        let one = |(size, from): (&i64, &f64)| match ratio {
            None => Ok((length(*size as f64)?, *size as f64 / from)),
            // ONNX rounds halves up here.
            Some(ratio) => Ok((length((ratio * from + 0.5).floor())?, ratio)),
        };
        return sizes.iter().zip(&from).map(one).collect();
    }
    let scales = scales.filter(|scales| scales.len() == from.len()).ok_or_else(wrong)?;
    // In 32 bits, like exporters and ONNX Runtime: 11 x (9/11) is 9, not 8.
    let product = |scale: f64, from: f64| f64::from(scale as f32 * from as f32);
    let one = |(scale, from): (&f64, &f64)| Ok((length(product(*scale, *from).floor())?, *scale));
    scales.iter().zip(&from).map(one).collect()
}

fn upsample(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let x = call.tensor(0)?;
    let scales = match call.optional(1)? {
        Some(scales) => literals::floats(t, scales)?,
        None => match call.floats("scales")? {
            Some(scales) => scales.iter().map(|scale| f64::from(*scale)).collect(),
            None => {
                // Opset 1 had an attribute for each of the two axes of an image.
                let (h, w) = (call.float("height_scale")?, call.float("width_scale")?);
                vec![1.0, 1.0, h.unwrap_or(1.0), w.unwrap_or(1.0)]
            }
        },
    };
    let rule = Rule {
        mode: call.text("mode")?.unwrap_or("nearest").replace("bilinear", "linear"),
        places: "asymmetric".to_owned(),
        nearest: "floor".to_owned(),
        cubic: -0.75,
        exclude_outside: false,
        antialias: false,
        extrapolation: 0.0,
    };
    let axes: Vec<usize> = (0..x.rank()).collect();
    let all = lengths(x, &axes, Some(scales), None, "stretch")?;
    let along = axes.iter().zip(all).map(|(axis, (to, scale))| Along {
        axis: *axis,
        from: x.shape.get(*axis).copied().unwrap_or(0),
        to,
        scale,
        roi: (0.0, 1.0),
    });
    one(resized(t, x, &along.collect::<Vec<_>>(), &rule)?)
}

fn resized(t: &mut Tracer<'_>, x: &PlanTensor, along: &[Along], rule: &Rule) -> Result<PlanTensor> {
    if along.iter().any(|one| one.to == 0) {
        let mut shape = x.shape.clone();
        for one in along {
            if let Some(length) = shape.get_mut(one.axis) {
                *length = one.to;
            }
        }
        return t.constant(HostTensor::numbers(x.elem, shape, vec![]));
    }
    if let Some(axis) = along.iter().find(|one| one.from == 0).map(|one| one.axis) {
        return Err(OnnxError::input(format!("axis {axis} has no elements")));
    }
    if let Some(done) = whole_numbers(t, x, along, rule)? {
        return Ok(done);
    }
    if let Some(done) = super::resize_bytes::resized(t, x, along, rule)? {
        return Ok(done);
    }
    let elem = x.elem;
    let float = rule.mode != "nearest" && !elem.is_float();
    let mut x = if float { cast::cast(t, x, Elem::F32)? } else { x.clone() };
    let mut outside: Vec<(Along, Vec<f64>)> = Vec::new();
    for one in along.iter().filter(|one| one.changes()) {
        let places = places(one, rule, false)?;
        x = if rule.mode == "nearest" {
            let way = match rule.nearest.as_str() {
                SIMPLE if one.scale < 1.0 => "ceil",
                SIMPLE => "floor",
                way => way,
            };
            let indices = places.iter().map(|place| nearest(*place, one.from, way));
            let indices = literals::indices(t, indices.collect::<Result<_, _>>()?)?;
            indices::select(t, &x, one.axis, &indices)?
        } else {
            weighted(t, &x, one, &places, rule)?
        };
        if rule.places == "tf_crop_and_resize" {
            outside.push((*one, places));
        }
    }
    // After all axes, so that no sum contains the extrapolated value.
    for (one, places) in outside {
        x = extrapolated(t, &x, &one, &places, rule.extrapolation)?;
    }
    if float { cast::cast(t, &x, elem) } else { Ok(x) }
}

/// Images enlarged by integers: each element becomes a block.
fn whole_numbers(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    along: &[Along],
    rule: &Rule,
) -> Result<Option<PlanTensor>> {
    let whole = |along: &Along| along.scale >= 1.0 && along.scale.fract() == 0.0;
    let plain = rule.mode == "nearest"
        && (rule.places == "asymmetric" && matches!(rule.nearest.as_str(), "floor" | SIMPLE)
            || rule.places == "half_pixel" && rule.nearest.starts_with("round"));
    if !plain || !along.iter().all(whole) || along.len() != x.rank() {
        return Ok(None);
    }
    // Every axis of the data is split into itself and the axis of its copies.
    let (mut apart, mut grown) = (Vec::new(), Vec::new());
    for one in along {
        apart.push(one.from);
        grown.push(one.from);
        if one.scale > 1.0 {
            apart.push(1);
            grown.push(one.to / one.from.max(1));
        }
    }
    let shape: Vec<usize> = along.iter().map(|one| one.to).collect();
    let apart = t.reshape(x, &apart)?;
    let grown = axes::expand(t, &apart, &grown)?;
    t.reshape(&grown, &shape).map(Some)
}

impl Along {
    /// Returns true if the axis is resized.
    pub(super) fn changes(&self) -> bool {
        // An axis that keeps its length and scale stays unchanged, even with a region of interest.
        self.from != self.to || self.scale != 1.0
    }
}

fn nearest(place: f64, length: usize, rule: &str) -> Result<i64> {
    let at = match rule {
        "round_prefer_floor" if place.fract().abs() == 0.5 => place.floor(),
        "round_prefer_ceil" if place.fract().abs() == 0.5 => place.ceil(),
        "round_prefer_floor" | "round_prefer_ceil" => place.round(),
        "floor" => place.floor(),
        "ceil" => place.ceil(),
        other => {
            return Err(OnnxError::unsupported(format!("nearest_mode '{other}' is not supported")));
        }
    };
    Ok(at.clamp(0.0, length as f64 - 1.0) as i64)
}

/// Each place is a weighted sum of the elements around it: a product with a matrix.
fn weighted(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    along: &Along,
    places: &[f64],
    rule: &Rule,
) -> Result<PlanTensor> {
    t.fits(Elem::F64, &[along.to, along.from])?;
    let mut matrix = vec![0.0; along.to * along.from];
    for (row, place) in matrix.chunks_mut(along.from.max(1)).zip(places) {
        for (at, weight) in weights(*place, along, rule)? {
            let inside = at.clamp(0, along.from as i64 - 1);
            if let Some(cell) = usize::try_from(inside).ok().and_then(|at| row.get_mut(at)) {
                // Elements outside count as the edge, so that several weights may meet there.
                *cell += weight;
            }
        }
    }
    let matrix = t.constant(HostTensor::floats(x.elem, vec![along.to, along.from], matrix))?;
    let last = x.rank() - 1;
    if along.axis + 1 == last {
        // The axis of rows: the matrix is the left factor.
        return matmul::matmul(t, &matrix, x);
    }
    let turned = axes::swap(t, x, along.axis, last)?;
    let matrix = axes::permute(t, &matrix, &[1, 0])?;
    let product = matmul::matmul(t, &turned, &matrix)?;
    axes::swap(t, &product, along.axis, last)
}

/// The elements around a place, and their weights.
pub(super) fn weights(place: f64, along: &Along, rule: &Rule) -> Result<Vec<(i64, f64)>> {
    // With antialiasing, smaller images use a wider range of elements.
    let scale = if rule.antialias { along.scale.min(1.0) } else { 1.0 };
    let support = match rule.mode.as_str() {
        "linear" => 1.0,
        "cubic" => 2.0,
        other => return Err(OnnxError::unsupported(format!("mode '{other}' is not supported"))),
    };
    let reach = (support / scale).ceil() as i64;
    // Places far outside are all equivalent.
    let centre = place.floor().clamp(-2.0 * LENGTH_MAX, 2.0 * LENGTH_MAX.max(along.from as f64));
    let centre = centre as i64;
    let mut all = Vec::new();
    for at in centre - reach + 1..=centre + reach {
        let distance = (at as f64 - place) * scale;
        let weight = if rule.mode == "linear" {
            (1.0 - distance.abs()).max(0.0)
        } else {
            cubic(distance, rule.cubic)
        };
        let outside = at < 0 || at >= along.from as i64;
        if weight != 0.0 && !(outside && rule.exclude_outside) {
            all.push((at, weight));
        }
    }
    // Excluded elements and antialiasing leave a sum other than 1.
    let sum: f64 = all.iter().map(|(_, weight)| weight).sum();
    if sum != 0.0 {
        all.iter_mut().for_each(|(_, weight)| *weight /= sum);
    }
    Ok(all)
}

/// Places outside of the input get a given value.
fn extrapolated(
    t: &mut Tracer<'_>,
    x: &PlanTensor,
    along: &Along,
    places: &[f64],
    value: f64,
) -> Result<PlanTensor> {
    let most = along.from as f64 - 1.0;
    let outside: Vec<bool> = places.iter().map(|place| *place < 0.0 || *place > most).collect();
    if !outside.contains(&true) {
        return Ok(x.clone());
    }
    let mut line = vec![1; x.rank()];
    if let Some(length) = line.get_mut(along.axis) {
        *length = outside.len();
    }
    let mask = t.constant(HostTensor::bools(line, outside))?;
    let value = t.number(x.elem, value)?;
    t.choose(&mask, &value, x)
}
