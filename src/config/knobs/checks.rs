//! What one text of a knob may look like; each refusal completes "must be".

use crate::{config::redis, limits};

/// Takes any text.
pub(super) fn any(_: &str) -> Result<(), &'static str> {
    Ok(())
}

/// What a short claim may hold.
pub(super) fn issuer(text: &str) -> Result<(), &'static str> {
    let known = (1..=limits::PASS_ISSUER_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
    if known { Ok(()) } else { Err("1 to 256 bytes without control characters") }
}

/// An address that can be fetched.
pub(super) fn url(text: &str) -> Result<(), &'static str> {
    let known =
        ["http://", "https://"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    if known { Ok(()) } else { Err("a URL that starts with http:// or https://") }
}

/// As `url`, in a list.
pub(super) fn target(text: &str) -> Result<(), &'static str> {
    url(text).map_err(|_| "a list of URLs that start with http:// or https://")
}

/// A JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1); `none` is not among them.
pub(super) fn algorithm(name: &str) -> Result<(), &'static str> {
    const KNOWN: [&str; 12] = [
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
        "EdDSA",
    ];
    if KNOWN.contains(&name) {
        Ok(())
    } else {
        Err("a list of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA")
    }
}

/// An origin as browsers send it: scheme and authority, nothing behind (RFC 6454 §6.1).
pub(super) fn origin(text: &str) -> Result<(), &'static str> {
    let plain = |rest: &str| !rest.is_empty() && !rest.contains(['/', '*', '?', '#', '@', ' ']);
    let whole = text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && plain(rest));
    if text == "*" || whole {
        Ok(())
    } else {
        Err("a list of origins such as https://shop.example:8443, without path or wildcard, or *")
    }
}

/// `*` is any, and so is an empty list; browsers send origins in lower case.
pub(super) fn origins(list: Vec<String>) -> Vec<String> {
    if list.iter().any(|origin| origin == "*") {
        return Vec::new();
    }
    list.into_iter().map(|origin| origin.to_ascii_lowercase()).collect()
}

/// One server, as [`crate::config::redis`] reads it.
pub(super) fn redis_url(text: &str) -> Result<(), &'static str> {
    redis::parse(text).map(|_| ())
}

/// A name or an address alone.
pub(super) fn redis_host(text: &str) -> Result<(), &'static str> {
    let known =
        !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | ','));
    if known { Ok(()) } else { Err("a host name or an IP address, without a port") }
}

/// Braces would be taken for a hash tag, which belongs to what a key is about.
pub(super) fn redis_prefix(text: &str) -> Result<(), &'static str> {
    let known = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-/".contains(&byte));
    if known { Ok(()) } else { Err("1 to 64 characters of A-Z a-z 0-9 _ . : - /") }
}

/// A room name, or a pattern of them.
pub(super) fn glob(text: &str) -> Result<(), &'static str> {
    let known =
        !text.is_empty() && text.len() <= limits::ROOM_NAME_BYTES_MAX && !text.contains(char::is_control);
    if known { Ok(()) } else { Err("a list of room names of at most 128 bytes, with * for any characters") }
}

/// A level alone must be one: a mistyped level would else be taken for the name of a target.
pub(super) fn filter(text: &str) -> Result<(), &'static str> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let known = if text.contains(['=', ',']) {
        tracing_subscriber::EnvFilter::builder().parse(text).is_ok()
    } else {
        LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text))
    };
    if known {
        Ok(())
    } else {
        Err("error, warn, info, debug, trace, off, or a filter such as info,usher::hub=debug")
    }
}
