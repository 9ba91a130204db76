//! Search for operators of a file that are not supported, by their names, before anything runs: the
//! serving process does it when it lists the repository.
//!
//! The names are those of the tables of the operators (`ops`, `control`), so that no second list
//! could differ. The search uses no device.

use super::compile::full_name;
use super::graph::{Attribute, ModelFile, Node};
use super::{control, ops};
use crate::onnx::error::{OnnxError, Result};
use std::collections::{BTreeSet, HashSet};

/// Most names in a message; the rest is counted.
const SHOWN_MAX: usize = 20;

impl ModelFile {
    /// Checks that every operator is supported, or is a function of the file.
    ///
    /// # Errors
    /// The names of those that are not, each with its domain.
    pub(crate) fn check_operators(&self) -> Result<()> {
        let missing = self.missing_operators();
        if missing.is_empty() {
            return Ok(());
        }
        let shown: Vec<&str> = missing.iter().take(SHOWN_MAX).map(String::as_str).collect();
        let more = match missing.len().saturating_sub(SHOWN_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(OnnxError::unsupported(format!(
            "operators that are not supported: {}{more}",
            shown.join(", ")
        )))
    }

    /// Operators that are in no table, each once, bodies and functions included.
    fn missing_operators(&self) -> Vec<String> {
        let functions = self.functions.values().flat_map(|function| &function.nodes);
        let mut waiting: Vec<&Node> = self.graph.nodes.iter().chain(functions).collect();
        let mut seen: HashSet<(&str, &str)> = HashSet::new();
        while let Some(node) = waiting.pop() {
            for attribute in node.attributes.values() {
                if let Attribute::Graph(graph) = attribute {
                    waiting.extend(&graph.nodes);
                }
            }
            seen.insert((&node.domain, &node.op));
        }
        let functions: HashSet<(&str, &str)> =
            self.functions.keys().map(|(domain, name)| (domain.as_str(), name.as_str())).collect();
        let missing = seen.into_iter().filter(|key| !functions.contains(key));
        let missing = missing.filter(|(domain, name)| !is_supported(domain, name));
        let sorted: BTreeSet<String> =
            missing.map(|(domain, name)| full_name(domain, name)).collect();
        sorted.into_iter().collect()
    }
}

fn is_supported(domain: &str, name: &str) -> bool {
    ops::find(domain, name).is_some() || control::knows(domain, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_known_by_domain_and_name() {
        for (domain, name, known) in [
            ("", "Relu", true),
            ("", "If", true),
            ("", "SequenceMap", true),
            ("", "Magic", false),
            ("ai.onnx.ml", "If", false),
            ("ai.onnx.ml", "Relu", false),
            ("org.example", "Relu", false),
        ] {
            assert_eq!(is_supported(domain, name), known, "{name} of {domain}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_domain() {
        let data = include_bytes!("../../tests/data/unknown_operator.onnx");
        let file = ModelFile::read(bytes::Bytes::from_static(data).into(), None).unwrap();
        let error = file.check_operators().unwrap_err().to_string();
        assert_eq!(error, "operators that are not supported: Magic of ai.onnx");
    }
}
