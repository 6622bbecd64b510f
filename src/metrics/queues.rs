//! What is counted around waiting rooms.

use super::Cell;

/// Written on the control core.
#[derive(Debug, Default)]
pub struct QueueCells {
    /// 1 while this instance has inlets pause, since what sells is not ready (gauge).
    pub target_down: Cell,
    /// Times that a service of `QUEUE_READY_URLS` said that it is ready.
    pub target_ready: Cell,
    /// Times that one did not.
    pub target_not_ready: Cell,
}
