//! Counters per model, for the statistics extension and for metrics.

use crate::Catalogue;
use model::info::ModelInfo;
use schedule::{ModelId, Reject, Time};
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use telemetry::{Compute, Done, Metrics, ModelMeter, ModelStatistics, Recent};

/// The rows and times of an answered request.
pub(crate) struct Answered {
    pub(crate) rows: u64,
    pub(crate) queue: Duration,
    pub(crate) compute: Compute,
}

/// A batch that was run.
pub(crate) struct Executed<'a> {
    pub(crate) adapter: &'a str,
    pub(crate) rows: u32,
    /// Number of rows after padding.
    pub(crate) bucket: u32,
    pub(crate) compute: Compute,
}

/// Counters by model. A model in validation is not counted, since it has no requests of clients.
pub(crate) struct Statistics {
    pub(crate) metrics: Metrics,
    models: HashMap<ModelId, Counted>,
}

/// The counters of one model.
pub(crate) struct Counted {
    pub(crate) stats: ModelStatistics,
    meter: ModelMeter,
    pub(crate) recent: Recent,
    /// The error of the last request that failed or was rejected.
    pub(crate) last_error: Option<String>,
}

impl Statistics {
    pub(crate) fn new(catalogue: &Catalogue) -> Statistics {
        let mut statistics = Statistics { metrics: Metrics::default(), models: HashMap::new() };
        for (id, entry) in catalogue.all() {
            statistics.add(id, &entry.info);
        }
        statistics
    }

    /// Starts to count a model.
    pub(crate) fn add(&mut self, id: ModelId, info: &ModelInfo) {
        let (name, version) = (info.name.clone(), info.version.clone());
        let meter = self.metrics.model(&name, &version);
        let stats = ModelStatistics { name, version, ..ModelStatistics::default() };
        let (recent, last_error) = (Recent::default(), None);
        self.models.entry(id).or_insert(Counted { stats, meter, recent, last_error });
    }

    pub(crate) fn remove(&mut self, id: ModelId) {
        self.models.remove(&id);
    }

    pub(crate) fn get(&self, id: ModelId) -> Option<&Counted> {
        self.models.get(&id)
    }

    /// Updates the statistics of the last seconds.
    pub(crate) fn refresh(&mut self, now: Time) {
        self.models.values_mut().for_each(|counted| counted.recent.refresh(now.0));
    }

    pub(crate) fn answered(&mut self, id: ModelId, now: Time, answered: Answered) {
        let Answered { rows, queue, compute } = answered;
        let Some(Counted { stats, meter, recent, .. }) = self.models.get_mut(&id) else { return };
        stats.answered(epoch_millis(), rows, queue, compute);
        let run = queue + compute.input + compute.infer + compute.output;
        meter.answered(rows, queue, run);
        recent.done(now.0, Done { requests: 1, rows, batches: 0, run });
    }

    /// Counts a request that failed or was rejected, with the label `cause` and the error text.
    pub(crate) fn failed(
        &mut self,
        id: ModelId,
        (cause, error): (&'static str, &str),
        took: Duration,
    ) {
        let Some(counted) = self.models.get_mut(&id) else { return };
        counted.stats.failed(took);
        counted.meter.failed(cause);
        counted.last_error = Some(error.to_owned());
    }

    pub(crate) fn executed(&mut self, id: ModelId, executed: Executed<'_>) {
        let Executed { adapter, rows, bucket, compute } = executed;
        let Some(Counted { stats, meter, .. }) = self.models.get_mut(&id) else { return };
        stats.executed(u64::from(rows), compute);
        meter.executed(adapter, rows, bucket, compute.infer);
    }
}

/// The label under which a rejection is counted.
pub(crate) fn cause(reason: &Reject) -> &'static str {
    match reason {
        Reject::QueueFull { .. } => "queue_full",
        Reject::NoAdapter { .. } => "no_adapter",
        Reject::ModelFailed => "model_failed",
        Reject::NoneHolds => "none_holds",
        Reject::ModelGone => "model_gone",
        Reject::Overload { .. } => "overload",
        Reject::Deadline => "deadline",
        Reject::Input { .. } => "input",
        Reject::RetriesExhausted { .. } => "retries",
        Reject::ShuttingDown => "shutting_down",
    }
}

/// Milliseconds since 1970.
fn epoch_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
