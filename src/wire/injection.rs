//! Faults that are injected into workers, to test how the server handles them.

use serde::{Deserialize, Serialize};
use types::random::SplitMix64;

/// One kind of fault, and the steps of a worker at which it occurs.
///
/// The first step opens the device. Further steps are each step of a load (reading the model, each
/// bucket that is warmed up or timed), each batch, and each self-check while idle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    pub fault: Injected,
    /// Id of the adapter with the fault; without an id, all adapters have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The number of the step with the fault, starting at 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// Alternatively, the probability of the fault in each step, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// Seed for the probability; each worker of each adapter draws its own numbers.
    #[serde(default)]
    pub seed: u64,
    /// Number of first workers of an adapter with the fault; without a number, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u64>,
}

/// A kind of injected fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Injected {
    /// The process aborts.
    Crash,
    /// The step never ends; the link continues to answer pings.
    Hang,
    /// The whole process is stopped.
    Freeze,
    /// The step takes ten times as long, plus 0.1 s.
    Slow,
    /// From this step on, each step takes twice as long as the one before.
    SlowDeath,
    /// The step fails because the device is out of memory.
    OutOfMemory,
    /// This step and all later ones fail because the device is lost.
    DeviceLost,
    /// A bit of every output of the step is flipped.
    WrongAnswer,
    /// The device rejects the step.
    Refuse,
    /// The process exits in the middle of a frame.
    LinkCut,
    /// Invalid bytes are sent before the step.
    Garbage,
    /// Thousands of lines are written to stderr before the step.
    Flood,
}

impl Injected {
    /// All kinds.
    pub const ALL: [Injected; 12] = [
        Injected::Crash,
        Injected::Hang,
        Injected::Freeze,
        Injected::Slow,
        Injected::SlowDeath,
        Injected::OutOfMemory,
        Injected::DeviceLost,
        Injected::WrongAnswer,
        Injected::Refuse,
        Injected::LinkCut,
        Injected::Garbage,
        Injected::Flood,
    ];

    /// The name in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Injected::Crash => "crash",
            Injected::Hang => "hang",
            Injected::Freeze => "freeze",
            Injected::Slow => "slow",
            Injected::SlowDeath => "slow_death",
            Injected::OutOfMemory => "out_of_memory",
            Injected::DeviceLost => "device_lost",
            Injected::WrongAnswer => "wrong_answer",
            Injected::Refuse => "refuse",
            Injected::LinkCut => "link_cut",
            Injected::Garbage => "garbage",
            Injected::Flood => "flood",
        }
    }
}

impl Injection {
    /// True if this worker has the fault; `incarnation` counts the workers of the adapter.
    pub fn applies_to(&self, adapter: &str, incarnation: u64) -> bool {
        self.adapter.as_deref().is_none_or(|id| id == adapter)
            && self.workers.is_none_or(|workers| incarnation <= workers)
    }

    /// True if the fault occurs at this step of the worker.
    pub fn is_due(&self, adapter: &str, incarnation: u64, step: u64) -> bool {
        let drawn =
            self.chance.is_some_and(|chance| self.draw(adapter, incarnation, step) < chance);
        self.at == Some(step) || drawn
    }

    fn draw(&self, adapter: &str, incarnation: u64, step: u64) -> f64 {
        let bytes = adapter.bytes().map(u64::from);
        let parts = bytes.chain([incarnation, step, self.fault as u64]);
        let seed = parts.fold(self.seed, |seed, part| SplitMix64::new(seed ^ part).bits());
        SplitMix64::new(seed).uniform()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injection(text: &str) -> Injection {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn fault_occurs_at_the_step_with_its_number() {
        let crash = injection("fault = 'crash'\nadapter = 'cpu'\nat = 3\nworkers = 2");
        let steps: Vec<u64> = (1..9).filter(|step| crash.is_due("cpu", 1, *step)).collect();
        assert_eq!(steps, [3]);
        assert!(crash.applies_to("cpu", 1) && crash.applies_to("cpu", 2));
        assert!(!crash.applies_to("cpu", 3) && !crash.applies_to("pci-1", 1));
    }

    #[test]
    fn random_steps_depend_on_seed_worker_and_adapter() {
        let of = |seed: u64, adapter: &str, incarnation: u64| -> Vec<u64> {
            let slow = injection(&format!("fault = 'slow'\nchance = 0.25\nseed = {seed}"));
            (1..=1000).filter(|step| slow.is_due(adapter, incarnation, *step)).collect()
        };
        let first = of(7, "cpu", 1);
        assert!((200..300).contains(&first.len()), "{}", first.len());
        assert_eq!(of(7, "cpu", 1), first);
        for other in [of(8, "cpu", 1), of(7, "cpu", 2), of(7, "pci-1", 1)] {
            assert_ne!(other, first);
        }
    }

    #[test]
    fn every_fault_parses_from_its_name() {
        for fault in Injected::ALL {
            assert_eq!(injection(&format!("fault = '{}'", fault.as_str())).fault, fault);
        }
    }
}
