//! Between cores: bounded lock-free mailboxes and the messages in them.
//!
//! Owns the two message enums, `ToShard` and `ToControl`, and the mailbox that carries each. Never blocks,
//! never drops silently: a full mailbox is an answer to the sender, and each message says what it means.

pub mod mailbox;
pub mod message;

pub use mailbox::{Mailbox, Receiver, Sender, Weigh};
pub use message::{ToControl, ToShard};
