//! Open Inference Protocol V2: health, metadata and inference.

use crate::context::{ApiState, Target};
use crate::http::blocking::run_blocking_if_large;
use crate::http::body::{Bodies, check_inference_type, is_file};
use crate::http::front::ChargedMark;
use crate::http::guard::Head;
use crate::http::keys::Scope;
use crate::http::respond;
use crate::http::respond::{Outcome, Response, document, json};
use crate::operator::expect;
use crate::v2::binary::{self, HEADER_LENGTH};
use crate::v2::{answer, request};
use answer::{RenderedBody, WantedOutputs};
use bytes::{Buf, Bytes};
use engine::{Account, InferAnswer, InferCall};
use futures_util::Stream;
use model::info::ModelInfo;
use model::pipeline::Pipeline;
use model::signature::{Framed, RowMode, SentForm, TensorSpec};
use request::{InferRequest, RequestBounds};
use serde_json::{Value, json as value};
use std::sync::Arc;
use std::time::Duration;
use telemetry::{Ran, RequestSpan};
use types::error::{Error, ErrorKind};
use types::tensor::Tensors;
use warp::http::{HeaderMap, HeaderName, HeaderValue};

/// Ids of the adapters that ran a request, in row order.
const ADAPTER: HeaderName = HeaderName::from_static("x-concertina-adapter");

/// Durations of the phases of a request, in milliseconds: browsers show them (W3C Server Timing).
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The trace that the request belongs to (W3C Trace Context, level 2).
const TRACE: HeaderName = HeaderName::from_static("traceresponse");

/// `GET /v2/health/live`: the process runs.
pub(crate) fn live(head: &Head) -> Outcome {
    head.must_read()?;
    json(&value!({ "live": true }))
}

/// `GET /v2/health/ready`: an adapter is on and healthy, or can be started.
pub(crate) fn ready(api: &ApiState, head: &Head) -> Outcome {
    head.must_read()?;
    let snapshot = api.engine.snapshots().borrow().clone();
    let server = &snapshot.server;
    if server.ready && !server.shutting_down {
        return json(&value!({ "ready": true }));
    }
    let unknown = if server.shutting_down { "shutting down" } else { "no adapter can serve" };
    Err(Error::unavailable(server.reason.as_deref().unwrap_or(unknown)).into())
}

/// `GET /v2`.
pub(crate) fn server_metadata(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    json(&value!({
        "name": crate::PROGRAM,
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": [
            "binary_tensor_data",
            "classification",
            "generate",
            "model_configuration",
            "model_repository",
            "schedule_policy",
            "statistics",
        ],
    }))
}

/// `GET /v2/models/{m}[/versions/{v}]`.
pub(crate) fn model_metadata(api: &ApiState, target: &Target, head: &Head) -> Outcome {
    api.guard.check_model_read(head)?;
    let model = find(api, target)?;
    let snapshot = api.engine.snapshots().borrow().clone();
    let same = snapshot.models.iter().filter(|other| other.name == model.name);
    let mut versions: Vec<_> = same.map(|other| other.version.as_str()).collect();
    if versions.is_empty() {
        versions.push(&model.version);
    }
    json(&describe(&model, &versions))
}

fn describe(model: &ModelInfo, versions: &[&str]) -> Value {
    let mode = model.interface().rows;
    let tensor = |spec: &TensorSpec| describe_tensor(spec, mode);
    let tensors = |specs: &[TensorSpec]| specs.iter().map(tensor).collect::<Vec<_>>();
    value!({
        "name": model.name,
        "versions": versions,
        "platform": format!("concertina_{}", model.kind),
        "inputs": tensors(&model.interface().inputs),
        "outputs": tensors(&model.interface().outputs),
    })
}

/// -1 stands for any length, including that of a batch axis.
fn describe_tensor(spec: &TensorSpec, mode: RowMode) -> Value {
    let shape = spec.public_shape(mode);
    value!({ "name": spec.name, "datatype": spec.datatype().as_str(), "shape": shape })
}

/// `GET /v2/models/{m}[/versions/{v}]/ready`.
pub(crate) fn model_ready(api: &ApiState, target: &Target, head: &Head) -> Outcome {
    api.guard.check_model_read(head)?;
    let model = api.engine.check_ready(&target.name, target.version.as_deref())?;
    json(&value!({ "name": model.name, "ready": true }))
}

