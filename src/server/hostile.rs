//! The path of a client's `infer` request without an adapter: for fuzzing (`fuzz/`), and for the
//! test that replays the findings of fuzzing.

use crate::http::body::Bodies;
use crate::http::keys::KeyRing;
use crate::http::limits::ApiLimits;
use crate::v2::{answer, generate, kserve};
use bytes::Bytes;
use engine::Memory;
use futures_util::stream;
use model::files::ModelSource;
use model::info::{Batching, ModelInfo};
use model::layout::Layout;
use model::repository::{Repository, ScanResult};
use model::signature::{Framed, Signature, TensorSpec};
use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;
use types::error::Error;
use types::tensor::{Datatype, Tensors};
use warp::http::{HeaderMap, HeaderName, HeaderValue};

/// Maximum number of rows into which inputs are cut here, as for batches and chunks.
const ROWS_MAX: usize = 64;

/// The limit of memory of one request.
const MEMORY_BYTES: usize = 1 << 22;

/// Sends a request to a model that returns its input, and to one that takes files. The bytes are
/// headers, one per line, an empty line, and the body.
///
/// # Errors
/// The error of the last model, if both reject the request.
pub fn request(data: &[u8]) -> Result<(), Error> {
    let (headers, body) = message(data);
    let outcomes = models().iter().map(|model| send(model, &headers, body));
    // Both models receive the request, whatever the result of the first one.
    let outcome = outcomes.reduce(Result::or).unwrap_or(Ok(()));
    outcome.or(generate(body))
}

/// Sends the body as a generate request to the model that returns its input.
fn generate(body: &[u8]) -> Result<(), Error> {
    let (model, bodies) = (echo(), bodies());
    let body = Bytes::copy_from_slice(body);
    let request = generate::request::parse(&body, model.interface(), &bodies.account())?;
    model.interface().frame(request.inputs).map(drop)
}

fn message(data: &[u8]) -> (HeaderMap, &[u8]) {
    let end = data.windows(2).position(|two| two == b"\n\n");
    let (head, body) = end.map_or((&[][..], data), |end| (&data[..end], &data[end + 2..]));
    let header = |line: &[u8]| {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
        Some((HeaderName::from_bytes(name).ok()?, value))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in head.split(|byte| *byte == b'\n').filter_map(header) {
        headers.append(name, value);
    }
    (headers, body)
}

fn send(model: &ModelInfo, headers: &HeaderMap, body: &[u8]) -> Result<(), Error> {
    let halves = body.split_at(body.len() / 2);
    let parts = [halves.0, halves.1].map(|part| Ok::<_, Infallible>(Bytes::copy_from_slice(part)));
    let bodies = bodies();
    let read = kserve::read(&bodies, model, headers, stream::iter(parts));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| Error::internal(error.to_string()))?;
    let request = runtime.block_on(read)?;
    let Framed { inputs, rows, .. } = model.interface().frame(request.inputs)?;
    assert!(rows <= body.len().max(model::signature::EMPTY_ROWS_MAX), "{rows} rows of nothing");
    if rows <= ROWS_MAX {
        cut_apart(&inputs, rows);
    }
    let wanted = request.wanted.resolve(model.interface())?;
    if model.pipeline.is_none() {
        answer::render(model, request.id.as_deref(), &inputs, &wanted, &bodies.account())?;
    }
    Ok(())
}

/// Checks that valid inputs can be cut into rows, and are the same when the rows are joined again.
fn cut_apart(inputs: &Tensors, rows: usize) {
    let parts: Result<Vec<_>, _> = (0..rows).map(|row| inputs.slice_rows(row, 1)).collect();
    let joined = parts.and_then(Tensors::concat_rows);
    assert_eq!(joined.as_ref(), Ok(inputs));
    assert!(inputs.pad_rows(rows.next_power_of_two()).is_ok());
}

fn bodies() -> Bodies {
    let second = Duration::from_secs(1);
    let limits = ApiLimits {
        body_bytes_max: 1 << 20,
        connections_max: 1,
        event_streams_max: 1,
        headers_bytes_max: 1 << 16,
        header_timeout: second,
        body_timeout: second,
        write_timeout: second,
        shutdown_grace: second,
        keys: KeyRing::default(),
        tls: None,
        hosts: Vec::new(),
        allow_origins: Vec::new(),
        access_log: false,
        settings: None,
    };
    Bodies::new(&limits, Memory::new(MEMORY_BYTES))
}

fn models() -> &'static [ModelInfo] {
    static MODELS: OnceLock<Vec<ModelInfo>> = OnceLock::new();
    MODELS.get_or_init(|| {
        let found = Repository::embedded().scan_one("filetype", &["onnx".to_owned()]);
        let good = found.into_iter().filter_map(|found| match found {
            ScanResult::Good(info) => Some(info),
            ScanResult::Bad(_) => None,
        });
        good.chain([echo()]).collect()
    })
}

/// A model that takes one tensor of any datatype and returns it.
fn echo() -> ModelInfo {
    let datatypes = Datatype::ALL.to_vec();
    let spec = TensorSpec::new("x", datatypes, vec![-1]);
    let signature =
        Signature { inputs: vec![spec.clone()], outputs: vec![spec], ..Signature::default() };
    ModelInfo {
        name: "echo".to_owned(),
        version: "1".to_owned(),
        kind: "identity".to_owned(),
        source: ModelSource::Embedded,
        signature,
        batch: Batching { max_rows: 8, grows: false, delay: Duration::ZERO, row_memory_bytes: 0 },
        slo: None,
        labels: Vec::new(),
        golden: None,
        layout: Layout::Version,
        graph: Default::default(),
        pipeline: None,
        rows_reason: String::new(),
        decoupled: false,
        files_bytes: 0,
        files_changed: None,
    }
}
