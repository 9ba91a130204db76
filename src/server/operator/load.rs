//! The load generator of the web page: requests to the server's own engine, by which an operator
//! can observe adapters turn on and off.
//!
//! The server sends the requests itself since a browser opens only six connections to one server.
//! They have the least urgent priority, and end after a set time.

use crate::http::object::Object;
use engine::{EngineHandle, InferCall};
use hdrhistogram::Histogram;
use model::batch::warm_up_inputs;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use types::error::{Error, ErrorKind};
use types::json::document;

const CONCURRENCY_MAX: usize = 64;
const SECONDS_MIN: u64 = 5;
const SECONDS_MAX: u64 = 60;
/// Delay of a rejected client before its next request.
const PAUSE: Duration = Duration::from_millis(100);
/// The least urgent priority.
const PRIORITY: u32 = u32::MAX;
/// Maximum latency that is recorded, in microseconds: ten minutes.
const LONGEST_US: u64 = 600_000_000;

/// The settings of a run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadRunSettings {
    model: String,
    /// Requests in flight at the same time.
    concurrency: usize,
    seconds: u64,
}

/// The last run, as shown on the page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LoadView {
    model: String,
    concurrency: usize,
    /// In milliseconds since the server started; during the run, the end is the planned one.
    started_ms: u64,
    ends_ms: u64,
    running: bool,
    answered: u64,
    failed: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    last_error: Option<String>,
}

/// A load generator with at most one run at a time. Clones share it.
#[derive(Clone)]
pub(crate) struct LoadGenerator {
    engine: EngineHandle,
    run: Arc<Mutex<Option<LoadRun>>>,
    /// Cancelled when the server shuts down.
    closing: CancellationToken,
}

struct LoadRun {
    view: LoadView,
    times: Option<Histogram<u32>>,
    stop: CancellationToken,
    /// Cancelled when every client has ended.
    over: CancellationToken,
}

impl LoadGenerator {
    pub(crate) fn new(engine: EngineHandle, closing: CancellationToken) -> LoadGenerator {
        LoadGenerator { engine, run: Arc::default(), closing }
    }

    /// Returns the current or last run; `None` before the first one.
    pub(crate) fn view(&self) -> Option<LoadView> {
        self.lock().as_ref().map(LoadRun::view)
    }

    fn lock(&self) -> MutexGuard<'_, Option<LoadRun>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a run with the settings in the body of a request.
    ///
    /// # Errors
    /// 400 if the body is malformed, 404 if the model does not exist, 422 if a setting is out of
    /// range, 409 if a run is active.
    pub(crate) fn start(&self, body: &[u8]) -> Result<(), Error> {
        let order = parse(body)?;
        let model = self.engine.model(&order.model, None)?;
        let reason = match (model.ensemble(), model.decoupled) {
            (Some(_), _) => "is a chain of models; choose one of its models",
            (None, true) => "returns partial answers; choose a model with whole answers",
            (None, false) => "",
        };
        if !reason.is_empty() {
            return Err(Error::unprocessable(format!("'{}' {reason}", order.model)));
        }
        check("concurrency", order.concurrency as u64, 1, CONCURRENCY_MAX as u64)?;
        check("seconds", order.seconds, SECONDS_MIN, SECONDS_MAX)?;
        let (stop, over) = (self.closing.child_token(), CancellationToken::new());
        let limit = Duration::from_secs(order.seconds);
        {
            let mut run = self.lock();
            if run.as_ref().is_some_and(|run| run.view.running) {
                let busy = "the load generator is running; stop it first, or wait for its end";
                return Err(Error::new(ErrorKind::Conflict, busy));
            }
            *run = Some(LoadRun::new(&order, self.engine.uptime(), (stop.clone(), over.clone())));
        }
        tracing::info!(model = %order.model, "generating load: {} concurrent requests", order.concurrency);
        tokio::spawn(self.clone().keep_going(order, limit, (stop, over)));
        Ok(())
    }

