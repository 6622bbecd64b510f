//! The waiting rooms of an instance: their logs written and applied, what came of it told.
//!
//! Owns the queues, how far their logs were applied, and which holders have connections here. Never decides anything about
//! a queue: [`crate::sale::queue`] does, when an entry is applied, the same on every instance. Invariants: what is told
//! was applied before, and what was applied is stored; who is connected here is written again until the log says the same.
//! Talks to its driver through [`Input`] and [`Output`].
//!
//! Reading order: `io`, `log`, this file, `telling`.

pub mod io;
mod log;
mod telling;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use self::{
    io::{Denied, Input, Output},
    log::Log,
};
use crate::{
    clock::Now,
    event::Event,
    ids::ShardId,
    limits::{LINES_FOLLOWED_MAX, OVERLOAD_RETRY, REPLAY_PAGE_EVENTS_MAX},
    line::{LineDenial, LineRequest},
    route::{Instances, Ticket, Token},
    sale::{
        command::Command,
        queue::{Mark as Told, Refusal},
        queues::Queues,
    },
    stream::store::{Answer, Ask, Failure, Head, Mark, Page},
};

/// Tickets of waiting rooms have this bit, so that they are told from the router's.
pub const TICKET_BIT: Ticket = 1 << 63;

/// All waiting rooms of this instance.
#[derive(Debug)]
pub struct Lines {
    /// Names this start of this instance, `1..=INSTANCE_BYTES_MAX` bytes.
    instance: Box<str>,
    instances: Instances,
    queues: Queues,
    rooms: BTreeMap<Arc<str>, Room>,
    asked: HashMap<Ticket, (Question, Arc<str>)>,
    ticket_last: Ticket,
    /// When the logs were last looked at, monotonic ns.
    polled_ns: u64,
}

/// What the store was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Head,
    Read,
    Append,
}

/// What this instance has of one queue beside its state.
#[derive(Debug)]
struct Room {
    stream: Arc<str>,
    log: Log,
    /// What all shards were told of the line.
    told: Option<Told>,
    present: HashMap<Arc<str>, Present>,
    /// Holders whose presence may have to be written.
    changed: BTreeSet<Arc<str>>,
    /// Whoever got a place and may never come into it: until when, monotonic ns.
    seated: VecDeque<(u64, Arc<str>)>,
    /// A tick waits to be written, or is under way.
    ticking: bool,
}

/// The connections of a holder here.
#[derive(Debug, Default)]
struct Present {
    by_shard: Vec<u32>,
    /// What the log says of this instance.
    written: bool,
}

impl Present {
    fn count(&self) -> u32 {
        self.by_shard.iter().sum()
    }
}

/// Who waits for what comes of a command.
#[derive(Debug)]
enum Waiter {
    Join { place_token: Option<Box<str>>, asked: Box<LineRequest> },
    Leave(Box<LineRequest>),
    Operator(Token),
}

impl Lines {
    /// No queue is known yet. The seed names this start.
    pub fn new(instances: Instances, seed: u64) -> Self {
        Self {
            instance: format!("{seed:016x}").into(),
            instances,
            queues: Queues::default(),
            rooms: BTreeMap::new(),
            asked: HashMap::new(),
            ticket_last: TICKET_BIT,
            polled_ns: 0,
        }
    }

    /// Whether the store's answer is for these.
    pub const fn is_ticket(ticket: Ticket) -> bool {
        ticket & TICKET_BIT != 0
    }

