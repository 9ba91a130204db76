//! Changes of modes: persistence, and restoration after a restart.

use crate::calls::messages::Mode;
use crate::core::Core;
use crate::learned_profiles::write;
use schedule::{AdapterId, AdapterMode, Event};

/// Records the mode of an adapter and writes it to disk.
pub(crate) fn keep_mode(core: &mut Core, adapter: AdapterId, mode: Mode) {
    let Some(id) = core.fleet.member(adapter).map(|member| member.entry.id.clone()) else {
        return;
    };
    if let Some((path, text)) = core.modes.set(&id, mode) {
        // The driver must not wait for a disk.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&path, &text) {
                let path = path.display();
                tracing::warn!("failed to write the modes of adapters to {path}: {error}");
            }
        });
    }
}

/// Sets the modes of an earlier run for adapters that were just listed.
pub(crate) fn restore_modes(core: &mut Core, adapters: &[AdapterId]) {
    for adapter in adapters {
        let Some(member) = core.fleet.member(*adapter) else { continue };
        let id = member.entry.id.clone();
        let Some(mode) = core.modes.take(&id) else { continue };
        tracing::info!(adapter = %id, "restored mode {}", word(mode));
        core.turn(Event::ModeSet { adapter: *adapter, mode });
    }
}

fn word(mode: AdapterMode) -> &'static str {
    match mode {
        AdapterMode::Auto => "auto",
        AdapterMode::On => "on",
        AdapterMode::Off => "off",
    }
}
