//! What a tracer writes down: the steps of a plan before they are bound to a device.

use super::held::Form;
use super::host::HostTensor;
use super::op::Op;
use super::trace::T;
use graph::error::NodeLabel;
use std::sync::Arc;

/// A step, with what it takes still on the host.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<T>,
    /// Where the results go, and what they are.
    pub(crate) outputs: Vec<(usize, Form)>,
    /// The node that it is a part of.
    pub(crate) node: Option<Arc<NodeLabel>>,
}

#[derive(Clone, Debug)]
pub(crate) enum DraftItem {
    Step(Draft),
    /// The plan holds only while this small result is what it was when the plan was made.
    Guard(usize, HostTensor),
}

impl Draft {
    /// The result of a step that has one.
    pub(crate) fn result(&self) -> Option<(usize, &Form)> {
        match &self.outputs[..] {
            [(var, form)] => Some((*var, form)),
            _ => None,
        }
    }
}
