//! A client of one stream, and what it is entitled to.
//!
//! Owns what it got. Each event must be the one that was stored after the one that it got before, whatever epochs are
//! named: so what a store that lost something gives again is not taken for what follows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use usher::{
    event::{Event, Position},
    ids::{ConnId, ShardId},
    route::Output,
};

use crate::seen::Seen;

/// A connection of a user.
#[derive(Debug)]
pub struct Conn {
    pub user: &'static str,
    /// What it has; `None`: nothing is known yet.
    pub mark: Option<(Arc<str>, u64)>,
    pub admitted: bool,
    /// What a replay under way brings next.
    pub replay: Option<(Arc<str>, u64)>,
    /// What stands before that, as far as it got it.
    pub replayed: Option<u64>,
    /// What it got, by offset, since it was told where the stream stands.
    pub got: BTreeMap<u64, u64>,
    /// What was stored while it was there, and it neither got nor was told of a gap since.
    pub due: BTreeSet<u64>,
}

impl Conn {
    /// One that nobody admitted yet.
    pub fn new(user: &'static str) -> Self {
        let (got, due) = (BTreeMap::new(), BTreeSet::new());
        Self { user, mark: None, admitted: false, replay: None, replayed: None, got, due }
    }

    /// Something was stored.
    pub fn is_due(&mut self, stream: &str, event: &Event) {
        if self.admitted && self.mark.is_some() && *stream == *format!("user:{}", self.user) {
            self.due.insert(token(event));
        }
    }

    /// Its shard took a message from its mailbox. Returns where it wants the next page of a replay from.
    pub fn read(
        &mut self,
        (id, shard, calm): (ConnId, ShardId, bool),
        message: &Output,
        before: &HashMap<u64, u64>,
        seen: &mut Seen,
    ) -> Option<Position> {
        let stream = format!("user:{}", self.user);
        match message {
            Output::Admitted { conn, position } if *conn == id => {
                self.admitted = true;
                self.stands(position.as_ref());
                seen.nameless += u64::from(self.mark.is_none());
            }
            Output::Deliver { event, .. } if id.shard() == shard && self.admitted => {
                let position = event.position.as_ref().filter(|place| *place.stream == *stream)?;
                let (epoch, offset) = self.mark.clone().expect("nothing comes before a position");
                assert_eq!(position.offset, offset + 1, "{stream} at {id:?}, which has {epoch}:{offset}");
                self.take(before, event);
                self.mark = Some((position.epoch.clone(), offset + 1));
                seen.delivered += 1;
            }
            Output::Resync { position, .. } if id.shard() == shard && *position.stream == *stream => {
                assert!(!calm || self.mark.is_none() || !self.admitted, "nothing was lost for good");
                if self.admitted {
                    self.stands(Some(position));
                    seen.resyncs += 1;
                }
            }
            Output::Replay { conn, page } if *conn == id => {
                let (epoch, mut offset) = self.replay.take().expect("it was asked for");
                assert_eq!(epoch, page.follows);
                for event in &page.events {
                    let position = event.position.as_ref().expect("it was stored");
                    assert_eq!((&position.epoch, position.offset), (&page.epoch, offset + 1));
                    self.take_replayed(before, event);
                    offset += 1;
                    seen.replayed += 1;
                }
                if let Some(end) = page.end {
                    assert!(!end.recovered || end.to == offset, "a page ends where it says");
                } else {
                    let epoch = page.epoch.clone();
                    self.replay = Some((epoch.clone(), offset));
                    return Some(Position { stream: page.stream.clone(), epoch, offset });
                }
            }
            _ => {}
        }
        None
    }

    /// It is told where the stream stands: whatever was before that is behind it.
    fn stands(&mut self, position: Option<&Position>) {
        self.mark = position.map(|position| (position.epoch.clone(), position.offset));
        self.got.clear();
        self.due.clear();
    }

    /// The next event of its stream.
    fn take(&mut self, before: &HashMap<u64, u64>, event: &Event) {
        let offset = event.position.as_ref().expect("it was stored").offset;
        self.follows(before, self.got.get(&(offset - 1)).copied(), event);
        self.got.insert(offset, token(event));
        self.due.remove(&token(event));
    }

    /// The next event of a replay.
    fn take_replayed(&mut self, before: &HashMap<u64, u64>, event: &Event) {
        let had = self.replayed.replace(token(event));
        self.follows(before, had, event);
    }

    fn follows(&self, before: &HashMap<u64, u64>, had: Option<u64>, event: &Event) {
        if let (Some(had), Some(before)) = (had, before.get(&token(event))) {
            assert_eq!(had, *before, "{} had something else before {event:?}", self.user);
        }
    }
}

/// The number that tells it from all others.
pub fn token(event: &Event) -> u64 {
    str::from_utf8(&event.payload).ok().and_then(|text| text.parse().ok()).expect("a number of ours")
}
