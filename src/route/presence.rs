//! Which users are in which rooms under `ROOM_PRESENCE`, and what the members here were told of it.
//!
//! Owns one entry for each user and room where a shard or another instance has the user, where members here must still
//! hear that nobody has, or where the user may come back within the grace. Never counts steps: shards and instances tell
//! state, and an announcement is due exactly where what is differs from what was announced. So a user in several places
//! comes once and goes once, whatever order they tell it in; every instance announces to its own members alone; and what
//! found no room in a mailbox is announced later, if it still holds then. Invariant: who is to be announced waits in the
//! queue, once.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use crate::{
    clock::Now,
    ids::{ConnId, ShardId},
    limits::{ANNOUNCED_ROOM_MEMBERS_MAX, ANNOUNCEMENTS_MAX, GRACES_MAX},
    stream::word::InstanceId,
};

/// Users by room.
#[derive(Debug, Default)]
pub(super) struct Presence {
    rooms: HashMap<Arc<str>, HashMap<Arc<str>, Present>>,
    /// The rooms of each user that has an entry.
    users: HashMap<Arc<str>, HashSet<Arc<str>>>,
    queue: VecDeque<(Arc<str>, Arc<str>)>,
    /// Who left when, with when the grace ends; whoever came back since is still listed.
    graces: VecDeque<(u64, Arc<str>, Arc<str>)>,
    grace: Duration,
}

/// One user in one room.
#[derive(Debug, Default)]
struct Present {
    /// Where the user is here; nearly always one.
    shards: Vec<ShardId>,
    /// Other instances where the user is.
    elsewhere: Vec<InstanceId>,
    /// The connection here that came or went last; `None`: it was elsewhere.
    conn: Option<ConnId>,
    /// Whether the members were told that the user is in the room.
    joined: bool,
    /// Whether they were told that the user is online.
    online: bool,
    /// Of who has left: when the grace ends, monotonic nanoseconds; 0: it has ended.
    grace_until_ns: u64,
    /// Whether it is in the queue.
    waits: bool,
}

impl Present {
    fn is_present(&self) -> bool {
        !self.shards.is_empty() || !self.elsewhere.is_empty()
    }

    /// What the members are to be told next.
    fn due(&self) -> Option<Change> {
        match (self.is_present(), self.joined, self.online) {
            (true, false, _) => Some(Change::Joined),
            (true, true, false) => Some(Change::Online),
            (false, true, _) => Some(Change::Left),
            (false, false, true) if self.grace_until_ns == 0 => Some(Change::Offline),
            _ => None,
        }
    }

    fn announced(&mut self, change: Change) {
        match change {
            Change::Joined => self.joined = true,
            Change::Left => self.joined = false,
            Change::Online => self.online = true,
            Change::Offline => self.online = false,
        }
    }
}

/// What members are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The user came into the room.
    Joined,
    /// The user left it.
    Left,
    /// The user came, and was not known to be there at all.
    Online,
    /// The user had left with all connections, and did not come back.
    Offline,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Announcement<'a> {
    pub(super) room: &'a Arc<str>,
    pub(super) user: &'a Arc<str>,
    pub(super) change: Change,
    /// The connection whose doing it was, if that is one here.
    pub(super) conn: Option<ConnId>,
}

