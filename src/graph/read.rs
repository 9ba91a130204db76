//! Reads the graph of an ONNX file: checks it, and sorts its nodes topologically.

use super::elem::Elem;
use super::graph::{Attribute, Dim, Function, Graph, ModelFile, Node, Port, Sort};
use super::maps;
use super::proto::{
    AttributeProto, DimensionProto, DimensionValue, FunctionProto, GraphProto, ModelProto,
    NodeProto, TensorProto, TensorTypeProto, TypeValue, ValueInfoProto,
};
use super::raw::{Beside, External, FileTensor};
use super::source::FileSource;
use crate::error::{NodeLabel, OnnxError, Result};
use prost::Message;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Newest known version of the operator set.
const OPSET_MAX: i64 = 27;

/// First version of the format in which initialisers need not be inputs. In older files all of them
/// are inputs, and none is meant to be overridden (as in ONNX Runtime).
const IR_OVERRIDABLE: i64 = 4;

/// Names that exporters write for dimensions of unknown length: two such dimensions may differ.
const NAMELESS: [&str; 4] = ["", "?", "None", "-1"];

impl ModelFile {
    /// Reads a file. `files` opens those with external data.
    ///
    /// # Errors
    /// If the file is invalid, with the name of the node or tensor.
    pub fn read(source: FileSource, files: Beside<'_>) -> Result<ModelFile> {
        let mut stream = source.stream(files.is_none());
        let proto = ModelProto::decode(&mut stream);
        stream.end()?;
        let proto =
            proto.map_err(|error| OnnxError::invalid(format!("is not an ONNX file: {error}")))?;
        let opsets = opsets(proto.opset_import.iter().map(|set| (&set.domain, set.version)))?;
        let graph = proto
            .graph
            .ok_or_else(|| OnnxError::invalid("is not an ONNX file: it has no graph"))?;
        let external = RefCell::default();
        let reader = GraphReader { opsets, files, external: &external };
        let outer = BTreeSet::new();
        let mut graph = reader.graph(graph, &outer)?;
        if proto.ir_version.unwrap_or(0) < IR_OVERRIDABLE {
            graph.overridable.clear();
        }
        let opset = reader.opsets.get("").copied().unwrap_or(1);
        let mut functions = HashMap::new();
        for function in proto.functions {
            let (key, function) = reader.function(function)?;
            functions.insert(key, function);
        }
        Ok(ModelFile { graph, opset, functions, external: external.take() })
    }
}

fn opsets<'a>(
    sets: impl Iterator<Item = (&'a Option<String>, Option<i64>)>,
) -> Result<HashMap<String, i64>> {
    let mut found = HashMap::new();
    for (domain, version) in sets {
        let domain = plain_domain(domain.as_deref().unwrap_or_default());
        let version = version.unwrap_or(1);
        if domain.is_empty() && !(1..=OPSET_MAX).contains(&version) {
            return Err(OnnxError::unsupported(format!(
                "opset {version} is not known; 1 to {OPSET_MAX} are"
            )));
        }
        found.insert(domain.to_owned(), version);
    }
    Ok(found)
}

/// The domain; the two names of the standard operators' domain become one.
fn plain_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

struct GraphReader<'a> {
    opsets: HashMap<String, i64>,
    files: Beside<'a>,
    external: &'a RefCell<BTreeMap<String, u64>>,
}

