//! The graph of an ONNX file.

use super::elem::Elem;
use super::error::NodeLabel;
use super::raw::FileTensor;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A whole file.
#[derive(Debug)]
pub struct ModelFile {
    pub graph: Graph,
    /// Version of the standard operators.
    pub(super) opset: i64,
    /// Functions that the file defines, by domain and name.
    pub functions: HashMap<(String, String), Function>,
    /// Files with external data: their paths beside the model, and the minimum bytes of each.
    pub external: BTreeMap<String, u64>,
}

/// A graph: the main one, or the body of a control flow operator.
#[derive(Debug)]
pub struct Graph {
    pub inputs: Vec<Port>,
    /// Initialisers that are listed as inputs: a request may override their values.
    pub overridable: Vec<Port>,
    pub outputs: Vec<Port>,
    /// In topological order: each node follows the nodes that it depends on.
    pub nodes: Vec<Node>,
    pub constants: Vec<(String, Arc<FileTensor>)>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub name: String,
    pub sort: Sort,
    /// The element type; for a sequence or an optional value, that of its tensors. `None` where the
    /// file does not state it.
    pub elem: Option<Elem>,
    /// The dimensions; for a sequence or an optional value, those of its tensors. `None` where the
    /// file does not state them.
    pub dims: Option<Vec<Dim>>,
}

impl Port {
    /// Returns true if its type allows a request to omit it.
    pub fn is_optional(&self) -> bool {
        matches!(self.sort, Sort::OptionalTensor | Sort::OptionalSequence)
    }
}

/// The kind of value that a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Tensor,
    Sequence,
    OptionalTensor,
    OptionalSequence,
}

/// A dimension of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    Fixed(usize),
    /// Equal names mean equal lengths.
    Named(String),
    Unknown,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// The node's own name, or that of its first output.
    pub name: String,
    pub op: String,
    pub domain: String,
    /// Names of the inputs; empty for an optional input that is omitted.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: HashMap<String, Attribute>,
    /// The version of the operator set that defines the operator.
    pub opset: i64,
}

impl Node {
    /// The node's name and operator, for errors.
    pub fn label(&self) -> Arc<NodeLabel> {
        Arc::new(NodeLabel { name: self.name.clone(), op: self.op.clone() })
    }
}

#[derive(Clone, Debug)]
pub enum Attribute {
    Float(f32),
    Int(i64),
    Text(Bytes),
    Tensor(Arc<FileTensor>),
    /// Values, indices, dimensions.
    Sparse(Arc<(FileTensor, FileTensor, Vec<usize>)>),
    Graph(Arc<Graph>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Texts(Vec<Bytes>),
    /// The element type of a sequence, which no operator here reads.
    Type,
    /// A reference to an attribute of the function that encloses the node.
    Ref(String),
}

/// A function of the file: a subgraph that replaces each node that calls it.
#[derive(Debug)]
pub struct Function {
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub nodes: Vec<Node>,
    /// Default values of attributes, for nodes that omit them.
    pub defaults: HashMap<String, Attribute>,
}

impl ModelFile {
    /// Bytes of the tensors of the main graph, without its bodies.
    pub fn weights_bytes(&self) -> usize {
        self.graph.constants.iter().map(|(_, raw)| raw.bytes.len()).sum()
    }

    /// The version of the standard operators that the main graph uses.
    pub fn opset(&self) -> i64 {
        self.opset
    }
}

impl Node {
    /// Names that must be defined before the node, including those that its bodies use.
    pub(crate) fn needs(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> =
            self.inputs.iter().filter(|name| !name.is_empty()).cloned().collect();
        for attribute in self.attributes.values() {
            if let Attribute::Graph(graph) = attribute {
                names.extend(graph.needs());
            }
        }
        names
    }
}

impl Graph {
    /// Names of the enclosing graphs that it uses.
    pub(crate) fn needs(&self) -> BTreeSet<String> {
        let mut own: BTreeSet<&String> = self.inputs.iter().map(|port| &port.name).collect();
        own.extend(self.constants.iter().map(|(name, _)| name));
        own.extend(self.nodes.iter().flat_map(|node| &node.outputs));
        let used = self.nodes.iter().flat_map(Node::needs);
        let given = self.outputs.iter().map(|port| port.name.clone());
        used.chain(given).filter(|name| !own.contains(name)).collect()
    }
}
