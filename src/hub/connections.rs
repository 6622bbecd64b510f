//! What a hub knows of one connection.
//!
//! Owns the record and its parts. Never decides anything. Invariants: what most connections lack is in [`Rare`],
//! so that an idle one stays small; a record's slot is that of its id.

use std::sync::Arc;

use super::{
    deadlines::Tick,
    groups::{GroupKey, Seat},
    joining::Joining,
    limiter::Strikes,
    outbox::Outbox,
    pages::Pages,
    replay::Replays,
};
use crate::{
    config::settings::Dialect,
    ids::ConnId,
    limits::{BAD_MESSAGES_MAX, RATE_VIOLATIONS_MAX},
    rate::Bucket,
    wire::{command::RequestId, room::glob_matches},
};

/// One connection. In this order, so that a delivery finds what it needs side by side.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Connection {
    pub(super) outbox: Outbox,
    pub(super) rare: Option<Box<Rare>>,
    pub(super) id: ConnId,
    pub(super) stage: Stage,
    pub(super) dialect: Dialect,
    pub(super) awaits: Awaits,
    /// Whether it is in the hub's dirty list.
    pub(super) dirty: bool,
    /// Whether `auth:login` must come before anything else; `deadline` says until when.
    pub(super) login_required: bool,
    /// Whether the client was told that its token expires.
    pub(super) expiry_announced: bool,
    /// Whether `system:resume` is to come first (`?resume=wait`): streams are held for it.
    pub(super) resume_waits: bool,
    /// Its place among the connections of its user; `None`: anonymous.
    pub(super) user: Option<Seat>,
    pub(super) rooms: Memberships,
    pub(super) bucket: Bucket,
    /// Of the token, wall clock; 0: anonymous.
    pub(super) expires_at_ms: u64,
    /// When the last frame came.
    pub(super) heard_at: Tick,
    /// When the next ping is due.
    pub(super) ping_at: Tick,
    /// Closing: when it is ended without the peer's close. Login required: when that must have come. Of a user:
    /// when the token expires. Else never.
    pub(super) deadline: Tick,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The upgrade waits for control.
    Pending,
    /// In service.
    Open,
    /// Our close frame is queued, the peer's is awaited.
    Closing,
    /// The shard was told to shut it down; what waits is flushed first.
    Ended,
}

/// What was asked of the shard or of control for this connection; one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    Nothing,
    /// A token of `auth:login` is verified.
    Login,
    /// A token of `auth:token_refresh` is verified.
    Refresh,
    /// Control admits the user.
    Admission,
}

/// What few connections have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// The `auth:login` that waits for an admission.
    pub(super) login: Option<Login>,
    /// Globs of rooms beyond the public ones.
    pub(super) grants: Option<Arc<[Box<str>]>>,
    /// Type patterns that it does not want.
    pub(super) muted: Vec<String>,
    /// Rooms where it is typing, and until when.
    pub(super) typing: Vec<(GroupKey, Tick)>,
    /// Joins that wait for control.
    pub(super) joining: Vec<Joining>,
    /// Streams that are held or replayed.
    pub(super) replays: Option<Box<Replays>>,
    pub(super) bad_messages: Strikes<{ BAD_MESSAGES_MAX as usize - 1 }>,
    pub(super) rate_violations: Strikes<{ RATE_VIOLATIONS_MAX as usize - 1 }>,
}

impl Rare {
    fn is_empty(&self) -> bool {
        let Self { login, grants, muted, typing, joining, replays, bad_messages, rate_violations } = self;
        let lists_empty = muted.is_empty() && typing.is_empty() && joining.is_empty();
        let never_struck = bad_messages.is_unused() && rate_violations.is_unused();
        lists_empty && never_struck && login.is_none() && grants.is_none() && replays.is_none()
    }
}

/// A login whose token is good.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) request: Option<RequestId>,
    /// When control's answer must have come.
    pub(super) deadline: Tick,
}

impl Connection {
    pub(super) fn new(id: ConnId, dialect: Dialect, now: Tick) -> Self {
        Self {
            outbox: Outbox::default(),
            rare: None,
            id,
            stage: Stage::Pending,
            dialect,
            awaits: Awaits::Nothing,
            dirty: false,
            login_required: false,
            expiry_announced: false,
            resume_waits: false,
            user: None,
            rooms: Memberships::default(),
            bucket: Bucket::default(),
            expires_at_ms: 0,
            heard_at: now,
            ping_at: Tick::NEVER,
            deadline: Tick::NEVER,
        }
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Gives back what a replay needed: after a storm of them everybody is an idle connection again.
    pub(super) fn trim_rare(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.replays.take_if(|replays| replays.is_empty());
        }
        self.rare.take_if(|rare| rare.is_empty());
    }

