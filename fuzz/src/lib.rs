//! A macro that makes a libFuzzer program of a function of bytes.

/// Defines the function that libFuzzer calls with each input; on a panic libFuzzer saves the input.
#[macro_export]
macro_rules! target {
    ($takes:expr) => {
        #[unsafe(no_mangle)]
        extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> i32 {
            // SAFETY: libFuzzer passes `size` bytes; the pointer may be null if `size` is 0.
            let data = match size {
                0 => &[],
                _ => unsafe { std::slice::from_raw_parts(data, size) },
            };
            let _ = $takes(data);
            0
        }
    };
}
