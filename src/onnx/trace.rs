//! Makes plans: operators call the tracer, which records their steps.
//!
//! Steps that depend only on constants and shapes run at once on the host, and their results are
//! constants again; the others become steps of the plan. If an operator needs a value to continue
//! (the length of a loop, the branch to take), the steps so far are run and the value is read.

use super::constants::Constants;
use super::draft::{Draft, DraftItem};
use super::host::HostTensor;
use super::native_tensor::NativeTensor;
use super::plan::{Arg, Env, ExecutionPlan, PlanItem, PlanOutput, PlanStep};
use super::runtime_value::{Form, RuntimeValue};
use super::step::{HostOp, HostRun, Op};
use super::tensor::{DeviceTensor, TensorPlace, at_least_1d, to_data};
use super::value::{Constant, TensorSlot};
use crate::text_moves;
use burn::tensor::DType;
use graph::elem::{Elem, Kind};
use graph::error::{NodeLabel, OnnxError, Result};
use graph::raw::FileTensor;
use std::cell::Cell;
use std::sync::Arc;

pub(crate) use super::value::{PlanTensor, Value};

/// Most elements of a value that is expected to be the same for later requests.
const GUARD_MAX: usize = 16;

/// Most numbers that the plans of a model share.
const NUMBERS_MAX: usize = 4096;

/// A function of the host.
type Run<'r> = &'r dyn Fn(&[HostTensor]) -> Result<Vec<HostTensor>>;

/// A recorder of a plan.
#[derive(Debug)]
pub(crate) struct Tracer<'a> {
    host: TensorPlace,
    pub(super) constants: &'a mut Constants,
    env: Env,
    lines: Vec<DraftItem>,
    vars: usize,
    /// Nodes, rounds and results so far: see [`super::PlanLimits`].
    node_runs: Cell<usize>,
    /// The number of lines that have been run already.
    done: usize,
    node: Option<Arc<NodeLabel>>,
    /// A value was read that is likely to differ for the next request.
    uncacheable: bool,
    /// Steps are being run: a panic is then a fault of the device, not of the graph.
    running: bool,
}

impl<'a> Tracer<'a> {
    /// Counts a node, a round of a body or a result.
    ///
    /// # Errors
    /// If the limit is exceeded.
    pub(crate) fn count_node_run(&self) -> Result<()> {
        let most = self.constants.limits.node_runs;
        self.node_runs.set(self.node_runs.get() + 1);
        if self.node_runs.get() > most {
            return Err(OnnxError::limit(format!(
                "the graph has more than {most} nodes and results"
            )));
        }
        Ok(())
    }

