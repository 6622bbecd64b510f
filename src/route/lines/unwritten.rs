//! What people ask that changes nothing: answered from the queue as it is, and not written.
//!
//! Owns nothing. Invariant: who has something under way gets nothing from here, so that a client is answered in the order in
//! which it asked. Whoever repeats a join or a leave, over however many connections, would fill the log else, and end the sale.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Lines,
    io::Output,
    room::{Room, Waiter},
    telling::Telling,
};
use crate::{clock::Now, limits::LINE_WAITING_MAX, sale::command::Command};

impl Lines {
    /// What somebody asks: answered, or to be written.
    pub(super) fn ask_of_people(
        &mut self,
        now: Now,
        event_id: &Arc<str>,
        (command, waiter): (Command, Waiter),
        out: &mut Vec<Output>,
    ) {
        if let Some(waiter) = self.answer_unwritten(now, event_id, (&command, waiter), out) {
            if let Some(room) = self.room(event_id) {
                room.note_under_way(&command, &waiter);
            }
            self.command(event_id, command, waiter, out);
        }
    }

    fn answer_unwritten(
        &mut self,
        now: Now,
        event_id: &Arc<str>,
        (command, waiter): (&Command, Waiter),
        out: &mut Vec<Output>,
    ) -> Option<Waiter> {
        let (Some(room), Some(queue)) = (self.rooms.get_mut(event_id), self.queues.get(event_id)) else {
            return Some(waiter);
        };
        let answer = match command {
            _ if room.is_lost() => None,
            Command::Join { holder, instance } if !room.is_under_way(holder) => queue
                .repeated_join(holder, instance)
                // What the log will say of it may be something else than what it says.
                .filter(|answer| {
                    answer.is_err() || room.present.get(&**holder).is_some_and(|here| here.written)
                }),
            Command::Leave { holder } if !room.is_under_way(holder) => queue.repeated_leave(holder),
            _ => None,
        };
        let Some(answer) = answer else { return Some(waiter) };
        Telling { now, room, queue, is_writer: false, out }.answer(
            waiter,
            answer.err(),
            (command, &BTreeSet::new()),
        );
        None
    }
}

impl Room {
    /// Something of the holder waits to be written from now on, or is under way, while the waiter is there.
    fn note_under_way(&mut self, command: &Command, waiter: &Waiter) {
        let (Command::Join { holder, .. } | Command::Leave { holder }) = command else { return };
        let (Waiter::Join { under_way, .. } | Waiter::Leave { under_way, .. }) = waiter else { return };
        if self.under_way.len() >= 2 * LINE_WAITING_MAX {
            self.under_way.retain(|_, under_way| under_way.strong_count() > 0);
        }
        // They are answered in order: the last one is there for longest.
        self.under_way.insert(holder.clone(), Arc::downgrade(under_way));
    }

    /// Nothing is.
    pub(super) fn end_under_way(&mut self) {
        if self.log.is_idle() && !self.under_way.is_empty() {
            self.under_way = HashMap::new();
        }
    }

    fn is_under_way(&self, holder: &str) -> bool {
        self.under_way.get(holder).is_some_and(|under_way| under_way.strong_count() > 0)
    }
}
