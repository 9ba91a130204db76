//! Faults that a worker is told to have, so that tests see what the server makes of them.

use serde::{Deserialize, Serialize};
use types::random::SplitMix64;

/// One kind of fault, and at which steps of a worker's life it happens.
///
/// Opening the device is the first step. Each step of loading a model (reading it, each bucket
/// that is warmed up or timed) is one, and so is each batch, and each check while idle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    pub fault: Injected,
    /// Id of the adapter whose workers have it; those of every adapter without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The step that goes wrong; the first one is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// In its place: the chance of each step to go wrong, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// What chance is drawn from; every worker of every adapter draws numbers of its own.
    #[serde(default)]
    pub seed: u64,
    /// How many workers of an adapter have it, the first ones; all of them without a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u64>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Injected {
    /// The process aborts.
    Crash,
    /// The step never ends; the link goes on to answer.
    Hang,
    /// The whole process stands still.
    Freeze,
    /// The step takes ten times as long, and a tenth of a second more.
    Slow,
    /// From this step on each takes twice as long as the one before.
    SlowDeath,
    /// The step finds no memory on the device.
    OutOfMemory,
    /// This step and all after it fail: the device is gone.
    DeviceLost,
    /// A bit of every output of the step is flipped.
    WrongAnswer,
    /// The device refuses the step.
    Refuse,
    /// The process ends in the middle of a frame.
    LinkCut,
    /// Something that is no frame is sent before the step.
    Garbage,
    /// Thousands of lines go to stderr before the step.
    Flood,
}

impl Injected {
    /// Each of them once.
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

    /// As the settings call it.
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
    /// Whether the worker that is the `life`-th of this adapter has it.
    pub fn applies_to(&self, adapter: &str, incarnation: u64) -> bool {
        self.adapter.as_deref().is_none_or(|id| id == adapter)
            && self.workers.is_none_or(|workers| incarnation <= workers)
    }

    /// Whether it happens at this step of the `life`-th worker of an adapter.
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
    fn a_step_is_struck_by_number() {
        let crash = injection("fault = 'crash'\nadapter = 'cpu'\nat = 3\nworkers = 2");
        let struck: Vec<u64> = (1..9).filter(|step| crash.is_due("cpu", 1, *step)).collect();
        assert_eq!(struck, [3]);
        assert!(crash.applies_to("cpu", 1) && crash.applies_to("cpu", 2));
        assert!(!crash.applies_to("cpu", 3) && !crash.applies_to("pci-1", 1));
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed_and_differs_by_life_and_adapter() {
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
    fn every_fault_is_known_by_its_name() {
        for fault in Injected::ALL {
            assert_eq!(injection(&format!("fault = '{}'", fault.as_str())).fault, fault);
        }
    }
}