    /// Takes something in; what is to be done comes out, in order. [`Lines::flush`] ends a turn.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Join { holder, place_token, asked } => {
                let (event_id, instance) = (Arc::clone(&asked.event_id), self.instance.clone());
                let command = Command::Join { holder: (*holder).into(), instance };
                self.command(&event_id, command, Waiter::Join { place_token, asked }, out);
            }
            Input::Leave { holder, asked } => {
                let event_id = Arc::clone(&asked.event_id);
                let command = Command::Leave { holder: (*holder).into() };
                self.command(&event_id, command, Waiter::Leave(asked), out);
            }
            Input::Waiting { shard, event_id, holder, connections } => {
                self.waiting(shard, &event_id, holder, connections);
            }
            Input::Lost { shard, event_id } => {
                if let Some(queue) = self.queues.get(&event_id) {
                    out.push(Output::Line { shard: Some(shard), update: Arc::new(queue.line(None)) });
                }
            }
            Input::Operate { token, event_id, command } => {
                // To look is to move the time: nothing is older than what the caller did before.
                let command = command.unwrap_or(Command::Tick);
                self.command(&event_id, command, Waiter::Operator(token), out);
            }
            Input::Answered { ticket, answer } => {
                if let Some((question, event_id)) = self.asked.remove(&ticket) {
                    self.answered(now, (question, &event_id), answer, out);
                }
            }
            Input::Stored(event) => self.heard(now, &event, out),
            Input::Tick { leads } => self.tick(now, leads),
        }
    }

    /// Asks the store for what this turn brought; many commands are one entry.
    pub fn flush(&mut self, now: Now, out: &mut Vec<Output>) {
        let Self { instance, rooms, asked, ticket_last, queues, .. } = self;
        for (event_id, room) in rooms.iter_mut() {
            if queues.get(event_id).is_some() {
                room.write_presence(instance);
            } else if room.log.is_current() {
                room.changed.clear();
                room.log
                    .take_before_open()
                    .into_iter()
                    .for_each(|waiter| telling::refuse(waiter, Refusal::NoQueue, out));
            }
            if let Some((question, ask)) = room.next_ask(now, instance) {
                *ticket_last += 1;
                asked.insert(*ticket_last, (question, Arc::clone(event_id)));
                out.push(Output::Ask { ticket: *ticket_last, ask });
            }
        }
        rooms.retain(|event_id, room| {
            queues.get(event_id).is_some() || !room.log.is_idle() || !room.log.is_current()
        });
    }

    fn command(&mut self, event_id: &Arc<str>, command: Command, waiter: Waiter, out: &mut Vec<Output>) {
        let waiter = match self.room(event_id) {
            Some(room) if !room.log.is_broken => room.log.push(command, Some(waiter)).err().flatten(),
            _ => Some(waiter),
        };
        if let Some(waiter) = waiter {
            turn_away(waiter, out);
        }
    }

    /// What there is of the queue; begins to follow it. `None`: too many are followed.
    fn room(&mut self, event_id: &Arc<str>) -> Option<&mut Room> {
        if !self.rooms.contains_key(event_id) && self.rooms.len() >= LINES_FOLLOWED_MAX {
            return None;
        }
        Some(self.rooms.entry(Arc::clone(event_id)).or_insert_with(|| Room {
            stream: format!("queue:{event_id}").into(),
            log: Log::default(),
            told: None,
            present: HashMap::new(),
            changed: BTreeSet::new(),
            seated: VecDeque::new(),
            ticking: false,
        }))
    }

    fn waiting(&mut self, shard: ShardId, event_id: &Arc<str>, holder: Arc<str>, connections: u32) {
        let Some(room) = self.room(event_id) else { return };
        let present = room.present.entry(Arc::clone(&holder)).or_default();
        let length = present.by_shard.len().max(shard.index() + 1);
        present.by_shard.resize(length, 0);
        present.by_shard[shard.index()] = connections;
        room.changed.insert(holder);
    }

    fn answered(
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
                room.ticking = false;
                let waiters = log.flight.take().map(|flight| flight.waiters).unwrap_or_default();
                waiters.into_iter().flatten().for_each(|waiter| turn_away(waiter, out));
            }
            Answer::Failed(_) => {
                log.rests = true;
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
            }
            None => {
                // The beginning is gone, or this is another history: nobody may be told places that do not hold.
                tracing::error!(event_id = &**event_id, "the log of a queue was lost");
                room.log.is_broken = true;
                room.log.take_waiters().into_iter().for_each(|waiter| turn_away(waiter, out));
            }
        }
    }

    fn heard(&mut self, now: Now, event: &Arc<Event>, out: &mut Vec<Output>) {
        let Some(position) = &event.position else { return };
        let Some(event_id) = position.stream.strip_prefix("queue:") else { return };
        let Some((event_id, _)) = self.rooms.get_key_value(event_id) else { return };
        let event_id = Arc::clone(event_id);
        let Some(room) = self.rooms.get_mut(&event_id) else { return };
        if room.log.note(&position.epoch, position.offset) && !room.log.is_unsettled() {
            self.apply(now, &event_id, event, out);
        }
    }

    fn tick(&mut self, now: Now, leads: bool) {
        let polls = matches!(self.instances, Instances::Several)
            && now.mono_ns.saturating_sub(self.polled_ns) >= POLL.as_nanos() as u64;
        if polls {
            self.polled_ns = now.mono_ns;
        }
        let late_ms = if leads { 0 } else { TICK_LATE.as_millis() as u64 };
        for (event_id, room) in &mut self.rooms {
            room.log.rests = false;
            while let Some((_, holder)) = room.seated.pop_front_if(|(due_ns, _)| *due_ns <= now.mono_ns) {
                room.changed.insert(holder);
            }
            let due = self.queues.get(event_id).and_then(|queue| queue.next_due_ms());
            if !room.ticking && due.is_some_and(|due_ms| due_ms + late_ms <= now.wall_ms) {
                room.ticking = room.log.push(Command::Tick, None).is_ok();
            }
            room.log.look |= polls;
        }
    }
}

