//! The waiting rooms of an instance: their logs written and applied, what came of it told.
//!
//! Owns the queues, how far their logs were applied, and which holders have connections here. Never decides anything about
//! a queue: [`crate::sale::queue`] does, when an entry is applied, the same on every instance. Invariants: what is told
//! was applied before, and what was applied is stored; who is connected here is written again until the log says the same.
//! Talks to its driver through [`Input`] and [`Output`].
//!
//! Reading order: `io`, `log`, `room`, this file, `answers`, `telling`, `unwritten`.

mod answers;
pub mod io;
mod log;
mod room;
mod telling;
#[cfg(test)]
mod tests;
mod unwritten;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use self::{
    io::{Denied, Input, Output, Target},
    room::{Question, Room, Waiter, deny, give_up, part, turn_away},
};
use crate::{
    clock::Now,
    ids::ShardId,
    limits::{LINE_COUNT_INTERVAL, LINES_FOLLOWED_MAX, QUEUE_LOGS_BYTES_MAX},
    line::{LineDenial, LineUpdate},
    route::{Ticket, Token},
    sale::{
        command::Command,
        queue::{Queue, Refusal},
        queues::Queues,
    },
    stream::{store::Ask, word::InstanceId},
};

/// Tickets of waiting rooms have this bit, so that they are told from the router's.
pub const TICKET_BIT: Ticket = 1 << 63;

/// All waiting rooms of this instance.
#[derive(Debug)]
pub struct Lines {
    /// Names this start of this instance, `1..=INSTANCE_BYTES_MAX` bytes.
    instance: Box<str>,
    queues: Queues,
    rooms: BTreeMap<Arc<str>, Room>,
    asked: HashMap<Ticket, (Question, Arc<str>)>,
    ticket_last: Ticket,
    /// When the logs were last looked at, monotonic ns.
    looked_ns: u64,
    /// When shards were told last how long lines are, monotonic ns.
    counted_ns: u64,
    /// Queues about which something may have to be asked.
    active: BTreeSet<Arc<str>>,
    /// Instances in the logs that are not heard of: since when, monotonic ns.
    silent: BTreeMap<Box<str>, u64>,
    /// How long that may be, beside the time after which nobody counts it (`PRESENCE_TIMEOUT`): time for one that is
    /// heard of for the first time.
    silence_max: Duration,
    /// Queues that began here.
    epoch_last: u64,
    counts: Counts,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries of this instance that were stored and applied.
    pub written: u64,
    /// Entries that were applied, whoever wrote them.
    pub applied: u64,
    /// Entries that are none, and were skipped.
    pub unreadable: u64,
    /// Shards that missed news of a queue.
    pub missed: u64,
}

