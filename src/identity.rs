//! Who a connection belongs to, as a verified token says.

use std::sync::Arc;

/// The claims that the gateway acts on. Made by `auth`, kept by the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `sub`, else `user_id`, else `userId`; 1 to 256 bytes.
    pub user: Arc<str>,
    /// `exp`, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
    /// The claim `rooms`: globs of rooms that the user may join beyond the public ones.
    pub rooms: Arc<[Box<str>]>,
}
