//! Buyers in front of real hubs: they come with `?resume=wait` and resume, read slowly, vanish, and come back to another
//! instance.
//!
//! What a buyer reads follows what it has, one by one, whether a page or a publication brought it and whatever epochs are
//! named, until it is told that something is missing. Where nothing was lost for good, who resumes is told nothing of the kind.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};
use usher::{
    config::Settings,
    event::Position,
    hub,
    ids::{ConnId, ShardId},
    mesh::{Mailbox, Receiver, Sender, ToControl, ToShard},
    route::{Input, Output},
};

use super::{Cluster, SHARDS};
use crate::{
    client::take_frame,
    seen::Seen,
    shard::{Fate, Shard, identity},
};

/// Each has two connections at most.
pub(super) const BUYERS: [&str; 2] = ["dora", "emil"];
/// Messages of shards that control has not heard.
const TO_CONTROL_MAX: usize = 4;
const PING: &str = r#"{"type":"system:ping"}"#;

/// A shard, and both mailboxes.
pub(super) struct Front {
    pub(super) shard: Shard,
    to: Sender<ToShard>,
    from: Receiver<ToControl>,
}

impl Front {
    pub(super) fn new(index: usize, settings: &Arc<Settings>, seed: u64) -> Self {
        let (to, inbox) = Mailbox::bounded(1);
        let (to_control, from) = Mailbox::bounded(TO_CONTROL_MAX);
        Self { shard: Shard::new(ShardId(index as u16), settings, inbox, to_control, seed), to, from }
    }
}

/// A client that keeps where it stands.
#[derive(Debug)]
pub(super) struct Buyer {
    user: &'static str,
    /// `None`: it is away.
    place: Option<(usize, ConnId)>,
    /// What it has; `None`: it was never told.
    mark: Option<(String, u64)>,
    /// The event that it got last, if that stands at its mark.
    last: Option<u64>,
    /// What was stored behind its mark, and it neither got nor was told of a gap since.
    due: BTreeSet<u64>,
    bytes: Vec<u8>,
    /// Whether it said, or will say, where it stands.
    resumes: bool,
}

impl Buyer {
    pub(super) fn new(user: &'static str) -> Self {
        let (due, bytes) = (BTreeSet::new(), Vec::new());
        Self { user, place: None, mark: None, last: None, due, bytes, resumes: false }
    }

    /// Something was stored.
    pub(super) fn is_due(&mut self, position: &Position, token: u64) {
        if self.mark.is_some() && *position.stream == *self.stream() {
            self.due.insert(token);
        }
    }

    fn stream(&self) -> String {
        format!("user:{}", self.user)
    }

    /// It reads a message; whether the connection is of any more use.
    fn read(&mut self, message: &Value, before: &HashMap<u64, u64>, (calm, seen): (bool, &mut Seen)) -> bool {
        let payload = &message["payload"];
        match message["type"].as_str() {
            Some("system:connected") => {
                let place = &payload["streams"][0];
                if self.mark.is_none() && !place.is_null() {
                    self.stands(place, "offset");
                }
            }
            Some("system:resumed") if payload["recovered"] == true => {
                let (_, offset) = self.mark.as_ref().expect("it said where it stands");
                assert_eq!(payload["to"].as_u64(), Some(*offset), "{message}: {self:?}");
                seen.recovered += 1;
            }
            Some("system:resumed") => {
                assert!(!calm, "nothing was lost for good: {message}, {self:?}");
                self.stands(payload, "to");
                seen.gaps_told += 1;
            }
            Some("system:resync") => {
                assert!(!calm || self.mark.is_none(), "nothing was lost for good: {message}, {self:?}");
                self.stands(payload, "offset");
                seen.gaps_told += 1;
            }
            Some("system:error") => {
                seen.refused += 1;
                return false;
            }
            Some("booking:updated") if !message["offset"].is_null() => self.take(message, before, seen),
            _ => {}
        }
        true
    }

    /// It is told where the stream stands: whatever was before that is behind it.
    fn stands(&mut self, place: &Value, offset: &str) {
        let epoch = place["epoch"].as_str().expect("an epoch").to_owned();
        self.mark = Some((epoch, place[offset].as_u64().expect("an offset")));
        self.last = None;
        self.due.clear();
    }

