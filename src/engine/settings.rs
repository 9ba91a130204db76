//! Settings that change while the engine runs.

use super::EngineConfig;
use super::core::Core;
use super::discovery;
use super::process::Workshop;
use super::serving::profiles;
use crate::schedule::{Bounds, Event};

/// Takes over what can change: how many adapters are on and why, patience, what is assumed of
/// adapters and which of them are used. Workers that are there stay as they were started.
pub(super) fn reconfigure(core: &mut Core, new: EngineConfig) -> Event {
    let mut settings = new.settings;
    // Workers that are there are asked for signs of life as often as they ever were, and the end
    // of the server waits for them as long.
    let Bounds { silence, stop, reap, .. } = core.config.settings.bounds;
    settings.bounds = Bounds { silence, stop, reap, ..settings.bounds };
    let config = &mut core.config;
    config.settings = settings.clone();
    config.lister_args = new.lister_args;
    config.named_adapters = new.named_adapters;
    config.entries_without_listing = new.entries_without_listing;
    config.cpu_threads = new.cpu_threads;
    config.assumptions = new.assumptions;
    config.slo = new.slo;
    config.check = new.check;
    config.confine = new.confine;
    config.environment = new.environment;
    core.fleet.equip(Workshop::of(&core.config));
    core.publisher.assume(&core.config.assumptions);
    for (model, profile) in profiles(&core.catalogue, core.config.slo) {
        core.turn(Event::ModelAdded { model, profile });
    }
    discovery::list_now(core);
    Event::Configured { settings }
}
