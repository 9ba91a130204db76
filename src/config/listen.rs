//! Parsing of addresses to listen on.

use serde::{Deserialize, Deserializer};
use std::net::{Ipv4Addr, SocketAddr};

/// Parses an address: an IP address and a port, `localhost` and a port, or only a port after a
/// colon, which stands for all addresses of this machine.
///
/// # Errors
/// The accepted forms, if `text` has another one.
pub(super) fn parse(text: &str) -> Result<SocketAddr, String> {
    let named = text.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok().filter(|_| port.bytes().all(|c| c.is_ascii_digit()))?;
        match host {
            "" => Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
            host if host.eq_ignore_ascii_case("localhost") => {
                Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            }
            _ => None,
        }
    });
    named.or_else(|| text.parse().ok()).ok_or_else(|| {
        let shown: String = text.chars().take(100).flat_map(char::escape_debug).collect();
        format!(
            "'{shown}' is not a socket address to listen on; write it as '127.0.0.1:8000', \
             '[::1]:8000', 'localhost:8000', or ':8000' for all addresses of this machine"
        )
    })
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_names_and_ports_are_accepted() {
        for (text, address) in [
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            ("[::1]:8000", "[::1]:8000"),
            ("[::]:0", "[::]:0"),
            ("localhost:8000", "127.0.0.1:8000"),
            ("LocalHost:1", "127.0.0.1:1"),
            (":8000", "0.0.0.0:8000"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), address, "{text}");
        }
    }

    #[test]
    fn error_for_other_forms_names_the_accepted_ones() {
        for wrong in [
            "",
            ":",
            "8000",
            "localhost",
            "127.0.0.1",
            "localhost:",
            "localhost:99999",
            "localhost:+80",
            "gpu-box:8000",
            "unix:/run/x.sock",
            "::1:8000",
            "127.0.0.1:8000,127.0.0.1:8001",
            "http://127.0.0.1:8000",
        ] {
            let error = parse(wrong).expect_err(wrong);
            assert!(error.contains("'localhost:8000', or ':8000'"), "{wrong}: {error}");
        }
        assert!(!parse("a\u{1b}[31m:1").unwrap_err().contains('\u{1b}'));
    }
}
