//! What shards and the control core tell each other.

use std::{sync::Arc, time::Duration};

use crate::{
    event::{Address, Denial, Event, Position, Receipt, Refusal, ReplayPage, Resume, RoomDenial, RoomEntry},
    ids::ConnId,
    line::{LineDenial, LineRequest, LineUpdate, PlaceNews, Seated},
    mesh::Weigh,
    wire::command::RequestId,
};

/// Control → one shard.
#[derive(Debug)]
pub enum ToShard {
    /// Deliver to the connections of the event's target that this shard holds.
    ///
    /// Sent by the control loop for an accepted event. If the mailbox is full: found before anything was stored
    /// or sent, so the call is refused with `RESOURCE_EXHAUSTED`.
    Deliver(Arc<Event>),
    /// The answer to [`ToControl::Admit`]: the user may connect.
    ///
    /// If the mailbox is full: control keeps it and tries again before anything else.
    Admitted {
        /// The connection that asked.
        conn: ConnId,
        /// Head of the user's stream; the position of the last stored event, offset 0 if there is none. `None`: it could
        /// not be learnt in time; [`ToShard::Resync`] follows when it is.
        position: Option<Position>,
    },
    /// The other answer to [`ToControl::Admit`]. If the mailbox is full: as `Admitted`.
    Denied {
        /// The connection that asked.
        conn: ConnId,
        /// Why.
        denial: Denial,
        /// When it is worth trying again, milliseconds.
        retry_after_ms: u32,
    },
    /// The answer to [`ToControl::Join`]. Events that the room gets after it come behind it, all of them.
    ///
    /// If the mailbox is full: as `Admitted`. Should even the list of what waits for room be full, it is lost and
    /// counted: the client's join is refused after [`crate::limits::JOIN_TIME_MAX`], and the shard's next count says
    /// that nobody came in.
    JoinDecided {
        /// The connection that asked.
        conn: ConnId,
        /// The same attempt.
        attempt: u32,
        /// In, or not.
        outcome: Result<RoomEntry, RoomDenial>,
    },
    /// The last values of the connection's user, behind its admission, or of a room that it came into; newer ones come
    /// behind them. One that the connection has already changes nothing.
    ///
    /// If the mailbox is full: as `JoinDecided`. Should it be lost: the next value of each key makes up for it.
    Latest {
        /// The connection.
        conn: ConnId,
        /// One for each key, at most [`crate::limits::LATEST_KEYS_PER_ADDRESS_MAX`].
        values: Vec<Arc<Event>>,
    },
    /// The answer to [`ToControl::Publish`]: always to a request with an id, else to a refusal of what must not vanish.
    /// If the mailbox is full: as `Admitted`.
    Published {
        /// The connection that published.
        conn: ConnId,
        /// The request's id, if it had one.
        request: Option<RequestId>,
        /// Accepted, or not.
        outcome: Result<Receipt, Refusal>,
    },
    /// End all connections of a user with 4401. If the mailbox is full: as `Admitted`.
    Disconnect {
        /// Whose.
        user: Arc<str>,
    },
    /// Stored events that a connection asked for, [`ToControl::Resume`] or [`ToControl::ReplayMore`].
    ///
    /// If the mailbox is full: as `JoinDecided`. Should it be lost: after [`crate::limits::REPLAY_TIME_MAX`] the hub asks
    /// again, and gives up in the end, and the client is told.
    Replay {
        /// The connection that asked.
        conn: ConnId,
        /// What.
        page: Box<ReplayPage>,
    },
    /// Who has this stream has missed something. Events that follow the position come behind it.
    ///
    /// If the mailbox is full: control tells it later, and nothing of the stream before.
    Resync {
        /// Where the stream stands now.
        position: Position,
        /// What is missing cannot be read from the stream either.
        lost: bool,
    },
    /// How many members a room has on the other shards and instances together, for `room:joined`.
    ///
    /// Sent at most once a second per room and shard, when it changed. If the mailbox has no room to spare: it stays
    /// untold, and a later second tells the count of that time.
    RoomCount {
        /// Which room.
        room: Arc<str>,
        /// Members elsewhere.
        others: u32,
    },
    /// News of a queue, the same for every shard.
    ///
    /// If the mailbox is full: control notes that the shard is behind, and sends it a whole picture instead of the next
    /// news, or when there is room. Should it not: the hub finds the gap and asks, [`ToControl::LineLost`].
    Line(Arc<LineUpdate>),
    /// The answer to [`ToControl::JoinLine`]; the queue's news up to then come before it. If the mailbox is full: as
    /// `JoinDecided`; the client, which heard nothing, asks again and has the same place.
    Seated(Box<Seated>),
    /// The other answer to [`ToControl::JoinLine`] and [`ToControl::LeaveLine`]. If the mailbox is full: as `Seated`.
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
    /// For all connections of a place on this shard. If the mailbox is full: as `Admitted`.
    PlaceNews(Arc<PlaceNews>),
    /// Use this certificate for handshakes from now on. If the mailbox is full: as `Admitted`.
    Certificate(Arc<rustls::ServerConfig>),
    /// Verify tokens with these keys from now on. If the mailbox is full: as `Admitted`.
    Keys(Arc<crate::auth::Verifier>),
    /// Publish these keys of passes from now on: a JWKS document. If the mailbox is full: as `Admitted`.
    PassKeys(Arc<str>),
    /// Empty the accept queues, close the listeners, and end when nobody is left. Sent again: the shorter time holds. If
    /// the mailbox is full: as `Admitted`.
    Drain {
        /// Whoever is still here then is cut off; zero: at once.
        within: Duration,
    },
    /// Send clients away. Control sets the pace, so that what it accepted before stands before this in the mailbox, and
    /// before the close on the wire. If the mailbox is full: as `Admitted`.
    SendAway {
        /// So many of those in service. `None`: everybody, and whoever comes later; sent once.
        count: Option<u32>,
        /// Each is told to return within so many milliseconds; `>= 1`.
        return_ms: u32,
    },
}

