//! Programs: several element-wise steps that run as one.

use super::{Binary, Op, Unary};
use crate::tensor::DeviceTensor;
use graph::error::{OnnxError, Result};

/// Most instructions of a program: its intermediate results stay in the first-level cache.
pub(crate) const INSTRUCTIONS_MAX: usize = 24;
/// Most inputs of a program.
pub(crate) const INPUTS_MAX: usize = 8;

/// An operand of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    /// An input of the program.
    Input(usize),
    /// The result of an earlier instruction.
    Result(usize),
}

/// An element-wise step on floats: [`Op::Unary`], [`Op::Binary`], [`Op::Scalar`] or [`Op::Clamp`].
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub(crate) op: Op,
    pub(crate) operands: Vec<Operand>,
}

/// Instructions in order; the last one gives the result, to which the inputs are broadcast.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub(crate) instructions: Vec<Instruction>,
}

impl Op {
    /// Returns true if the step can be an instruction of a program, on 32-bit floats.
    pub(crate) fn is_by_element(&self) -> bool {
        match self {
            Op::Unary(unary) => !matches!(
                unary,
                Unary::IsInf | Unary::IsNan | Unary::Not | Unary::BitNot | Unary::Sign
            ),
            Op::Binary(binary) => matches!(
                binary,
                Binary::Add
                    | Binary::Sub
                    | Binary::Mul
                    | Binary::Div
                    | Binary::Max
                    | Binary::Min
                    | Binary::Pow
            ),
            Op::Scalar(..) | Op::Clamp(..) => true,
            _ => false,
        }
    }
}

/// Most instructions in a name.
const SHOWN: usize = 4;

impl Program {
    pub(crate) fn name(&self) -> String {
        let names = self.instructions.iter().map(|instruction| instruction.op.name());
        let mut names: Vec<String> = names.collect();
        if names.len() > SHOWN {
            let more = names.len() - SHOWN;
            names.truncate(SHOWN);
            names.push(format!("{more} more"));
        }
        names.join(" ")
    }

    /// For each instruction, the results that it is the last to use.
    pub(crate) fn last_uses(&self) -> Vec<Vec<usize>> {
        let mut last = vec![Vec::new(); self.instructions.len()];
        let user = |result| {
            let mut all = self.instructions.iter();
            all.rposition(|other| other.operands.contains(&Operand::Result(result)))
        };
        for result in 0..self.instructions.len() {
            if let Some(done) = user(result).and_then(|at| last.get_mut(at)) {
                done.push(result);
            }
        }
        last
    }

    /// Runs the instructions one by one with burn's operations.
    ///
    /// # Errors
    /// If an operand of an instruction is missing.
    pub(super) fn run(&self, inputs: Vec<DeviceTensor>) -> Result<DeviceTensor> {
        let missing = || OnnxError::internal("an operand of a program is missing");
        let mut results: Vec<Option<DeviceTensor>> = Vec::with_capacity(self.instructions.len());
        for (instruction, done) in self.instructions.iter().zip(self.last_uses()) {
            let operands = instruction.operands.iter().map(|operand| match operand {
                Operand::Input(at) => inputs.get(*at).cloned().ok_or_else(missing),
                Operand::Result(at) => results.get(*at).cloned().flatten().ok_or_else(missing),
            });
            let operands = operands.collect::<Result<Vec<_>, _>>()?;
            // Results are freed before the step, so that it may work in place.
            for result in done {
                results.get_mut(result).map(Option::take);
            }
            results.push(Some(instruction.op.run(operands)?));
        }
        results.pop().flatten().ok_or_else(missing)
    }
}
