//! The log of one queue, as far as this instance knows it.
//!
//! Owns how far it was applied, what waits to be written, and the one entry that is being written. Invariants: entries are
//! applied in order, each once; one entry is under way at a time, and is asked for again with the same number until the
//! store says where it is, however long that takes: of one number it stores no second entry.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::room::Waiter;
use crate::{
    clock::Now,
    event::{Class, Event, Form, Position, Target},
    limits::{
        LINE_BATCH_MAX, LINE_WAITING_MAX, LINE_WAITING_RESERVE, LINE_WAITING_TIME_MAX, QUEUE_ENTRY_BYTES,
        QUEUE_LOG_BYTES_MAX, QUEUE_LOG_RESERVE,
    },
    sale::command::{Command, Entry},
    stream::store::{Append, Mark, Memory, Proviso},
};

/// The log of one queue.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The newest entry that was applied; `None`: nobody knows yet where the log stands. An empty epoch: there is none.
    pub(super) at: Option<Mark>,
    /// The highest offset of that epoch that is known to be stored.
    pub(super) known: u64,
    /// The store is being asked where the log stands, or for what follows `at`.
    pub(super) asking: bool,
    /// There may be more than is known.
    pub(super) look: bool,
    /// The store did not answer: nothing is asked before the next tick.
    pub(super) rests: bool,
    /// The log cannot be read to its end: nothing is written, nobody is told anything, until there is another log.
    pub(super) is_broken: bool,
    /// Who wants to know how the queue stands: those whose look has begun, and those for the next.
    looks: [Vec<Waiter>; 2],
    /// What waits to be written.
    pending: VecDeque<Pending>,
    /// Some of it may be meant for another queue.
    names_runs: bool,
    pub(super) flight: Option<Flight>,
    /// Of all entries that were applied, with what keeping them takes.
    bytes: usize,
    /// All logs together are as long as people may make them.
    pub(super) is_crowded: bool,
    /// Numbers the entries that this instance writes.
    written: u64,
}

/// A command that waits to be written.
#[derive(Debug)]
struct Pending {
    command: Command,
    waiter: Option<Waiter>,
    /// The first tick while it waited, monotonic ns; `None`: there was none yet.
    since_ns: Option<u64>,
}

/// An entry that is being written.
#[derive(Debug)]
pub(super) struct Flight {
    /// For each of its commands, who waits for what comes of it.
    pub(super) waiters: Vec<Option<Waiter>>,
    /// Where it is; `None`: the store did not say yet.
    pub(super) offset: Option<u64>,
    /// The store is being asked; else it could not be asked, and will be again.
    pub(super) asked: bool,
    /// The store did not answer once: it may be there.
    pub(super) may_be_stored: bool,
    /// What was known of the log when it was decided: in another log the commands would mean something else.
    known: Mark,
    payload: Bytes,
    number: u64,
}

impl Log {
    /// Everything that is known to be stored was applied.
    pub(super) fn is_current(&self) -> bool {
        self.at.as_ref().is_some_and(|at| at.offset >= self.known)
    }

