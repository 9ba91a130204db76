//! Calls to models with steps around their graph, and to ensembles. Steps of the host run outside
//! of the event loop; each graph is a separate call.

use crate::Catalogue;
use crate::calls::admissions::Admission;
use crate::calls::handle::EngineHandle;
use crate::calls::held_memory::{Full, HeldMemory};
use crate::calls::messages::{Control, EnsembleResult, InferAnswer, InferCall};
use futures_util::{StreamExt, TryStreamExt, stream};
use model::info::ModelInfo;
use model::pipeline::ensemble::{EnsembleValue, gather};
use model::pipeline::{BadRow, Budget, Ensemble, EnsembleStep, Picture, Pipeline, SentFacts};
use model::signature::RowMode;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use types::clock;
use types::error::{Error, ErrorKind};
use types::tensor::{Tensor, Tensors};

/// Maximum number of concurrent calls of one request, since other requests share the queue.
const FAN_OUT: usize = 64;

/// Memory of one row in addition to its data, in bytes: names, shapes and references of its
/// tensors. If it were not charged, rows of four bytes would use fifty times their charge.
const ROW_BYTES: usize = 1024;

/// Properties that all calls of one request have in common.
#[derive(Clone, Copy)]
struct CallTerms<'a> {
    client: u64,
    priority: u32,
    /// The deadline of the request.
    due: Option<Instant>,
    admission: Option<&'a Arc<Admission>>,
}

/// One row between two steps.
struct PipelineRow {
    inputs: Tensors,
    facts: Option<SentFacts>,
}

/// Adapters and times of several calls.
#[derive(Default)]
struct CallSummary {
    adapters: Vec<String>,
    batch_rows: u32,
    queue: Duration,
    run: Duration,
}

impl CallSummary {
    /// Adds calls that ran afterwards.
    fn add_next(&mut self, next: &CallSummary) {
        self.add_adapters(next);
        self.queue += next.queue;
        self.run += next.run;
    }

    /// Adds calls that ran at the same time.
    fn add_parallel(&mut self, other: &CallSummary) {
        self.add_adapters(other);
        self.queue = self.queue.max(other.queue);
        self.run = self.run.max(other.run);
    }

    fn add_adapters(&mut self, other: &CallSummary) {
        for adapter in &other.adapters {
            if !self.adapters.contains(adapter) {
                self.adapters.push(adapter.clone());
            }
        }
        self.batch_rows = self.batch_rows.max(other.batch_rows);
    }

    fn answer(self, outputs: Tensors) -> InferAnswer {
        InferAnswer {
            outputs,
            adapters: self.adapters,
            batch_rows: self.batch_rows,
            queue_time: self.queue,
            run_time: self.run,
        }
    }
}

impl From<&InferAnswer> for CallSummary {
    fn from(answer: &InferAnswer) -> CallSummary {
        CallSummary {
            adapters: answer.adapters.clone(),
            batch_rows: answer.batch_rows,
            queue: answer.queue_time,
            run: answer.run_time,
        }
    }
}

/// See [`EngineHandle::serve_call`].
pub(crate) async fn serve_call(
    engine: &EngineHandle,
    call: InferCall,
) -> Result<InferAnswer, Error> {
    let Some(pipeline) = &call.model.pipeline else { return engine.infer(call).await };
    let due = call.timeout.and_then(|timeout| clock::now().checked_add(timeout));
    let admission = call.admission.as_ref();
    let terms = CallTerms { client: call.client, priority: call.priority, due, admission };
    let bytes = call.rows.saturating_mul(ROW_BYTES);
    let _rows = engine.memory.of(call.client).charge(bytes);
    let _rows = _rows.map_err(|full| engine.memory_rejection(&call.model, full))?;
    match pipeline {
        Pipeline::Around(_) => {
            let sent = rows(&call)?.into_iter().map(|row| (row, None)).collect();
            let (outputs, summary) = around(engine, &call.model, sent, terms).await?;
            Ok(summary.answer(joined(outputs)?))
        }
        Pipeline::Ensemble(ensemble) => {
            let outcome = run_ensemble(engine, &call, ensemble, terms).await;
            count(engine, &call, &outcome).await;
            outcome
        }
    }
}

async fn count(engine: &EngineHandle, call: &InferCall, outcome: &Result<InferAnswer, Error>) {
    let answer = outcome.as_ref().ok();
    let result = EnsembleResult {
        model: call.model.clone(),
        rows: call.rows as u64,
        queue: answer.map_or(Duration::ZERO, |answer| answer.queue_time),
        run: answer.map_or(Duration::ZERO, |answer| answer.run_time),
        error: outcome.as_ref().err().map(|error| error.message.clone()),
    };
    // The send fails only if the driver has ended, and the statistics with it.
    let _ = engine.controls.send(Control::EnsembleResult(result)).await;
}

