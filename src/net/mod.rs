//! Sockets, TLS and the HTTP that comes before a WebSocket.
//!
//! Owns the system calls of the client side and the parsing of its requests. Never knows hubs, rooms or
//! messages: bytes, readiness and heads alone.

pub mod claim;
pub mod descriptors;
pub mod handover;
pub mod http;
pub mod listener;
pub mod readiness;
pub mod socket;
pub mod tls;
pub mod tls_session;
pub mod upgrade;
