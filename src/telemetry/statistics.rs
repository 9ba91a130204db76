//! Statistics of a model, in the form of the V2 statistics extension (Triton, "Statistics
//! Extension", `extension_statistics.md`). Durations are sums in nanoseconds.

use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The number of events, and their total duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DurationStatistics {
    pub count: u64,
    pub ns: u64,
}

impl DurationStatistics {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.ns = self.ns.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Duration of requests by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InferStatistics {
    /// Time from admission to answer.
    pub success: DurationStatistics,
    /// Time from admission to rejection or failure.
    pub fail: DurationStatistics,
    /// Time from admission to dispatch.
    pub queue: DurationStatistics,
    /// Time from dispatch until the worker begins to compute.
    pub compute_input: DurationStatistics,
    pub compute_infer: DurationStatistics,
    /// Time from the end of the computation to the answer.
    pub compute_output: DurationStatistics,
    /// Always zero, as the server has no cache; clients of the extension require the field.
    pub cache_hit: DurationStatistics,
    pub cache_miss: DurationStatistics,
}

/// Batches of one number of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BatchStatistics {
    pub batch_size: u64,
    pub compute_input: DurationStatistics,
    pub compute_infer: DurationStatistics,
    pub compute_output: DurationStatistics,
}

/// Statistics of one version of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelStatistics {
    pub name: String,
    pub version: String,
    /// Time of the last answer, in milliseconds since 1970; 0 if there was none.
    pub last_inference: u64,
    /// Number of answered rows.
    pub inference_count: u64,
    /// Number of executed batches.
    pub execution_count: u64,
    pub inference_stats: InferStatistics,
    /// Responses of decoupled models in the extension; always empty.
    pub response_stats: BTreeMap<String, InferStatistics>,
    pub batch_stats: Vec<BatchStatistics>,
    pub memory_usage: Vec<MemoryUsage>,
}

/// Device memory of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUsage {
    /// `GPU` or `CPU`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Index of the adapter in `GET /api/adapters`.
    pub id: u64,
    pub byte_size: u64,
}

/// Duration of one piece of work by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compute {
    pub input: Duration,
    pub infer: Duration,
    pub output: Duration,
}

impl ModelStatistics {
    /// Counts a request that was answered at `now`, in milliseconds since 1970.
    pub fn answered(&mut self, now: u64, rows: u64, queue: Duration, compute: Compute) {
        self.last_inference = now;
        self.inference_count += rows;
        let stats = &mut self.inference_stats;
        stats.success.add(queue + compute.input + compute.infer + compute.output);
        stats.queue.add(queue);
        stats.compute_input.add(compute.input);
        stats.compute_infer.add(compute.infer);
        stats.compute_output.add(compute.output);
    }

    /// Counts a request that was rejected or failed this long after its admission.
    pub fn failed(&mut self, took: Duration) {
        self.inference_stats.fail.add(took);
    }

    /// Counts an executed batch.
    pub fn executed(&mut self, rows: u64, compute: Compute) {
        self.execution_count += 1;
        let at = match self.batch_stats.binary_search_by_key(&rows, |batch| batch.batch_size) {
            Ok(at) => at,
            Err(at) => {
                let batch = BatchStatistics { batch_size: rows, ..BatchStatistics::default() };
                self.batch_stats.insert(at, batch);
                at
            }
        };
        if let Some(batch) = self.batch_stats.get_mut(at) {
            batch.compute_input.add(compute.input);
            batch.compute_infer.add(compute.infer);
            batch.compute_output.add(compute.output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute(input: u64, infer: u64, output: u64) -> Compute {
        let nanos = Duration::from_nanos;
        Compute { input: nanos(input), infer: nanos(infer), output: nanos(output) }
    }

    #[test]
    fn times_add_up_and_batches_are_counted_by_their_rows() {
        let mut stats = ModelStatistics::default();
        stats.executed(4, compute(1, 20, 3));
        stats.executed(2, compute(1, 10, 3));
        stats.executed(4, compute(1, 30, 3));
        stats.answered(7, 3, Duration::from_nanos(100), compute(1, 20, 3));
        stats.failed(Duration::from_nanos(50));
        let batches: Vec<_> = stats.batch_stats.iter().map(|batch| batch.batch_size).collect();
        assert_eq!(batches, [2, 4]);
        let four = DurationStatistics { count: 2, ns: 50 };
        assert_eq!(stats.batch_stats[1].compute_infer, four);
        assert_eq!((stats.inference_count, stats.execution_count, stats.last_inference), (3, 3, 7));
        let success = DurationStatistics { count: 1, ns: 124 };
        assert_eq!(stats.inference_stats.success, success);
        assert_eq!(stats.inference_stats.fail.ns, 50);
    }

    #[test]
    fn json_has_the_fields_of_the_extension() {
        let mut stats = ModelStatistics { name: "m".into(), ..ModelStatistics::default() };
        stats.executed(1, compute(1, 2, 3));
        let json = serde_json::to_value(&stats).unwrap();
        assert_eq!(json["batch_stats"][0]["compute_infer"]["ns"], 2);
        for field in ["success", "fail", "queue", "cache_hit", "cache_miss"] {
            assert!(json["inference_stats"][field]["count"].is_u64(), "{field}: {json}");
        }
        assert!(json["response_stats"].is_object() && json["memory_usage"].is_array());
    }
}
