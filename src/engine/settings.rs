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
        let EngineConfig {
            mut settings,
            lister_args,
            named_adapters,
            entries_without_listing,
            cpu_threads,
            assumptions,
            slo,
            check,
            confine,
            ..
        } = new;
        // Workers that are there are asked for signs of life as often as they ever were, and the end
        // of the server waits for them as long.
        let Bounds { silence, stop, reap, .. } = self.config.settings.bounds;
        settings.bounds = Bounds { silence, stop, reap, ..settings.bounds };
        self.config = EngineConfig {
            settings: settings.clone(),
            lister_args,
            named_adapters,
            entries_without_listing,
            cpu_threads,
            assumptions,
            slo,
            check,
            confine,
            ..self.config.clone()
        };
        self.fleet.equip(Workshop::of(&self.config));
        self.publisher.assume(&self.config.assumptions);
        for (model, profile) in profiles(&self.catalogue, slo) {
            self.turn(Event::ModelAdded { model, profile });
        }
        self.list_now();
        Event::Configured { settings }
    }
}
