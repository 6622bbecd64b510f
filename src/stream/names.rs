//! What a stream's keys and channel are called in Redis.
//!
//! The name of the stream stands in braces: in a cluster, everything of one stream is on one node.

use std::{
    fmt::{Display, Formatter, Result},
    sync::Arc,
};

use crate::event::{Address, Target};

/// The stream of a target, whether it is kept or not; `None`: it has none.
pub fn stream_of(target: &Target) -> Option<Arc<str>> {
    match target {
        Target::User(user) => Some(format!("user:{user}").into()),
        Target::Room(room) => Some(format!("room:{room}").into()),
        Target::Everyone => Some("everyone".into()),
        Target::Connection(_) => None,
    }
}

/// The log of a queue: it is the queue, and nothing of it is let go of as long as it is written.
pub fn is_log(stream: &str) -> bool {
    stream.starts_with("queue:")
}

/// The stream of a room.
pub fn is_room(stream: &str) -> bool {
    stream.starts_with("room:")
}

/// The stream of an address, whether it is kept or not.
pub fn stream_of_address(address: &Address) -> Arc<str> {
    match address {
        Address::User(user) => format!("user:{user}").into(),
        Address::Room(room) => format!("room:{room}").into(),
    }
}

/// What has a channel of its own, beside that of everybody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A user or a room.
    Address(Address),
    /// The log of the queue of an event.
    Queue(Arc<str>),
}

impl Subject {
    /// Its stream, whether that is kept or not.
    pub fn stream(&self) -> Arc<str> {
        match self {
            Self::Address(address) => stream_of_address(address),
            Self::Queue(event_id) => format!("queue:{event_id}").into(),
        }
    }
}

impl From<Address> for Subject {
    fn from(address: Address) -> Self {
        Self::Address(address)
    }
}

/// A name in Redis: prefix, stream in braces, what it is. `Display` writes it.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    /// `REDIS_PREFIX`, `usher:`.
    pub prefix: &'a str,
    /// `user:<id>`, `room:<name>`, `queue:<event>` or `everyone`.
    pub stream: &'a str,
    /// Which of the stream's names.
    pub part: Part<'a>,
}

/// What a stream has a name for.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// The hash with epoch, offset and what is acknowledged.
    Meta,
    /// The entries.
    Log,
    /// What an idempotency key was used for.
    Key(&'a str),
    /// The hash with the last values of Latest keys.
    Latest,
    /// The channel of the stream, and of what is sent to its user or room without being stored.
    Live,
}

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { prefix, stream, part } = self;
        write!(f, "{prefix}{{{stream}}}:")?;
        match part {
            Part::Meta => f.write_str("meta"),
            Part::Log => f.write_str("log"),
            Part::Key(key) => write!(f, "key:{key}"),
            Part::Latest => f.write_str("latest"),
            Part::Live => f.write_str("live"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_stream_share_its_hash_tag() {
        let table = [
            (Part::Meta, "usher:{user:alice}:meta"),
            (Part::Log, "usher:{user:alice}:log"),
            (Part::Key("order 7"), "usher:{user:alice}:key:order 7"),
            (Part::Latest, "usher:{user:alice}:latest"),
            (Part::Live, "usher:{user:alice}:live"),
        ];
        for (part, expected) in table {
            assert_eq!(Name { prefix: "usher:", stream: "user:alice", part }.to_string(), expected);
        }
    }
}
