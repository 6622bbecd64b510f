//! What a request asks for, and the opening handshake of WebSocket (RFC 6455 §4.2, 03 §1–3).
//!
//! Owns the paths of the client port, the checks before a 101, and the places a token may stand. Never verifies a
//! signature on its own account: [`Upgrade::authenticate`] asks the shard's verifier. What is not understood among the
//! extensions is declined by silence.

mod extensions;

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use tungstenite::handshake::derive_accept_key;

pub use self::extensions::Deflate;
use super::http::{Answer, Head, Method, bad_request, text};
use crate::{
    auth::{TokenError, Verifier, origin},
    clock::Now,
    config::{
        Settings,
        settings::{Auth, Dialect},
    },
    identity::Identity,
    limits::SUBPROTOCOLS_MAX,
};

/// What a request asks for.
#[derive(Debug)]
pub enum Route<'a> {
    /// A WebSocket connection; everything but its token is in order.
    Upgrade(Upgrade<'a>),
    /// `/health`.
    Health,
    /// `/ready`.
    Ready,
    /// `/stats`.
    Stats,
    /// `/.well-known/jwks.json`.
    Jwks,
    /// `/metrics`, where configuration has it on this port.
    Metrics,
}

/// A request for a WebSocket connection.
#[derive(Debug)]
pub struct Upgrade<'a> {
    /// What the connection will speak, for life.
    pub dialect: Dialect,
    /// The token, if the request brought one; not verified. Never logged.
    pub token: Option<Token<'a>>,
    /// What the answer selects; one that the client offered.
    pub subprotocol: Option<&'static str>,
    /// That permessage-deflate is accepted, where it was offered and is on.
    pub deflate: Option<Deflate>,
    /// Whether the client will send `system:resume` first (`?resume=wait`).
    pub resume_waits: bool,
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: String,
}

/// A token and where it stood.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<'a> {
    /// As sent, percent-decoded where it stood in the query.
    pub text: Cow<'a, str>,
    /// Where it stood.
    pub source: TokenSource,
}

/// Where a token stood; the first of these that has one decides (03 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer <token>`.
    Header,
    /// `Sec-WebSocket-Protocol: bearer, <token>`.
    Subprotocol,
    /// `?token=<token>`.
    Query,
}

impl std::fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({:?}, ***)", self.source)
    }
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorised {
    /// Anonymous connections are off, and no login may follow.
    #[error("a token is needed")]
    Missing,
    /// The token is refused; on [`TokenError::UnknownKey`] control should hear of it.
    #[error(transparent)]
    Refused(#[from] TokenError),
}

impl Unauthorised {
    /// 401.
    pub fn answer(self) -> Answer {
        Answer::error(401, &self.to_string()).with("WWW-Authenticate", "Bearer")
    }
}

/// Decides what a request asks for. `Err`: send that and close.
pub fn route<'a>(head: &Head<'a>, settings: &Settings) -> Result<Route<'a>, Answer> {
    by_path(head, settings).map_err(|answer| answer.to(head))
}

fn by_path<'a>(head: &Head<'a>, settings: &Settings) -> Result<Route<'a>, Answer> {
    match head.path {
        "/ws" => upgrade(head, None, settings),
        "/ws/ticketing" => upgrade(head, Some(Dialect::Ticketing), settings),
        "/ws/raw" => upgrade(head, Some(Dialect::Raw), settings),
        "/health" => Ok(Route::Health),
        "/ready" => Ok(Route::Ready),
        "/stats" => Ok(Route::Stats),
        "/.well-known/jwks.json" => Ok(Route::Jwks),
        "/metrics" if settings.listen.metrics_on_client_port => Ok(Route::Metrics),
        _ => Err(Answer::error(404, "nothing is served here")),
    }
}

/// The answer that turns the connection into a WebSocket (RFC 6455 §4.2.2).
pub fn response(accept: &str, subprotocol: Option<&str>, deflate: Option<Deflate>) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n"
    );
    if let Some(name) = subprotocol {
        text.push_str("Sec-WebSocket-Protocol: ");
        text.push_str(name);
        text.push_str("\r\n");
    }
    if let Some(deflate) = deflate {
        text.push_str("Sec-WebSocket-Extensions: ");
        text.push_str(&extensions::accept(deflate));
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

impl Upgrade<'_> {
    /// Whose the connection will be; `None`: anonymous, or to be told by `auth:login`.
    pub fn authenticate(
        &self,
        verifier: &Verifier,
        auth: &Auth,
        now: Now,
    ) -> Result<Option<Identity>, Unauthorised> {
        match &self.token {
            Some(token) => Ok(Some(verifier.verify(&token.text, now)?)),
            None if auth.allow_anonymous || auth.first_message => Ok(None),
            None => Err(Unauthorised::Missing),
        }
    }
}

