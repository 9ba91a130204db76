//! State shared by all handlers, and the model that a path names.

use crate::http::body::Bodies;
use crate::http::guard::Guard;
use crate::http::limits::ApiLimits;
use crate::operator::live::LiveSettings;
use crate::operator::load::LoadGenerator;
use crate::operator::rendered::RenderedSnapshot;
use crate::operator::whatif::WhatIf;
use engine::EngineHandle;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use telemetry::Traces;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// State shared by all handlers.
pub(crate) struct ApiState {
    pub(crate) engine: EngineHandle,
    pub(crate) guard: Guard,
    pub(crate) bodies: Bodies,
    /// One permit per event stream that may still be opened.
    pub(crate) event_streams: Arc<Semaphore>,
    /// The newest snapshot as JSON, shared by all event streams.
    pub(crate) rendered: Arc<RenderedSnapshot>,
    pub(crate) load: LoadGenerator,
    pub(crate) whatif: WhatIf,
    pub(crate) settings: Option<Arc<dyn LiveSettings>>,
    pub(crate) traces: Traces,
    /// Unix time in seconds at which the server started.
    pub(crate) started: u64,
    /// Cancelled when shutdown begins, so that event streams end.
    pub(crate) closing: CancellationToken,
}

impl ApiState {
    pub(crate) fn new(
        engine: EngineHandle,
        limits: &ApiLimits,
        traces: Traces,
        closing: CancellationToken,
    ) -> Arc<ApiState> {
        let event_streams = limits.event_streams_max.min(Semaphore::MAX_PERMITS);
        Arc::new(ApiState {
            load: LoadGenerator::new(engine.clone(), closing.clone()),
            rendered: Arc::default(),
            whatif: WhatIf::default(),
            settings: limits.settings.clone(),
            traces,
            started: started(engine.uptime()),
            bodies: Bodies::new(limits, engine.memory().clone()),
            engine,
            guard: Guard::new(limits),
            event_streams: Arc::new(Semaphore::new(event_streams)),
            closing,
        })
    }
}

/// A model as named in a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
}

/// Returns the Unix time in seconds at which a server started that has been running for `uptime`.
fn started(uptime: Duration) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.saturating_sub(uptime).as_secs()
}