    fn take(&mut self, message: &Value, before: &HashMap<u64, u64>, seen: &mut Seen) {
        let token = message["payload"].as_u64().expect("a number of ours");
        let offset = message["offset"].as_u64().expect("an offset");
        let (_, last) = self.mark.as_ref().unwrap_or_else(|| panic!("{message} comes before a position"));
        assert_eq!(offset, last + 1, "{message}: {self:?}");
        if let (Some(last), Some(before)) = (self.last, before.get(&token)) {
            assert_eq!(last, *before, "{message}: {self:?}");
        }
        self.mark = Some((message["epoch"].as_str().expect("an epoch").to_owned(), offset));
        self.last = Some(token);
        self.due.remove(&token);
        seen.bought += 1;
    }
}

impl Cluster {
    pub(super) fn act_as_buyer(&mut self) {
        let number = self.rng.below(self.buyers.len());
        match self.rng.below(12) {
            0 => self.vanish(number),
            // What is on its way to it would be sent again.
            1 if self.read_as_buyer(number, usize::MAX) && self.has_read(number) => {
                self.resume_as_buyer(number);
            }
            _ => {
                let bytes_max = 200 + self.rng.below(1_000);
                self.read_as_buyer(number, bytes_max);
            }
        }
        if self.buyers[number].place.is_none() {
            self.come(number);
        }
    }

    /// Everybody is there and reads what there is.
    pub(super) fn act_as_buyers(&mut self) {
        for number in 0..self.buyers.len() {
            if !self.read_as_buyer(number, usize::MAX) {
                self.come(number);
            }
        }
    }

    fn come(&mut self, number: usize) {
        let at = self.rng.below(self.instances.len());
        let (capacity, shard) = (300 + self.rng.below(2_000), self.rng.below(SHARDS));
        let forgets = self.rng.one_in(8);
        let buyer = &mut self.buyers[number];
        buyer.resumes = buyer.mark.is_some() && !forgets;
        if !buyer.resumes {
            *buyer = Buyer::new(buyer.user);
        }
        let waits = buyer.resumes || self.rng.one_in(2);
        let who = Some(identity(buyer.user));
        buyer.bytes.clear();
        let front = &mut self.instances[at].fronts[shard];
        let conn = front.shard.open(self.now, number, who, capacity, waits);
        self.buyers[number].place = Some((at, conn));
        self.settle(at, shard);
    }

    fn vanish(&mut self, number: usize) {
        let Some((at, conn)) = self.buyers[number].place.take() else { return };
        let shard = conn.shard().index();
        self.instances[at].fronts[shard].shard.gone(self.now, conn);
        self.settle(at, shard);
    }

    fn say(&mut self, number: usize, text: &str) {
        let Some((at, conn)) = self.buyers[number].place else { return };
        let shard = conn.shard().index();
        self.instances[at].fronts[shard].shard.input(self.now, hub::Input::Text { conn, text });
        self.settle(at, shard);
    }

    fn resume_as_buyer(&mut self, number: usize) {
        let buyer = &self.buyers[number];
        let Some((epoch, offset)) = &buyer.mark else { return };
        let place = json!({"stream": buyer.stream(), "epoch": epoch, "offset": offset});
        let text = json!({"type": "system:resume", "payload": {"streams": [place]}}).to_string();
        self.say(number, &text);
    }

    /// Whether it is still there.
    fn read_as_buyer(&mut self, number: usize, bytes_max: usize) -> bool {
        let Some((at, conn)) = self.buyers[number].place else { return false };
        let shard = conn.shard().index();
        let front = &mut self.instances[at].fronts[shard];
        let socket = front.shard.sockets.get_mut(&conn).expect("who is there has a socket");
        let count = socket.kernel.len().min(bytes_max);
        self.buyers[number].bytes.extend(socket.kernel.drain(..count));
        front.shard.writable(self.now, conn);
        self.settle(at, shard);
        if !self.understand(number) {
            self.vanish(number);
        }
        self.buyers[number].place.is_some()
    }

