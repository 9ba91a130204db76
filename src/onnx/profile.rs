//! What a plan costs, counted: steps, what goes to the device and back, memory.

use super::held::Form;
use super::op::Op;
use super::plan::{Arg, Env, ExecutionPlan, PlanItem, PlanOutput, PlanStep, Stop};
use std::collections::BTreeMap;
use std::time::Duration;
use types::clock;

/// What one run of a plan does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Steps on the device that compute something; each is a kernel at most, as burn fuses some.
    pub launches: usize,
    /// Steps that only look at elements in another way.
    pub(crate) views: usize,
    /// Steps of the host, by name.
    pub host: BTreeMap<&'static str, usize>,
    pub uploads: usize,
    pub read_backs: usize,
    /// Most bytes of results that are held at once, weights aside.
    pub bytes: usize,
    /// Launches that each way of fusing left, in order; the first is none.
    pub fused: Vec<(&'static str, usize)>,
}

impl ExecutionPlan {
    /// `inputs`: how many there are, and what they are.
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

/// Steps of one kind: how many there are, and how long they took together.
pub type Times = BTreeMap<String, (usize, Duration)>;

impl ExecutionPlan {
    /// Runs with a clock at each step. Only where steps are done when they return, as on the CPU,
    /// do the times say what each costs.
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
        .fold(form.elem.bits().div_ceil(8).max(4), |size, dim| size.saturating_mul(*dim))
}
