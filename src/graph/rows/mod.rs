//! Proof that the rows of a batch are independent: a walk over the graph that follows the first
//! axis of the inputs through every operator.
//!
//! Rows of several requests may be joined in one run, split or padded only if every row of every
//! output depends on the same row of the inputs and on nothing else: neither on other rows nor on
//! their number. Each operator has a rule for the passage of this axis. An operator without a rule,
//! or one that works across the axis, ends the proof with a reason.

mod arrange;
mod axes;
mod constant;
mod contrib;
mod length;
mod ml;
mod numbers;
mod pick;
mod products;
mod rules;
mod site;
mod value;
mod walk;

use super::graph::{Dim, ModelFile, Port};
use length::{Length, Symbol};
use std::collections::HashMap;
use value::Fact;
use walk::GraphWalk;

/// The result of the walk.
#[derive(Debug)]
pub struct RowProof {
    /// The reason why rows may depend on each other; `None` if they are independent.
    pub obstacle: Option<String>,
    /// Shapes of the outputs; `None` for an unknown length or number of axes.
    pub outputs: Vec<Option<Vec<InferredLength>>>,
}

/// The inferred length of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InferredLength {
    Fixed(usize),
    /// Depends on lengths that requests choose.
    Open,
}

/// Follows the first axis of all inputs through the graph, if its length is open in all of them.
pub fn prove(file: &ModelFile) -> RowProof {
    let mut walk = GraphWalk::new(file);
    let mut names = HashMap::new();
    let ports = &file.graph.inputs;
    let open = |port: &Port| {
        let first = port.dims.as_ref().and_then(|dims| dims.first());
        matches!(first, Some(Dim::Named(_) | Dim::Unknown))
    };
    // Without an axis for rows, the walk only infers shapes.
    let rows = !ports.is_empty() && ports.iter().all(open);
    let facts = ports.iter().map(|port| input(&mut walk, &mut names, port, rows));
    let facts: Vec<(&str, Fact)> = facts.collect();
    let outputs = walk.main(facts);
    let named = file.graph.outputs.iter().zip(&outputs);
    // A node that no output needs is run all the same, and may fail for another number of rows.
    let obstacle = walk.obstacle.or_else(|| {
        named.clone().find_map(|(port, fact)| match &fact.content {
            value::RowDependence::Mixed(reason) => Some(reason.clone()),
            _ if fact.is_stacked() => None,
            _ => Some(format!("the rows are not the first axis of output '{}'", port.name)),
        })
    });
    RowProof { obstacle, outputs: outputs.iter().map(known).collect() }
}

fn known(fact: &Fact) -> Option<Vec<InferredLength>> {
    let length = |length: &Length| {
        let number = length.number().and_then(|number| usize::try_from(number).ok());
        number.map_or(InferredLength::Open, InferredLength::Fixed)
    };
    fact.shape.as_ref().map(|shape| shape.iter().map(length).collect())
}

/// The fact about an input. `rows`: the first axis of every input is the axis of the rows.
fn input<'a>(
    walk: &mut GraphWalk<'_>,
    names: &mut HashMap<String, u32>,
    port: &'a Port,
    rows: bool,
) -> (&'a str, Fact) {
    let mut open = || {
        walk.symbols += 1;
        walk.symbols
    };
    let Some(dims) = &port.dims else {
        return (&port.name, Fact::shared(None));
    };
    let mut shape: Vec<Length> = Vec::with_capacity(dims.len());
    for (axis, dim) in dims.iter().enumerate() {
        shape.push(match dim {
            Dim::Fixed(length) => Length::fixed(i64::try_from(*length).unwrap_or(i64::MAX)),
            _ if axis == 0 && rows => Length::rows(),
            Dim::Named(name) => {
                let number = *names.entry(name.clone()).or_insert_with(&mut open);
                Length::symbol(Symbol::Open(number))
            }
            Dim::Unknown => Length::symbol(Symbol::Open(open())),
        });
    }
    let fact = match rows {
        true => Fact::rows(shape, 0, Length::one()),
        false => Fact::shared(Some(shape)),
    };
    (&port.name, fact)
}

#[cfg(test)]
mod tests;
