//! Extensions of Triton that this server does not have. Clients and tools query their state first,
//! so that these routes answer like a Triton server on which nothing is turned on.

use crate::context::{ApiState, Target};
use crate::http::guard::Head;
use crate::http::respond::{Outcome, json};
use serde_json::json as value;

/// `GET /v2/logging`: the log of this server is set by `CONCERTINA_LOG`.
pub(crate) fn logging(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    json(&value!({
        "log_file": "",
        "log_info": true,
        "log_warning": true,
        "log_error": true,
        "log_verbose_level": 0,
        "log_format": "default",
    }))
}

/// `GET /v2/trace/setting` and `GET /v2/models/{m}/trace/setting`: traces of this server are
/// OpenTelemetry's, and set by `telemetry.otlp_endpoint`.
pub(crate) fn trace(api: &ApiState, target: Option<&Target>, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    if let Some(target) = target {
        api.engine.model(&target.name, target.version.as_deref())?;
    }
    json(&value!({
        "trace_level": ["OFF"],
        "trace_rate": "1000",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_file": "",
        "trace_mode": "triton",
    }))
}

/// `GET /v2/systemsharedmemory/status` and `GET /v2/cudasharedmemory/status`: no region can be
/// registered.
pub(crate) fn shared_memory(api: &ApiState, head: &Head) -> Outcome {
    api.guard.check_read(head)?;
    json(&value!([]))
}
