//! What the store answers, and what other instances publish of the logs.
//!
//! Owns nothing. Invariant: an entry is applied once everything before it was.

use std::sync::Arc;

use super::{
    Lines,
    io::{Denied, Output},
    room::{Question, deny, turn_away},
};
use crate::{
    clock::Now,
    event::Event,
    line::{LineDenial, LineState, LineUpdate},
    stream::store::{Answer, Failure, Head, Mark, Page},
};

impl Lines {
    pub(super) fn answered(
        &mut self,
        now: Now,
        (question, event_id): (Question, &Arc<str>),
        answer: Answer,
        out: &mut Vec<Output>,
    ) {
        let Some(room) = self.rooms.get_mut(event_id) else { return };
        let log = &mut room.log;
        match &mut log.flight {
            Some(flight) if question == Question::Append => flight.asked = false,
            _ => log.asking = false,
        }
        match answer {
            Answer::Head(Head { epoch, offset, .. }) => {
                log.at = Some(Mark { epoch, offset: 0 });
                log.known = offset;
            }
            Answer::Page(page) => self.page(now, event_id, page, out),
            Answer::Appended(event) => {
                let Some(position) = &event.position else { return };
                if log.stored(position) {
                    self.apply(now, event_id, &event, out);
                }
            }
            // It is read, since nobody sent it along.
            Answer::Repeated(position) => {
                let _is_next = log.stored(&position);
            }
            Answer::Failed(Failure::Refused) if question == Question::Append => {
                (room.ticking, room.warning) = (false, false);
                let waiters = log.flight.take().map(|flight| flight.waiters).unwrap_or_default();
                waiters.into_iter().flatten().for_each(|waiter| turn_away(waiter, out));
            }
            Answer::Failed(_) => {
                log.rests = true;
                log.take_looks().into_iter().for_each(|waiter| turn_away(waiter, out));
                if question == Question::Head {
                    log.take_waiters().into_iter().for_each(|waiter| turn_away(waiter, out));
                }
            }
            Answer::KeyReused
            | Answer::Acknowledged(_)
            | Answer::Remembered
            | Answer::Recalled(_)
            | Answer::Forgotten => {}
        }
    }

    /// What follows in the log.
    fn page(&mut self, now: Now, event_id: &Arc<str>, page: Page, out: &mut Vec<Output>) {
        let Some(room) = self.rooms.get_mut(event_id) else { return };
        let Some(at) = &mut room.log.at else { return };
        match page.events {
            Some(events) => {
                at.epoch = page.head.epoch;
                room.log.known = room.log.known.max(page.head.offset);
                for event in events {
                    self.apply(now, event_id, &event, out);
                }
                self.show_looks(event_id, out);
            }
            // What is over may be forgotten.
            None if self.queues.get(event_id).is_some_and(|queue| queue.closed_ms().is_some()) => {
                self.forget(event_id, out);
            }
            None => self.lose(event_id, out),
        }
    }

    /// The beginning of the log is gone, or it is another history: nobody may be told places that do not hold.
    fn lose(&mut self, event_id: &Arc<str>, out: &mut Vec<Output>) {
        let Some(room) = self.rooms.get_mut(event_id) else { return };
        tracing::error!(event_id = &**event_id, "the log of a queue was lost: the queue has ended");
        room.log.is_broken = true;
        for waiter in room.log.take_waiters().into_iter().chain(room.log.take_looks()) {
            deny(waiter, LineDenial::Lost, Denied::Lost, out);
        }
        if let Some(queue) = self.queues.get(event_id) {
            let line = queue.line(None);
            let (epoch, sequence) = (room.epoch, line.sequence + 1);
            let update = Arc::new(LineUpdate { epoch, sequence, state: LineState::Lost, ..line });
            out.push(Output::Line { shard: None, update });
        }
    }

    pub(super) fn heard(&mut self, now: Now, event: &Arc<Event>, out: &mut Vec<Output>) {
        let Some(position) = &event.position else { return };
        let Some(event_id) = position.stream.strip_prefix("queue:") else { return };
        let Some((event_id, _)) = self.rooms.get_key_value(event_id) else { return };
        let event_id = Arc::clone(event_id);
        let Some(room) = self.rooms.get_mut(&event_id) else { return };
        self.active.insert(Arc::clone(&event_id));
        if !room.log.is_broken && room.log.note(&position.epoch, position.offset) && !room.log.is_unsettled()
        {
            self.apply(now, &event_id, event, out);
        }
    }
}
