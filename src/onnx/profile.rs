//! What a plan costs, counted: steps, what goes to the device and back, memory.

use super::op::Op;
use super::plan::{Arg, Form, Item, Output, Plan, Step};
use std::collections::BTreeMap;

/// What one run of a plan does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Steps on the device that compute something; each is a kernel at most, as burn fuses some.
    pub(crate) launches: usize,
    /// Steps that only look at elements in another way.
    pub(crate) views: usize,
    /// Steps of the host, by name.
    pub(crate) host: BTreeMap<&'static str, usize>,
    pub(crate) uploads: usize,
    pub(crate) read_backs: usize,
    /// Most bytes of results that are held at once, weights aside.
    pub(crate) bytes: usize,
}

impl Plan {
    /// `inputs`: how many there are, and what they are.
    pub(crate) fn profile(&self, inputs: &[Form]) -> Profile {
        let mut profile = Profile { uploads: inputs.len(), ..Profile::default() };
        let mut live: BTreeMap<usize, usize> = inputs.iter().map(bytes).enumerate().collect();
        for item in &self.items {
            match item {
                Item::Guard(..) => profile.read_backs += 1,
                Item::Step(step) => {
                    profile.count(step);
                    live.extend(step.outputs.iter().map(|(var, form)| (*var, bytes(form))));
                    profile.bytes = profile.bytes.max(live.values().sum());
                    step.last.iter().for_each(|var| {
                        live.remove(var);
                    });
                }
            }
        }
        let read = self.outputs.iter().filter(|output| matches!(output, Output::Var(..)));
        profile.read_backs += read.count();
        profile
    }
}

impl Profile {
    fn count(&mut self, step: &Step) {
        match &step.op {
            Op::Host(host) => {
                *self.host.entry(host.name).or_default() += 1;
                self.read_backs +=
                    step.args.iter().filter(|arg| matches!(arg, Arg::Var(_))).count();
                self.uploads += step.outputs.len();
            }
            Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) => self.views += 1,
            _ => self.launches += 1,
        }
    }
}

fn bytes(form: &Form) -> usize {
    form.shape
        .iter()
        .fold(form.elem.bits().div_ceil(8).max(4), |size, dim| size.saturating_mul(*dim))
}
