//! A plan: the steps that answer requests of one set of shapes.

use super::cells::Cells;
use super::held::{Form, RuntimeValue, form};
use super::host::HostTensor;
use super::op::{HostOp, HostRun, Op};
use super::tensor::{DeviceTensor, TensorPlace, at_least_1d, to_data, to_raw};
use graph::elem::Elem;
use graph::error::{NodeLabel, OnnxError, Result};
use graph::raw::FileTensor;
use std::sync::Arc;

/// What a step takes.
#[allow(clippy::large_enum_variant, reason = "a plan has few of them")]
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    /// The result of an earlier step, or an input.
    Var(usize),
    /// A constant on the device.
    Constant(DeviceTensor),
    /// A constant on the host, for a step of the host.
    Host(Arc<HostTensor>),
}

#[derive(Clone, Debug)]
pub(crate) struct PlanStep {
    pub(crate) op: Op,
    pub(crate) args: Vec<Arg>,
    /// Forms of the arguments, for steps of the host.
    pub(crate) forms: Vec<Form>,
    /// Where the results go, and what they are.
    pub(crate) outputs: Vec<(usize, Form)>,
    /// The node that it is a part of.
    pub(crate) node: Option<Arc<NodeLabel>>,
    /// Results that no later step uses.
    pub(crate) last: Vec<usize>,
}

/// What a plan does, in order.
#[derive(Clone, Debug)]
pub(crate) enum PlanItem {
    Step(PlanStep),
    /// The plan holds only while this small result is what it was when the plan was made.
    Guard(usize, HostTensor),
}

/// How a run of a plan can end early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Values differ from those that the plan was made for: it is to be made anew.
    Stale,
    Failed(OnnxError),
}

impl From<OnnxError> for Stop {
    fn from(error: OnnxError) -> Stop {
        Stop::Failed(error)
    }
}

impl From<Stop> for OnnxError {
    fn from(stop: Stop) -> OnnxError {
        match stop {
            Stop::Failed(error) => error,
            Stop::Stale => OnnxError::internal("a value changed while it was used"),
        }
    }
}

/// The values while a plan runs.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) place: TensorPlace,
    pub(crate) values: Vec<Option<RuntimeValue>>,
}

impl Env {
    pub(crate) fn run(&mut self, item: &PlanItem) -> Result<(), Stop> {
        match item {
            PlanItem::Step(step) => self.step(step).map_err(|error| {
                Stop::Failed(match &step.node {
                    Some(node) => error.at(node),
                    None => error,
                })
            }),
            PlanItem::Guard(var, expected) => {
                let found = self.read(*var, &form(expected))?;
                if found == *expected { Ok(()) } else { Err(Stop::Stale) }
            }
        }
    }

    fn step(&mut self, step: &PlanStep) -> Result<()> {
        if let Op::Host(host) = &step.op {
            self.host_step(step, host)?;
        } else {
            let inputs = step.args.iter().map(|arg| self.device_arg(arg));
            let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
            // Before the step, so that it may work in place.
            self.forget(&step.last);
            let result = step.op.run(inputs)?;
            self.put(step, result)?;
        }
        self.forget(&step.last);
        Ok(())
    }

    fn put(&mut self, step: &PlanStep, result: DeviceTensor) -> Result<()> {
        let Some((var, form)) = step.outputs.first() else { return Ok(()) };
        let expected = at_least_1d(&form.shape);
        let found = result.shape();
        if found != expected {
            return Err(OnnxError::internal(format!(
                "{:?} gave the shape {found:?}, not {expected:?}",
                step.op
            )));
        }
        self.set(*var, RuntimeValue::Tensor(result));
        Ok(())
    }

    pub(crate) fn set(&mut self, var: usize, value: RuntimeValue) {
        if self.values.len() <= var {
            self.values.resize(var + 1, None);
        }
        if let Some(place) = self.values.get_mut(var) {
            *place = Some(value);
        }
    }

    pub(crate) fn get(&self, var: usize) -> Result<&RuntimeValue> {
        let value = self.values.get(var).and_then(Option::as_ref);
        value.ok_or_else(|| OnnxError::internal(format!("value {var} is gone")))
    }

    fn forget(&mut self, vars: &[usize]) {
        for var in vars {
            if let Some(place) = self.values.get_mut(*var) {
                *place = None;
            }
        }
    }

    fn device_arg(&self, arg: &Arg) -> Result<DeviceTensor> {
        match arg {
            Arg::Constant(tensor) => Ok(tensor.clone()),
            Arg::Var(var) => match self.get(*var)? {
                RuntimeValue::Tensor(tensor) => Ok(tensor.clone()),
                RuntimeValue::Text(_) => Err(OnnxError::unsupported("text cannot go to a device")),
            },
            Arg::Host(host) => {
                Ok(DeviceTensor::upload(to_data(host, &self.place)?, &self.place.device))
            }
        }
    }

    /// Reads a value back.
    pub(crate) fn read(&self, var: usize, form: &Form) -> Result<HostTensor> {
        match self.get(var)? {
            RuntimeValue::Text(host) => Ok((**host).clone()),
            RuntimeValue::Tensor(tensor) => {
                HostTensor::from_data(form.elem, form.shape.clone(), tensor.clone().read()?)
            }
        }
    }

