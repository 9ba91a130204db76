//! The language of comments, strings, names and documents: plain technical English.
//!
//! The patterns are a floor, found by counting in this project against others: a line without them may
//! still be hard to read.

mod idioms;
mod pieces;

use super::root;
use idioms::{idiom, name_idiom};
use pieces::{Kind, pieces, syntax};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// Lines that are right although a pattern matches: a part of the line, and the reason.
const ALLOWED: [(&str, &str); 4] = [
    ("NOBODY", "the user of this name"),
    ("only persons are *who*", "the rule itself"),
    ("workers.silence", "the former name of a setting"),
    ("[workers] silence", "the same in a file"),
];

/// Most pieces of each kind with an idiom, in thousandths of all.
const MOST: [(Kind, usize); 4] =
    [(Kind::Comment, 10), (Kind::String, 0), (Kind::Name, 0), (Kind::Markdown, 10)];

/// Longest subject of a commit, in characters, and the commit since which it is kept.
const SUBJECT_MAX: usize = 72;
const SUBJECTS_SINCE: &str = "1d4274cb";

/// Files that are not ours to word, or that quote others.
const NOT_OURS: [&str; 6] = [
    "tests/tidy/words/",
    "package-lock.json",
    "tests/data/",
    "fuzz/corpus/",
    "models/",
    "docs/elasticity/",
];

/// The lines that git prints; none where there is no repository or no such commit.
fn git(args: &[&str]) -> Vec<String> {
    let output = Command::new("git").current_dir(root()).args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn tracked() -> Vec<String> {
    let mut listed = git(&["ls-files", "-co", "--exclude-standard"]);
    listed.retain(|name| !NOT_OURS.iter().any(|not| name.contains(not)));
    listed
}

#[derive(Default)]
struct Count {
    all: usize,
    wrong: Vec<String>,
}

fn count() -> BTreeMap<Kind, Count> {
    let mut counts = BTreeMap::<Kind, Count>::new();
    for name in tracked() {
        let Some(syntax) = syntax(&name) else { continue };
        let Ok(text) = fs::read_to_string(root().join(&name)) else { continue };
        let mut names = BTreeSet::new();
        for piece in pieces(syntax, &text) {
            if piece.kind == Kind::Name && !names.insert(piece.text.clone()) {
                continue;
            }
            let count = counts.entry(piece.kind).or_default();
            count.all += 1;
            let found = match piece.kind {
                Kind::Name => name_idiom(&piece.text),
                _ => idiom(&piece.text),
            };
            let is_allowed = ALLOWED.iter().any(|(part, _)| piece.text.contains(part));
            if let Some(found) = found.filter(|_| !is_allowed) {
                count.wrong.push(format!("{name}:{}: [{found}] {}", piece.line, piece.text));
            }
        }
    }
    counts
}

#[test]
fn texts_are_plain_technical_english() {
    if git(&["rev-parse", "--git-dir"]).is_empty() {
        return; // A source archive: what is ours is not known.
    }
    let counts = count();
    let mut above = Vec::new();
    for (kind, most) in MOST {
        let Count { all, wrong } = &counts[&kind];
        assert!(*all > 500, "{kind:?}: only {all} are seen");
        if wrong.len() * 1000 > most * all {
            above.push(format!("{kind:?}: {} of {all}\n{}", wrong.len(), wrong.join("\n")));
        }
    }
    assert!(above.is_empty(), "see CONTRIBUTING.md, Language:\n{}", above.join("\n"));
}

#[test]
fn subjects_of_commits_are_short() {
    let subjects = git(&["log", "--format=%s", &format!("{SUBJECTS_SINCE}..HEAD")]);
    let long: Vec<_> = subjects.iter().filter(|it| it.chars().count() > SUBJECT_MAX).collect();
    assert!(long.is_empty(), "more than {SUBJECT_MAX} characters: {long:#?}");
}
