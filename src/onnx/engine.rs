//! A loaded model: its graph, its constants, and its plans.

use super::compile::{Compiler, panic_text};
use super::constants::{Constants, PlanLimits};
use super::control::{nothing, stack};
use super::host::HostTensor;
use super::plan::{Env, ExecutionPlan, Stop};
use super::profile::{Profile, Times};
use super::runtime_value::{Form, RuntimeValue};
use super::tensor::{DeviceTensor, TensorPlace, from_raw};
use super::trace::{PlanTensor, Tracer, Value};
use graph::elem::Elem;
use graph::error::{OnnxError, Result};
use graph::raw::{FileTensor, check_shape};
use graph::{ModelFile, Port};
use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Most plans of a model; the least recently used one is removed first.
const PLANS_MAX: usize = 64;

/// Types and shapes of all inputs; `None` for an omitted one.
type Key = Vec<Option<(Elem, Vec<usize>)>>;

/// The inputs of a request: those of the graph in their order, then the initialisers that a request
/// may override ([`graph::Graph::overridable`]). `None` for an omitted one.
type Given<'r> = [Option<&'r FileTensor>];

/// A loaded model on one device.
#[derive(Debug)]
pub struct Engine {
    file: ModelFile,
    tensors: HashMap<String, PlanTensor>,
    constants: Constants,
    place: TensorPlace,
    /// Plans with their last use, by the types and shapes of the inputs.
    plans: HashMap<Key, (Arc<ExecutionPlan>, u64)>,
    runs: u64,
}

impl Engine {
    /// # Errors
    /// If a tensor of the file cannot be converted.
    pub fn new(file: ModelFile, place: TensorPlace) -> Result<Engine> {
        Engine::limited(file, place, PlanLimits::default())
    }

    /// A model with other limits for its plans.
    ///
    /// # Errors
    /// If a tensor of the file cannot be converted.
    pub fn limited(file: ModelFile, place: TensorPlace, limits: PlanLimits) -> Result<Engine> {
        let mut tensors = HashMap::new();
        for (name, raw) in &file.graph.constants {
            let t = PlanTensor::of_file(raw)
                .map_err(|error| error.within(format!("tensor '{name}'")))?;
            tensors.insert(name.clone(), t);
        }
        let (constants, plans) = (Constants::new(limits), HashMap::new());
        Ok(Engine { file, tensors, constants, place, plans, runs: 0 })
    }

    pub(crate) fn weights_bytes(&self) -> usize {
        self.file.weights_bytes()
    }

    /// The costs of a run with such inputs; `None` without a plan for them.
    pub fn profile(&self, inputs: &[FileTensor]) -> Option<Profile> {
        let key = key_of(&all(inputs));
        let forms: Vec<Form> = inputs.iter().map(Form::of).collect();
        self.plans.get(&key).map(|(plan, _)| plan.profile(&forms))
    }

    /// Times the steps of the plan for such inputs, over several runs.
    ///
    /// # Errors
    /// If the plan does not exist, or fails.
    pub fn time(&self, inputs: &[FileTensor], runs: usize) -> Result<Times> {
        let key = key_of(&all(inputs));
        let (plan, _) =
            self.plans.get(&key).ok_or_else(|| OnnxError::internal("the plan does not exist"))?;
        let mut times = Times::new();
        for _ in 0..runs {
            let mut env = Env { place: self.place.clone(), values: Vec::new() };
            for (var, raw) in inputs.iter().enumerate() {
                env.set(var, hold(raw, &self.place)?);
            }
            plan.time(&mut env, &mut times)?;
        }
        Ok(times)
    }

    /// Runs the model with all inputs of the graph.
    ///
    /// # Errors
    /// Those of [`Engine::run_given`].
    pub fn run(&mut self, inputs: &[FileTensor]) -> Result<Vec<FileTensor>> {
        self.run_given(&all(inputs))
    }

    /// Runs the model with the plan for these shapes, which is made if it does not exist.
    ///
    /// # Errors
    /// Those of the operators, with the node. Panics if a driver does; the CPU has no driver, and a
    /// panic there becomes an error of the inputs.
    pub fn run_given(&mut self, inputs: &Given<'_>) -> Result<Vec<FileTensor>> {
        if !self.place.host {
            return self.answer(inputs);
        }
        let answer = catch_unwind(AssertUnwindSafe(|| self.answer(inputs)));
        answer.unwrap_or_else(|panic| Err(OnnxError::input(panic_text(panic.as_ref()))))
    }

    fn answer(&mut self, inputs: &Given<'_>) -> Result<Vec<FileTensor>> {
        // Checked first, since all later code multiplies these lengths of a client.
        inputs.iter().flatten().try_for_each(|raw| check_shape(&raw.shape))?;
        let key = key_of(inputs);
        self.runs += 1;
        if let Some((plan, used)) = self.plans.get_mut(&key) {
            *used = self.runs;
            let plan = plan.clone();
            let mut env = Env { place: self.place.clone(), values: Vec::new() };
            // `plan` numbers its variables in this order of the given inputs.
            for (var, raw) in inputs.iter().flatten().enumerate() {
                env.set(var, hold(raw, &self.place)?);
            }
            match plan.run(&mut env) {
                Ok(outputs) => return Ok(outputs),
                Err(Stop::Failed(error)) => return Err(error),
                // A guard found another value; the plan that is made now replaces this one.
                Err(Stop::Stale) => {}
            }
        }
        let (outputs, plan) = self.plan(inputs)?;
        match plan {
            Some(plan) => self.keep(key, plan),
            // A stale plan without a successor would be run, and stopped, by each request.
            None => {
                self.plans.remove(&key);
            }
        }
        Ok(outputs)
    }

