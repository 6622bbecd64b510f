//! What goes into the router and what comes out of it.

use std::sync::Arc;

use super::inquiries::{Connections, Inquiry, NoReport, Report};
use crate::{
    event::{
        Address, Denial, Event, Position, Pushed, Receipt, Refusal, ReplayPage, Resume, RoomDenial, RoomEntry,
    },
    ids::{ConnId, ShardId},
    stream::{
        lease::Lease,
        store::{Answer, Ask},
        word::{InstanceId, Word},
    },
};

/// Names a call while its answer is on the way; the control loop's own.
pub type Token = u64;

/// Names a question to the stream store while its answer is on the way; the router's own.
pub type Ticket = u64;

/// Whether others share streams and rooms with this instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// Nobody does: nothing is shared, and what the store answers is all there is.
    One,
    /// Others do: what is not stored is shared with them, and streams that have connections here are followed.
    Several,
}

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
    /// A connection came into a room that its shard alone decides about: it wants the last values of the room.
    Entered {
        /// The connection; names the shard.
        conn: ConnId,
        /// Which room.
        room: Arc<str>,
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
    /// Latest values, validated, judged one after another against one view of the shards. Any other class is refused.
    Push {
        /// Comes back in [`Output::Pushed`].
        token: Token,
        /// What; to users, rooms or everyone.
        events: Vec<Event>,
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
    /// Somebody wants to know how many connections an address has on all instances.
    Count {
        /// Comes back in [`Output::Counted`].
        token: Token,
        /// Which user or room.
        address: Address,
    },
    /// An operator wants to know about a stream.
    Inquire {
        /// Comes back in [`Output::Inquired`].
        token: Token,
        /// What.
        inquiry: Inquiry,
    },
    /// The store answers.
    Answered {
        /// Which question: [`Output::Ask`].
        ticket: Ticket,
        /// What it says.
        answer: Answer,
        /// All shards, by index.
        shards: &'a [ShardView],
    },
    /// The other instances can be reached; [`Input::Subscribed`] follows for each address of interest.
    Up,
    /// They cannot be reached, or something of theirs was lost.
    Down,
    /// What is published for the address from now on is heard here. Told after each interest, and again after each loss.
    Subscribed {
        /// Which user or room.
        address: Address,
    },
    /// The store lost something of a stream, which goes on there under another name.
    Renamed {
        /// Where it stands.
        position: Position,
    },
    /// Something that an instance published: with a position what is stored, this instance's own too.
    Heard {
        /// What.
        event: Arc<Event>,
        /// All shards, by index.
        shards: &'a [ShardView],
    },
    /// Something that every instance hears from outside: each delivers it to its own connections, and one stores what is to
    /// be stored.
    Foreign {
        /// What; without a position.
        event: Event,
        /// All shards, by index.
        shards: &'a [ShardView],
    },
    /// More is known of which instance that is.
    Lease {
        /// What.
        lease: Lease,
        /// All shards, by index.
        shards: &'a [ShardView],
    },
    /// A backend tells every instance of a user's presence; the event's target is the user.
    ForeignPresence {
        /// What; without a position.
        event: Event,
        /// All shards, by index.
        shards: &'a [ShardView],
    },
    /// Another instance says something of itself.
    Word {
        /// Which.
        from: InstanceId,
        /// What.
        word: Word,
    },
    /// A client wants what it missed; see [`crate::mesh::ToControl::Resume`].
    Resume {
        /// Its connection.
        conn: ConnId,
        /// Its user.
        user: Option<Arc<str>>,
        /// What.
        resume: Resume,
    },
    /// It wants the next page; see [`crate::mesh::ToControl::ReplayMore`].
    ReplayMore {
        /// Its connection.
        conn: ConnId,
        /// Where it stands.
        position: Position,
    },
    /// A client has everything of a stream up to a position.
    Acknowledge {
        /// Up to it.
        position: Position,
    },
    /// A tenth of a second has passed.
    Clock {
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
        /// Head of the user's stream; `None`: it could not be learnt in time.
        position: Option<Position>,
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
    /// The last values of whom a connection was let in as, or of a room that it came into; behind its admission.
    Latest {
        /// The connection.
        conn: ConnId,
        /// One for each key; never empty.
        values: Vec<Arc<Event>>,
    },
    /// The outcome of [`Input::Publish`].
    Answer {
        /// Of that call.
        token: Token,
        /// Accepted, or not.
        result: Result<Receipt, Refusal>,
    },
    /// The outcome of [`Input::Push`].
    Pushed {
        /// Of that call.
        token: Token,
        /// What became of them.
        pushed: Pushed,
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
    /// The outcome of [`Input::Count`].
    Counted {
        /// Of that question.
        token: Token,
        /// What is known, or that too much is being asked.
        result: Result<Connections, NoReport>,
    },
    /// The outcome of [`Input::Inquire`].
    Inquired {
        /// Of that call.
        token: Token,
        /// What is known.
        result: Result<Report, NoReport>,
    },
    /// Ask the stream store; the answer is [`Input::Answered`].
    Ask {
        /// Comes back in the answer.
        ticket: Ticket,
        /// What.
        ask: Ask,
    },
    /// Whether this instance wants to hear what is published for an address. State: the last one counts.
    Interest {
        /// Which user or room.
        address: Address,
        /// It does, or not any more.
        on: bool,
    },
    /// Publish to the other instances what is not stored.
    Share {
        /// What; to a user, a room or everyone.
        event: Arc<Event>,
    },
    /// Say it to the other instances. One that is lost is said again in time.
    Tell {
        /// On the channel of [`Word::address`].
        word: Word,
    },
    /// Who has the stream on a shard has missed something; the mailbox had room to spare.
    Resync {
        /// Which shard.
        shard: ShardId,
        /// Where the stream stands.
        position: Position,
        /// What it missed cannot be read from the stream either.
        lost: bool,
    },
    /// Stored events that a connection asked for.
    Replay {
        /// The connection.
        conn: ConnId,
        /// What.
        page: Box<ReplayPage>,
    },
    /// A shard should know how many members a room has elsewhere; its mailbox had room to spare.
    RoomCount {
        /// Which shard.
        shard: ShardId,
        /// Which room.
        room: Arc<str>,
        /// On the other shards and instances.
        others: u32,
    },
}
