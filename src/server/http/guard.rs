//! Authentication and authorization: methods, API keys, host names and origins.

use crate::http::access::network;
use crate::http::cors::Origins;
use crate::http::keys::{self, Denied, KeyRing, Scope};
use crate::http::limits::ApiLimits;
use crate::http::respond::HttpFailure;
use engine::PRIORITY_DEFAULT;
use std::net::IpAddr;
use types::error::{Error, ErrorKind};
use warp::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use warp::http::uri::{Authority, Uri};
use warp::http::{HeaderMap, Method};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The parts of a request, in addition to its path and body, that handlers need.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// The client's address.
    pub(crate) address: Option<IpAddr>,
}

impl Head {
    /// Rejects every method but `GET` and `HEAD`, for which hyper omits the body.
    pub(crate) fn must_read(&self) -> Result<(), HttpFailure> {
        let reads = self.method == Method::GET || self.method == Method::HEAD;
        if reads { Ok(()) } else { Err(HttpFailure::method("GET, HEAD")) }
    }

    /// Rejects every method but `DELETE`.
    pub(crate) fn must_delete(&self) -> Result<(), HttpFailure> {
        if self.method == Method::DELETE { Ok(()) } else { Err(HttpFailure::method("DELETE")) }
    }

    /// Rejects every method but `POST`.
    pub(crate) fn must_post(&self) -> Result<(), HttpFailure> {
        if self.method == Method::POST { Ok(()) } else { Err(HttpFailure::method("POST")) }
    }
}

/// The keys, host names and origins by which requests are authorized.
#[derive(Debug)]
pub(crate) struct Guard {
    keys: KeyRing,
    hosts: Vec<String>,
    origins: Origins,
}

impl Guard {
    pub(crate) fn new(limits: &ApiLimits) -> Guard {
        let origins = Origins::new(&limits.allow_origins);
        Guard { keys: limits.keys.clone(), hosts: limits.hosts.clone(), origins }
    }

    /// Checks a `GET` or `HEAD`: its key must have the scope `read` if keys are needed.
    pub(crate) fn check_read(&self, head: &Head) -> Result<(), HttpFailure> {
        head.must_read()?;
        self.check_host(&head.headers)?;
        Ok(self.check_key(&head.headers, &[Scope::Read])?)
    }

    /// The same for the description of a model, which is also readable with a key of scope `infer`.
    pub(crate) fn check_model_read(&self, head: &Head) -> Result<(), HttpFailure> {
        head.must_read()?;
        self.check_host(&head.headers)?;
        Ok(self.check_key(&head.headers, &[Scope::Read, Scope::Infer])?)
    }

    /// Checks a `POST`: it must come from a program, from the server's own page or from a page of
    /// an allowed origin, with a key of this scope if keys are needed.
    pub(crate) fn check_post(&self, head: &Head, scope: Scope) -> Result<(), HttpFailure> {
        head.must_post()?;
        self.check_host(&head.headers)?;
        self.check_key(&head.headers, &[scope])?;
        Ok(self.check_origin(&head.headers, scope)?)
    }

    /// Checks a `DELETE`, which changes state and needs the scope for that.
    pub(crate) fn check_delete(&self, head: &Head) -> Result<(), HttpFailure> {
        head.must_delete()?;
        self.check_host(&head.headers)?;
        self.check_key(&head.headers, &[Scope::Admin])?;
        Ok(self.check_origin(&head.headers, Scope::Admin)?)
    }

    /// Returns a number for the client, for fair shares: from its key, or otherwise from its
    /// network.
    pub(crate) fn client(&self, head: &Head) -> u64 {
        if let Some(key) = given_key(&head.headers).filter(|_| self.keys.current().are_needed()) {
            return keys::number(key);
        }
        head.address.map_or(0, network)
    }

    /// Limits the requested priority, 0 for the default, to the most urgent one that the key
    /// allows.
    pub(crate) fn priority(&self, head: &Head, requested: u32) -> u32 {
        let most = self.keys.current().priority(given_key(&head.headers));
        let named = if requested == 0 { PRIORITY_DEFAULT } else { requested };
        if named < most { most } else { requested }
    }

    fn check_key(&self, headers: &HeaderMap, scopes: &[Scope]) -> Result<(), Error> {
        self.keys.current().check(given_key(headers), scopes).map_err(|denied| match denied {
            Denied::Missing => unauthorized(
                "an API key is required; send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'",
            ),
            Denied::Wrong => unauthorized("the API key is wrong"),
            Denied::Scope => {
                let names: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
                let message = format!("this API key lacks the scope '{}'", names.join("' or '"));
                Error::new(ErrorKind::Forbidden, message)
            }
        })
    }

