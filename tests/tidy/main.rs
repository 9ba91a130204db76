//! Holds the house in order: which room may name which, what the pure and the serving rooms must
//! never name, and how long a function and a file may be.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod cycles;
mod types;

use std::fs;
use std::path::{Path, PathBuf};

/// Longest function and file, in lines.
const FUNCTION_MAX: usize = 70;
const FILE_MAX: usize = 500;

/// The arrows between rooms: who may name whom. A path with `::` allows only that part of a room.
/// `error`, `tensor`, `clock` and `random` are data, a clock and a die: everybody but `schedule` may
/// name them.
const ARROWS: &[(&str, &[&str])] = &[
    ("schedule", &[]),
    ("error", &[]),
    ("escape", &[]),
    ("key_file", &[]),
    ("lock", &[]),
    ("tensor", &[]),
    ("clock", &[]),
    ("random", &[]),
    ("folders", &[]),
    ("signals", &[]),
    ("json", &["error", "tensor"]),
    ("progress", &["escape", "telemetry"]),
    ("adapter", &["clock", "escape"]),
    ("onnx", &["clock", "random", "tensor"]),
    ("model", &["error", "escape", "json", "onnx", "tensor"]),
    ("config", &["adapter::entry", "adapter::select", "folders", "schedule", "wire"]),
    ("simulate", &["adapter", "clock", "config", "escape", "random", "schedule", "telemetry"]),
    ("telemetry", &["adapter::entry", "adapter::sensors", "schedule"]),
    ("wire", &["adapter::entry", "adapter::sensors", "model::info", "random", "tensor"]),
    ("worker", &["adapter", "clock", "lock", "model", "random", "tensor", "wire"]),
    (
        "engine",
        &[
            "adapter::entry",
            "adapter::in_use",
            "adapter::listing",
            "adapter::memory",
            "adapter::names",
            "adapter::sensors",
            "clock",
            "error",
            "escape",
            "lock",
            "model::batch",
            "model::files",
            "model::golden",
            "model::info",
            "model::kept",
            "model::layout",
            "model::pipeline",
            "model::repository",
            "model::signature",
            "schedule",
            "telemetry",
            "tensor",
            "wire",
        ],
    ),
    (
        "api",
        &[
            "adapter::entry",
            "clock",
            "engine",
            "error",
            "json",
            "key_file",
            "model::batch",
            "model::files",
            "model::info",
            "model::layout",
            "model::pipeline",
            "model::repository",
            "model::signature",
            "simulate",
            "telemetry",
            "tensor",
        ],
    ),
    ("top", &["clock", "escape", "key_file"]),
    (
        "cli",
        &[
            "adapter",
            "api",
            "config",
            "engine",
            "escape",
            "key_file",
            "lock",
            "model",
            "progress",
            "schedule",
            "signals",
            "simulate",
            "telemetry",
            "top",
            "worker",
        ],
    ),
];

/// Files of the rooms `model`, `onnx` and `adapter` that the serving process uses: no burn, no wgpu.
const PLAIN: &[&str] = &[
    "src/model/batch.rs",
    "src/model/repository.rs",
    "src/model/signature.rs",
    "src/model/manifest.rs",
    "src/model/manifest/batch.rs",
    "src/model/manifest/time.rs",
    "src/model/count.rs",
    "src/model/generate.rs",
    "src/model/files.rs",
    "src/model/info.rs",
    "src/model/kept.rs",
    "src/model/layout.rs",
    "src/model/names.rs",
    "src/model/onnx/error.rs",
    "src/model/onnx/signature.rs",
    "src/model/pbtxt.rs",
    "src/model/triton.rs",
    "src/model/versions.rs",
    "src/model/pipeline/after.rs",
    "src/model/pipeline/before.rs",
    "src/model/pipeline/boxes.rs",
    "src/model/pipeline/classes.rs",
    "src/model/pipeline/ctc.rs",
    "src/model/pipeline/ensemble.rs",
    "src/model/pipeline/frame.rs",
    "src/model/pipeline/image.rs",
    "src/model/pipeline/mod.rs",
    "src/model/pipeline/picture.rs",
    "src/model/pipeline/regions.rs",
    "src/model/pipeline/row.rs",
    "src/model/pipeline/rows.rs",
    "src/model/pipeline/spec.rs",
    "src/model/pipeline/wave.rs",
    "src/model/pipeline/window.rs",
    "src/onnx/elem.rs",
    "src/onnx/error.rs",
    "src/onnx/graph.rs",
    "src/onnx/known.rs",
    "src/onnx/maps.rs",
    "src/onnx/proto.rs",
    "src/onnx/raw.rs",
    "src/onnx/read.rs",
    "src/onnx/rows/arrange.rs",
    "src/onnx/rows/axes.rs",
    "src/onnx/rows/contrib.rs",
    "src/onnx/rows/length.rs",
    "src/onnx/rows/ml.rs",
    "src/onnx/rows/mod.rs",
    "src/onnx/rows/numbers.rs",
    "src/onnx/rows/pick.rs",
    "src/onnx/rows/products.rs",
    "src/onnx/rows/rules.rs",
    "src/onnx/rows/site.rs",
    "src/onnx/rows/value.rs",
    "src/onnx/rows/walk.rs",
    "src/onnx/source.rs",
    "src/onnx/sparse.rs",
    "src/adapter/entry.rs",
    "src/adapter/identity.rs",
    "src/adapter/listing.rs",
    "src/adapter/names.rs",
    "src/adapter/select.rs",
    "src/adapter/sensors.rs",
];

