//! Checks of a plan against the limits of its file, while the plan is made.

use super::Tracer;
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use graph::raw::check_shape;

impl Tracer<'_> {
    /// Counts a node, a round of a body or a result.
    ///
    /// # Errors
    /// If the limit is exceeded.
    pub(crate) fn count_node_run(&self) -> Result<()> {
        let most = self.constants.limits.node_runs;
        self.node_runs.set(self.node_runs.get() + 1);
        if self.node_runs.get() > most {
            return Err(OnnxError::limit(format!(
                "the graph has more than {most} nodes and results"
            )));
        }
        Ok(())
    }

    /// Most elements that a step of the host may process.
    pub(crate) fn most_work(&self) -> usize {
        self.constants.limits.work
    }

    /// Rejects tensors that are too large for memory. Every result is checked here, constants
    /// included, as are the intermediate results of operators, before they are made.
    ///
    /// # Errors
    /// If it is too large, or the limit of results is exceeded.
    pub(crate) fn fits(&self, elem: Elem, shape: &[usize]) -> Result<()> {
        self.count_node_run()?;
        check_shape(shape)?;
        let most = self.constants.limits.bytes;
        let element = elem.bits().div_ceil(8).max(4);
        match shape.iter().try_fold(element, |size, dim| size.checked_mul(*dim)) {
            Some(bytes) if bytes <= most => Ok(()),
            _ => Err(OnnxError::limit(format!(
                "a result of shape {shape:?} needs more than {most} bytes"
            ))),
        }
    }
}
