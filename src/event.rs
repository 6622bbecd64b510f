//! What travels: an event, where it goes, and how it may be treated on the way.
//!
//! Owns the vocabulary that the pure cores and the mesh share. Never holds encoded frames: each shard encodes
//! once per dialect.

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::ConnId;

/// The type of a position in a queue.
pub const QUEUE_POSITION: &str = "booking:queue_position";

/// A message from a backend, a client or the gateway itself, on its way to connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Who gets it.
    pub target: Target,
    /// The type that clients see, `booking:confirmed`; 1 to 128 bytes.
    pub kind: Arc<str>,
    /// One JSON value, validated where it entered, passed on byte for byte.
    pub payload: Bytes,
    /// How the payload becomes a message.
    pub form: Form,
    /// How it is queued, conflated, stored or dropped.
    pub class: Class,
    /// The caller's version of a Latest value: an older one never replaces a newer one. `None`: the newest
    /// arrival wins.
    pub version: Option<u64>,
    /// Place in its stream, given by the sequencer; `None` for what is not stored.
    pub position: Option<Position>,
    /// One connection that does not get it: its own doing, which it need not be told. `None`: everybody does.
    pub except: Option<ConnId>,
    /// Monotonic nanoseconds when the gateway took responsibility, of what the store gave when it was stored; the delivery
    /// latency counts from here. For [`crate::clock::Now::since_ns`] alone.
    pub accepted_at_ns: u64,
}

/// Who gets an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Every connection of one user.
    User(Arc<str>),
    /// Every member of one room.
    Room(Arc<str>),
    /// One connection.
    Connection(ConnId),
    /// Every connection.
    Everyone,
}

/// What the directory routes by: something that shards hold connections of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A user with at least one connection.
    User(Arc<str>),
    /// A room with at least one member.
    Room(Arc<str>),
}

/// What clients get of a payload, by dialect. What is stored carries its position in the ticketing dialect, never in
/// the raw one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// `{"type","payload"}` in both dialects.
    #[default]
    Payload,
    /// An object: raw connections get it byte for byte, ticketing ones `{"type","payload"}`.
    Object,
    /// An object with the key `type`, which is [`Event::kind`]: the whole message in both dialects. The position follows
    /// its own fields.
    Message,
}

/// How an event is treated between acceptance and the socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Stored before delivered; never dropped: what does not fit closes the connection.
    Critical,
    /// Queued in order, not stored; never dropped silently: what does not fit closes the connection.
    Ordered,
    /// One slot per connection and key, replaced in its place by a newer value.
    Latest(LatestKey),
    /// Dropped first, and counted.
    Ephemeral,
}

impl Class {
    /// What the classes are called in metrics, by [`Class::index`].
    pub const NAMES: [&str; 4] = ["critical", "ordered", "latest", "ephemeral"];

    /// Position in tables by class, `< Class::NAMES.len()`.
    #[inline]
    pub const fn index(&self) -> usize {
        match self {
            Self::Critical => 0,
            Self::Ordered => 1,
            Self::Latest(_) => 2,
            Self::Ephemeral => 3,
        }
    }
}

/// The key of a Latest value: a hash of what the value is about (type and event, room or category), the same in every
/// build; made by `route::classify::latest_key` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LatestKey(pub u64);

/// A place in a stream. Offsets start at 1 and grow by one; the epoch changes when entries were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// `user:<id>` or `room:<name>`.
    pub stream: Arc<str>,
    /// Names one unbroken history of the stream.
    pub epoch: Arc<str>,
    /// `offset >= 1`; `0` only where "before the first entry" is meant.
    pub offset: u64,
}

/// What a client wants to have again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// What follows these positions, the last that the client has of each stream.
    Streams(Vec<Position>),
    /// What of its user's stream no connection of the user has acknowledged.
    Unacknowledged,
}

/// A part of a stream, for one connection that has what stands before it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayPage {
    /// Which stream.
    pub stream: Arc<str>,
    /// Of what the connection has; empty: where that is was not known.
    pub follows: Arc<str>,
    /// Of all events, and of the offsets in `end`. Another than `follows` where the store went on under another name.
    pub epoch: Arc<str>,
    /// Without a hole; at most [`crate::limits::REPLAY_PAGE_EVENTS_MAX`].
    pub events: Vec<Arc<Event>>,
    /// Present in the last page alone.
    pub end: Option<ReplayEnd>,
}

/// The last page of a stream: whether nothing is missing, the offset that the client named, and the one it has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayEnd {
    /// `false`: what stood after `from` cannot be had any more; live goes on from `to`.
    pub recovered: bool,
    /// The offset that the page was asked after.
    pub from: u64,
    /// Where the client is after this page.
    pub to: u64,
}

/// What a caller is told about an accepted event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Connections on this instance that the directory counted at routing time.
    pub delivered_connections: u32,
    /// Whether it was also handed to other instances.
    pub published: bool,
    /// Its place, when it was stored.
    pub position: Option<Position>,
}

/// What became of many Latest values that were pushed together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pushed {
    /// Accepted, and sent to every connection of their targets.
    pub accepted: u64,
    /// A newer version had come before: nothing to do.
    pub stale: u64,
    /// Of those accepted: nobody of the target is connected here.
    pub unknown: u64,
    /// For whose targets no mailbox had room, in their order: nothing of them was sent.
    pub refused: Vec<Event>,
}

/// Why an event was not accepted. Nothing was sent, and but for [`Refusal::OutcomeUnknown`] nothing stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A mailbox on the way is full; the caller may repeat after the delay.
    #[error("overloaded, try again in {retry_after_ms} ms")]
    Overloaded {
        /// Milliseconds until it is worth trying again.
        retry_after_ms: u32,
    },
    /// The idempotency key was used before with another body.
    #[error("idempotency key was used for another message")]
    KeyReused,
    /// The gateway is stopping.
    #[error("the gateway is shutting down")]
    Draining,
    /// The store did not say whether it stored the event: repeating with the same idempotency key is safe.
    #[error("the stream store did not answer: repeat with the same idempotency key")]
    OutcomeUnknown,
    /// The store cannot store anything at the moment.
    #[error("the stream store refused, try again in {retry_after_ms} ms")]
    NotStored {
        /// Milliseconds until it is worth trying again.
        retry_after_ms: u32,
    },
}

/// What control says to who comes into a room that it decides about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomEntry {
    /// Members on all shards as control counted them then, the newcomer and those still on their way included.
    pub members: u32,
    /// Head of the room's stream, where it is kept: what follows it is delivered to the newcomer, nothing before.
    pub position: Option<Position>,
}

/// Why a connection does not come into a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomDenial {
    /// The room has `MAX_ROOM_MEMBERS` members already.
    Full,
    /// Control could not be asked, or did not answer in time.
    Overloaded {
        /// Milliseconds until it is worth trying again.
        retry_after_ms: u32,
    },
}

/// Why a user's connection is not admitted, or why it is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The user has `RATE_LIMIT_MAX_CONNECTIONS` connections already.
    TooManyConnections,
    /// As that, found when other instances told what they have: it had been let in.
    LimitPassed,
    /// A mailbox on the way is full.
    Overloaded,
}
