//! Accepting callers and operators: never ended by an error, never spinning on one, counted.
//!
//! Owns one listener of the control core, whose descriptor table no client fills: each shard has its own. Where callers
//! filled it all the same, it pauses. Told to stop, it closes the listener and still hands out who waited at it.

use std::{
    collections::VecDeque,
    future::{Future, pending, poll_fn},
    io, mem,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    time::{Sleep, sleep},
};
use tokio_stream::Stream;

use crate::{net::listener::is_exhausted, status::Status};

/// After an error of accept that would only repeat itself.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepted sockets, until it is told to stop.
pub(super) struct Incoming {
    /// `None`: closed.
    listener: Option<TcpListener>,
    /// Who waited at the listener when it was closed; as many as the kernel lets wait.
    waited: VecDeque<(TcpStream, SocketAddr)>,
    /// Where errors are counted.
    status: Arc<Status>,
    /// Set while accepting would only fail again.
    pause: Option<Pin<Box<Sleep>>>,
    /// Accepting failed for want of descriptors, and nobody was accepted since; it was logged.
    exhausted: bool,
    /// Ready when the listener is to be closed.
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Told when the last was handed out.
    ended: Option<oneshot::Sender<()>>,
}

impl Incoming {
    /// Takes the listener, until `stopped` turns true. Needs a tokio runtime.
    pub(super) fn new(
        listener: std::net::TcpListener,
        status: Arc<Status>,
        mut stopped: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: Some(TcpListener::from_std(listener)?),
            waited: VecDeque::new(),
            status,
            pause: None,
            exhausted: false,
            stop: Box::pin(async move {
                // An error means that the control core is gone: stop as well.
                let _gone = stopped.wait_for(|stopped| *stopped).await;
            }),
            ended: None,
        })
    }

    /// Told when nobody comes any more.
    pub(super) fn ended(&mut self) -> oneshot::Receiver<()> {
        let (tell, ended) = oneshot::channel();
        self.ended = Some(tell);
        ended
    }

    /// `None`: nobody comes any more.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<(TcpStream, SocketAddr)>> {
        loop {
            if self.listener.is_some() && self.stop.as_mut().poll(cx).is_ready() {
                self.close();
            }
            let Some(listener) = &self.listener else {
                let last = self.waited.pop_front();
                if last.is_none()
                    && let Some(tell) = self.ended.take()
                {
                    // Where nobody waits for it, the server has ended.
                    tell.send(()).ok();
                }
                return Poll::Ready(last);
            };
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let accepted = ready!(listener.poll_accept(cx));
            match accepted.and_then(|(socket, peer)| socket.set_nodelay(true).map(|()| (socket, peer))) {
                Ok(accepted) => {
                    self.exhausted = false;
                    return Poll::Ready(Some(accepted));
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    /// Empties the accept queue, then closes the listener: what is in it then would be reset.
    fn close(&mut self) {
        let Some(Ok(listener)) = self.listener.take().map(TcpListener::into_std) else { return };
        loop {
            let taken = listener.accept().and_then(|(socket, peer)| {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                Ok((TcpStream::from_std(socket)?, peer))
            });
            match taken {
                Ok(taken) => self.waited.push_back(taken),
                // That caller was gone before it was served.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                    self.status.control.accept_errors.add(1);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.failed(&error),
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
        self.poll_accept(cx).map(|accepted| accepted.map(|(socket, _)| Ok(socket)))
    }
}

impl axum::serve::Listener for Incoming {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match poll_fn(|cx| self.poll_accept(cx)).await {
            Some(accepted) => accepted,
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener
            .as_ref()
            .map_or_else(|| Err(io::ErrorKind::NotConnected.into()), TcpListener::local_addr)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, net::TcpStream};

    use tokio_stream::StreamExt;

    use super::*;
    use crate::{clock::Now, status::Status};

    #[tokio::test]
    async fn who_waits_when_the_listener_closes_is_handed_out_before_the_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let status = Arc::new(Status::new(1, Now::read()));
        let mut incoming = Incoming::new(listener, status, stopped).unwrap();
        let mut ended = incoming.ended();
        let mut callers = vec![TcpStream::connect(address).unwrap()];
        incoming.next().await.expect("somebody came").unwrap();
        callers.extend((0..5).map(|_| TcpStream::connect(address).unwrap()));
        stop.send_replace(true);
        for _ in 0..5 {
            incoming.next().await.expect("somebody waited").unwrap();
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            assert!(ended.try_recv().is_err());
        }
        assert!(incoming.next().await.is_none());
        ended.await.unwrap();
    }
}