impl GraphReader<'_> {
    /// Reads a graph. `outer` are names of the enclosing graphs, which a body may use.
    fn graph(&self, proto: GraphProto, outer: &BTreeSet<String>) -> Result<Graph> {
        let mut constants = Vec::with_capacity(proto.initializer.len());
        for tensor in &proto.initializer {
            let name = tensor.name.clone().unwrap_or_default();
            constants.push((name.clone(), self.tensor(&name, tensor)?));
        }
        for sparse in &proto.sparse_initializer {
            let values = sparse.values.clone().unwrap_or_default();
            let name = values.name.clone().unwrap_or_default();
            let indices = sparse.indices.clone().unwrap_or_default();
            let (values, indices) = (self.tensor(&name, &values)?, self.tensor(&name, &indices)?);
            let shape = super::raw::shape(&sparse.dims)?;
            let dense = match self.files {
                Some(_) => super::sparse::dense(&values, &indices, &shape),
                // Without weights there may be no values to put into the tensor.
                None => Ok(FileTensor { shape, ..(*values).clone() }),
            };
            let dense = dense.map_err(|error| error.within(format!("tensor '{name}'")))?;
            constants.push((name, Arc::new(dense)));
        }
        let known: HashSet<&String> = constants.iter().map(|(name, _)| name).collect();
        let (overridable, mut inputs): (Vec<Port>, Vec<Port>) =
            ports(proto.input)?.into_iter().partition(|port| known.contains(&port.name));
        let own = inputs.iter().map(|port| port.name.clone());
        let own: BTreeSet<String> =
            own.chain(constants.iter().map(|(name, _)| name.clone())).collect();
        let mut names = outer.clone();
        names.extend(own.iter().cloned());
        let nodes = self.nodes(proto.node, &names, &own)?;
        names.extend(nodes.iter().flat_map(|node| node.outputs.clone()));
        let mut outputs = ports(proto.output)?;
        maps::outputs_as_tensors(&mut outputs, &nodes);
        let shapeless = inputs.iter_mut().filter(|port| port.dims.is_none());
        shapeless.for_each(|port| maps::input_as_tensor(port, &nodes));
        if let Some(port) = outputs.iter().find(|port| !names.contains(&port.name)) {
            return Err(OnnxError::invalid(format!(
                "output '{}' is computed by no node",
                port.name
            )));
        }
        Ok(Graph { inputs, overridable, outputs, nodes, constants })
    }

    fn tensor(&self, name: &str, proto: &TensorProto) -> Result<Arc<FileTensor>> {
        let raw = self.raw(proto).map(Arc::new);
        raw.map_err(|error| error.within(format!("tensor '{name}'")))
    }

    fn raw(&self, proto: &TensorProto) -> Result<FileTensor> {
        let raw = FileTensor::read(proto, self.files)?;
        if let Some(external) = External::of(proto)? {
            let length = external.length.unwrap_or(raw.expected_bytes() as u64);
            let mut all = self.external.borrow_mut();
            let end = all.entry(external.location).or_default();
            *end = external.offset.saturating_add(length).max(*end);
        }
        Ok(raw)
    }

    /// Reads nodes. `known`: all names that they may use; `own`: those that this graph defines.
    fn nodes(
        &self,
        protos: Vec<NodeProto>,
        known: &BTreeSet<String>,
        own: &BTreeSet<String>,
    ) -> Result<Vec<Node>> {
        // A body may use the outputs of all enclosing nodes; sorting detects wrong orders.
        let mut visible = known.clone();
        for proto in &protos {
            visible.extend(proto.output.iter().filter(|name| !name.is_empty()).cloned());
        }
        let nodes = protos.into_iter().map(|proto| self.node(proto, &visible));
        in_order(nodes.collect::<Result<_, _>>()?, known, own)
    }

    fn node(&self, proto: NodeProto, visible: &BTreeSet<String>) -> Result<Node> {
        let op = proto.op_type.unwrap_or_default();
        let name = proto.name.filter(|name| !name.is_empty());
        let name = name.or_else(|| proto.output.iter().find(|name| !name.is_empty()).cloned());
        let name = name.unwrap_or_default();
        let domain = plain_domain(proto.domain.as_deref().unwrap_or_default()).to_owned();
        let label = Arc::new(NodeLabel { name: name.clone(), op: op.clone() });
        let mut attributes = HashMap::new();
        for attribute in proto.attribute {
            let key = attribute.name.clone().unwrap_or_default();
            let read = self.attribute(attribute, visible);
            let read = read.map_err(|error| error.within(&key).inside(&label))?;
            attributes.insert(key, read);
        }
        let opset = self.opsets.get(&domain).copied().unwrap_or(1);
        let (inputs, outputs) = (proto.input, proto.output);
        Ok(Node { name, op, domain, inputs, outputs, attributes, opset })
    }

    fn attribute(&self, proto: AttributeProto, visible: &BTreeSet<String>) -> Result<Attribute> {
        if let Some(name) = proto.ref_attr_name.filter(|name| !name.is_empty()) {
            return Ok(Attribute::Ref(name));
        }
        let missing = || OnnxError::invalid("its value is missing");
        Ok(match proto.kind.unwrap_or(0) {
            1 => Attribute::Float(proto.f.unwrap_or(0.0)),
            2 => Attribute::Int(proto.i.unwrap_or(0)),
            3 => Attribute::Text(proto.s.unwrap_or_default()),
            4 => Attribute::Tensor(Arc::new(self.raw(&proto.t.ok_or_else(missing)?)?)),
            5 => Attribute::Graph(Arc::new(self.graph(proto.g.ok_or_else(missing)?, visible)?)),
            6 => Attribute::Floats(proto.floats),
            7 => Attribute::Ints(proto.ints),
            8 => Attribute::Texts(proto.strings),
            11 => {
                let sparse = proto.sparse_tensor.ok_or_else(missing)?;
                let values = self.raw(&sparse.values.ok_or_else(missing)?)?;
                let indices = self.raw(&sparse.indices.ok_or_else(missing)?)?;
                let shape = super::raw::shape(&sparse.dims)?;
                Attribute::Sparse(Arc::new((values, indices, shape)))
            }
            13 => Attribute::Type,
            other => {
                return Err(OnnxError::unsupported(format!(
                    "attributes of type {other} are not supported"
                )));
            }
        })
    }

    fn function(&self, proto: FunctionProto) -> Result<((String, String), Function)> {
        let name = proto.name.unwrap_or_default();
        let domain = plain_domain(proto.domain.as_deref().unwrap_or_default()).to_owned();
        let sets = proto.opset_import.iter().map(|set| (&set.domain, set.version));
        let reader = GraphReader { opsets: opsets(sets)?, ..*self };
        let known: BTreeSet<String> = proto.input.iter().cloned().collect();
        let nodes = reader.nodes(proto.node, &known, &known);
        let nodes = nodes.map_err(|error| error.within(format!("function '{name}'")))?;
        let mut defaults = HashMap::new();
        for attribute in proto.attribute_proto {
            let key = attribute.name.clone().unwrap_or_default();
            defaults.insert(key, reader.attribute(attribute, &known)?);
        }
        let (inputs, outputs) = (proto.input, proto.output);
        Ok(((domain, name), Function { inputs, outputs, nodes, defaults }))
    }
}

