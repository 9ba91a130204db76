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
    /// Functions of the file itself, by domain and name.
    pub functions: HashMap<(String, String), Function>,
    /// Files with external data: their paths beside the model and the bytes that each must have.
    pub external: BTreeMap<String, u64>,
}

/// A graph: the main one, or the body of a control flow operator.
#[derive(Debug)]
pub struct Graph {
    pub inputs: Vec<Port>,
    /// Initialisers that are listed as inputs: a request may give a value in their place.
    pub overridable: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Each comes after those that it depends on.
    pub nodes: Vec<Node>,
    pub constants: Vec<(String, Arc<FileTensor>)>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub name: String,
    pub sort: Sort,
    /// That of the tensors of a sequence or an optional value; `None` where the file does not say
    /// it.
    pub elem: Option<Elem>,
    /// Those of the tensors of a sequence or an optional value; `None` where the file does not say
    /// them.
    pub dims: Option<Vec<Dim>>,
}

impl Port {
    /// `true` if a request may leave it out, by its own type.
    pub fn is_optional(&self) -> bool {
        matches!(self.sort, Sort::OptionalTensor | Sort::OptionalSequence)
    }
}

/// What a name stands for.
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
    /// Its own name, or that of its first output.
    pub name: String,
    pub op: String,
    pub domain: String,
    /// Empty for optional inputs that are left out.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: HashMap<String, Attribute>,
    /// Version of the operator set that its meaning is taken from.
    pub opset: i64,
}

impl Node {
    /// Its name and operator, for errors.
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
    /// The type of elements of sequences, which nothing here needs to know.
    Type,
    /// Another name: an attribute of the function that the node stands in.
    Ref(String),
}

/// A function of the file: a piece of graph that nodes stand for.
#[derive(Debug)]
pub struct Function {
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub nodes: Vec<Node>,
    /// Attributes with what they are where a node does not give them.
    pub defaults: HashMap<String, Attribute>,
}

impl ModelFile {
    /// Of the main graph's own tensors.
    pub fn weights_bytes(&self) -> usize {
        self.graph.constants.iter().map(|(_, raw)| raw.bytes.len()).sum()
    }

    /// Version of the standard operators that the main graph is written in.
    pub fn opset(&self) -> i64 {
        self.opset
    }
}

impl Node {
    /// Names that must be there before it, those that its bodies use included.
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
    /// Names of the graphs around it that it uses.
    pub(crate) fn needs(&self) -> BTreeSet<String> {
        let mut own: BTreeSet<&String> = self.inputs.iter().map(|port| &port.name).collect();
        own.extend(self.constants.iter().map(|(name, _)| name));
        own.extend(self.nodes.iter().flat_map(|node| &node.outputs));
        let used = self.nodes.iter().flat_map(Node::needs);
        let given = self.outputs.iter().map(|port| port.name.clone());
        used.chain(given).filter(|name| !own.contains(name)).collect()
    }
}
