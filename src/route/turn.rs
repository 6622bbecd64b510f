//! One call into the router: what it was told of the shards, and what it has asked of them so far.

use std::sync::Arc;

use super::{Output, ShardView, questions::Room};
use crate::{clock::Now, event::Event, ids::ShardId};

pub(super) struct Turn<'a> {
    pub(super) now: Now,
    /// All shards, by index; empty where nothing can be sent to any.
    pub(super) shards: &'a [ShardView],
    pub(super) out: &'a mut Vec<Output>,
    /// What this turn put into the mailboxes, by shard.
    sent: Vec<Room>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(now: Now, shards: &'a [ShardView], out: &'a mut Vec<Output>) -> Self {
        Self { now, shards, out, sent: Vec::new() }
    }

    /// Whether a shard's mailbox takes the event besides what is reserved in it.
    pub(super) fn fits(&self, shard: ShardId, event: &Event, reserved: Room) -> bool {
        let Some(view) = self.shards.get(shard.index()) else { return false };
        let sent = self.sent.get(shard.index()).copied().unwrap_or_default();
        view.free > sent.count + reserved.count
            && view.free_bytes >= sent.bytes + reserved.bytes + event.payload.len()
    }

    /// Whether a shard's mailbox can spare room for a message of another kind.
    pub(super) fn can_spare(&self, shard: ShardId) -> bool {
        let sent = self.sent.get(shard.index()).map_or(0, |sent| sent.count);
        self.shards.get(shard.index()).is_some_and(|view| view.spare > sent)
    }

    pub(super) fn deliver(&mut self, shard: ShardId, event: &Arc<Event>) {
        self.sent(shard, event.payload.len());
        self.out.push(Output::Deliver { shard, event: event.clone() });
    }

    /// Notes a message that was put into a mailbox.
    pub(super) fn sent(&mut self, shard: ShardId, bytes: usize) {
        self.sent.resize(self.shards.len().max(shard.index() + 1), Room::default());
        self.sent[shard.index()].count += 1;
        self.sent[shard.index()].bytes += bytes;
    }
}
