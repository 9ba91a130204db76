//! Groups of source files that import each other. A reader of one file has to read its whole group.

use super::{files, root};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

/// Largest number of groups of files that import each other, without roots of modules and tests.
/// One is unavoidable: a graph contains graphs (`onnx/compile`, `onnx/control`).
const CYCLES_MAX: usize = 1;

type Module = Vec<String>;

/// The source of a module without comments, strings and tests, and its imports.
#[derive(Default)]
struct Source {
    is_root: bool,
    code: String,
}

/// The module of a file: `src/server/body.rs` is `server::body`, `src/server/lib.rs` is
/// `server`.
fn module(name: &str) -> Module {
    let path = name.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Module = path.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

fn is_test(module: &Module) -> bool {
    let test = |part: &String| {
        ["tests", "hostile", "boxes"].contains(&part.as_str())
            || part.ends_with("_tests")
            || part.starts_with("test_")
    };
    module.iter().any(test)
}

fn sources() -> BTreeMap<Module, Source> {
    let mut all = BTreeMap::new();
    for path in files(&root().join("src"), "rs") {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let code = lines.collect::<Vec<_>>().join("\n");
        let is_root = name.ends_with("/mod.rs") || name.ends_with("/lib.rs");
        all.insert(module(&name), Source { is_root, code });
    }
    all.retain(|module, _| !is_test(module));
    all
}

/// The paths of a tree of imports: `a::{b, c::{d, e}}` has three.
fn paths(tree: &str) -> Vec<String> {
    let Some((begin, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return vec![path.to_owned()];
    };
    let (begin, inner) = (begin.trim(), rest.rsplit_once('}').map_or(rest, |(inner, _)| inner));
    let (mut depth, mut parts, mut part) = (0, Vec::new(), String::new());
    for letter in inner.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        if letter == ',' && depth == 0 {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(letter);
        }
    }
    parts.push(part);
    let named = parts.iter().filter(|part| !part.trim().is_empty());
    named.flat_map(|part| paths(part)).map(|path| format!("{begin}{path}")).collect()
}

/// The imports of some code; `true` marks re-exports.
fn imports(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rsplit('\n').next().unwrap_or_default().trim();
        if !(line.is_empty() || line.starts_with("pub")) {
            continue;
        }
        let tree = code[at + 4..].split(';').next().unwrap_or_default();
        found.extend(paths(tree).into_iter().map(|path| (!line.is_empty(), path)));
    }
    found
}

/// The paths that code names in full, such as `super::other::function`.
fn named(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        if ["crate::", "super::", "self::"].iter().any(|begin| word.starts_with(begin)) {
            found.push(word.trim_end_matches(':').to_owned());
        }
    }
    found
}

/// The beginning of the paths of a crate: its folder, or nothing for the command line.
fn own_crate(here: &Module) -> Module {
    here.first().filter(|first| *first != "cli").cloned().into_iter().collect()
}

/// The module that a path lies in, and the rest of the path.
fn resolved(
    path: &str,
    here: &Module,
    all: &BTreeMap<Module, Source>,
) -> Option<(Module, Vec<String>)> {
    let mut parts = path.split("::").map(str::to_owned).peekable();
    let mut full = match parts.peek()?.as_str() {
        "crate" => own_crate(here),
        "self" | "super" => here.clone(),
        _ => return None,
    };
    while let Some(part) = parts.next_if(|part| ["crate", "self", "super"].contains(&&**part)) {
        if part == "super" {
            full.pop();
        }
    }
    full.extend(parts);
    let known = (0..=full.len()).rev().find(|length| all.contains_key(&full[..*length]))?;
    let rest = full.split_off(known);
    Some((full, rest))
}

/// The names that modules re-export, and the modules that define them.
fn reexports(all: &BTreeMap<Module, Source>) -> HashMap<(Module, String), Module> {
    let mut found = HashMap::new();
    for (here, source) in all {
        for (_, path) in imports(&source.code).into_iter().filter(|(public, _)| *public) {
            let own = format!("self::{path}");
            let target = resolved(&path, here, all).or_else(|| resolved(&own, here, all));
            let name = path.rsplit("::").next().unwrap_or_default().to_owned();
            if let Some((target, _)) = target.filter(|(target, _)| target != here) {
                found.insert((here.clone(), name), target);
            }
        }
    }
    found
}

fn graph(all: &BTreeMap<Module, Source>) -> BTreeMap<Module, BTreeSet<Module>> {
    let reexports = reexports(all);
    let mut graph = BTreeMap::new();
    for (here, source) in all.iter().filter(|(_, source)| !source.is_root) {
        let own = imports(&source.code).into_iter().map(|(_, path)| path);
        let mut targets = BTreeSet::new();
        for path in own.chain(named(&source.code)) {
            let Some((mut target, rest)) = resolved(&path, here, all) else { continue };
            for name in rest.iter().take(1) {
                while let Some(origin) = reexports.get(&(target.clone(), name.clone())) {
                    target.clone_from(origin);
                }
            }
            if target != *here && all.get(&target).is_some_and(|source| !source.is_root) {
                targets.insert(target);
            }
        }
        graph.insert(here.clone(), targets);
    }
    graph
}

fn reached<'a>(
    graph: &'a BTreeMap<Module, BTreeSet<Module>>,
    from: &'a Module,
) -> BTreeSet<&'a Module> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        for target in graph.get(module).into_iter().flatten() {
            if seen.insert(target) {
                next.push(target);
            }
        }
    }
    seen
}

/// Groups of modules of which each reaches all others.
fn cycles(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Vec<String>> {
    let reach: BTreeMap<_, _> = graph.keys().map(|from| (from, reached(graph, from))).collect();
    let mut groups = BTreeSet::new();
    for (from, targets) in &reach {
        let back = |target: &&&Module| reach.get(**target).is_some_and(|back| back.contains(from));
        let group: Vec<_> = targets.iter().filter(back).map(|module| module.join("/")).collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    groups.into_iter().collect()
}

#[test]
fn few_files_import_each_other() {
    let found = cycles(&graph(&sources()));
    assert!(found.len() <= CYCLES_MAX, "{found:#?}");
    assert!(found.len() == CYCLES_MAX, "there are fewer now, set CYCLES_MAX to {}", found.len());
}

#[test]
fn cycles_are_detected() {
    assert_eq!(paths("a::{b, c::{d, e as f}}"), ["a::b", "a::c::d", "a::c::e"]);
    let source = |code: &str| Source { is_root: false, code: code.to_owned() };
    let root = Source { is_root: true, code: "mod b;\npub use b::B;\n".to_owned() };
    let all = BTreeMap::from([
        (vec!["a".to_owned()], root),
        (module("src/a/b.rs"), source("use super::c::C;\npub struct B;\n")),
        (module("src/a/c.rs"), source("use crate::B;\npub struct C;\n")),
        (module("src/a/d.rs"), source("use crate::{B};\n")),
    ]);
    assert_eq!(cycles(&graph(&all)), [["a/b", "a/c"]]);
}
