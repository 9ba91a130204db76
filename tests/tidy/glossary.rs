//! The glossary names types, modules and files that exist.

use super::{code, files, root};
use std::fs;

/// Keywords of the declarations that a term may name.
const DECLARATIONS: [&str; 5] = ["struct", "enum", "trait", "type", "mod"];

/// The first and the last column of each row of the table.
fn terms(text: &str) -> Vec<(&str, &str)> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.filter_map(|row| Some((row.split(" | ").next()?, row.rsplit(" | ").next()?)));
    rows.filter(|(term, _)| *term != "term").collect()
}

/// The pieces of a text in backticks.
fn names(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// True if a line declares `name`.
fn declares(line: &str, name: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '(');
    let keyword = words.find(|word| DECLARATIONS.contains(word));
    keyword.is_some() && words.next().and_then(|word| word.split('(').next()) == Some(name)
}

/// True if there is a file of this path, or a declaration of the last name in the crate of the first.
fn exists(name: &str) -> bool {
    let Some((folder, path)) = name.split_once("::") else {
        return name.contains('/') && root().join(name).exists();
    };
    let name = path.rsplit("::").next().unwrap_or(path);
    let sources = files(&root().join("src").join(folder), "rs");
    sources.iter().any(|path| code(path).1.iter().any(|line| declares(line, name)))
}

#[test]
fn terms_of_the_glossary_are_in_the_code() {
    let text = fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let terms = terms(&text);
    assert!(terms.len() > 40, "{} terms are seen", terms.len());
    for (term, places) in &terms {
        let names = names(places);
        assert!(!names.is_empty(), "'{term}' names neither a type nor a file");
        let absent: Vec<_> = names.iter().filter(|name| !exists(name)).collect();
        assert!(absent.is_empty(), "'{term}': not in the code: {absent:?}");
    }
    let sorted = terms.is_sorted_by_key(|(term, _)| term.to_lowercase());
    assert!(sorted, "the terms are not in alphabetical order");
}

#[test]
fn declarations_are_seen() {
    assert!(declares("pub(crate) struct Batch<'a> {", "Batch"));
    assert!(declares("struct Shadows(HashMap<u32, u32>);", "Shadows"));
    assert!(declares("    mod inner;", "inner") && declares("pub type Key = u64;", "Key"));
    assert!(!declares("pub struct Batches {", "Batch") && !declares("let batch = Batch;", "Batch"));
    assert_eq!(names("`a::B`, `c`"), ["a::B", "c"]);
    assert_eq!(terms("| x | means | `y` |\n|---|---|---|"), [("x", "`y`")]);
}
