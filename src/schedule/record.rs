//! Records events: each is handled by the module that owns the state that it changes.

use super::event::Event;
use super::ids::Time;
use super::outbox::Outbox;
use super::world::World;
use super::{admission, announced, batches, learned, lifecycle, requests, scale};

/// Records one event.
pub(super) fn record(world: &mut World, out: &mut Outbox, now: Time, event: Event) {
    match event {
        Event::Discovered { adapters } => lifecycle::discovered(world, adapters),
        Event::ProfileRestored { adapter, profile } => {
            lifecycle::restore(world, now, adapter, profile);
        }
        Event::PolicyRestored { policy, down } => {
            learned::restore_policy(world, now, &policy, down)
        }
        Event::Excluded { adapters } => lifecycle::exclude(world, &adapters),
        Event::MemoryBudget { adapter, bytes } => {
            lifecycle::set_memory_budget(world, adapter, bytes)
        }
        Event::Configured { settings } => scale::configure(world, out, now, settings),
        Event::ModelAdded { model, profile } => requests::serve(world, model, profile),
        Event::ModelRemoved { model } => requests::withdraw(world, out, model),
        Event::Arrived(arrival) => admission::admit(world, out, now, arrival),
        Event::Cancelled { request } => {
            world.queue.forget(request);
        }
        Event::Progress { adapter, incarnation } => {
            lifecycle::progress(world, now, (adapter, incarnation));
        }
        Event::Ready { adapter, incarnation, speed } => {
            lifecycle::ready(world, now, (adapter, incarnation), speed);
        }
        Event::Loaded { adapter, incarnation, model, bytes, measured, tuning } => {
            let (worker, took) = ((adapter, incarnation), (bytes, tuning));
            lifecycle::loaded(world, now, worker, model, took, &measured);
        }
        Event::NoMemory { adapter, incarnation, model, rows } => {
            let worker = (adapter, incarnation);
            batches::out_of_device_memory(world, out, now, worker, (model, rows));
        }
        Event::LoadFailed { adapter, incarnation, model, retry } => {
            lifecycle::load_failed(world, now, (adapter, incarnation), (model, retry));
        }
        Event::Heartbeat { adapter, incarnation } => {
            lifecycle::heartbeat(world, now, (adapter, incarnation));
        }
        Event::Done { adapter, incarnation, batch } => {
            batches::done(world, out, now, (adapter, incarnation), batch);
        }
        Event::Failed { adapter, incarnation, batch, failure } => {
            batches::failed(world, out, now, (adapter, incarnation), batch, failure);
        }
        Event::Faulted { adapter, incarnation, fault } => {
            lifecycle::faulted(world, out, now, (adapter, incarnation), fault);
        }
        Event::NotStarted { adapter, incarnation } => {
            lifecycle::not_started(world, out, now, (adapter, incarnation));
        }
        Event::StartTried { works } => lifecycle::start_tried(world, works),
        Event::OutOfMemory { adapter, incarnation, model } => {
            lifecycle::out_of_memory(world, out, now, (adapter, incarnation), model);
        }
        Event::Exited { adapter, incarnation } => {
            lifecycle::exited(world, out, now, (adapter, incarnation));
        }
        Event::ModeSet { adapter, mode } => lifecycle::set_mode(world, adapter, mode),
        Event::Announced { model, client, within } => {
            announced::announced(world, out, now, (model, client), within);
        }
        // The steps after every event handle what is due.
        Event::Timeout => {}
        Event::Shutdown { deadline } => world.closing = Some(deadline),
    }
}
