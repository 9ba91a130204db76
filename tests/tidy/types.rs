//! The number of methods of a type, and of the files that contain them: a reader of a type has to
//! read them all.

use super::{code, room, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Most methods of one type.
const METHODS_MAX: usize = 40;
/// Most files with `impl` blocks of a type that has more methods than [`FEW`].
const FILES_MAX: usize = 2;
const FEW: usize = 20;

/// The type of an `impl` block that implements no trait.
fn implemented(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("impl")?.strip_suffix('{')?.trim_end();
    // Parameters of the block itself.
    let rest = if rest.starts_with('<') { rest.split_once("> ")?.1 } else { rest.trim_start() };
    let name = rest.split('<').next()?;
    (!rest.contains(" for ") && !name.contains(' ')).then_some(name)
}

fn is_method(line: &str) -> bool {
    let Some(line) = line.strip_prefix("    ").filter(|line| !line.starts_with(' ')) else {
        return false;
    };
    let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
    let line = line.trim_start_matches("pub ").trim_start_matches("const ");
    line.trim_start_matches("async ").starts_with("fn ")
}

#[test]
fn types_are_small() {
    let mut types: BTreeMap<(String, String), (usize, BTreeSet<String>)> = BTreeMap::new();
    for path in sources() {
        let (name, lines) = code(&path);
        if name.contains("tests") {
            continue;
        }
        let mut current = None;
        for line in &lines {
            if let Some(of) = implemented(line) {
                current = Some((room(&name).to_owned(), of.to_owned()));
                let files =
                    &mut types.entry((room(&name).to_owned(), of.to_owned())).or_default().1;
                files.insert(name.clone());
            }
            if line == "}" {
                current = None;
            }
            if let Some(of) = current.as_ref().filter(|_| is_method(line)) {
                types.entry(of.clone()).or_default().0 += 1;
            }
        }
    }
    assert!(types.len() > 100, "{} types are seen", types.len());
    types.retain(|_, (methods, files)| {
        *methods > METHODS_MAX || (*methods > FEW && files.len() > FILES_MAX)
    });
    assert!(types.is_empty(), "more than {METHODS_MAX} methods or {FILES_MAX} files: {types:#?}");
}

#[test]
fn methods_are_counted() {
    assert_eq!(implemented("impl<'a> Tracer<'a> {"), Some("Tracer"));
    assert_eq!(implemented("impl Adapter {"), Some("Adapter"));
    assert_eq!(implemented("impl Display for Adapter {"), None);
    assert!(is_method("    pub(super) async fn a(&self) {"));
    assert!(!is_method("        fn inner() {") && !is_method("fn free() {"));
}