    /// Runs the graph node by node without a plan, for comparison with plans.
    #[cfg(test)]
    pub(crate) fn interpret(&self, inputs: &[FileTensor]) -> Result<Vec<FileTensor>> {
        let mut constants = Constants::default();
        let mut t = Tracer::new(self.place.clone(), &mut constants);
        let mut input = |raw: &FileTensor| {
            Ok::<PlanTensor, OnnxError>(t.input(
                raw.elem,
                raw.shape.clone(),
                hold(raw, &self.place)?,
            ))
        };
        let values = inputs.iter().map(|raw| Ok(Value::Tensor(input(raw)?)));
        let values = values.collect::<Result<Vec<_>>>()?;
        let named = self.file.graph.constants.iter();
        let named = named.map(|(name, raw)| Ok((name.clone(), input(raw)?)));
        let named = named.collect::<Result<HashMap<_, _>>>()?;
        let outputs = Compiler { file: &self.file }.main(&mut t, values, &named)?;
        let outputs = answers(&mut t, &self.file.graph.outputs, outputs)?;
        Ok(t.finish(&outputs, false)?.0)
    }

    fn plan(&mut self, inputs: &Given<'_>) -> Result<(Vec<FileTensor>, Option<ExecutionPlan>)> {
        let graph = &self.file.graph;
        let (own, more) = inputs.split_at_checked(graph.inputs.len()).unwrap_or((inputs, &[]));
        if more.len() > graph.overridable.len() {
            return Err(OnnxError::input(format!("the graph has {} inputs", graph.inputs.len())));
        }
        let mut t = Tracer::new(self.place.clone(), &mut self.constants);
        let mut input = |raw: &FileTensor| {
            Ok::<PlanTensor, OnnxError>(t.input(
                raw.elem,
                raw.shape.clone(),
                hold(raw, &self.place)?,
            ))
        };
        let mut values = Vec::with_capacity(graph.inputs.len());
        // Inputs that are omitted at the end need not be listed.
        let own = own.iter().copied().chain(std::iter::repeat(None));
        for (port, raw) in graph.inputs.iter().zip(own) {
            values.push(match raw {
                Some(raw) => Value::Tensor(input(raw)?),
                None if port.is_optional() => Value::Optional(None),
                None => return Err(OnnxError::input(format!("input '{}' is missing", port.name))),
            });
        }
        // The map is copied only for a request that overrides an initialiser.
        let mut tensors = Cow::Borrowed(&self.tensors);
        for (port, raw) in graph.overridable.iter().zip(more) {
            if let Some(raw) = raw {
                tensors.to_mut().insert(port.name.clone(), input(raw)?);
            }
        }
        let outputs = Compiler { file: &self.file }.main(&mut t, values, &tensors)?;
        let outputs = answers(&mut t, &graph.outputs, outputs)?;
        t.finish(&outputs, true)
    }

    fn keep(&mut self, key: Key, plan: ExecutionPlan) {
        if self.plans.len() >= PLANS_MAX {
            // A scan of 64 entries costs little beside the making of the plan that is kept.
            let oldest = self.plans.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.plans.remove(&oldest);
            }
        }
        self.plans.insert(key, (Arc::new(plan), self.runs));
    }
}

fn all(inputs: &[FileTensor]) -> Vec<Option<&FileTensor>> {
    inputs.iter().map(Some).collect()
}

/// Omitted inputs after the last given one have no effect.
fn key_of(inputs: &Given<'_>) -> Key {
    let given = inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let form = |raw: &&FileTensor| (raw.elem, raw.shape.clone());
    inputs.iter().take(given).map(|raw| raw.as_ref().map(form)).collect()
}

/// The outputs as tensors.
fn answers(t: &mut Tracer<'_>, ports: &[Port], values: Vec<Value>) -> Result<Vec<PlanTensor>> {
    let both = ports.iter().zip(values);
    let tensors = both.map(|(port, value)| {
        tensor(t, port, value).map_err(|error| error.within(format!("output '{}'", port.name)))
    });
    tensors.collect()
}

/// A value as a tensor: that of an optional value; a sequence is stacked along a new first axis,
/// like a list of equal arrays in `numpy.asarray`.
fn tensor(t: &mut Tracer<'_>, port: &Port, value: Value) -> Result<PlanTensor> {
    match value {
        Value::Tensor(tensor) => Ok(tensor),
        Value::Optional(Some(value)) => tensor(t, port, *value),
        Value::Optional(None) => Err(OnnxError::input("the optional value is missing")),
        Value::Sequence(values) => {
            let parts = values.into_iter().map(|value| tensor(t, port, value));
            let parts = parts.collect::<Result<Vec<PlanTensor>>>()?;
            let alike = |(a, b): (&PlanTensor, &PlanTensor)| a.elem == b.elem && a.shape == b.shape;
            if !parts.iter().zip(parts.iter().skip(1)).all(alike) {
                let what = "a sequence of tensors that differ in type or shape";
                return Err(OnnxError::unsupported(format!(
                    "{what} cannot be returned; concatenate them in the graph"
                )));
            }
            if parts.is_empty() { nothing(t, Some(port)) } else { stack(t, &parts, 0, Elem::F32) }
        }
    }
}

fn hold(raw: &FileTensor, place: &TensorPlace) -> Result<RuntimeValue> {
    if raw.elem == Elem::Text {
        return Ok(RuntimeValue::Text(Arc::new(HostTensor::from_raw(raw))));
    }
    Ok(RuntimeValue::Tensor(DeviceTensor::upload(from_raw(raw, place)?, &place.device)))
}

impl Form {
    pub(crate) fn of(raw: &FileTensor) -> Form {
        Form { elem: raw.elem, shape: raw.shape.clone() }
    }
}

#[cfg(test)]
#[path = "random_tests.rs"]
mod random_tests;
#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