/// Sorts nodes topologically; otherwise they keep their order. A body may redefine a name of the
/// enclosing graphs: exporters often reuse the name of the output of its own node.
fn in_order(
    nodes: Vec<Node>,
    known: &BTreeSet<String>,
    own: &BTreeSet<String>,
) -> Result<Vec<Node>> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (at, node) in nodes.iter().enumerate() {
        for name in node.outputs.iter().filter(|name| !name.is_empty()) {
            if own.contains(name) || makers.insert(name, at).is_some() {
                return Err(OnnxError::invalid(format!("'{name}' is computed twice")));
            }
        }
    }
    let mut waits = vec![0usize; nodes.len()];
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for ((at, node), wait) in nodes.iter().enumerate().zip(&mut waits) {
        for name in node.needs() {
            let Some(maker) = makers.get(name.as_str()) else {
                if known.contains(&name) {
                    continue;
                }
                let error = OnnxError::invalid(format!("input '{name}' is unknown"));
                return Err(error.at(&node.label()));
            };
            *wait += 1;
            if let Some(users) = users.get_mut(*maker) {
                users.push(at);
            }
        }
    }
    let order = order(&waits, &users);
    if order.len() < nodes.len() {
        let done: HashSet<usize> = order.into_iter().collect();
        let stuck = (0..nodes.len()).find(|at| !done.contains(at)).and_then(|at| nodes.get(at));
        let stuck = stuck.map(|node| format!("'{}' ({})", node.name, node.op));
        return Err(OnnxError::invalid(format!(
            "node {} depends on itself",
            stuck.unwrap_or_default()
        )));
    }
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    Ok(order.iter().filter_map(|at| nodes.get_mut(*at).and_then(Option::take)).collect())
}

