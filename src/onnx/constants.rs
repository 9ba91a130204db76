//! Data that the plans of one model share: constants, and the limits of a file.

use super::tensor::DeviceTensor;
use super::value::PlanTensor;
use graph::elem::Elem;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

/// Limits of a file while a plan is made.
#[derive(Clone, Copy, Debug)]
pub struct PlanLimits {
    /// Bytes of the largest tensor.
    pub bytes: usize,
    /// Steps of a plan, with unrolled loops.
    pub steps: usize,
    /// Nodes, rounds of bodies and results, including constant ones: this limit ends nested loops,
    /// and functions that call others twice.
    pub node_runs: usize,
    /// Elements that one step of the host may process.
    pub work: usize,
}

impl Default for PlanLimits {
    fn default() -> PlanLimits {
        PlanLimits { bytes: 4 << 30, steps: 200_000, node_runs: 1_000_000, work: 1 << 34 }
    }
}

/// Constants of a model, on the host and on the device, shared by its plans.
#[derive(Debug, Default)]
pub(crate) struct Constants {
    pub(super) limits: PlanLimits,
    pub(super) uploads: HashMap<u64, DeviceTensor>,
    /// Tensors of nodes and bodies, by their addresses in the file's graph, which outlives this.
    pub(super) files: HashMap<usize, PlanTensor>,
    pub(super) numbers: HashMap<(Elem, u64), PlanTensor>,
    pub(super) folds: HashMap<(String, Vec<u64>), PlanTensor>,
    /// Values from the attributes of nodes, by the addresses of these in the file's graph.
    pub(super) attribute_values: HashMap<usize, AttributeValue>,
}

/// A value that an operator makes from its attributes.
pub(super) type AttributeValue = Arc<dyn Any + Send + Sync>;

impl Constants {
    pub(crate) fn new(limits: PlanLimits) -> Constants {
        Constants { limits, ..Constants::default() }
    }
}
