//! The known-answer check of a device. It uses only wgpu and not burn, to distinguish a broken
//! driver from a broken model.

use crate::kernel::{Gpu, Kernel, KernelError};

const SHADER: &str = include_str!("../../shaders/check.wgsl");
/// Lanes of a workgroup, as in the shader.
const LANES: usize = 256;
/// Words of input: sixteen workgroups, and two 64 × 64 matrices.
const INPUT_LEN: usize = SIDE * SIDE;
/// Rows and columns of the matrices, as in the shader.
const SIDE: usize = 64;
/// Counters of the atomics kernel, as in the shader.
const COUNTERS: usize = 74;
/// Tolerance: WGSL allows `exp`, `log` and `pow` errors of some units in the last place; the errors
/// of a broken driver are much larger.
const NEAR: f32 = 1e-4;

/// The device computes wrongly or fails.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("kernel {kernel}: {source}")]
    Failed { kernel: &'static str, source: KernelError },
    /// The first difference.
    #[error("kernel {kernel}: element {index} is {got}, expected {expected}")]
    Wrong { kernel: &'static str, index: usize, got: String, expected: String },
}

/// The kind of comparison of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerCheck {
    Integers,
    /// Floats that must be equal in all bits.
    Exact,
    /// Floats within [`NEAR`], relative to one plus their size.
    Near,
}

/// One kernel and its expected answer.
struct KernelCase {
    kernel: &'static str,
    kind: AnswerCheck,
    /// Expected contents of the buffer.
    expected: Vec<u32>,
}

/// Runs every kernel of `shaders/check.wgsl` and compares the results with those of the host:
/// integer and float arithmetic, workgroup memory and barriers, atomics, and the copy back to the
/// host.
///
/// Takes some milliseconds, plus the driver's shader compilation. The timeout is ten seconds.
pub fn check(device: &wgpu::Device, queue: &wgpu::Queue) -> Result<(), CheckError> {
    let gpu = Gpu { device, queue };
    let input = inputs();
    let failed = |source| CheckError::Failed { kernel: "(shader)", source };
    let shader = gpu.guarded(|| Ok(gpu.shader("check", SHADER))).map_err(failed)?;
    for case in cases(&input) {
        let run = || {
            let kernel = gpu.kernel(&shader, case.kernel);
            answer(&gpu, &kernel, &input, case.expected.len())
        };
        let got = gpu
            .guarded(run)
            .map_err(|source| CheckError::Failed { kernel: case.kernel, source })?;
        compare(&case, &got)?;
    }
    Ok(())
}

fn answer(
    gpu: &Gpu<'_>,
    kernel: &Kernel,
    input: &[u32],
    length: usize,
) -> Result<Vec<u32>, KernelError> {
    let source = gpu.buffer(size_of_val(input) as u64);
    let target = gpu.buffer((length * size_of::<u32>()) as u64);
    gpu.queue.write_buffer(&source, 0, bytemuck::cast_slice(input));
    gpu.run(kernel, &source, &target, (input.len() / LANES) as u32, 1)?;
    gpu.read(&target, length)
}

fn compare(case: &KernelCase, got: &[u32]) -> Result<(), CheckError> {
    let wrong = |index: usize| CheckError::Wrong {
        kernel: case.kernel,
        index,
        got: got.get(index).map_or("missing".to_owned(), |&bits| show(case.kind, bits)),
        expected: case.expected.get(index).map_or(String::new(), |&bits| show(case.kind, bits)),
    };
    let differs = |(index, &expected): (usize, &u32)| match got.get(index) {
        Some(&got) => !equal(case.kind, got, expected),
        None => true,
    };
    match case.expected.iter().enumerate().position(differs) {
        Some(index) => Err(wrong(index)),
        None => Ok(()),
    }
}

fn equal(kind: AnswerCheck, got: u32, expected: u32) -> bool {
    if kind != AnswerCheck::Near {
        return got == expected;
    }
    let (got, expected) = (f32::from_bits(got), f32::from_bits(expected));
    // A NaN compares false with everything, so it is never near.
    (got - expected).abs() <= NEAR * (1.0 + expected.abs())
}

fn show(kind: AnswerCheck, bits: u32) -> String {
    match kind {
        AnswerCheck::Integers => format!("{bits:#010x}"),
        AnswerCheck::Exact | AnswerCheck::Near => format!("{:?}", f32::from_bits(bits)),
    }
}

/// Pseudo-random words, the same on every machine.
fn inputs() -> Vec<u32> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..INPUT_LEN).map(|_| next()).collect()
}

fn cases(input: &[u32]) -> Vec<KernelCase> {
    let case = |kernel, kind, expected| KernelCase { kernel, kind, expected };
    vec![
        case("integers", AnswerCheck::Integers, integers(input)),
        case("signed_remainder", AnswerCheck::Integers, signed_remainder(input)),
        case("floats_exact", AnswerCheck::Exact, floats_exact(input)),
        case("floats_near", AnswerCheck::Near, floats_near(input)),
        case("prefix_sums", AnswerCheck::Integers, prefix_sums(input)),
        case("atomics", AnswerCheck::Integers, atomics(input)),
        case("tiles", AnswerCheck::Exact, tiles(input)),
    ]
}

fn collatz_steps(start: u32) -> u32 {
    let (mut value, mut steps) = (start, 0);
    while value > 1 && steps < 300 {
        let up = || value.wrapping_mul(3).wrapping_add(1);
        value = if value.is_multiple_of(2) { value / 2 } else { up() };
        steps += 1;
    }
    steps
}

