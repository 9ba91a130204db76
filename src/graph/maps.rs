//! Maps, which the protocol lacks, as tensors: a row of values in the order of the keys that the
//! node next to the graph's input or output states.

use super::elem::Elem;
use super::graph::{Attribute, Dim, ModelFile, Node, Port, Sort};

/// Domain of the operators that take or return maps.
const DOMAIN: &str = "ai.onnx.ml";

/// Turns each output that is a sequence of maps (ZipMap) into a matrix `[rows, classes]` of 32-bit
/// floats.
pub(super) fn outputs_as_tensors(ports: &mut [Port], nodes: &[Node]) {
    for port in ports {
        if let Some(node) = nodes.iter().find(|node| is_zip_of(node, &port.name)) {
            let classes = Dim::Fixed(names(node).len());
            port.sort = Sort::Tensor;
            port.elem = Some(Elem::F32);
            port.dims = Some(vec![Dim::Unknown, classes]);
        }
    }
}

/// Turns an input that is a map into a matrix `[rows, keys]` of the type of its values.
pub(super) fn input_as_tensor(port: &mut Port, nodes: &[Node]) {
    let takes = |node: &&Node| {
        node.domain == DOMAIN && node.inputs.first().is_some_and(|name| *name == port.name)
    };
    let keys = nodes.iter().find(takes).and_then(|node| match node.op.as_str() {
        "DictVectorizer" => Some(length(node, &["string_vocabulary", "int64_vocabulary"])),
        "CastMap" => Some(match node.attributes.get("max_map") {
            Some(Attribute::Int(most)) if is_sparse(node) => {
                usize::try_from(*most).map_or(Dim::Unknown, Dim::Fixed)
            }
            _ => Dim::Unknown,
        }),
        _ => None,
    });
    if let Some(keys) = keys {
        port.dims = Some(vec![Dim::Unknown, keys]);
    }
}

fn is_sparse(node: &Node) -> bool {
    matches!(node.attributes.get("map_form"), Some(Attribute::Text(form)) if form == "SPARSE")
}

fn length(node: &Node, lists: &[&str]) -> Dim {
    let length = |list: &&str| match node.attributes.get(*list) {
        Some(Attribute::Texts(all)) if !all.is_empty() => Some(all.len()),
        Some(Attribute::Ints(all)) if !all.is_empty() => Some(all.len()),
        _ => None,
    };
    lists.iter().find_map(length).map_or(Dim::Unknown, Dim::Fixed)
}

fn is_zip_of(node: &Node, output: &str) -> bool {
    let gives = || node.outputs.first().is_some_and(|name| name == output);
    node.op == "ZipMap" && node.domain == DOMAIN && gives()
}

/// The keys of a ZipMap; integers in decimal.
fn names(node: &Node) -> Vec<String> {
    let list = |name| node.attributes.get(name);
    match (list("classlabels_strings"), list("classlabels_int64s")) {
        (Some(Attribute::Texts(words)), _) if !words.is_empty() => {
            words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
        }
        (_, Some(Attribute::Ints(numbers))) => numbers.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

impl ModelFile {
    /// The class names for an output of class probabilities (ZipMap); empty for other outputs.
    pub fn class_names(&self) -> Vec<String> {
        let graph = &self.graph;
        let mut zips = graph.outputs.iter().filter_map(|port| {
            graph.nodes.iter().find(|node| is_zip_of(node, &port.name)).map(names)
        });
        zips.next().unwrap_or_default()
    }
}
