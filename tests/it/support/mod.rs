//! What the integration tests stand on: the real binary, raw sockets, a WebSocket client, tokens, gRPC.
//!
//! Nothing here sleeps: every wait is a read that ends when the awaited thing arrives, or fails after
//! [`PATIENCE`].

pub mod frame;
pub mod grpc;
pub mod http;
pub mod keys;
pub mod proxy;
pub mod redis;
pub mod server;
pub mod ws;

use std::time::Duration;

use usher::clock::Now;

/// How long a test waits for something that must come before it says that it did not.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a look finds, which asks the server each time, within [`PATIENCE`].
pub fn look_until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Now::read().after(PATIENCE);
    loop {
        let found = look();
        if found.is_some() || Now::read().mono_ns > end.mono_ns {
            return found;
        }
    }
}

/// Whether that which is asked of the server each time holds within [`PATIENCE`].
pub fn holds_soon(mut look: impl FnMut() -> bool) -> bool {
    look_until(|| look().then_some(())).is_some()
}
