//! The last value of each Latest key, for who comes in.
//!
//! Owns what is kept here, what the store is still to be told, and what is read from it when an address gets its first
//! connection here. Never delays a delivery: the store is told once a second what changed, and while it is away all this
//! goes on with what is kept here. Invariant: whoever comes in gets a value behind what was delivered before it was kept, and
//! in front of what comes after it, so that an older one never follows a newer one; while an address is being read,
//! everybody there gets the values at the end of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{Output, Route, following::target_of, questions::Question, turn::Turn};
use crate::{
    clock::Now,
    event::{Class, Event, LatestKey, Target},
    ids::ConnId,
    limits::{LATEST_ASKS_MAX, LATEST_RECALL_AGAIN, LATEST_UNSAVED_MAX},
    stream::{
        latest::LatestValues,
        names::stream_of,
        store::{Answer, Ask},
    },
};

#[derive(Debug, Default)]
pub(super) struct Latest {
    pub(super) values: LatestValues,
    /// Of the newest value that was sent from here or heard.
    serial: u64,
    /// What the store does not have yet, by address; its line holds each once.
    unsaved: HashMap<Arc<str>, Vec<LatestKey>>,
    unsaved_line: VecDeque<Arc<str>>,
    /// Addresses whose values are read.
    recalls: HashMap<Arc<str>, Recall>,
    /// Those that wait for their turn.
    recalls_line: VecDeque<Arc<str>>,
    /// What is read once more, in order of when, monotonic nanoseconds.
    again: VecDeque<(u64, Arc<str>, u64)>,
    /// Questions under way.
    asks: usize,
}

/// A reading of the store.
#[derive(Debug)]
struct Recall {
    /// Values with a higher serial were heard or sent after everything is heard here: they are newer than what is read.
    since: u64,
    stage: Stage,
    /// Nobody of the address is shown anything before its end.
    first: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// It is not heard yet what others publish.
    Subscribing,
    Waiting,
    Asked,
}

impl Latest {
    /// An address got its first connection here, and is about to be subscribed.
    pub(super) fn expect(&mut self, address: Arc<str>) {
        let recall = Recall { since: u64::MAX, stage: Stage::Subscribing, first: true };
        self.recalls.insert(address, recall);
    }

    fn is_unsaved(&self, address: &str, key: LatestKey) -> bool {
        self.unsaved.get(address).is_some_and(|keys| keys.contains(&key))
    }

    /// Notes that the store is to be told; `false`: too many addresses wait already.
    fn save_later(&mut self, address: &Arc<str>, key: LatestKey) -> bool {
        if let Some(keys) = self.unsaved.get_mut(address) {
            if !keys.contains(&key) {
                keys.push(key);
            }
            return true;
        }
        let fits = self.unsaved.len() < LATEST_UNSAVED_MAX;
        if fits {
            self.unsaved.insert(address.clone(), vec![key]);
            self.unsaved_line.push_back(address.clone());
        }
        fits
    }

    fn put_in_line(&mut self, address: &Arc<str>, since: u64, first: bool) {
        self.recalls.insert(address.clone(), Recall { since, stage: Stage::Waiting, first });
        self.recalls_line.push_back(address.clone());
    }

    pub(super) fn check_invariants(&self) {
        self.values.check_invariants();
        assert_eq!(self.unsaved.len(), self.unsaved_line.len(), "addresses to be stored");
        assert!(self.unsaved.values().all(|keys| !keys.is_empty()), "something is to be stored");
        assert!(self.asks <= LATEST_ASKS_MAX, "questions about last values");
    }
}

impl Route {
    /// Keeps what was sent or heard just now; `store`: it is this instance that tells the store.
    pub(super) fn keep_latest(&mut self, now: Now, event: &Arc<Event>, store: bool) {
        let Class::Latest(key) = event.class else { return };
        let (Target::User(_) | Target::Room(_), Some(address)) = (&event.target, stream_of(&event.target))
        else {
            return;
        };
        self.latest.serial += 1;
        self.latest.values.put(now, address.clone(), event.clone(), self.latest.serial);
        if store && self.following.is_some() && !self.latest.save_later(&address, key) {
            self.counts.latest_unsaved += 1;
        }
    }

    /// A connection came into a room that its shard alone decides about.
    pub(super) fn show_room(&mut self, turn: &mut Turn<'_>, conn: ConnId, room: &str) {
        let is_up = self.following.as_ref().is_some_and(|following| following.up);
        if is_up && self.directory.room(room).is_none() {
            // The first one here, as the shard will say in a moment: then the store is read, and everybody told.
            return;
        }
        self.show_latest(turn, conn, &format!("room:{room}"));
    }

    /// Sends a connection the last values of an address that it came into.
    pub(super) fn show_latest(&mut self, turn: &mut Turn<'_>, conn: ConnId, address: &str) {
        if self.latest.recalls.get(address).is_some_and(|recall| recall.first) {
            return;
        }
        let values = self.latest.values.of(turn.now, address);
        if !values.is_empty() {
            self.counts.latest_shown += values.len() as u64;
            turn.out.push(Output::Latest { conn, values });
        }
    }

    /// What is published for an address is heard from now on: what was before is in the store.
    pub(super) fn recall_latest(&mut self, turn: &mut Turn<'_>, address: &Arc<str>) {
        let since = self.latest.serial;
        self.latest.put_in_line(address, since, true);
        self.ask_latest(turn);
    }