/// Runs rows through one model with the steps around its graph.
async fn around(
    engine: &EngineHandle,
    model: &Arc<ModelInfo>,
    sent: Vec<(Tensors, Option<Picture>)>,
    terms: CallTerms<'_>,
) -> Result<(Vec<Tensors>, CallSummary), Error> {
    let prepare = |(inputs, picture): (Tensors, Option<Picture>)| {
        let own = model.clone();
        let work = move |budget: &mut Budget<'_>| match own.around() {
            Some(around) => around.prepare(&inputs, picture.as_ref(), budget),
            None => Ok((inputs, None)),
        };
        async move {
            let ((inputs, facts), held) = on_host(engine, model, terms, work).await?;
            let inputs = charged(inputs, held);
            model.signature.frame(inputs.clone())?;
            Ok::<_, Error>(PipelineRow { inputs, facts })
        }
    };
    let prepared: Vec<PipelineRow> =
        // `buffered` keeps the order of the rows, unlike `buffer_unordered`.
        stream::iter(sent).map(prepare).buffered(FAN_OUT).try_collect().await?;
    let (facts, inputs): (Vec<_>, Vec<_>) =
        prepared.into_iter().map(|row| (row.facts, row.inputs)).unzip();
    let (outputs, summary) = rows_through(engine, model, inputs, terms).await?;
    let own = model.clone();
    let read = move |_: &mut Budget<'_>| match own.around() {
        Some(around) => {
            let rows = outputs.into_iter().zip(facts);
            rows.map(|(outputs, facts)| around.read(outputs, facts)).collect()
        }
        None => Ok(outputs),
    };
    Ok((on_host(engine, model, terms, read).await?.0, summary))
}

/// One call with inputs in the model's own shape, or with a row axis in front.
async fn framed(
    engine: &EngineHandle,
    model: &Arc<ModelInfo>,
    inputs: Tensors,
    terms: CallTerms<'_>,
) -> Result<InferAnswer, Error> {
    let request = model.signature.frame(inputs)?;
    let answer = engine.infer(terms.call(model, request.inputs.clone())?).await?;
    let outputs = request.answer(answer.outputs).map_err(broken)?;
    Ok(InferAnswer { outputs, ..answer })
}

/// Runs rows as one call if they have the same shapes, else as one call each. The scheduler can
/// still batch calls of the same shapes.
async fn rows_through(
    engine: &EngineHandle,
    model: &Arc<ModelInfo>,
    rows: Vec<Tensors>,
    terms: CallTerms<'_>,
) -> Result<(Vec<Tensors>, CallSummary), Error> {
    // A model in mode `Whole` would treat the rows as one request.
    let bytes: usize = if rows.len() > 1 { rows.iter().map(Tensors::bytes).sum() } else { 0 };
    let held = engine.memory.of(terms.client).charge(bytes);
    let held = held.map_err(|full| engine.memory_rejection(model, full))?;
    if model.signature.rows != RowMode::Whole
        && let Ok(all) = Tensors::concat_rows(rows.clone())
        && !rows.is_empty()
    {
        // The joined copy replaces the rows while the call waits for an adapter.
        drop(rows);
        let answer = framed(engine, model, charged(all, held), terms).await?;
        let count = answer.outputs.rows().map_err(broken)?;
        let row = |at| answer.outputs.slice_rows(at, 1).map_err(broken);
        return Ok(((0..count).map(row).collect::<Result<_, _>>()?, CallSummary::from(&answer)));
    }
    // Rows of different shapes are not joined, so that no copy is charged.
    drop(held);
    let run = |row| framed(engine, model, row, terms);
    let answers: Vec<InferAnswer> =
        stream::iter(rows).map(run).buffered(FAN_OUT).try_collect().await?;
    let mut summary = CallSummary::default();
    answers.iter().for_each(|answer| summary.add_parallel(&CallSummary::from(answer)));
    Ok((answers.into_iter().map(|answer| answer.outputs).collect(), summary))
}

async fn run_ensemble(
    engine: &EngineHandle,
    call: &InferCall,
    ensemble: &Ensemble,
    terms: CallTerms<'_>,
) -> Result<InferAnswer, Error> {
    let missing = served_to(engine, terms).missing(&call.model);
    if let Some(missing) = missing {
        return Err(missing.error(&call.model.name));
    }
    let mut summary = CallSummary::default();
    let mut done = Vec::with_capacity(call.rows);
    for row in rows(call)? {
        let (outputs, one) = run_row(engine, &call.model, ensemble, row, terms).await?;
        summary.add_next(&one);
        done.push(outputs);
    }
    Ok(summary.answer(joined(done)?))
}