    fn host_step(&mut self, step: &PlanStep, host: &HostOp) -> Result<()> {
        let held: Vec<(Form, RuntimeValue)> = match &host.run {
            HostRun::Wide(run) => {
                let inputs = self.wide_args(step)?;
                let results = run(&inputs)?.into_iter();
                let hold = |result: HostTensor| Ok((form(&result), self.hold(result)?));
                results.map(hold).collect::<Result<_>>()?
            }
            HostRun::Native(run) => {
                let inputs = self.native_args(step)?;
                let results = run(&inputs)?.into_iter();
                let hold = |result: Cells| Ok((result.form(), result.hold(&self.place)?));
                results.map(hold).collect::<Result<_>>()?
            }
        };
        for ((var, form), (found, held)) in step.outputs.iter().zip(held) {
            if found != *form {
                return Err(OnnxError::internal(format!(
                    "{}: gave {found:?}, not {form:?}",
                    host.name
                )));
            }
            self.set(*var, held);
        }
        Ok(())
    }

    fn wide_args(&self, step: &PlanStep) -> Result<Vec<HostTensor>> {
        let arg = |(arg, form): (&Arg, &Form)| match arg {
            Arg::Host(host) => Ok((**host).clone()),
            Arg::Var(var) => self.read(*var, form),
            Arg::Constant(tensor) => {
                HostTensor::from_data(form.elem, form.shape.clone(), tensor.clone().read()?)
            }
        };
        step.args.iter().zip(&step.forms).map(arg).collect()
    }

    fn native_args(&self, step: &PlanStep) -> Result<Vec<Cells>> {
        let of = |tensor: &DeviceTensor, form: &Form| {
            Ok(Cells::of_data(form.elem, form.shape.clone(), tensor.clone().read()?))
        };
        let arg = |(arg, form): (&Arg, &Form)| match arg {
            Arg::Host(host) => Cells::of_host(host.clone()),
            Arg::Constant(tensor) => of(tensor, form),
            Arg::Var(var) => match self.get(*var)? {
                RuntimeValue::Text(host) => Cells::of_host(host.clone()),
                RuntimeValue::Tensor(tensor) => of(tensor, form),
            },
        };
        step.args.iter().zip(&step.forms).map(arg).collect()
    }

    /// Puts a tensor of the host where this place's tensors are.
    pub(crate) fn hold(&self, host: HostTensor) -> Result<RuntimeValue> {
        if host.elem == Elem::Text {
            return Ok(RuntimeValue::Text(Arc::new(host)));
        }
        Ok(RuntimeValue::Tensor(DeviceTensor::upload(
            to_data(&host, &self.place)?,
            &self.place.device,
        )))
    }
}

/// An output of a plan.
#[derive(Clone, Debug)]
pub(crate) enum PlanOutput {
    Var(usize, Form),
    /// Does not depend on the inputs.
    Constant(Arc<FileTensor>),
}

/// Everything that answers requests of one set of shapes.
#[derive(Debug, Default)]
pub(crate) struct ExecutionPlan {
    pub(crate) items: Vec<PlanItem>,
    pub(crate) outputs: Vec<PlanOutput>,
    /// Launches that were left after each way of fusing, by its name.
    pub(crate) launches: Vec<(&'static str, usize)>,
}

impl ExecutionPlan {
    /// Runs on inputs that are at their places in `env` already.
    pub(crate) fn run(&self, env: &mut Env) -> Result<Vec<FileTensor>, Stop> {
        for item in &self.items {
            env.run(item)?;
        }
        Ok(self.outputs(env)?)
    }

    /// Reads the outputs back.
    pub(crate) fn outputs(&self, env: &Env) -> Result<Vec<FileTensor>> {
        let read = |output: &PlanOutput| match output {
            PlanOutput::Constant(raw) => Ok((**raw).clone()),
            PlanOutput::Var(var, form) => match env.get(*var)? {
                RuntimeValue::Text(host) => Ok(host.to_raw()),
                RuntimeValue::Tensor(tensor) => {
                    to_raw(form.elem, form.shape.clone(), tensor.clone().read()?)
                }
            },
        };
        self.outputs.iter().map(read).collect()
    }

    /// Says of each result which step is the last to use it, so that its memory is free then.
    pub(crate) fn mark_last_uses(&mut self) {
        let mut used: std::collections::BTreeSet<usize> = std::collections::BTreeSet::new();
        used.extend(self.outputs.iter().filter_map(|output| match output {
            PlanOutput::Var(var, _) => Some(*var),
            PlanOutput::Constant(_) => None,
        }));
        for item in self.items.iter_mut().rev() {
            match item {
                PlanItem::Guard(var, _) => {
                    used.insert(*var);
                }
                PlanItem::Step(step) => {
                    let vars = step.args.iter().filter_map(|arg| match arg {
                        Arg::Var(var) => Some(*var),
                        _ => None,
                    });
                    let results = step.outputs.iter().map(|(var, _)| *var);
                    step.last = vars.chain(results).filter(|var| used.insert(*var)).collect();
                    step.last.sort_unstable();
                    step.last.dedup();
                }
            }
        }
    }
}
