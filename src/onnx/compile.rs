//! Compiles a graph to a plan: node by node, with the values of names.

use super::operators::{self, Call};
use super::trace::{PlanTensor, Tracer, Value};
use graph::error::{OnnxError, Result};
use graph::operators::full_name;
use graph::{Attribute, Graph, ModelFile, Node};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Most levels of nested functions and bodies; only a malicious file has more.
const DEPTH_MAX: usize = 64;

/// The values of names in a graph and the enclosing ones.
pub(crate) struct ValueScope<'s> {
    values: HashMap<&'s str, Value>,
    outer: Option<&'s ValueScope<'s>>,
    depth: usize,
}

impl<'s> ValueScope<'s> {
    fn get(&self, name: &str) -> Option<&Value> {
        // A body may compute a name of an enclosing graph again, as ONNX Runtime allows.
        let own = self.values.get(name);
        own.or_else(|| self.outer.and_then(|outer| outer.get(name)))
    }
}

type Attributes = HashMap<String, Attribute>;

/// A compiler of the graphs of one file.
pub(crate) struct Compiler<'m> {
    pub(crate) file: &'m ModelFile,
}

impl Compiler<'_> {
    /// The main graph. `constants` are its tensors, by name.
    ///
    /// # Errors
    /// Those of the operators, with the node.
    pub(crate) fn main(
        &self,
        t: &mut Tracer<'_>,
        inputs: Vec<Value>,
        constants: &HashMap<String, PlanTensor>,
    ) -> Result<Vec<Value>> {
        let graph = &self.file.graph;
        let named = constants.iter().map(|(name, t)| (name.as_str(), Value::Tensor(t.clone())));
        let outer = ValueScope { values: named.collect(), outer: None, depth: 0 };
        self.graph(t, graph, inputs, &outer, &Attributes::new(), false)
    }

    /// Compiles a graph for its inputs. `constants`: its own tensors are not read yet.
    pub(crate) fn graph(
        &self,
        t: &mut Tracer<'_>,
        graph: &Graph,
        inputs: Vec<Value>,
        outer: &ValueScope<'_>,
        attributes: &Attributes,
        constants: bool,
    ) -> Result<Vec<Value>> {
        if outer.depth >= DEPTH_MAX {
            return Err(OnnxError::unsupported(format!(
                "graphs are nested deeper than {DEPTH_MAX}"
            )));
        }
        if inputs.len() > graph.inputs.len() {
            let (given, taken) = (inputs.len(), graph.inputs.len());
            return Err(OnnxError::invalid(format!("a body has {taken} inputs, not {given}")));
        }
        let names = graph.inputs.iter().map(|port| port.name.as_str());
        let mut scope = ValueScope {
            values: names.zip(inputs).collect(),
            outer: Some(outer),
            depth: outer.depth + 1,
        };
        if constants {
            for (name, raw) in &graph.constants {
                scope.values.insert(name, Value::Tensor(t.of_file(raw)?));
            }
        }
        let outputs: Vec<&str> = graph.outputs.iter().map(|port| port.name.as_str()).collect();
        self.nodes(t, &graph.nodes, &mut scope, attributes)?;
        let value = |name: &&str| {
            scope
                .get(name)
                .cloned()
                .ok_or_else(|| OnnxError::invalid(format!("output '{name}' is missing")))
        };
        outputs.iter().map(value).collect()
    }

    fn nodes<'n>(
        &self,
        t: &mut Tracer<'_>,
        nodes: &'n [Node],
        scope: &mut ValueScope<'n>,
        attributes: &Attributes,
    ) -> Result<()> {
        for node in nodes {
            let label = node.label();
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for name in &node.inputs {
                let missing =
                    || OnnxError::invalid(format!("input '{name}' is missing")).at(&label);
                inputs.push(match name.as_str() {
                    // An empty name is an omitted input (ONNX IR, optional inputs and outputs).
                    "" => None,
                    name => Some(scope.get(name).ok_or_else(missing)?.clone()),
                });
            }
            let call = Call { node, inputs, outer: attributes };
            // Counted before the node runs: functions that call others twice grow exponentially.
            t.count_node_run()?;
            let before = t.enter(Some(label.clone()));
            let results = self.node(t, &call, scope).map_err(|error| error.at(&label));
            t.enter(before);
            for (name, value) in node.outputs.iter().zip(results?) {
                scope.values.insert(name, value);
            }
        }
        Ok(())
    }

    fn node(
        &self,
        t: &mut Tracer<'_>,
        call: &Call<'_>,
        scope: &ValueScope<'_>,
    ) -> Result<Vec<Value>> {
        let node = call.node;
        // Bodies need the values of outer names, which other operators do not receive.
        if let Some(results) = super::control::run(self, t, call, scope) {
            return results;
        }
        if let Some(operator) = operators::find(&node.domain, &node.op) {
            // burn panics if one of its own checks fails.
            let run = catch_unwind(AssertUnwindSafe(|| operator(t, call)));
            return run.unwrap_or_else(|panic| {
                if t.is_device_at_work() {
                    // The panic of a driver is a fault of the device, which the worker reports as
                    // such.
                    resume_unwind(panic);
                }
                Err(OnnxError::input(panic_text(panic.as_ref())))
            });
        }
        let key = (node.domain.clone(), node.op.clone());
        let Some(function) = self.file.functions.get(&key) else {
            return Err(OnnxError::unsupported(format!(
                "operator {} is not supported",
                full_name(&node.domain, &node.op)
            )));
        };
        if scope.depth >= DEPTH_MAX {
            return Err(OnnxError::unsupported(format!(
                "functions are nested deeper than {DEPTH_MAX}"
            )));
        }
        let mut attributes = function.defaults.clone();
        for name in node.attributes.keys() {
            // Resolved here, since it may refer to an attribute of the function around this node.
            if let Some(attribute) = call.attribute(name) {
                attributes.insert(name.clone(), attribute.clone());
            }
        }
        let names = function.inputs.iter().map(String::as_str);
        let values = names
            .zip(call.inputs.iter())
            .filter_map(|(name, value)| value.clone().map(|value| (name, value)));
        // The body of a function has its inputs only, not the names of the graph that calls it.
        let mut inner =
            ValueScope { values: values.collect(), outer: None, depth: scope.depth + 1 };
        self.nodes(t, &function.nodes, &mut inner, &attributes)?;
        let value = |name: &String| {
            inner
                .get(name)
                .cloned()
                .ok_or_else(|| OnnxError::invalid(format!("output '{name}' is missing")))
        };
        function.outputs.iter().map(value).collect()
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
    // Messages of burn's checks have several lines; an error is one line of a log.
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
