//! Triton's generate extension: JSON values as inputs and outputs, in one answer or as a stream of
//! server-sent events. It serves every model; decoupled ones return partial answers.

mod answer;
pub(crate) mod request;

use crate::context::{ApiState, Target};
use crate::http::blocking::run_blocking_if_large;
use crate::http::body::check_inference_type;
use crate::http::guard::Head;
use crate::http::keys::Scope;
use crate::http::respond::{self, Outcome, Response, document};
use crate::operator::expect;
use crate::v2::kserve;
use answer::{AnswerHead, Joined};
use bytes::Buf;
use engine::{Account, Admission, InferCall, PartialAnswer, PartialAnswers};
use futures_util::{Stream, StreamExt, stream};
use model::info::ModelInfo;
use model::signature::Framed;
use request::GenerateRequest;
use std::sync::Arc;
use std::time::Duration;
use telemetry::RequestSpan;
use types::error::{Error, ErrorKind};
use types::tensor::Tensors;
use warp::Reply;
use warp::http::HeaderValue;
use warp::sse::{self, Event};

/// Interval of comments on a stream without events, by which a dead connection is detected.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerForm {
    /// `generate`: one JSON document; partial answers are joined.
    Whole,
    /// `generate_stream`: an event for each partial answer.
    Events,
}

/// A request that is about to run.
struct Prepared {
    model: Arc<ModelInfo>,
    request: GenerateRequest,
    client: u64,
    admission: Arc<Admission>,
    account: Account,
}

impl Prepared {
    fn call(&self, model: &Arc<ModelInfo>, framed: &Framed) -> InferCall {
        InferCall {
            model: model.clone(),
            inputs: framed.inputs.clone(),
            rows: framed.rows,
            client: self.client,
            priority: self.request.priority,
            timeout: self.request.timeout,
            admission: Some(self.admission.clone()),
        }
    }
}

/// `POST /v2/models/{m}[/versions/{v}]/generate` and `.../generate_stream`. Dropping the future, or
/// the stream that it returns, cancels the request.
pub(crate) async fn generate<S, B, E>(
    api: &ApiState,
    target: Target,
    head: &Head,
    body: S,
    form: AnswerForm,
) -> Outcome
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    api.guard.check_post(head, Scope::Infer)?;
    let header = |name: &str| head.headers.get(name)?.to_str().ok();
    let mut span = api.traces.begin(header, &target.name, target.version.as_deref());
    let trace = kserve::trace_header(&span);
    let outcome = match prepare(api, &target, head, body).await {
        Ok(prepared) => run(api, &target, prepared, form, &mut span).await,
        Err(error) => Err(error),
    };
    let mut response = match outcome {
        Ok(GenerateAnswer::Whole(response)) => {
            span.end(response.status().as_u16(), None);
            response
        }
        Ok(GenerateAnswer::Events(events)) => events.into_response(span),
        Err(error) => {
            span.end(error.kind.status(), Some(&error.message));
            respond::render(Err(error.into()))
        }
    };
    response.headers_mut().extend(trace);
    Ok(response)
}

async fn prepare<S, B, E>(
    api: &ApiState,
    target: &Target,
    head: &Head,
    body: S,
) -> Result<Prepared, Error>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
    E: std::fmt::Display,
{
    let announced = expect::announced(&head.headers)?;
    let admission = api.engine.admit()?;
    let model = admission.model(&target.name, target.version.as_deref())?;
    let client = api.guard.client(head);
    let bodies = api.bodies.of(client);
    check_inference_type(&head.headers)?;
    let request = async {
        let body = bodies.collect(&head.headers, body).await?.bytes;
        let (signature, account) = (model.interface().clone(), bodies.account());
        run_blocking_if_large(body.len(), move || request::parse(&body, &signature, &account)).await
    };
    let request = request.await.inspect_err(|error| {
        if error.kind == ErrorKind::QueueFull {
            api.engine.count_unqueued(&model, "memory");
        }
    })?;
    if let Some(within) = announced {
        // If the engine's channel is full, the engine is under load and adapters are on anyway.
        let _ = api.engine.announce(model.clone(), client, within);
    }
    let priority = api.guard.priority(head, request.priority);
    let request = GenerateRequest { priority, ..request };
    Ok(Prepared { model, request, client, admission, account: bodies.account() })
}

/// An answer before it is sent.
enum GenerateAnswer {
    Whole(Response),
    Events(Events),
}

