//! What is counted around last values of Latest keys.

use super::Cell;

/// Written on the control core.
#[derive(Debug, Default)]
pub struct LatestCells {
    /// Values kept (gauge).
    pub values: Cell,
    /// Bytes of them (gauge).
    pub bytes: Cell,
    /// Values that made room for others.
    pub evicted: Cell,
    /// Values sent to who came in.
    pub shown: Cell,
    /// Values that the store will not have, too many being to be stored.
    pub unsaved: Cell,
}
