//! A socket whose greeting goes out in one send, rather than in one for each of rustls, hyper and axum.
//!
//! Each of them flushes its own: the TLS ticket, the 101, the welcome. A send takes several microseconds, so without
//! this the gateway, which gathers them too, would win by it alone.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Tells a socket that its greeting is complete with what is written next: from then on a flush is one.
#[derive(Clone, Default)]
pub(crate) struct Greeting(Arc<AtomicBool>);

impl Greeting {
    /// The next write is the last of the greeting.
    pub(crate) fn completes(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_under_way(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// A socket that gathers until its greeting is complete.
pub(crate) struct Gathered {
    socket: TcpStream,
    greeting: Greeting,
    /// Whether the client must have what was written before it sends more: while a TLS handshake is under way.
    turns: bool,
    unsent: Vec<u8>,
}

impl Gathered {
    /// `turns`: sends what is gathered whenever there is nothing to read, until [`Gathered::end_turns`].
    pub(crate) fn new(socket: TcpStream, turns: bool) -> Self {
        Self { socket, greeting: Greeting::default(), turns, unsent: Vec::new() }
    }

    /// The handshake is over.
    pub(crate) fn end_turns(&mut self) {
        self.turns = false;
    }

    pub(crate) fn greeting(&self) -> Greeting {
        self.greeting.clone()
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.unsent))?;
            if sent == self.unsent.len() {
                self.unsent = Vec::new();
            } else {
                self.unsent.drain(..sent);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_read(cx, buffer) {
            Poll::Pending if self.turns => match self.poll_send(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            },
            done => done,
        }
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.unsent.is_empty() && !self.greeting.is_under_way() {
            return Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        }
        parts.iter().for_each(|part| self.unsent.extend_from_slice(part));
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.greeting.is_under_way() { Poll::Ready(Ok(())) } else { self.poll_send(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use std::{future::poll_fn, io::Read as _};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A gathering socket, and its client, which never waits.
    async fn pair(turns: bool) -> (Gathered, std::net::TcpStream) {
        let listener = crate::listener().unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        (Gathered::new(listener.accept().await.unwrap().0, turns), client)
    }

    /// What a client has; on loopback what was sent is there at once.
    fn seen(mut client: &std::net::TcpStream) -> Vec<u8> {
        let mut bytes = [0; 64];
        let count = client.read(&mut bytes).unwrap_or(0);
        bytes[..count].to_vec()
    }

    fn play(scene: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(scene);
    }

    #[test]
    fn nothing_is_sent_until_the_greeting_is_complete_and_everything_then() {
        play(async {
            let (mut socket, client) = pair(false).await;
            socket.write_all(b"switching ").await.unwrap();
            socket.flush().await.unwrap();
            assert_eq!(seen(&client), b"");
            socket.greeting().completes();
            socket.write_all(b"welcome").await.unwrap();
            socket.flush().await.unwrap();
            assert_eq!(seen(&client), b"switching welcome");
            socket.write_all(b"more").await.unwrap();
            assert_eq!(seen(&client), b"more");
        });
    }

    #[test]
    fn in_a_tls_handshake_the_client_gets_its_turn() {
        play(async {
            let (mut socket, client) = pair(true).await;
            let mut bytes = [0; 8];
            for end in [&b"flight"[..], b""] {
                socket.write_all(b"flight").await.unwrap();
                let mut reading = std::pin::pin!(socket.read(&mut bytes));
                let waits = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx).is_pending())).await;
                assert!(waits);
                assert_eq!(seen(&client), end);
                socket.end_turns();
            }
        });
    }
}
