//! Fusion of element-wise steps with results that only they use into one program.

use super::steps::Steps;
use crate::draft::Draft;
use crate::step::{INPUTS_MAX, INSTRUCTIONS_MAX, Instruction, Op, Operand, Program};
use crate::trace::{PlanTensor, Tracer};
use graph::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) fn run(_: &mut Tracer<'_>, steps: &mut Steps) -> Result<()> {
    // Backwards, so that a program begins with its last step and grows towards its inputs.
    for at in (0..steps.len()).rev() {
        if !steps.get(at).is_some_and(is_member) {
            continue;
        }
        let members = members(steps, at);
        let Some(draft) = program(steps, &members) else { continue };
        members.into_iter().for_each(|member| steps.remove(member));
        steps.put(at, draft);
    }
    Ok(())
}

fn is_member(draft: &Draft) -> bool {
    let rank = draft.result().map_or(0, |(_, form)| form.shape.len());
    // Programs broadcast along axes of length 1, and do not add axes.
    let ranked = draft.inputs.iter().all(|input| input.rank() == rank);
    draft.op.is_by_element() && draft.is_float() && ranked
}

/// The steps with results of one shape that only members use, up to `last`.
fn members(steps: &Steps, last: usize) -> BTreeSet<usize> {
    let mut members = BTreeSet::from([last]);
    let Some(shape) = steps.get(last).and_then(Draft::result).map(|(_, form)| &form.shape) else {
        return members;
    };
    loop {
        let inputs = members.iter().filter_map(|at| steps.get(*at)).flat_map(|own| &own.inputs);
        let makers = inputs.filter(|input| input.shape == *shape);
        let makers = makers.filter_map(|input| steps.maker(input));
        let own = |(at, draft): &(usize, &Draft)| {
            let users = draft.result().and_then(|(var, _)| steps.users(var));
            !members.contains(at)
                && is_member(draft)
                && users.is_some_and(|users| users.iter().all(|user| members.contains(user)))
        };
        // The latest maker first: only then may all users of an earlier one be members.
        let next = makers.filter(own).map(|(at, _)| at).max();
        let Some(next) = next.filter(|_| members.len() < INSTRUCTIONS_MAX) else { return members };
        members.insert(next);
        if outside(steps, &members).len() > INPUTS_MAX {
            // A smaller program is valid too, and the step stays a step of its own.
            members.remove(&next);
            return members;
        }
    }
}

/// The inputs of the members that come from other steps, each once.
fn outside(steps: &Steps, members: &BTreeSet<usize>) -> Vec<PlanTensor> {
    let mut found: Vec<PlanTensor> = Vec::new();
    let drafts = members.iter().filter_map(|at| steps.get(*at));
    for input in drafts.flat_map(|draft| &draft.inputs) {
        let inside = steps.maker(input).is_some_and(|(at, _)| members.contains(&at));
        if !inside && !found.iter().any(|known| known.is(input)) {
            found.push(input.clone());
        }
    }
    found
}

fn program(steps: &Steps, members: &BTreeSet<usize>) -> Option<Draft> {
    let inputs = outside(steps, members);
    let mut results = BTreeMap::new();
    let mut instructions = Vec::new();
    for at in members {
        let draft = steps.get(*at)?;
        let operand = |input: &PlanTensor| match input.var().and_then(|var| results.get(&var)) {
            Some(result) => Some(Operand::Result(*result)),
            None => inputs.iter().position(|known| known.is(input)).map(Operand::Input),
        };
        let operands = draft.inputs.iter().map(operand).collect::<Option<Vec<_>>>()?;
        results.insert(draft.result()?.0, instructions.len());
        instructions.push(Instruction { op: draft.op.clone(), operands });
    }
    let last = steps.get(*members.last()?)?;
    let op = Op::Elements(Arc::new(Program { instructions }));
    Some(Draft { op, inputs, ..last.clone() })
}