impl Lines {
    /// No queue is known yet. The seed names this start; who is connected to an instance that is not heard of for
    /// `silence_max` is away.
    pub fn new(seed: u64, silence_max: Duration) -> Self {
        Self {
            instance: format!("{seed:016x}").into(),
            queues: Queues::default(),
            rooms: BTreeMap::new(),
            asked: HashMap::new(),
            ticket_last: TICKET_BIT,
            looked_ns: 0,
            counted_ns: 0,
            active: BTreeSet::new(),
            silent: BTreeMap::new(),
            silence_max,
            epoch_last: 0,
            counts: Counts::default(),
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
                let waiter = Waiter::Join { place_token, asked, under_way: Arc::default() };
                self.ask_of_people(now, &event_id, (command, waiter), out);
            }
            Input::Leave { holder, asked } => {
                let event_id = Arc::clone(&asked.event_id);
                let command = Command::Leave { holder: (*holder).into() };
                let waiter = Waiter::Leave { asked, under_way: Arc::default() };
                self.ask_of_people(now, &event_id, (command, waiter), out);
            }
            Input::Waiting { shard, event_id, holder, connections } => {
                self.waiting(shard, &event_id, holder, connections);
            }
            Input::Lost { shard, event_id } => {
                let room = self.rooms.get(&event_id);
                if let Some(update) = room.and_then(|room| room.lost.clone()) {
                    out.push(Output::Line { shard: Some(shard), update });
                } else if let (Some(queue), Some(room)) = (self.queues.get(&event_id), room) {
                    let update = Arc::new(LineUpdate { epoch: room.epoch, ..queue.line(None) });
                    self.counts.missed += 1;
                    out.push(Output::Line { shard: Some(shard), update });
                }
            }
            Input::Operate { token, event_id, run, command: Some(command) } => {
                self.command(&event_id, command, Waiter::Operator { token, run }, out);
            }
            Input::Operate { token, event_id, command: None, .. } => self.look(&event_id, token, out),
            Input::Subscribed { event_id } => {
                if let Some(room) = self.rooms.get_mut(&event_id) {
                    room.log.look = true;
                    self.active.insert(event_id);
                }
            }
            Input::Answered { ticket, answer } => {
                if let Some((question, event_id)) = self.asked.remove(&ticket) {
                    self.active.insert(Arc::clone(&event_id));
                    self.answered(now, (question, &event_id), answer, out);
                }
            }
            Input::Stored(event) => self.heard(now, &event, out),
            Input::Tick { leads, others, target } => {
                let target = if leads { target } else { Target::Unknown };
                self.tick(now, (leads, target), others.as_deref(), out);
            }
        }
    }

    /// Asks the store for what this turn brought; many commands are one entry.
    pub fn flush(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(event_id) = self.active.pop_first() {
            let Some(room) = self.rooms.get_mut(&event_id) else { continue };
            let run = self.queues.get(&event_id).map(Queue::began_ms);
            room.log.take_of_others(run).into_iter().for_each(|waiter| part(waiter, out));
            if run.is_some() {
                room.write_presence(now, &self.instance);
                if !std::mem::replace(&mut room.followed, true) {
                    out.push(Output::Interest { event_id: Arc::clone(&event_id), on: true });
                }
            } else if room.log.is_current() {
                room.changed.clear();
                for waiter in room.log.take_before_open().into_iter().chain(room.log.take_looks()) {
                    match room.lost {
                        Some(_) => deny(waiter, LineDenial::Lost, Denied::Lost, out),
                        None => telling::refuse(waiter, Refusal::NoQueue, out),
                    }
                }
            }
            if let Some((question, ask)) = room.next_ask(now, &self.instance) {
                self.ask(question, &event_id, ask, out);
            } else if run.is_none() && room.is_idle() {
                self.rooms.remove(&event_id);
            }
        }
    }

    /// Rooms whose logs were lost.
    pub fn lost_count(&self) -> usize {
        self.rooms.values().filter(|room| room.is_lost()).count()
    }

    /// Bytes of the log of a queue, with what keeping its entries takes.
    pub fn log_bytes(&self, event_id: &str) -> usize {
        self.rooms.get(event_id).map_or(0, |room| room.log.bytes())
    }

    /// What happened so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// All queues that are followed.
    pub const fn queues(&self) -> &Queues {
        &self.queues
    }

    fn command(&mut self, event_id: &Arc<str>, command: Command, waiter: Waiter, out: &mut Vec<Output>) {
        let is_meant_for_one = matches!(waiter, Waiter::Operator { run: Some(_), .. });
        let begins = matches!(command, Command::Open(_)) && !is_meant_for_one;
        match self.room(event_id) {
            Some(room) if room.log.is_broken && !begins => deny(waiter, LineDenial::Lost, Denied::Lost, out),
            Some(room) => {
                // Whoever opens a queue whose log was lost knows that its places are gone.
                room.log.look |= room.log.is_broken;
                if let Err(Some(waiter)) = room.log.push(command, Some(waiter)) {
                    turn_away(waiter, out);
                }
            }
            None => turn_away(waiter, out),
        }
    }

    /// Answers with the queue as it is when everything was applied that is stored by now.
    fn look(&mut self, event_id: &Arc<str>, token: Token, out: &mut Vec<Output>) {
        let waiter = Waiter::Operator { token, run: None };
        match self.room(event_id) {
            Some(room) if room.log.is_broken => deny(waiter, LineDenial::Lost, Denied::Lost, out),
            Some(room) => {
                if let Err(waiter) = room.log.push_look(waiter) {
                    turn_away(waiter, out);
                }
            }
            None => turn_away(waiter, out),
        }
    }

    /// What there is of the queue; begins to follow it. `None`: too many are followed.
    fn room(&mut self, event_id: &Arc<str>) -> Option<&mut Room> {
        if !self.rooms.contains_key(event_id) {
            if self.rooms.len() >= LINES_FOLLOWED_MAX {
                return None;
            }
            self.epoch_last += 1;
            self.rooms.insert(Arc::clone(event_id), Room::new(event_id, self.epoch_last));
        }
        self.active.insert(Arc::clone(event_id));
        self.rooms.get_mut(event_id)
    }

    fn waiting(&mut self, shard: ShardId, event_id: &Arc<str>, holder: Arc<str>, connections: u32) {
        if connections == 0 && !self.rooms.contains_key(event_id) {
            return;
        }
        let Some(room) = self.room(event_id) else { return };
        let present = room.present.entry(Arc::clone(&holder)).or_default();
        let length = present.by_shard.len().max(shard.index() + 1);
        present.by_shard.resize(length, 0);
        present.by_shard[shard.index()] = connections;
        room.changed.insert(holder);
    }

    /// Forgets a queue that is over, or whose log was lost; whoever wants something of it has it read again.
    fn forget(&mut self, event_id: &Arc<str>, out: &mut Vec<Output>) {
        self.queues.remove(event_id);
        let Some(mut room) = self.rooms.remove(event_id) else { return };
        room.log.take_waiters().into_iter().for_each(|waiter| part(waiter, out));
        room.log.take_looks().into_iter().for_each(|waiter| turn_away(waiter, out));
        if room.followed {
            out.push(Output::Interest { event_id: Arc::clone(event_id), on: false });
        }
    }

    fn tick(
        &mut self,
        now: Now,
        (leads, target): (bool, Target),
        others: Option<&[InstanceId]>,
        out: &mut Vec<Output>,
    ) {
        let looks = is_time(&mut self.looked_ns, now, LOOK_INTERVAL);
        let counts = is_time(&mut self.counted_ns, now, LINE_COUNT_INTERVAL);
        let late_ms = if leads { 0 } else { TICK_LATE.as_millis() as u64 };
        self.find_silent(now, others);
        let is_crowded =
            self.rooms.values().map(|room| room.log.bytes()).sum::<usize>() >= QUEUE_LOGS_BYTES_MAX;
        let mut over = Vec::new();
        for (event_id, room) in &mut self.rooms {
            room.log.rests = false;
            room.log.take_late(now).into_iter().for_each(|waiter| give_up(waiter, out));
            room.end_seats(now);
            room.end_under_way();
            room.log.is_crowded = is_crowded;
            if room.log.is_full() && !std::mem::replace(&mut room.told_full, true) {
                let bytes = room.log.bytes();
                tracing::error!(
                    event_id = &**event_id,
                    bytes,
                    "the log of a queue is full: it takes nobody more"
                );
            }
            room.log.look |= looks;
            if looks {
                room.log.forget_absence();
            }
            self.active.insert(Arc::clone(event_id));
            let Some(queue) = self.queues.get(event_id) else { continue };
            if has_been_over(queue, now, OVER_KEPT_MS) {
                over.push(Arc::clone(event_id));
                continue;
            }
            let longer = if counts { room.longer(queue) } else { None };
            out.extend(longer.map(|update| Output::Line { shard: None, update }));
            let due = queue.next_due_ms();
            if !room.ticking && due.is_some_and(|due_ms| due_ms + late_ms <= now.wall_ms) {
                room.ticking = room.log.push(Command::Tick, None).is_ok();
            }
            room.write_target(queue, target);
            let silence_max = if leads { self.silence_max } else { self.silence_max + TICK_LATE };
            for instance in queue.instances().filter(|name| **name != *self.instance) {
                let silent = self.silent.get(instance);
                let is_gone =
                    silent.is_some_and(|since_ns| since_ns + silence_max.as_nanos() as u64 <= now.mono_ns);
                if is_gone && !room.gone.contains(instance) {
                    let command = Command::InstanceGone { instance: instance.into() };
                    if room.log.push(command, None).is_ok() {
                        room.gone.insert(instance.into());
                    }
                }
            }
        }
        for event_id in over {
            let ask = self.rooms.get(&event_id).and_then(Room::forget);
            self.forget(&event_id, out);
            if let Some(ask) = ask.filter(|_| leads) {
                self.ask(Question::Forget, &event_id, ask, out);
            }
        }
    }

    /// Notes since when instances that people are connected to, by the logs, are not heard of.
    fn find_silent(&mut self, now: Now, others: Option<&[InstanceId]>) {
        let mut silent = BTreeMap::new();
        if let Some(others) = others {
            let lives = |name: &str| {
                *name == *self.instance
                    || InstanceId::from_str_radix(name, 16).is_ok_and(|id| others.contains(&id))
            };
            for name in self.queues.iter().flat_map(|queue| queue.instances()).filter(|name| !lives(name)) {
                silent.insert(name.into(), self.silent.get(name).copied().unwrap_or(now.mono_ns));
            }
        }
        self.silent = silent;
    }

    fn ask(&mut self, question: Question, event_id: &Arc<str>, ask: Ask, out: &mut Vec<Output>) {
        self.ticket_last += 1;
        self.asked.insert(self.ticket_last, (question, Arc::clone(event_id)));
        out.push(Output::Ask { ticket: self.ticket_last, ask });
    }
}

/// Whether the queue is sold out or closed for so long, in ms.
fn has_been_over(queue: &Queue, now: Now, for_ms: u64) -> bool {
    queue.over_ms().is_some_and(|over_ms| over_ms.saturating_add(for_ms) <= now.wall_ms)
}

/// Whether it is time again, and if so from now on.
fn is_time(since_ns: &mut u64, now: Now, interval: Duration) -> bool {
    let is_time = now.mono_ns.saturating_sub(*since_ns) >= interval.as_nanos() as u64;
    if is_time {
        *since_ns = now.mono_ns;
    }
    is_time
}

/// Between two looks at each log: of what was published and not heard, and so that a log that is followed does not expire.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// So late is the one that should tick before the others do.
const TICK_LATE: Duration = Duration::from_secs(1);
/// How long a queue that is sold out or closed is kept, so that who comes is told that it is over.
const OVER_KEPT_MS: u64 = 24 * 3_600_000;
/// Then others may have let go of it, whose clocks differ.
const OVER_ENDING_MS: u64 = OVER_KEPT_MS - 3_600_000;
