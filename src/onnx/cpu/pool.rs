//! Maximum pooling over windows of two axes, without padding.

use super::{in_rows, ordered, put};
use crate::step::SlidingWindow;
use crate::tensor::DeviceTensor;
use pulp::Arch;

pub(super) fn max(x: &DeviceTensor, window: &SlidingWindow) -> Option<DeviceTensor> {
    let shape = x.shape();
    let [n, c, h, w] = shape[..] else { return None };
    let ([kh, kw], [sh, sw], [dh, dw]) = (
        window.kernel[..].try_into().ok()?,
        window.stride[..].try_into().ok()?,
        window.dilation[..].try_into().ok()?,
    );
    let plain = window.padding.iter().all(|pair| *pair == (0, 0));
    let (kh, kw, sh, sw, dh, dw): (usize, usize, usize, usize, usize, usize) =
        (kh, kw, sh, sw, dh, dw);
    let out = |length: usize, kernel: usize, stride: usize, dilation: usize| {
        Some(length.checked_sub((kernel.checked_sub(1)?) * dilation + 1)? / stride + 1)
    };
    let (oh, ow) = (out(h, kh, sh, dh)?, out(w, kw, sw, dw)?);
    // Padding is left to burn: here each window reads elements of the input only.
    if !plain || n * c * h * w == 0 {
        return None;
    }
    let data = ordered(x.clone())?;
    let values = data.storage::<f32>();
    let mut best = vec![f32::NEG_INFINITY; n * c * oh * ow];
    in_rows(&mut best, oh * ow, |plane, best| {
        let plane = values.get(plane * h * w..(plane + 1) * h * w).unwrap_or(&[]);
        Arch::new().dispatch(|| {
            for (y, best) in best.chunks_exact_mut(ow).enumerate() {
                for ky in 0..kh {
                    let begin = (y * sh + ky * dh) * w;
                    let row = plane.get(begin..begin + w).unwrap_or(&[]);
                    for kx in 0..kw {
                        under(best, row.get(kx * dw..).unwrap_or(&[]), sw);
                    }
                }
            }
        });
    });
    Some(put(best, &[n, c, oh, ow]))
}

/// Replaces each place by the maximum of it and the element under it; NaN is kept.
#[inline(always)]
fn under(best: &mut [f32], row: &[f32], stride: usize) {
    // A conditional value, not a conditional write: only the former is vectorised.
    let larger = |best: &mut f32, value: f32| {
        *best = if (value > *best) | value.is_nan() { value } else { *best };
    };
    if stride == 1 {
        best.iter_mut().zip(row).for_each(|(best, value)| larger(best, *value));
    } else {
        best.iter_mut()
            .zip(row.iter().step_by(stride))
            .for_each(|(best, value)| larger(best, *value));
    }
}
