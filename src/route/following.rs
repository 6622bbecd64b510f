//! The streams that have connections here, where other instances publish to them too.
//!
//! Owns a cursor for each of these streams, and which shards are owed the news that something is missing. Invariants: a
//! stream has a cursor while its address has connections here, and interest in it is the same; a shard that is owed
//! the news gets nothing of the stream before them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use super::{
    Output, Route,
    appended::Appended,
    census::Census,
    cursor::{Cursor, Moved},
    elsewhere::Elsewhere,
    questions::{Question, Read, Reader},
    turn::Turn,
    unproven::Unproven,
};
use crate::{
    config::settings::Presence,
    event::{Address, Event, Position, Target},
    ids::ShardId,
    limits::{EMPTY_ROOMS_INTERVAL, HEADS_INTERVAL, HEADS_MAX},
    stream::{
        names::{self, stream_of_address},
        store::{Answer, Ask, Failure, Page},
    },
};

#[derive(Debug)]
pub(super) struct Following {
    /// The others can be reached.
    pub(super) up: bool,
    /// Whom they have.
    pub(super) elsewhere: Elsewhere,
    /// Who wants to know whom they have.
    pub(super) census: Census,
    /// Who was let in before they told.
    pub(super) unproven: Unproven,
    pub(super) cursors: HashMap<Arc<str>, Cursor>,
    /// What this instance appended.
    pub(super) appended: Appended,
    /// Until when somebody waits for a stream's head, in order.
    pub(super) deadlines: VecDeque<(u64, Arc<str>)>,
    /// Shards that a stream's resync is still to be told, and whether what they missed is lost.
    pub(super) owed: BTreeMap<Arc<str>, BTreeMap<ShardId, bool>>,
    /// Streams whose head waits to be asked for.
    heads_waiting: VecDeque<Arc<str>>,
    /// When all heads are asked for again, monotonic nanoseconds.
    heads_due_ns: u64,
    /// When those of rooms are in which nothing was ever stored, monotonic nanoseconds.
    empty_due_ns: u64,
    /// Heads that are asked for.
    pub(super) heads: usize,
    /// Streams that the store could not be asked about; tried again each second.
    failed: BTreeSet<Arc<str>>,
}

impl Following {
    /// Nothing is connected, nobody is reached.
    pub(super) fn new(times: &Presence) -> Self {
        Self {
            up: false,
            elsewhere: Elsewhere::new(times),
            census: Census::default(),
            unproven: Unproven::default(),
            cursors: HashMap::new(),
            appended: Appended::new(),
            deadlines: VecDeque::new(),
            owed: BTreeMap::new(),
            heads_waiting: VecDeque::new(),
            heads_due_ns: 0,
            empty_due_ns: 0,
            heads: 0,
            failed: BTreeSet::new(),
        }
    }

    pub(super) fn check_invariants(&self) {
        self.cursors.values().for_each(Cursor::check_invariants);
        self.elsewhere.check_invariants();
        self.census.check_invariants();
        self.unproven.check_invariants();
        self.appended.check_invariants();
        assert!(self.heads <= HEADS_MAX, "heads that are asked for");
    }
}

impl Route {
    /// A shard told how many connections of an address it holds.
    pub(super) fn members(&mut self, turn: &mut Turn<'_>, shard: ShardId, address: &Address, count: u32) {
        let before = self.directory.count(address);
        self.directory.set(shard, address, count);
        let after = self.directory.count(address);
        let (was_on, on) = (before > 0, after > 0);
        if let Address::Room(room) = address
            && was_on
            && !on
        {
            self.presence.forget_room(room);
        }
        let Some(following) = &mut self.following else { return };
        if was_on && on && before != after {
            following.elsewhere.changed(address);
        }
        if was_on == on {
            return;
        }
        let is_wanted = on || following.census.asks(address);
        if !is_wanted {
            following.elsewhere.forget(address);
        }
        if on && following.up {
            self.latest.expect(stream_of_address(address));
        }
        if let Some(stream) = self.sequencer.stream_of(address) {
            if on {
                following.cursors.insert(stream, Cursor::default());
            } else {
                following.cursors.remove(&stream);
                following.owed.remove(&stream);
            }
        }
        if on || !is_wanted {
            turn.out.push(Output::Interest { address: address.clone(), on });
        }
    }

