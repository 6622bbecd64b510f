//! Which sockets of a shard can be read or written: one epoll set, waited for through the shard's executor.
//!
//! An idle connection is an entry in this set, not a task: it costs the kernel's record and nothing of ours.
//! Entries are edge-triggered and made once per socket, so that nothing is re-armed on the way of a message;
//! whoever reads must read until a short read, and whoever was blocked in writing is told once.

use std::{
    future::poll_fn,
    io,
    os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
};

use futures_lite::AsyncRead;
use glommio::net::TcpStream;
use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    time::Timespec,
};

/// Events taken from the kernel in one call.
const EVENTS_MAX: usize = 512;

/// A set of sockets, each with a token of the owner's.
pub struct Readiness {
    epoll: OwnedFd,
    events: Vec<Event>,
    /// The executor's pending wait for `epoll`; `None` while nobody waits.
    wait: Option<Pin<Box<TcpStream>>>,
}

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token it was added with.
    pub token: u64,
    /// There is something to read, or the peer is gone, which reading finds out.
    pub readable: bool,
    /// There may be room to write again.
    pub writable: bool,
}

impl Readiness {
    /// An empty set. Call it on the executor's thread.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX), wait: None })
    }

    /// Adds a connection: told once for each new edge, reading and writing.
    pub fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), flags)?)
    }

    /// Adds a listener: told for as long as somebody waits.
    pub fn add_listener(&self, listener: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, listener, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Removes a listener; connections leave by being closed.
    pub fn remove(&self, listener: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, listener)?)
    }

    /// Appends what is ready now, without waiting, up to a bound; whether there may be more.
    pub fn poll(&mut self, into: &mut Vec<Ready>) -> io::Result<bool> {
        self.events.clear();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&now)) {
            Err(rustix::io::Errno::INTR) => return Ok(true),
            other => other?,
        };
        let end = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        into.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            Ready {
                token: event.data.u64(),
                readable: flags.intersects(EventFlags::IN | end),
                writable: flags.intersects(EventFlags::OUT | end),
            }
        }));
        Ok(self.events.len() == EVENTS_MAX)
    }

    /// Ready when [`Readiness::poll`] may find something; the task is woken by the executor's ring.
    ///
    /// The executor offers readiness of streams alone. An epoll descriptor dressed as one is polled like any
    /// other, and the read that follows fails at once since it is no socket: that failure is the sign.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.arm() {
            return Poll::Pending;
        }
        let Some(stream) = &mut self.wait else { return Poll::Pending };
        match stream.as_mut().poll_read(cx, &mut [0]) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => {
                self.wait = None;
                Poll::Ready(())
            }
        }
    }

    /// Waits until [`Readiness::poll`] may find something.
    pub async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Gets ready to wait. `false`: there is no descriptor left for it, so whoever waits must look by the clock.
    pub fn arm(&mut self) -> bool {
        if self.wait.is_none()
            && let Ok(epoll) = self.epoll.try_clone()
        {
            // SAFETY: the descriptor was duplicated above and belongs to nobody else; the stream closes it.
            self.wait = Some(Box::pin(unsafe { TcpStream::from_raw_fd(epoll.into_raw_fd()) }));
        }
        self.wait.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
        time::Duration,
    };

    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;

    fn on_an_executor(test: impl AsyncFnOnce() + Send + 'static) {
        let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10);
        builder.spawn(move || async move { test().await }).unwrap().join().unwrap();
    }

    #[test]
    fn a_waiting_task_is_woken_by_each_new_edge() {
        on_an_executor(async || {
            let (mut client, mut server) = UnixStream::pair().unwrap();
            server.set_nonblocking(true).unwrap();
            let mut set = Readiness::new().unwrap();
            set.add(&server, 7).unwrap();
            let mut found = Vec::new();
            set.poll(&mut found).unwrap();
            assert_eq!(found, [Ready { token: 7, readable: false, writable: true }]);
            for _ in 0..3 {
                let writer = std::thread::spawn(move || {
                    client.write_all(b"x").unwrap();
                    client
                });
                set.ready().await;
                found.clear();
                set.poll(&mut found).unwrap();
                assert!(found[0].readable);
                assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
                client = writer.join().unwrap();
            }
        });
    }

    #[test]
    fn waiting_ends_with_what_else_is_waited_for() {
        on_an_executor(async || {
            let mut set = Readiness::new().unwrap();
            let (_client, server) = UnixStream::pair().unwrap();
            set.add(&server, 1).unwrap();
            set.poll(&mut Vec::new()).unwrap();
            let timer = glommio::timer::Timer::new(Duration::from_millis(1));
            futures_lite::future::or(set.ready(), async {
                timer.await;
            })
            .await;
        });
    }
}
