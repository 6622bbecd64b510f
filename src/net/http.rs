//! Request heads, strictly: what browsers, probes and proxies send, and nothing that two readers could read twice.
//!
//! Owns the refusals of everything that is no plain `GET` or `HEAD` of HTTP/1.1 (RFC 9112). Never reads a body: a
//! request that announces one is refused, so nothing can be smuggled behind a head. Work per call is linear in at most
//! `HEAD_BYTES_MAX` bytes.

use std::borrow::Cow;

use httparse::{EMPTY_HEADER, Request};

use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};

/// What may be asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The answer with its body.
    Get,
    /// The same answer without its body.
    Head,
}

/// The head of a request that is in order so far; its target and its upgrade are judged by `upgrade::route`.
#[derive(Clone)]
pub struct Head<'a> {
    /// `GET` or `HEAD`.
    pub method: Method,
    /// The target up to `?`, as sent; starts with `/`.
    pub path: &'a str,
    /// The target after `?`, as sent.
    pub query: Option<&'a str>,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
    /// Bytes of the head, its empty line included.
    pub length: usize,
    /// Bytes that came after the head.
    pub surplus: usize,
    fields: [httparse::Header<'a>; HEADERS_MAX],
    /// `0 <= field_count <= HEADERS_MAX`.
    field_count: usize,
}

impl std::fmt::Debug for Head<'_> {
    /// Without query and fields: tokens stand there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

impl<'a> Head<'a> {
    /// Values of all fields with that name, in order, without the white space around them.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        let fields = self.fields[..self.field_count].iter();
        fields
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value.trim_ascii())
    }

    /// The value of a field that may stand once; `Err` where it stands twice or is no visible ASCII.
    pub fn single(&self, name: &str) -> Result<Option<&'a str>, NotSingle> {
        let mut values = self.all(name);
        let first = values.next();
        match (first, values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => text(value).map(Some).ok_or(NotSingle),
            (Some(_), Some(_)) => Err(NotSingle),
        }
    }

    /// Members of a comma-separated list, over all fields with that name; empty ones are left out (RFC 9110 §5.6.1).
    pub fn list<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a [u8]> + 's {
        let members = self.all(name).flat_map(|value| value.split(|byte| *byte == b','));
        members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
    }

    /// Whether a comma-separated list has that member, in any case.
    pub fn lists(&self, name: &str, member: &str) -> bool {
        self.list(name).any(|listed| listed.eq_ignore_ascii_case(member.as_bytes()))
    }
}

/// A field that should stand once stands twice, or holds more than visible ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSingle;

/// Reads the head at the start of `bytes`. `None`: it is not whole yet, and nothing wrong with it so far. `Err`: send
/// that and close.
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head<'_>>, Answer> {
    let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    check_start(window)?;
    check_line_ends(window)?;
    let whole = window.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4);
    match whole {
        Some(length) => parse_whole(&bytes[..length], bytes.len() - length).map(Some),
        None if bytes.len() < HEAD_BYTES_MAX => Ok(None),
        // No line end at all: it is the target that is too long.
        None if !window.contains(&b'\n') => Err(Answer::error(414, "request target is too long")),
        None => Err(Answer::error(431, "request head is too large")),
    }
}

/// The first byte tells TLS, and most of what is not HTTP, from a request.
fn check_start(window: &[u8]) -> Result<(), Answer> {
    match window.first() {
        Some(byte) if !byte.is_ascii_alphabetic() && !matches!(byte, b'\r') => {
            Err(bad_request("not an HTTP request"))
        }
        _ => Ok(()),
    }
}

/// Only CRLF ends a line, and CR stands nowhere else; NUL is in no text. RFC 9112 §2.2 lets a recipient take a lone LF
/// for a line end: a proxy in front may not, and then the two see different heads.
fn check_line_ends(window: &[u8]) -> Result<(), Answer> {
    let mut after_cr = false;
    for byte in window {
        if after_cr != (*byte == b'\n') {
            return Err(bad_request("lines end with CRLF"));
        }
        if *byte == 0 {
            return Err(bad_request("NUL in the request head"));
        }
        after_cr = *byte == b'\r';
    }
    Ok(())
}