fn upgrade<'a>(head: &Head<'a>, path: Option<Dialect>, settings: &Settings) -> Result<Route<'a>, Answer> {
    if head.method != Method::Get {
        return Err(Answer::error(405, "method is not allowed").with("Allow", "GET"));
    }
    if !head.lists("upgrade", "websocket") || !head.lists("connection", "upgrade") {
        return Err(upgrade_required("a WebSocket handshake is needed"));
    }
    if head.single("sec-websocket-version") != Ok(Some("13")) {
        return Err(upgrade_required("WebSocket version 13 is needed").with("Sec-WebSocket-Version", "13"));
    }
    let accept = accept(head)?;
    // Frames before the 101 would be taken as a user's before anybody knows whose they are.
    if head.surplus > 0 {
        return Err(bad_request("data before the handshake was answered"));
    }
    match head.single("origin") {
        Ok(origin) if origin::allowed(&settings.auth.allowed_origins, origin) => {}
        _ => return Err(Answer::error(403, "origin is not allowed")),
    }
    let offer = Offer::read(head, path);
    let token = bearer(head)?.or_else(|| offer.token.map(|token| (token, TokenSource::Subprotocol)));
    let token = token.map(|(text, source)| Token { text: Cow::Borrowed(text), source });
    Ok(Route::Upgrade(Upgrade {
        dialect: path.or(offer.dialect).unwrap_or(settings.client.dialect),
        subprotocol: offer.select(token.as_ref().map(|token| token.source)),
        deflate: settings.client.compression.then(|| extensions::deflate(head)).flatten(),
        token: token.or_else(|| query_token(head)),
        resume_waits: resume_waits(head),
        accept,
    }))
}

fn upgrade_required(reason: &str) -> Answer {
    Answer::error(426, reason).with("Upgrade", "websocket")
}

/// The answer to the client's key: 16 bytes in base64, sent once (RFC 6455 §4.2.1).
fn accept(head: &Head<'_>) -> Result<String, Answer> {
    match head.single("sec-websocket-key") {
        Ok(Some(key)) if STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) => {
            Ok(derive_accept_key(key.as_bytes()))
        }
        _ => Err(bad_request("Sec-WebSocket-Key is not one of 16 bytes")),
    }
}

/// The token of the first `Authorization: Bearer`; other schemes are somebody else's business.
fn bearer<'a>(head: &Head<'a>) -> Result<Option<(&'a str, TokenSource)>, Answer> {
    for value in head.all("authorization") {
        let value = text(value).ok_or_else(|| bad_request("Authorization is malformed"))?;
        let Some((scheme, token)) = value.split_once(' ') else { continue };
        let token = token.trim_ascii();
        if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
            return Ok(Some((token, TokenSource::Header)));
        }
    }
    Ok(None)
}

fn resume_waits(head: &Head<'_>) -> bool {
    // Every byte of it escaped: what is longer, such as a token, is not looked into.
    const ESCAPED_BYTES_MAX: usize = 3 * "resume=wait".len();
    let pairs = head.query.unwrap_or_default().split('&').filter(|pair| pair.len() <= ESCAPED_BYTES_MAX);
    pairs
        .flat_map(|pair| form_urlencoded::parse(pair.as_bytes()))
        .any(|(name, value)| name == "resume" && value == "wait")
}

fn query_token<'a>(head: &Head<'a>) -> Option<Token<'a>> {
    let mut pairs = form_urlencoded::parse(head.query?.as_bytes());
    let text = pairs.find_map(|(name, value)| (name == "token" && !value.is_empty()).then_some(value))?;
    Some(Token { text, source: TokenSource::Query })
}

/// What `Sec-WebSocket-Protocol` offers that means something here.
#[derive(Default)]
struct Offer<'a> {
    /// The first known dialect, its name with it; where the path decides, only that one counts.
    named: Option<&'static str>,
    dialect: Option<Dialect>,
    /// What follows `bearer`.
    token: Option<&'a str>,
}

impl<'a> Offer<'a> {
    fn read(head: &Head<'a>, path: Option<Dialect>) -> Self {
        let mut offer = Self::default();
        let mut members = head.list("sec-websocket-protocol").take(SUBPROTOCOLS_MAX).map(text);
        while let Some(member) = members.next() {
            if member == Some(BEARER) {
                let token = members.next().flatten();
                offer.token = offer.token.or(token);
                continue;
            }
            let known = DIALECTS.iter().find(|(name, _)| Some(*name) == member);
            if let Some((name, dialect)) = known
                && offer.named.is_none()
                && path.is_none_or(|path| path == *dialect)
            {
                offer.named = Some(name);
                offer.dialect = Some(*dialect);
            }
        }
        offer
    }

    /// A browser ends a connection whose answer selects nothing that it offered, so something is where it can be.
    fn select(&self, token: Option<TokenSource>) -> Option<&'static str> {
        let bearer = self.token.map(|_| BEARER);
        match token {
            Some(TokenSource::Subprotocol) => bearer,
            _ => self.named.or(bearer),
        }
    }
}

const BEARER: &str = "bearer";

const DIALECTS: [(&str, Dialect); 2] =
    [("usher.ticketing.v1", Dialect::Ticketing), ("usher.raw.v1", Dialect::Raw)];

#[cfg(test)]
mod tests;
