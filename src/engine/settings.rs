//! Settings that change while the engine runs.

use crate::LiveConfig;
use crate::core::Core;
use crate::models::serving::profiles;
use crate::workers::discovery;
use crate::workers::launch::WorkerTemplate;
use schedule::{Bounds, Event};

/// Takes over what can change: how many adapters are on and why, patience, what is assumed of
/// adapters and which of them are used. Workers that are there stay as they were started.
pub(crate) fn reconfigure(core: &mut Core, new: LiveConfig) -> Event {
    // Workers that are there are asked for signs of life as often as they ever were, and the end
    // of the server waits for them as long.
    let Bounds { silence, stop, reap, .. } = core.config.live.settings.bounds;
    core.config.live = new;
    let bounds = &mut core.config.live.settings.bounds;
    *bounds = Bounds { silence, stop, reap, ..*bounds };
    core.fleet.set_template(WorkerTemplate::of(&core.config));
    core.publisher.assume(&core.config.live.assumptions);
    for (model, profile) in profiles(&core.catalogue, core.config.live.slo) {
        core.turn(Event::ModelAdded { model, profile });
    }
    discovery::list_now(core);
    Event::Configured { settings: core.config.live.settings.clone() }
}
