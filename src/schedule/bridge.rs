//! The CPU as a bridge: it serves the models that it answers within their targets while other
//! adapters start, and as long as it carries what comes.
//!
//! A bridge that serves such a model is on all the time: waiting for work costs a process that
//! sleeps. It loads every model once to measure it. Its capacity counts, so that other adapters start
//! when it does not suffice, and take over when their energy per row has paid for their start
//! (`replace.rs`). It also serves models that no other adapter can load, however long that takes.
//!
//! Where it did not suffice in the last spells of requests, another adapter starts with the first
//! request of the next one.

use super::decision::Reason;
use super::event::Wish;
use super::forecast::Slot;
use super::ids::{AdapterId, ModelId, Time};
use super::policy::Policy;
use super::rhythm::QUIET;
use super::scheduler::Scheduler;
use super::settings::Role;
use super::state::{Adapter, State};

/// Weight of the last spell in the average of those in which a bridge did not suffice, and the
/// average from which on it is not expected to: two such spells in a row, from none.
const SPELL_GAIN: f64 = 0.5;
const SHORT_FROM: f64 = 0.7;

/// History of the spells of requests that began while only bridges were on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BridgeSpells {
    /// Arrival of the last request.
    last: Time,
    /// True if only bridges were on at the begin of the present spell.
    counts: bool,
    /// True if bridges were too slow in the present spell.
    short: bool,
    /// Decayed share of the spells in which bridges were too slow.
    share: f64,
}

impl BridgeSpells {
    fn arrived(&mut self, now: Time, alone: bool) {
        if now.since(self.last) >= QUIET {
            if self.counts {
                self.share += SPELL_GAIN * (f64::from(u8::from(self.short)) - self.share);
            }
            (self.counts, self.short) = (alone, false);
        }
        self.last = now;
    }
}

impl Scheduler {
    /// Records the arrival of a request.
    pub(super) fn note_bridge_spell(&mut self, now: Time) {
        let alone = !self.regular_is_on();
        self.bridge_spells.arrived(now, alone);
    }

    /// Returns true if another adapter should start with the first request.
    pub(super) fn bridges_fall_short(&self) -> bool {
        self.bridge_spells.share >= SHORT_FROM && !self.regular_is_on()
    }

    fn regular_is_on(&self) -> bool {
        let regular = |adapter: &Adapter| adapter.profile.role == Role::Regular;
        self.adapters.values().any(|adapter| regular(adapter) && adapter.state.is_on())
    }

    /// Returns true if the slot is one of a bridge.
    pub(super) fn is_on_bridge(&self, slot: &Slot) -> bool {
        let adapter = self.adapters.get(&slot.adapter);
        adapter.is_some_and(|adapter| adapter.profile.role == Role::Bridge)
    }

    /// Records if bridges alone would serve waiting rows after their target.
    pub(super) fn observe_bridges(&mut self, now: Time) {
        let spells = self.bridge_spells;
        // Plans are costly: without a bridge there is nothing to observe.
        let bridge = |adapter: &Adapter| adapter.profile.role == Role::Bridge;
        if !spells.counts || spells.short || !self.adapters.values().any(bridge) {
            return;
        }
        let short = self.queue.waiting().any(|(model, _)| {
            let mut slots = self.slots(now, model, 0);
            slots.retain(|slot| self.is_on_bridge(slot));
            !slots.is_empty() && self.late_rows(now, model, &slots) > 0
        });
        self.bridge_spells.short = short;
    }

    /// Whether the adapter is a bridge that answers a single row of the model within its target, as
    /// far as was measured.
    pub(super) fn is_bridged(&self, adapter: &Adapter, model: ModelId) -> bool {
        let Some(profile) = self.models.get(&model) else { return false };
        let known = adapter.known.get(&model).filter(|_| adapter.profile.role == Role::Bridge);
        let service = known.and_then(|known| known.services.values().find(|it| it.is_known()));
        service.is_some_and(|service| {
            service.batch(1) * service.caution() <= profile.slo.as_secs_f64()
        })
    }

    /// Whether the role of the adapter permits it to serve the model.
    pub(super) fn may_play(&self, adapter: &Adapter, model: ModelId) -> bool {
        adapter.profile.role != Role::Bridge
            || adapter.wish == Wish::On
            || self.is_bridged(adapter, model)
            || self.stands_in()
            || !self.is_taken_by_regular(model)
    }

    /// Whether there is an adapter that is no bridge or fallback and that can load the model, as far
    /// as is known.
    fn is_taken_by_regular(&self, model: ModelId) -> bool {
        let takes = |adapter: &Adapter| {
            adapter.profile.role == Role::Regular
                && adapter.is_there()
                && adapter.wish != Wish::Off
                && self.could_take(adapter, model)
        };
        self.adapters.values().any(takes)
    }

    /// Whether the adapter is a bridge for any model, or may be one that was not measured yet.
    pub(super) fn is_bridge(&self, adapter: &Adapter) -> bool {
        adapter.profile.role == Role::Bridge
            && adapter.wish == Wish::Auto
            && adapter.present
            && self.has_regular()
            && self.models.keys().any(|model| {
                self.is_bridged(adapter, *model)
                    || self.is_to_be_measured(adapter, *model)
                    || (!self.is_taken_by_regular(*model) && self.could_take(adapter, *model))
            })
    }

    /// Whether there is an adapter to bridge the starts of.
    fn has_regular(&self) -> bool {
        let regular = |adapter: &Adapter| adapter.profile.role == Role::Regular;
        self.adapters.values().any(|adapter| regular(adapter) && adapter.is_there())
    }

    /// Whether a bridge has to load the model to learn how long it takes there.
    pub(super) fn is_to_be_measured(&self, adapter: &Adapter, model: ModelId) -> bool {
        let known = adapter.known.get(&model);
        adapter.profile.role == Role::Bridge
            && self.has_regular()
            && known.is_none_or(|known| known.services.is_empty() && known.load.is_none())
            && !adapter.crowded.contains_key(&model)
            && self.may_take(adapter, model)
    }

    /// Drops models that were loaded to be measured and take too long here.
    pub(super) fn drop_not_bridged(&mut self, now: Time, id: AdapterId) {
        let Some(adapter) = self.adapters.get(&id).filter(|adapter| adapter.is_idle()) else {
            return;
        };
        let no_use = |model: &&ModelId| !self.may_play(adapter, **model);
        if let Some(model) = adapter.replicas.keys().find(no_use).copied() {
            self.unload(now, id, model, Reason::NotBridged);
        }
    }

    /// Turns bridges on.
    pub(super) fn keep_bridges(&mut self, now: Time) {
        let by_hand = matches!(self.settings.policy, Policy::ByHand { .. });
        if self.closing.is_some() || by_hand {
            return;
        }
        let off = |(_, adapter): &(&AdapterId, &Adapter)| {
            adapter.state == State::Off && self.is_bridge(adapter)
        };
        let off: Vec<AdapterId> = self.adapters.iter().filter(off).map(|(id, _)| *id).collect();
        for id in off {
            self.turn_on(now, id, false, Reason::Bridge);
        }
    }
}
