//! Replays the corpus of fuzzing (`fuzz/corpus/`) through the same functions: real inputs, inputs
//! that reach code that others do not, and all inputs that ever caused a defect.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(
    clippy::disallowed_methods,
    reason = "cargo passes the folder of the source in the environment"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Reads every file of a corpus; most of them are expected to be errors.
fn replay(corpus: &str, reads: impl Fn(&[u8]) -> bool) {
    // Read at run time, since checkouts may share compiled tests.
    let source = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let folder = Path::new(&source).join("fuzz/corpus").join(corpus);
    let (mut good, mut broken, mut files) = (0, Vec::new(), 0);
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        match catch_unwind(AssertUnwindSafe(|| reads(&data))) {
            Ok(read) => good += usize::from(read),
            Err(_) => broken.push(path),
        }
        files += 1;
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(files > 10 && good > 0, "{corpus}: {good} of {files} are good");
}

#[test]
fn requests_are_answers_or_errors() {
    replay("requests", |data| server::hostile::request(data).is_ok());
}

#[test]
fn frames_are_messages_or_errors() {
    replay("frames", |data| wire::hostile::frames(data).is_ok());
}

#[test]
fn manifests_are_models_or_errors() {
    replay("manifests", |data| kinds::hostile::manifest(data).is_ok());
}

#[test]
fn graphs_are_run_or_errors() {
    replay("graphs", |data| kinds::hostile::graph(data).is_ok());
}

#[test]
fn uploads_are_read_or_errors() {
    replay("uploads", |data| kinds::hostile::upload(data).is_ok());
}

/// Files that are corrupted at a few places; `CONCERTINA_TEST_UPLOADS=100000` runs the whole test.
#[test]
fn corrupted_uploads_are_read_or_errors() {
    let count = std::env::var("CONCERTINA_TEST_UPLOADS");
    let count = count.ok().and_then(|count| count.parse().ok()).unwrap_or(10_000);
    let source = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let folder = Path::new(&source).join("fuzz/corpus/uploads");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let (mut random, mut good) = (7u64, 0);
    let mut below = |bound: usize| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (random >> 33) as usize % bound.max(1)
    };
    for at in 0..count {
        let mut file = files[below(files.len())].clone();
        for _ in 0..below(4) {
            let spot = below(file.len());
            if let Some(byte) = file.get_mut(spot) {
                *byte = below(256) as u8;
            }
        }
        if below(8) == 0 {
            file.truncate(below(file.len()));
        }
        let read = catch_unwind(AssertUnwindSafe(|| kinds::hostile::upload(&file).is_ok()));
        match read {
            Ok(read) => good += usize::from(read),
            Err(_) => panic!("upload {at}: {file:?}"),
        }
    }
    assert!(good > count / 10, "{good} of {count} are good");
}