    /// Checks `Host`, which browsers always send. Without keys it must be a name that outsiders
    /// cannot own: a site that points its own name at this machine (DNS rebinding) could otherwise
    /// read answers, which browsers treat as the site's own.
    fn check_host(&self, headers: &HeaderMap) -> Result<(), Error> {
        if self.keys.current().are_needed() {
            return Ok(());
        }
        let Some(host) = headers.get(HOST) else { return Ok(()) };
        let name = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        let own = name.as_ref().is_some_and(|name| {
            let listed = self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name.host()));
            listed || is_private_name(name.host())
        });
        if own {
            return Ok(());
        }
        let shown: String = String::from_utf8_lossy(host.as_bytes()).chars().take(100).collect();
        let message = format!(
            "this server does not know the name '{shown}'; if it is yours, add it to 'hosts'"
        );
        Err(Error::new(ErrorKind::Forbidden, message))
    }

    /// Checks `Origin`, in which browsers name the page that sends a `POST`; programs send none.
    /// Without a key, an origin equal to `Host` is not enough: a site may point its own name at
    /// this machine (DNS rebinding), so the name must be one that outsiders cannot own.
    ///
    /// Pages of allowed origins may do the same as programs. Where `*` allows all origins and no
    /// key is needed, pages may not change anything, since any site that a user visits could.
    fn check_origin(&self, headers: &HeaderMap, scope: Scope) -> Result<(), Error> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let changes_nothing = scope != Scope::Admin || self.keys.current().are_needed();
        if self.origins.names(origin) || (changes_nothing && self.origins.allow(origin)) {
            return Ok(());
        }
        let origin = origin.to_str().ok().and_then(origin_authority);
        let Some(origin) = origin else { return Err(foreign("an unnamed page")) };
        if self.hosts.iter().any(|host| host.eq_ignore_ascii_case(origin.host())) {
            return Ok(());
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let own = origin.as_str().eq_ignore_ascii_case(host);
        if own && (self.keys.current().are_needed() || is_private_name(origin.host())) {
            return Ok(());
        }
        Err(foreign(origin.as_str()))
    }
}

fn unauthorized(message: &str) -> Error {
    Error::new(ErrorKind::Unauthorized, message)
}

fn foreign(origin: &str) -> Error {
    let message = format!(
        "a page of {origin} may not do this; if it is this server's own name, add it to 'hosts', \
         if it is another site's, add it to 'allow_origins'"
    );
    Error::new(ErrorKind::Forbidden, message)
}

fn given_key(headers: &HeaderMap) -> Option<&[u8]> {
    bearer(headers).or_else(|| headers.get(API_KEY).map(|value| value.as_bytes()))
}

/// The key of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii())
}

/// `http://box:8000` gives `box:8000`; `null` and other opaque origins give nothing.
fn origin_authority(origin: &str) -> Option<Authority> {
    let uri: Uri = origin.parse().ok()?;
    uri.scheme()?;
    uri.into_parts().authority
}

