//! What the integration tests stand on: the real binary, raw sockets, a WebSocket client, tokens, gRPC.
//!
//! Nothing here sleeps: every wait is a read that ends when the awaited thing arrives, or fails after
//! [`PATIENCE`].

pub mod frame;
pub mod grpc;
pub mod http;
pub mod keys;
pub mod redis;
pub mod server;
pub mod ws;

use std::time::Duration;

/// How long a test waits for something that must come before it says that it did not.
pub const PATIENCE: Duration = Duration::from_secs(15);
