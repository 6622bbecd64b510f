//! Which shards get an event, and which place in which stream it has. Pure.
//!
//! Owns the directory and the sequencer. Never waits for a shard: counts are what shards told so far, and a shard
//! that is behind with telling gets everything. Invariant: an event is refused before anything of it was stored or
//! sent, or else goes to every shard that may hold its target. Talks to the control loop through [`Input`] and
//! [`Output`].

pub mod classify;
pub mod directory;
pub mod sequencer;

use std::sync::Arc;

use crate::{
    clock::Now,
    config::Settings,
    event::{Address, Class, Denial, Event, Position, Receipt, Refusal, Target},
    ids::{ConnId, ShardId},
    limits::{OVERLOAD_RETRY, TOO_MANY_CONNECTIONS_RETRY},
    route::{
        directory::Directory,
        sequencer::{Plan, Sequencer, Verdict},
    },
};

/// Names a call while its answer is on the way; the control loop's own.
pub type Token = u64;

/// One shard as the router has to know it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardView {
    /// Messages that its mailbox takes now.
    pub free: usize,
    /// Bytes of payloads that may still wait in it.
    pub free_bytes: usize,
    /// It has connections that it could not tell of yet.
    pub lagging: bool,
    /// Open connections, anonymous ones included.
    pub connections: u32,
}

impl ShardView {
    fn takes(&self, event: &Event) -> bool {
        self.free > 0 && event.payload.len() <= self.free_bytes
    }
}

/// Everything that can happen to the router.
#[derive(Debug)]
pub enum Input<'a> {
    /// A shard tells how many connections of an address it holds.
    Members {
        /// Who tells.
        shard: ShardId,
        /// Which user or room.
        address: Address,
        /// Connections or members there.
        count: u32,
    },
    /// A connection of a user asks to be admitted.
    Admit {
        /// The connection; names the shard.
        conn: ConnId,
        /// Whose.
        user: Arc<str>,
        /// The user's connections on that shard, this one included.
        user_connections: u32,
    },
    /// An event, validated, from a backend or a client.
    Publish {
        /// Comes back in [`Output::Answer`].
        token: Token,
        /// What; without a position.
        event: Event,
        /// The caller's key for repeats.
        idempotency_key: Option<Arc<str>>,
        /// All shards, by index.
        shards: &'a [ShardView],
    },
    /// End all connections of a user.
    Disconnect {
        /// Comes back in [`Output::Disconnected`].
        token: Token,
        /// Whose.
        user: Arc<str>,
        /// All shards, by index.
        shards: &'a [ShardView],
    },
    /// A second has passed.
    Tick,
}

/// Everything the router may ask of the control loop.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Hand the event to a shard; its mailbox had room.
    Deliver {
        /// To.
        shard: ShardId,
        /// What.
        event: Arc<Event>,
    },
    /// The user may connect.
    Admitted {
        /// The connection that asked.
        conn: ConnId,
        /// Head of the user's stream.
        position: Position,
    },
    /// The user may not connect.
    Denied {
        /// The connection that asked.
        conn: ConnId,
        /// Why.
        denial: Denial,
        /// Milliseconds.
        retry_after_ms: u32,
    },
    /// The outcome of [`Input::Publish`].
    Answer {
        /// Of that call.
        token: Token,
        /// Accepted, or not.
        result: Result<Receipt, Refusal>,
    },
    /// End the connections of the user on a shard.
    Disconnect {
        /// On.
        shard: ShardId,
        /// Whose.
        user: Arc<str>,
    },
    /// The outcome of [`Input::Disconnect`].
    Disconnected {
        /// Of that call.
        token: Token,
        /// How many connections the directory counted.
        connections: u32,
    },
    /// A shard should know how many members a room has on all shards.
    RoomCount {
        /// Which shard.
        shard: ShardId,
        /// Which room.
        room: Arc<str>,
        /// On all shards.
        members: u32,
    },
}

/// What happened so far; numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events accepted, by [`Class::index`], as they travelled.
    pub accepted: [u64; Class::NAMES.len()],
    /// Answered from the idempotency memory.
    pub repeated: u64,
    /// Latest values that came after a newer version.
    pub stale: u64,
    /// Refused for want of room in a mailbox.
    pub overloaded: u64,
    /// Refused since the key had another body.
    pub key_reused: u64,
    /// Connections admitted.
    pub admitted: u64,
    /// Connections denied.
    pub denied: u64,
}

/// The router of one instance.
#[derive(Debug)]
pub struct Route {
    directory: Directory,
    sequencer: Sequencer,
    connections_per_user_max: u32,
    counts: Counts,
}

