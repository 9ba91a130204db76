//! Faults that are injected into the steps of a worker, for tests.
//!
//! Messages of injected faults begin with "injected:" to distinguish them from real ones.

use model::{Generate, Model, ModelError, Signature};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use types::clock;
use types::tensor::{Tensor, Tensors};
use wire::client::WorkerSender;
use wire::{Injected, Injection};

/// Factor of the duration of a slow step, and its additional duration.
const SLOWER: u32 = 10;
const SLOWER_BY: Duration = Duration::from_millis(100);
/// Additional duration of the first step of a slow death.
const DYING: Duration = Duration::from_millis(20);
/// Lines of a flood: far more than is logged, and more than a pipe holds.
const FLOOD_LINES: usize = 20_000;

/// The faults of one worker.
pub(super) struct Faults {
    injections: Vec<Injection>,
    adapter: String,
    incarnation: u64,
    sender: WorkerSender,
    /// Number of steps that have begun.
    steps: u64,
    lost: bool,
    /// Delay of the last step of a slow death.
    dying: Option<Duration>,
    corruption: OutputCorruption,
}

impl Faults {
    /// The injections that apply to this worker.
    pub(super) fn new(
        injections: &[Injection],
        (adapter, incarnation): (&str, u64),
        sender: WorkerSender,
    ) -> Faults {
        let adapter = adapter.to_owned();
        let concerns = |injection: &&Injection| injection.applies_to(&adapter, incarnation);
        let injections: Vec<_> = injections.iter().filter(concerns).cloned().collect();
        let corrupts = injections.iter().any(|injection| injection.fault == Injected::WrongAnswer);
        let corruption = OutputCorruption(corrupts.then(Arc::default));
        let (steps, lost, dying) = (0, false, None);
        Faults { injections, adapter, incarnation, sender, steps, lost, dying, corruption }
    }

    /// True if no fault is injected.
    pub(super) fn are_none(&self) -> bool {
        self.injections.is_empty()
    }

    /// Runs a step with its injected faults.
    ///
    /// # Errors
    /// Those of the step, and those injected.
    pub(super) fn step<T>(
        &mut self,
        work: impl FnOnce() -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        if self.are_none() {
            return work();
        }
        self.steps += 1;
        let due: Vec<Injected> = self.due();
        self.corruption.set(due.contains(&Injected::WrongAnswer));
        due.iter().try_for_each(|fault| self.inject(*fault))?;
        if self.lost {
            return Err(ModelError::Device("injected: the device is lost".to_owned()));
        }
        let begin = clock::now();
        let mut done = work();
        if due.contains(&Injected::OutOfMemory) {
            done = Err(ModelError::Memory("injected: out of memory".to_owned()));
        }
        if due.contains(&Injected::Slow) {
            std::thread::sleep(begin.elapsed().saturating_mul(SLOWER - 1) + SLOWER_BY);
        }
        if let Some(held_up) = &mut self.dying {
            *held_up = held_up.saturating_mul(2);
            std::thread::sleep(*held_up);
        }
        done
    }

    /// The faults of this step.
    fn due(&self) -> Vec<Injected> {
        let now =
            |injection: &&Injection| injection.is_due(&self.adapter, self.incarnation, self.steps);
        self.injections.iter().filter(now).map(|injection| injection.fault).collect()
    }

    fn inject(&mut self, fault: Injected) -> Result<(), ModelError> {
        let refused = |what: &str| Err(ModelError::Device(format!("injected: {what}")));
        tracing::warn!(step = self.steps, "injected: {}", fault.as_str());
        match fault {
            Injected::Crash => std::process::abort(),
            Injected::Hang => hang(),
            Injected::Freeze => freeze(),
            // `step` doubles the time before its first use.
            Injected::SlowDeath => self.dying = Some(DYING / 2),
            Injected::DeviceLost => self.lost = true,
            Injected::Refuse => return refused("the device rejects the step"),
            Injected::LinkCut => {
                // The prefix of a frame without its rest.
                let _ = self.sender.send_raw(b"CNC1\x40\0\0\0\0\0\0\0half");
                std::process::exit(1);
            }
            Injected::Garbage => {
                let _ = self.sender.send_raw(&[0xa5; 64]);
            }
            Injected::Flood => flood(),
            Injected::OutOfMemory | Injected::Slow | Injected::WrongAnswer => {}
        }
        Ok(())
    }

    /// The flag that corrupts the outputs of models.
    pub(super) fn corruption(&self) -> OutputCorruption {
        self.corruption.clone()
    }
}

/// A flag, shared with the models, that corrupts the outputs of a step; `None` if no fault does
/// that.
#[derive(Clone, Default)]
pub(super) struct OutputCorruption(Option<Arc<AtomicBool>>);

impl OutputCorruption {
    fn set(&self, corrupts: bool) {
        if let Some(flag) = &self.0 {
            flag.store(corrupts, Ordering::Relaxed);
        }
    }

    /// Wraps a model so that its outputs are corrupted while the flag is set.
    pub(super) fn wrap(&self, model: Box<dyn Model>) -> Box<dyn Model> {
        match self.0.clone() {
            Some(corrupts) => Box::new(CorruptedModel { model, corrupts }),
            None => model,
        }
    }
}

/// A model on a device that sometimes computes wrongly.
struct CorruptedModel {
    model: Box<dyn Model>,
    corrupts: Arc<AtomicBool>,
}

impl Model for CorruptedModel {
    fn signature(&self) -> &Signature {
        self.model.signature()
    }

    fn forward(&mut self, inputs: &Tensors, rows: usize) -> Result<Tensors, ModelError> {
        let outputs = self.model.forward(inputs, rows)?;
        if !self.corrupts.load(Ordering::Relaxed) {
            return Ok(outputs);
        }
        Ok(Tensors(outputs.0.into_iter().map(flipped).collect()))
    }

    /// Partial answers are not corrupted, since no golden sample could detect that.
    fn generator(&mut self) -> Option<&mut dyn Generate> {
        self.model.generator()
    }
}

/// The tensor with one bit of its first element flipped: the highest bit of the exponent, if it has
/// one.
fn flipped(tensor: Tensor) -> Tensor {
    let mut data = tensor.data.to_vec();
    let element = tensor.datatype.size().unwrap_or(1);
    if let Some(byte) = data.get_mut(element.saturating_sub(1)) {
        *byte ^= 0x40;
    }
    Tensor { data: data.into(), ..tensor }
}

fn hang() {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Stops the whole process, including the thread of its link.
#[cfg(unix)]
fn freeze() {
    use rustix::process::{Signal, getpid, kill_process};
    if let Err(error) = kill_process(getpid(), Signal::STOP) {
        tracing::warn!("failed to stop this process: {error}");
        hang();
    }
}

#[cfg(not(unix))]
fn freeze() {
    hang();
}

#[allow(clippy::print_stderr, reason = "a driver would not use the log either")]
fn flood() {
    for line in 0..FLOOD_LINES {
        eprintln!("injected: line {line} of a driver with much output");
    }
}