impl Weigh for ToShard {
    /// Of payloads alone. One that goes to several shards counts for each.
    fn bytes(&self) -> usize {
        match self {
            Self::Deliver(event) => event.payload.len(),
            Self::Replay { page, .. } => page.events.iter().map(|event| event.payload.len()).sum(),
            Self::Latest { values, .. } => values.iter().map(|event| event.payload.len()).sum(),
            Self::Line(update) => {
                let draw = update.draw.as_ref().map_or(0, |draw| draw.len() * 4);
                update.departed.heap_bytes() + draw
            }
            _ => 0,
        }
    }
}

/// One shard → control.
#[derive(Debug)]
pub enum ToControl {
    /// The shard now holds `count` connections of the address; 0: none any more.
    ///
    /// State, not an increment: the hub coalesces and the shard tries again until it fits. While it waits the
    /// shard is marked as lagging, and gets everything.
    Members {
        /// Which user or room.
        address: Address,
        /// Connections or members on this shard.
        count: u32,
    },
    /// A connection of a user asks to be admitted. Carries the user's count on this shard, itself included,
    /// and stands for `Members` too.
    ///
    /// If the mailbox is full: the connection is refused with 503.
    Admit {
        /// The connection, pending until the answer.
        conn: ConnId,
        /// Whose; the token was verified.
        user: Arc<str>,
        /// The user's connections on this shard, this one included.
        user_connections: u32,
    },
    /// A connection asks to come into a room that control decides about. Carries the room's count on this shard, and
    /// stands for `Members` too.
    ///
    /// If the mailbox is full: the client gets `system:error` overloaded.
    Join {
        /// The connection; it is a member once the answer says so.
        conn: ConnId,
        /// Comes back in the answer; grows, so that a late answer is known for one.
        attempt: u32,
        /// Which room.
        room: Arc<str>,
        /// Members on this shard, with all who wait for an answer; this one included.
        members: u32,
        /// `false`: it is a member already, and asks where the room's stream stands.
        newcomer: bool,
    },
    /// A connection came into a room that control does not decide about. Answered by [`ToShard::Latest`] where there is a
    /// last value.
    ///
    /// If the mailbox is full: dropped and counted; the next value of each key makes up for it.
    Entered {
        /// The connection.
        conn: ConnId,
        /// Which room.
        room: Arc<str>,
    },
    /// Whether any connection of the user on this shard is in a room under `ROOM_PRESENCE`.
    ///
    /// State, as `Members`: coalesced and tried again until it fits.
    Present {
        /// Where.
        room: Arc<str>,
        /// Who.
        user: Arc<str>,
        /// In it, or not any more.
        present: bool,
        /// The connection that came or went last; it need not be told.
        conn: ConnId,
    },
    /// A connection wants a place in a queue. Answered by [`ToShard::Seated`] or [`ToShard::LineDenied`].
    ///
    /// If the mailbox is full: the client gets `system:error` overloaded.
    JoinLine(Box<LineRequest>),
    /// A connection gives its place in a queue up. Answered by [`ToShard::PlaceNews`] to all connections of the place, or
    /// by [`ToShard::LineDenied`]. If the mailbox is full: as `JoinLine`.
    LeaveLine(Box<LineRequest>),
    /// Connections on this shard that wait for one holder of a place; 0: none any more.
    ///
    /// State, as `Members`: coalesced and tried again until it fits.
    Waiting {
        /// In which queue.
        event_id: Arc<str>,
        /// Whose place, as in [`Seated::holder`].
        holder: Arc<str>,
        /// How many.
        connections: u32,
    },
    /// The shard misses news of a queue, or knows nothing of it: it needs a whole picture, [`ToShard::Line`].
    ///
    /// State, as `Members`; told again with the next news that do not fit.
    LineLost {
        /// Which queue.
        event_id: Arc<str>,
    },
    /// A client's message for others. If the mailbox is full: the client gets `system:error` overloaded.
    Publish {
        /// The connection that publishes.
        conn: ConnId,
        /// Where the answer goes; `None`: nobody waits for one.
        request: Option<RequestId>,
        /// What; boxed, since every message that waits takes the largest one's size.
        event: Box<Event>,
    },
    /// A client wants to have again what it missed. Answered by [`ToShard::Replay`], one page for each stream; comes after
    /// the [`ToControl::Join`] of a room that it names.
    ///
    /// If the mailbox is full: the client gets `system:error` overloaded.
    Resume {
        /// The connection.
        conn: ConnId,
        /// Whose it is; `None`: anonymous.
        user: Option<Arc<str>>,
        /// What; only streams that the connection may have.
        resume: Box<Resume>,
    },
    /// A connection can take the next page of a stream: its outbox has room again, or live events did not join the page
    /// before. Answered by [`ToShard::Replay`]; the `from` of its end does not matter.
    ///
    /// State: tried again until it fits.
    ReplayMore {
        /// The connection.
        conn: ConnId,
        /// Which stream.
        stream: Arc<str>,
        /// Of `after`.
        epoch: Arc<str>,
        /// The last offset that the connection has.
        after: u64,
    },
    /// A client has everything of a stream up to the offset. If the mailbox is full: dropped and counted; the next one
    /// covers it.
    Acknowledge {
        /// Its user's stream, or that of a kept room that it is in.
        stream: Arc<str>,
        /// As the client named it; empty: it named none, and the stream's present one is meant.
        epoch: Arc<str>,
        /// `<= 2^53 - 1`; not yet compared with the stream's head.
        offset: u64,
    },
    /// Nothing is connected any more after [`ToShard::Drain`]. If the mailbox is full: tried again.
    Drained,
    /// Claims that a token could not be verified with the keys at hand: its key id is unknown.
    ///
    /// If the mailbox is full: dropped; the next such token asks again.
    UnknownKey,
}

impl Weigh for ToControl {}

// Where a receiver stalls, 65 536 of these wait.
const _: () = assert!(size_of::<ToShard>() <= 80);
const _: () = assert!(size_of::<ToControl>() <= 56);
