//! Critical events of foreign channels on their way into streams: each once, by whichever instance.
//!
//! Every instance hears them, and the holder of the lease appends them. Owns what was heard in the last seconds, on every
//! instance, until it is certain that no other will have to be asked for it: a holder that dies, stops or was not heard from
//! leaves behind what it had not stored. Whoever takes the lease over appends all it kept, and who heard what the holder
//! cannot have heard appends that. Nobody is told what another stored: an append that two may try has a proviso
//! ([`Proviso::Fewer`]), which the store judges; every other is void once the lease may be another's.
//!
//! Invariants: what is kept is in the order in which it was heard, and bounded ([`FOREIGN_KEPT_MAX`],
//! [`FOREIGN_BYTES_MAX`], [`FOREIGN_TIME`]); what goes without having been stored here or left to a holder is counted.

use std::collections::{HashMap, VecDeque};

use crate::{
    clock::Now,
    event::{Event, Form},
    limits::{FOREIGN_BYTES_MAX, FOREIGN_KEPT_MAX, FOREIGN_OVERLAP, FOREIGN_TIME},
    stream::{
        fnv::fnv1a,
        lease::Lease,
        store::{Append, Proviso},
    },
};

/// What became of them; numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestCounts {
    /// Appended with a proviso: without this instance they would be missing.
    pub rescued: u64,
    /// Found stored by another instance.
    pub found: u64,
    /// Given up for want of room, not stored here.
    pub overflowed: u64,
    /// Given up after their time: not stored here, and no instance was known to hold the lease.
    pub lapsed: u64,
}

/// What was heard and may have to be appended.
#[derive(Debug, Default)]
pub(super) struct Ingest {
    lease: Lease,
    kept: VecDeque<Kept>,
    /// Number of the first that is kept.
    first: u64,
    bytes: usize,
    /// How many are due.
    due: usize,
    /// Something was not stored: what follows waits with it until more is known of the lease, at most a second.
    stalled: bool,
    counts: IngestCounts,
}

#[derive(Debug)]
struct Kept {
    heard_ns: u64,
    /// Of everything in which two of them differ.
    hash: u64,
    state: State,
    append: Append,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The business of whoever holds the lease. `covered`: somebody did, and heard it too.
    Waiting { covered: bool },
    /// To be appended here.
    Due,
    /// The store was asked. `rescues`: another may have stored it, or may not.
    Asked { rescues: bool },
    /// It is stored.
    Stored,
}

impl Ingest {
    /// Whether this instance is the one that stores what all hear.
    pub(super) fn holds(&self, now: Now) -> bool {
        self.lease.holds(now.mono_ns)
    }

    /// An event was heard. What comes back is to be asked for at once, or [`Ingest::postpone`]d if it cannot be.
    pub(super) fn hear(&mut self, now: Now, append: Append) -> Option<(u64, Append)> {
        let heard_ns = now.mono_ns;
        let plain = self.plain(now, heard_ns).filter(|_| self.due == 0 && !self.stalled);
        let state = match plain {
            Some(_) => State::Asked { rescues: false },
            None if self.holds(now) => State::Due,
            None => State::Waiting { covered: false },
        };
        let number = self.first + self.kept.len() as u64;
        let ask = plain.map(|proviso| (number, Append { proviso: Some(proviso), ..append.clone() }));
        self.due += usize::from(state == State::Due);
        self.bytes += append.event.payload.len();
        self.kept.push_back(Kept { heard_ns, hash: hash_of(&append), state, append });
        while self.kept.len() > FOREIGN_KEPT_MAX || self.bytes > FOREIGN_BYTES_MAX {
            let gone = self.drop_first();
            self.counts.overflowed += u64::from(gone != Some(State::Stored));
        }
        ask
    }

    /// More is known of the lease.
    pub(super) fn learn(&mut self, now: Now, lease: Lease) {
        self.lease = lease;
        self.stalled = false;
        let holds = self.holds(now);
        for kept in &mut self.kept {
            if !matches!(kept.state, State::Waiting { .. }) {
                continue;
            }
            if lease.is_others(kept.heard_ns) {
                kept.state = State::Waiting { covered: true };
            } else if holds || lease.other_since_ns.is_some() {
                kept.state = State::Due;
                self.due += 1;
            }
        }
    }

