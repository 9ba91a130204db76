//! Settings that change while the engine runs.

use super::EngineConfig;
use super::driver::Driver;
use super::models::profiles;
use super::process::Workshop;
use crate::schedule::{Bounds, Event};

impl Driver {
    /// Takes over what can change: how many adapters are on and why, patience, what is assumed of
    /// adapters and which of them are used. Workers that are there stay as they were started.
    pub(super) fn reconfigure(&mut self, new: EngineConfig) -> Event {
        let mut settings = new.settings;
        // Workers that are there are asked for signs of life as often as they ever were, and the end
        // of the server waits for them as long.
        let Bounds { silence, stop, reap, .. } = self.config.settings.bounds;
        settings.bounds = Bounds { silence, stop, reap, ..settings.bounds };
        let config = &mut self.config;
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
        self.fleet.equip(Workshop::of(&self.config));
        self.publisher.assume(&self.config.assumptions);
        for (model, profile) in profiles(&self.catalogue, self.config.slo) {
            self.turn(Event::ModelAdded { model, profile });
        }
        self.list_now();
        Event::Configured { settings }
    }
}
