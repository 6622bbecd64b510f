//! Accepting callers and operators: never ended by an error, never spinning on one, counted.
//!
//! Owns one listener of the control core, whose descriptor table no client fills: each shard has its own. Where callers
//! filled it all the same, it pauses.

use std::{
    future::{Future, poll_fn},
    io, mem,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};
use tokio_stream::Stream;

use crate::{net::listener::is_exhausted, status::Status};

/// After an error of accept that would only repeat itself.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepted sockets, for ever.
pub(super) struct Incoming {
    listener: TcpListener,
    /// Where errors are counted.
    status: Arc<Status>,
    /// Set while accepting would only fail again.
    pause: Option<Pin<Box<Sleep>>>,
    /// Accepting failed for want of descriptors, and nobody was accepted since; it was logged.
    exhausted: bool,
}

impl Incoming {
    /// Takes the listener. Needs a tokio runtime.
    pub(super) fn new(listener: std::net::TcpListener, status: Arc<Status>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: TcpListener::from_std(listener)?, status, pause: None, exhausted: false })
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(TcpStream, SocketAddr)> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let accepted = ready!(self.listener.poll_accept(cx));
            match accepted.and_then(|(socket, peer)| socket.set_nodelay(true).map(|()| (socket, peer))) {
                Ok(accepted) => {
                    self.exhausted = false;
                    return Poll::Ready(accepted);
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.status.control.accept_errors.add(1);
        if !is_exhausted(error) {
            // That caller was gone before it was served; the next one may be fine.
            return;
        }
        if !mem::replace(&mut self.exhausted, true) {
            tracing::warn!(%error, "cannot accept callers, trying again every 100 ms");
        }
        self.pause = Some(Box::pin(sleep(PAUSE)));
    }
}

impl Stream for Incoming {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_accept(cx).map(|(socket, _)| Some(Ok(socket)))
    }
}

impl axum::serve::Listener for Incoming {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
