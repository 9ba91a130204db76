//! Fusion of a program into the step before it, such as a convolution: it runs on the result while
//! that is in the cache.

use super::steps::Steps;
use crate::draft::Draft;
use crate::step::{Instruction, Op, Operand, Program};
use crate::trace::{PlanTensor, Tracer};
use graph::error::Result;
use std::sync::Arc;

pub(super) fn run(_: &mut Tracer<'_>, steps: &mut Steps) -> Result<()> {
    for at in 0..steps.len() {
        if let Some((parts, draft)) = find(steps, at) {
            parts.into_iter().for_each(|part| steps.remove(part));
            steps.put(at, draft);
        }
    }
    Ok(())
}

/// The program in a slot, with the last of the steps before it; reshapes are skipped.
fn find(steps: &Steps, at: usize) -> Option<(Vec<usize>, Draft)> {
    let draft = steps.get(at)?;
    let Op::Elements(program) = &draft.op else { return None };
    let shape = &draft.result()?.1.shape;
    let before = |(input, t): (usize, &PlanTensor)| {
        let (mut own, mut maker) = steps.own_maker(t).filter(|_| t.shape == *shape)?;
        let mut parts = vec![own];
        if let (Op::Reshape(_), Some(x)) = (&maker.op, maker.inputs.first()) {
            (own, maker) = steps.own_maker(x)?;
            parts.push(own);
        }
        (maker.op.is_anchor() && maker.is_float()).then_some((own, input, parts, maker))
    };
    let found = draft.inputs.iter().enumerate().filter_map(before).max_by_key(|found| found.0);
    let (_, input, parts, anchor) = found?;
    let program = Arc::new(moved(program, input));
    let op = Op::Then(Arc::new(anchor.op.clone()), anchor.inputs.len(), shape.clone(), program);
    let rest = draft.inputs.iter().enumerate().filter(|(other, _)| *other != input);
    let inputs = anchor.inputs.iter().chain(rest.map(|(_, t)| t)).cloned().collect();
    Some((parts, Draft { op, inputs, outputs: draft.outputs.clone(), node: anchor.node.clone() }))
}

/// The program with one of its inputs as the first, the others after it.
fn moved(program: &Program, first: usize) -> Program {
    let to = |operand: &Operand| match *operand {
        Operand::Input(at) if at == first => Operand::Input(0),
        // Inputs in front of the moved one shift back by one; those behind it keep their number.
        Operand::Input(at) if at < first => Operand::Input(at + 1),
        other => other,
    };
    let instructions = program.instructions.iter().map(|instruction| Instruction {
        op: instruction.op.clone(),
        operands: instruction.operands.iter().map(to).collect(),
    });
    Program { instructions: instructions.collect() }
}