    /// When its login must have been admitted; never: none waits.
    pub(super) fn login_deadline(&self) -> Tick {
        let login = self.rare.as_ref().and_then(|rare| rare.login.as_ref());
        login.map_or(Tick::NEVER, |login| login.deadline)
    }

    /// Whether its claims let it into rooms that are not for everybody.
    pub(super) fn is_granted(&self, room: &str) -> bool {
        let grants = self.rare.as_ref().and_then(|rare| rare.grants.as_ref());
        self.user.is_some() && grants.is_some_and(|globs| globs.iter().any(|glob| glob_matches(glob, room)))
    }

    /// Whether it asked not to get events of this type.
    #[inline]
    pub(super) fn has_muted(&self, kind: &str) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.muted.iter().any(|glob| glob_matches(glob, kind)))
    }

    /// Whether control lets it be its user's; `false` for an anonymous one too.
    #[inline]
    pub(super) fn is_admitted(&self) -> bool {
        self.user.is_some() && self.awaits != Awaits::Admission
    }
}

/// The rooms of a connection: mostly one.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    first: Option<Seat>,
    others: Option<Box<Others>>,
}

#[derive(Debug)]
struct Others(Vec<Seat>);

impl Memberships {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Seat> {
        self.first.iter().chain(self.others.iter().flat_map(|others| &others.0))
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(super) fn contains(&self, room: GroupKey) -> bool {
        self.iter().any(|seat| seat.group == room)
    }

    pub(super) fn insert(&mut self, seat: Seat) {
        if self.first.is_none() {
            self.first = Some(seat);
            return;
        }
        self.others.get_or_insert_with(|| Box::new(Others(Vec::new()))).0.push(seat);
    }

    /// Another member left and this one was moved into its position.
    pub(super) fn moved(&mut self, to: Seat) {
        let mut all = self.first.iter_mut().chain(self.others.iter_mut().flat_map(|others| &mut others.0));
        if let Some(seat) = all.find(|seat| seat.group == to.group) {
            *seat = to;
        }
    }

    pub(super) fn remove(&mut self, room: GroupKey) -> Option<Seat> {
        if let Some(first) = self.first.take_if(|seat| seat.group == room) {
            self.first = self.others.as_mut().and_then(|others| others.0.pop());
            self.others.take_if(|others| others.0.is_empty());
            return Some(first);
        }
        let others = self.others.as_mut()?;
        let index = others.0.iter().position(|seat| seat.group == room)?;
        let seat = others.0.swap_remove(index);
        self.others.take_if(|others| others.0.is_empty());
        Some(seat)
    }
}

/// The records by slot.
#[derive(Debug)]
pub(super) struct Connections(Pages<Connection>);

impl Connections {
    pub(super) const fn new() -> Self {
        Self(Pages::new())
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Slots that a look at all records goes through.
    pub(super) fn slots(&self) -> usize {
        self.0.slots()
    }

    /// The record, unless the slot is another connection's by now.
    #[inline]
    pub(super) fn get(&self, conn: ConnId) -> Option<&Connection> {
        self.at(conn.slot() as u32).filter(|record| record.id == conn)
    }

    /// As [`Connections::get`].
    #[inline]
    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.at_mut(conn.slot() as u32).filter(|record| record.id == conn)
    }

    #[inline]
    pub(super) fn at(&self, slot: u32) -> Option<&Connection> {
        self.0.get(slot)
    }

    #[inline]
    pub(super) fn at_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.0.get_mut(slot)
    }

    pub(super) fn insert(&mut self, record: Connection) {
        self.0.insert(record.id.slot() as u32, record);
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        self.get(conn)?;
        self.0.remove(conn.slot() as u32)
    }

    #[cfg(debug_assertions)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.0.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hub::groups::Groups, ids::ShardId};

    #[test]
    fn an_idle_record_is_small() {
        assert!(size_of::<Option<Connection>>() <= 112, "{}", size_of::<Option<Connection>>());
    }

    #[test]
    fn an_id_that_outlived_its_connection_finds_nothing() {
        let mut connections = Connections::new();
        let (old, new) = (ConnId::new(ShardId(0), 1, 5), ConnId::new(ShardId(0), 2, 5));
        connections.insert(Connection::new(new, Dialect::Ticketing, Tick(0)));
        assert!(connections.get(old).is_none() && connections.remove(old).is_none());
        assert!(connections.get(new).is_some());
    }

    #[test]
    fn memberships_come_and_go_in_any_order() {
        let mut rooms = Groups::new(0);
        let seats: Vec<Seat> = ["a", "b", "c"].map(|name| rooms.join(&name.into(), 0)).to_vec();
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            let mut list = Memberships::default();
            for seat in &seats {
                list.insert(*seat);
            }
            for index in order {
                assert_eq!(list.remove(seats[index].group), Some(seats[index]));
                assert_eq!(list.remove(seats[index].group), None);
            }
            assert_eq!((list.len(), list.others.is_some()), (0, false));
        }
    }
}