impl Room {
    /// What the store is to be asked next.
    fn next_ask(&mut self, now: Now, instance: &str) -> Option<(Question, Ask)> {
        let Self { stream, log, .. } = self;
        if log.rests || log.asking || log.is_broken {
            return None;
        }
        let Some(at) = &log.at else {
            log.asking = true;
            return Some((Question::Head, Ask::Head { stream: Arc::clone(stream), known: None }));
        };
        if !log.is_unsettled() && (at.offset < log.known || std::mem::take(&mut log.look)) {
            log.asking = true;
            return Some((Question::Read, read(stream, at)));
        }
        Some((Question::Append, Ask::Append(log.next_append(now, instance, stream)?)))
    }

    /// Writes who came and who went, as far as the log does not say it.
    fn write_presence(&mut self, instance: &str) {
        while let Some(holder) = self.changed.pop_first() {
            let Some(present) = self.present.get_mut(&holder) else { continue };
            let (is_here, instance) = (present.count() > 0, instance.into());
            if is_here == present.written {
                continue;
            }
            let name = (*holder).into();
            let command = match is_here {
                true => Command::Here { holder: name, instance },
                false => Command::Away { holder: name, instance },
            };
            if self.log.push(command, None).is_err() {
                self.changed.insert(holder);
                return;
            }
            present.written = is_here;
            if !is_here {
                self.present.remove(&holder);
            }
        }
    }
}

fn read(stream: &Arc<str>, at: &Mark) -> Ask {
    Ask::Read {
        stream: Arc::clone(stream),
        epoch: Arc::clone(&at.epoch),
        after: at.offset,
        count_max: REPLAY_PAGE_EVENTS_MAX,
    }
}

/// Nothing was written.
fn turn_away(waiter: Waiter, out: &mut Vec<Output>) {
    let denial = LineDenial::Overloaded { retry_after_ms: OVERLOAD_RETRY.as_millis() as u32 };
    out.push(match waiter {
        Waiter::Join { asked, .. } => Output::Denied { asked, leave: false, denial },
        Waiter::Leave(asked) => Output::Denied { asked, leave: true, denial },
        Waiter::Operator(token) => Output::Operated { token, result: Err(Denied::Unwritable) },
    });
}

/// Between two looks at logs to which other instances append.
const POLL: Duration = Duration::from_millis(250);
/// So late is the one that should tick before the others do.
const TICK_LATE: Duration = Duration::from_secs(1);
