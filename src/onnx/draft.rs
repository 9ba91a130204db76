//! Steps of a plan before they are bound to a device.

use super::host::HostTensor;
use super::runtime_value::Form;
use super::step::Op;
use super::trace::PlanTensor;
use graph::error::NodeLabel;
use std::sync::Arc;

/// A step with constants that are still on the host.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<PlanTensor>,
    /// The variables of the results, and their types and shapes.
    pub(crate) outputs: Vec<(usize, Form)>,
    /// The node that the step belongs to.
    pub(crate) node: Option<Arc<NodeLabel>>,
}

#[derive(Clone, Debug)]
pub(crate) enum DraftItem {
    Step(Draft),
    /// The plan is valid only while this small result equals the one at its making.
    Guard(usize, HostTensor),
}

impl Draft {
    /// The result of a step with a single one.
    pub(crate) fn result(&self) -> Option<(usize, &Form)> {
        match &self.outputs[..] {
            [(var, form)] => Some((*var, form)),
            _ => None,
        }
    }
}
