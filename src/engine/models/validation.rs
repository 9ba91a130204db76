//! The validation load of a new model: first in a separate worker process on the CPU, with limits
//! of time and memory, so that a slow load delays no request to another model.

use crate::EngineConfig;
use crate::calls::rejections::LoadError;
use crate::workers::launch::{OUT_OF_MEMORY, WorkerTemplate};
use crate::workers::process;
use crate::workers::worker_report::{WorkerEvent, WorkerReport};
use adapter::entry::{AdapterEntry, Api};
use adapter::memory;
use model::files::ModelSource;
use model::info::ModelInfo;
use schedule::{AdapterId, AdapterMode, Incarnation};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use telemetry::Snapshot;
use tokio::sync::{Semaphore, mpsc, watch};
use types::clock;
use wire::{Cause, FromWorker, LoadRequest, ToWorker};

/// Maximum number of concurrent processes, so that slow models do not block others.
const PROCESSES_MAX: usize = 8;
/// Capacity of the channel for reports of the worker.
const REPORTS_MAX: usize = 64;
/// Timeout of the exit of a worker that has loaded the model.
const EXIT_MAX: Duration = Duration::from_secs(1);
/// Divisor: one load may use at most this fraction of the available memory.
const MEMORY_PART: u64 = 2;
/// A step may take at most this multiple of the smallest latency target of the served models, since
/// batches run only between the steps of a load.
// Without the limit a file of 142 bytes made requests to another model on the CPU wait 12 s
// in the median: one step took all that time.
const TARGETS: f64 = 2.0;
/// Maximum time of a step if no model is served.
const STEP_MAX: Duration = Duration::from_millis(200);

type Snapshots = watch::Receiver<Arc<Snapshot>>;

/// The verdict of a validation load.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// No step delays other models, or no validation load ran: a worker may load the model.
    Short,
    /// The model can be loaded, but a step takes so long that it would delay other models.
    Long,
    /// The model cannot be loaded, and a second attempt would take too long.
    Failed(LoadError),
}

/// Runs validation loads in separate processes.
#[derive(Clone)]
pub(crate) struct Validator {
    template: WorkerTemplate,
    /// The CPU as an adapter; `None` if it is unknown.
    cpu: Option<AdapterEntry>,
    /// Timeout of one load; zero disables validation loads.
    limit: Duration,
    places: Arc<Semaphore>,
    numbers: Arc<AtomicU64>,
}

impl Validator {
    pub(crate) fn new(config: &EngineConfig) -> Validator {
        let cpu = config.live.entries_without_listing.iter().find(|entry| entry.api == Api::Cpu);
        Validator {
            template: WorkerTemplate::of(config),
            cpu: cpu.cloned(),
            limit: config.validation,
            places: Arc::new(Semaphore::new(PROCESSES_MAX)),
            numbers: Arc::default(),
        }
    }

    /// Loads a model in a separate process. `step_max` is the time that a step may take.
    async fn load(&self, info: &ModelInfo, step_max: Duration) -> ValidationOutcome {
        let Some(cpu) = self.cpu.as_ref().filter(|_| !self.limit.is_zero()) else {
            return ValidationOutcome::Unknown;
        };
        let Ok(_place) = self.places.acquire().await else { return ValidationOutcome::Unknown };
        let available =
            memory::host_in_use().map(|memory| memory.total.saturating_sub(memory.used));
        let bytes_max = available.map_or(u64::MAX, |bytes| bytes / MEMORY_PART);
        let template =
            WorkerTemplate { validation: Some(bytes_max), link: None, ..self.template.clone() };
        let (reports, mut inbox) = mpsc::channel(REPORTS_MAX);
        let number = Incarnation(self.numbers.fetch_add(1, Ordering::Relaxed));
        // The fleet never assigns this number, and the reports go to a channel of their own.
        let worker = process::start(&template, cpu, (AdapterId(u32::MAX), number), reports);
        worker.load(info, LoadRequest { model: 0, info: info.clone() });
        let followed = tokio::time::timeout(self.limit, follow(&mut inbox, step_max)).await;
        if matches!(
            followed,
            Ok(ValidationOutcome::Loaded { .. } | ValidationOutcome::Failed { .. })
        ) {
            // A killed worker counts as failed, and its stderr would be logged as warnings.
            worker.send_control(ToWorker::Stop);
            let _ = tokio::time::timeout(EXIT_MAX, exited(&mut inbox)).await;
        }
        worker.kill();
        match followed {
            Ok(ValidationOutcome::Ended(error)) => ValidationOutcome::Ended(format!(
                "{error}; it may use {} MB of memory, half of the available memory",
                bytes_max / 1_000_000
            )),
            Ok(outcome) => outcome,
            Err(_) => ValidationOutcome::TooLong(self.limit),
        }
    }
}