fn parse_whole(head: &[u8], surplus: usize) -> Result<Head<'_>, Answer> {
    let mut fields = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut fields);
    match request.parse(head) {
        Ok(status) if status.is_complete() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Answer::error(431, "too many header fields")),
        Ok(_) | Err(_) => return Err(bad_request("request head is malformed")),
    }
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version) else {
        return Err(bad_request("only HTTP/1.1 is spoken here"));
    };
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => return Err(Answer::error(405, "method is not allowed").with("Allow", "GET")),
    };
    if target.len() > TARGET_BYTES_MAX {
        return Err(Answer::error(414, "request target is too long"));
    }
    // Neither `http://host/path` nor `*` nor `host:port`: this is an origin server (RFC 9112 §3.2).
    if !target.starts_with('/') {
        return Err(bad_request("request target is no path"));
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let field_count = request.headers.len();
    let mut head =
        Head { method, path, query, keep_alive: true, length: head.len(), surplus, fields, field_count };
    head.keep_alive = !head.lists("connection", "close");
    check_host(&head)?;
    check_no_body(&head)?;
    Ok(head)
}

/// Exactly one `Host`, with a value (RFC 9112 §3.2).
fn check_host(head: &Head<'_>) -> Result<(), Answer> {
    let valid = |host: &str| {
        let odd = |byte: u8| byte.is_ascii_whitespace() || b"/\\@?#,".contains(&byte);
        !host.is_empty() && !host.bytes().any(odd)
    };
    match head.single("host") {
        Ok(Some(host)) if valid(host) => Ok(()),
        _ => Err(bad_request("exactly one Host is needed")),
    }
}

fn check_no_body(head: &Head<'_>) -> Result<(), Answer> {
    let announced = head.all("transfer-encoding").next().is_some();
    if announced || head.all("content-length").any(|length| length != b"0") {
        return Err(bad_request("a request has no body here"));
    }
    Ok(())
}

/// A value of visible ASCII, spaces and tabs.
pub(super) fn text(value: &[u8]) -> Option<&str> {
    str::from_utf8(value).ok().filter(|value| value.is_ascii())
}

pub(super) fn bad_request(reason: &'static str) -> Answer {
    Answer::error(400, reason)
}

/// An answer of the client port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// Fields beside those that [`Answer::encode`] adds.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The content of GET.
    pub body: Vec<u8>,
    /// Whether the connection ends with this answer.
    pub close: bool,
    /// Whether `body` is measured but not sent, as HEAD asks.
    pub head_only: bool,
}

impl Answer {
    /// JSON text.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::typed(status, "application/json", body.into())
    }

    /// Plain text; the metrics format is one.
    pub fn text(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self::typed(status, content_type, body.into())
    }

    /// `{"error": reason}`; the connection ends with it.
    pub fn error(status: u16, reason: &str) -> Self {
        let body = serde_json::json!({ "error": reason }).to_string();
        Self { close: true, ..Self::json(status, body) }
    }

    /// As [`Answer::error`], for what may work later (RFC 9110 §10.2.3).
    pub fn retry(status: u16, reason: &str, retry_after_s: u32) -> Self {
        Self::error(status, reason).with("Retry-After", retry_after_s.to_string())
    }

    /// Adds a field.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Fits the answer to its request: no content for HEAD, the connection's end where the request wants it.
    pub fn to(mut self, head: &Head<'_>) -> Self {
        self.head_only = head.method == Method::Head;
        self.close |= !head.keep_alive;
        self
    }

    /// The bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status));
        for (name, value) in &self.headers {
            field(&mut text, name, value);
        }
        field(&mut text, "Content-Length", &self.body.len().to_string());
        // Counts and errors are true now, and for nobody else.
        field(&mut text, "Cache-Control", "no-store");
        match (self.status, self.close) {
            // Who sends `Upgrade` names it as a connection option too (RFC 9110 §7.8).
            (426, _) => field(&mut text, "Connection", "Upgrade, close"),
            (_, true) => field(&mut text, "Connection", "close"),
            (_, false) => {}
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        if !self.head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }

    fn typed(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        let headers = vec![("Content-Type", Cow::Borrowed(content_type))];
        Self { status, headers, body, close: false, head_only: false }
    }
}

fn field(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push_str(": ");
    text.push_str(value);
    text.push_str("\r\n");
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        // The phrase may be empty (RFC 9112 §4).
        _ => "",
    }
}

#[cfg(test)]
mod tests;
