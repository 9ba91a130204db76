//! Prometheus metrics: counters and histograms are updated by events, gauges from the snapshot. The
//! format is OpenMetrics 1.0, or Prometheus' older text format for clients that do not support it.

use super::names;
use super::snapshot::{AdapterView, ModelState, Snapshot};
use adapter::sensors::Reading;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets, linear_buckets};
use prometheus_client::registry::{Registry, Unit};
use schedule::Activity;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// OpenMetrics 1.0.
    Open,
    /// Prometheus' text format 0.0.4.
    Classic,
}

impl Notation {
    /// Selects the format by the client's `Accept` header.
    pub fn accepted(accept: &str) -> Notation {
        let open = accept.contains("application/openmetrics-text");
        if open { Notation::Open } else { Notation::Classic }
    }

    /// Returns the media type of the format.
    pub fn media_type(self) -> &'static str {
        match self {
            Notation::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Notation::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

type Seconds = Gauge<f64, AtomicU64>;
type SecondsTotal = Counter<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: String,
    version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaLabels {
    model: String,
    version: String,
    adapter: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    model: String,
    version: String,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AdapterLabels {
    adapter: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AdapterStateLabels {
    adapter: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    change: String,
    reason: String,
}

/// Buckets of a histogram.
#[derive(Clone, Copy, Debug)]
enum Buckets {
    /// 100 µs to 105 s, doubling.
    Time,
    /// 1 to 1024, doubling.
    Rows,
    /// 0.1 to 1.
    Share,
}

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        match self {
            Buckets::Time => Histogram::new(exponential_buckets(0.0001, 2.0, 21)),
            Buckets::Rows => Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            Buckets::Share => Histogram::new(linear_buckets(0.1, 0.1, 10)),
        }
    }
}

type Histograms<L> = Family<L, Histogram, Buckets>;

/// All metrics of a server; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<ModelLabels, Counter>,
    failed: Family<FailureLabels, Counter>,
    rows: Family<ModelLabels, Counter>,
    request_time: Histograms<ModelLabels>,
    queue_time: Histograms<ModelLabels>,
    run_time: Histograms<ReplicaLabels>,
    batch_rows: Histograms<ModelLabels>,
    batch_fill: Histograms<ModelLabels>,
    decisions: Family<DecisionLabels, Counter>,
    gauges: Gauges,
}

/// Metrics that are set from the snapshot at each scrape.
#[derive(Clone, Debug, Default)]
struct Gauges {
    queued_requests: Gauge,
    queued_rows: Gauge,
    in_flight_requests: Gauge,
    in_flight_rows: Gauge,
    held_bytes: Gauge,
    ready: Gauge,
    uptime: Seconds,
    model_ready: Family<ModelLabels, Gauge>,
    state: Family<AdapterStateLabels, Gauge>,
    on_time: Family<AdapterLabels, SecondsTotal>,
    starts: Family<AdapterLabels, Counter>,
    cold_start: Family<AdapterLabels, Seconds>,
    memory: Family<AdapterLabels, Gauge>,
    adapter_requests: Family<AdapterLabels, Counter>,
    adapter_rows: Family<AdapterLabels, Counter>,
    sensors: SensorMetrics,
}

/// Metrics of the sensors that platforms report. An unknown value has no line.
#[derive(Clone, Debug, Default)]
struct SensorMetrics {
    utilisation: Family<AdapterLabels, Seconds>,
    power: Family<AdapterLabels, Seconds>,
    temperature: Family<AdapterLabels, Seconds>,
    memory_used: Family<AdapterLabels, Gauge>,
    memory_size: Family<AdapterLabels, Gauge>,
}

/// Metrics of one model, looked up once.
#[derive(Clone, Debug)]
pub struct ModelMeter {
    labels: ModelLabels,
    requests: Counter,
    rows: Counter,
    request_time: Histogram,
    queue_time: Histogram,
    batch_rows: Histogram,
    batch_fill: Histogram,
    run_time: Histograms<ReplicaLabels>,
    failed: Family<FailureLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let metrics = Metrics {
            registry: Arc::new(Mutex::new(Registry::with_prefix("concertina"))),
            requests: Family::default(),
            failed: Family::default(),
            rows: Family::default(),
            request_time: Family::new_with_constructor(Buckets::Time),
            queue_time: Family::new_with_constructor(Buckets::Time),
            run_time: Family::new_with_constructor(Buckets::Time),
            batch_rows: Family::new_with_constructor(Buckets::Rows),
            batch_fill: Family::new_with_constructor(Buckets::Share),
            decisions: Family::default(),
            gauges: Gauges::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let it = &mut *registry;
        it.register("requests", "Requests answered", self.requests.clone());
        it.register("requests_failed", "Requests rejected or failed", self.failed.clone());
        it.register("rows", "Rows answered", self.rows.clone());
        let seconds = || Unit::Seconds;
        let time = "Admitted to answered";
        it.register_with_unit("request", time, seconds(), self.request_time.clone());
        let time = "Admitted to handed to a worker";
        it.register_with_unit("queue", time, seconds(), self.queue_time.clone());
        let time = "A batch on its adapter, measured by the worker";
        it.register_with_unit("batch_run", time, seconds(), self.run_time.clone());
        it.register("batch_rows", "Rows of a batch", self.batch_rows.clone());
        let fill = "Rows of a batch per row of the bucket that it was padded to";
        it.register("batch_fill", fill, self.batch_fill.clone());
        it.register("decisions", "Changes of the wanted set", self.decisions.clone());
        self.gauges.register(it);
    }

