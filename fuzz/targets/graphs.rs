//! ONNX files: read, planned, and run on the host.
#![no_main]

use std::panic::PanicHookInfo;
use std::sync::Once;

concertina_fuzz::target!(graph);

fn graph(data: &[u8]) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(hook)));
    let _ = kinds::hostile::graph(data);
}

/// Panics of operators are caught, since burn panics where its own checks fail. A panic that begins in
/// the code of this repository is nevertheless a defect.
fn hook(panic: &PanicHookInfo<'_>) {
    if panic.location().is_some_and(|at| at.file().starts_with("src/")) {
        eprintln!("{panic}");
        std::process::abort();
    }
}
