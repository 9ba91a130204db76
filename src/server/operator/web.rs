//! The web page: static files from `web/`, embedded into the binary.

use crate::http::guard::Head;
use crate::http::respond::{Outcome, Response};
use bytes::Bytes;
use rust_embed::{EmbeddedFile, RustEmbed};
use std::borrow::Cow;
use std::fmt::Write;
use warp::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderValue, StatusCode};

/// Content security policy: only files of this server, nothing inline, no frame around the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "../../web"]
struct WebFiles;

/// Returns the file at this path; `None` if there is none.
pub(crate) fn file(path: &str, head: &Head) -> Option<Outcome> {
    let name = match path.trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    let file = WebFiles::get(name)?;
    Some(head.must_read().map(|()| respond(name, file, head)))
}

fn respond(name: &str, file: EmbeddedFile, head: &Head) -> Response {
    let etag = etag(&file);
    let known = head.headers.get_all(IF_NONE_MATCH).iter().any(|value| names(value, &etag));
    let mut response = match (known, file.data) {
        (true, _) => Response::new(Bytes::new().into()),
        (false, Cow::Borrowed(data)) => Response::new(Bytes::from_static(data).into()),
        (false, Cow::Owned(data)) => Response::new(data.into()),
    };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(&etag).map(|etag| (ETAG, etag)));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Returns the first half of the file's hash, quoted.
fn etag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let digits = hash.iter().take(16).fold(String::new(), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    });
    format!("\"{digits}\"")
}

/// Returns true if an `If-None-Match` contains this version, also as a weak tag.
fn names(value: &HeaderValue, etag: &str) -> bool {
    let listed = value.to_str().unwrap_or_default().split(',').map(str::trim);
    listed.map(|tag| tag.strip_prefix("W/").unwrap_or(tag)).any(|tag| tag == etag || tag == "*")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp::http::{HeaderMap, Method};

    fn get(path: &str, headers: HeaderMap) -> Option<Response> {
        file(path, &Head { method: Method::GET, headers, address: None })
            .map(|outcome| outcome.unwrap())
    }

    #[test]
    fn every_file_is_served_with_a_known_type() {
        for name in WebFiles::iter() {
            let response = get(&format!("/{name}"), HeaderMap::new()).unwrap();
            assert_eq!(response.status(), 200);
            assert_ne!(response.headers()[CONTENT_TYPE], "application/octet-stream", "{name}");
        }
        let page = get("/", HeaderMap::new()).unwrap();
        assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers()[CONTENT_SECURITY_POLICY], POLICY);
    }

    #[test]
    fn unchanged_file_is_answered_304() {
        let etag = get("/app.js", HeaderMap::new()).unwrap().headers()[ETAG].clone();
        let again = get("/app.js", HeaderMap::from_iter([(IF_NONE_MATCH, etag)])).unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let other = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static("\"other\""))]);
        assert_eq!(get("/app.js", other).unwrap().status(), StatusCode::OK);
    }

    #[test]
    fn nothing_else_is_served() {
        for path in ["/nope", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "/app.js/", "/web/app.js"] {
            assert!(get(path, HeaderMap::new()).is_none(), "{path}");
        }
        let post = Head { method: Method::POST, headers: HeaderMap::new(), address: None };
        assert!(file("/", &post).unwrap().is_err());
    }

    #[test]
    fn page_satisfies_its_content_security_policy() {
        let page = WebFiles::get("index.html").unwrap();
        let page = String::from_utf8(page.data.into_owned()).unwrap();
        for forbidden in ["http://", "https://", "<style", "style=", " onclick", "<script>"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        let own = |name: &str| name.ends_with(".js") && !name.starts_with("vendor/");
        let scripts: Vec<_> = WebFiles::iter().filter(|name| own(name)).collect();
        assert!(scripts.len() > 10, "{scripts:?}");
        for name in scripts {
            let script = WebFiles::get(&name).unwrap();
            let script = String::from_utf8(script.data.into_owned()).unwrap();
            let html = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"];
            for forbidden in html.into_iter().chain(["eval(", "https://"]) {
                assert!(!script.contains(forbidden), "{name}: {forbidden}");
            }
        }
    }
}
