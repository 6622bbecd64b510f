//! What is counted around Redis: the bus, and the store in it.

use super::Cell;

/// Patterns of channels of other services, as [`RedisCells::heard`] counts them.
pub const REDIS_PATTERNS: [&str; 8] =
    ["user_noti:*", "booking:*", "payment:*", "ticket:*", "user:*", "event:*", "room:*", "system:*"];

/// Why messages of other services are refused, as [`RedisCells::malformed`] counts them.
pub const REDIS_MALFORMED: [&str; 7] =
    ["channel", "too_large", "json", "not_an_object", "type", "user", "room"];

/// The bus. Zeros where there is none.
#[derive(Debug, Default)]
pub struct RedisCells {
    /// 1 while Redis can be reached (gauge).
    pub up: Cell,
    /// 1 while the router knows that it can (gauge).
    pub followed: Cell,
    /// Times that it could be reached again, the first included.
    pub sessions: Cell,
    /// Tries to reach it that failed.
    pub connect_failures: Cell,
    /// Addresses whose channel is subscribed (gauge).
    pub subscriptions: Cell,
    /// Events shared with other instances.
    pub published: Cell,
    /// Events not shared, since the command failed or was not answered.
    pub failed: Cell,
    /// Events not shared, for want of room or of a Redis.
    pub refused: Cell,
    /// Messages on channels of our own.
    pub shared_heard: Cell,
    /// Messages of other services, by [`REDIS_PATTERNS`].
    pub heard: [Cell; REDIS_PATTERNS.len()],
    /// Those of them that were refused, by [`REDIS_MALFORMED`].
    pub malformed: [Cell; REDIS_MALFORMED.len()],
    /// Those of them that were lost for want of room.
    pub dropped: Cell,
    /// Connections given up since control was too slow to hear what instances share.
    pub overflows: Cell,
}

/// What became of Critical events of foreign channels, which every instance hears and one stores.
#[derive(Debug, Default)]
pub struct ForeignCells {
    /// Kept for a while (gauge).
    pub kept: Cell,
    /// Bytes of their payloads (gauge).
    pub bytes: Cell,
    /// Stored that a holder of the lease had left behind, or was about to store.
    pub rescued: Cell,
    /// Looked for so, and found stored.
    pub found: Cell,
    /// Given up for want of room.
    pub overflowed: Cell,
    /// Given up after their time, while nobody was known to hold the lease.
    pub lapsed: Cell,
}

/// What became of questions to the store in Redis, beside its answers.
#[derive(Debug, Default)]
pub struct StoreCells {
    /// 1 while this instance stores what every instance hears (gauge).
    pub ingests: Cell,
    /// There was no room for them.
    pub full: Cell,
    /// Redis did not answer in time.
    pub timed_out: Cell,
    /// The connection broke.
    pub broken: Cell,
    /// Redis answered with an error.
    pub refused: Cell,
    /// There was no connection, or one that says nothing.
    pub down: Cell,
    /// Events that were stored and not published.
    pub unpublished: Cell,
}
