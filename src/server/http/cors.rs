//! Cross-origin resource sharing (CORS, in the Fetch standard): answers name the origins that
//! may read them. Without `allow_origins`, only pages of the server's own origin may.

use crate::http::respond::{Response, done};
use warp::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode};

/// The methods of all routes together. A route answers 405 to those that it does not support.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE");

/// Allowed request headers for a preflight request that names none.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-encoding, content-type, inference-header-content-length, traceparent, \
     tracestate, x-api-key, x-concertina-expect, x-request-id",
);

/// Headers of answers that a page may read, in addition to those that are always readable.
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "content-encoding, inference-header-content-length, retry-after, server-timing, traceresponse, \
     x-concertina-adapter, x-request-id",
);

/// Seconds for which the answer to a preflight request is valid; Chromium limits it to this.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// A header of preflight requests from a less private network (Private Network Access).
const REQUEST_PRIVATE: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The origins from which pages may use the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    named: Vec<String>,
    any: bool,
}

impl Origins {
    /// Creates the origins of the configuration; `*` stands for every origin.
    pub(crate) fn new(allowed: &[String]) -> Origins {
        let named = allowed.iter().filter(|origin| *origin != "*").cloned().collect();
        Origins { named, any: allowed.iter().any(|origin| origin == "*") }
    }

    /// Returns true if this origin itself is configured.
    pub(crate) fn names(&self, origin: &HeaderValue) -> bool {
        self.named.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
    }

    /// Returns true if pages of this origin may read answers.
    pub(crate) fn allow(&self, origin: &HeaderValue) -> bool {
        self.any || self.names(origin)
    }

    /// Returns the origin of a request with these headers, if it is allowed.
    fn allowed<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        headers.get(ORIGIN).filter(|origin| self.allow(origin))
    }

    /// Returns the answer to a preflight request, which a browser sends before the request of a
    /// page; `None` for other requests. It needs no key, since browsers send none with it.
    pub(crate) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let is_preflight =
            *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        self.allowed(headers).filter(|_| is_preflight)?;
        let mut response = done();
        *response.status_mut() = StatusCode::NO_CONTENT;
        let named = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let answer = response.headers_mut();
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, named.unwrap_or(REQUEST_HEADERS));
        answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        if headers.contains_key(REQUEST_PRIVATE) {
            answer.insert(ALLOW_PRIVATE, HeaderValue::from_static("true"));
        }
        Some(response)
    }

    /// Returns the origin that may read the answer to a request; `None` if no origin is configured.
    pub(crate) fn reader(&self, headers: &HeaderMap) -> Option<ReaderOrigin> {
        if !self.any && self.named.is_empty() {
            return None;
        }
        Some(ReaderOrigin { origin: self.allowed(headers).cloned(), is_anyone: self.any })
    }
}

/// The origin of the page that may read an answer.
#[derive(Debug)]
pub(crate) struct ReaderOrigin {
    /// `None` if the request has no origin, or one that is not allowed.
    origin: Option<HeaderValue>,
    is_anyone: bool,
}

impl ReaderOrigin {
    /// Adds the CORS headers of this origin to an answer.
    pub(crate) fn mark(self, headers: &mut HeaderMap) {
        let Some(origin) = self.origin else {
            // A cache must not return this answer to a page of an allowed origin.
            headers.append(VARY, HeaderValue::from_static("origin"));
            return;
        };
        let shown = if self.is_anyone { HeaderValue::from_static("*") } else { origin };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, shown);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "https://page.example";

    fn origins(allowed: &[&str]) -> Origins {
        Origins::new(&allowed.iter().map(|origin| (*origin).to_owned()).collect::<Vec<_>>())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn marked(origins: &Origins, origin: &str) -> HeaderMap {
        let mut answer = HeaderMap::new();
        if let Some(reader) = origins.reader(&headers(&[("origin", origin)])) {
            reader.mark(&mut answer);
        }
        answer
    }

    #[test]
    fn only_allowed_pages_may_read() {
        let some = origins(&["http://localhost:3000", PAGE]);
        assert_eq!(marked(&some, PAGE)[ACCESS_CONTROL_ALLOW_ORIGIN], PAGE);
        assert_eq!(marked(&some, PAGE)[VARY], "origin");
        for other in ["https://page.example:8443", "http://page.example", "null", "https://x"] {
            let answer = marked(&some, other);
            assert!(!answer.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{other}");
            assert_eq!(answer[VARY], "origin");
        }
        assert_eq!(marked(&origins(&["*"]), "null")[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(marked(&origins(&[]), PAGE).is_empty());
        let mut answer = HeaderMap::new();
        some.reader(&HeaderMap::new()).unwrap().mark(&mut answer);
        assert_eq!(answer.len(), 1);
    }

    #[test]
    fn preflight_requests_are_answered() {
        let some = origins(&[PAGE]);
        let preflight =
            |method, pairs: &[(&'static str, &str)]| some.preflight(&method, &headers(pairs));
        let question = [("origin", PAGE), ("access-control-request-method", "POST")];
        let answer = preflight(Method::OPTIONS, &question).unwrap();
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_METHODS], METHODS);
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_HEADERS], REQUEST_HEADERS);
        assert_eq!(answer.headers()[ACCESS_CONTROL_MAX_AGE], MAX_AGE);
        let named = ("access-control-request-headers", "x-mine");
        let answer = preflight(Method::OPTIONS, &[question[0], question[1], named]).unwrap();
        assert_eq!(answer.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "x-mine");
        assert!(preflight(Method::POST, &question).is_none());
        assert!(preflight(Method::OPTIONS, &question[..1]).is_none());
        assert!(
            preflight(Method::OPTIONS, &[("origin", "https://x.example"), question[1]]).is_none()
        );
    }
}
