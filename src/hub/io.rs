//! What a hub can be told, and what it may ask of its shard.

use std::sync::Arc;

use crate::{
    config::settings::Dialect,
    event::{Address, Denial, Event, Position, Receipt, Refusal, ReplayPage, Resume, RoomDenial, RoomEntry},
    handler::Reply,
    identity::Identity,
    ids::ConnId,
    line::{LineDenial, LineRequest, LineUpdate, PlaceNews, Seated},
    wire::{close::Close, command::RequestId},
};

/// Everything that can happen to a hub.
#[derive(Debug)]
pub enum Input<'a> {
    /// A request for an upgrade is in order and its token, if any, was verified.
    ///
    /// Without a user, or without a limit to ask control for, the answer is [`Output::Upgrade`] at once; else
    /// [`Output::Admit`], and `Upgrade` or `Reject` follow.
    Open {
        /// A free slot of the shell's; the hub's record uses the same.
        conn: ConnId,
        /// What it speaks, for life.
        dialect: Dialect,
        /// Whose it is; `None`: anonymous.
        identity: Option<Identity>,
        /// Whether its streams are held until its first message (`?resume=wait`).
        resume_waits: bool,
    },
    /// A whole text message.
    Text {
        /// From.
        conn: ConnId,
        /// Valid UTF-8, within the message limit.
        text: &'a str,
    },
    /// A whole binary message.
    Binary {
        /// From.
        conn: ConnId,
        /// Within the message limit.
        bytes: &'a [u8],
    },
    /// A WebSocket ping; answered by a pong. Where too many wait, the newest replaces the one before it.
    Ping {
        /// From.
        conn: ConnId,
        /// At most 125 bytes.
        payload: &'a [u8],
    },
    /// A WebSocket pong, or any sign of life that is no message.
    Pong {
        /// From.
        conn: ConnId,
    },
    /// The peer's close frame; answered with the same code, then the socket is closed.
    PeerClose {
        /// From.
        conn: ConnId,
        /// Its code; `None`: the frame was empty.
        code: Option<u16>,
    },
    /// The peer broke the protocol: close with this code and reason.
    Violation {
        /// By.
        conn: ConnId,
        /// 1002, 1003, 1007, 1008 or 1009.
        close: Close,
    },
    /// The socket is gone; the record goes with it.
    Gone {
        /// Whose.
        conn: ConnId,
    },
    /// The answer to [`Output::Verify`].
    Verified {
        /// The connection that asked.
        conn: ConnId,
        /// The same purpose.
        purpose: Purpose,
        /// The request's id.
        request: Option<RequestId>,
        /// Verified, or why not.
        result: Result<Identity, Rejection>,
    },
    /// A custom handler's answers, or anything the shell sends on its own account.
    Reply {
        /// To.
        conn: ConnId,
        /// The request's id.
        request: Option<RequestId>,
        /// What.
        reply: Reply,
    },
    /// Control: the user may connect ([`Output::Admit`]).
    Admitted {
        /// The connection that asked.
        conn: ConnId,
        /// Head of the user's stream; `None`: not known yet.
        position: Option<Position>,
    },
    /// Control: the user may not connect.
    Denied {
        /// The connection that asked.
        conn: ConnId,
        /// Why.
        denial: Denial,
        /// Milliseconds.
        retry_after_ms: u32,
    },
    /// Control, or the shard where control could not be asked: the answer to [`Output::Join`].
    JoinDecided {
        /// The connection that asked.
        conn: ConnId,
        /// The same attempt.
        attempt: u32,
        /// In, or not.
        outcome: Result<RoomEntry, RoomDenial>,
    },
    /// Control: the last values of the connection's user, or of a room that it came into.
    Latest {
        /// The connection.
        conn: ConnId,
        /// One for each key.
        values: Vec<Arc<Event>>,
    },
    /// Control: a page of a stream, as [`ReplayAsk`] wanted it.
    Replay {
        /// The connection that asked.
        conn: ConnId,
        /// What.
        page: Box<ReplayPage>,
    },
    /// Control: something of a stream was not delivered here.
    Resync {
        /// What is delivered from now on follows it.
        position: Position,
        /// Nor can it be read.
        lost: bool,
    },
    /// Control: deliver.
    Deliver(&'a Arc<Event>),
    /// Control: the outcome of an [`Output::Publish`] that had a request.
    Published {
        /// The connection that published.
        conn: ConnId,
        /// The request's id.
        request: Option<RequestId>,
        /// Accepted, or not.
        outcome: Result<Receipt, Refusal>,
    },
    /// Control: close all admitted connections of the user with 4401.
    Disconnect {
        /// Whose.
        user: Arc<str>,
    },
    /// Control: members of a room on the other shards.
    RoomCount {
        /// Which.
        room: Arc<str>,
        /// How many.
        others: u32,
    },
    /// Send clients away: 1001, each told its own time to return.
    SendAway {
        /// So many of those in service. `None`: everybody, and whoever comes later.
        count: Option<u32>,
        /// They return within so many milliseconds; `>= 1`.
        return_ms: u32,
    },
    /// Control: news of a queue.
    Line(&'a LineUpdate),
    /// Control: the answer to [`Output::JoinLine`].
    Seated(Box<Seated>),
    /// Control, or the shard where control could not be asked: the other answer to [`Output::JoinLine`] and
    /// [`Output::LeaveLine`].
    LineDenied {
        /// The connection that asked.
        conn: ConnId,
        /// The request's id.
        request: Option<RequestId>,
        /// What it asked.
        leave: bool,
        /// Why not.
        denial: LineDenial,
    },
    /// Control: something for all connections of a place.
    PlaceNews(&'a PlaceNews),
    /// Time passed: deadlines. Call it at [`Hub::next_deadline`](super::Hub::next_deadline) or every 100 ms.
    Tick,
}

/// Everything a hub may ask of its shard. Frames are not outputs: they wait in outboxes, see
/// [`Hub::take_dirty`](super::Hub::take_dirty).
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Ask control to admit a connection of a user; `Admitted` or `Denied` must follow.
    Admit {
        /// The connection.
        conn: ConnId,
        /// Whose.
        user: Arc<str>,
        /// The user's connections in this hub, this one included.
        user_connections: u32,
    },
    /// Ask control to let a connection into a room; `JoinDecided` should follow, or the client is told to try again.
    Join {
        /// The connection.
        conn: ConnId,
        /// Comes back in the answer.
        attempt: u32,
        /// Which room.
        room: Arc<str>,
        /// Members in this hub with all who wait for an answer, this one included.
        members: u32,
        /// `false`: it is a member already, and asks where the room's stream stands.
        newcomer: bool,
    },
    /// Tell control that a connection came into a room, for the room's last values. It may be dropped: the next value of
    /// each key makes up for it.
    Entered {
        /// The connection.
        conn: ConnId,
        /// Which room.
        room: Arc<str>,
    },
    /// Answer the upgrade with 101; what is in the outbox goes after it.
    Upgrade {
        /// The connection.
        conn: ConnId,
    },
    /// Answer the upgrade with an error; the record is gone already.
    Reject {
        /// The connection.
        conn: ConnId,
        /// 429: too many connections of the user; 503: overloaded.
        status: u16,
        /// Seconds, rounded up.
        retry_after_s: u32,
    },
    /// Verify a token, then tell `Verified`.
    Verify {
        /// The connection.
        conn: ConnId,
        /// What for.
        purpose: Purpose,
        /// The request's id.
        request: Option<RequestId>,
        /// As the client sent it. Never logged.
        token: Box<str>,
    },
    /// Hand a message to the handler registered for its type.
    Custom {
        /// The connection.
        conn: ConnId,
        /// Its user.
        user: Option<Arc<str>>,
        /// The request's id.
        request: Option<RequestId>,
        /// What was sent.
        message: CustomMessage,
    },
    /// Send to others by way of control; `Published` must follow when there is a request.
    Publish {
        /// The connection that publishes.
        conn: ConnId,
        /// The request's id.
        request: Option<RequestId>,
        /// What.
        event: Event,
    },
    /// Ask control for a place in a queue; `Seated` or `LineDenied` should follow.
    JoinLine(Box<LineRequest>),
    /// Ask control to give a place up; `PlaceNews` or `LineDenied` should follow.
    LeaveLine(Box<LineRequest>),
    /// It was sent away: its close frame is queued, and it need not have the usual time to answer.
    SentAway {
        /// The connection.
        conn: ConnId,
    },
    /// Tell control that the client has everything up to an offset. It may be dropped: the next one covers it.
    Acknowledge {
        /// Its user's stream, or that of a kept room that it is in.
        stream: Arc<str>,
        /// Empty: the client named none.
        epoch: Arc<str>,
        /// As it was sent.
        offset: u64,
    },
    /// The close handshake is over, or there is nobody to have it with: flush what fits, then close the socket and
    /// tell `Gone`.
    Shutdown {
        /// The connection.
        conn: ConnId,
    },
}

/// What control must know sooner or later: state, of which the newest counts. See
/// [`Hub::take_reports`](super::Hub::take_reports).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Connections of a user, or members of a room, those that wait for an answer included; 0: none any more.
    Members {
        /// Which user or room.
        address: Address,
        /// How many in this hub.
        count: u32,
    },
    /// Whether any connection of a user is in a room under `ROOM_PRESENCE`.
    Present {
        /// Where.
        room: Arc<str>,
        /// Who.
        user: Arc<str>,
        /// In it, or not any more.
        present: bool,
        /// The connection that came or went last.
        conn: ConnId,
    },
    /// Connections that wait for one holder of a place; 0: none any more.
    Waiting {
        /// In which queue.
        event_id: Arc<str>,
        /// Whose place, as in [`Seated::holder`].
        holder: Arc<str>,
        /// How many in this hub.
        connections: u32,
    },
    /// News of a queue did not follow what is known of it, or nothing is: a whole picture is needed.
    LineLost {
        /// Which queue.
        event_id: Arc<str>,
    },
}