fn integers(input: &[u32]) -> Vec<u32> {
    let pair = |(i, &x): (usize, &u32)| {
        let i = i as u32;
        let mut hash = x.wrapping_mul(2_654_435_761).wrapping_add(12345);
        hash ^= hash >> 15;
        hash = hash.rotate_left(7);
        let bits = x.count_ones().wrapping_mul(65599).wrapping_add(x.reverse_bits());
        hash = hash.wrapping_add(bits);
        hash ^= (x / (i + 1)) ^ (x % (i + 3));
        let signed = hash as i32;
        let mixed = (signed / 7).abs() - (signed >> 3);
        [hash, (mixed as u32).wrapping_add(collatz_steps((x & 0xffff) | 1))]
    };
    input.iter().enumerate().flat_map(pair).collect()
}

fn signed_remainder(input: &[u32]) -> Vec<u32> {
    input.iter().map(|&x| ((x as i32) % 11) as u32).collect()
}

fn quarter(x: u32) -> f32 {
    (x & 1023) as f32 * 0.25
}

fn floats_exact(input: &[u32]) -> Vec<u32> {
    let pair = |&x: &u32| {
        let v = quarter(x);
        let square = v * v + 1.0 - 3.5 * v;
        let turned = v + v + 1.0 - 2.0 * v;
        let whole = v.trunc() + (-v).floor() + v.max(8.0) + v.clamp(1.0, 2.0);
        [square.to_bits(), (turned + whole).to_bits()]
    };
    input.iter().flat_map(pair).collect()
}

fn floats_near(input: &[u32]) -> Vec<u32> {
    let pair = |&x: &u32| {
        let v = f64::from(quarter(x));
        let first = v.sqrt() + (v + 1.0).ln() + (v + 0.5).sqrt().recip();
        let second = (v / -64.0).exp() + (v + 3.0).recip() + (v + 1.0).powf(0.25);
        [first, second].map(|value| (value as f32).to_bits())
    };
    input.iter().flat_map(pair).collect()
}

fn prefix_sums(input: &[u32]) -> Vec<u32> {
    let scan = |group: &[u32]| {
        let mut sum = 0_u32;
        let add = |&x: &u32| {
            sum = sum.wrapping_add(x);
            sum
        };
        group.iter().map(add).collect::<Vec<u32>>()
    };
    input.chunks(LANES).flat_map(scan).collect()
}

fn atomics(input: &[u32]) -> Vec<u32> {
    let mut counters = vec![0_u32; COUNTERS];
    for &x in input {
        counters[(x % 64) as usize] += 1;
        let largest = &mut counters[64 + (x % 8) as usize];
        *largest = x.max(*largest);
        counters[72] ^= x;
        counters[73] += x & 255;
    }
    counters
}

fn tiles(input: &[u32]) -> Vec<u32> {
    let small = |x: u32| (x & 15) as f32 - 8.0;
    let left = |row: usize, k: usize| small(input[row * SIDE + k]);
    let right = |k: usize, column: usize| small(input[SIDE * SIDE - 1 - (k * SIDE + column)]);
    let cell = |row: usize, column: usize| {
        (0..SIDE).map(|k| left(row, k) * right(k, column)).fold(0.0_f32, |sum, x| sum + x)
    };
    (0..SIDE * SIDE).map(|i| cell(i / SIDE, i % SIDE).to_bits()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(kind: AnswerCheck, expected: &[u32]) -> KernelCase {
        KernelCase { kernel: "k", kind, expected: expected.to_vec() }
    }

    #[test]
    fn the_first_difference_is_named() {
        let error = compare(&case(AnswerCheck::Integers, &[1, 2, 3]), &[1, 7, 9]).unwrap_err();
        assert_eq!(error.to_string(), "kernel k: element 1 is 0x00000007, expected 0x00000002");
    }

    #[test]
    fn a_short_answer_is_wrong() {
        let error = compare(&case(AnswerCheck::Integers, &[1, 2]), &[1]).unwrap_err();
        assert_eq!(error.to_string(), "kernel k: element 1 is missing, expected 0x00000002");
    }

    #[test]
    fn near_floats_pass_and_nan_never_does() {
        let near = case(AnswerCheck::Near, &[2.0_f32.to_bits()]);
        assert!(compare(&near, &[2.0001_f32.to_bits()]).is_ok());
        assert!(compare(&near, &[2.001_f32.to_bits()]).is_err());
        assert!(compare(&near, &[f32::NAN.to_bits()]).is_err());
        assert!(compare(&near, &[f32::INFINITY.to_bits()]).is_err());
    }

    #[test]
    fn exact_floats_differ_by_one_bit() {
        let one = 1.0_f32.to_bits();
        assert!(compare(&case(AnswerCheck::Exact, &[one]), &[one]).is_ok());
        assert!(compare(&case(AnswerCheck::Exact, &[one]), &[one + 1]).is_err());
    }

    #[test]
    fn answers_are_exact_where_they_are_compared_exactly() {
        for &x in &inputs() {
            let v = f64::from(quarter(x));
            let square = v * v + 1.0 - 3.5 * v;
            assert_eq!(f64::from(square as f32), square);
        }
        let products = tiles(&inputs());
        assert!(products.iter().all(|&bits| f32::from_bits(bits).fract() == 0.0));
    }

    #[test]
    fn every_kernel_of_the_shader_is_run() {
        let kernels = cases(&inputs()).len();
        assert_eq!(SHADER.matches("@compute").count(), kernels);
    }
}
