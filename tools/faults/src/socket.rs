//! A WebSocket to an instance, and what an instance says.

use std::{net::SocketAddr, time::Duration};

use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{client::IntoClientRequest, protocol::WebSocketConfig},
};

/// How long an upgrade may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// What one read may bring; thousands of clients share the memory.
const READ_BYTES: usize = 8 << 10;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What is around everything that it says. Not the gateway's own type: whoever judges it reads with other eyes.
#[derive(Deserialize)]
pub(crate) struct Envelope {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) payload: serde_json::Value,
    /// Where it stands in its stream, as `offset`; `None`: it is in none.
    pub(crate) epoch: Option<String>,
    pub(crate) offset: Option<u64>,
}

/// Connects, as a user where there is a token. `query` is empty or begins with `?`.
pub(crate) async fn connect(address: SocketAddr, query: &str, token: Option<&str>) -> Option<Socket> {
    let mut request = format!("ws://{address}/ws{query}").into_client_request().ok()?;
    if let Some(token) = token {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().ok()?);
    }
    let config = WebSocketConfig::default().read_buffer_size(READ_BYTES);
    let connecting = connect_async_with_config(request, Some(config), true);
    let (socket, _) = timeout(CONNECT_TIME_MAX, connecting).await.ok()?.ok()?;
    Some(socket)
}
