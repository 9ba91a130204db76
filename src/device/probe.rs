//! The speed probe: rates of multiplication and copying, with wgpu only and without burn.

use crate::kernel::{Gpu, Kernel, KernelError};
use adapter::entry::Probe;
use std::time::Duration;

const SHADER: &str = include_str!("../../shaders/probe.wgsl");

/// Duration of a run that is long enough for timing: its launch takes about 0.1 ms.
const RUN_ENOUGH: Duration = Duration::from_millis(10);
/// Factor by which the work grows until a run is long enough, so that the last one takes at most
/// about four times [`RUN_ENOUGH`], also on the slowest adapter.
const GROWTH: u64 = 4;

/// Lanes of a workgroup of the arithmetic kernel, as in the shader.
const LANES: u64 = 64;
/// Operations a round and lane: eight chains, four wide, a fused multiply-add counting as two.
const OPS_PER_ROUND: u64 = 64;
/// Workgroups of the first run: one million operations with [`ROUNDS_MIN`] rounds.
const GROUPS_MIN: u64 = 4;
/// Enough lanes to fill the largest card.
const GROUPS_MAX: u64 = 4096;
const ROUNDS_MIN: u64 = 64;
/// 10^12 operations; more would not make the result more accurate.
const WORK_MAX: u64 = GROWTH.pow(10);

const COPY_BYTES_MIN: u64 = 256 << 10;
/// Larger than most caches, and small enough for any card with loaded models.
const COPY_BYTES_MAX: u64 = 64 << 20;
/// Bytes that one workgroup of the copy kernel moves: 256 lanes of 16 bytes.
const COPY_GROUP_BYTES: u64 = 256 * 16;

/// Measures the fused multiply-add rate and the copy rate, in about a tenth of a second plus
/// the driver's shader compilation.
///
/// The clock runs from submission to completion as the host sees it, because not every adapter
/// has timestamps. The device must be checked before: one that computes wrongly can be very fast.
pub fn probe(device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Probe, KernelError> {
    let gpu = Gpu { device, queue };
    let shader = gpu.guarded(|| Ok(gpu.shader("probe", SHADER)))?;
    let multiply = gpu.guarded(|| Ok(gpu.kernel(&shader, "multiply_add")))?;
    let copy = gpu.guarded(|| Ok(gpu.kernel(&shader, "copy")))?;
    Ok(Probe {
        gflops: multiply_rate(&gpu, &multiply)? / 1e9,
        copy_gbytes_per_s: copy_rate(&gpu, &copy)? / 1e9,
    })
}

/// Operations per second.
fn multiply_rate(gpu: &Gpu<'_>, kernel: &Kernel) -> Result<f64, KernelError> {
    let make = || Ok((gpu.buffer(4), gpu.buffer(GROUPS_MAX * LANES * 16)));
    let (rounds, sums) = gpu.guarded(make)?;
    let run = |groups: u64, count: u64| {
        gpu.guarded(|| {
            gpu.queue.write_buffer(&rounds, 0, &(count as u32).to_le_bytes());
            timed(|| gpu.run(kernel, &rounds, &sums, groups as u32, 1))
        })
    };
    run(1, 1)?;
    best_rate(|scale| {
        let (groups, count) = multiply_shape(scale);
        Ok((groups * LANES * count * OPS_PER_ROUND, run(groups, count)?))
    })
}

/// Workgroups and rounds of a run: first the workgroups grow, then the rounds.
fn multiply_shape(scale: u64) -> (u64, u64) {
    let groups = (GROUPS_MIN * scale).min(GROUPS_MAX);
    (groups, ROUNDS_MIN * GROUPS_MIN * scale / groups)
}

/// Bytes read plus bytes written, per second.
fn copy_rate(gpu: &Gpu<'_>, kernel: &Kernel) -> Result<f64, KernelError> {
    let limits = gpu.device.limits();
    let largest = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    best_rate(|scale| {
        let (bytes, times) = copy_shape(scale, largest);
        let elapsed = gpu.guarded(|| {
            let (source, sink) = (gpu.buffer(bytes), gpu.buffer(bytes));
            let groups = (bytes / COPY_GROUP_BYTES) as u32;
            // The first run also initialises new memory with zeros, so it is not timed.
            gpu.run(kernel, &source, &sink, groups, 1)?;
            timed(|| gpu.run(kernel, &source, &sink, groups, times as u32))
        })?;
        Ok((2 * bytes * times, elapsed))
    })
}

/// Bytes of a buffer and number of copies: first the size grows, then the number.
fn copy_shape(scale: u64, largest: u64) -> (u64, u64) {
    let most = largest.clamp(COPY_BYTES_MIN, COPY_BYTES_MAX) / COPY_GROUP_BYTES * COPY_GROUP_BYTES;
    let bytes = (COPY_BYTES_MIN * scale).min(most);
    (bytes, (COPY_BYTES_MIN * scale / bytes).clamp(1, TIMES_MAX))
}

/// Copies in one submission: at 64 MiB each these are 8 GiB moved, some milliseconds on the
/// fastest card.
const TIMES_MAX: u64 = 64;

/// Increases the work until a run is long enough; returns the best amount per second.
fn best_rate(
    mut run: impl FnMut(u64) -> Result<(u64, Duration), KernelError>,
) -> Result<f64, KernelError> {
    let (mut scale, mut best) = (1, 0.0_f64);
    loop {
        let (amount, elapsed) = run(scale)?;
        // The minimum avoids an infinite rate if the clock is too coarse.
        best = best.max(amount as f64 / elapsed.as_secs_f64().max(1e-6));
        if elapsed >= RUN_ENOUGH || scale >= WORK_MAX {
            return Ok(best);
        }
        scale *= GROWTH;
    }
}

fn timed(work: impl FnOnce() -> Result<(), KernelError>) -> Result<Duration, KernelError> {
    let start = types::clock::now();
    work()?;
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_grows_until_a_run_is_long_enough() {
        let mut scales = Vec::new();
        let rate = best_rate(|scale| {
            scales.push(scale);
            Ok((scale * 1000, Duration::from_micros(100 * scale)))
        });
        assert_eq!(scales, [1, 4, 16, 64, 256]);
        assert!((rate.unwrap() - 1e7).abs() < 1.0);
    }

    #[test]
    fn growth_ends_on_a_device_that_takes_no_time() {
        let mut runs = 0;
        let rate = best_rate(|_| {
            runs += 1;
            Ok((1, Duration::ZERO))
        });
        assert!(rate.unwrap().is_finite());
        assert_eq!(runs, 11);
    }

    #[test]
    fn shapes_stay_within_their_bounds() {
        let mut scale = 1;
        while scale <= WORK_MAX {
            let (groups, rounds) = multiply_shape(scale);
            assert_eq!(groups * rounds, GROUPS_MIN * ROUNDS_MIN * scale);
            assert!(groups <= GROUPS_MAX && u32::try_from(rounds).is_ok());
            for largest in [0, 1 << 20, (128 << 20) - 7, u64::MAX] {
                let (bytes, times) = copy_shape(scale, largest);
                assert!(bytes <= largest.max(COPY_BYTES_MIN) && bytes % COPY_GROUP_BYTES == 0);
                assert!(times >= 1 && bytes / COPY_GROUP_BYTES <= 65535);
            }
            scale *= GROWTH;
        }
    }
}
