//! What goes into the router and what comes out of it.

use std::sync::Arc;

use crate::{
    event::{Address, Denial, Event, Position, Receipt, Refusal, RoomDenial, RoomEntry},
    ids::{ConnId, ShardId},
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
    /// Those of its free messages that may be used for what can wait.
    pub spare: usize,
    /// It has connections that it could not tell of yet.
    pub lagging: bool,
    /// Open connections, anonymous ones included.
    pub connections: u32,
}

impl ShardView {
    pub(super) fn takes(&self, event: &Event) -> bool {
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
    /// A connection asks to come into a room; see [`crate::mesh::ToControl::Join`].
    Join {
        /// The connection; names the shard.
        conn: ConnId,
        /// Comes back in [`Output::JoinDecided`].
        attempt: u32,
        /// Which room.
        room: Arc<str>,
        /// Members on that shard, with all who wait for an answer; this one included.
        members: u32,
        /// `false`: it is a member already.
        newcomer: bool,
    },
    /// A shard tells whether it has a user in a room under `ROOM_PRESENCE`.
    Present {
        /// Where.
        room: Arc<str>,
        /// Who.
        user: Arc<str>,
        /// In it, or not any more.
        present: bool,
        /// The connection that came or went last; names the shard.
        conn: ConnId,
    },
    /// Comings and goings are to be announced, if any are due.
    Announce {
        /// All shards, by index.
        shards: &'a [ShardView],
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
    Tick {
        /// All shards, by index.
        shards: &'a [ShardView],
    },
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
    /// The answer to [`Input::Join`].
    JoinDecided {
        /// The connection that asked.
        conn: ConnId,
        /// The same attempt.
        attempt: u32,
        /// In, or not.
        outcome: Result<RoomEntry, RoomDenial>,
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
    /// A shard should know how many members a room has on the other shards; its mailbox had room to spare.
    RoomCount {
        /// Which shard.
        shard: ShardId,
        /// Which room.
        room: Arc<str>,
        /// On the other shards.
        others: u32,
    },
}
