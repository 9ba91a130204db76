//! OpenTelemetry traces over OTLP: one span per inference request. Disabled unless a collector is
//! configured.
//!
//! The context of the caller's trace is read from `traceparent` and `tracestate` (W3C Trace
//! Context) and returned as `traceresponse` (its level 2). Spans are sent by a thread of the
//! library. If the collector is slow or unavailable, spans are dropped, and no request waits.

use anyhow::Context as _;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter as ExportSpans,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Timeout of the collector for one batch of spans, and for the last one at shutdown.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);

/// Creates spans; clones share the exporter. The default value creates none.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Exporting>);

#[derive(Clone, Debug)]
struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// Results that are added to a request's span at its end.
#[derive(Clone, Debug)]
pub struct Ran<'a> {
    /// Ids of the adapters that ran it, in row order, separated by commas.
    pub adapters: &'a str,
    /// Time from admission to dispatch.
    pub queue: Duration,
    /// Time from dispatch until the outputs are on the host.
    pub run: Duration,
    /// Rows of the request's batch; of the largest one if the request was split.
    pub batch_rows: u32,
}

/// The span of one request; ends when dropped.
#[derive(Debug)]
pub struct RequestSpan {
    span: Option<SdkSpan>,
    begin: SystemTime,
}

impl Traces {
    /// Sends the spans of a share of all requests to a collector, such as `http://127.0.0.1:4318`:
    /// OTLP over HTTP with protobuf. A caller's own sampling decision takes precedence over the
    /// share.
    ///
    /// # Errors
    /// If the address is invalid.
    pub fn to(collector: &str, share: f64) -> anyhow::Result<Traces> {
        let endpoint = format!("{}/v1/traces", collector.trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint);
        let exporter = exporter.with_timeout(EXPORT_LIMIT).with_headers(Default::default());
        let exporter = exporter.build().context("failed to set up the export of traces")?;
        let exporter = LoggingExporter { inner: exporter, failing: AtomicBool::new(false) };
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)));
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("concertina");
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource.with_attribute(version).build())
            .build();
        let tracer = provider.tracer("concertina");
        Ok(Traces(Some(Exporting { provider, tracer })))
    }

    /// Begins the span of a request. `header` returns the value of a header.
    pub fn begin<'a>(
        &self,
        header: impl Fn(&str) -> Option<&'a str>,
        model: &str,
        version: Option<&str>,
    ) -> RequestSpan {
        let begin = SystemTime::now();
        let span = self.0.as_ref().map(|exporting| {
            let found = ["traceparent", "tracestate"].map(|name| (name, header(name)));
            let parent = TraceContextPropagator::new()
                .extract_with_context(&Context::new(), &Headers(found));
            let model = KeyValue::new("concertina.model.name", model.to_owned());
            let version = version
                .map(|version| KeyValue::new("concertina.model.version", version.to_owned()));
            let method = KeyValue::new("http.request.method", "POST");
            let builder = exporting.tracer.span_builder("infer").with_kind(SpanKind::Server);
            let attributes = [model, method].into_iter().chain(version);
            builder
                .with_start_time(begin)
                .with_attributes(attributes)
                .start_with_context(&exporting.tracer, &parent)
        });
        RequestSpan { span, begin }
    }

    /// Sends the remaining spans; takes at most a few seconds.
    pub fn shut_down(&self) {
        if let Some(Exporting { provider, .. }) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(EXPORT_LIMIT)
        {
            tracing::debug!("the last traces were not sent: {error}");
        }
    }
}

impl RequestSpan {
    /// Returns the value of `traceresponse`; `None` without a trace.
    pub fn response_header(&self) -> Option<String> {
        let context = self.span.as_ref()?.span_context();
        let (trace, span) = (context.trace_id(), context.span_id());
        Some(format!("00-{trace}-{span}-{:02x}", context.trace_flags().to_u8()))
    }

    /// Records the size of the request.
    pub fn set_rows(&mut self, rows: usize) {
        if let Some(span) = &mut self.span {
            span.set_attribute(count("concertina.rows", rows as u64));
        }
    }

    /// Records the adapters and the durations of an answered request.
    pub fn ran(&mut self, ran: &Ran<'_>) {
        let Some(span) = &mut self.span else { return };
        let adapters = ran.adapters.to_owned();
        span.set_attribute(KeyValue::new("concertina.adapter", adapters));
        span.set_attribute(count("concertina.batch.rows", ran.batch_rows.into()));
        span.set_attribute(seconds("concertina.queue_seconds", ran.queue));
        span.set_attribute(seconds("concertina.run_seconds", ran.run));
        let handed_over = self.begin + ran.queue;
        span.add_event_with_timestamp("run", handed_over, Vec::new());
        span.add_event_with_timestamp("done", handed_over + ran.run, Vec::new());
    }

    /// Records the status of the answer, and the error if there is one.
    pub fn end(&mut self, status: u16, error: Option<&str>) {
        let Some(span) = &mut self.span else { return };
        span.set_attribute(count("http.response.status_code", status.into()));
        // An error of the client is not a failure of the server's span (HTTP semantic conventions).
        if status >= 500 {
            span.set_status(Status::error(error.unwrap_or_default().to_owned()));
        } else if let Some(error) = error {
            span.set_attribute(KeyValue::new("error.message", error.to_owned()));
        }
    }
}

fn count(name: &'static str, value: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX))
}

fn seconds(name: &'static str, value: Duration) -> KeyValue {
    KeyValue::new(name, value.as_secs_f64())
}

/// The headers that contain a trace context.
struct Headers<'a>([(&'static str, Option<&'a str>); 2]);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == key)?.1
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }
}

/// An exporter that logs when the export begins to fail, and when it succeeds again.
#[derive(Debug)]
struct LoggingExporter {
    inner: SpanExporter,
    failing: AtomicBool,
}

impl ExportSpans for LoggingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.inner.export(batch).await;
        let failed_before = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !failed_before => {
                tracing::warn!("lost {spans} spans: failed to export them: {error}");
            }
            Ok(()) if failed_before => tracing::info!("the export of spans works again"),
            Ok(()) | Err(_) => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn begin(parent: Option<&'static str>) -> Option<String> {
        // No server listens at this address: spans are lost without any other effect.
        let traces = Traces::to("http://127.0.0.1:9", 0.0).unwrap();
        let header = |name: &str| parent.filter(|_| name == "traceparent");
        traces.begin(header, "digits", None).response_header()
    }

    #[test]
    fn trace_of_the_caller_is_continued() {
        let out = begin(Some(PARENT)).unwrap();
        assert!(out.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{out}");
        assert!(out.ends_with("-01") && !out.contains("b7ad6b7169203331"), "{out}");
    }

    #[test]
    fn without_a_usable_parent_a_new_trace_begins() {
        for parent in [None, Some("00-0-0-0"), Some("<b>")] {
            let out = begin(parent).unwrap();
            // The share is 0, so that the trace is not recorded.
            assert!(out.ends_with("-00") && out.len() == PARENT.len(), "{out}");
        }
    }

    #[test]
    fn without_a_collector_no_span_is_created() {
        let mut span = Traces::default().begin(|_| Some(PARENT), "digits", Some("1"));
        span.set_rows(1);
        span.end(200, None);
        assert_eq!(span.response_header(), None);
    }

    #[test]
    fn invalid_collector_address_is_an_error() {
        assert!(Traces::to("not an address", 1.0).is_err());
    }
}