/// `POST /v2/models/{m}[/versions/{v}]/infer`. Dropping the future cancels the request.
pub(crate) async fn infer<S, B, E>(api: &ApiState, target: Target, head: &Head, body: S) -> Outcome
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    api.guard.check_post(head, Scope::Infer)?;
    let header = |name: &str| head.headers.get(name)?.to_str().ok();
    let mut span = api.traces.begin(header, &target.name, target.version.as_deref());
    let outcome = traced(api, &target, head, body, &mut span).await;
    match &outcome {
        Ok(response) => span.end(response.status().as_u16(), None),
        Err(error) => span.end(error.kind.status(), Some(&error.message)),
    }
    let mut response = respond::render(outcome.map_err(Into::into));
    response.headers_mut().extend(trace_header(&span));
    Ok(response)
}

/// Returns the header with the trace of a request, if it belongs to one.
pub(crate) fn trace_header(span: &RequestSpan) -> Option<(HeaderName, HeaderValue)> {
    let header = span.response_header().and_then(|header| HeaderValue::try_from(header).ok());
    header.map(|header| (TRACE, header))
}

/// Adds the header with the ids of the adapters that ran the request.
pub(crate) fn name_adapters(response: &mut Response, adapters: &str) {
    if let Ok(value) = HeaderValue::from_str(adapters) {
        response.headers_mut().insert(ADAPTER, value);
    }
}

/// Returns adapters and durations of an answer, for the trace.
pub(crate) fn ran<'a>(answer: &InferAnswer, adapters: &'a str) -> Ran<'a> {
    let (queue, run, batch_rows) = (answer.queue_time, answer.run_time, answer.batch_rows);
    Ran { adapters, queue, run, batch_rows }
}

async fn traced<S, B, E>(
    api: &ApiState,
    target: &Target,
    head: &Head,
    body: S,
    span: &mut RequestSpan,
) -> Result<Response, Error>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    let (announced, received) = (expect::announced(&head.headers)?, api.engine.uptime());
    let admission = api.engine.admit()?;
    let model = admission.model(&target.name, target.version.as_deref())?;
    let client = api.guard.client(head);
    let bodies = api.bodies.of(client);
    let request = read(&bodies, &model, &head.headers, body).await.inspect_err(|error| {
        if error.kind == ErrorKind::QueueFull {
            api.engine.count_unqueued(&model, "memory");
        }
    })?;
    let wanted = request.wanted.resolve(model.interface())?;
    let (priority, timeout) = (api.guard.priority(head, request.priority), request.timeout);
    let call = |model: &Arc<ModelInfo>, framed: &Framed| InferCall {
        model: model.clone(),
        inputs: framed.inputs.clone(),
        rows: framed.rows,
        client,
        priority,
        timeout,
        admission: Some(admission.clone()),
    };
    let served = serve(api, target, model.clone(), request.inputs, call, span).await;
    if let Some(within) = announced {
        let passed = api.engine.uptime().saturating_sub(received);
        // If the engine is too busy to receive it, adapters are on anyway.
        let _ = api.engine.announce(model, client, within.saturating_sub(passed));
    }
    let (model, answer) = served?;
    let adapters = answer.adapters.join(",");
    let ran = ran(&answer, &adapters);
    span.ran(&ran);
    let rendered = render(model, request.id, answer, wanted, bodies.account()).await?;
    Ok(reply(rendered, &ran))
}

/// Answers in the same form as the request.
pub(crate) async fn serve(
    api: &ApiState,
    target: &Target,
    model: Arc<ModelInfo>,
    inputs: Tensors,
    call: impl Fn(&Arc<ModelInfo>, &Framed) -> InferCall,
    span: &mut RequestSpan,
) -> Result<(Arc<ModelInfo>, InferAnswer), Error> {
    let framed = model.interface().frame(inputs)?;
    span.set_rows(framed.rows);
    let error = match api.engine.serve_call(call(&model, &framed)).await {
        Ok(answer) => return Ok((model, answered(answer, &framed)?)),
        Err(error) => error,
    };
    // The load may have shown that rows cannot be joined. The request is then run alone.
    let Ok(now) = find(api, target) else { return Err(error) };
    if now.signature.rows == model.signature.rows || framed.sent == SentForm::Own {
        return Err(error);
    }
    let inputs = framed.into_sent().map_err(|error| Error::internal(error.to_string()))?;
    let framed = now.interface().frame(inputs)?;
    let answer = api.engine.serve_call(call(&now, &framed)).await?;
    Ok((now, answered(answer, &framed)?))
}

fn answered(mut answer: InferAnswer, request: &Framed) -> Result<InferAnswer, Error> {
    let outputs = request.answer(std::mem::take(&mut answer.outputs));
    answer.outputs = outputs.map_err(|error| Error::internal(error.to_string()))?;
    Ok(answer)
}

