//! The walk over a graph: from facts about its inputs to facts about its outputs.

use super::constant::constant;
use super::length::Length;
use super::rules;
use super::site::{Obstacle, Site};
use super::value::{Fact, RowDependence};
use crate::graph::{Attribute, Graph, ModelFile, Node};
use std::collections::HashMap;

/// Most levels of nested graphs and functions.
const DEPTH_MAX: usize = 16;
/// Most nodes of a walk; those of a function count for each use.
const NODES_MAX: usize = 1_000_000;

/// The known facts by name; bodies see those of the enclosing graphs.
#[derive(Default)]
struct FactScope<'a> {
    facts: HashMap<&'a str, Fact>,
    outer: Option<&'a FactScope<'a>>,
}

impl FactScope<'_> {
    fn get(&self, name: &str) -> Option<&Fact> {
        self.facts.get(name).or_else(|| self.outer.and_then(|outer| outer.get(name)))
    }
}

/// A walk over the graphs of one file.
pub(super) struct GraphWalk<'f> {
    file: &'f ModelFile,
    pub(super) symbols: u32,
    /// The first reason why rows may depend on each other, in a node that no output may need.
    pub(super) obstacle: Option<String>,
    nodes: usize,
    depth: usize,
}

impl<'f> GraphWalk<'f> {
    pub(super) fn new(file: &'f ModelFile) -> GraphWalk<'f> {
        GraphWalk { file, symbols: 0, obstacle: None, nodes: 0, depth: 0 }
    }

    /// The facts about the outputs of the main graph, for those about its inputs.
    pub(super) fn main(&mut self, inputs: Vec<(&str, Fact)>) -> Vec<Fact> {
        let none = HashMap::new();
        self.graph(&self.file.graph, inputs.into_iter().collect(), None, &none)
    }

    fn graph(
        &mut self,
        graph: &Graph,
        facts: HashMap<&str, Fact>,
        outer: Option<&FactScope<'_>>,
        attributes: &HashMap<String, Attribute>,
    ) -> Vec<Fact> {
        let mut scope = FactScope { facts, outer };
        for (name, raw) in &graph.constants {
            scope.facts.entry(name).or_insert_with(|| constant(raw));
        }
        self.nodes(&graph.nodes, &mut scope, attributes);
        let fact = |name: &str| scope.get(name).cloned().unwrap_or_else(|| Fact::mixed("unknown"));
        graph.outputs.iter().map(|port| fact(&port.name)).collect()
    }

    fn nodes<'n>(
        &mut self,
        nodes: &'n [Node],
        scope: &mut FactScope<'n>,
        attributes: &HashMap<String, Attribute>,
    ) {
        for node in nodes {
            let facts = self.node(node, scope, attributes);
            for (at, name) in node.outputs.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                let fact = facts.get(at).cloned();
                let fact = fact.unwrap_or_else(|| Fact::mixed("an output is not known"));
                if let RowDependence::Mixed(reason) = &fact.content {
                    self.obstacle.get_or_insert_with(|| reason.clone());
                }
                scope.facts.insert(name, fact);
            }
        }
    }

    fn node(
        &mut self,
        node: &Node,
        scope: &FactScope<'_>,
        attributes: &HashMap<String, Attribute>,
    ) -> Vec<Fact> {
        self.nodes += 1;
        let count = node.outputs.len();
        if self.nodes > NODES_MAX {
            return vec![Fact::mixed("the graph has too many nodes"); count];
        }
        let known = node.inputs.iter().map(|name| scope.get(name).cloned());
        let inputs: Vec<Option<Fact>> = known.collect();
        let needs = node.needs();
        let needed = || needs.iter().filter_map(|name| scope.get(name));
        if let Some(RowDependence::Mixed(reason)) = needed()
            .map(|fact| &fact.content)
            .find(|content| matches!(content, RowDependence::Mixed(_)))
        {
            return vec![Fact::mixed(reason.clone()); count];
        }
        let all_shared = needed().all(Fact::is_shared);
        let found = match node.op.as_str() {
            "If" if node.domain.is_empty() => self.branches(node, &inputs, scope, attributes),
            _ => self.operator(node, inputs, attributes),
        };
        match found {
            Ok(facts) => facts,
            Err(_) if all_shared => vec![Fact::shared(None); count],
            Err(reason) => {
                let reason = format!("node '{}' ({}): {reason}", node.name, node.op);
                vec![Fact::mixed(reason); count]
            }
        }
    }

    fn operator(
        &mut self,
        node: &Node,
        inputs: Vec<Option<Fact>>,
        attributes: &HashMap<String, Attribute>,
    ) -> Result<Vec<Fact>, Obstacle> {
        let key = (node.domain.clone(), node.op.clone());
        let mut site = Site::new(node, inputs, attributes, &mut self.symbols);
        if let Some(facts) = rules::apply(&mut site) {
            return facts;
        }
        let inputs = site.inputs;
        let Some(function) = self.file.functions.get(&key) else {
            return Err("the operator has no rule for independent rows".into());
        };
        if self.depth >= DEPTH_MAX {
            return Err("functions are nested too deeply".into());
        }
        let mut inner = function.defaults.clone();
        for (name, attribute) in &node.attributes {
            let given = match attribute {
                Attribute::Ref(outer) => attributes.get(outer),
                other => Some(other),
            };
            inner.extend(given.map(|given| (name.clone(), given.clone())));
        }
        let names = function.inputs.iter().map(String::as_str);
        let facts = names.zip(inputs).filter_map(|(name, fact)| Some((name, fact?)));
        let mut scope = FactScope { facts: facts.collect(), outer: None };
        self.depth += 1;
        self.nodes(&function.nodes, &mut scope, &inner);
        self.depth -= 1;
        let fact = |name: &String| scope.get(name).cloned();
        let facts = function.outputs.iter().map(fact).collect::<Option<Vec<_>>>();
        facts.ok_or_else(|| "an output of its function is missing".into())
    }

    /// `If`: both branches must agree, and the condition must not depend on rows.
    fn branches(
        &mut self,
        node: &Node,
        inputs: &[Option<Fact>],
        scope: &FactScope<'_>,
        attributes: &HashMap<String, Attribute>,
    ) -> Result<Vec<Fact>, Obstacle> {
        let condition =
            inputs.first().and_then(Option::as_ref).ok_or("its condition is missing")?;
        if !condition.is_shared() {
            return Err("its condition is computed from rows or from their number".into());
        }
        if self.depth >= DEPTH_MAX {
            return Err("graphs are nested too deeply".into());
        }
        let mut sides = Vec::new();
        for name in ["then_branch", "else_branch"] {
            let Some(Attribute::Graph(graph)) = node.attributes.get(name) else {
                return Err(format!("{name} is missing").into());
            };
            self.depth += 1;
            sides.push(self.graph(graph, HashMap::new(), Some(scope), attributes));
            self.depth -= 1;
        }
        let [first, second] = &sides[..] else { return Err("a branch is missing".into()) };
        let pairs = first.iter().zip(second);
        Ok(pairs.map(|(one, other)| self.either(one, other)).collect())
    }

    /// The fact about a value that is one of two.
    fn either(&mut self, one: &Fact, other: &Fact) -> Fact {
        if let RowDependence::Mixed(reason) = &one.content {
            return Fact::mixed(reason.clone());
        }
        if one.content != other.content || one.rank() != other.rank() {
            return match one.is_shared() && other.is_shared() {
                true => Fact::shared(None),
                false => Fact::mixed("branches differ in their rows or axes"),
            };
        }
        let (Some(a), Some(b)) = (&one.shape, &other.shape) else {
            return Fact::shared(None);
        };
        let mut shape = Vec::with_capacity(a.len());
        for (a, b) in a.iter().zip(b) {
            if a == b {
                shape.push(a.clone());
            } else if a.has_rows() || b.has_rows() {
                return Fact::mixed("branches differ in their rows");
            } else {
                self.symbols += 1;
                shape.push(Length::symbol(super::length::Symbol::Open(self.symbols)));
            }
        }
        one.with_shape(Some(shape))
    }
}
