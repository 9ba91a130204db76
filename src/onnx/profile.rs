//! The costs of a plan: steps, transfers to and from the device, memory.

use super::plan::{Arg, Env, ExecutionPlan, PlanItem, PlanOutput, PlanStep, Stop};
use super::runtime_value::Form;
use super::step::Op;
use std::collections::BTreeMap;
use std::time::Duration;
use types::clock;

/// The costs of one run of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Steps on the device that compute something; burn fuses some, so they are kernels at most.
    pub launches: usize,
    /// Steps that only change the view of elements.
    pub(crate) views: usize,
    /// Steps of the host, by name.
    pub host: BTreeMap<&'static str, usize>,
    pub uploads: usize,
    pub read_backs: usize,
    /// Peak bytes of results, without weights.
    pub bytes: usize,
    /// Remaining launches after each fusion pass, in order; the first entry is before any pass.
    pub fused: Vec<(&'static str, usize)>,
}

impl ExecutionPlan {
    /// `inputs`: the types and shapes of the inputs.
    pub(crate) fn profile(&self, inputs: &[Form]) -> Profile {
        let mut profile = Profile { uploads: inputs.len(), ..Profile::default() };
        profile.fused.clone_from(&self.launches);
        let mut live: BTreeMap<usize, usize> = inputs.iter().map(bytes).enumerate().collect();
        for item in &self.items {
            match item {
                PlanItem::Guard(..) => profile.read_backs += 1,
                PlanItem::Step(step) => {
                    profile.count(step);
                    live.extend(step.outputs.iter().map(|(var, form)| (*var, bytes(form))));
                    // Before arguments are removed: they and the results of a step exist at the
                    // same time.
                    profile.bytes = profile.bytes.max(live.values().sum());
                    step.last.iter().for_each(|var| {
                        live.remove(var);
                    });
                }
            }
        }
        let read = self.outputs.iter().filter(|output| matches!(output, PlanOutput::Var(..)));
        profile.read_backs += read.count();
        profile
    }
}

/// Steps by kind: their number and their total time.
pub type Times = BTreeMap<String, (usize, Duration)>;

impl ExecutionPlan {
    /// Runs with a clock at each step. The times are those of the steps only if steps are complete
    /// when they return, as on the CPU.
    pub(crate) fn time(&self, env: &mut Env, times: &mut Times) -> Result<(), Stop> {
        for item in &self.items {
            let begin = clock::now();
            env.run(item)?;
            let took = begin.elapsed();
            let name = match item {
                PlanItem::Guard(..) => "Guard".to_owned(),
                PlanItem::Step(step) => step.op.name(),
            };
            let (count, time) = times.entry(name).or_default();
            *count += 1;
            *time += took;
        }
        Ok(())
    }
}

impl Profile {
    fn count(&mut self, step: &PlanStep) {
        match &step.op {
            Op::Host(host) => {
                *self.host.entry(host.name).or_default() += 1;
                self.read_backs +=
                    step.args.iter().filter(|arg| matches!(arg, Arg::Var(_))).count();
                self.uploads += step.outputs.len();
            }
            op if op.is_launch() => self.launches += 1,
            _ => self.views += 1,
        }
    }
}

fn bytes(form: &Form) -> usize {
    form.shape
        .iter()
        // Graphics cards hold narrower types in 32 bits.
        .fold(form.elem.bits().div_ceil(8).max(4), |size, dim| size.saturating_mul(*dim))
}