    /// Whether nothing is on its way to it from its shard.
    fn has_read(&self, number: usize) -> bool {
        let socket = self.buyers[number].place.and_then(|(at, conn)| {
            let front = &self.instances[at].fronts[conn.shard().index()];
            front.shard.sockets.get(&conn)
        });
        socket.is_some_and(|socket| socket.kernel.is_empty())
    }

    fn understand(&mut self, number: usize) -> bool {
        let buyer = &mut self.buyers[number];
        let mut is_of_use = true;
        while let Some((op, payload)) = take_frame(&mut buyer.bytes) {
            match op {
                1 => {
                    let message = serde_json::from_slice(&payload).expect("messages are JSON");
                    let (before, judge) = (&self.stored.before, (self.calm, &mut self.seen));
                    is_of_use &= buyer.read(&message, before, judge);
                }
                8 => is_of_use = false,
                _ => {}
            }
        }
        is_of_use
    }

    /// What a shard did to its connections.
    pub(super) fn settle(&mut self, at: usize, shard: usize) {
        let front = &mut self.instances[at].fronts[shard];
        for (number, fate) in std::mem::take(&mut front.shard.fates) {
            match fate {
                Fate::Upgraded if self.buyers[number].resumes => self.resume_as_buyer(number),
                Fate::Upgraded if self.rng.one_in(2) => self.say(number, PING),
                Fate::Upgraded => {}
                Fate::Rejected(_) => self.buyers[number].place = None,
                Fate::Ended(bytes) => {
                    // Of one that vanished nobody reads what is left.
                    if self.buyers[number].place.take().is_some() {
                        self.buyers[number].bytes.extend(bytes);
                        self.understand(number);
                    }
                }
            }
        }
    }

    /// A shard takes a message of control's.
    pub(super) fn mail(&mut self, at: usize, shard: usize, message: Output) {
        let is_here = |front: &Front, conn: &ConnId| front.shard.sockets.contains_key(conn);
        let front = &mut self.instances[at].fronts[shard];
        let message = match message {
            Output::Deliver { event, .. } => ToShard::Deliver(event),
            Output::Resync { position, lost, .. } => ToShard::Resync { position, lost },
            Output::Admitted { conn, position } if is_here(front, &conn) => {
                ToShard::Admitted { conn, position }
            }
            Output::Replay { conn, page } if is_here(front, &conn) => ToShard::Replay { conn, page },
            _ => return,
        };
        front.to.try_send(message).expect("the mailbox is empty");
        front.shard.turn(self.now, 1);
        self.settle(at, shard);
    }

    /// Control takes a message of a shard's.
    pub(super) fn hear_shard(&mut self, at: usize) -> bool {
        let shard = self.rng.below(SHARDS);
        let Some(message) = self.instances[at].fronts[shard].from.try_recv() else { return false };
        let input = match message {
            ToControl::Members { address, count } => {
                Input::Members { shard: ShardId(shard as u16), address, count }
            }
            ToControl::Admit { conn, user, user_connections } => {
                Input::Admit { conn, user, user_connections }
            }
            ToControl::Resume { conn, user, resume } => Input::Resume { conn, user, resume: *resume },
            ToControl::ReplayMore { conn, stream, epoch, after } => {
                Input::ReplayMore { conn, position: Position { stream, epoch, offset: after } }
            }
            other => panic!("nobody here says {other:?}"),
        };
        self.tell(at, input);
        true
    }

    /// What every shard would do by now.
    pub(super) fn tick_shards(&mut self, at: usize) {
        for shard in 0..SHARDS {
            self.instances[at].fronts[shard].shard.turn(self.now, 0);
            self.settle(at, shard);
        }
    }

    /// Everybody has everything.
    pub(super) fn check_buyers(&mut self) {
        for buyer in &self.buyers {
            assert!(buyer.place.is_some(), "everybody came back");
            let (epoch, after) = buyer.mark.as_ref().expect("it was told where the stream stands");
            let lost: Vec<_> = buyer.due.intersection(&self.answered).collect();
            assert!(lost.is_empty(), "{buyer:?} was not told of {lost:?}");
            let page = self.stored.page(self.now, &buyer.stream().into(), (epoch, *after));
            assert_eq!(page.events, Some(Vec::new()), "{buyer:?} has everything");
            assert_eq!(page.head.offset, *after);
        }
    }
}
