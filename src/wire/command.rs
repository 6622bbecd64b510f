//! What a client asks, whatever dialect it spoke.

use std::sync::Arc;

use crate::event::Resume;

/// The `id` of a request, as JSON text (`7`, `"a"`): its reply carries the same bytes. At most 128 bytes.
pub type RequestId = Box<str>;

/// A request of a client, parsed and within its limits; names point into the message.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    /// `id`, when there was one.
    pub id: Option<RequestId>,
    /// The type as it was sent.
    pub kind: &'a str,
    /// What is asked.
    pub command: Command<'a>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Command<'a> {
    /// `system:ping`: the payload comes back unchanged; JSON text, `None` where there was none.
    Ping(Option<&'a str>),
    /// `room:join`; the name is valid (03 §4).
    Join(Arc<str>),
    /// `room:leave`.
    Leave(Arc<str>),
    /// `room:message`.
    RoomMessage {
        /// To its members.
        room: Arc<str>,
        /// JSON text.
        data: &'a str,
    },
    /// `user:typing`.
    Typing {
        /// Where.
        room: Arc<str>,
        /// Began, or ended.
        typing: bool,
    },
    /// `user:presence`; the payload as JSON text, its `status` is online, away or busy.
    Presence(&'a str),
    /// `user:preferences`.
    Preferences {
        /// JSON text, at most 4 KiB.
        json: &'a str,
        /// `muted`: type patterns that are not sent to this connection.
        muted: Vec<String>,
    },
    /// `auth:login`.
    Login(&'a str),
    /// `auth:token_refresh`.
    TokenRefresh(&'a str),
    /// `auth:logout`.
    Logout,
    /// `system:resume`; streams are named `user:<id>` or `room:<name>`, each once, the room's name valid.
    Resume(Resume),
    /// `system:ack`.
    Acknowledge {
        /// `user:<id>` or `room:<name>`.
        stream: Arc<str>,
        /// `None`: the client named none.
        epoch: Option<Arc<str>>,
        /// The last one that it has; `<=` [`crate::limits::OFFSET_MAX`].
        offset: u64,
    },
    /// `queue:join`, `queue:leave`: names a queue, whose event id is valid.
    Line {
        /// Gives the place up, instead of taking one.
        leave: bool,
        /// Which queue.
        event_id: Arc<str>,
        /// `place_token`, at most [`crate::limits::PLACE_TOKEN_BYTES_MAX`].
        place_token: Option<&'a str>,
    },
    /// `socket:connect`, `socket:disconnect`, `socket:reconnect`: accepted in silence.
    Noted,
    /// Any other type: a custom handler's, or unknown. The payload as JSON text, `null` where there was none.
    Other(&'a str),
}

/// Why a message could not be understood; every variant is answered with `system:error` and counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not JSON, not an object, too deep, too many keys, a key twice, bytes after the end.
    #[error("{0}")]
    InvalidJson(super::json::Invalid),
    /// `type` is absent, not a string, empty, too long or written with escapes.
    #[error("`type` must be a string of 1 to 128 bytes without escapes")]
    MissingType,
    /// `id` is neither a string nor a number, or too long.
    #[error("`id` must be a string or a number of at most 128 bytes")]
    InvalidId,
    /// A field of the payload is absent or of the wrong kind. The reply carries the request's id.
    #[error("payload of `{kind}`: {problem}")]
    InvalidPayload {
        /// Which request.
        kind: String,
        /// The request's id.
        id: Option<RequestId>,
        /// Names the field and what it must be.
        problem: &'static str,
    },
    /// A room name outside 03 §4.
    #[error("room names are 1 to 128 characters of A-Z a-z 0-9 _ . : -")]
    InvalidRoom {
        /// Which request.
        kind: String,
        /// The request's id.
        id: Option<RequestId>,
    },
}

impl BadRequest {
    /// The `code` of the `system:error`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidJson(_) => "invalid_json",
            Self::MissingType | Self::InvalidId => "invalid_message",
            Self::InvalidPayload { .. } => "invalid_payload",
            Self::InvalidRoom { .. } => "invalid_room",
        }
    }
}