    /// Ends the run, if there is one, and waits until it has ended.
    pub(crate) async fn stop(&self) {
        let run = self.lock().as_ref().map(|run| (run.stop.clone(), run.over.clone()));
        if let Some((stop, over)) = run {
            stop.cancel();
            over.cancelled().await;
        }
    }

    async fn keep_going(
        self,
        order: LoadRunSettings,
        limit: Duration,
        (stop, over): (CancellationToken, CancellationToken),
    ) {
        let clients = (0..order.concurrency).map(|_| {
            let (maker, model, stop) = (self.clone(), order.model.clone(), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(maker.client(&model)).await })
        });
        let clients: Vec<_> = clients.collect();
        let _ = stop.run_until_cancelled(tokio::time::sleep(limit)).await;
        stop.cancel();
        for client in clients {
            let _ = client.await;
        }
        if let Some(run) = self.lock().as_mut() {
            run.view.running = false;
            run.view.ends_ms = millis(self.engine.uptime());
        }
        over.cancel();
    }

    /// Sends one request after another, until it is dropped.
    async fn client(&self, model: &str) {
        loop {
            let begin = self.engine.uptime();
            let answered = self.send(model).await;
            let took = self.engine.uptime().saturating_sub(begin);
            let failed = answered.is_err();
            if let Some(run) = self.lock().as_mut() {
                run.count(answered, took);
            }
            if failed {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Sends a row of zeros, as in a warm-up.
    async fn send(&self, model: &str) -> Result<(), Error> {
        let model = self.engine.model(model, None)?;
        let inputs = warm_up_inputs(&model.signature, 1).into_iter().next().unwrap_or_default();
        let call = InferCall { priority: PRIORITY, ..InferCall::own(model, inputs) };
        self.engine.infer(call).await.map(|_| ())
    }
}

impl LoadRun {
    fn new(
        order: &LoadRunSettings,
        now: Duration,
        (stop, over): (CancellationToken, CancellationToken),
    ) -> LoadRun {
        let view = LoadView {
            model: order.model.clone(),
            concurrency: order.concurrency,
            started_ms: millis(now),
            ends_ms: millis(now) + order.seconds * 1000,
            running: true,
            answered: 0,
            failed: 0,
            p50_ms: None,
            p99_ms: None,
            last_error: None,
        };
        // The bounds are valid, so creation does not fail.
        LoadRun { view, times: Histogram::new_with_bounds(1, LONGEST_US, 2).ok(), stop, over }
    }

    fn count(&mut self, answered: Result<(), Error>, took: Duration) {
        match answered {
            Ok(()) => {
                self.view.answered += 1;
                let micros = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US);
                if let Some(times) = &mut self.times {
                    times.saturating_record(micros.clamp(1, LONGEST_US));
                }
            }
            Err(error) => {
                self.view.failed += 1;
                self.view.last_error = Some(error.message);
            }
        }
    }

    fn view(&self) -> LoadView {
        let times = self.times.as_ref().filter(|times| !times.is_empty());
        let quantile = |q| times.map(|times| times.value_at_quantile(q) as f64 / 1e3);
        LoadView { p50_ms: quantile(0.5), p99_ms: quantile(0.99), ..self.view.clone() }
    }
}

fn parse(body: &[u8]) -> Result<LoadRunSettings, Error> {
    let order: Result<Object<LoadRunSettings>, _> =
        serde_json::from_slice(document::without_mark(body));
    let order = order.map_err(|error| {
        let form = "{\"model\": \"NAME\", \"concurrency\": 1-64, \"seconds\": 5-60}";
        Error::malformed(format!("send {form}: {error}"))
    })?;
    Ok(order.0)
}

fn check(name: &str, value: u64, min: u64, max: u64) -> Result<(), Error> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::unprocessable(format!("{name} must be {min} to {max}, not {value}")))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
