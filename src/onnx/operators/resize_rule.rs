//! Positions and weights of resizing, for all data types.

use graph::error::{OnnxError, Result};

/// The mapping from places of the result to places of the input.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) mode: String,
    /// The name of the transformation of coordinates.
    pub(super) places: String,
    pub(super) nearest: String,
    pub(super) cubic: f64,
    pub(super) exclude_outside: bool,
    pub(super) antialias: bool,
    pub(super) extrapolation: f64,
}

/// The resizing along one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Along {
    pub(super) axis: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) scale: f64,
    /// Part of the axis for `tf_crop_and_resize`.
    pub(super) roi: (f64, f64),
}

/// The positions in the input of all places of the result. `narrow`: computed in 32 bits.
pub(super) fn places(along: &Along, rule: &Rule, narrow: bool) -> Result<Vec<f64>> {
    (0..along.to).map(|at| place(along, at, rule, narrow)).collect()
}

/// The position in the input of a place of the result.
fn place(along: &Along, at: usize, rule: &Rule, narrow: bool) -> Result<f64> {
    let (at, from, to) = (at as f64, along.from as f64, along.to as f64);
    let near = |value: f64| if narrow { f64::from(value as f32) } else { value };
    let scale = near(along.scale);
    Ok(match rule.places.as_str() {
        "pytorch_half_pixel" if to <= 1.0 => 0.0,
        "half_pixel" | "pytorch_half_pixel" => near(near((at + 0.5) / scale) - 0.5),
        "asymmetric" => near(at / scale),
        "align_corners" if to <= 1.0 => 0.0,
        // The length before it was rounded down.
        "align_corners" => near(near(at * (from - 1.0)) / near(near(scale * from) - 1.0)),
        // The name in opset 10 and in tensorflow.
        "tf_half_pixel_for_nn" => near((at + 0.5) / scale),
        // In 32 bits as in ONNX Runtime, since whole and half sums are common here and decide which
        // element is the nearest.
        "half_pixel_symmetric" => {
            let (at, from, to, scale) = (at as f32, from as f32, to as f32, scale as f32);
            let adjustment = to / (scale * from);
            let offset = from / 2.0 * (1.0 - adjustment);
            f64::from(offset + (at + 0.5) / scale - 0.5)
        }
        "tf_crop_and_resize" => {
            let (begin, end) = (along.roi.0 as f32, along.roi.1 as f32);
            let (at, last) = (at as f32, from as f32 - 1.0);
            f64::from(if to > 1.0 {
                begin * last + at * (end - begin) * last / (to as f32 - 1.0)
            } else {
                0.5 * (begin + end) * last
            })
        }
        other => {
            return Err(OnnxError::unsupported(format!(
                "coordinate_transformation_mode '{other}' is not supported"
            )));
        }
    })
}

/// Keys' kernel of cubic convolution (1981) with the coefficient `a`.
pub(super) fn cubic(distance: f64, a: f64) -> f64 {
    let d = distance.abs();
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}
