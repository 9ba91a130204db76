//! The service around every exchange: the id of the request, the access log, and the rest of the
//! request's body.

use crate::http::connection::UnreadFlag;
use crate::http::drain::{BodyRest, Lent};
use crate::http::host;
use crate::http::respond::{Response, render};
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tracing::Instrument;
use types::clock;
use types::error::Error;
use warp::http::header::{CONNECTION, EXPECT};
use warp::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The id of a request, chosen by the client or else by the server, and returned in the answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum number of characters of a client's id; a longer one is replaced.
const ID_CHARS_MAX: usize = 128;
/// Maximum number of characters of a path in the log.
const PATH_CHARS_MAX: usize = 200;

/// The client of a connection, and the treatment of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) address: SocketAddr,
    pub(crate) is_logged: bool,
    /// True if the connection is for one exchange, so that it need not stay usable.
    pub(crate) is_last: bool,
}

/// Returns the network of an address, as a number that identifies one client: an owner of IPv6
/// addresses has a whole network of them.
pub(crate) fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// A service that adds the id of a request to its answer.
#[derive(Clone, Debug)]
pub(crate) struct Access<S> {
    inner: S,
    caller: Caller,
    unread: UnreadFlag,
}

impl<S> Access<S> {
    pub(crate) fn new(inner: S, caller: Caller, unread: UnreadFlag) -> Access<S> {
        Access { inner, caller, unread }
    }
}

impl<S> Service<Request<Incoming>> for Access<S>
where
    S: Service<Request<Lent<Incoming>>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.caller);
        let id = request_id(request.headers());
        let entry = self.caller.is_logged.then(|| AccessEntry::new(&request, self.caller.address));
        // Log lines of this request contain its id.
        let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
        let checked = check_target(&request);
        let waits = request.headers().contains_key(EXPECT);
        let (head, body) = request.into_parts();
        let (body, rest) = Lent::new(body);
        let request = Request::from_parts(head, body);
        let answer = checked.map(|()| self.inner.call(request));
        let (unread, caller) = (self.unread.clone(), self.caller);
        let whole = async move {
            let mut response = match answer {
                Ok(answer) => answer.await?,
                Err(error) => render(Err(error.into())),
            };
            response.headers_mut().insert(REQUEST_ID, id);
            if !is_read(&response, rest, waits, caller.is_last).await {
                unread.set();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if let Some(entry) = entry {
                entry.log(&response);
            }
            Ok(response)
        };
        Box::pin(whole.instrument(span))
    }
}

/// Checks the target of a request, before it reaches a route.
fn check_target<B>(request: &Request<B>) -> Result<(), Error> {
    // `CONNECT host:port` has no path, and warp panics without one.
    if request.uri().path_and_query().is_none() {
        return Err(Error::malformed("the request has no path"));
    }
    host::check(request)
}

/// Reads the rest of the body after the handler. Returns true if the whole body has been read.
async fn is_read(
    response: &Response,
    rest: BodyRest<Incoming>,
    waits: bool,
    is_last: bool,
) -> bool {
    // A body that timed out is not awaited a second time.
    let is_late = response.status() == StatusCode::REQUEST_TIMEOUT;
    if is_late || is_last { rest.is_empty() } else { rest.drain(waits).await }
}

/// The entry of a request in the access log.
struct AccessEntry {
    begin: Instant,
    client: SocketAddr,
    method: String,
    path: String,
}

impl AccessEntry {
    fn new(request: &Request<Incoming>, client: SocketAddr) -> AccessEntry {
        // The query is omitted, since it may contain secrets.
        let path = request.uri().path().chars().take(PATH_CHARS_MAX).collect();
        AccessEntry { begin: clock::now(), client, method: request.method().to_string(), path }
    }

    /// Logs the answer; an event stream is logged when it begins.
    fn log(self, response: &Response) {
        let AccessEntry { begin, client, method, path } = self;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        tracing::info!(
            target: "access",
            %client,
            %method,
            %path,
            status = response.status().as_u16(),
            bytes = response.body().size_hint().exact(),
            ms = begin.elapsed().as_micros() as f64 / 1e3,
            adapter = header("x-concertina-adapter"),
            "answered"
        );
    }
}

/// Returns the client's own id if it is harmless, otherwise a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let own = headers.get(REQUEST_ID).filter(|id| is_harmless(id.as_bytes()));
    own.cloned().unwrap_or_else(new_id)
}

fn is_harmless(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-+/=".contains(byte);
    (1..=ID_CHARS_MAX).contains(&id.len()) && id.iter().all(plain)
}

/// Returns an id that is unique in this server, and almost certainly among several.
pub(crate) fn new_id() -> HeaderValue {
    static SERVER: LazyLock<u32> = LazyLock::new(|| getrandom::u32().unwrap_or_default());
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let id = format!("{:08x}-{:x}", *SERVER, COUNT.fetch_add(1, Ordering::Relaxed));
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(id: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(id))])
    }

    #[test]
    fn a_clients_own_id_is_kept_if_it_is_harmless() {
        assert_eq!(request_id(&headers("Root=1-67891233-abc")), "Root=1-67891233-abc");
        for odd in ["", "two words", "\"quoted\"", "<b>"] {
            assert_ne!(request_id(&headers(odd)), odd);
        }
        let long = HeaderValue::try_from("x".repeat(ID_CHARS_MAX + 1)).unwrap();
        assert_ne!(request_id(&HeaderMap::from_iter([(REQUEST_ID, long.clone())])), long);
    }

    #[test]
    fn new_ids_differ() {
        let (one, other) = (request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
        assert_ne!(one, other);
        assert!(is_harmless(one.as_bytes()));
    }
}