    fn ask_latest(&mut self, turn: &mut Turn<'_>) {
        while self.latest.asks < LATEST_ASKS_MAX {
            let Some(address) = self.latest.recalls_line.pop_front() else { break };
            let recall = self.latest.recalls.get_mut(&address);
            let Some(recall) = recall.filter(|recall| recall.stage == Stage::Waiting) else { continue };
            recall.stage = Stage::Asked;
            self.latest.asks += 1;
            let ask = Ask::Recall { stream: address.clone() };
            self.questions.ask(Question::Recall(address), ask, turn.out);
        }
    }

    /// The store said which values it has, or could not.
    pub(super) fn recalled(&mut self, turn: &mut Turn<'_>, address: Arc<str>, answer: Answer) {
        self.latest.asks -= 1;
        let asked = |recall: &Recall| recall.stage == Stage::Asked;
        if self.latest.recalls.get(&address).is_some_and(asked)
            && let Some(recall) = self.latest.recalls.remove(&address)
        {
            let (events, failed) = match answer {
                Answer::Recalled(events) => (events, false),
                _ => (Vec::new(), true),
            };
            let mut newer = Vec::new();
            for event in events {
                newer.extend(self.take_in(turn.now, &address, &event, recall.since));
            }
            if recall.first {
                newer = self.latest.values.of(turn.now, &address);
            }
            self.show_all(turn, newer);
            let is_held = !self.targets(&target_of(&address), turn.shards).0.is_empty();
            if is_held && (recall.first || failed) {
                let due_ns = turn.now.after(LATEST_RECALL_AGAIN).mono_ns;
                self.latest.again.push_back((due_ns, address, recall.since));
            }
        }
        self.ask_latest(turn);
    }

    /// Takes a value that the store had, if what is kept here is not newer.
    fn take_in(&mut self, now: Now, address: &Arc<str>, event: &Event, since: u64) -> Option<Arc<Event>> {
        let Class::Latest(key) = event.class else { return None };
        let local = self.latest.values.get(now, address, key);
        let newest = self.sequencer.newest_version(now, event);
        let is_newer = match (local, event.version, newest) {
            (None, Some(version), Some(newest)) => version >= newest,
            (Some(local), Some(version), newest) if local.version.is_some() => {
                newest.is_none_or(|newest| version > newest) && local.version < event.version
            }
            (Some(_), Some(version), Some(newest)) if version <= newest => false,
            (Some(local), ..) => {
                let serial = self.latest.values.serial(now, address, key);
                let live = serial.is_some_and(|serial| serial > since);
                !live && !self.latest.is_unsaved(address, key) && local.payload != event.payload
            }
            (None, ..) => true,
        };
        if !is_newer || stream_of(&event.target).as_ref() != Some(address) {
            return None;
        }
        let event = Arc::new(Event { accepted_at_ns: now.mono_ns, ..event.clone() });
        self.sequencer.note_version(now, &event);
        self.latest.values.put(now, address.clone(), event.clone(), since);
        Some(event)
    }

    /// Sends values to everybody whom they are for; a shard without room misses them, which is counted.
    fn show_all(&mut self, turn: &mut Turn<'_>, values: Vec<Arc<Event>>) {
        for event in values {
            let (targets, _) = self.targets(&event.target, turn.shards);
            self.deliver_or_lose(turn, targets, &event);
        }
    }

    /// A tenth of a second passed.
    pub(super) fn look_after_latest(&mut self, turn: &mut Turn<'_>) {
        let Some(following) = &self.following else { return };
        if !following.up {
            // Nobody waits for a store that is away.
            self.latest.recalls_line.clear();
            self.latest.again.clear();
            for (address, recall) in std::mem::take(&mut self.latest.recalls) {
                if recall.first {
                    let values = self.latest.values.of(turn.now, &address);
                    self.show_all(turn, values);
                }
            }
            return;
        }
        let is_due = |(due_ns, ..): &mut (u64, Arc<str>, u64)| *due_ns <= turn.now.mono_ns;
        while let Some((_, address, since)) = self.latest.again.pop_front_if(is_due) {
            // One that is read anew is read once more as well.
            if !self.latest.recalls.contains_key(&address) {
                self.latest.put_in_line(&address, since, false);
            }
        }
        self.ask_latest(turn);
    }

    /// A second passed: the store is told what changed.
    pub(super) fn save_latest(&mut self, turn: &mut Turn<'_>) {
        self.latest.values.expire(turn.now);
        if self.following.as_ref().is_none_or(|following| !following.up) {
            return;
        }
        for _ in 0..self.latest.unsaved_line.len() {
            if self.latest.asks >= LATEST_ASKS_MAX {
                break;
            }
            let Some(address) = self.latest.unsaved_line.pop_front() else { break };
            if self.latest.recalls.contains_key(&address) {
                // What is not stored yet is known to be newer than what is read.
                self.latest.unsaved_line.push_back(address);
                continue;
            }
            let keys = self.latest.unsaved.remove(&address).unwrap_or_default();
            let kept = keys.iter().filter_map(|key| self.latest.values.get(turn.now, &address, *key));
            let values: Vec<Arc<Event>> = kept.cloned().collect();
            if !values.is_empty() {
                self.latest.asks += 1;
                let ask = Ask::Remember { stream: address.clone(), values };
                self.questions.ask(Question::Remember { address, keys }, ask, turn.out);
            }
        }
    }

    /// The store was told, or could not be: then it is told again.
    pub(super) fn remembered(
        &mut self,
        turn: &mut Turn<'_>,
        (address, keys): (&Arc<str>, Vec<LatestKey>),
        answer: &Answer,
    ) {
        self.latest.asks -= 1;
        if *answer != Answer::Remembered {
            for key in keys {
                let waits = self.latest.save_later(address, key);
                self.counts.latest_unsaved += u64::from(!waits);
            }
        }
        self.ask_latest(turn);
    }
}

#[cfg(test)]
mod tests;