    /// Asks for what is due, in order, until that is refused.
    pub(super) fn ask_due(&mut self, now: Now, mut ask: impl FnMut(u64, Append) -> bool) {
        if self.due == 0 || self.stalled {
            return;
        }
        // Of each hash: how many were heard so far, and when the first.
        let mut equal: HashMap<u64, (u32, u64)> = HashMap::new();
        for index in 0..self.kept.len() {
            let Kept { heard_ns, hash, state, .. } = self.kept[index];
            let (count, first_ns) = equal.entry(hash).or_insert((0, heard_ns));
            *count += 1;
            if state != State::Due {
                continue;
            }
            let plain = self.plain(now, heard_ns);
            let fewer = || {
                let overlap_ms = FOREIGN_OVERLAP.as_millis() as u64;
                let since_ms = self.lease.redis_ms_at(*first_ns).saturating_sub(overlap_ms);
                Proviso::Fewer { than: *count, since_ms }
            };
            let proviso = Some(plain.unwrap_or_else(fewer));
            if !ask(self.first + index as u64, Append { proviso, ..self.kept[index].append.clone() }) {
                return;
            }
            self.kept[index].state = State::Asked { rescues: plain.is_none() };
            self.due -= 1;
        }
    }

    /// What was to be asked for at once finds no room for now.
    pub(super) fn postpone(&mut self, number: u64) {
        if let Some(kept) = self.get(number) {
            kept.state = State::Due;
            self.due += 1;
        }
    }

    /// The store answered: appended, or found there. `None`: it is not known to be stored, and is tried again when more is
    /// known of the lease.
    pub(super) fn answered(&mut self, number: u64, outcome: Option<Outcome>) {
        let Some(kept) = self.get(number) else { return };
        let rescues = kept.state == State::Asked { rescues: true };
        kept.state = match outcome {
            Some(_) => State::Stored,
            None => State::Waiting { covered: false },
        };
        self.stalled |= outcome.is_none();
        self.counts.rescued += u64::from(rescues && outcome == Some(Outcome::Appended));
        self.counts.found += u64::from(outcome == Some(Outcome::Found));
    }

    /// Lets go of what is too old; while nothing is heard, and nothing can be stored, nothing grows old.
    pub(super) fn expire(&mut self, now: Now) {
        let time_ns = FOREIGN_TIME.as_nanos() as u64;
        while let Some(first) = self.kept.front() {
            let since_ns = first.heard_ns.max(self.lease.heard_since_ns);
            if now.mono_ns.saturating_sub(since_ns) < time_ns || matches!(first.state, State::Asked { .. }) {
                break;
            }
            let gone = self.drop_first();
            let is_settled = matches!(gone, Some(State::Stored | State::Waiting { covered: true }));
            self.counts.lapsed += u64::from(!is_settled);
        }
    }

    /// What became of them.
    pub(super) fn counts(&self) -> IngestCounts {
        self.counts
    }

    /// How many are kept, and the bytes of their payloads.
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.kept.len(), self.bytes)
    }

    /// The proviso under which nobody else has to be thought of; `None`: somebody has.
    fn plain(&self, now: Now, heard_ns: u64) -> Option<Proviso> {
        let alone = self.holds(now) && heard_ns >= self.lease.alone_from_ns();
        alone.then(|| Proviso::Before(self.lease.ends_ms()))
    }

    fn get(&mut self, number: u64) -> Option<&mut Kept> {
        self.kept.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn drop_first(&mut self) -> Option<State> {
        let Kept { state, append, .. } = self.kept.pop_front()?;
        self.first += 1;
        self.bytes -= append.event.payload.len();
        self.due -= usize::from(state == State::Due);
        Some(state)
    }

    pub(super) fn check_invariants(&self) {
        let bytes: usize = self.kept.iter().map(|kept| kept.append.event.payload.len()).sum();
        assert!(bytes == self.bytes && bytes <= FOREIGN_BYTES_MAX, "bytes of foreign events");
        assert!(self.kept.len() <= FOREIGN_KEPT_MAX, "foreign events");
        let due = self.kept.iter().filter(|kept| kept.state == State::Due).count();
        assert_eq!(due, self.due, "foreign events that are due");
    }
}

/// What the store did with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is the next entry of its stream.
    Appended,
    /// It was there.
    Found,
}

fn hash_of(append: &Append) -> u64 {
    let Event { kind, form, payload, .. } = &append.event;
    let form: &[u8] = match form {
        Form::Payload => b"payload",
        Form::Object => b"object",
        Form::Message => b"message",
    };
    fnv1a(&[append.stream.as_bytes(), kind.as_bytes(), form, payload])
}

#[cfg(test)]
mod tests;
