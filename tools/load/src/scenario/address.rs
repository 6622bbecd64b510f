//! Where a run connects to.

use std::{io, net::SocketAddr};

/// The parts of `ws://ADDRESS:PORT/PATH`.
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) server: SocketAddr,
    pub(super) target: String,
}

impl Address {
    pub(super) fn parse(url: &str) -> io::Result<Self> {
        let bad = || io::Error::other(format!("not ws://ADDRESS:PORT/PATH or wss://...: {url}"));
        let (tls, rest) = match url.split_once("://").ok_or_else(bad)? {
            ("ws", rest) => (false, rest),
            ("wss", rest) => (true, rest),
            _ => return Err(bad()),
        };
        let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
        let server = server.replace("localhost", "127.0.0.1").parse().map_err(|_| bad())?;
        Ok(Self { tls, server, target: format!("/{path}") })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_how_and_what() {
        let Address { tls, server, target } = Address::parse("wss://localhost:3443/ws/ticketing").unwrap();
        assert_eq!((tls, server.port(), target.as_str()), (true, 3443, "/ws/ticketing"));
        for bad in ["http://127.0.0.1:1/", "ws://example:1/ws", "127.0.0.1:1"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
