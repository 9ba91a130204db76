//! Regions of feature maps: ONNX operators RoiAlign and MaxRoiPool, on the host.

use super::{Call, Outputs, Table, several};
use crate::host::HostTensor;
use crate::trace::Tracer;
use graph::error::{OnnxError, Result};

pub(super) const TABLE: Table = &[("MaxRoiPool", max_pool), ("RoiAlign", align)];

/// Largest edge of a result.
const EDGE_MAX: i64 = 1 << 12;

/// An image of features: one channel of one batch item.
struct Plane<'a> {
    values: &'a [f64],
    height: usize,
    width: usize,
}

impl Plane<'_> {
    fn at(&self, y: usize, x: usize) -> f64 {
        self.values.get(y * self.width + x).copied().unwrap_or(0.0)
    }

    /// The four elements around a place, with their weights; zero weights far outside.
    fn around(&self, y: f64, x: f64) -> [f64; 4] {
        let (height, width) = (self.height as f64, self.width as f64);
        // Up to one pixel outside, a sample has the value of the edge.
        if y < -1.0 || y > height || x < -1.0 || x > width {
            return [0.0; 4];
        }
        let axis = |at: f64, length: usize| {
            let at = at.max(0.0);
            let low = (at as usize).min(length - 1);
            let high = (low + 1).min(length - 1);
            let share = if low == high { 0.0 } else { at - low as f64 };
            (low, high, share)
        };
        let ((y0, y1, dy), (x0, x1, dx)) = (axis(y, self.height), axis(x, self.width));
        [
            self.at(y0, x0) * (1.0 - dy) * (1.0 - dx),
            self.at(y0, x1) * (1.0 - dy) * dx,
            self.at(y1, x0) * dy * (1.0 - dx),
            self.at(y1, x1) * dy * dx,
        ]
    }
}

fn edge(value: i64) -> Result<usize> {
    let fits = (1..=EDGE_MAX).contains(&value);
    if fits {
        Ok(value as usize)
    } else {
        Err(OnnxError::input(format!("a result of length {value} is not possible")))
    }
}

/// The sampling of a region.
#[derive(Clone, Copy)]
struct Sampling {
    out: [usize; 2],
    scale: f64,
    ratio: f64,
    /// Coordinates are shifted by half a pixel.
    shifted: bool,
    max: bool,
}

fn align(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, rois, items) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let ([_, channels, height, width], [count, 4]) = (&x.shape[..], &rois.shape[..]) else {
        return Err(OnnxError::input(format!(
            "regions of shape {:?} do not fit shape {:?}",
            rois.shape, x.shape
        )));
    };
    if items.len() != *count || *height == 0 || *width == 0 {
        return Err(OnnxError::input(format!(
            "{} batch indices do not fit {count} regions",
            items.len()
        )));
    }
    // Opset 16 made the shift by half a pixel the default.
    let half = if call.opset() < 16 { "output_half_pixel" } else { "half_pixel" };
    let sampling = Sampling {
        out: [edge(call.int_or("output_height", 1)?)?, edge(call.int_or("output_width", 1)?)?],
        scale: call.float_or("spatial_scale", 1.0)?,
        ratio: call.int_or("sampling_ratio", 0)?.clamp(0, 1 << 10) as f64,
        shifted: call.text("coordinate_transformation_mode")?.unwrap_or(half) == "half_pixel",
        max: call.text("mode")? == Some("max"),
    };
    let shape = vec![*count, *channels, sampling.out[0], sampling.out[1]];
    let work = t.most_work();
    let (channels, height, width) = (*channels, *height, *width);
    let (elem, form) = (x.elem, (x.elem, shape.clone()));
    let run = move |inputs: &[HostTensor]| {
        let [x, rois, items] = inputs else {
            return Err(OnnxError::internal("expected three inputs"));
        };
        let (values, rois) = (x.to_f64(), rois.to_f64());
        let (mut all, mut samples) = (Vec::new(), 0usize);
        for (roi, item) in rois.chunks_exact(4).zip(items.to_i64()) {
            // The number of samples depends on the regions, which are data.
            let [rows, columns] = sampling.counts(roi);
            let size = sampling.out[0] * sampling.out[1] * channels;
            samples = samples.saturating_add((rows * columns).saturating_mul(size));
            if samples > work {
                return Err(OnnxError::limit("the regions need too many samples"));
            }
            for channel in 0..channels {
                let number = usize::try_from(item).unwrap_or(usize::MAX);
                let begin = number.saturating_mul(channels).saturating_add(channel);
                let begin = begin.saturating_mul(height * width);
                let values = values.get(begin..begin.saturating_add(height * width));
                let values = values.ok_or_else(|| {
                    OnnxError::input(format!("batch index {item} is out of range"))
                })?;
                region(&Plane { values, height, width }, roi, &sampling, &mut all);
            }
        }
        Ok(vec![HostTensor::numbers(elem, shape.clone(), all)])
    };
    several(t.host_op("roi_align", &[x, rois, items], &[form], run)?)
}

impl Sampling {
    fn place(&self, value: f64) -> f64 {
        value * self.scale - if self.shifted { 0.5 } else { 0.0 }
    }

