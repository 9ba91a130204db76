//! The steps of a plan during fusion, with the maker and the users of each result.

use crate::draft::{Draft, DraftItem};
use crate::step::{Binary, Op};
use crate::trace::PlanTensor;
use graph::elem::Elem;
use std::collections::{BTreeSet, HashMap};

pub(super) struct Steps {
    lines: Vec<Option<DraftItem>>,
    /// For each result, the step that makes it.
    makers: HashMap<usize, usize>,
    /// For each result, the steps that use it, once for each use.
    users: HashMap<usize, Vec<usize>>,
    /// Results that must not change: outputs, and values that plans guard.
    kept: BTreeSet<usize>,
}

impl Steps {
    pub(super) fn new(lines: Vec<DraftItem>, outputs: &[PlanTensor]) -> Steps {
        let mut steps = Steps {
            lines: Vec::with_capacity(lines.len()),
            makers: HashMap::new(),
            users: HashMap::new(),
            kept: outputs.iter().filter_map(PlanTensor::var).collect(),
        };
        for (at, line) in lines.into_iter().enumerate() {
            match line {
                DraftItem::Step(draft) => {
                    steps.lines.push(None);
                    steps.put(at, draft);
                }
                DraftItem::Guard(var, host) => {
                    steps.kept.insert(var);
                    steps.lines.push(Some(DraftItem::Guard(var, host)));
                }
            }
        }
        steps
    }

    pub(super) fn into_lines(self) -> Vec<DraftItem> {
        self.lines.into_iter().flatten().collect()
    }

    /// The number of slots for steps.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Draft> {
        match self.lines.get(at)? {
            Some(DraftItem::Step(draft)) => Some(draft),
            _ => None,
        }
    }

    /// Puts a step into a slot, which may be empty.
    pub(super) fn put(&mut self, at: usize, draft: Draft) {
        self.remove(at);
        for var in draft.inputs.iter().filter_map(PlanTensor::var) {
            self.users.entry(var).or_default().push(at);
        }
        self.makers.extend(draft.outputs.iter().map(|(var, _)| (*var, at)));
        if let Some(line) = self.lines.get_mut(at) {
            *line = Some(DraftItem::Step(draft));
        }
    }

    pub(super) fn remove(&mut self, at: usize) {
        let Some(Some(DraftItem::Step(draft))) = self.lines.get_mut(at).map(Option::take) else {
            return;
        };
        for var in draft.inputs.iter().filter_map(PlanTensor::var) {
            if let Some(users) = self.users.get_mut(&var) {
                users.retain(|user| *user != at);
            }
        }
        for (var, _) in &draft.outputs {
            // A later `put` may have moved the result to another step.
            if self.makers.get(var) == Some(&at) {
                self.makers.remove(var);
            }
        }
    }

    /// The step that makes a tensor.
    pub(super) fn maker(&self, t: &PlanTensor) -> Option<(usize, &Draft)> {
        let at = *self.makers.get(&t.var()?)?;
        Some((at, self.get(at)?))
    }

    /// The step that makes a tensor, if the tensor has a single use.
    pub(super) fn own_maker(&self, t: &PlanTensor) -> Option<(usize, &Draft)> {
        self.only_user(t.var()?)?;
        self.maker(t)
    }

    /// The steps that use a result, each once; `None` if it is needed elsewhere too.
    pub(super) fn users(&self, var: usize) -> Option<Vec<usize>> {
        if self.kept.contains(&var) {
            return None;
        }
        let mut users = self.users.get(&var).cloned().unwrap_or_default();
        // Uses by one step are adjacent in the list, since `put` adds them together.
        users.dedup();
        Some(users)
    }

    /// The step that uses a result, if it is the only use.
    pub(super) fn only_user(&self, var: usize) -> Option<(usize, &Draft)> {
        match self.users.get(&var)?[..] {
            [at] if !self.kept.contains(&var) => Some((at, self.get(at)?)),
            _ => None,
        }
    }

    /// The only step that uses the result of another one.
    pub(super) fn next(&self, draft: &Draft) -> Option<(usize, &Draft)> {
        let (var, _) = draft.result()?;
        self.only_user(var)
    }

    pub(super) fn launches(&self) -> usize {
        (0..self.len()).filter_map(|at| self.get(at)).filter(|draft| draft.op.is_launch()).count()
    }
}

impl Draft {
    /// Returns true if all inputs and outputs are floats of 32 bits.
    pub(super) fn is_float(&self) -> bool {
        let gives = self.outputs.iter().all(|(_, form)| form.elem == Elem::F32);
        gives && self.inputs.iter().all(|input| input.elem == Elem::F32)
    }

    /// The other operand of an operation of two with a result, and true if that result is on the
    /// left.
    pub(super) fn beside(&self, binary: Binary, var: usize) -> Option<(&PlanTensor, bool)> {
        match (&self.op, &self.inputs[..]) {
            (Op::Binary(own), [x, y]) if *own == binary => match (x.var(), y.var()) {
                (own, other) if own == Some(var) && other != Some(var) => Some((y, true)),
                (other, own) if own == Some(var) && other != Some(var) => Some((x, false)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The number of an operation with a number.
    pub(super) fn number(&self, binary: Binary) -> Option<f64> {
        match self.op {
            Op::Scalar(own, number) if own == binary => Some(number),
            _ => None,
        }
    }
}
