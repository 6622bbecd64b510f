//! A TCP proxy that holds back, delays or cuts what passes through it: the network between a gateway and its Redis.

use std::{net::SocketAddr, thread::JoinHandle, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{oneshot, watch},
    task::JoinSet,
    time::timeout,
};

/// What becomes of bytes, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// They pass.
    Open,
    /// They wait, as behind a router that drops every packet: nobody is told, and TCP sends them again later.
    Held,
    /// Each piece comes so much later.
    Slow(Duration),
    /// Connections end, and new ones end at once.
    Cut,
}

/// One proxy, with a thread of its own. Dropping it ends it.
pub struct Proxy {
    pub address: SocketAddr,
    link: watch::Sender<Link>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Before a server at a port of 127.0.0.1.
    pub fn before(port: u16) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener.local_addr().expect("a bound socket");
        let (link, seen) = watch::channel(Link::Open);
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = serve(listener, port, seen) => {}
                    _ = ended => {}
                }
            });
        });
        Self { address, link, end: Some(end), thread: Some(thread) }
    }

    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // A panic of it has failed the test by what did not pass.
        }
    }
}

async fn serve(listener: TcpListener, port: u16, link: watch::Receiver<Link>) {
    let mut pairs = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        pairs.spawn(pass(near, port, link.clone()));
    }
}

/// One connection, until an end closes it or the link is cut.
async fn pass(near: TcpStream, port: u16, mut link: watch::Receiver<Link>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let (up, down) = (link.clone(), link.clone());
    tokio::select! {
        () = pump(near_in, far_out, up) => {}
        () = pump(far_in, near_out, down) => {}
        _ = link.wait_for(|link| *link == Link::Cut) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: watch::Receiver<Link>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let Ok(now) = link.wait_for(|link| *link != Link::Held).await.map(|link| *link) else { return };
        if now == Link::Cut {
            return; // What was held back is lost with the connection.
        }
        if let Link::Slow(time) = now {
            let _ = timeout(time, link.changed()).await; // Late, but not later than the link changes.
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
