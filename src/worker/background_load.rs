//! Loads one model in a separate thread, so that batches of other models do not wait for its steps.
//!
//! Only for the CPU: a device has one queue, and the thread that runs its kernels also compiles
//! them. The thread has the lowest priority, if the platform supports priorities of threads.

use super::faults::OutputCorruption;
use super::guard::guarded_model;
use super::load::OngoingLoad;
use super::loaded::Tools;
use super::process;
use burn::tensor::Device;
use kinds::Registry;
use model::ModelError;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use wire::Slow;
use wire::client::WorkerSender;

/// Interval of checks for the end of the load.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Owned counterparts of the fields of [`Tools`].
pub(super) struct OwnedTools {
    pub(super) registry: Arc<Registry>,
    pub(super) device: Device,
    pub(super) sender: WorkerSender,
    pub(super) slow: Option<Slow>,
    pub(super) corruption: OutputCorruption,
    pub(super) caches: PathBuf,
}

/// A load that runs in a separate thread.
pub(super) struct BackgroundLoad {
    /// The engine's number for the model.
    pub(super) model: u32,
    aborted: Arc<AtomicBool>,
    thread: JoinHandle<Ended>,
}

/// The load, unless it was aborted, and the result of its last step.
type Ended = Option<(OngoingLoad, Result<(), ModelError>)>;

impl BackgroundLoad {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub(super) fn begin(
        loading: OngoingLoad,
        tools: OwnedTools,
    ) -> Result<BackgroundLoad, ModelError> {
        let model = loading.model();
        let aborted = Arc::new(AtomicBool::new(false));
        let stop = aborted.clone();
        let thread = std::thread::Builder::new().name("load".into());
        let thread = thread.spawn(move || load(loading, &tools, &stop));
        let thread = thread.map_err(|error| {
            ModelError::Machine(format!("failed to start a thread to load the model: {error}"))
        })?;
        Ok(BackgroundLoad { model, aborted, thread })
    }

    /// Returns true if [`BackgroundLoad::end`] does not block.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the load after its current step, without waiting for it.
    pub(super) fn abort(self) {
        // `Relaxed` is sufficient: the flag guards no data, and a late read costs one more step.
        self.aborted.store(true, Ordering::Relaxed);
    }

    /// Waits for the end of the thread and returns its result.
    pub(super) fn end(self) -> Ended {
        self.thread.join().ok().flatten()
    }
}

fn load(mut loading: OngoingLoad, owned: &OwnedTools, stop: &AtomicBool) -> Ended {
    process::lower_thread_priority();
    let OwnedTools { registry, device, sender, slow, corruption, caches } = owned;
    let tools = Tools { registry, device, sender, slow: *slow, corruption, caches };
    loop {
        let step = guarded_model(|| loading.step(&tools));
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        match step {
            Ok(false) => {}
            Ok(true) => return Some((loading, Ok(()))),
            Err(error) => return Some((loading, Err(error))),
        }
    }
}
