//! Links of documents to files and headings.

use super::{files, root};
use std::fs;
use std::path::{Path, PathBuf};

/// The targets of the links of a text in Markdown, without those to other hosts.
fn links(text: &str) -> Vec<&str> {
    let parts = text.split("](").skip(1);
    let targets = parts.filter_map(|part| Some(part.split_once(')')?.0));
    targets.filter(|target| !target.contains("://")).collect()
}

/// The name that a heading has in a link.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.collect::<String>().replace(' ', "-")
}

fn has_heading(path: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().any(|line| line.starts_with('#') && anchor(line) == wanted)
}

fn documents() -> Vec<PathBuf> {
    let here = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let here = here.filter(|path| path.extension().is_some_and(|of| of == "md"));
    here.chain(files(&root().join("docs"), "md")).collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let (mut seen, mut broken) = (0, Vec::new());
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            seen += 1;
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = document.parent().unwrap();
            let path = if path.is_empty() { document.clone() } else { folder.join(path) };
            let is_there = path.exists() && (heading.is_empty() || has_heading(&path, heading));
            if !is_there {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(seen > 50, "{seen}");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn headings_have_the_names_that_links_use() {
    assert_eq!(anchor("## Exit status, `NO_COLOR`"), "exit-status-no_color");
    assert_eq!(links("[a](b.md#c) [d](https://e) ![f](g.png)"), ["b.md#c", "g.png"]);
}