/// Runs the request. An error before the first partial answer has its own status.
async fn run(
    api: &ApiState,
    target: &Target,
    prepared: Prepared,
    form: AnswerForm,
    span: &mut RequestSpan,
) -> Result<GenerateAnswer, Error> {
    if !prepared.model.decoupled {
        return run_whole(api, target, prepared, form, span).await;
    }
    let framed = prepared.model.interface().frame(prepared.request.inputs.clone())?;
    span.set_rows(framed.rows);
    let call = prepared.call(&prepared.model, &framed);
    let mut answers = api.engine.generate(call)?;
    let Prepared { model, request, account, .. } = prepared;
    let shape = AnswerHead { model, id: request.id };
    if form == AnswerForm::Whole {
        let (joined, adapters) = joined(&shape, answers, &account).await?;
        return Ok(GenerateAnswer::Whole(whole(joined, &adapters)));
    }
    let first = answers.next().await.transpose()?;
    Ok(GenerateAnswer::Events(Events { shape, account, first, rest: Some(answers) }))
}

/// The same for a model with whole answers: one partial answer.
async fn run_whole(
    api: &ApiState,
    target: &Target,
    mut prepared: Prepared,
    form: AnswerForm,
    span: &mut RequestSpan,
) -> Result<GenerateAnswer, Error> {
    let inputs = std::mem::take(&mut prepared.request.inputs);
    let call = |model: &Arc<ModelInfo>, framed: &Framed| prepared.call(model, framed);
    let served = kserve::serve(api, target, prepared.model.clone(), inputs, call, span).await;
    let (model, answer) = served?;
    let adapters = answer.adapters.join(",");
    span.ran(&kserve::ran(&answer, &adapters));
    let (outputs, account) = (answer.outputs, prepared.account);
    let shape = AnswerHead { model, id: prepared.request.id };
    match form {
        AnswerForm::Whole => {
            Ok(GenerateAnswer::Whole(whole(shape.render(&outputs, &account)?, &adapters)))
        }
        AnswerForm::Events => {
            let only = PartialAnswer { outputs, adapter: adapters };
            Ok(GenerateAnswer::Events(Events { shape, account, first: Some(only), rest: None }))
        }
    }
}

/// Returns all partial answers as one document, with the ids of their adapters.
async fn joined(
    shape: &AnswerHead,
    mut answers: PartialAnswers,
    account: &Account,
) -> Result<(bytes::Bytes, String), Error> {
    let mut joined = Joined::new(&shape.model, account);
    let mut adapters: Vec<String> = Vec::new();
    while let Some(answer) = answers.next().await.transpose()? {
        joined.push(&answer.outputs)?;
        if adapters.last() != Some(&answer.adapter) {
            adapters.push(answer.adapter);
        }
    }
    Ok((shape.render_lists(&joined.finish(), account)?, adapters.join(",")))
}

fn whole(body: bytes::Bytes, adapters: &str) -> Response {
    let mut response = document("application/json", body);
    kserve::name_adapters(&mut response, adapters);
    response
}

/// A stream of partial answers to one client.
struct Events {
    shape: AnswerHead,
    account: Account,
    /// The partial answer that is sent before those of `rest`.
    first: Option<PartialAnswer>,
    rest: Option<PartialAnswers>,
}

impl Events {
    fn into_response(self, mut span: RequestSpan) -> Response {
        let adapter = self.first.as_ref().map(|first| first.adapter.clone());
        let step = move |mut events: Events| async move { Some((events.next().await?, events)) };
        let events = stream::unfold(self, step);
        span.end(200, None);
        let events = events.inspect(move |event| {
            if let Err(error) = event {
                span.end(error.kind.status(), Some(&error.message));
            }
        });
        let events = events.map(|event| event.or_else(|error| failed(&error)));
        let mut response =
            sse::reply(sse::keep_alive().interval(KEEP_ALIVE).stream(events)).into_response();
        // Proxies that buffer an answer before they pass it on would delay events.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        kserve::name_adapters(&mut response, adapter.as_deref().unwrap_or_default());
        response
    }

    /// Returns the next event; `None` after the last one.
    async fn next(&mut self) -> Option<Result<Event, Error>> {
        let answer = match self.first.take() {
            Some(first) => Ok(first),
            None => self.rest.as_mut()?.next().await?,
        };
        let event = answer.and_then(|answer| self.event(&answer.outputs));
        if event.is_err() {
            self.rest = None;
        }
        Some(event)
    }

    fn event(&self, outputs: &Tensors) -> Result<Event, Error> {
        let text = self.shape.render(outputs, &self.account)?;
        let text = String::from_utf8(text.to_vec());
        let text = text.map_err(|error| {
            Error::internal(format!("failed to write the event as JSON: {error}"))
        })?;
        Ok(Event::default().data(text))
    }
}

/// Returns the last event of a stream that fails: `data` is the body of the error.
fn failed(error: &Error) -> Result<Event, serde_json::Error> {
    Event::default().event("error").json_data(respond::error_body(error))
}
