//! The host of a request: `Host`, and the authority of an absolute target (RFC 9112, sections 3.2
//! and 3.3). Software in front of the server may read another host from an ambiguous request than
//! the server does, so that such requests are rejected.

use hyper::Request;
use std::net::Ipv6Addr;
use types::error::Error;
use warp::http::header::HOST;
use warp::http::{HeaderValue, Uri, Version};

/// A host in lower case, and its port, if there is one.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    name: String,
    port: Option<u16>,
}

/// Checks that a request names exactly one host.
///
/// # Errors
/// 400 if `Host` is missing in HTTP/1.1, is repeated, is malformed, contains a user, or contradicts
/// the target.
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), Error> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(parse_header(host)?),
        (Some(_), Some(_)) => return Err(Error::malformed("the request has several Host headers")),
        (None, _) if request.version() >= Version::HTTP_11 => {
            return Err(Error::malformed(
                "the request has no Host header, which HTTP/1.1 requires",
            ));
        }
        (None, _) => None,
    };
    let Some(authority) = request.uri().authority() else { return Ok(()) };
    if !["http", "https"].contains(&request.uri().scheme_str().unwrap_or_default()) {
        return Err(Error::malformed("the target of the request is neither http:// nor https://"));
    }
    let target = parse(authority.as_str())
        .ok_or_else(|| Error::malformed("the target of the request names no valid host"))?;
    let is_same = |host: &Host| {
        let port = default_port(request.uri());
        host.name == target.name && host.port.or(port) == target.port.or(port)
    };
    if host.as_ref().is_none_or(is_same) {
        return Ok(());
    }
    Err(Error::malformed("the Host header names another host than the target of the request"))
}

fn parse_header(value: &HeaderValue) -> Result<Host, Error> {
    let host = value.to_str().ok().and_then(|text| parse(text.trim()));
    host.ok_or_else(|| {
        Error::malformed("the Host header is not a host name or address, perhaps with a port")
    })
}

fn default_port(target: &Uri) -> Option<u16> {
    match target.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    }
}

/// Parses `name`, `name:port`, `[address]` or `[address]:port`; a user before `@` is invalid.
fn parse(text: &str) -> Option<Host> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let plain = address.split_once('%').map_or(address, |(address, _zone)| address);
            plain.parse::<Ipv6Addr>().ok()?;
            (address, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => {
            let (name, port) = match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            };
            (name.chars().all(may_name).then_some(name)?, port)
        }
    };
    Some(Host { name: name.to_ascii_lowercase(), port: parse_port(port)? })
}

/// Parses a port; an empty one stands for the default port.
fn parse_port(port: Option<&str>) -> Option<Option<u16>> {
    match port {
        None | Some("") => Some(None),
        Some(port) if port.bytes().all(|c| c.is_ascii_digit()) => port.parse().ok().map(Some),
        Some(_) => None,
    }
}

/// Returns true for characters that occur in names, fewer than are allowed (RFC 3986, section
/// 3.2.2): some proxies join two headers with a comma.
fn may_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: Version, target: &str, hosts: &[&str]) -> Result<(), u16> {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check(&request.body(()).unwrap()).map_err(|error| error.kind.status())
    }

    #[test]
    fn one_host_in_one_way_is_accepted() {
        for (target, hosts) in [
            ("/v2", &["localhost"][..]),
            ("/v2", &["localhost:8000"]),
            ("/v2", &["[::1]:8000"]),
            ("/v2", &["[fe80::1%25eth0]"]),
            ("/v2", &["gpu_box.example."]),
            ("/v2", &["localhost:"]),
            ("/v2", &[""]),
            ("http://LocalHost:8000/v2", &["localhost:8000"]),
            ("http://localhost/v2", &["localhost:80"]),
            ("https://localhost:443/v2", &["localhost"]),
        ] {
            assert_eq!(status(Version::HTTP_11, target, hosts), Ok(()), "{target} {hosts:?}");
        }
        assert_eq!(status(Version::HTTP_10, "/v2", &[]), Ok(()));
        assert_eq!(status(Version::HTTP_10, "http://localhost/v2", &[]), Ok(()));
    }

    #[test]
    fn missing_repeated_and_contradictory_hosts_are_rejected() {
        for (target, hosts) in [
            ("/v2", &[][..]),
            ("/v2", &["localhost", "localhost"]),
            ("/v2", &["localhost", "evil.example"]),
            ("/v2", &["evil@localhost"]),
            ("/v2", &["evil:pw@localhost:8000"]),
            ("/v2", &["local host"]),
            ("/v2", &["localhost/path"]),
            ("/v2", &["localhost,evil.example"]),
            ("/v2", &["local%20host"]),
            ("ftp://localhost/v2", &["localhost"]),
            ("/v2", &["localhost:port"]),
            ("/v2", &["localhost:99999"]),
            ("/v2", &["localhost:80:80"]),
            ("/v2", &["::1"]),
            ("/v2", &["[::1"]),
            ("/v2", &["[::1]8000"]),
            ("/v2", &["[evil.example]"]),
            ("http://localhost/v2", &["evil.example"]),
            ("http://localhost:8000/v2", &["localhost"]),
            ("http://evil@localhost/v2", &["localhost"]),
            ("http://localhost/v2", &[]),
        ] {
            assert_eq!(status(Version::HTTP_11, target, hosts), Err(400), "{target} {hosts:?}");
        }
        assert_eq!(status(Version::HTTP_10, "/v2", &["a", "b"]), Err(400));
    }
}