/// Runs one row through all steps.
async fn run_row(
    engine: &EngineHandle,
    model: &Arc<ModelInfo>,
    ensemble: &Ensemble,
    row: Tensors,
    terms: CallTerms<'_>,
) -> Result<(Tensors, CallSummary), Error> {
    let named = |tensor: Tensor| (tensor.name.clone(), EnsembleValue::Tensor(tensor));
    let mut values: HashMap<String, EnsembleValue> = row.0.into_iter().map(named).collect();
    let (mut summary, mut pieces) = (CallSummary::default(), Vec::new());
    for step in &ensemble.steps {
        match step {
            EnsembleStep::Crop { image, by, to } => {
                let (pictures, held) = crop(engine, model, &values, (image, by), terms).await?;
                pieces.push(held);
                values.insert(to.clone(), EnsembleValue::Pictures(pictures));
            }
            EnsembleStep::Model { name, inputs, outputs } => {
                let member = member(engine, model, name, terms)?;
                let (rows, one) = run_member(engine, &member, inputs, &values, terms).await?;
                summary.add_next(&one);
                let each = inputs
                    .values()
                    .any(|value| matches!(values.get(value), Some(EnsembleValue::Pictures(_))));
                for (value, own) in outputs {
                    let joined = collect(&member, own, &rows, each)?;
                    values.insert(value.clone(), EnsembleValue::Tensor(joined));
                }
            }
        }
    }
    let mut output = |name: &str| match values.remove(name) {
        Some(EnsembleValue::Tensor(tensor)) => Ok(Tensor { name: name.to_owned(), ..tensor }),
        _ => Err(Error::internal(format!("ensemble '{}': no '{name}'", model.name))),
    };
    let outputs: Result<Tensors, Error> =
        ensemble.interface.outputs.iter().map(|spec| output(&spec.name)).collect();
    let outputs = outputs?;
    for spec in &ensemble.interface.outputs {
        let tensor = outputs.get(&spec.name).map_err(broken)?;
        if !spec.datatypes.contains(&tensor.datatype) || !spec.fits_shape(&tensor.shape) {
            return Err(Error::internal(format!(
                "ensemble '{}': output '{}' is {} {:?}, unlike in its model.toml",
                model.name, spec.name, tensor.datatype, tensor.shape
            )));
        }
    }
    Ok((outputs, summary))
}

/// The catalogue that applies to a request.
fn served_to(engine: &EngineHandle, terms: CallTerms<'_>) -> Arc<Catalogue> {
    let admitted = terms.admission.map(|admission| admission.models().clone());
    admitted.unwrap_or_else(|| engine.models.borrow().clone())
}

/// A member of an ensemble.
fn member(
    engine: &EngineHandle,
    model: &ModelInfo,
    name: &str,
    terms: CallTerms<'_>,
) -> Result<Arc<ModelInfo>, Error> {
    let models = served_to(engine, terms);
    let member = models.resolve(name, None).filter(|member| member.ensemble().is_none());
    let missing = || format!("'{}' needs model '{name}', which is not served", model.name);
    member.cloned().ok_or_else(|| Error::unavailable(missing()))
}

async fn run_member(
    engine: &EngineHandle,
    member: &Arc<ModelInfo>,
    wanted: &BTreeMap<String, String>,
    values: &HashMap<String, EnsembleValue>,
    terms: CallTerms<'_>,
) -> Result<(Vec<Tensors>, CallSummary), Error> {
    let (mut tensors, mut pictures) = (Vec::new(), None);
    for (own, value) in wanted {
        match values.get(value) {
            Some(EnsembleValue::Tensor(tensor)) => {
                tensors.push(Tensor { name: own.clone(), ..tensor.clone() });
            }
            Some(EnsembleValue::Pictures(all)) => pictures = Some(all),
            None => return Err(Error::internal(format!("value '{value}' not found"))),
        }
    }
    let tensors = Tensors(tensors);
    let sent: Vec<_> = match pictures {
        Some(all) => all.iter().map(|one| (tensors.clone(), Some(one.clone()))).collect(),
        None => vec![(tensors, None)],
    };
    around(engine, member, sent, terms).await
}

