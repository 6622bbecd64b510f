//! A WebSocket client for the simulated buyers: tungstenite over a socket of tokio's.
//!
//! Never reconnects: that is the buyer's. A socket that ended gives `None` for ever.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
};

use tokio::net::TcpStream;
use tungstenite::{
    Error, HandshakeError, Message, WebSocket,
    client::{IntoClientRequest, client_with_config},
    protocol::WebSocketConfig,
};

/// Hundreds of buyers read a message at a time.
const BUFFER_BYTES: usize = 4 << 10;

pub(super) struct Socket {
    inner: WebSocket<Stream>,
}

/// What tungstenite reads and writes: it is told `WouldBlock`, and its caller waits.
struct Stream(TcpStream);

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    /// Connects with a token; `resume`: holding back what comes until a resume is asked for.
    pub(super) async fn connect(address: SocketAddr, token: &str, resume: bool) -> Result<Self, Error> {
        let query = if resume { "?resume=wait" } else { "" };
        let mut request = format!("ws://{address}/ws{query}").into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.writable().await?;
        let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(0);
        let mut attempt = client_with_config(request, Stream(stream), Some(config));
        loop {
            match attempt {
                Ok((inner, _)) => return Ok(Self { inner }),
                Err(HandshakeError::Failure(error)) => return Err(error),
                Err(HandshakeError::Interrupted(under_way)) => {
                    under_way.get_ref().get_ref().0.readable().await?;
                    attempt = under_way.handshake();
                }
            }
        }
    }

    /// The next text message; `None`: the connection has ended. Nothing is lost where this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Option<String> {
        loop {
            match self.inner.read() {
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(_) => {}
                Err(error) if would_block(&error) => self.inner.get_ref().0.readable().await.ok()?,
                Err(_) => return None,
            }
        }
    }

    /// Sends a text message; one that cannot be sent ends the connection, which [`Socket::next`] tells.
    pub(super) async fn send(&mut self, text: String) {
        let mut sent = self.inner.send(Message::text(text));
        while sent.as_ref().is_err_and(would_block) {
            if self.inner.get_ref().0.writable().await.is_err() {
                return;
            }
            sent = self.inner.flush();
        }
    }
}

fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}
