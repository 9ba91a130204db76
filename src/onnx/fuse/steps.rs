//! The steps of a plan in the making, with who makes and who takes what.

use crate::draft::{Draft, DraftItem};
use crate::op::{Binary, Op};
use crate::trace::T;
use graph::elem::Elem;
use std::collections::{BTreeSet, HashMap};

pub(super) struct Steps {
    lines: Vec<Option<DraftItem>>,
    /// By result: the step that it comes from.
    makers: HashMap<usize, usize>,
    /// By result: steps that take it, once for each time.
    users: HashMap<usize, Vec<usize>>,
    /// Results that are needed as they are: outputs and what plans hold on to.
    kept: BTreeSet<usize>,
}

impl Steps {
    pub(super) fn new(lines: Vec<DraftItem>, outputs: &[T]) -> Steps {
        let mut steps = Steps {
            lines: Vec::with_capacity(lines.len()),
            makers: HashMap::new(),
            users: HashMap::new(),
            kept: outputs.iter().filter_map(T::var).collect(),
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

    /// How many places there are for steps.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Draft> {
        match self.lines.get(at)? {
            Some(DraftItem::Step(draft)) => Some(draft),
            _ => None,
        }
    }

    /// Puts a step where there is none, or instead of the one that is there.
    pub(super) fn put(&mut self, at: usize, draft: Draft) {
        self.remove(at);
        for var in draft.inputs.iter().filter_map(T::var) {
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
        for var in draft.inputs.iter().filter_map(T::var) {
            if let Some(users) = self.users.get_mut(&var) {
                users.retain(|user| *user != at);
            }
        }
        for (var, _) in &draft.outputs {
            if self.makers.get(var) == Some(&at) {
                self.makers.remove(var);
            }
        }
    }

    /// The step that makes this.
    pub(super) fn maker(&self, t: &T) -> Option<(usize, &Draft)> {
        let at = *self.makers.get(&t.var()?)?;
        Some((at, self.get(at)?))
    }

    /// The step that makes this, if nobody else takes it than one step, once.
    pub(super) fn own_maker(&self, t: &T) -> Option<(usize, &Draft)> {
        self.only_user(t.var()?)?;
        self.maker(t)
    }

    /// Steps that take a result, each once; `None` if it is needed otherwise too.
    pub(super) fn users(&self, var: usize) -> Option<Vec<usize>> {
        if self.kept.contains(&var) {
            return None;
        }
        let mut users = self.users.get(&var).cloned().unwrap_or_default();
        users.dedup();
        Some(users)
    }

    /// The step that takes a result, if it is the only one and takes it once.
    pub(super) fn only_user(&self, var: usize) -> Option<(usize, &Draft)> {
        match self.users.get(&var)?[..] {
            [at] if !self.kept.contains(&var) => Some((at, self.get(at)?)),
            _ => None,
        }
    }

    /// The step that takes the result of another, if it is the only one.
    pub(super) fn next(&self, draft: &Draft) -> Option<(usize, &Draft)> {
        let (var, _) = draft.result()?;
        self.only_user(var)
    }

    pub(super) fn launches(&self) -> usize {
        (0..self.len()).filter_map(|at| self.get(at)).filter(|draft| draft.op.is_launch()).count()
    }
}

impl Draft {
    /// Whether all that it takes and gives are floats of 32 bits.
    pub(super) fn is_float(&self) -> bool {
        let gives = self.outputs.iter().all(|(_, form)| form.elem == Elem::F32);
        gives && self.inputs.iter().all(|input| input.elem == Elem::F32)
    }

    /// What an operation of two has beside the result of another step, and whether that result
    /// stands on the left.
    pub(super) fn beside(&self, binary: Binary, var: usize) -> Option<(&T, bool)> {
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
