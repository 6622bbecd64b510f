//! Control's end of the two mailboxes that it shares with one shard.
//!
//! Owns what waits for room in the shard's mailbox, in order. Never lets a delivery overtake what waits.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    limits::{DELIVERIES_RESERVE, HELD_BACK_MAX, TO_SHARD_BYTES_MAX},
    mesh::{Receiver, Sender, ToControl, ToShard},
    metrics::MailboxCells,
};

/// The mailboxes to and from one shard, as topology made them.
#[derive(Debug)]
pub struct ShardLink {
    /// To the shard; control is its only sender.
    pub to: Sender<ToShard>,
    /// From the shard.
    pub from: Receiver<ToControl>,
    /// Set by the shard while it has counts that it could not tell yet.
    pub lagging: Arc<AtomicBool>,
}

/// A link in use.
#[derive(Debug)]
pub(super) struct Link {
    to: Sender<ToShard>,
    pub(super) from: Receiver<ToControl>,
    lagging: Arc<AtomicBool>,
    /// Waits for room; tried before anything else.
    held_back: VecDeque<ToShard>,
    /// Whether the shard was lagging before its mailbox was last emptied.
    was_lagging: bool,
    /// The shard said [`ToControl::Drained`].
    pub(super) drained: bool,
}

impl Link {
    pub(super) fn new(link: ShardLink) -> Self {
        Self {
            to: link.to,
            from: link.from,
            lagging: link.lagging,
            held_back: VecDeque::new(),
            was_lagging: false,
            drained: false,
        }
    }

    /// Messages that can be delivered now.
    pub(super) fn free(&self) -> usize {
        if self.held_back.is_empty() { self.to.free() } else { 0 }
    }

    /// Bytes of payloads that can be delivered now.
    pub(super) fn free_bytes(&self) -> usize {
        TO_SHARD_BYTES_MAX.saturating_sub(self.to.bytes())
    }

    /// Those of the free messages that may be used for what can wait.
    pub(super) fn spare(&self) -> usize {
        self.free().saturating_sub(DELIVERIES_RESERVE)
    }

    /// Whether the directory may miss somebody whom this shard holds.
    pub(super) fn is_lagging(&self) -> bool {
        self.was_lagging || self.lagging.load(Ordering::Acquire)
    }

    /// Looks at the flag; the mailbox is to be emptied afterwards.
    pub(super) fn look_whether_lagging(&mut self) {
        self.was_lagging = self.lagging.load(Ordering::Acquire);
    }

    /// Whether anything waits for room.
    pub(super) fn holds_back(&self) -> bool {
        !self.held_back.is_empty()
    }

    /// Whether an order would have to wait behind a full list.
    pub(super) fn is_full(&self) -> bool {
        self.held_back.len() >= HELD_BACK_MAX
    }

    /// Sends what was waiting, oldest first.
    pub(super) fn retry(&mut self) {
        while let Some(message) = self.held_back.pop_front() {
            if let Err(message) = self.to.try_send(message) {
                self.held_back.push_front(message);
                return;
            }
        }
    }

    /// Sends a message that must not be lost, now or later. A shard that drained has nobody that it could be for.
    pub(super) fn order(&mut self, message: ToShard) {
        if self.drained {
            tracing::trace!("a message for a shard that drained");
        } else if self.holds_back() {
            self.held_back.push_back(message);
        } else if let Err(message) = self.to.try_send(message) {
            self.held_back.push_back(message);
        }
    }

    /// Sends an answer, now or later; `false`: it is lost, the list of what waits being full. The connection that it
    /// was for runs into its own time limit.
    #[must_use]
    pub(super) fn answer(&mut self, message: ToShard) -> bool {
        let fits = !self.is_full();
        if fits {
            self.order(message);
        }
        fits
    }

    /// Writes down how full the mailboxes are.
    pub(super) fn measure(&self, cells: &MailboxCells) {
        cells.to_shard_waiting.set((self.to.len() + self.held_back.len()) as u64);
        cells.to_shard_bytes.set(self.to.bytes() as u64);
        cells.to_shard_refused.set(self.to.refused());
        cells.to_control_waiting.set(self.from.len() as u64);
        cells.to_control_refused.set(self.from.refused());
        cells.lagging.set(u64::from(self.is_lagging()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Mailbox;

    fn link(capacity: usize) -> (Link, Receiver<ToShard>) {
        let (to, inbox) = Mailbox::bounded(capacity);
        let (_, from) = Mailbox::bounded(1);
        (Link::new(ShardLink { to, from, lagging: Arc::default() }), inbox)
    }

    fn disconnect(user: &str) -> ToShard {
        ToShard::Disconnect { user: user.into() }
    }

    fn users(inbox: &mut Receiver<ToShard>) -> Vec<String> {
        std::iter::from_fn(|| inbox.try_recv())
            .map(|message| match message {
                ToShard::Disconnect { user } => user.to_string(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_waits_for_room_keeps_its_order_and_stops_deliveries() {
        let (mut link, mut inbox) = link(2);
        for user in ["a", "b", "c", "d"] {
            link.order(disconnect(user));
        }
        assert_eq!((link.free(), users(&mut inbox)), (0, vec!["a".into(), "b".into()]));
        link.order(disconnect("e"));
        assert_eq!(link.free(), 0);
        link.retry();
        assert_eq!(users(&mut inbox), ["c", "d"]);
        link.retry();
        assert_eq!((users(&mut inbox), link.holds_back(), link.free()), (vec!["e".into()], false, 2));
    }

    #[test]
    fn an_answer_is_lost_only_behind_a_full_list() {
        let (mut link, _inbox) = link(1);
        for n in 0..=HELD_BACK_MAX {
            assert!(link.answer(disconnect(&n.to_string())));
        }
        assert!(!link.answer(disconnect("late")));
    }

    #[test]
    fn what_can_wait_never_crowds_out_deliveries() {
        let (mut link, _inbox) = link(DELIVERIES_RESERVE + 1);
        assert_eq!(link.spare(), 1);
        link.order(disconnect("x"));
        assert_eq!((link.spare(), link.free()), (0, DELIVERIES_RESERVE));
    }
}