    /// The store did not say yet where the entry under way is: nothing is applied that may be it.
    pub(super) fn is_unsettled(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.offset.is_none())
    }

    /// Takes a command; gives it back where too many wait, or the log is as long as it may be.
    pub(super) fn push(&mut self, command: Command, waiter: Option<Waiter>) -> Result<(), Option<Waiter>> {
        if !self.has_room_for(&command) {
            return Err(waiter);
        }
        self.names_runs |= matches!(waiter, Some(Waiter::Operator { run: Some(_), .. }));
        self.pending.push_back(Pending { command, waiter, since_ns: None });
        Ok(())
    }

    fn has_room_for(&self, command: &Command) -> bool {
        let of_others = if command.is_of_people() { LINE_WAITING_RESERVE } else { 0 };
        let is_full = if command.is_of_people() { self.is_full() } else { self.bytes >= QUEUE_LOG_BYTES_MAX };
        self.pending.len() < LINE_WAITING_MAX - of_others && !is_full
    }

    /// Whether people may write no more; time, operators and services have a part of it to themselves.
    pub(super) fn is_full(&self) -> bool {
        self.is_crowded || self.bytes >= QUEUE_LOG_BYTES_MAX - QUEUE_LOG_RESERVE
    }

    /// Of all entries that were applied, with what keeping them takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes out what is meant for another queue than the one that there is, once that is known.
    pub(super) fn take_of_others(&mut self, run: Option<u64>) -> Vec<Waiter> {
        if !self.is_current() || !std::mem::take(&mut self.names_runs) {
            return Vec::new();
        }
        let is_of_another = |waiter: &Waiter| match waiter {
            Waiter::Operator { run: Some(meant), .. } => run != Some(*meant),
            _ => false,
        };
        let pending = std::mem::take(&mut self.pending).into_iter();
        let (others, pending): (Vec<_>, Vec<_>) =
            pending.partition(|pending| pending.waiter.as_ref().is_some_and(is_of_another));
        self.pending = pending.into();
        others.into_iter().filter_map(|pending| pending.waiter).collect()
    }

    /// Takes out what somebody has waited for too long, and the store was not asked for: whoever waits may have given up, and
    /// must not find it done later. A tick calls it.
    pub(super) fn take_late(&mut self, now: Now) -> Vec<Waiter> {
        for pending in self.pending.iter_mut().rev().take_while(|pending| pending.since_ns.is_none()) {
            pending.since_ns = Some(now.mono_ns);
        }
        let time_max_ns = LINE_WAITING_TIME_MAX.as_nanos() as u64;
        let is_late = |pending: &Pending| {
            let since_ns = pending.since_ns.unwrap_or(now.mono_ns);
            pending.waiter.is_some() && now.mono_ns.saturating_sub(since_ns) >= time_max_ns
        };
        // The first of those that are waited for is the oldest.
        if !self.pending.iter().find(|pending| pending.waiter.is_some()).is_some_and(is_late) {
            return Vec::new();
        }
        let (late, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(is_late);
        self.pending = pending.into();
        late.into_iter().filter_map(|pending| pending.waiter).collect()
    }

    /// Takes out what can do nothing where there is no queue: all before one begins.
    pub(super) fn take_before_open(&mut self) -> Vec<Waiter> {
        let opens = |pending: &Pending| matches!(pending.command, Command::Open(_));
        let count = self.pending.iter().position(opens).unwrap_or(self.pending.len());
        self.pending.drain(..count).filter_map(|pending| pending.waiter).collect()
    }

    /// Whether what waits begins a queue.
    pub(super) fn begins(&self) -> bool {
        self.pending.iter().any(|pending| matches!(pending.command, Command::Open(_)))
    }

    /// Where the store had no log, it is looked at once more.
    pub(super) fn forget_absence(&mut self) {
        self.at.take_if(|at| at.epoch.is_empty());
    }

    /// Nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
            && self.flight.is_none()
            && !self.asking
            && self.looks.iter().all(Vec::is_empty)
    }

    /// Whoever waits for what will not be written, or not be applied.
    pub(super) fn take_waiters(&mut self) -> Vec<Waiter> {
        let flight = self.flight.take().map(|flight| flight.waiters).unwrap_or_default();
        let pending = self.pending.drain(..).map(|pending| pending.waiter);
        flight.into_iter().chain(pending).flatten().collect()
    }

    /// The store refused the entry under way: whoever waits for it. Who came and who went is so all the same, and waits to
    /// be written before anything else. `None`: an earlier try may be stored, so it is asked for again.
    pub(super) fn refused(&mut self) -> Option<Vec<Waiter>> {
        self.rests = true;
        let Flight { waiters, payload, .. } = self.flight.take_if(|flight| !flight.may_be_stored)?;
        let commands = Entry::decode(&payload).map(|entry| entry.commands).unwrap_or_default();
        for command in commands.into_iter().rev().filter(Command::is_presence) {
            self.pending.push_front(Pending { command, waiter: None, since_ns: None });
        }
        Some(waiters.into_iter().flatten().collect())
    }

    /// The entry under way was refused by another log than the one that is known, which is looked at: whoever waits for
    /// what was decided about this one.
    pub(super) fn part(&mut self) -> Vec<Waiter> {
        match &self.at {
            Some(at) if at.offset > 0 => self.look = true,
            // Nothing was known but its name.
            _ => self.at = None,
        }
        self.take_waiters()
    }

    /// Whether a queue is to begin.
    pub(super) fn opens(&self) -> bool {
        self.pending.iter().any(|pending| matches!(pending.command, Command::Open(_)))
    }

    /// As if nothing were known of it, with what somebody waits for.
    pub(super) fn anew(&mut self) -> Self {
        let mut pending = std::mem::take(&mut self.pending);
        pending.retain(|pending| pending.waiter.is_some());
        Self { pending, names_runs: self.names_runs, written: self.written, ..Self::default() }
    }

    /// Somebody wants to know how the queue stands, by what is stored from now on; given back where too many do.
    pub(super) fn push_look(&mut self, waiter: Waiter) -> Result<(), Waiter> {
        if self.looks[1].len() >= LINE_WAITING_MAX {
            return Err(waiter);
        }
        self.looks[1].push(waiter);
        self.look = true;
        Ok(())
    }

    /// The log is being read.
    pub(super) fn begin_look(&mut self) {
        self.look = false;
        let [begun, next] = &mut self.looks;
        begun.append(next);
    }

    /// Those who may be told now.
    pub(super) fn take_begun_looks(&mut self) -> Vec<Waiter> {
        if self.is_current() { std::mem::take(&mut self.looks[0]) } else { Vec::new() }
    }

    /// All of them.
    pub(super) fn take_looks(&mut self) -> Vec<Waiter> {
        let [begun, next] = &mut self.looks;
        begun.append(next);
        std::mem::take(begun)
    }

    /// What the store is to be asked to write, if it is time for anything. With each start of an instance and each room numbers
    /// begin anew, for another writer.
    pub(super) fn next_append(
        &mut self,
        now: Now,
        (instance, room): (&str, u64),
        stream: &Arc<str>,
    ) -> Option<Append> {
        let at = self.at.as_ref().filter(|_| self.is_current() || self.is_unsettled())?;
        if let Some(flight) = &mut self.flight {
            if flight.asked || flight.offset.is_some() {
                return None;
            }
            flight.asked = true;
        } else {
            let count = self.pending.len().min(LINE_BATCH_MAX);
            let pending = self.pending.drain(..count).map(|pending| (pending.command, pending.waiter));
            let (commands, waiters): (Vec<_>, Vec<_>) = pending.unzip();
            // Every command was checked, and the longest of them fit so often: what is empty has no bytes.
            let payload = Entry::new(now.wall_ms, commands).encode().ok()?.into();
            self.written += 1;
            let (known, number) = (at.clone(), self.written);
            self.flight = Some(Flight {
                waiters,
                offset: None,
                asked: true,
                may_be_stored: false,
                known,
                payload,
                number,
            });
        }
        let Flight { known, payload, number, .. } = self.flight.as_ref()?;
        let writer = format!("{instance}.{room}").into();
        let memory = Some(Memory::Number { writer, number: *number });
        let event = Event {
            target: Target::Everyone,
            kind: "queue:log".into(),
            payload: payload.clone(),
            form: Form::Payload,
            class: Class::Critical,
            version: None,
            position: None,
            except: None,
            accepted_at_ns: now.mono_ns,
        };
        let (known, proviso) = (Some(known.clone()), Some(Proviso::Follows));
        Some(Append { stream: stream.clone(), event, memory, known, proviso })
    }

    /// An entry is stored there. Whether it is the next to apply.
    pub(super) fn note(&mut self, epoch: &str, offset: u64) -> bool {
        let Some(at) = &mut self.at else { return false };
        if *at.epoch != *epoch {
            // An empty log has the name that it begins with; of another one, a page tells whether it goes on.
            self.look = at.offset > 0;
            if self.look {
                return false;
            }
            at.epoch = epoch.into();
        }
        self.known = self.known.max(offset);
        offset == at.offset + 1
    }

    /// The entry under way is stored there. Whether it is the next to apply.
    pub(super) fn stored(&mut self, position: &Position) -> bool {
        if let Some(flight) = &mut self.flight {
            flight.offset = Some(position.offset);
        }
        self.note(&position.epoch, position.offset)
    }

    /// The next entry was applied: whose it was, if it is the one under way.
    pub(super) fn applied(&mut self, offset: u64, bytes: usize) -> Vec<Option<Waiter>> {
        self.bytes += bytes + QUEUE_ENTRY_BYTES;
        if let Some(at) = &mut self.at {
            at.offset = offset;
        }
        self.known = self.known.max(offset);
        let flight = self.flight.take_if(|flight| flight.offset == Some(offset));
        flight.map(|flight| flight.waiters).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono_ns: 1, wall_ms: 2 };

    fn log(offset: u64) -> Log {
        let at = Some(Mark { epoch: "e".into(), offset });
        Log { at, known: offset, ..Log::default() }
    }

    #[test]
    fn one_entry_is_under_way_and_is_repeated_with_its_number() {
        let mut log = log(4);
        let stream: Arc<str> = "queue:1".into();
        assert!(
            log.next_append(NOW, ("i", 1), &stream).is_none() && log.flight.is_none(),
            "nothing to write"
        );
        log.push(Command::Tick, None).unwrap();
        let first = log.next_append(NOW, ("i", 1), &stream).expect("a command waits");
        log.push(Command::Resume, None).unwrap();
        assert!(log.next_append(NOW, ("i", 1), &stream).is_none());
        log.flight.as_mut().unwrap().asked = false;
        assert_eq!(log.next_append(NOW, ("i", 1), &stream).as_ref(), Some(&first));
        assert!(log.note("e", 5) && !log.is_current());
        log.flight.as_mut().unwrap().offset = Some(5);
        assert_eq!(log.applied(5, 1).len(), 1);
        let second = log.next_append(NOW, ("i", 1), &stream).expect("the other command");
        assert_ne!(second.memory, first.memory);
        assert_eq!(Entry::decode(&second.event.payload).unwrap().commands, [Command::Resume]);
    }

    #[test]
    fn nothing_is_written_before_everything_known_was_applied() {
        let mut log = log(4);
        log.push(Command::Tick, None).unwrap();
        assert!(!log.note("e", 7), "5 and 6 are missing");
        assert!(log.next_append(NOW, ("i", 1), &"queue:1".into()).is_none());
        assert!(!log.note("another", 5));
        (5..=7).for_each(|offset| drop(log.applied(offset, 1)));
        assert!(log.next_append(NOW, ("i", 1), &"queue:1".into()).is_some());
    }

    const TIME: Command = Command::Tick;

    fn leave() -> Command {
        Command::Leave { holder: "u:ann".into() }
    }

    #[test]
    fn what_waits_is_bounded_and_people_leave_room_for_operators_and_time() {
        let mut log = Log::default();
        for _ in 0..LINE_WAITING_MAX - LINE_WAITING_RESERVE {
            assert!(log.push(leave(), None).is_ok());
        }
        assert!(log.push(leave(), None).is_err());
        for _ in 0..LINE_WAITING_RESERVE {
            assert!(log.push(TIME, None).is_ok());
        }
        assert!(log.push(TIME, None).is_err());
    }

    #[test]
    fn a_log_is_bounded_in_bytes_and_people_leave_room_for_operators_and_time() {
        let mut log = log(4);
        let free = |log: &mut Log| (log.push(leave(), None).is_ok(), log.push(TIME, None).is_ok());
        drop(log.applied(5, QUEUE_LOG_BYTES_MAX - QUEUE_LOG_RESERVE - QUEUE_ENTRY_BYTES - 1));
        assert_eq!(free(&mut log), (true, true));
        drop(log.applied(6, 1));
        assert_eq!(free(&mut log), (false, true), "an entry takes more than its payload");
        drop(log.applied(7, QUEUE_LOG_RESERVE));
        assert_eq!(free(&mut log), (false, false));
    }
}