    pub(crate) fn new(place: TensorPlace, constants: &'a mut Constants) -> Tracer<'a> {
        let env = Env { place, values: Vec::new() };
        Tracer {
            host: TensorPlace::host(),
            constants,
            env,
            lines: Vec::new(),
            vars: 0,
            node_runs: Cell::new(0),
            done: 0,
            node: None,
            uncacheable: false,
            running: false,
        }
    }

    /// Sets the node of the next steps; returns the previous one.
    pub(crate) fn enter(&mut self, node: Option<Arc<NodeLabel>>) -> Option<Arc<NodeLabel>> {
        std::mem::replace(&mut self.node, node)
    }

    pub(crate) fn place(&self) -> &TensorPlace {
        &self.env.place
    }

    /// Returns true if a panic comes from a device, not from a graph that contradicts itself.
    pub(crate) fn is_device_at_work(&self) -> bool {
        self.running && !self.env.place.host
    }

    pub(crate) fn host_place(&self) -> TensorPlace {
        self.host.clone()
    }

    /// An input, with its value in this request.
    pub(crate) fn input(
        &mut self,
        elem: Elem,
        shape: Vec<usize>,
        held: RuntimeValue,
    ) -> PlanTensor {
        let var = self.var();
        self.env.set(var, held);
        PlanTensor { elem, shape, slot: TensorSlot::Var(var) }
    }

    fn var(&mut self) -> usize {
        self.vars += 1;
        self.vars - 1
    }

    /// A tensor of the file from a node or a body: the same one for all plans.
    ///
    /// # Errors
    /// If its data do not fit its type.
    pub(crate) fn of_file(&mut self, raw: &Arc<FileTensor>) -> Result<PlanTensor> {
        let place = Arc::as_ptr(raw).addr();
        if let Some(known) = self.constants.files.get(&place) {
            return Ok(known.clone());
        }
        let made = PlanTensor::of_file(raw)?;
        self.constants.files.insert(place, made.clone());
        Ok(made)
    }

    /// A constant from the host.
    ///
    /// # Errors
    /// If it is too large.
    pub(crate) fn constant(&self, host: HostTensor) -> Result<PlanTensor> {
        self.fits(host.elem, &host.shape)?;
        let (elem, shape) = (host.elem, host.shape.clone());
        let held = if elem == Elem::Text {
            RuntimeValue::Text(Arc::new(host))
        } else {
            RuntimeValue::Tensor(DeviceTensor::upload(
                to_data(&host, &self.host)?,
                &self.host.device,
            ))
        };
        Ok(PlanTensor::constant(elem, shape, held, false))
    }

    /// A number as a scalar of a type: the same one for all plans.
    ///
    /// # Errors
    /// For text.
    pub(crate) fn number(&mut self, elem: Elem, value: f64) -> Result<PlanTensor> {
        // By bits: 0.0 and -0.0 differ, and NaN is found again.
        let key = (elem, value.to_bits());
        if let Some(known) = self.constants.numbers.get(&key) {
            return Ok(known.clone());
        }
        let host = HostTensor::numbers(elem, vec![], vec![value]);
        let data = to_data(&host, &self.host)?;
        let held = RuntimeValue::Tensor(DeviceTensor::upload(data, &self.host.device));
        // Lengths of requests become numbers as well, so that the table needs a bound.
        let shared = self.constants.numbers.len() < NUMBERS_MAX;
        let made = PlanTensor::constant(elem, vec![], held, shared);
        if shared {
            self.constants.numbers.insert(key, made.clone());
        }
        Ok(made)
    }

    /// A step, or a constant if all of its inputs are constants.
    ///
    /// `shape` is the expected shape of the result.
    ///
    /// # Errors
    /// If the result is too large or the operation fails on constants.
    pub(crate) fn emit(
        &mut self,
        op: Op,
        inputs: &[&PlanTensor],
        elem: Elem,
        shape: Vec<usize>,
    ) -> Result<PlanTensor> {
        if elem == Elem::Text && shape.contains(&0) {
            return self.constant(HostTensor::text(shape, vec![]));
        }
        if elem == Elem::Text {
            let run = text_moves::mover(op, shape.clone())?;
            let moved = self.native_op("words", inputs, &[(Elem::Text, shape)], run)?;
            return moved
                .into_iter()
                .next()
                .ok_or_else(|| OnnxError::internal("a result is missing"));
        }
        self.fits(elem, &shape)?;
        if shape.contains(&0) {
            // Nothing to compute, and few kernels accept a tensor without elements.
            return self.constant(HostTensor::numbers(elem, shape, vec![]));
        }
        if inputs.iter().all(|input| input.is_constant()) {
            return self.fold(&op, inputs, elem, shape);
        }
        let form = Form { elem, shape: shape.clone() };
        let outputs = self.push(op, inputs, vec![form])?;
        let var = outputs.first().copied().unwrap_or_default();
        Ok(PlanTensor { elem, shape, slot: TensorSlot::Var(var) })
    }

    fn fold(
        &mut self,
        op: &Op,
        inputs: &[&PlanTensor],
        elem: Elem,
        shape: Vec<usize>,
    ) -> Result<PlanTensor> {
        let constants: Vec<Arc<Constant>> = inputs.iter().filter_map(|t| t.own()).collect();
        // Constants of one plan have a new identity in each, so that such a key is never found.
        let shared = constants.iter().all(|constant| constant.shared);
        let key = (format!("{op:?} {elem} {shape:?}"), constants.iter().map(|c| c.id).collect());
        if shared && let Some(known) = self.constants.folds.get(&key) {
            return Ok(known.clone());
        }
        let tensors = constants.iter().map(|constant| match &constant.held {
            RuntimeValue::Tensor(tensor) => Ok(tensor.clone()),
            RuntimeValue::Text(_) => {
                Err(OnnxError::unsupported("the operator does not support text"))
            }
        });
        let result = op.run(tensors.collect::<Result<_, _>>()?)?;
        let (found, expected) = (result.shape(), at_least_1d(&shape));
        if found != expected {
            return Err(OnnxError::internal(format!(
                "{op:?} returned the shape {found:?}, not {expected:?}"
            )));
        }
        let folded = PlanTensor::constant(elem, shape, RuntimeValue::Tensor(result), shared);
        if shared {
            self.constants.folds.insert(key, folded.clone());
        }
        Ok(folded)
    }

    fn push(&mut self, op: Op, inputs: &[&PlanTensor], forms: Vec<Form>) -> Result<Vec<usize>> {
        let most = self.constants.limits.steps;
        if self.lines.len() >= most {
            return Err(OnnxError::limit(format!("the plan has more than {most} steps")));
        }
        let outputs: Vec<usize> = forms.iter().map(|_| self.var()).collect();
        self.lines.push(DraftItem::Step(Draft {
            op,
            inputs: inputs.iter().map(|input| (*input).clone()).collect(),
            outputs: outputs.iter().copied().zip(forms).collect(),
            node: self.node.clone(),
        }));
        Ok(outputs)
    }

    /// A step on one tensor that is not recorded yet, and its result.
    pub(crate) fn draft(&mut self, op: Op, input: &PlanTensor, form: Form) -> (PlanTensor, Draft) {
        let var = self.var();
        let result =
            PlanTensor { elem: form.elem, shape: form.shape.clone(), slot: TensorSlot::Var(var) };
        let (inputs, node) = (vec![input.clone()], self.node.clone());
        (result, Draft { op, inputs, outputs: vec![(var, form)], node })
    }

    /// The item of a line, on this plan's device.
    fn bind(&mut self, line: &DraftItem) -> Result<PlanItem> {
        let draft = match line {
            DraftItem::Guard(var, expected) => return Ok(PlanItem::Guard(*var, expected.clone())),
            DraftItem::Step(draft) => draft,
        };
        let on_host = matches!(draft.op, Op::Host(_));
        let args = draft.inputs.iter().map(|input| self.arg(input, on_host));
        Ok(PlanItem::Step(PlanStep {
            op: draft.op.clone(),
            args: args.collect::<Result<_, _>>()?,
            forms: draft.inputs.iter().map(PlanTensor::form).collect(),
            outputs: draft.outputs.clone(),
            node: draft.node.clone(),
            last: Vec::new(),
        }))
    }

    fn arg(&mut self, input: &PlanTensor, on_host: bool) -> Result<Arg> {
        let constant = match &input.slot {
            TensorSlot::Var(var) => return Ok(Arg::Var(*var)),
            TensorSlot::Constant(constant) => constant.clone(),
        };
        if on_host || input.elem == Elem::Text {
            return Ok(Arg::Host(Arc::new(self.constant_host(input, &constant)?)));
        }
        Ok(Arg::Constant(self.upload(input, &constant)?))
    }

    /// The constant on the plan's device; uploaded once for all plans if it belongs to the model.
    fn upload(&mut self, input: &PlanTensor, constant: &Constant) -> Result<DeviceTensor> {
        let RuntimeValue::Tensor(tensor) = &constant.held else {
            return Err(OnnxError::unsupported("text cannot be moved to a device"));
        };
        if self.env.place.host {
            return Ok(tensor.clone());
        }
        if let Some(known) = self.constants.uploads.get(&constant.id) {
            return Ok(known.clone());
        }
        let same = match tensor.kind() {
            Kind::Float => tensor.dtype().size() == 4,
            _ => tensor.dtype() == DType::I32,
        };
        let data = if same {
            tensor.clone().read()?
        } else {
            to_data(&self.constant_host(input, constant)?, &self.env.place)?
        };
        let there = DeviceTensor::upload(data, &self.env.place.device);
        if constant.shared {
            self.constants.uploads.insert(constant.id, there.clone());
        }
        Ok(there)
    }

    fn constant_host(&self, t: &PlanTensor, constant: &Constant) -> Result<HostTensor> {
        match &constant.held {
            RuntimeValue::Text(host) => Ok((**host).clone()),
            RuntimeValue::Tensor(tensor) => {
                HostTensor::from_data(t.elem, t.shape.clone(), tensor.clone().read()?)
            }
        }
    }

    /// The value of a tensor. If it is not constant, the steps so far are run, and the plan is
    /// valid only for requests that give the same value.
    ///
    /// # Errors
    /// If a step fails.
    pub(crate) fn read_value(&mut self, t: &PlanTensor) -> Result<HostTensor> {
        let var = match &t.slot {
            TensorSlot::Constant(constant) => return self.constant_host(t, &constant.clone()),
            TensorSlot::Var(var) => *var,
        };
        self.catch_up()?;
        let host = self.env.read(var, &t.form())?;
        // Small values are lengths and conditions, which repeat; large ones are data of a request.
        if host.len() <= GUARD_MAX {
            self.lines.push(DraftItem::Guard(var, host.clone()));
            // The value was read in this run, so that the guard holds and need not run.
            self.done += 1;
        } else {
            self.uncacheable = true;
        }
        Ok(host)
    }

    /// Runs the steps that have not run yet.
    fn catch_up(&mut self) -> Result<()> {
        while let Some(line) = self.lines.get(self.done).cloned() {
            let item = self.bind(&line)?;
            self.run(&item)?;
            self.done += 1;
        }
        Ok(())
    }

    fn run(&mut self, item: &PlanItem) -> Result<()> {
        self.running = true;
        let run = self.env.run(item);
        self.running = false;
        Ok(run?)
    }

    /// A function of the host with results of known shapes.
    ///
    /// # Errors
    /// If it fails on constants.
    pub(crate) fn host_op(
        &mut self,
        name: &'static str,
        inputs: &[&PlanTensor],
        outputs: &[(Elem, Vec<usize>)],
        run: impl Fn(&[HostTensor]) -> Result<Vec<HostTensor>> + Send + Sync + 'static,
    ) -> Result<Vec<PlanTensor>> {
        for (elem, shape) in outputs {
            self.fits(*elem, shape)?;
        }
        if inputs.iter().all(|input| input.is_constant()) {
            return self.host_now(inputs, &run);
        }
        let op = Op::Host(HostOp { name, run: HostRun::Wide(Arc::new(run)) });
        self.push_host(op, inputs, outputs)
    }

    /// A step of the host, and its results.
    pub(super) fn push_host(
        &mut self,
        op: Op,
        inputs: &[&PlanTensor],
        outputs: &[(Elem, Vec<usize>)],
    ) -> Result<Vec<PlanTensor>> {
        let forms = outputs.iter().map(|(elem, shape)| Form { elem: *elem, shape: shape.clone() });
        let forms: Vec<Form> = forms.collect();
        let vars = self.push(op, inputs, forms.clone())?;
        let made = vars.into_iter().zip(forms);
        Ok(made
            .map(|(var, form)| PlanTensor {
                elem: form.elem,
                shape: form.shape,
                slot: TensorSlot::Var(var),
            })
            .collect())
    }

    /// A function of the host that takes tensors in their own types, with results of known shapes.
    ///
    /// # Errors
    /// If a result is too large, or the function fails on constants.
    pub(crate) fn native_op(
        &mut self,
        name: &'static str,
        inputs: &[&PlanTensor],
        outputs: &[(Elem, Vec<usize>)],
        run: impl Fn(&[NativeTensor]) -> Result<Vec<NativeTensor>> + Send + Sync + 'static,
    ) -> Result<Vec<PlanTensor>> {
        for (elem, shape) in outputs {
            self.fits(*elem, shape)?;
        }
        if inputs.iter().all(|input| input.is_constant()) {
            let looked =
                inputs.iter().map(|x| NativeTensor::of_host(Arc::new(self.read_value(x)?)));
            let looked = looked.collect::<Result<Vec<_>>>()?;
            let results = run(&looked)?.into_iter();
            return results.map(|cells| self.constant(cells.into_host()?)).collect();
        }
        let op = Op::Host(HostOp { name, run: HostRun::Native(Arc::new(run)) });
        self.push_host(op, inputs, outputs)
    }

    /// A function of the host with results of shapes that depend on its inputs: it runs at once,
    /// and its results are constants.
    ///
    /// # Errors
    /// If it fails.
    pub(crate) fn host_now(
        &mut self,
        inputs: &[&PlanTensor],
        run: Run<'_>,
    ) -> Result<Vec<PlanTensor>> {
        let inputs: Vec<HostTensor> =
            inputs.iter().map(|t| self.read_value(t)).collect::<Result<_, _>>()?;
        let results = run(&inputs)?;
        results.into_iter().map(|host| self.constant(host)).collect()
    }

    /// Ends the plan. Also returns the outputs of this request; the plan is `None` if it is valid
    /// for this request only. With `fuses`, steps are fused.
    ///
    /// # Errors
    /// If a step fails.
    pub(crate) fn finish(
        mut self,
        outputs: &[PlanTensor],
        fuses: bool,
    ) -> Result<(Vec<FileTensor>, Option<ExecutionPlan>)> {
        let ports = outputs.iter().map(|output| port(&self, output));
        let mut plan =
            ExecutionPlan { outputs: ports.collect::<Result<_, _>>()?, ..ExecutionPlan::default() };
        // Steps that have run already were not fused; the plan is for the next request.
        let begun = self.done > 0 || self.uncacheable;
        if begun {
            self.catch_up()?;
        }
        if self.uncacheable {
            return Ok((plan.outputs(&self.env)?, None));
        }
        let mut lines = std::mem::take(&mut self.lines);
        if fuses {
            lines = super::fuse::fuse(&mut self, lines, outputs, &mut plan.launches)?;
        }
        plan.items = lines.iter().map(|line| self.bind(line)).collect::<Result<_, _>>()?;
        plan.mark_last_uses();
        if !begun {
            plan.items.iter().try_for_each(|item| self.run(item))?;
        }
        Ok((plan.outputs(&self.env)?, Some(plan)))
    }
}

fn port(tracer: &Tracer<'_>, output: &PlanTensor) -> Result<PlanOutput> {
    Ok(match &output.slot {
        TensorSlot::Var(var) => PlanOutput::Var(*var, output.form()),
        TensorSlot::Constant(constant) => {
            PlanOutput::Constant(Arc::new(tracer.constant_host(output, constant)?.to_raw()))
        }
    })
}
