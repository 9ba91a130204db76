//! Changes of modes: persistence, and restoration after a restart.

use crate::calls::messages::Mode;
use crate::core::Core;
use crate::learned_profiles::write;
use schedule::{AdapterId, Event, Wish};

/// Records the mode of an adapter and writes it to disk.
pub(crate) fn keep_mode(core: &mut Core, adapter: AdapterId, mode: Mode) {
    let Some(id) = core.fleet.member(adapter).map(|member| member.entry.id.clone()) else {
        return;
    };
    if let Some((path, text)) = core.modes.set(&id, mode) {
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
        let Some(wish) = core.modes.take(&id) else { continue };
        tracing::info!(adapter = %id, "restored mode {}", word(wish));
        core.turn(Event::Wished { adapter: *adapter, wish });
    }
}

fn word(wish: Wish) -> &'static str {
    match wish {
        Wish::Auto => "auto",
        Wish::On => "on",
        Wish::Off => "off",
    }
}
