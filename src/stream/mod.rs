//! Streams of stored events, and what is remembered of calls. Pure.
//!
//! Owns offsets, epochs, entries, idempotency keys and last values, all in memory and bounded. Never decides who gets an
//! event: that is `route`. Invariants: offsets of a stream start at 1 and grow by one within an epoch; entries
//! kept are the newest ones, without a hole.

pub mod envelope;
pub mod expiring;
pub mod fnv;
pub mod history;
pub mod idempotency;
pub mod latest;
pub mod lease;
mod logs;
pub mod names;
pub mod store;
pub mod word;
mod writers;
