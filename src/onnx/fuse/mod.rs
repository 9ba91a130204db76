//! Fuses several steps into one with the same result: fewer passes over memory, and fewer launches.
//! On 32-bit floats only, as other types round after each step.

mod attention;
mod elements;
mod gelu;
mod layer_norm;
mod steps;
mod then;
mod weights;

use super::draft::DraftItem;
use super::trace::{PlanTensor, Tracer};
use graph::error::Result;
use steps::Steps;

/// A fusion pass.
type Pass = fn(&mut Tracer<'_>, &mut Steps) -> Result<()>;

// The order matters: patterns are found before their element-wise steps become programs.
const PASSES: &[(&str, Pass)] = &[
    ("weights", weights::run),
    ("gelu", gelu::run),
    ("layer norm", layer_norm::run),
    ("attention", attention::run),
    ("elements", elements::run),
    ("epilogues", then::run),
];

/// Fuses the steps of a plan. Adds the remaining launches after each pass to `launches`.
///
/// # Errors
/// If weights cannot be computed.
pub(crate) fn fuse(
    t: &mut Tracer<'_>,
    lines: Vec<DraftItem>,
    outputs: &[PlanTensor],
    launches: &mut Vec<(&'static str, usize)>,
) -> Result<Vec<DraftItem>> {
    let mut steps = Steps::new(lines, outputs);
    launches.push(("none", steps.launches()));
    for (name, pass) in PASSES {
        pass(t, &mut steps)?;
        launches.push((name, steps.launches()));
    }
    Ok(steps.into_lines())
}