/// A name that no outsider can register and point at this machine.
fn is_private_name(host: &str) -> bool {
    let name = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let name = name.to_ascii_lowercase();
    let private = [".localhost", ".local", ".internal"];
    name.parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || private.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::keys::Keys;

    fn guard(key: Option<&str>) -> Guard {
        let hosts = vec!["gpu.example.org".into()];
        Guard { keys: KeyRing::new(Keys::one(key)), hosts, origins: Origins::default() }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn requests_with_the_key_are_accepted() {
        let guard = guard(Some("s3cret"));
        let status = |pairs: &[(&'static str, &str)]| {
            guard.check_key(&headers(pairs), &[Scope::Admin]).map_err(|error| error.kind.status())
        };
        assert_eq!(status(&[("authorization", "Bearer s3cret")]), Ok(()));
        assert_eq!(status(&[("authorization", "bearer  s3cret ")]), Ok(()));
        assert_eq!(status(&[("x-api-key", "s3cret")]), Ok(()));
        assert_eq!(status(&[]), Err(401));
        assert_eq!(status(&[("authorization", "Bearer s3cre")]), Err(401));
        assert_eq!(status(&[("authorization", "Bearer s3cret2")]), Err(401));
        assert_eq!(status(&[("authorization", "Bearer ")]), Err(401));
        assert_eq!(status(&[("authorization", "Basic s3cret")]), Err(401));
        assert_eq!(status(&[("x-api-key", "")]), Err(401));
    }

    #[test]
    fn pages_of_other_sites_are_rejected() {
        let cases: &[(&str, &str, bool)] = &[
            ("http://127.0.0.1:8000", "127.0.0.1:8000", true),
            ("http://[::1]:8000", "[::1]:8000", true),
            ("http://localhost:8000", "LOCALHOST:8000", true),
            ("http://gpu-box:8000", "gpu-box:8000", true),
            ("http://gpu-box.local", "gpu-box.local", true),
            ("https://gpu.example.org", "127.0.0.1:8000", true),
            ("http://localhost:3000", "localhost:8000", false),
            ("http://evil.example", "127.0.0.1:8000", false),
            // DNS rebinding: the page's own name points here.
            ("http://evil.example:8000", "evil.example:8000", false),
            ("null", "127.0.0.1:8000", false),
            ("null", "null", false),
            ("file://", "127.0.0.1:8000", false),
            ("", "", false),
        ];
        for (origin, host, allowed) in cases {
            let result = guard(None)
                .check_origin(&headers(&[("origin", origin), ("host", host)]), Scope::Infer);
            assert_eq!(result.is_ok(), *allowed, "{origin} at {host}: {result:?}");
        }
        assert!(
            guard(None).check_origin(&headers(&[("host", "evil.example")]), Scope::Infer).is_ok()
        );
    }

    #[test]
    fn with_a_key_the_host_may_be_a_public_name() {
        let own = headers(&[("origin", "https://a.example"), ("host", "a.example")]);
        assert!(guard(Some("k")).check_origin(&own, Scope::Admin).is_ok());
        assert_eq!(
            guard(None).check_origin(&own, Scope::Infer).unwrap_err().kind,
            ErrorKind::Forbidden
        );
    }

    #[test]
    fn pages_of_allowed_origins_are_accepted() {
        let with = |key, allowed: &str| Guard {
            origins: Origins::new(&[allowed.to_owned()]),
            ..guard(key)
        };
        let page = |origin| headers(&[("origin", origin), ("host", "127.0.0.1:8000")]);
        let named = "https://page.example";
        for scope in Scope::ALL {
            assert!(with(None, named).check_origin(&page(named), scope).is_ok());
            assert!(with(None, named).check_origin(&page("https://x.example"), scope).is_err());
            assert!(with(Some("k"), "*").check_origin(&page(named), scope).is_ok());
            let keyless = with(None, "*").check_origin(&page(named), scope);
            assert_eq!(keyless.is_ok(), scope != Scope::Admin, "{scope:?}");
        }
    }

    #[test]
    fn without_a_key_the_host_must_be_a_private_name() {
        let status = |guard: &Guard, host: &str| {
            let headers = headers(&[("host", host)]);
            let head = Head { method: Method::GET, headers, address: None };
            guard.check_read(&head).is_ok()
        };
        for host in ["127.0.0.1:8000", "[::1]:8000", "localhost", "gpu-box:8000", "a.local"] {
            assert!(status(&guard(None), host), "{host}");
        }
        assert!(status(&guard(None), "GPU.example.org:8000"));
        for host in ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "a b", ""] {
            assert!(!status(&guard(None), host), "{host}");
        }
        let none = Head { method: Method::GET, headers: HeaderMap::new(), address: None };
        assert!(guard(None).check_read(&none).is_ok());
        // A request with a key does not come from a page of another site.
        let keyed = headers(&[("host", "evil.example"), ("x-api-key", "k")]);
        let head = Head { method: Method::GET, headers: keyed, address: None };
        assert!(guard(Some("k")).check_read(&head).is_ok());
    }

    #[test]
    fn clients_are_distinguished_by_key_or_else_by_address() {
        let client = |keys: Option<&str>, given: Option<&str>, address: &str| {
            let given: Vec<_> = given.map(|key| ("x-api-key", key)).into_iter().collect();
            let address = Some(address.parse().unwrap());
            let head = Head { method: Method::POST, headers: headers(&given), address };
            guard(keys).client(&head)
        };
        let one = client(None, None, "10.0.0.1");
        assert_ne!(one, client(None, None, "10.0.0.2"));
        assert_eq!(one, client(None, None, "::ffff:10.0.0.1"));
        assert_eq!(client(None, None, "2001:db8::1"), client(None, None, "2001:db8::2"));
        assert_ne!(client(None, None, "2001:db8::1"), client(None, None, "2001:db8:0:1::1"));
        // A key that is not checked does not change the client.
        assert_eq!(one, client(None, Some("k"), "10.0.0.1"));
        let keyed = client(Some("k"), Some("k"), "10.0.0.1");
        assert_eq!(keyed, client(Some("k"), Some("k"), "10.0.0.2"));
        assert_ne!(keyed, client(Some("k"), Some("l"), "10.0.0.1"));
    }

    #[test]
    fn priority_is_limited_by_the_key() {
        let (key, entry) = keys::make("batch", &[keys::Scope::Infer]).unwrap();
        let file = std::env::temp_dir().join(format!("concertina-keys-{}", std::process::id()));
        std::fs::write(&file, format!("{entry}priority = 200\n")).unwrap();
        let read = Keys::read(&file, Some("free")).unwrap();
        std::fs::remove_file(&file).unwrap();
        let guard =
            Guard { keys: KeyRing::new(read), hosts: Vec::new(), origins: Origins::default() };
        let priority = |key: &str, requested| {
            let headers = headers(&[("x-api-key", key)]);
            guard.priority(&Head { method: Method::POST, headers, address: None }, requested)
        };
        assert_eq!(
            [0, 1, 100, 300].map(|requested| priority(&key, requested)),
            [200, 200, 200, 300]
        );
        assert_eq!([0, 1, 300].map(|requested| priority("free", requested)), [0, 1, 300]);
    }

    #[test]
    fn methods_are_checked() {
        let head = |method| Head { method, headers: HeaderMap::new(), address: None };
        assert!(head(Method::HEAD).must_read().is_ok());
        assert!(head(Method::POST).must_read().is_err());
        assert!(head(Method::PUT).must_post().is_err());
        assert!(head(Method::POST).must_post().is_ok());
    }
}