async fn crop(
    engine: &EngineHandle,
    model: &Arc<ModelInfo>,
    values: &HashMap<String, EnsembleValue>,
    (image, by): (&str, &str),
    terms: CallTerms<'_>,
) -> Result<(Vec<Picture>, HeldMemory), Error> {
    match (values.get(image), values.get(by)) {
        (Some(EnsembleValue::Tensor(file)), Some(EnsembleValue::Tensor(polygons))) => {
            let (file, polygons) = (file.clone(), polygons.clone());
            let work = move |budget: &mut Budget<'_>| {
                Picture::of_file(&file, budget)?.crops(&polygons, budget)
            };
            let (pictures, mut held) = on_host(engine, model, terms, work).await?;
            // The decoded image is dropped; only its crops remain.
            held.shrink_to(pictures.iter().map(Picture::bytes).sum());
            Ok((pictures, held))
        }
        _ => Err(Error::internal(format!("'{image}' and '{by}' are not an image and polygons"))),
    }
}

/// Runs a step of the host on a blocking thread. At most one step per processor runs at a time,
/// which bounds the number of images in memory. The step charges the memory that it allocates; the
/// charge is returned with its result.
async fn on_host<T: Send + 'static>(
    engine: &EngineHandle,
    model: &ModelInfo,
    terms: CallTerms<'_>,
    work: impl FnOnce(&mut Budget<'_>) -> Result<T, BadRow> + Send + 'static,
) -> Result<(T, HeldMemory), Error> {
    let permit = engine.host_permits.clone().acquire_owned().await;
    let mut held = engine.memory.of(terms.client).request();
    let step = move || {
        // The thread keeps its permit even if the client has disconnected.
        let _permit = permit;
        // `BadRow::Memory` carries no reason, so that the reason of the charge is kept here.
        let mut full = None;
        let mut budget = |bytes| held.grow(bytes).map_err(|error| full = Some(error)).is_ok();
        let done = work(&mut budget);
        (done, held, full)
    };
    let done = tokio::task::spawn_blocking(step).await;
    let broke = |error| Error::internal(format!("a step of '{}' failed: {error}", model.name));
    let (done, held, full) = done.map_err(broke)?;
    let done = done.map_err(|error| match error {
        BadRow::Input(message) => Error::unprocessable(message),
        BadRow::Output(message) => Error::internal(format!("model '{}': {message}", model.name)),
        BadRow::Memory => engine.memory_rejection(model, full.unwrap_or(Full::Now)),
    })?;
    Ok((done, held))
}

impl CallTerms<'_> {
    fn call(self, model: &Arc<ModelInfo>, inputs: Tensors) -> Result<InferCall, Error> {
        let left = self.due.map(|due| due.saturating_duration_since(clock::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let message = "the request's timeout passed before all of its steps had ended";
            return Err(Error::new(ErrorKind::DeadlineExceeded, message));
        }
        let rows = inputs.rows().map_err(broken)?;
        let CallTerms { client, priority, .. } = self;
        let (model, admission) = (model.clone(), self.admission.cloned());
        Ok(InferCall { model, inputs, rows, client, priority, timeout: left, admission })
    }
}

/// Tensors that carry the charge of their memory, as far as `held` covers it.
fn charged(tensors: Tensors, mut held: HeldMemory) -> Tensors {
    let carrying = |tensor: Tensor| {
        let own = held.split(tensor.data.len());
        Tensor { data: own.wrap(tensor.data), ..tensor }
    };
    tensors.0.into_iter().map(carrying).collect()
}

/// The rows of a call, as one set of tensors each.
fn rows(call: &InferCall) -> Result<Vec<Tensors>, Error> {
    (0..call.rows).map(|row| call.inputs.slice_rows(row, 1).map_err(broken)).collect()
}

/// Joins the answers of all rows.
fn joined(mut rows: Vec<Tensors>) -> Result<Tensors, Error> {
    if rows.len() == 1
        && let Some(only) = rows.pop()
    {
        return Ok(only);
    }
    Tensors::concat_rows(rows).map_err(|_| {
        Error::unprocessable(
            "the rows of this request have answers of different lengths; send a request for each",
        )
    })
}

/// One output of a model over all rows. With `each`, the model ran for each of several pieces, of
/// which there may be only one.
fn collect(member: &ModelInfo, own: &str, rows: &[Tensors], each: bool) -> Result<Tensor, Error> {
    let spec = member.interface().outputs.iter().find(|spec| spec.name == own);
    let missing = || Error::internal(format!("model '{}' has no output '{own}'", member.name));
    let spec = spec.ok_or_else(missing)?;
    let parts = rows.iter().map(|row| row.get(own).cloned().map_err(broken));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    gather(spec, own, &parts, each).map_err(|error| Error::internal(error.to_string()))
}

fn broken(error: types::tensor::TensorError) -> Error {
    Error::internal(error.to_string())
}