impl Presence {
    /// Who has left a room may come back so soon that nobody is told more.
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, ..Self::default() }
    }

    /// A shard tells whether the user is in the room there, and by which connection that changed; `true`: the user came to
    /// this instance, or left it.
    pub(super) fn set(
        &mut self,
        now: Now,
        room: &Arc<str>,
        user: &Arc<str>,
        present: bool,
        conn: ConnId,
    ) -> bool {
        let shard = conn.shard();
        let Some(entry) = self.entry(room, user, present) else { return false };
        let before = entry.shards.is_empty();
        entry.shards.retain(|held| *held != shard);
        if present {
            entry.shards.push(shard);
        }
        entry.conn = Some(conn);
        let changed = before != entry.shards.is_empty();
        self.settle(now, room, user);
        changed
    }

    /// Another instance tells whether it has the user in the room.
    pub(super) fn hear(
        &mut self,
        now: Now,
        from: InstanceId,
        room: &Arc<str>,
        user: &Arc<str>,
        present: bool,
    ) {
        let Some(entry) = self.entry(room, user, present) else { return };
        entry.elsewhere.retain(|instance| *instance != from);
        if present {
            entry.elsewhere.push(from);
        }
        entry.conn = None;
        self.settle(now, room, user);
    }

    /// Another instance tells all whom it has in the room. Who is new among them was there before, for all that is known.
    pub(super) fn hear_all(&mut self, now: Now, from: InstanceId, room: &Arc<str>, users: &[Arc<str>]) {
        let listed: HashSet<&Arc<str>> = users.iter().collect();
        for user in self.users_of(room, from) {
            if !listed.contains(&user) {
                self.hear(now, from, room, &user, false);
            }
        }
        for user in users {
            let Some(entry) = self.entry(room, user, true) else { continue };
            if !entry.is_present() && !entry.online {
                (entry.joined, entry.online) = (true, true);
            }
            self.hear(now, from, room, user, true);
        }
    }

    /// Another instance has nobody in the room any more.
    pub(super) fn forget_instance_in(&mut self, now: Now, from: InstanceId, room: &Arc<str>) {
        self.hear_all(now, from, room, &[]);
    }

    /// Another instance is gone, with everybody it had.
    pub(super) fn forget_instance(&mut self, now: Now, from: InstanceId) {
        let rooms: Vec<Arc<str>> = self.rooms.keys().cloned().collect();
        rooms.iter().for_each(|room| self.forget_instance_in(now, from, room));
    }

    /// Nobody here is in the room any more: there is nobody to tell.
    pub(super) fn forget_room(&mut self, room: &Arc<str>) {
        let Some(users) = self.rooms.get_mut(room) else { return };
        users.values_mut().for_each(|entry| entry.elsewhere.clear());
        let gone: Vec<Arc<str>> =
            users.iter().filter(|(_, entry)| entry.shards.is_empty()).map(|(user, _)| user.clone()).collect();
        let mut waited = false;
        for user in &gone {
            waited |= self.remove(room, user).is_some_and(|entry| entry.waits);
        }
        if waited {
            self.queue.retain(|(queued, user)| queued != room || !gone.contains(user));
        }
    }

    /// Time passed: who did not come back within the grace is offline, unless `connected` says otherwise.
    pub(super) fn clock(&mut self, now: Now, connected: impl Fn(&Arc<str>) -> bool) {
        while let Some((until_ns, ..)) = self.graces.front() {
            if *until_ns > now.mono_ns && self.graces.len() <= GRACES_MAX {
                break;
            }
            let Some((until_ns, room, user)) = self.graces.pop_front() else { break };
            let Some(entry) = self.rooms.get_mut(&room).and_then(|users| users.get_mut(&user)) else {
                continue;
            };
            if entry.is_present() || entry.grace_until_ns != until_ns {
                continue;
            }
            entry.grace_until_ns = 0;
            // Who left the room and is still connected is not offline, but no longer of interest to it.
            entry.online &= !connected(&user);
            self.queue_due(&room, &user);
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
            let Some(entry) = self.rooms.get_mut(&room).and_then(|users| users.get_mut(&user)) else {
                continue;
            };
            entry.waits = false;
            while let Some(change) = entry.due() {
                let conn = entry.conn.filter(|_| change != Change::Offline);
                if !announce(Announcement { room: &room, user: &user, change, conn }) {
                    break;
                }
                entry.announced(change);
            }
            self.queue_due(&room, &user);
        }
    }

    /// Who is in which room, by what shards and instances told.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rooms.iter().flat_map(|(room, users)| {
            let present = users.iter().filter(|(_, entry)| entry.is_present());
            present.map(|(user, _)| (&**room, &**user))
        })
    }

    /// Users of the room on this instance; `None`: so many that nobody is announced.
    pub(super) fn here(&self, room: &str) -> Option<Vec<Arc<str>>> {
        let users = self.rooms.get(room).into_iter().flatten().filter(|(_, entry)| !entry.shards.is_empty());
        let users: Vec<Arc<str>> = users.map(|(user, _)| user.clone()).collect();
        (users.len() <= ANNOUNCED_ROOM_MEMBERS_MAX).then_some(users)
    }

    /// Rooms that the user is in.
    pub(super) fn rooms_of(&self, user: &str) -> Vec<Arc<str>> {
        let rooms = self.users.get(user).into_iter().flatten();
        let entry = |room: &Arc<str>| self.rooms.get(room).and_then(|users| users.get(user));
        let present = |room: &&Arc<str>| entry(room).is_some_and(Present::is_present);
        rooms.filter(present).cloned().collect()
    }

    fn users_of(&self, room: &str, from: InstanceId) -> Vec<Arc<str>> {
        let users = self.rooms.get(room).into_iter().flatten();
        users.filter(|(_, entry)| entry.elsewhere.contains(&from)).map(|(user, _)| user.clone()).collect()
    }

    /// The entry; made where there is none and one is needed.
    fn entry(&mut self, room: &Arc<str>, user: &Arc<str>, needed: bool) -> Option<&mut Present> {
        if needed && self.users.entry(user.clone()).or_default().insert(room.clone()) {
            self.rooms.entry(room.clone()).or_default().insert(user.clone(), Present::default());
        }
        self.rooms.get_mut(room)?.get_mut(user)
    }

    fn remove(&mut self, room: &Arc<str>, user: &Arc<str>) -> Option<Present> {
        let rooms = self.users.get_mut(user)?;
        rooms.remove(room);
        if rooms.is_empty() {
            self.users.remove(user);
        }
        let users = self.rooms.get_mut(room)?;
        let entry = users.remove(user);
        if users.is_empty() {
            self.rooms.remove(room);
        }
        entry
    }

    /// Begins or ends the grace of an entry that changed.
    fn settle(&mut self, now: Now, room: &Arc<str>, user: &Arc<str>) {
        let Some(entry) = self.rooms.get_mut(room).and_then(|users| users.get_mut(user)) else { return };
        if entry.is_present() {
            entry.grace_until_ns = 0;
        } else if entry.online && entry.grace_until_ns == 0 {
            entry.grace_until_ns = now.after(self.grace).mono_ns;
            self.graces.push_back((entry.grace_until_ns, room.clone(), user.clone()));
        }
        self.queue_due(room, user);
    }

    /// Queues an entry of which something is to be told, and drops one of which nothing ever will be.
    fn queue_due(&mut self, room: &Arc<str>, user: &Arc<str>) {
        let Some(entry) = self.rooms.get_mut(room).and_then(|users| users.get_mut(user)) else { return };
        if entry.due().is_some() {
            if !mem::replace(&mut entry.waits, true) {
                self.queue.push_back((room.clone(), user.clone()));
            }
        } else if !entry.waits && !entry.is_present() && !entry.online {
            self.remove(room, user);
        }
    }

    /// Panics when the invariant above does not hold.
    pub(super) fn check_invariants(&self) {
        let entries = || self.rooms.iter().flat_map(|(room, users)| users.iter().map(move |one| (room, one)));
        let queued: HashSet<&(Arc<str>, Arc<str>)> = self.queue.iter().collect();
        let waiting = entries().filter(|(_, (_, entry))| entry.waits).count();
        assert_eq!((queued.len(), waiting), (self.queue.len(), self.queue.len()), "who waits waits once");
        for (room, (user, entry)) in entries() {
            assert!(self.users.get(user).is_some_and(|rooms| rooms.contains(room)), "{user} in {room}");
            assert!(entry.waits || entry.due().is_none(), "{user} in {room} is not announced");
            assert!(entry.waits || entry.is_present() || entry.online, "{user} in {room} is a ghost");
        }
        assert_eq!(self.users.values().map(HashSet::len).sum::<usize>(), entries().count(), "rooms of users");
    }
}

#[cfg(test)]
mod tests;
