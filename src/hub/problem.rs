//! Why a request is refused, in the words of `system:error`.

/// One `system:error`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problem {
    /// For programs.
    pub(super) code: &'static str,
    /// For people.
    pub(super) message: &'static str,
    /// Where waiting helps.
    pub(super) retry_after_ms: Option<u64>,
}

impl Problem {
    const fn new(code: &'static str, message: &'static str) -> Self {
        Self { code, message, retry_after_ms: None }
    }

    pub(super) const fn after(self, retry_after_ms: u64) -> Self {
        Self { retry_after_ms: Some(retry_after_ms), ..self }
    }

    pub(super) const BAD_PLACE_TOKEN: Self = Self::new("bad_place_token", "it is not of this queue");
    pub(super) const BUSY: Self = Self::new("busy", "another login or refresh is under way");
    pub(super) const DRAINING: Self = Self::new("draining", "the gateway is shutting down");
    pub(super) const FORBIDDEN: Self = Self::new("forbidden", "the token does not allow this room");
    pub(super) const INTERNAL: Self = Self::new("internal", "the answer could not be sent");
    pub(super) const INVALID_PRESENCE: Self =
        Self::new("invalid_payload", "`status` must be a string, and `text` where there is one");
    pub(super) const INVALID_ROOM: Self =
        Self::new("invalid_room", "room names are 1 to 128 characters of A-Z a-z 0-9 _ . : -");
    pub(super) const JOINING: Self = Self::new("busy", "a join of this room is under way");
    pub(super) const KEY_REUSED: Self = Self::new("key_reused", "the key was used for another message");
    pub(super) const LEFT: Self = Self::new("left", "the room was left before the join was decided");
    pub(super) const LOGIN_FIRST: Self = Self::new("unauthorised", "`auth:login` must come first");
    pub(super) const NOT_ALLOWED: Self = Self::new("not_allowed", "the stream is not this connection's");
    pub(super) const NOT_IN_ROOM: Self = Self::new("not_in_room", "join the room first");
    pub(super) const NOT_KEPT: Self = Self::new("not_kept", "nothing is kept of this room: join it");
    pub(super) const NOT_IN_QUEUE: Self = Self::new("not_in_queue", "there is no place to give up");
    pub(super) const NO_QUEUE: Self = Self::new("no_queue", "the event has no queue");
    pub(super) const OTHER_USER: Self =
        Self::new("forbidden", "a refreshed token must be of the connection's own user");
    pub(super) const OVERLOADED: Self = Self::new("overloaded", "too much to do at the moment");
    pub(super) const QUEUE_FULL: Self = Self::new("queue_full", "the queue has as many places as it may");
    pub(super) const QUEUE_LOST: Self =
        Self::new("queue_lost", "nobody knows the places of this queue any more");
    pub(super) const QUEUE_OVER: Self = Self::new("queue_over", "the queue takes nobody any more");
    pub(super) const RATE_LIMITED: Self = Self::new("rate_limited", "too many messages");
    pub(super) const RESUMING: Self = Self::new("busy", "a resume is under way");
    pub(super) const ROOM_FULL: Self = Self::new("room_full", "the room has as many members as it may");
    pub(super) const TOO_MANY_CONNECTIONS: Self =
        Self::new("too_many_connections", "the user has as many connections as allowed");
    pub(super) const TOO_MANY_FAILURES: Self =
        Self::new("rate_limited", "too many refused tokens from this address");
    pub(super) const TOO_MANY_NEWCOMERS: Self =
        Self::new("rate_limited", "too many people without a place token from this address");
    pub(super) const TOO_MANY_PLACES: Self =
        Self::new("too_many_places", "nobody may have more than 16 places in a queue, one after the other");
    pub(super) const TOO_MANY_QUEUES: Self =
        Self::new("too_many_queues", "a connection may wait in 16 queues");
    pub(super) const TOO_MANY_ROOMS: Self = Self::new("too_many_rooms", "a connection may be in 128 rooms");
    pub(super) const UNAVAILABLE: Self = Self::new("unavailable", "the message could not be stored");
    pub(super) const UNKNOWN_TYPE: Self = Self::new("unknown_type", "nobody here understands this type");
}
