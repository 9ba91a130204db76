//! Assumptions about an adapter before any measurement: speed, cold start, power, memory.
//!
//! Powers are relative to the adapter when it is off. They follow published figures for idle
//! contexts and typical board powers by class (a bare context costs nearly all of the idle power);
//! figures of the operator have precedence. Where they are shown, they are marked as assumed.

use adapter::entry::{AdapterEntry, Class, Watts};
use schedule::{AdapterProfile, Power, Role};
use std::collections::BTreeMap;
use std::time::Duration;

/// Share of an adapter's memory that models may use: drivers, other programs and the buffers of a
/// batch need the rest.
const MEMORY_SHARE: f64 = 0.8;

/// Values for adapters that the operator has configured, by adapter id.
#[derive(Clone, Debug, Default)]
pub struct Assumptions {
    /// Names of adapters.
    pub name: BTreeMap<String, String>,
    pub power: BTreeMap<String, Watts>,
    /// Bytes that models may use.
    pub memory: BTreeMap<String, u64>,
    /// Maximum number of batches in flight per worker.
    pub slots: u32,
}

impl Assumptions {
    /// The scheduler's profile of an adapter.
    pub(crate) fn profile(&self, entry: &AdapterEntry) -> AdapterProfile {
        let assumed = assumed(entry.class);
        let watts = self.power.get(&entry.id).copied().unwrap_or(assumed.watts);
        let known = entry.memory_bytes.map(|bytes| (bytes as f64 * MEMORY_SHARE) as u64);
        AdapterProfile {
            rank: rank(entry.class),
            role: role(entry),
            speed: assumed.speed,
            cold_start: assumed.cold_start,
            power: Power {
                idle_mw: milliwatts(watts.idle),
                active_mw: milliwatts(watts.active),
                start_mw: milliwatts(watts.start),
            },
            memory: self.memory.get(&entry.id).copied().or(known),
            slots: self.slots.max(1),
        }
    }

    /// True if the operator has configured this adapter's power.
    pub(crate) fn knows_power(&self, id: &str) -> bool {
        self.power.contains_key(id)
    }
}

fn role(entry: &AdapterEntry) -> Role {
    match (entry.bridge, entry.fallback) {
        (true, _) => Role::Bridge,
        (false, true) => Role::Fallback,
        (false, false) => Role::Regular,
    }
}

struct Assumed {
    watts: Watts,
    /// Relative to a discrete GPU, which has 1000.
    speed: u64,
    cold_start: Duration,
}

fn assumed(class: Class) -> Assumed {
    let (idle, active, start, speed, cold_start_ms) = match class {
        Class::Discrete => (20.0, 200.0, 60.0, 1000, 1500),
        Class::Integrated => (3.0, 35.0, 15.0, 150, 800),
        Class::Virtual => (20.0, 150.0, 60.0, 500, 1500),
        Class::Other => (10.0, 80.0, 30.0, 250, 1500),
        // An idle process adds no power to that of the machine.
        Class::Cpu => (0.0, 60.0, 20.0, 50, 60),
        Class::Software => (4.0, 60.0, 40.0, 5, 500),
    };
    let cold_start = Duration::from_millis(cold_start_ms);
    Assumed { watts: Watts { idle, active, start }, speed, cold_start }
}

/// Rank of a class, best first. Measured speed decides within a class.
fn rank(class: Class) -> u32 {
    match class {
        Class::Discrete => 0,
        Class::Integrated => 1,
        Class::Virtual => 2,
        Class::Other => 3,
        Class::Cpu => 4,
        Class::Software => 5,
    }
}

/// The cast saturates. Invalid values were rejected when the settings were read.
fn milliwatts(watts: f64) -> u64 {
    (watts * 1000.0) as u64
}