/// Kahn's algorithm; of the nodes that are ready, the first in the file is next.
fn order(waits: &[usize], users: &[Vec<usize>]) -> Vec<usize> {
    let mut waits = waits.to_vec();
    let free = waits.iter().enumerate().filter(|(_, wait)| **wait == 0);
    let mut ready: BTreeSet<usize> = free.map(|(at, _)| at).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(at) = ready.pop_first() {
        order.push(at);
        for user in users.get(at).into_iter().flatten() {
            if let Some(wait) = waits.get_mut(*user) {
                *wait -= 1;
                if *wait == 0 {
                    ready.insert(*user);
                }
            }
        }
    }
    order
}

fn ports(infos: Vec<ValueInfoProto>) -> Result<Vec<Port>> {
    infos.into_iter().map(port).collect()
}

fn port(info: ValueInfoProto) -> Result<Port> {
    let name = info.name.unwrap_or_default();
    let value = info.kind.and_then(|kind| kind.value);
    let sort = sort_of(value.as_ref());
    // A map is read as its values.
    let (value, is_map) = match value {
        Some(TypeValue::Map(map)) => (map.value_type.and_then(|kind| kind.value), true),
        value => (value, false),
    };
    let Some(tensor) = value.and_then(tensor_of) else {
        return Ok(Port { name, sort, elem: None, dims: None });
    };
    let elem = match tensor.elem_type {
        None | Some(0) => None,
        Some(number) => {
            Some(Elem::from_onnx(number).map_err(|error| error.within(format!("'{name}'")))?)
        }
    };
    let dims = tensor.shape.map(|shape| shape.dim.into_iter().map(dim).collect::<Vec<_>>());
    let dims = dims.filter(|_| !is_map);
    Ok(Port { name, sort, elem, dims })
}

fn dim(proto: DimensionProto) -> Dim {
    match proto.value {
        // Exporters write 0 and -1 for unknown lengths.
        Some(DimensionValue::Value(length)) if length > 0 => {
            usize::try_from(length).map_or(Dim::Unknown, Dim::Fixed)
        }
        Some(DimensionValue::Name(name)) if !NAMELESS.contains(&name.as_str()) => Dim::Named(name),
        _ => Dim::Unknown,
    }
}

/// The tensor type inside a sequence or an optional value.
fn tensor_of(value: TypeValue) -> Option<TensorTypeProto> {
    match value {
        TypeValue::Tensor(tensor) => Some(tensor),
        TypeValue::Sequence(inner) | TypeValue::Optional(inner) => {
            inner.elem_type.and_then(|kind| kind.value).and_then(tensor_of)
        }
        TypeValue::Map(_) => None,
    }
}

fn sort_of(value: Option<&TypeValue>) -> Sort {
    match value {
        Some(TypeValue::Sequence(_)) => Sort::Sequence,
        Some(TypeValue::Optional(inner)) => {
            let inner = inner.elem_type.as_ref().and_then(|kind| kind.value.as_ref());
            match inner {
                Some(TypeValue::Sequence(_)) => Sort::OptionalSequence,
                _ => Sort::OptionalTensor,
            }
        }
        _ => Sort::Tensor,
    }
}

/// Reads a file, and its external data from the same folder.
///
/// # Errors
/// If a file cannot be read, or its content is invalid.
pub fn read_file(path: &Path) -> Result<ModelFile> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let open = |path: &Path| {
        // Opening a pipe blocks until another process writes to it.
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(OnnxError::invalid(format!("{}: is not a plain file", path.display())));
        }
        let source = std::fs::File::open(path).and_then(FileSource::of);
        source.map_err(|error| OnnxError::machine(format!("{}: {error}", path.display())))
    };
    ModelFile::read(open(path)?, Some(&|name: &str| open(&folder.join(name))))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
