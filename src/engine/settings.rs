//! Settings changes at run time.

use crate::LiveConfig;
use crate::core::Core;
use crate::models::serving::profiles;
use crate::workers::discovery;
use crate::workers::launch::WorkerTemplate;
use schedule::{Event, Timeouts};

/// Applies the settings that can change at run time: the policy, timeouts, assumptions about
/// adapters, and the choice of adapters. Running workers keep the values that they were started
/// with.
pub(crate) fn reconfigure(core: &mut Core, new: LiveConfig) -> Event {
    // Running workers keep their heartbeat interval, and the shutdown waits for them as long as
    // before.
    let Timeouts { heartbeat, stop, kill, .. } = core.config.live.settings.timeouts;
    core.config.live = new;
    let timeouts = &mut core.config.live.settings.timeouts;
    *timeouts = Timeouts { heartbeat, stop, kill, ..*timeouts };
    core.fleet.set_template(WorkerTemplate::of(&core.config));
    core.publisher.assume(&core.config.live.assumptions);
    for (model, profile) in profiles(&core.catalogue, core.config.live.slo) {
        core.turn(Event::ModelAdded { model, profile });
    }
    // The choice of adapters takes effect with a listing.
    discovery::list_now(core);
    Event::Configured { settings: core.config.live.settings.clone() }
}