    /// The others cannot be reached: nobody waits for them.
    pub(super) fn down(&mut self, turn: &mut Turn<'_>) {
        let Some(following) = &mut self.following else { return };
        following.up = false;
        let waiting = std::mem::take(&mut following.deadlines);
        for (_, stream) in waiting {
            self.let_in_nameless(turn, &stream, u64::MAX);
        }
        self.end_censuses(turn);
    }

    pub(super) fn subscribed(&mut self, turn: &mut Turn<'_>, address: &Address) {
        self.census_listens(turn, address);
        // First, so that whoever waits for the head of the stream finds the values read.
        self.recall_latest(turn, &stream_of_address(address));
        self.listens(address);
        if let Some(stream) = self.sequencer.stream_of(address) {
            self.follow(turn, &stream, |cursor, _| cursor.head_due = true);
        }
    }

    /// Time passed: whoever waited long enough comes in, and what found no room may find it now.
    pub(super) fn look_after(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        let due = |following: &Following| {
            following.deadlines.front().is_some_and(|(until_ns, _)| *until_ns <= now_ns)
        };
        while let Some(following) = self.following.as_mut().filter(|following| due(following)) {
            let Some((until_ns, stream)) = following.deadlines.pop_front() else { break };
            self.let_in_nameless(turn, &stream, until_ns);
        }
        let Some(following) = &mut self.following else { return };
        let owed: Vec<Arc<str>> = following.owed.keys().cloned().collect();
        for stream in owed {
            self.tell_resync(turn, &stream, None);
        }
    }

    /// A second passed: what could not be asked is asked again.
    pub(super) fn ask_again(&mut self, turn: &mut Turn<'_>) {
        let Some(following) = &mut self.following else { return };
        for stream in std::mem::take(&mut following.failed) {
            self.follow(turn, &stream, |_, _| ());
        }
    }

    fn let_in_nameless(&mut self, turn: &mut Turn<'_>, stream: &Arc<str>, until_ns: u64) {
        let Some(following) = &mut self.following else { return };
        let Some(cursor) = following.cursors.get_mut(stream) else { return };
        let late: Vec<_> = cursor.waiters.extract_if(.., |waiter| waiter.until_ns <= until_ns).collect();
        if late.is_empty() {
            return;
        }
        cursor.nameless = true;
        late.into_iter().for_each(|waiter| self.let_one_in(turn, waiter.entry, None));
        // Should the subscription be confirmed only later, the head is asked for again then.
        self.follow(turn, stream, |cursor, _| cursor.head_due |= !cursor.head_asked);
    }

    /// Changes a cursor, and does what comes of it.
    pub(super) fn follow(
        &mut self,
        turn: &mut Turn<'_>,
        stream: &Arc<str>,
        change: impl FnOnce(&mut Cursor, &mut Moved),
    ) {
        let Some(following) = &mut self.following else { return };
        let Some(cursor) = following.cursors.get_mut(stream) else { return };
        let mut moved = Moved::default();
        change(cursor, &mut moved);
        if let Some(mark) = moved.resync {
            self.counts.resyncs += 1;
            let target = target_of(stream);
            let (shards, _) = self.targets(&target, turn.shards);
            self.owe(stream, shards, moved.lost);
            self.tell_resync(turn, stream, Some(mark.offset));
        }
        for event in moved.ready {
            self.deliver_stored(turn, stream, &event);
        }
        self.let_in(turn, stream);
        self.ask_what_is_due(turn, stream);
    }

