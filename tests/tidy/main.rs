//! Checks the structure: what the scheduler and the serving crates must not depend on, which files
//! import each other, and how long a function, a file and a type may be.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod cycles;
mod glossary;
mod links;
mod types;
mod words;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest function and file, in lines.
const FUNCTION_MAX: usize = 70;
const FILE_MAX: usize = 500;

/// Crates of the serving process, and libraries that would load a driver of a GPU into it.
const SERVING: [&str; 2] = ["concertina-server", "concertina-top"];
const OF_GPUS: [&str; 3] = ["burn", "cubecl", "wgpu"];

#[allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "cargo passes the folder of the tree"
)]
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it").into()
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

/// The crate of a file: `src/server/body.rs` is in `server`, `src/cli.rs` is `cli`.
fn room(name: &str) -> &str {
    let rest = name.strip_prefix("src/").unwrap_or(name);
    rest.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

fn sources() -> Vec<PathBuf> {
    files(&root().join("src"), "rs")
}

/// The names of the crates that a crate depends on, its own among them.
fn dependencies(of: &str) -> Vec<String> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(["tree", "--offline", "--locked", "--edges=normal,build"]);
    let output = command.args(["--prefix=none", "--package", of]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
}

#[test]
fn serving_crates_need_no_library_of_gpus() {
    for serving in SERVING {
        let all = dependencies(serving);
        assert!(all.len() > 50 && all.contains(&serving.to_owned()), "{serving}: {all:?}");
        let wrong: Vec<_> =
            all.iter().filter(|name| OF_GPUS.iter().any(|of| name.starts_with(of))).collect();
        assert!(wrong.is_empty(), "{serving} depends on {wrong:?}");
    }
    assert!(dependencies("concertina-worker").iter().any(|name| name == "burn"));
}

#[test]
fn scheduler_depends_on_nothing() {
    assert_eq!(dependencies("concertina-schedule"), ["concertina-schedule"]);
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

/// Functions with their lengths: from the line with `fn` to the brace at its own indentation.
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
fn function_lengths_are_counted() {
    let lines = ["fn a() {", "    x", "}", "    fn b(", "    ) {", "    }"].map(str::to_owned);
    assert_eq!(functions(&lines), [("a".to_owned(), 3), ("b".to_owned(), 3)]);
    assert_eq!((room("src/server/body.rs"), room("src/cli.rs")), ("server", "cli"));
}

/// Texts in backticks that are names of tests: several words with underscores, and not a path.
fn names_of_tests(text: &str) -> Vec<&str> {
    let named = |word: &&str| {
        word.matches('_').count() >= 2 && word.chars().all(|c| c == '_' || c.is_ascii_lowercase())
    };
    text.split('`').skip(1).step_by(2).filter(named).collect()
}

#[test]
fn every_promise_names_an_existing_test() {
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
