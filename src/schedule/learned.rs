//! Learned values of the policy for the next run of the server, beside those of each adapter
//! ([`LearnedProfile`]).

use super::ids::{AdapterId, Time};
use super::learned_profile::{LearnedDuration, LearnedPolicy, LearnedProfile, LearnedReplica};
use super::world::World;
use std::time::Duration;

/// Returns the learned values of the policy for the next run.
pub(super) fn policy(world: &World, now: Time) -> LearnedPolicy {
    LearnedPolicy {
        late_price: Some(world.late_price.learned()),
        models: world.popularity.learned(now),
        clients: world.clients.learned(now),
    }
}

/// Restores the values of an earlier run. The server was `down` since they were read.
pub(super) fn restore_policy(
    world: &mut World,
    now: Time,
    learned: &LearnedPolicy,
    down: Duration,
) {
    if let Some(late_price) = learned.late_price {
        world.late_price.restore(late_price);
    }
    for (model, count, ago) in &learned.models {
        if world.models.contains_key(model) {
            // `ago` was counted back from the time at which the file was written.
            world.popularity.restore(now, *model, (*count, ago.saturating_add(down)));
        }
    }
    for client in learned.clients.iter().filter(|it| world.models.contains_key(&it.model)) {
        world.clients.restore(now, client, down);
    }
}

/// Returns the learned values of an adapter for the next run.
pub(super) fn adapter(world: &World, now: Time, id: AdapterId) -> Option<LearnedProfile> {
    let adapter = world.adapters.get(&id)?;
    let replicas = adapter.known.iter().map(|(model, known)| {
        let service_times =
            known.services.iter().map(|(size, service)| (*size, service.service_time()));
        let took = |load| LearnedDuration {
            time: Duration::from_secs_f64(load),
            estimated: known.estimated,
        };
        let (load, bytes) = (known.load.map(took), known.bytes);
        let first_load = known.first_load.map(Duration::from_secs_f64);
        (*model, LearnedReplica { load, first_load, bytes, service_times: service_times.collect() })
    });
    let cold_start = adapter.cold_start.map(Duration::from_secs_f64);
    Some(LearnedProfile {
        cold_start,
        replicas: replicas.collect(),
        late_permille: Some((adapter.economy.late_requests() * 1e3) as u32),
        idle_periods: adapter.economy.idle_periods.learned(),
        helped: adapter.economy.helped.learned(now),
        starts: adapter.economy.starts.iter().map(|until| until.since(now)).collect(),
    })
}