/// The outcome of a validation load.
enum ValidationOutcome {
    /// The load did not run, because of the environment of the server.
    Unknown,
    Loaded {
        is_short: bool,
    },
    /// `is_short`: another attempt would not delay other models.
    Failed {
        error: LoadError,
        is_short: bool,
    },
    /// The process ended.
    Ended(String),
    TooLong(Duration),
}

/// Follows the worker to the end of the load.
async fn follow(inbox: &mut mpsc::Receiver<WorkerReport>, step_max: Duration) -> ValidationOutcome {
    let mut steps = LoadSteps::default();
    while let Some(report) = inbox.recv().await {
        match report.event {
            WorkerEvent::Message(whole) => match whole.message {
                FromWorker::Progress { .. } => steps.next(),
                FromWorker::Loaded { .. } => {
                    steps.next();
                    return ValidationOutcome::Loaded { is_short: steps.longest <= step_max };
                }
                FromWorker::LoadFailed { cause, error, .. } => {
                    steps.next();
                    let error = LoadError { cause, error };
                    return ValidationOutcome::Failed {
                        error,
                        is_short: steps.longest <= step_max,
                    };
                }
                _ => {}
            },
            WorkerEvent::NotStarted { .. } => return ValidationOutcome::Unknown,
            WorkerEvent::Exited(exit) => {
                let how = if exit.out_of_memory { OUT_OF_MEMORY } else { &exit.how };
                return ValidationOutcome::Ended(format!(
                    "the process of the validation load ended ({how})"
                ));
            }
            WorkerEvent::Spawned { .. } | WorkerEvent::Lost { .. } => {}
        }
    }
    ValidationOutcome::Unknown
}

/// Waits for the exit of the process.
async fn exited(inbox: &mut mpsc::Receiver<WorkerReport>) {
    while let Some(report) = inbox.recv().await {
        if matches!(report.event, WorkerEvent::Exited(_)) {
            return;
        }
    }
}

/// Times of the steps of a load; a worker reports the start of each step.
#[derive(Default)]
struct LoadSteps {
    begun: Option<Instant>,
    longest: Duration,
}

impl LoadSteps {
    fn next(&mut self) {
        let now = clock::now();
        if let Some(begun) = self.begun.replace(now) {
            self.longest = self.longest.max(now.duration_since(begun));
        }
    }
}

impl Validator {
    /// Loads models in separate processes. The result is the first failure, otherwise
    /// [`Verdict::Long`] if any load was long. If a card can serve, the time on the CPU is ignored.
    pub(crate) async fn validate(&self, infos: &[ModelInfo], snapshots: &Snapshots) -> Verdict {
        let has_graph =
            |info: &&ModelInfo| info.ensemble().is_none() && info.source != ModelSource::Embedded;
        let mut verdict = Verdict::Short;
        for info in infos.iter().filter(has_graph) {
            let outcome = self.load(info, step_max(snapshots)).await;
            match judge(outcome, snapshots) {
                Verdict::Short => {}
                Verdict::Long => verdict = Verdict::Long,
                failed @ Verdict::Failed(_) => return failed,
            }
        }
        verdict
    }
}

fn judge(outcome: ValidationOutcome, snapshots: &Snapshots) -> Verdict {
    match outcome {
        ValidationOutcome::Unknown | ValidationOutcome::Failed { is_short: true, .. } => {
            Verdict::Short
        }
        ValidationOutcome::Failed { error, .. } => Verdict::Failed(error),
        ValidationOutcome::Ended(error) => {
            // The most likely cause, since an allocation beyond the limit ends the process.
            Verdict::Failed(LoadError { cause: Cause::Memory, error })
        }
        ValidationOutcome::Loaded { is_short } if is_short || has_card(snapshots) => Verdict::Short,
        ValidationOutcome::Loaded { .. } => Verdict::Long,
        ValidationOutcome::TooLong(_) if has_card(snapshots) => Verdict::Short,
        ValidationOutcome::TooLong(limit) => {
            let error = format!(
                "its validation load did not end within {limit:?}; workers.validation_timeout sets \
                 this time"
            );
            Verdict::Failed(LoadError { cause: Cause::Model, error })
        }
    }
}

/// True if an adapter other than the CPU may serve.
fn has_card(snapshots: &Snapshots) -> bool {
    let snapshot = snapshots.borrow();
    snapshot.adapters.iter().any(|adapter| {
        adapter.entry.api != Api::Cpu
            && adapter.activity.is_some()
            && adapter.mode != AdapterMode::Off
    })
}

/// The time that a step of a load may take.
fn step_max(snapshots: &Snapshots) -> Duration {
    let snapshot = snapshots.borrow();
    let targets = snapshot.models.iter().filter_map(|model| model.slo_ms).filter(|ms| *ms > 0);
    let least = targets.min();
    least.map_or(STEP_MAX, |ms| Duration::from_millis(ms).mul_f64(TARGETS))
}
