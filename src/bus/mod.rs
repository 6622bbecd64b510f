//! Redis: what other services publish, and what instances of the gateway share.
//!
//! Owns the channels (`channels`), the connections (`connection`) and the task that keeps them (`redis`). Never decides
//! who gets what, and never makes anybody wait: a handle puts into bounded queues, and what does not fit is counted.
//! Pub/Sub is at most once: what must arrive is in a stream, and a gap is read from there.
//!
//! ```text
//!   control loop ── Bus: interests, shares ──► task ── PUBLISH, SUBSCRIBE ──► Redis
//!   control loop ◄── Ear: Heard ──────────────── pushes ◄─────────────────── Redis
//! ```

mod backoff;
pub mod channels;
pub mod connection;
mod pushes;
mod queue;
mod redis;

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

pub use self::{channels::Foreign, connection::Commands, redis::Task};
use crate::{
    config::settings::Redis,
    limits::{HEARD_BYTES_MAX, HEARD_MAX, INTEREST_BATCHES_MAX, SHARED_BYTES_MAX, SHARES_MAX},
    status::Status,
    stream::names::Subject,
};

/// What the control loop hears.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// Redis can be reached: other services are heard from now on, and commands can be sent. The subscriptions to
    /// addresses follow.
    Up,
    /// Redis cannot be reached; nothing is heard, and whatever was under way may be lost.
    Down,
    /// Redis confirmed it: what is shared about the address from now on is heard. Comes again after every
    /// [`Heard::Up`], and may come twice.
    Subscribed(Subject),
    /// A message on a channel of our own; our own messages come back too.
    Shared(Bytes),
    /// A message of another service.
    Foreign(Foreign),
}

impl queue::Weighed for Heard {
    fn bytes(&self) -> usize {
        match self {
            Self::Up | Self::Down | Self::Subscribed(_) | Self::Foreign(Foreign::Revoke(_)) => 0,
            Self::Shared(bytes) => bytes.len(),
            Self::Foreign(Foreign::Event(event) | Foreign::Presence(event)) => event.payload.len(),
        }
    }
}

/// Something to publish on a channel of our own.
#[derive(Debug)]
struct Share {
    channel: String,
    payload: Bytes,
}

impl queue::Weighed for Share {
    fn bytes(&self) -> usize {
        self.payload.len()
    }
}

/// Nothing was shared: Redis cannot be reached, or is slower than what is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not shared with other instances")]
pub struct Full;

/// The control loop's hands on the bus.
#[derive(Debug)]
pub struct Bus {
    prefix: String,
    status: Arc<Status>,
    /// What changed since the task was told last. One entry for an address at most.
    changes: HashMap<Subject, bool>,
    interests: mpsc::Sender<HashMap<Subject, bool>>,
    shares: queue::Sender<Share>,
    commands: watch::Receiver<Option<Commands>>,
}

/// While somebody has it, [`Task::run`] goes on.
#[derive(Debug)]
pub struct KeptUp {
    _shares: queue::Sender<Share>,
}

/// The control loop's ear.
#[derive(Debug)]
pub struct Ear(queue::Receiver<Heard>);

/// A bus, and the task behind it, which has to be run on the runtime of the control loop.
pub fn new(settings: &Redis, status: Arc<Status>, seed: u64) -> (Bus, Ear, Task) {
    let (heard, ear) = queue::bounded(HEARD_MAX, HEARD_BYTES_MAX);
    let (shares, to_share) = queue::bounded(SHARES_MAX, SHARED_BYTES_MAX);
    let (interests, wanted) = mpsc::channel(INTEREST_BATCHES_MAX);
    let (give, commands) = watch::channel(None);
    let ends = redis::Ends { heard, shares: to_share, interests: wanted, commands: give };
    let task = Task::new(settings.clone(), status.clone(), ends, seed);
    let prefix = settings.prefix.clone();
    (Bus { prefix, status, changes: HashMap::new(), interests, shares, commands }, Ear(ear), task)
}

impl Bus {
    /// Whether what is shared about the address is to be heard here. State, not a message: it is never lost, only the
    /// last word counts, and [`Bus::flush`] passes it on.
    pub fn set_interest(&mut self, address: Subject, on: bool) {
        self.changes.insert(address, on);
    }

    /// Passes interests on, as far as there is room; the rest waits for the next call.
    pub fn flush(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        if let Ok(permit) = self.interests.try_reserve() {
            permit.send(std::mem::take(&mut self.changes));
        }
    }

    /// Publishes on the channel of the address, or of everybody.
    ///
    /// # Errors
    /// There is no room, or no Redis; counted.
    pub fn share(&self, address: Option<&Subject>, payload: Bytes) -> Result<(), Full> {
        let share = Share { channel: channels::live(&self.prefix, address), payload };
        let cells = &self.status.control.redis;
        if cells.up.get() == 0 || self.shares.try_send(share).is_err() {
            cells.refused.add(1);
            return Err(Full);
        }
        Ok(())
    }

    /// Keeps the session with Redis up after the handle is gone, until it is dropped.
    pub fn session(&self) -> KeptUp {
        KeptUp { _shares: self.shares.clone() }
    }

    /// The connection for commands, for whoever keeps streams there; `None` while Redis cannot be reached.
    pub fn commands(&self) -> watch::Receiver<Option<Commands>> {
        self.commands.clone()
    }
}

impl Ear {
    /// What was heard next. `Ready(None)`: the task has ended.
    pub fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        self.0.poll_recv(cx)
    }

    /// What was heard already, without waiting.
    pub fn try_hear(&mut self) -> Option<Heard> {
        self.0.try_recv()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;

    fn alice() -> Subject {
        Subject::Address(crate::event::Address::User("alice".into()))
    }

    /// A bus whose task does not run.
    fn still() -> (Bus, mpsc::Receiver<HashMap<Subject, bool>>, queue::Receiver<Share>) {
        let status = Arc::new(Status::new(1, Now { mono_ns: 0, wall_ms: 0 }));
        let (shares, to_share) = queue::bounded(2, SHARED_BYTES_MAX);
        let (interests, wanted) = mpsc::channel(1);
        let (_, commands) = watch::channel(None);
        let bus =
            Bus { prefix: "usher:".into(), status, changes: HashMap::new(), interests, shares, commands };
        (bus, wanted, to_share)
    }

    #[test]
    fn interests_wait_as_state_while_their_queue_is_full() {
        let (mut bus, mut wanted, _) = still();
        bus.flush();
        assert!(wanted.try_recv().is_err());
        bus.set_interest(alice(), true);
        bus.flush();
        for on in [false, true, false] {
            bus.set_interest(alice(), on);
            bus.flush();
        }
        assert_eq!(wanted.try_recv(), Ok(HashMap::from([(alice(), true)])));
        assert!(wanted.try_recv().is_err());
        bus.flush();
        assert_eq!(wanted.try_recv(), Ok(HashMap::from([(alice(), false)])));
    }

    #[test]
    fn nothing_is_shared_without_redis_or_without_room_and_that_is_counted() {
        let (bus, _, mut to_share) = still();
        assert_eq!(bus.share(None, "1".into()), Err(Full));
        bus.status.control.redis.up.set(1);
        assert_eq!(bus.share(Some(&alice()), "2".into()), Ok(()));
        assert_eq!(bus.share(None, "3".into()), Ok(()));
        assert_eq!(bus.share(None, "4".into()), Err(Full));
        assert_eq!(bus.status.control.redis.refused.get(), 2);
        assert_eq!(to_share.try_recv().map(|share| share.channel), Some("usher:{user:alice}:live".into()));
    }
}
