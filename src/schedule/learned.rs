//! What the policy learned and is worth keeping between two runs of the server, beside what is known
//! of each adapter ([`Recollection`]).

use super::ids::{AdapterId, Time};
use super::recollection::{LearnedPolicy, Recollection, ReplicaMemory, Took};
use super::world::World;
use std::time::Duration;

/// What is worth keeping of the policy for the next run.
pub(super) fn policy(world: &World, now: Time) -> LearnedPolicy {
    LearnedPolicy {
        misses: Some(world.misses.learned()),
        models: world.popularity.learned(now),
        clients: world.ahead.learned(now),
    }
}

/// Takes in what an earlier run learned. The server was `down` since that was read.
pub(super) fn recall_policy(world: &mut World, now: Time, learned: &LearnedPolicy, down: Duration) {
    if let Some(misses) = learned.misses {
        world.misses.recall(misses);
    }
    for (model, count, ago) in &learned.models {
        if world.models.contains_key(model) {
            world.popularity.recall(now, *model, (*count, ago.saturating_add(down)));
        }
    }
    for client in learned.clients.iter().filter(|it| world.models.contains_key(&it.model)) {
        world.ahead.recall(now, client, down);
    }
}

/// What is worth keeping of an adapter for the next run.
pub(super) fn adapter(world: &World, now: Time, id: AdapterId) -> Option<Recollection> {
    let adapter = world.adapters.get(&id)?;
    let replicas = adapter.known.iter().map(|(model, known)| {
        let lines = known.services.iter().map(|(size, service)| (*size, service.line()));
        let took = |load| Took { time: Duration::from_secs_f64(load), estimated: known.estimated };
        let (load, bytes) = (known.load.map(took), known.bytes);
        let first_load = known.first_load.map(Duration::from_secs_f64);
        (*model, ReplicaMemory { load, first_load, bytes, lines: lines.collect() })
    });
    let cold_start = adapter.cold_start.map(Duration::from_secs_f64);
    Some(Recollection {
        cold_start,
        replicas: replicas.collect(),
        late_permille: Some((adapter.economy.late_requests() * 1e3) as u32),
        spells: adapter.economy.spells.learned(),
        helped: adapter.economy.helped.learned(now),
        starts: adapter.economy.starts.iter().map(|until| until.since(now)).collect(),
    })
}
