//! The ticketing dialect: `{"type","payload"}` objects (03 §4), and the raw one beside it.
//!
//! `parse` understands what clients send; `encode` builds whole frames of what they get. Payloads are JSON text
//! that passes through byte for byte.

mod encode;
mod parse;
mod position;
mod resume;
#[cfg(test)]
mod tests;

pub use self::{
    encode::{encode_event, encode_notice, room_message_payload, room_user_payload, status_change_payload},
    parse::parse,
    position::PositionTemplate,
};
use crate::{event::Position, ids::ConnId};

/// A message of the gateway itself to one connection.
#[derive(Clone, Debug)]
pub enum Notice<'a> {
    /// `system:connected`.
    Connected {
        /// The connection.
        conn: ConnId,
        /// Its user; `None`: anonymous.
        user: Option<&'a str>,
        /// Wall clock, milliseconds.
        server_time_ms: u64,
        /// Milliseconds.
        ping_interval_ms: u64,
        /// Heads of the connection's streams.
        streams: &'a [Position],
        /// JSON text of the preferences, when there are any.
        preferences: Option<&'a str>,
    },
    /// `system:pong`; the payload as it came, JSON text. `None` is sent as `null`.
    Pong(Option<&'a str>),
    /// `system:ok`: a receipt.
    Ok,
    /// `system:error`.
    Error {
        /// For programs.
        code: &'a str,
        /// For people.
        message: &'a str,
        /// Type of the request that it answers, as `ref`.
        reference: Option<&'a str>,
        /// `retry_after_ms`, where waiting helps.
        retry_after_ms: Option<u64>,
    },
    /// `system:draining`.
    Draining {
        /// When this client should return.
        reconnect_after_ms: u32,
    },
    /// `room:joined`.
    Joined {
        /// Which.
        room: &'a str,
        /// Members on this instance: as control counted them, or as well as the shard knows.
        members: u32,
        /// Head of the room's stream, when it is kept.
        position: Option<&'a Position>,
    },
    /// `room:left`.
    Left {
        /// Which.
        room: &'a str,
    },
    /// `system:resumed`.
    Resumed {
        /// Where the client is now: the last event that was replayed, or the stream's head.
        position: &'a Position,
        /// Whether it got everything after `from`.
        recovered: bool,
        /// The offset that it named, or had acknowledged.
        from: u64,
    },
    /// `system:resync`: something of the stream was lost; what follows comes after this position.
    Resync(&'a Position),
    /// `auth:ok`.
    AuthOk {
        /// Whose connection it is now; `None`: nobody's.
        user: Option<&'a str>,
        /// Milliseconds since the epoch.
        expires_at_ms: Option<u64>,
    },
    /// `auth:token_expiring`.
    TokenExpiring {
        /// Milliseconds since the epoch.
        expires_at_ms: u64,
    },
    /// `queue:joined`.
    QueueJoined {
        /// Which.
        event_id: &'a str,
        /// `None`: places are drawn when it opens.
        place: Option<u32>,
        /// Brings the place back without a user.
        place_token: Option<&'a str>,
        /// JSON text.
        receipt: Option<&'a str>,
        /// SHA-256 of the seed, in hexadecimal digits.
        commitment: &'a str,
        /// When it opens, milliseconds since the epoch, where it has not and that is known.
        opens_at_ms: Option<u64>,
    },
    /// `queue:scheduled`, `queue:paused`, `queue:resumed`, `queue:sold_out`, `queue:closed`.
    QueueState {
        /// The type.
        kind: &'a str,
        /// Which.
        event_id: &'a str,
        /// Why it is paused, in words for people.
        reason: Option<&'a str>,
        /// As in `QueueJoined`.
        opens_at_ms: Option<u64>,
    },
    /// A custom handler's answer: type and JSON text of the payload, which the caller has validated.
    Custom {
        /// The type.
        kind: &'a str,
        /// JSON text.
        payload: &'a str,
    },
}

/// The type of a notice, for the counters.
pub fn notice_kind<'a>(notice: &Notice<'a>) -> &'a str {
    match notice {
        Notice::Connected { .. } => "system:connected",
        Notice::Pong(_) => "system:pong",
        Notice::Ok => "system:ok",
        Notice::Error { .. } => "system:error",
        Notice::Draining { .. } => "system:draining",
        Notice::Joined { .. } => "room:joined",
        Notice::Left { .. } => "room:left",
        Notice::Resumed { .. } => "system:resumed",
        Notice::Resync(_) => "system:resync",
        Notice::AuthOk { .. } => "auth:ok",
        Notice::TokenExpiring { .. } => "auth:token_expiring",
        Notice::QueueJoined { .. } => "queue:joined",
        Notice::QueueState { kind, .. } | Notice::Custom { kind, .. } => kind,
    }
}