    /// Whoever waits for the stream's position, if it is known.
    fn let_in(&mut self, turn: &mut Turn<'_>, stream: &Arc<str>) {
        let Some(cursor) = self.following.as_mut().and_then(|all| all.cursors.get_mut(stream)) else {
            return;
        };
        if cursor.at().is_none() || cursor.waiters.is_empty() {
            return;
        }
        let waiters = std::mem::take(&mut cursor.waiters);
        let at = cursor.at().cloned();
        waiters.into_iter().for_each(|waiter| self.let_one_in(turn, waiter.entry, at.as_ref()));
    }

    fn ask_what_is_due(&mut self, turn: &mut Turn<'_>, stream: &Arc<str>) {
        let Some(following) = &mut self.following else { return };
        let Some(cursor) = following.cursors.get_mut(stream).filter(|_| following.up) else { return };
        if cursor.head_due && !cursor.head_asked {
            cursor.head_asked = true;
            following.heads_waiting.push_back(stream.clone());
        }
        if cursor.fill_due
            && !cursor.filling
            && let Some(at) = cursor.at()
        {
            let (epoch, after) = (at.epoch.clone(), at.offset);
            let since_ns = turn.now.mono_ns;
            let read = Read { stream: stream.clone(), epoch, after, reader: Reader::Cursor, since_ns };
            if self.questions.put(read).is_ok() {
                cursor.filling = true;
                cursor.fill_due = false;
                self.counts.gaps += 1;
            } else {
                following.failed.insert(stream.clone());
            }
        }
        self.ask_heads(turn);
    }

    /// Asks now and then where all streams stand, so that none expires that somebody follows.
    pub(super) fn keep_heads(&mut self, turn: &mut Turn<'_>) {
        let Some(following) = &mut self.following else { return };
        let now_ns = turn.now.mono_ns;
        if now_ns < following.heads_due_ns.min(following.empty_due_ns) || !following.up {
            return;
        }
        following.empty_due_ns = turn.now.after(EMPTY_ROOMS_INTERVAL).mono_ns;
        let all = now_ns >= following.heads_due_ns;
        if all {
            following.heads_due_ns = turn.now.after(HEADS_INTERVAL).mono_ns;
        }
        let is_due = |stream: &str, cursor: &Cursor| {
            !cursor.head_asked && (all || names::is_room(stream) && cursor.is_empty())
        };
        for (stream, cursor) in following.cursors.iter_mut().filter(|(stream, cursor)| is_due(stream, cursor))
        {
            (cursor.head_due, cursor.head_asked) = (true, true);
            following.heads_waiting.push_back(stream.clone());
        }
        self.ask_heads(turn);
    }

    pub(super) fn ask_heads(&mut self, turn: &mut Turn<'_>) {
        let Some(following) = &mut self.following else { return };
        while following.heads < HEADS_MAX {
            let Some(stream) = following.heads_waiting.pop_front() else { break };
            let Some(cursor) = following.cursors.get_mut(&stream) else { continue };
            if !std::mem::take(&mut cursor.head_due) {
                continue;
            }
            following.heads += 1;
            let ask = Ask::Head { stream: stream.clone(), known: cursor.known() };
            self.questions.ask(Question::Head(stream), ask, turn.out);
        }
        self.ask_doubted(turn);
    }

    /// The store said where a stream stands, or could not. Whoever waits for one that does not answer waits on, for it is
    /// asked again while there is time.
    pub(super) fn head_told(&mut self, turn: &mut Turn<'_>, stream: &Arc<str>, answer: &Answer) {
        let Some(following) = &mut self.following else { return };
        following.heads -= 1;
        if let Answer::Head(head) = answer {
            self.follow(turn, stream, |cursor, moved| cursor.head(head, moved));
        } else {
            if let Some(cursor) = following.cursors.get_mut(stream) {
                cursor.head_asked = false;
                cursor.head_due = true;
                following.failed.insert(stream.clone());
            }
            if matches!(answer, Answer::Failed(Failure::Refused)) {
                self.let_all_in(turn, stream);
            }
        }
        self.ask_heads(turn);
    }