/// What control should be asked for replays. See [`Hub::take_replay_asks`](super::Hub::take_replay_asks).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayAsk {
    /// The first page of a stream; who cannot be asked is told to try again.
    Begin {
        /// The connection.
        conn: ConnId,
        /// Its user.
        user: Option<Arc<str>>,
        /// One stream.
        resume: Resume,
    },
    /// The next page; asked again until it is heard.
    More {
        /// The connection.
        conn: ConnId,
        /// The last event that it has.
        after: Position,
    },
}

/// A message for a custom handler, owned since the handler runs after the hub.
#[derive(Debug, PartialEq, Eq)]
pub enum CustomMessage {
    /// A registered type.
    Typed {
        /// The type.
        kind: Box<str>,
        /// JSON text.
        payload: Box<str>,
    },
    /// A text message of a raw connection.
    Text(Box<str>),
    /// A binary message of a raw connection.
    Binary(Box<[u8]>),
}

/// Why a token is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `auth:login`.
    Login,
    /// `auth:token_refresh`: for the same user only.
    Refresh,
}

/// Why a token does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It is bad; why, in words for the client.
    Refused(String),
    /// It was not looked at: too many bad ones came from the client's address.
    TooManyFailures {
        /// Milliseconds.
        retry_after_ms: u64,
    },
}
