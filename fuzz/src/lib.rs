//! What makes a program of libFuzzer out of a function that takes bytes.

/// libFuzzer calls this function with each input; a panic ends the program, which keeps the input.
#[macro_export]
macro_rules! target {
    ($takes:expr) => {
        #[unsafe(no_mangle)]
        extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> i32 {
            // SAFETY: libFuzzer gives `size` bytes; of none, the pointer may be null.
            let data = match size {
                0 => &[],
                _ => unsafe { std::slice::from_raw_parts(data, size) },
            };
            let _ = $takes(data);
            0
        }
    };
}
