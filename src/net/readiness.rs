//! Which sockets of a shard can be read or written: one epoll set, in which an idle shard sleeps.
//!
//! An idle connection is an entry in this set, not a task: it costs the kernel's record and nothing of ours.
//! Entries are edge-triggered and made once per socket, so that nothing is re-armed on the way of a message;
//! whoever reads must read until a short read, or to the end where the peer has ended, and whoever was blocked in
//! writing is told once. Other threads end a sleep by ringing the set's [`Bell`].

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    task::Wake,
    time::Duration,
};

use rustix::{
    event::{
        EventfdFlags,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
        eventfd,
    },
    time::Timespec,
};

/// Events taken from the kernel in one call.
const EVENTS_MAX: usize = 512;
/// Of the bell. Listeners have the numbers below it, connections their ids, which are smaller still.
const BELL_TOKEN: u64 = u64::MAX;

/// A set of sockets, each with a token of the owner's, and the bell that ends its sleep.
pub struct Readiness {
    epoll: OwnedFd,
    events: Vec<Event>,
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
    /// The peer has sent its last: behind what can be read is the end, and no edge tells of that again.
    pub ended: bool,
}

/// Wakes a thread that sleeps in its [`Readiness`]; as a waker it is what a mailbox rings.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A bell that no set listens to yet. Made before descriptor tables are copied, it can be rung from all of them.
    pub fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only where the counter is full, and then the bell has rung.
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).ok();
    }
}

impl Readiness {
    /// A set with nothing in it but the bell.
    pub fn new(bell: &Bell) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        // Edge-triggered: each ring is an edge, so nobody has to read the counter.
        epoll::add(&epoll, &bell.0, EventData::new_u64(BELL_TOKEN), EventFlags::IN | EventFlags::ET)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX) })
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

    /// Appends what is ready, up to a bound; whether there may be more. Sleeps until something is or the bell rings,
    /// for the given time at most.
    pub fn wait(&mut self, sleep_max: Duration, into: &mut Vec<Ready>) -> io::Result<bool> {
        self.events.clear();
        let timeout = Timespec { tv_sec: sleep_max.as_secs() as _, tv_nsec: sleep_max.subsec_nanos().into() };
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => return Ok(true),
            other => other?,
        };
        let end = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        let sockets = self.events.iter().filter(|event| event.data.u64() != BELL_TOKEN);
        into.extend(sockets.map(|event| {
            let flags = event.flags;
            Ready {
                token: event.data.u64(),
                readable: flags.intersects(EventFlags::IN | end),
                writable: flags.intersects(EventFlags::OUT | end),
                ended: flags.intersects(end),
            }
        }));
        Ok(self.events.len() == EVENTS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
        task::Waker,
        thread,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn set() -> (Arc<Bell>, Readiness) {
        let bell = Bell::new().unwrap();
        let set = Readiness::new(&bell).unwrap();
        (bell, set)
    }

    #[test]
    fn a_sleeping_set_is_woken_by_each_new_edge() {
        let (_bell, mut set) = set();
        let (mut client, mut server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        set.add(&server, 7).unwrap();
        let mut found = Vec::new();
        set.wait(LONG, &mut found).unwrap();
        assert_eq!(found, [Ready { token: 7, readable: false, writable: true, ended: false }]);
        for _ in 0..3 {
            let writer = thread::spawn(move || {
                client.write_all(b"x").unwrap();
                client
            });
            found.clear();
            set.wait(LONG, &mut found).unwrap();
            assert!(found[0].readable);
            assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
            client = writer.join().unwrap();
        }
    }

    #[test]
    fn an_end_that_came_with_bytes_is_told_with_them() {
        let (_bell, mut set) = set();
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"x").unwrap();
        drop(client);
        set.add(&server, 7).unwrap();
        let mut found = Vec::new();
        set.wait(LONG, &mut found).unwrap();
        assert_eq!(found, [Ready { token: 7, readable: true, writable: true, ended: true }]);
        found.clear();
        set.wait(Duration::ZERO, &mut found).unwrap();
        assert_eq!(found, [], "and not again");
    }

    #[test]
    fn every_ring_ends_one_sleep_and_names_no_socket() {
        let (bell, mut set) = set();
        let mut found = Vec::new();
        for _ in 0..3 {
            let waker = Waker::from(bell.clone());
            let ringer = thread::spawn(move || waker.wake_by_ref());
            set.wait(LONG, &mut found).unwrap();
            ringer.join().unwrap();
        }
        assert!(found.is_empty());
    }

    #[test]
    fn a_bell_that_rang_before_the_sleep_ends_it() {
        let (bell, mut set) = set();
        bell.wake_by_ref();
        set.wait(LONG, &mut Vec::new()).unwrap();
    }
}