#[allow(clippy::disallowed_methods, clippy::expect_used, reason = "cargo tells where the tree is")]
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo tells it").into()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found
}

/// The file's path from the root, and its lines without comments.
fn code(path: &Path) -> (String, Vec<String>) {
    let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| match line.trim_start().starts_with("//") {
        true => String::new(),
        false => line.to_owned(),
    };
    (name, text.lines().map(line).collect())
}

/// The room of a file: `src/api/body.rs` is in `api`, `src/cli.rs` is `cli`.
fn room(name: &str) -> &str {
    let rest = name.strip_prefix("src/").unwrap_or(name);
    rest.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

fn sources() -> Vec<PathBuf> {
    files(&root().join("src"), "rs")
}

/// What a line names of this crate, as `adapter::entry::AdapterEntry`.
fn named(line: &str) -> Vec<String> {
    let path = |rest: &str| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        rest[..end.unwrap_or(rest.len())].trim_end_matches(':').to_owned()
    };
    line.split("crate::").skip(1).map(path).collect()
}

#[test]
fn arrows_point_only_where_they_may() {
    let mut wrong = Vec::new();
    for path in sources() {
        let (name, lines) = code(&path);
        let here = room(&name);
        let Some((_, allowed)) = ARROWS.iter().find(|(room, _)| *room == here) else {
            assert!(["lib", "main"].contains(&here), "{name}: a room without arrows in this test");
            continue;
        };
        for target in lines.iter().flat_map(|line| named(line)) {
            let own = target.split("::").next() == Some(here);
            let fits =
                |allowed: &&str| target == **allowed || target.starts_with(&format!("{allowed}::"));
            if !own && !allowed.iter().any(fits) {
                wrong.push(format!("{name} names crate::{target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn serving_rooms_never_name_burn_cubecl_or_wgpu() {
    let mut wrong = Vec::new();
    for path in sources() {
        let (name, lines) = code(&path);
        let serving = ["api", "engine", "schedule", "telemetry", "wire"].contains(&room(&name));
        if !serving && !PLAIN.contains(&name.as_str()) {
            continue;
        }
        for library in ["burn::", "burn_", "cubecl", "wgpu"] {
            if lines.iter().any(|line| line.contains(library)) {
                wrong.push(format!("{name} names {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn schedule_is_pure() {
    let impure = ["std::fs", "std::io", "std::net", "std::thread", "std::env", "Instant", "tokio"];
    for path in sources() {
        let (name, lines) = code(&path);
        if room(&name) == "schedule" {
            for word in impure {
                let found = lines.iter().any(|line| line.contains(word));
                assert!(!found, "{name} names {word}");
            }
        }
    }
}

#[test]
fn every_shader_names_its_user() {
    for path in files(&root().join("shaders"), "wgsl") {
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        let user = first.split_whitespace().find(|word| word.contains(".rs")).unwrap_or_default();
        let user = user.trim_matches(|c: char| !c.is_alphanumeric() && c != '/');
        assert!(root().join(user).is_file(), "{}: '{first}' names no file", path.display());
    }
}

#[test]
fn functions_and_files_are_short() {
    let mut long = Vec::new();
    for path in sources() {
        let (name, lines) = code(&path);
        if name.ends_with("tests.rs") {
            continue;
        }
        if lines.len() > FILE_MAX {
            long.push(format!("{name} has {} lines", lines.len()));
        }
        for (function, length) in functions(&lines) {
            if length > FUNCTION_MAX {
                long.push(format!("{name}: {function} has {length} lines"));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

/// Functions with their lengths: from the line that says `fn` to the brace at its own indent.
fn functions(lines: &[String]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = line.split("fn ").nth(1).filter(|_| line.trim_end().ends_with(['{', '(']))
        else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[at..].iter().position(|line| *line == close) {
            let end = name.find(['(', '<']).unwrap_or(name.len());
            found.push((name[..end].to_owned(), length + 1));
        }
    }
    found
}

#[test]
fn this_test_sees_what_it_looks_for() {
    assert_eq!(named("use crate::adapter::entry::{A, B};"), ["adapter::entry"]);
    assert_eq!(named("x: crate::clock::now()"), ["clock::now"]);
    let lines = ["fn a() {", "    x", "}", "    fn b(", "    ) {", "    }"].map(str::to_owned);
    assert_eq!(functions(&lines), [("a".to_owned(), 3), ("b".to_owned(), 3)]);
    assert_eq!((room("src/api/body.rs"), room("src/cli.rs")), ("api", "cli"));
}

/// Words in backticks that are names of tests: several words, none of them a path.
fn names_of_tests(text: &str) -> Vec<&str> {
    let named = |word: &&str| {
        word.matches('_').count() >= 2 && word.chars().all(|c| c == '_' || c.is_ascii_lowercase())
    };
    text.split('`').skip(1).step_by(2).filter(named).collect()
}

#[test]
fn every_promise_names_a_test_that_is_there() {
    let text = fs::read_to_string(root().join("RELIABILITY.md")).unwrap();
    let mut code = String::new();
    for folder in ["src", "tests"] {
        for file in files(&root().join(folder), "rs") {
            code += &fs::read_to_string(file).unwrap();
        }
    }
    let rows =
        text.lines().filter(|line| line.starts_with("| ") && line.matches(" | ").count() == 2);
    let cells: Vec<_> = rows.filter_map(|row| row.rsplit(" | ").next()).collect();
    assert!(cells.len() > 40, "the tables are where they were");
    for name in cells.into_iter().flat_map(names_of_tests) {
        assert!(
            code.contains(&format!("fn {name}(")),
            "RELIABILITY.md names no test of ours: {name}"
        );
    }
}