    /// The store will not say: nobody waits for it.
    fn let_all_in(&mut self, turn: &mut Turn<'_>, stream: &Arc<str>) {
        let Some(cursor) = self.following.as_mut().and_then(|all| all.cursors.get_mut(stream)) else {
            return;
        };
        let waiters = std::mem::take(&mut cursor.waiters);
        cursor.nameless |= !waiters.is_empty();
        waiters.into_iter().for_each(|waiter| self.let_one_in(turn, waiter.entry, None));
    }

    /// The store gave what a cursor misses, or could not.
    pub(super) fn gap_read(&mut self, turn: &mut Turn<'_>, read: &Read, page: Option<Page>) {
        let Some(following) = &mut self.following else { return };
        match page {
            Some(page) => {
                self.counts.filled += page.events.as_ref().map_or(0, Vec::len) as u64;
                self.follow(turn, &read.stream, |cursor, moved| {
                    cursor.page((&read.epoch, read.after), page, moved)
                });
            }
            None => {
                if let Some(cursor) = following.cursors.get_mut(&read.stream) {
                    cursor.filling = false;
                    cursor.fill_due = true;
                    following.failed.insert(read.stream.clone());
                }
            }
        }
    }

    /// Sends a stored event to whoever has the stream. A shard without room for it is told later that it missed something.
    fn deliver_stored(&mut self, turn: &mut Turn<'_>, stream: &Arc<str>, event: &Arc<Event>) {
        let (targets, _) = self.targets(&event.target, turn.shards);
        let reserved = self.questions.reserved();
        for shard in targets {
            if self.owes(stream, shard) {
                continue;
            }
            if turn.fits(shard, event, reserved) {
                turn.deliver(shard, event);
            } else {
                self.counts.resyncs += 1;
                self.owe(stream, [shard], false);
            }
        }
    }

    fn owes(&self, stream: &str, shard: ShardId) -> bool {
        let owed = self.following.as_ref().and_then(|following| following.owed.get(stream));
        owed.is_some_and(|shards| shards.contains_key(&shard))
    }

    fn owe(&mut self, stream: &Arc<str>, shards: impl IntoIterator<Item = ShardId>, lost: bool) {
        let mut shards = shards.into_iter().peekable();
        if let Some(following) = self.following.as_mut().filter(|_| shards.peek().is_some()) {
            let owed = following.owed.entry(stream.clone()).or_default();
            shards.for_each(|shard| *owed.entry(shard).or_default() |= lost);
        }
    }

    /// Tells shards what they are owed, as far as their mailboxes can spare the room; `offset`: where the stream stands,
    /// if not where its cursor is.
    fn tell_resync(&mut self, turn: &mut Turn<'_>, stream: &Arc<str>, offset: Option<u64>) {
        let Some(following) = &mut self.following else { return };
        let Some(at) = following.cursors.get(stream).and_then(Cursor::at) else { return };
        let offset = offset.unwrap_or(at.offset);
        let position = Position { stream: stream.clone(), epoch: at.epoch.clone(), offset };
        let Some(shards) = following.owed.get_mut(stream) else { return };
        shards.retain(|shard, lost| {
            let told = turn.can_spare(*shard);
            if told {
                turn.sent(*shard, 0);
                turn.out.push(Output::Resync { shard: *shard, position: position.clone(), lost: *lost });
            }
            !told
        });
        if shards.is_empty() {
            following.owed.remove(stream);
        }
    }
}

/// Who has a stream.
pub(super) fn target_of(stream: &str) -> Target {
    match stream.split_once(':') {
        Some(("user", user)) => Target::User(user.into()),
        Some((_, room)) => Target::Room(room.into()),
        None => Target::Everyone,
    }
}

#[cfg(test)]
mod tests;
