//! The cost of the last requests under other settings. It is computed on request in the background
//! at the lowest priority, at most once an hour.

use engine::{EngineHandle, WhatifInputs};
use serde::Serialize;
use serde_json::json as value;
use simulate::{Case, Mix, Situation, Trace};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use telemetry::Snapshot;
use tokio::sync::Semaphore;
use types::clock;
use types::error::Error;

/// Maximum age of an answer; one without cases is computed again earlier.
const FRESH: Duration = Duration::from_secs(3600);
const FRESH_EMPTY: Duration = Duration::from_secs(5);

/// The last answer, and a flag for a running computation. Clones share both.
#[derive(Clone, Default)]
pub(crate) struct WhatIf(Arc<WhatifShared>);

struct WhatifShared {
    state: Mutex<WhatifState>,
    /// Acquired while a recording is built, which may take much memory.
    recording: Semaphore,
}

impl Default for WhatifShared {
    fn default() -> WhatifShared {
        WhatifShared { state: Mutex::default(), recording: Semaphore::new(1) }
    }
}

#[derive(Default)]
struct WhatifState {
    computing: bool,
    answer: Option<WhatifAnswer>,
}

#[derive(Clone)]
struct WhatifAnswer {
    at: Instant,
    /// Number of changes of the settings before the computation.
    configured: u64,
    requests: usize,
    span: Duration,
    cases: Vec<Case>,
    /// The reason for a missing comparison.
    reason: Option<String>,
}

#[derive(Serialize)]
struct WhatifView {
    /// `computing` until there is an answer, then `ready`.
    state: &'static str,
    /// Age of the answer.
    age_ms: Option<u64>,
    requests: Option<usize>,
    /// Time from the first request to the last.
    span_ms: Option<u64>,
    cases: Vec<Case>,
    /// Index of the best case, if one is better than the current settings.
    best: Option<usize>,
    reason: Option<String>,
}

impl WhatIf {
    fn lock(&self) -> MutexGuard<'_, WhatifState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if the caller must compute an answer: none is being computed, and there is no
    /// recent one. Drops an answer for settings that have changed.
    fn begins(&self, configured: u64) -> bool {
        let mut state = self.lock();
        state.answer.take_if(|answer| answer.configured != configured);
        let fresh = |answer: &WhatifAnswer| {
            let limit = if answer.cases.is_empty() { FRESH_EMPTY } else { FRESH };
            clock::now().duration_since(answer.at) < limit
        };
        if state.computing || state.answer.as_ref().is_some_and(fresh) {
            return false;
        }
        state.computing = true;
        true
    }

    /// Returns the answer as JSON; computes one unless there is a recent one.
    ///
    /// # Errors
    /// If the engine has ended, or no thread can be started.
    pub(crate) async fn view(&self, engine: &EngineHandle) -> Result<impl Serialize, Error> {
        let configured = engine.configured();
        if self.begins(configured) {
            let computing = Computing(self.clone());
            let inputs = engine.whatif_inputs().await?;
            let snapshot = engine.snapshots().borrow().clone();
            let compute = move || {
                let answer = answer(configured, &inputs, &snapshot);
                computing.0.lock().answer = Some(answer);
            };
            let thread = std::thread::Builder::new().name("whatif".to_owned());
            thread.spawn(move || at_lowest_priority(compute)).map_err(|error| {
                Error::unavailable(format!("failed to start a thread for the computation: {error}"))
            })?;
        }
        Ok(self.present())
    }

    /// Returns the requests of the last day and the adapters, in JSON.
    ///
    /// # Errors
    /// If the recording is being written for another client, or the engine has ended.
    pub(crate) async fn recording(&self, engine: &EngineHandle) -> Result<Vec<u8>, Error> {
        let Ok(_permit) = self.0.recording.try_acquire() else {
            let busy = "the recording is being written for another client; retry later";
            return Err(Error::unavailable(busy));
        };
        let inputs = engine.whatif_inputs().await?;
        let snapshot = engine.snapshots().borrow().clone();
        let written = tokio::task::spawn_blocking(move || write(&inputs, &snapshot)).await;
        written.map_err(|error| Error::internal(error.to_string()))?
    }

    fn present(&self) -> WhatifView {
        let answer = self.lock().answer.clone();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        WhatifView {
            state: if answer.is_some() { "ready" } else { "computing" },
            age_ms: answer.as_ref().map(|it| millis(clock::now().duration_since(it.at))),
            requests: answer.as_ref().map(|it| it.requests),
            span_ms: answer.as_ref().map(|it| millis(it.span)),
            reason: answer.as_ref().and_then(|it| it.reason.clone()),
            best: answer.as_ref().and_then(|it| Case::best(&it.cases)),
            cases: answer.map(|it| it.cases).unwrap_or_default(),
        }
    }
}

/// Ends the computation when dropped, whatever its result.
struct Computing(WhatIf);

impl Drop for Computing {
    fn drop(&mut self) {
        self.0.lock().computing = false;
    }
}

/// Returns the requests as CSV and the adapters as TOML, in JSON.
fn write(inputs: &WhatifInputs, snapshot: &Snapshot) -> Result<Vec<u8>, Error> {
    let situation = situation(inputs, snapshot);
    let wrong = |error: String| Error::internal(format!("failed to write the recording: {error}"));
    let adapters = toml::to_string(&situation.mix).map_err(|error| wrong(error.to_string()))?;
    let recording = value!({ "trace": situation.trace.to_csv(), "adapters": adapters });
    serde_json::to_vec(&recording).map_err(|error| wrong(error.to_string()))
}

fn situation(inputs: &WhatifInputs, snapshot: &Snapshot) -> Situation {
    let situation = Situation {
        trace: Trace::of(&inputs.arrivals, inputs.now),
        mix: Mix::recorded(snapshot),
        policy: inputs.policy,
        slo: inputs.slo.as_secs_f64(),
        ahead: inputs.ahead,
        min: inputs.min,
        cpu: inputs.cpu,
    };
    situation.completed()
}

fn answer(configured: u64, inputs: &WhatifInputs, snapshot: &Snapshot) -> WhatifAnswer {
    let situation = situation(inputs, snapshot);
    let requests = situation.trace.requests.len();
    let span = Duration::try_from_secs_f64(situation.trace.span()).unwrap_or_default();
    let (cases, reason) = match situation.cases() {
        Ok(cases) if cases.is_empty() => {
            let has_requests = inputs.arrivals.since(inputs.now).next().is_some();
            let measured = "no adapter has been measured yet with the requested models";
            let reason = if has_requests { measured } else { "no request was received yet" };
            (cases, Some(reason.to_owned()))
        }
        Ok(cases) => (cases, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    WhatifAnswer { at: clock::now(), configured, requests, span, cases, reason }
}

/// Runs a task on this thread after everything else that the machine has to do.
fn at_lowest_priority(task: impl FnOnce()) {
    // On Linux this is the priority of the thread, on other platforms that of the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(19) {
        tracing::debug!("failed to lower the priority: {error}");
    }
    task();
}
