//! Which users are in which rooms under `ROOM_PRESENCE`, and what the members were told of it.
//!
//! Owns one entry for each user and room where a shard has the user, or where its members must still hear that no
//! shard has. Never counts steps: shards tell state, and an announcement is due exactly where what is differs from
//! what was announced. So a user on several shards comes once and goes once, whatever order the shards tell it in,
//! and what found no room in a mailbox is announced later, if it still holds then. Invariant: who is to be announced
//! waits in the queue, once.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    ids::{ConnId, ShardId},
    limits::ANNOUNCEMENTS_MAX,
};

/// Users by room.
#[derive(Debug, Default)]
pub(super) struct Presence {
    rooms: HashMap<Arc<str>, HashMap<Arc<str>, Present>>,
    queue: VecDeque<(Arc<str>, Arc<str>)>,
}

/// One user in one room.
#[derive(Debug)]
struct Present {
    /// Where the user is; nearly always one.
    shards: Vec<ShardId>,
    /// The connection that came or went last.
    conn: ConnId,
    /// Whether the members were told of the user.
    announced: bool,
    /// Whether it is in the queue.
    waits: bool,
}

/// A user came into a room, or left it.
#[derive(Debug)]
pub(super) struct Announcement<'a> {
    pub(super) room: &'a Arc<str>,
    pub(super) user: &'a Arc<str>,
    /// Came, or left.
    pub(super) joined: bool,
    /// The connection whose doing it was.
    pub(super) conn: ConnId,
}

impl Presence {
    /// A shard tells whether the user is in the room there, and by which connection that changed.
    pub(super) fn set(&mut self, room: &Arc<str>, user: &Arc<str>, present: bool, conn: ConnId) {
        let shard = conn.shard();
        let entry = match self.rooms.get_mut(room).and_then(|users| users.get_mut(user)) {
            Some(entry) => entry,
            None if !present => return,
            None => self.rooms.entry(room.clone()).or_default().entry(user.clone()).or_insert(Present {
                shards: Vec::new(),
                conn,
                announced: false,
                waits: false,
            }),
        };
        entry.shards.retain(|held| *held != shard);
        if present {
            entry.shards.push(shard);
        }
        entry.conn = conn;
        if entry.announced == entry.shards.is_empty() && !std::mem::replace(&mut entry.waits, true) {
            self.queue.push_back((room.clone(), user.clone()));
        }
    }

    /// Whether anybody is to be announced.
    pub(super) fn is_due(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Announces what is due, at most [`ANNOUNCEMENTS_MAX`]; what `announce` does not take stays due.
    pub(super) fn take_due(&mut self, mut announce: impl FnMut(Announcement<'_>) -> bool) {
        for _ in 0..self.queue.len().min(ANNOUNCEMENTS_MAX) {
            let Some((room, user)) = self.queue.pop_front() else { break };
            let Some(users) = self.rooms.get_mut(&room) else { continue };
            let Some(entry) = users.get_mut(&user) else { continue };
            let joined = !entry.shards.is_empty();
            let announcement = Announcement { room: &room, user: &user, joined, conn: entry.conn };
            if entry.announced != joined && !announce(announcement) {
                self.queue.push_back((room, user));
                continue;
            }
            entry.announced = joined;
            entry.waits = false;
            if !joined {
                users.remove(&user);
                if users.is_empty() {
                    self.rooms.remove(&room);
                }
            }
        }
    }

    /// Who is in which room, by what the shards told.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rooms.iter().flat_map(|(room, users)| {
            let present = users.iter().filter(|(_, entry)| !entry.shards.is_empty());
            present.map(|(user, _)| (&**room, &**user))
        })
    }

    /// Panics when the invariant above does not hold.
    pub(super) fn check_invariants(&self) {
        let mut waiting = 0;
        for (room, users) in &self.rooms {
            assert!(!users.is_empty(), "{room} is remembered for nobody");
            for (user, entry) in users {
                waiting += usize::from(entry.waits);
                let settled = entry.announced && !entry.shards.is_empty();
                assert!(settled || entry.waits, "{user} in {room} is told wrongly");
            }
        }
        assert_eq!(waiting, self.queue.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(shard: u16) -> ConnId {
        ConnId::new(ShardId(shard), 0, 1)
    }

    fn set(presence: &mut Presence, shard: u16, present: bool) {
        presence.set(&"lobby".into(), &"ann".into(), present, conn(shard));
        presence.check_invariants();
    }

    fn due(presence: &mut Presence) -> Vec<(bool, ConnId)> {
        let mut list = Vec::new();
        presence.take_due(|announcement| {
            assert_eq!((&**announcement.room, &**announcement.user), ("lobby", "ann"));
            list.push((announcement.joined, announcement.conn));
            true
        });
        presence.check_invariants();
        list
    }

    #[test]
    fn a_user_on_several_shards_comes_once_and_goes_once() {
        let mut presence = Presence::default();
        set(&mut presence, 0, true);
        assert_eq!(due(&mut presence), [(true, conn(0))]);
        set(&mut presence, 1, true);
        set(&mut presence, 1, true);
        set(&mut presence, 0, false);
        assert_eq!(due(&mut presence), []);
        set(&mut presence, 1, false);
        assert_eq!(due(&mut presence), [(false, conn(1))]);
        assert_eq!((presence.rooms.len(), presence.iter().count()), (0, 0));
    }

    #[test]
    fn what_was_undone_before_it_was_told_is_not_told() {
        let mut presence = Presence::default();
        set(&mut presence, 0, true);
        set(&mut presence, 0, false);
        assert_eq!(due(&mut presence), []);
        assert!(!presence.is_due() && presence.rooms.is_empty());
        set(&mut presence, 0, true);
        due(&mut presence);
        set(&mut presence, 0, false);
        set(&mut presence, 1, true);
        assert_eq!(due(&mut presence), [], "moved to another shard");
    }

    #[test]
    fn what_is_not_taken_stays_due() {
        let mut presence = Presence::default();
        set(&mut presence, 0, true);
        presence.take_due(|_| false);
        presence.check_invariants();
        assert_eq!(due(&mut presence), [(true, conn(0))]);
        set(&mut presence, 0, false);
        presence.take_due(|_| false);
        assert_eq!(due(&mut presence), [(false, conn(0))]);
    }

    #[test]
    fn a_shard_that_repeats_that_nobody_is_there_leaves_nothing() {
        let mut presence = Presence::default();
        set(&mut presence, 0, false);
        assert!(presence.rooms.is_empty() && !presence.is_due());
    }
}