    /// Returns the meter of one version of a model.
    pub fn model(&self, name: &str, version: &str) -> ModelMeter {
        let labels = ModelLabels { model: name.to_owned(), version: version.to_owned() };
        ModelMeter {
            requests: self.requests.get_or_create_owned(&labels),
            rows: self.rows.get_or_create_owned(&labels),
            request_time: self.request_time.get_or_create_owned(&labels),
            queue_time: self.queue_time.get_or_create_owned(&labels),
            batch_rows: self.batch_rows.get_or_create_owned(&labels),
            batch_fill: self.batch_fill.get_or_create_owned(&labels),
            run_time: self.run_time.clone(),
            failed: self.failed.clone(),
            labels,
        }
    }

    /// Counts a decision.
    pub fn decided(&self, change: &str, reason: &str) {
        let labels = DecisionLabels { change: change.to_owned(), reason: reason.to_owned() };
        self.decisions.get_or_create(&labels).inc();
    }

    /// Renders all metrics as text; gauges are set from the snapshot.
    pub fn render(&self, snapshot: &Snapshot, notation: Notation) -> String {
        // Held to the end, so that concurrent readers do not receive mixed values.
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauges.set(snapshot);
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = encode(&mut text, &registry);
        match notation {
            Notation::Open => text,
            Notation::Classic => classic(&text),
        }
    }
}

/// Converts OpenMetrics to the older format: descriptions contain the whole name of a counter, and
/// there are neither units nor an end mark.
fn classic(open: &str) -> String {
    let counter = |line: &str| {
        let name = line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?;
        Some(name.to_owned())
    };
    let counters: HashSet<String> = open.lines().filter_map(counter).collect();
    let mut text = String::with_capacity(open.len());
    for line in open.lines() {
        let described = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        match described.and_then(|(what, rest)| Some((what, rest.split_once(' ')?))) {
            Some(("UNIT", _)) => continue,
            Some((what, (name, rest))) if counters.contains(name) => {
                text.push_str(&format!("# {what} {name}_total {rest}\n"));
            }
            _ if line == "# EOF" => continue,
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

impl Gauges {
    fn register(&self, it: &mut Registry) {
        let seconds = || Unit::Seconds;
        it.register("queued_requests", "Queued requests", self.queued_requests.clone());
        it.register("queued_rows", "Queued rows", self.queued_rows.clone());
        let flight = "Requests with all rows in flight";
        it.register("in_flight_requests", flight, self.in_flight_requests.clone());
        it.register("in_flight_rows", "Rows in flight", self.in_flight_rows.clone());
        let held = "Host memory of queued inputs and unsent answers";
        it.register_with_unit("held", held, Unit::Bytes, self.held_bytes.clone());
        it.register("ready", "1 if requests can be served", self.ready.clone());
        it.register_with_unit(
            "uptime",
            "Time since the start of the server",
            seconds(),
            self.uptime.clone(),
        );
        let ready = "1 if the model can be served, possibly after a start";
        it.register("model_ready", ready, self.model_ready.clone());
        it.register("adapter_state", "1 for the current state", self.state.clone());
        let on = "Time with a worker process";
        it.register_with_unit("adapter_on", on, seconds(), self.on_time.clone());
        it.register("adapter_starts", "Workers started", self.starts.clone());
        let cold = "Duration of the last start, warm-up of its first model included";
        it.register_with_unit("adapter_cold_start", cold, seconds(), self.cold_start.clone());
        let memory = "Device memory that loaded models hold";
        it.register_with_unit("adapter_memory", memory, Unit::Bytes, self.memory.clone());
        let parts = "Requests that the adapter answered at least in part";
        it.register("adapter_requests", parts, self.adapter_requests.clone());
        it.register("adapter_rows", "Rows that the adapter answered", self.adapter_rows.clone());
        self.sensors.register(it);
    }

    fn set(&self, snapshot: &Snapshot) {
        let queue = &snapshot.queue;
        self.queued_requests.set(signed(queue.queued_requests));
        self.queued_rows.set(signed(queue.queued_rows));
        self.in_flight_requests.set(signed(queue.in_flight_requests));
        self.in_flight_rows.set(signed(queue.in_flight_rows));
        self.held_bytes.set(signed(queue.held_bytes));
        self.ready.set(i64::from(snapshot.server.ready));
        self.uptime.set(snapshot.server.uptime_ms as f64 / 1e3);
        self.model_ready.clear();
        for view in &snapshot.models {
            let labels = ModelLabels { model: view.name.clone(), version: view.version.clone() };
            self.model_ready.get_or_create(&labels).set(i64::from(view.state == ModelState::Ready));
        }
        // Removes adapters that have left the machine.
        self.state.clear();
        self.cold_start.clear();
        self.memory.clear();
        self.sensors.clear();
        snapshot.adapters.iter().for_each(|view| self.set_adapter(view));
    }

    fn set_adapter(&self, view: &AdapterView) {
        let labels = AdapterLabels { adapter: view.entry.id.clone() };
        for activity in Activity::ALL.into_iter().map(Some).chain([None]) {
            let adapter = view.entry.id.clone();
            let labels = AdapterStateLabels { adapter, state: names::activity_name(activity) };
            self.state.get_or_create(&labels).set(i64::from(view.activity == activity));
        }
        let on = view.on_ms as f64 / 1e3;
        self.on_time.get_or_create(&labels).inner().store(on.to_bits(), Ordering::Relaxed);
        self.starts.get_or_create(&labels).inner().store(view.starts, Ordering::Relaxed);
        self.memory.get_or_create(&labels).set(signed(view.memory_used_bytes));
        let counts = [(&self.adapter_requests, view.requests), (&self.adapter_rows, view.rows)];
        for (counter, count) in counts {
            counter.get_or_create(&labels).inner().store(count, Ordering::Relaxed);
        }
        self.sensors.set(&labels, view.sensors.as_ref());
        if let Some(took) = view.cold_start_ms {
            self.cold_start.get_or_create(&labels).set(took as f64 / 1e3);
        }
    }
}

impl SensorMetrics {
    fn register(&self, it: &mut Registry) {
        let busy = "Share of time that the card was busy, as reported by the platform";
        let share = Unit::Ratios;
        it.register_with_unit("adapter_utilisation", busy, share, self.utilisation.clone());
        let watts = || Unit::Other("watts".to_owned());
        it.register_with_unit(
            "adapter_power",
            "Power of the whole card",
            watts(),
            self.power.clone(),
        );
        let celsius = Unit::Celsius;
        it.register_with_unit("adapter_temperature", "Card", celsius, self.temperature.clone());
        let used = "Used memory of the card, by all programs";
        it.register_with_unit("card_memory_used", used, Unit::Bytes, self.memory_used.clone());
        let size = "Total memory of the card";
        it.register_with_unit("card_memory_size", size, Unit::Bytes, self.memory_size.clone());
    }

    fn clear(&self) {
        self.utilisation.clear();
        self.power.clear();
        self.temperature.clear();
        self.memory_used.clear();
        self.memory_size.clear();
    }

    fn set(&self, labels: &AdapterLabels, reading: Option<&Reading>) {
        let Some(reading) = reading else { return };
        let numbers = [
            (&self.utilisation, reading.utilisation),
            (&self.power, reading.power_watts),
            (&self.temperature, reading.temperature_celsius),
        ];
        for (family, number) in numbers {
            if let Some(number) = number {
                family.get_or_create(labels).set(number);
            }
        }
        let bytes = [
            (&self.memory_used, reading.memory_used_bytes),
            (&self.memory_size, reading.memory_total_bytes),
        ];
        for (family, bytes) in bytes {
            if let Some(bytes) = bytes {
                family.get_or_create(labels).set(signed(bytes));
            }
        }
    }
}

impl ModelMeter {
    /// Counts a request that was answered.
    pub fn answered(&self, rows: u64, queue: Duration, total: Duration) {
        self.requests.inc();
        self.rows.inc_by(rows);
        self.queue_time.observe(queue.as_secs_f64());
        self.request_time.observe(total.as_secs_f64());
    }

    /// Counts a request that was rejected or failed.
    pub fn failed(&self, cause: &'static str) {
        let ModelLabels { model, version } = self.labels.clone();
        self.failed.get_or_create(&FailureLabels { model, version, cause }).inc();
    }

    /// Counts a batch that `adapter` ran, padded to `bucket` rows.
    pub fn executed(&self, adapter: &str, rows: u32, bucket: u32, run: Duration) {
        self.batch_rows.observe(f64::from(rows));
        self.batch_fill.observe(f64::from(rows) / f64::from(bucket.max(1)));
        let ModelLabels { model, version } = self.labels.clone();
        let labels = ReplicaLabels { model, version, adapter: adapter.to_owned() };
        self.run_time.get_or_create(&labels).observe(run.as_secs_f64());
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelView, QueueView};

    #[test]
    fn events_are_counted_with_their_labels() {
        let metrics = Metrics::default();
        let meter = metrics.model("digits", "1");
        meter.answered(3, Duration::from_millis(2), Duration::from_millis(9));
        meter.failed("queue_full");
        meter.executed("cpu", 3, 4, Duration::from_millis(7));
        metrics.decided("start", "latency_target");
        let text = metrics.render(&Snapshot::default(), Notation::Open);
        for line in [
            "concertina_requests_total{model=\"digits\",version=\"1\"} 1",
            "concertina_rows_total{model=\"digits\",version=\"1\"} 3",
            "concertina_requests_failed_total{model=\"digits\",version=\"1\",cause=\"queue_full\"} 1",
            "concertina_queue_seconds_sum{model=\"digits\",version=\"1\"} 0.002",
            "concertina_batch_fill_sum{model=\"digits\",version=\"1\"} 0.75",
            "concertina_decisions_total{change=\"start\",reason=\"latency_target\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn gauges_are_those_of_the_snapshot() {
        let metrics = Metrics::default();
        let model =
            ModelView { name: "m".into(), state: ModelState::Ready, ..ModelView::default() };
        let queue = QueueView { queued_rows: 7, ..QueueView::default() };
        let mut snapshot = Snapshot { queue, models: vec![model], ..Snapshot::default() };
        let text = metrics.render(&snapshot, Notation::Open);
        assert!(text.contains("concertina_queued_rows 7\n"), "{text}");
        assert!(text.contains("concertina_model_ready{model=\"m\",version=\"\"} 1\n"), "{text}");
        snapshot.models.clear();
        let text = metrics.render(&snapshot, Notation::Open);
        assert!(!text.contains("concertina_model_ready{"));
    }

    #[test]
    fn older_notation_has_whole_names_of_counters() {
        let metrics = Metrics::default();
        metrics.decided("start", "latency_target");
        let text = metrics.render(&Snapshot::default(), Notation::accepted("*/*"));
        assert!(text.contains("# HELP concertina_decisions_total Changes"), "{text}");
        assert!(text.contains("# TYPE concertina_decisions_total counter\n"), "{text}");
        assert!(text.contains("# TYPE concertina_queued_rows gauge\n"), "{text}");
        assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
        let modern = Notation::accepted("application/openmetrics-text;version=1.0.0,text/plain");
        assert_eq!(modern, Notation::Open);
    }

    #[test]
    fn unknown_sensor_values_have_no_line() {
        let metrics = Metrics::default();
        let mut adapter = AdapterView::example("a", Some(Activity::Idle));
        adapter.sensors = Some(Reading { power_watts: Some(33.5), ..Reading::default() });
        let snapshot = Snapshot { adapters: vec![adapter], ..Snapshot::default() };
        let text = metrics.render(&snapshot, Notation::Open);
        assert!(text.contains("concertina_adapter_power_watts{adapter=\"a\"} 33.5\n"), "{text}");
        assert!(!text.contains("concertina_adapter_temperature_celsius{"), "{text}");
    }
}
