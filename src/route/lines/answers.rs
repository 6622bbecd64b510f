//! What the store answers, and what other instances publish of the logs.
//!
//! Owns nothing. Invariant: an entry is applied once everything before it was.

use std::sync::Arc;

use super::{
    Lines, OVER_ENDING_MS, has_been_over,
    io::{Denied, Output},
    room::{Question, deny, part, turn_away},
};
use crate::{
    clock::Now,
    event::Event,
    line::{LineDenial, LineState, LineUpdate},
    sale::{
        command::{Command, Entry},
        queue::Queue,
    },
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
            // Of a queue that was over: this is another.
            _ if question == Question::Forget && !log.is_broken => return,
            _ => log.asking = false,
        }
        match answer {
            Answer::Head(Head { epoch, offset, .. }) => {
                log.at = Some(Mark { epoch, offset: 0 });
                log.known = offset;
            }
            Answer::Page(page) if question == Question::Again => self.look_again(event_id, page, out),
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
                if let Some(waiters) = log.refused() {
                    (room.ticking, room.warning) = (false, false);
                    waiters.into_iter().for_each(|waiter| turn_away(waiter, out));
                }
            }
            Answer::Failed(Failure::Parted) => {
                (room.ticking, room.warning) = (false, false);
                log.part().into_iter().for_each(|waiter| part(waiter, out));
            }
            Answer::Failed(_) => {
                log.rests = true;
                log.look |= log.is_broken;
                if let Some(flight) = log.flight.as_mut().filter(|_| question == Question::Append) {
                    flight.may_be_stored = true;
                }
                log.take_looks().into_iter().for_each(|waiter| turn_away(waiter, out));
                if question == Question::Head {
                    log.take_waiters().into_iter().for_each(|waiter| turn_away(waiter, out));
                }
            }
            Answer::KeyReused | Answer::Acknowledged(_) | Answer::Remembered | Answer::Recalled(_) => {}
            Answer::Forgotten => self.begin_anew(event_id, out),
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
            None if self
                .queues
                .get(event_id)
                .is_some_and(|queue| queue.is_closed() || has_been_over(queue, now, OVER_ENDING_MS)) =>
            {
                self.forget(event_id, out);
            }
            None => self.lose(event_id, out),
        }
    }

    /// The beginning of the log is gone, or it is another history: nobody may be told places that do not hold.
    fn lose(&mut self, event_id: &Arc<str>, out: &mut Vec<Output>) {
        let Some(room) = self.rooms.get_mut(event_id) else { return };
        tracing::error!(event_id = &**event_id, "the log of a queue was lost: the queue has ended");
        (room.log.is_broken, room.log.look) = (true, true);
        for waiter in room.log.take_waiters().into_iter().chain(room.log.take_looks()) {
            deny(waiter, LineDenial::Lost, Denied::Lost, out);
        }
        if let Some(queue) = self.queues.get(event_id) {
            let line = queue.line(None);
            let (epoch, sequence) = (room.epoch, line.sequence + 1);
            let update = Arc::new(LineUpdate { epoch, sequence, state: LineState::Lost, ..line });
            room.lost = Some(Arc::clone(&update));
            out.push(Output::Line { shard: None, update });
        }
    }

    /// Whoever opens the queue anew, here or on another instance, does so in another log. One that only lost its end is let
    /// go of for that, so that none of its places comes back.
    fn look_again(&mut self, event_id: &Arc<str>, page: Page, out: &mut Vec<Output>) {
        let Some(room) = self.rooms.get_mut(event_id) else { return };
        let Page { head, events, .. } = page;
        let Some(events) = events else {
            return match &mut room.log.at {
                // What is left of it, or what came after it, has another name.
                Some(at) if !head.epoch.is_empty() && at.epoch != head.epoch => {
                    (at.epoch, room.log.look) = (head.epoch, true);
                }
                _ => self.begin_anew(event_id, out),
            };
        };
        let lost = self.queues.get(event_id).map(Queue::began_ms);
        if lost.is_some() && began_ms(&events) != lost {
            self.begin_anew(event_id, out);
        } else if room.log.opens()
            && let Some(ask) = room.forget()
        {
            room.log.asking = true;
            self.ask(Question::Forget, event_id, ask, out);
        }
    }

    fn begin_anew(&mut self, event_id: &Arc<str>, out: &mut Vec<Output>) {
        let Some(room) = self.rooms.get_mut(event_id) else { return };
        self.epoch_last += 1;
        room.begin_anew(self.epoch_last);
        self.queues.remove(event_id);
        if room.followed {
            // What was made of the queue goes.
            let interest = |on| Output::Interest { event_id: Arc::clone(event_id), on };
            out.extend([interest(false), interest(true)]);
        }
    }

    pub(super) fn heard(&mut self, now: Now, event: &Arc<Event>, out: &mut Vec<Output>) {
        let Some(position) = &event.position else { return };
        let Some(event_id) = position.stream.strip_prefix("queue:") else { return };
        let Some((event_id, _)) = self.rooms.get_key_value(event_id) else { return };
        let event_id = Arc::clone(event_id);
        let Some(room) = self.rooms.get_mut(&event_id) else { return };
        self.active.insert(Arc::clone(&event_id));
        room.log.look |= room.log.is_broken;
        if !room.log.is_broken && room.log.note(&position.epoch, position.offset) && !room.log.is_unsettled()
        {
            self.apply(now, &event_id, event, out);
        }
    }
}

/// When the queue began whose log begins so, wall ms.
fn began_ms(events: &[Arc<Event>]) -> Option<u64> {
    let mut entries = events.iter().filter_map(|event| Entry::decode(&event.payload).ok());
    let begins = |entry: &Entry| entry.commands.iter().any(|command| matches!(command, Command::Open(_)));
    entries.find(begins).map(|entry| entry.at_ms)
}
