//! What is counted around waiting rooms.

use std::sync::Arc;

use super::Cell;

/// Where places are on their way, as [`QueueSample::places`] counts them.
pub const QUEUE_STATES: [&str; 8] =
    ["waiting", "departed", "left", "holding", "inside", "expired", "completed", "abandoned"];

/// One queue, the same on all instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSample {
    /// Of which event.
    pub event_id: Arc<str>,
    /// Everybody up to this place was let in or passed over.
    pub serving: u32,
    /// Places, whatever became of them.
    pub total: u32,
    /// People who ever got a pass.
    pub admitted: u32,
    /// Places by [`QUEUE_STATES`].
    pub places: [u32; QUEUE_STATES.len()],
    /// Bytes of its log, with what keeping the entries takes.
    pub log_bytes: u64,
}

/// Why what clients and operators want of queues is refused, as [`QueueCells::refused`] counts it: by
/// [`crate::line::LineDenial`], and by the rules of the queue where an operator asked.
pub const QUEUE_REFUSALS: [&str; 11] = [
    "no_queue",
    "over",
    "full",
    "too_many_places",
    "lost",
    "another",
    "bad_token",
    "not_in",
    "rate_limited",
    "overloaded",
    "rules",
];

/// What became of passes of users, as [`QueueCells::passes`] counts it: in the user's stream; tries that failed; used otherwise,
/// given up or expired before; without room, and so told at `queue:join` alone.
pub const QUEUE_PASSES: [&str; 4] = ["stored", "failed", "over", "dropped"];

/// Written on the control core.
#[derive(Debug, Default)]
pub struct QueueCells {
    /// Queues that are followed (gauge).
    pub followed: Cell,
    /// Of them, those whose log was lost (gauge).
    pub lost: Cell,
    /// Entries of logs that this instance wrote.
    pub entries_written: Cell,
    /// Entries of logs that were applied, its own ones too.
    pub entries_applied: Cell,
    /// Entries of logs that nobody could read.
    pub entries_unreadable: Cell,
    /// Shards that missed news of a queue, and got all of it.
    pub lines_missed: Cell,
    /// Passes of users that are not known to be stored (gauge).
    pub passes_untold: Cell,
    /// What became of the others, by [`QUEUE_PASSES`].
    pub passes: [Cell; QUEUE_PASSES.len()],
    /// What was refused, by [`QUEUE_REFUSALS`].
    pub refused: [Cell; QUEUE_REFUSALS.len()],
    /// 1 while this instance has inlets pause, since what sells is not ready (gauge).
    pub target_down: Cell,
    /// Times that a service of `QUEUE_READY_URLS` said that it is ready.
    pub target_ready: Cell,
    /// Times that one did not.
    pub target_not_ready: Cell,
}
