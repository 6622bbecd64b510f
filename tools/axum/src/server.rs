//! A connection from accept to close: TLS, request, token, 101, welcome.

use std::{io, sync::Arc};

use axum::{
    Extension, Router,
    extract::{
        RawQuery, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use usher::{auth::Verifier, clock::Now, identity::Identity};

use crate::gathered::{Gathered, Greeting};

/// hyper's smallest buffer; a request has a few hundred bytes.
const HTTP_BUFFER_BYTES: usize = 8 << 10;
/// 128 KiB if nothing is said, allocated for each connection and zeroed before each read.
const READ_BUFFER_BYTES: usize = 1 << 10;
/// As the gateway's default, milliseconds: the welcome says it.
const PING_INTERVAL_MS: u32 = 30_000;

/// The one route.
pub(crate) fn app(verifier: Arc<Verifier>) -> Router {
    Router::new().route("/ws", get(upgrade)).with_state(verifier)
}

/// Accepts for as long as that works; each connection is a task.
pub(crate) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, app: Router) -> io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        let (tls, app) = (tls.clone(), app.clone());
        tokio::spawn(async move {
            let socket = Gathered::new(socket, tls.is_some());
            let greeting = socket.greeting();
            match tls {
                None => speak(socket, greeting, app).await,
                Some(tls) => {
                    // Who fails has no connection, which the load generator counts.
                    let Ok(mut socket) = tls.accept(socket).await else { return };
                    socket.get_mut().0.end_turns();
                    speak(socket, greeting, app).await;
                }
            }
        });
    }
}

/// One request; the WebSocket that comes of it is a task of axum's.
async fn speak(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    greeting: Greeting,
    app: Router,
) {
    let app = TowerToHyperService::new(app);
    let answer = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(greeting.clone());
        let (answer, greeting) = (app.call(request), &greeting);
        async move {
            let answer = answer.await;
            if !answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::SWITCHING_PROTOCOLS) {
                greeting.completes();
            }
            answer
        }
    });
    let served = http1::Builder::new()
        .max_buf_size(HTTP_BUFFER_BYTES)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(socket), answer)
        .with_upgrades()
        .await;
    // The client sees how it ended.
    drop(served);
}

async fn upgrade(
    State(verifier): State<Arc<Verifier>>,
    Extension(greeting): Extension<Greeting>,
    RawQuery(query): RawQuery,
    upgrade: WebSocketUpgrade,
) -> Response {
    let now = Now::read();
    let query = query.unwrap_or_default();
    let token = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token");
    let identity = token.and_then(|(_, token)| verifier.verify(&token, now).ok());
    let Some(identity) = identity else { return StatusCode::UNAUTHORIZED.into_response() };
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .on_upgrade(move |socket| greet(socket, greeting, identity, now))
}

/// Sends the welcome, then reads until the client goes.
async fn greet(mut socket: WebSocket, greeting: Greeting, identity: Identity, now: Now) {
    let Ok(welcome) = serde_json::to_string(&Welcome::of(&identity, now)) else { return };
    greeting.completes();
    if socket.send(Message::Text(welcome.into())).await.is_err() {
        return;
    }
    // The end comes after the answer to a close frame.
    while let Some(Ok(_)) = socket.recv().await {}
}

/// `system:connected`, of as many bytes as the gateway's.
#[derive(Serialize)]
struct Welcome<'a> {
    r#type: &'static str,
    payload: Payload<'a>,
}

#[derive(Serialize)]
struct Payload<'a> {
    connection_id: &'static str,
    user_id: &'a str,
    authenticated: bool,
    server_time: u64,
    ping_interval_ms: u32,
    streams: [Head; 1],
}

#[derive(Serialize)]
struct Head {
    stream: String,
    epoch: &'static str,
    offset: u32,
}

impl<'a> Welcome<'a> {
    fn of(identity: &'a Identity, now: Now) -> Self {
        let stream = format!("user:{}", identity.user);
        let payload = Payload {
            connection_id: "0001000002000003",
            user_id: &identity.user,
            authenticated: true,
            server_time: now.wall_ms,
            ping_interval_ms: PING_INTERVAL_MS,
            streams: [Head { stream, epoch: "0123456789abcdef.0", offset: 0 }],
        };
        Self { r#type: "system:connected", payload }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests;
