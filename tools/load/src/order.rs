//! What the parent tells its workers, and what they tell it: one JSON line each.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::latency::Counts;

/// A worker's share of the run; the first line that it reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Where the server listens.
    pub(crate) server: SocketAddr,
    /// Name in `Host` and in the TLS handshake.
    pub(crate) host: String,
    /// Request target without token, `/ws`.
    pub(crate) target: String,
    /// wss rather than ws.
    pub(crate) tls: bool,
    /// The gateway's `JWT_SECRET`; `None`: anonymous.
    pub(crate) secret: Option<String>,
    /// Connections of this worker are `first .. first + count` of all.
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// Distinct users; connection i belongs to user i modulo this.
    pub(crate) users: u32,
    /// Joined by each connection; `None`: none.
    pub(crate) room: Option<String>,
    /// The server is the floor: no greeting, no token, no rooms; connections give their number in the target.
    pub(crate) floor: bool,
    /// Loopback addresses 127.0.0.2, .3 … to connect from; 0: the kernel's choice.
    pub(crate) source_addresses: u8,
    /// Offer TLS tickets of earlier connections.
    pub(crate) resume: bool,
    /// Connects per second; 0: as many as the server takes.
    pub(crate) connects_per_second: u32,
    /// Connects under way at once.
    pub(crate) handshakes_max: u32,
    /// Bytes of a ping's payload.
    pub(crate) payload_bytes: usize,
    /// Every so many-th connection will stop reading (`Order::Stall`); 0: none.
    pub(crate) stall_every: u32,
    /// Names the queue whose positions are pushed: who comes in is shown the last ones of earlier runs.
    pub(crate) queue: u64,
    /// Connections are opened by storms, not at the start.
    pub(crate) storms: bool,
}

impl Plan {
    /// Whether connection `slot` of this worker will stop reading.
    pub(crate) fn stalls(&self, slot: u32) -> bool {
        self.stall_every > 0 && slot.is_multiple_of(self.stall_every)
    }

    /// Messages for the connection with this number among all, of so many published.
    pub(crate) fn messages_due(&self, number: u32, published: Messages) -> Messages {
        let Messages { room, users } = published;
        Messages { room, users: users / self.users + u32::from(number % self.users < users % self.users) }
    }

    /// Messages for all connections of this worker that read, of so many published.
    pub(crate) fn deliveries_due(&self, published: Messages) -> u64 {
        let readers = (0..self.count).filter(|slot| !self.stalls(*slot));
        readers.map(|slot| self.messages_due(self.first + slot, published).sum()).sum()
    }
}

/// Numbers of messages: published, or received by one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Messages {
    /// To every connection.
    pub(crate) room: u32,
    /// To one user each: message m to user m modulo the number of users.
    pub(crate) users: u32,
}

impl Messages {
    /// Of both kinds.
    pub(crate) fn sum(self) -> u64 {
        u64::from(self.room) + u64::from(self.users)
    }
}

/// Who gets a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Every connection.
    Room,
    /// Message m goes to user m modulo the number of users.
    Users,
}

/// Parent → worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Say [`Report::Reached`] when every connection that reads has its part of so many messages published.
    Expect(Messages),
    /// Send `system:ping`s.
    Ping(Pings),
    /// Send no more; [`Report::Quiet`] when every pong arrived.
    StopPings,
    /// Hand over the histograms ([`Report::Phase`]) and begin new ones.
    Phase,
    /// The chosen connections stop reading.
    Stall,
    /// They read again, to the end if there is one; their fate is in [`Report::Done`].
    Unstall,
    /// Connect and vanish so often; [`Report::Round`] each.
    Storm(u32),
    /// Join a queue, so many of a worker's connections at once; [`Report::Joined`] when all have their places.
    Join { event_id: String, under_way_max: u32 },
    /// The queue will advance at these times; [`Report::Reached`] when everybody knows the last.
    Calls(Vec<Call>),
    /// Hand over what was told of the queue ([`Report::Told`]) and begin anew.
    Told,
    /// Check against so many messages published in all, close, report and end.
    Finish(Messages),
}

/// One AdvanceQueue.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The place up to which people are let in.
    pub(crate) to: u32,
    /// When, monotonic nanoseconds.
    pub(crate) at_ns: u64,
}

/// What connections were told of their places in a queue.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) positions: u64,
    /// Call → its position read, of those near the head, and of all.
    pub(crate) near: Counts,
    pub(crate) all: Counts,
    /// First call that was not shown → a later position read: how old what was shown was by then.
    pub(crate) age: Counts,
    /// The same of those near the head.
    pub(crate) near_age: Counts,
}

impl Told {
    /// Adds what others were told, or later.
    pub(crate) fn merge(&mut self, other: Self) {
        self.positions += other.positions;
        self.near.append(other.near);
        self.all.append(other.all);
        self.age.append(other.age);
        self.near_age.append(other.near_age);
    }
}

/// How to ping.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Pings {
    /// So many a second over all connections of the worker, whatever comes back (open loop).
    Rate(f64),
    /// So many under way at once; each answer sends the next (closed loop).
    Window(u32),
}

/// Worker → parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Twice a second.
    Progress(Progress),
    /// Every connection is open, greeted and in its room.
    Ready,
    /// What [`Order::Expect`] named has arrived.
    Reached,
    /// Every pong arrived.
    Quiet,
    /// Since the last such report.
    Phase { room: Counts, users: Counts, pongs: Counts },
    /// One storm.
    Round(Round),
    /// Every connection has its place in the queue.
    Joined,
    /// Since the last such report.
    Told(Told),
    /// The end.
    Done(Box<Done>),
    /// The worker gives up.
    Failed(String),
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) ready: u32,
    pub(crate) ended: u32,
    pub(crate) deliveries: u64,
    pub(crate) pongs: u64,
}

/// One connect-and-vanish storm of one worker.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Round {
    /// From 1.
    pub(crate) number: u32,
    /// Upgraded and ready.
    pub(crate) ready: u32,
    /// Left in the middle of the handshake, as planned.
    pub(crate) vanished_early: u32,
    /// Milliseconds to the last one ready, and to the last one gone.
    pub(crate) connect_ms: u64,
    pub(crate) total_ms: u64,
}

/// TLS handshakes, as clients count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tls {
    pub(crate) full: u64,
    pub(crate) resumed: u64,
    /// Handshakes that offered a ticket; those that were not taken are among `full`.
    pub(crate) tickets_offered: u64,
}

impl std::ops::AddAssign for Tls {
    fn add_assign(&mut self, other: Self) {
        self.full += other.full;
        self.resumed += other.resumed;
        self.tickets_offered += other.tickets_offered;
    }
}

/// What a worker saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) ready: u32,
    pub(crate) deliveries: u64,
    pub(crate) pings: u64,
    pub(crate) pongs: u64,
    /// Positions in a queue.
    pub(crate) positions: u64,
    /// Messages other than those that the run is about.
    pub(crate) others: u64,
    /// Messages that did not come in the order of their numbers; the order was the same for all receivers.
    pub(crate) reordered: u32,
    /// Hash of the order in which the room's messages came; equal on all workers.
    pub(crate) order_hash: u64,
    pub(crate) tls: Tls,
    /// Ends of connections, by close code, HTTP status, `eof` or `reset`.
    pub(crate) ends: BTreeMap<String, u32>,
    /// Ends of those that stopped reading; `open` for those that did not end.
    pub(crate) stalled_ends: BTreeMap<String, u32>,
    /// What went wrong, the first few.
    pub(crate) faults: Vec<String>,
    pub(crate) fault_count: u64,
}