impl Route {
    /// Nothing connected, nothing stored. The seed must differ between starts.
    pub fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            directory: Directory::default(),
            sequencer: Sequencer::new(&settings.streams, seed),
            connections_per_user_max: settings.limits.connections_per_user_max,
            counts: Counts::default(),
        }
    }

    /// Takes what happened and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Members { shard, address, count } => self.directory.set(shard, &address, count),
            Input::Admit { conn, user, user_connections } => {
                let output = self.admit(conn, user, user_connections);
                out.push(output);
            }
            Input::Publish { token, event, idempotency_key, shards } => {
                let result = self.publish(now, event, idempotency_key, shards, out);
                out.push(Output::Answer { token, result });
            }
            Input::Disconnect { token, user, shards } => {
                let target = Target::User(user.clone());
                let (targets, connections) = self.targets(&target, shards);
                out.extend(targets.into_iter().map(|shard| Output::Disconnect { shard, user: user.clone() }));
                out.push(Output::Disconnected { token, connections });
            }
            Input::Tick => {
                self.sequencer.expire(now);
                self.directory.take_room_counts(|shard, room, members| {
                    out.push(Output::RoomCount { shard, room, members });
                });
            }
        }
    }

    /// Who is connected where.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What is stored and remembered.
    pub fn sequencer(&self) -> &Sequencer {
        &self.sequencer
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Panics when the indexes contradict each other; for tests and simulations.
    pub fn check_invariants(&self) {
        self.directory.check_invariants();
    }

    fn admit(&mut self, conn: ConnId, user: Arc<str>, user_connections: u32) -> Output {
        let address = Address::User(user.clone());
        self.directory.set(conn.shard(), &address, user_connections);
        let total = self.directory.user_connections(&user);
        if self.connections_per_user_max > 0 && total > self.connections_per_user_max {
            // The refused connection is not one of the user's; the shard will say the same soon.
            self.directory.set(conn.shard(), &address, user_connections.saturating_sub(1));
            self.counts.denied += 1;
            let retry_after_ms = TOO_MANY_CONNECTIONS_RETRY.as_millis() as u32;
            return Output::Denied { conn, denial: Denial::TooManyConnections, retry_after_ms };
        }
        self.counts.admitted += 1;
        Output::Admitted { conn, position: self.sequencer.user_head(&user) }
    }

    fn publish(
        &mut self,
        now: Now,
        mut event: Event,
        idempotency_key: Option<Arc<str>>,
        shards: &[ShardView],
        out: &mut Vec<Output>,
    ) -> Result<Receipt, Refusal> {
        event.target = classify::resolve(event.target);
        let plan = match self.sequencer.judge(now, &mut event, idempotency_key) {
            Verdict::Go(plan) => plan,
            Verdict::Repeated(receipt) => {
                self.counts.repeated += 1;
                return Ok(receipt);
            }
            Verdict::Stale => {
                self.counts.stale += 1;
                return Ok(Receipt::default());
            }
            Verdict::KeyReused => {
                self.counts.key_reused += 1;
                return Err(Refusal::KeyReused);
            }
        };
        let (targets, delivered_connections) = self.targets(&event.target, shards);
        if !targets.iter().all(|shard| shards[shard.index()].takes(&event)) {
            self.counts.overloaded += 1;
            return Err(Refusal::Overloaded { retry_after_ms: OVERLOAD_RETRY.as_millis() as u32 });
        }
        self.counts.accepted[event.class.index()] += 1;
        Ok(self.accept(now, event, plan, Routing { targets, delivered_connections }, out))
    }

    fn accept(
        &mut self,
        now: Now,
        event: Event,
        plan: Plan,
        routing: Routing,
        out: &mut Vec<Output>,
    ) -> Receipt {
        let delivered_connections = routing.delivered_connections;
        let (event, receipt) = self.sequencer.commit(now, event, plan, delivered_connections);
        out.extend(routing.targets.into_iter().map(|shard| Output::Deliver { shard, event: event.clone() }));
        receipt
    }

    /// The shards that may hold the target, and the connections that they are known to hold of it.
    fn targets(&self, target: &Target, shards: &[ShardView]) -> (Vec<ShardId>, u32) {
        let all = || (0..shards.len()).map(|index| ShardId(index as u16));
        let lagging = |shard: &ShardId| shards[shard.index()].lagging;
        let held = match target {
            Target::User(user) => self.directory.user(user),
            Target::Room(room) => self.directory.room(room),
            Target::Connection(conn) if conn.shard().index() < shards.len() => {
                return (vec![conn.shard()], 1);
            }
            Target::Connection(_) => return (Vec::new(), 0),
            Target::Everyone => return (all().collect(), shards.iter().map(|shard| shard.connections).sum()),
        };
        let Some(held) = held else { return (all().filter(lagging).collect(), 0) };
        let targets = all().filter(|shard| held.on(*shard) > 0 || lagging(shard)).collect();
        (targets, held.total())
    }
}

/// Where an accepted event goes.
struct Routing {
    targets: Vec<ShardId>,
    delivered_connections: u32,
}

#[cfg(test)]
mod tests;
