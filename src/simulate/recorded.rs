//! The adapter description that `serve --record` writes beside a trace: adapters as measured.

use super::mix::{AdapterInMix, Mix, ModelInMix, Times};
use adapter::entry::Api;
use std::collections::BTreeMap;
use telemetry::{AdapterView, ModelView, ReplicaView, Snapshot};

impl Mix {
    /// Returns the adapters that served, with their measurements; an empty mix if none has served.
    pub fn recorded(snapshot: &Snapshot) -> Mix {
        let model = |model: &ModelView| {
            let slo_s = model.slo_ms.map(|slo| slo as f64 / 1e3);
            let max_rows = u32::try_from(model.max_rows).unwrap_or(u32::MAX);
            (model.name.clone(), ModelInMix { max_rows, delay_s: 0.0, slo_s })
        };
        Mix {
            models: snapshot.models.iter().map(model).collect(),
            adapters: snapshot.adapters.iter().filter_map(adapter).collect(),
        }
    }
}

fn adapter(adapter: &AdapterView) -> Option<AdapterInMix> {
    let models: BTreeMap<_, _> = adapter.replicas.iter().filter_map(times).collect();
    let power = adapter.power.as_ref()?;
    Some(AdapterInMix {
        name: adapter.entry.id.clone(),
        cold_start_s: adapter.open_ms? as f64 / 1e3,
        idle_w: power.idle_watts,
        active_w: power.active_watts,
        start_w: power.start_watts,
        stop_s: 0.0,
        cpu: adapter.entry.api == Api::Cpu,
        slowed_by_starts: 1.0,
        memory_bytes: adapter.memory_budget_bytes,
        models,
    })
    .filter(|adapter| !adapter.models.is_empty())
}

fn times(replica: &ReplicaView) -> Option<(String, Times)> {
    let times = Times {
        alpha_s: replica.batch_ms? / 1e3,
        beta_s: replica.row_ms? / 1e3,
        load_s: replica.load_ms.unwrap_or(0) as f64 / 1e3,
        bytes: replica.bytes.unwrap_or(0),
    };
    Some((replica.model.clone(), times))
}
