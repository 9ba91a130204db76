//! A plan: the steps that compute the answers to requests of one set of shapes.

use super::host::HostTensor;
use super::native_tensor::NativeTensor;
use super::runtime_value::{Form, RuntimeValue, form};
use super::step::{HostOp, HostRun, Op};
use super::tensor::{DeviceTensor, TensorPlace, at_least_1d, to_data, to_raw};
use graph::elem::Elem;
use graph::error::{NodeLabel, OnnxError, Result};
use graph::raw::FileTensor;
use std::sync::Arc;

/// An argument of a step.
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
    /// Types and shapes of the arguments, for steps of the host.
    pub(crate) forms: Vec<Form>,
    /// The variables of the results, and their types and shapes.
    pub(crate) outputs: Vec<(usize, Form)>,
    /// The node that the step belongs to.
    pub(crate) node: Option<Arc<NodeLabel>>,
    /// Results with their last use in this step.
    pub(crate) last: Vec<usize>,
}

/// An item of a plan.
#[derive(Clone, Debug)]
pub(crate) enum PlanItem {
    Step(PlanStep),
    /// The plan is valid only while this small result equals the one at its making.
    Guard(usize, HostTensor),
}

/// The reason why a run of a plan ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Values differ from those that the plan was made for: a new plan is needed.
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
            Stop::Stale => OnnxError::internal("a value changed during the run"),
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
                // NaN differs from itself, so that a guard with NaN makes the plan stale each time.
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
            // Results are freed before the step, so that it may work in place.
            self.forget(&step.last);
            let result = step.op.run(inputs)?;
            self.put(step, result)?;
        }
        // Again, since `last` also names results of this step that no other step uses.
        self.forget(&step.last);
        Ok(())
    }

    fn put(&mut self, step: &PlanStep, result: DeviceTensor) -> Result<()> {
        let Some((var, form)) = step.outputs.first() else { return Ok(()) };
        let expected = at_least_1d(&form.shape);
        let found = result.shape();
        // A wrong shape would otherwise be an error of a later step, which names another node.
        if found != expected {
            return Err(OnnxError::internal(format!(
                "{:?} returned the shape {found:?}, not {expected:?}",
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
        value.ok_or_else(|| OnnxError::internal(format!("value {var} was freed too early")))
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
                RuntimeValue::Text(_) => {
                    Err(OnnxError::unsupported("text cannot be moved to a device"))
                }
            },
            Arg::Host(host) => {
                Ok(DeviceTensor::upload(to_data(host, &self.place)?, &self.place.device))
            }
        }
    }

    /// Reads a value back from the device.
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
                let hold = |result: NativeTensor| Ok((result.form(), result.hold(&self.place)?));
                results.map(hold).collect::<Result<_>>()?
            }
        };
        for ((var, form), (found, held)) in step.outputs.iter().zip(held) {
            if found != *form {
                return Err(OnnxError::internal(format!(
                    "{}: returned {found:?}, not {form:?}",
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

    fn native_args(&self, step: &PlanStep) -> Result<Vec<NativeTensor>> {
        let of = |tensor: &DeviceTensor, form: &Form| {
            Ok(NativeTensor::of_data(form.elem, form.shape.clone(), tensor.clone().read()?))
        };
        let arg = |(arg, form): (&Arg, &Form)| match arg {
            Arg::Host(host) => NativeTensor::of_host(host.clone()),
            Arg::Constant(tensor) => of(tensor, form),
            Arg::Var(var) => match self.get(*var)? {
                RuntimeValue::Text(host) => NativeTensor::of_host(host.clone()),
                RuntimeValue::Tensor(tensor) => of(tensor, form),
            },
        };
        step.args.iter().zip(&step.forms).map(arg).collect()
    }

    /// Moves a tensor of the host to this place.
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
    /// An output that does not depend on the inputs.
    Constant(Arc<FileTensor>),
}

/// The steps and outputs for requests of one set of shapes.
#[derive(Debug, Default)]
pub(crate) struct ExecutionPlan {
    pub(crate) items: Vec<PlanItem>,
    pub(crate) outputs: Vec<PlanOutput>,
    /// The remaining launches after each fusion pass, by its name.
    pub(crate) launches: Vec<(&'static str, usize)>,
}

impl ExecutionPlan {
    /// Runs the steps on inputs that are already in `env`.
    pub(crate) fn run(&self, env: &mut Env) -> Result<Vec<FileTensor>, Stop> {
        for item in &self.items {
            env.run(item)?;
        }
        Ok(self.outputs(env)?)
    }

    /// Reads the outputs back from the device.
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

    /// Marks the last use of each result, after which its memory is free.
    pub(crate) fn mark_last_uses(&mut self) {
        let mut used: std::collections::BTreeSet<usize> = std::collections::BTreeSet::new();
        // Outputs are read after the last step, so that no step may free them.
        used.extend(self.outputs.iter().filter_map(|output| match output {
            PlanOutput::Var(var, _) => Some(*var),
            PlanOutput::Constant(_) => None,
        }));
        // Backwards, the first use that is found is the last one of the run.
        for item in self.items.iter_mut().rev() {
            match item {
                PlanItem::Guard(var, _) => {
                    // A guard frees nothing, so that its value is kept to the end of the run.
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