fn find(api: &ApiState, target: &Target) -> Result<Arc<ModelInfo>, Error> {
    api.engine.model(&target.name, target.version.as_deref())
}

/// Reads a client's request to a model. Its inputs carry the charge of their memory.
pub(crate) async fn read<S, B, E>(
    bodies: &Bodies,
    model: &ModelInfo,
    headers: &HeaderMap,
    body: S,
) -> Result<InferRequest, Error>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    let header_length = binary::header_length(headers)?;
    let file = model.pipeline.as_ref().and_then(Pipeline::file_input);
    if file.is_none() {
        check_inference_type(headers)?;
    }
    let Some(input) = file else {
        let body = bodies.collect(headers, body).await?;
        return parse(bodies, model, body.bytes, header_length).await;
    };
    let body = bodies.as_elements().collect(headers, body).await?;
    if !is_file(headers, header_length, &body.bytes) {
        drop(body.element);
        return parse(bodies, model, body.bytes, header_length).await;
    }
    let too_long = || Error::new(ErrorKind::TooLarge, "the file is longer than 4 GiB");
    InferRequest::of_file(&input.name, body.element.ok_or_else(too_long)?)
}

async fn parse(
    bodies: &Bodies,
    model: &ModelInfo,
    body: Bytes,
    header_length: Option<usize>,
) -> Result<InferRequest, Error> {
    let json_bytes = header_length.unwrap_or(body.len());
    let terms = RequestBounds::new(model.interface(), bodies.account());
    run_blocking_if_large(json_bytes, move || request::parse(body, header_length, &terms)).await
}

async fn render(
    model: Arc<ModelInfo>,
    id: Option<String>,
    answer: InferAnswer,
    wanted: WantedOutputs,
    account: Account,
) -> Result<RenderedBody, Error> {
    // Binary outputs need no conversion.
    let made = wanted.named.iter().filter(|named| !named.binary || named.classes.is_some());
    let sizes = made.filter_map(|named| answer.outputs.get(&named.name).ok());
    let json_bytes = sizes.map(|tensor| tensor.data.len()).sum();
    let outputs = answer.outputs;
    let work = move || answer::render(&model, id.as_deref(), &outputs, &wanted, &account);
    run_blocking_if_large(json_bytes, work).await
}

fn reply(rendered: RenderedBody, ran: &Ran<'_>) -> Response {
    let content_type = match rendered.header_length {
        Some(_) => "application/octet-stream",
        None => "application/json",
    };
    let mut response = document(content_type, rendered.body);
    response.extensions_mut().insert(ChargedMark);
    if let Some(length) = rendered.header_length {
        response.headers_mut().insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    let times = format!("queue;dur={:.3}, run;dur={:.3}", millis(ran.queue), millis(ran.run));
    name_adapters(&mut response, ran.adapters);
    if let Ok(times) = HeaderValue::from_str(&times) {
        response.headers_mut().insert(SERVER_TIMING, times);
    }
    response
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::tensor::Datatype;

    fn ran(adapters: &str) -> Ran<'_> {
        let (queue, run) = (Duration::from_micros(1500), Duration::from_millis(20));
        Ran { adapters, queue, run, batch_rows: 1 }
    }

    #[test]
    fn metadata_show_the_shape_that_a_model_takes() {
        let datatypes = vec![Datatype::Fp32, Datatype::Uint8];
        let spec = TensorSpec::new("image", datatypes, vec![28, -1]);
        let expected = value!({ "name": "image", "datatype": "FP32", "shape": [-1, 28, -1] });
        assert_eq!(describe_tensor(&spec, RowMode::Stacked), expected);
        assert_eq!(describe_tensor(&spec, RowMode::Each)["shape"], value!([1, 28, -1]));
        assert_eq!(describe_tensor(&spec, RowMode::Whole)["shape"], value!([28, -1]));
    }

    #[test]
    fn replies_contain_the_length_of_the_json() {
        let body = Bytes::from_static(b"{}raw");
        let response =
            reply(RenderedBody { body, header_length: Some(2) }, &ran("cpu,vulkan-1-2-0"));
        assert_eq!(response.headers()[HEADER_LENGTH], "2");
        assert_eq!(response.headers()["content-type"], "application/octet-stream");
        assert_eq!(response.headers()[ADAPTER], "cpu,vulkan-1-2-0");
        assert_eq!(response.headers()[SERVER_TIMING], "queue;dur=1.500, run;dur=20.000");
        let body = Bytes::from_static(b"{}");
        let response = reply(RenderedBody { body, header_length: None }, &ran("not\na header"));
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(!response.headers().contains_key(ADAPTER));
    }
}