    /// Height and width of the area of an element of the result.
    fn bin(&self, roi: &[f64]) -> [f64; 2] {
        let &[x1, y1, x2, y2] = roi else { return [0.0; 2] };
        // Without the shift, a region has at least one pixel.
        let least = if self.shifted { 0.0 } else { 1.0 };
        let extent = |from: f64, to: f64| (self.place(to) - self.place(from)).max(least);
        let [rows, columns] = self.out;
        [extent(y1, y2) / rows as f64, extent(x1, x2) / columns as f64]
    }

    /// The number of samples along both sides of this area.
    fn counts(&self, roi: &[f64]) -> [usize; 2] {
        // Without a ratio, ONNX takes as many samples as the area has pixels.
        let adaptive = |bin: f64| bin.ceil().clamp(1.0, 1024.0);
        let samples = |bin: f64| if self.ratio > 0.0 { self.ratio } else { adaptive(bin) };
        self.bin(roi).map(|bin| samples(bin) as usize)
    }
}

fn region(plane: &Plane<'_>, roi: &[f64], s: &Sampling, into: &mut Vec<f64>) {
    let &[x1, y1, ..] = roi else { return };
    let (left, top) = (s.place(x1), s.place(y1));
    let ([rows, columns], bin, counts) = (s.out, s.bin(roi), s.counts(roi));
    for row in 0..rows {
        for column in 0..columns {
            let (mut sum, mut best) = (0.0, f64::NEG_INFINITY);
            for iy in 0..counts[0] {
                let inside = (iy as f64 + 0.5) / counts[0] as f64;
                let y = top + (row as f64 + inside) * bin[0];
                for ix in 0..counts[1] {
                    let inside = (ix as f64 + 0.5) / counts[1] as f64;
                    let parts = plane.around(y, left + (column as f64 + inside) * bin[1]);
                    sum += parts.iter().sum::<f64>();
                    // The largest weighted element, not the largest sample (as in ONNX Runtime).
                    best = parts.iter().copied().fold(best, f64::max);
                }
            }
            let count = (counts[0] * counts[1]) as f64;
            into.push(if s.max { best } else { sum / count });
        }
    }
}

fn max_pool(t: &mut Tracer<'_>, call: &Call<'_>) -> Outputs {
    let (x, rois) = (call.tensor(0)?, call.tensor(1)?);
    let ([_, channels, height, width], [count, 5]) = (&x.shape[..], &rois.shape[..]) else {
        return Err(OnnxError::input(format!(
            "regions of shape {:?} do not fit shape {:?}",
            rois.shape, x.shape
        )));
    };
    let Some([rows, columns]) = call.ints("pooled_shape")? else {
        return Err(OnnxError::invalid("pooled_shape is missing"));
    };
    let out = [edge(*rows)?, edge(*columns)?];
    let scale = call.float_or("spatial_scale", 1.0)?;
    let shape = vec![*count, *channels, out[0], out[1]];
    let (channels, height, width) = (*channels, *height, *width);
    let (elem, form) = (x.elem, (x.elem, shape.clone()));
    let run = move |inputs: &[HostTensor]| {
        let [x, rois] = inputs else { return Err(OnnxError::internal("expected two inputs")) };
        let (values, rois) = (x.to_f64(), rois.to_f64());
        let mut all = Vec::new();
        for roi in rois.chunks_exact(5) {
            let (item, corners) =
                roi.split_first().ok_or_else(|| OnnxError::internal("the region is missing"))?;
            for channel in 0..channels {
                let begin = (item.max(0.0) as usize).saturating_mul(channels);
                let begin = begin.saturating_add(channel).saturating_mul(height * width);
                let values = values.get(begin..begin.saturating_add(height * width));
                let values = values.ok_or_else(|| {
                    OnnxError::input(format!("batch index {item} is out of range"))
                })?;
                largest(&Plane { values, height, width }, corners, scale, out, &mut all);
            }
        }
        Ok(vec![HostTensor::numbers(elem, shape.clone(), all)])
    };
    several(t.host_op("max_roi_pool", &[x, rois], &[form], run)?)
}

fn largest(plane: &Plane<'_>, corners: &[f64], scale: f64, out: [usize; 2], into: &mut Vec<f64>) {
    let &[x1, y1, x2, y2] = corners else { return };
    let place = |value: f64| (value * scale).round();
    let (left, top) = (place(x1), place(y1));
    // Both corners belong to the region.
    let bin = |from: f64, to: f64, parts: usize| (place(to) - from + 1.0).max(1.0) / parts as f64;
    let (bin_y, bin_x) = (bin(top, y2, out[0]), bin(left, x2, out[1]));
    let range = |at: usize, bin: f64, from: f64, length: usize| {
        let inside = |value: f64| (value + from).clamp(0.0, length as f64) as usize;
        inside((at as f64 * bin).floor())..inside(((at + 1) as f64 * bin).ceil())
    };
    for row in 0..out[0] {
        for column in 0..out[1] {
            let ys = range(row, bin_y, top, plane.height);
            let xs = range(column, bin_x, left, plane.width);
            let all = ys.flat_map(|y| xs.clone().map(move |x| plane.at(y, x)));
            into.push(all.reduce(f64::max).unwrap_or(0.0));
        }
    }
}
