//! Which shards hold connections of a user or members of a room, and how many.
//!
//! Owns what shards told; they tell state, never steps, so that a message lost or repeated heals with the next.
//! Invariants: no count is zero, no entry is empty, totals equal the sum of entries.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::counts::RoomCounts;
use crate::{event::Address, ids::ShardId};

/// The directory of one instance.
#[derive(Debug, Default)]
pub struct Directory {
    users: HashMap<Arc<str>, Holding>,
    rooms: HashMap<Arc<str>, Holding>,
    /// Members of all rooms together.
    memberships: u64,
    /// What each shard was told of members elsewhere.
    counts: RoomCounts,
}

/// Connections of one address by shard.
///
/// Nearly every user is on one shard alone: the first one needs no allocation.
#[derive(Debug)]
pub struct Holding {
    first: (ShardId, u32),
    /// `None`: nowhere else.
    others: Option<Box<Others>>,
}

/// Never empty; boxed, so that the many who have none pay for a pointer alone.
#[derive(Debug)]
struct Others(Vec<(ShardId, u32)>);

impl Holding {
    /// Connections on that shard.
    pub fn on(&self, shard: ShardId) -> u32 {
        self.iter().find(|(held, _)| *held == shard).map_or(0, |(_, count)| count)
    }

    /// Connections on all shards.
    pub fn total(&self) -> u32 {
        self.iter().map(|(_, count)| count).sum()
    }

    /// Shards with at least one, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (ShardId, u32)> + '_ {
        let others = self.others.iter().flat_map(|others| &others.0);
        std::iter::once(self.first).chain(others.copied())
    }

    fn is_spread(&self) -> bool {
        self.others.is_some()
    }

    /// Sets a count above zero.
    fn set(&mut self, shard: ShardId, count: u32) {
        if self.first.0 == shard {
            self.first.1 = count;
            return;
        }
        let others = &mut self.others.get_or_insert_with(|| Box::new(Others(Vec::new()))).0;
        match others.iter_mut().find(|(held, _)| *held == shard) {
            Some(held) => held.1 = count,
            None => others.push((shard, count)),
        }
    }

    /// Removes a shard; `false` when none is left.
    fn remove(&mut self, shard: ShardId) -> bool {
        let Some(others) = &mut self.others else { return self.first.0 != shard };
        if self.first.0 != shard {
            others.0.retain(|(held, _)| *held != shard);
        } else if let Some(other) = others.0.pop() {
            self.first = other;
        }
        self.others.take_if(|others| others.0.is_empty());
        true
    }
}

impl Directory {
    /// A shard now holds so many connections of the address; 0: none.
    pub fn set(&mut self, shard: ShardId, address: &Address, count: u32) {
        match address {
            Address::User(user) => {
                set(&mut self.users, shard, user, count);
            }
            Address::Room(room) => {
                let change = set(&mut self.rooms, shard, room, count);
                self.memberships = self.memberships + u64::from(count) - u64::from(change.before);
                if change.spread && change.before != count {
                    self.counts.changed(room);
                }
                if count == 0 && change.before > 0 {
                    self.counts.forgotten(room, shard);
                }
            }
        }
    }

    /// Where a user is connected; `None`: nowhere.
    pub fn user(&self, user: &str) -> Option<&Holding> {
        self.users.get(user)
    }

    /// Where a room has members; `None`: nowhere.
    pub fn room(&self, room: &str) -> Option<&Holding> {
        self.rooms.get(room)
    }

    /// Connections or members on all shards.
    pub fn count(&self, address: &Address) -> u32 {
        match address {
            Address::User(user) => self.user(user),
            Address::Room(room) => self.room(room),
        }
        .map_or(0, Holding::total)
    }

    /// Every user and room that anybody of is connected.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        let users = self.users.keys().cloned().map(Address::User);
        users.chain(self.rooms.keys().cloned().map(Address::Room))
    }

    /// Whether anybody of the address is connected.
    pub fn holds(&self, address: &Address) -> bool {
        match address {
            Address::User(user) => self.users.contains_key(user),
            Address::Room(room) => self.rooms.contains_key(room),
        }
    }

    /// Connections of a user on all shards.
    pub fn user_connections(&self, user: &str) -> u32 {
        self.user(user).map_or(0, Holding::total)
    }

    /// Users with a connection.
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    /// Rooms with a member.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// Members of all rooms together.
    pub fn membership_count(&self) -> u64 {
        self.memberships
    }

    /// The rooms with the most members, at most `count_max`, largest first, by name where they are equal.
    pub fn largest_rooms(&self, count_max: usize) -> Vec<(Arc<str>, u32)> {
        let mut rooms: Vec<(&Arc<str>, u32)> =
            self.rooms.iter().map(|(room, held)| (room, held.total())).collect();
        let order = |a: &(&Arc<str>, u32), b: &(&Arc<str>, u32)| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0));
        if count_max == 0 {
            return Vec::new();
        }
        if rooms.len() > count_max {
            rooms.select_nth_unstable_by(count_max - 1, order);
            rooms.truncate(count_max);
        }
        rooms.sort_unstable_by(order);
        rooms.into_iter().map(|(room, members)| (room.clone(), members)).collect()
    }

    /// Other instances have other members of the room than before.
    pub fn changed_elsewhere(&mut self, room: &Arc<str>) {
        self.counts.changed(room);
    }

    /// Tells shards how many members their rooms have elsewhere, where they know it differently; `instances`: members on
    /// other instances, `spare`: the messages that each one's mailbox can spare. What has no room, or is beyond
    /// [`ROOM_COUNTS_MAX`] rooms, waits for the next time.
    ///
    /// [`ROOM_COUNTS_MAX`]: crate::limits::ROOM_COUNTS_MAX
    pub fn take_room_counts(
        &mut self,
        spare: &mut [usize],
        instances: impl Fn(&Arc<str>) -> u32,
        tell: impl FnMut(ShardId, Arc<str>, u32),
    ) {
        let Self { counts, rooms, .. } = self;
        let held = |room: &Arc<str>| {
            let held = rooms.get(room).map_or_else(Vec::new, |held| held.iter().collect());
            (held, instances(room))
        };
        counts.take(held, spare, tell);
    }

    /// Panics when the invariants above do not hold.
    pub fn check_invariants(&self) {
        for (address, held) in self.users.iter().chain(&self.rooms) {
            assert!(held.iter().all(|(_, count)| count > 0), "{address} is held by nobody somewhere");
            assert!(
                held.others.as_ref().is_none_or(|others| !others.0.is_empty()),
                "{address}: an empty list"
            );
            let mut shards: Vec<ShardId> = held.iter().map(|(shard, _)| shard).collect();
            shards.sort_unstable();
            assert!(shards.windows(2).all(|pair| pair[0] < pair[1]), "{address} is twice on a shard");
        }
        let memberships: u64 = self.rooms.values().map(|held| u64::from(held.total())).sum();
        assert_eq!(memberships, self.memberships, "memberships");
        self.counts.check_invariants();
    }
}

/// What a new count did.
struct Change {
    /// The shard's count until now.
    before: u32,
    /// Whether more than one shard held the address, before or after.
    spread: bool,
}

fn set(table: &mut HashMap<Arc<str>, Holding>, shard: ShardId, name: &Arc<str>, count: u32) -> Change {
    match table.entry(name.clone()) {
        Entry::Vacant(entry) => {
            if count > 0 {
                entry.insert(Holding { first: (shard, count), others: None });
            }
            Change { before: 0, spread: false }
        }
        Entry::Occupied(mut entry) => {
            let held = entry.get_mut();
            let before = held.on(shard);
            let mut spread = held.is_spread();
            if count > 0 {
                held.set(shard, count);
            } else if before > 0 && !held.remove(shard) {
                entry.remove();
                return Change { before, spread };
            }
            spread |= held.is_spread();
            Change { before, spread }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ROOM_COUNTS_MAX;

    fn room(name: &str) -> Address {
        Address::Room(name.into())
    }

    #[test]
    fn a_user_on_one_shard_is_small() {
        assert!(size_of::<(Arc<str>, Holding)>() <= 32, "{}", size_of::<(Arc<str>, Holding)>());
    }

    fn told(directory: &mut Directory) -> Vec<(u16, String, u32)> {
        let mut told = Vec::new();
        let spare = &mut [usize::MAX; 3];
        directory.take_room_counts(
            spare,
            |_| 0,
            |shard, room, others| {
                told.push((shard.0, room.to_string(), others));
            },
        );
        directory.check_invariants();
        told.sort();
        told
    }

    #[test]
    fn counts_are_state_not_steps() {
        let mut directory = Directory::default();
        for count in [1, 3, 3, 2] {
            directory.set(ShardId(0), &room("r"), count);
            directory.set(ShardId(1), &Address::User("u".into()), count);
            directory.check_invariants();
        }
        assert_eq!((directory.membership_count(), directory.user_connections("u")), (2, 2));
        directory.set(ShardId(0), &room("r"), 0);
        directory.set(ShardId(1), &Address::User("u".into()), 0);
        directory.set(ShardId(1), &Address::User("u".into()), 0);
        directory.check_invariants();
        assert_eq!((directory.room_count(), directory.user_count()), (0, 0));
    }

    #[test]
    fn an_address_may_leave_its_shards_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut directory = Directory::default();
            for shard in 0..3 {
                directory.set(ShardId(shard), &room("r"), 10 + u32::from(shard));
            }
            for (gone, shard) in order.into_iter().enumerate() {
                assert_eq!(directory.room("r").unwrap().iter().count(), 3 - gone);
                directory.set(ShardId(shard), &room("r"), 0);
                directory.check_invariants();
            }
            assert_eq!(directory.room_count(), 0);
        }
    }

    #[test]
    fn shards_are_told_the_members_elsewhere_once() {
        let mut directory = Directory::default();
        directory.set(ShardId(0), &room("r"), 5);
        assert_eq!(told(&mut directory), [], "alone");
        directory.set(ShardId(1), &room("r"), 2);
        assert_eq!(told(&mut directory), [(0, "r".into(), 2), (1, "r".into(), 5)]);
        assert_eq!(told(&mut directory), []);
        directory.set(ShardId(0), &room("r"), 6);
        assert_eq!(told(&mut directory), [(1, "r".into(), 6)], "a shard counts its own members itself");
        directory.set(ShardId(0), &room("r"), 7);
        directory.set(ShardId(0), &room("r"), 6);
        assert_eq!(told(&mut directory), [], "as it was");
    }

    #[test]
    fn a_count_that_has_no_room_is_told_later() {
        let mut directory = Directory::default();
        directory.set(ShardId(0), &room("r"), 5);
        directory.set(ShardId(1), &room("r"), 2);
        let mut shards = Vec::new();
        directory.take_room_counts(&mut [0, 1], |_| 0, |shard, _, others| shards.push((shard.0, others)));
        directory.check_invariants();
        assert_eq!(shards, [(1, 5)]);
        directory.set(ShardId(1), &room("r"), 4);
        assert_eq!(told(&mut directory), [(0, "r".into(), 4)], "the newest count, to whom it was not told");
    }

    #[test]
    fn a_shard_that_forgot_a_room_is_told_again() {
        let mut directory = Directory::default();
        for shard in [0, 1] {
            directory.set(ShardId(shard), &room("r"), 3);
        }
        told(&mut directory);
        directory.set(ShardId(1), &room("r"), 0);
        directory.set(ShardId(1), &room("r"), 3);
        assert_eq!(told(&mut directory), [(1, "r".into(), 3)], "who joined anew begins with nothing");
        for count in [0, 3] {
            directory.set(ShardId(0), &room("r"), count);
            directory.set(ShardId(1), &room("r"), count);
        }
        assert_eq!(told(&mut directory), [(0, "r".into(), 3), (1, "r".into(), 3)], "so does everybody");
        directory.set(ShardId(1), &room("r"), 0);
        assert_eq!(
            told(&mut directory),
            [(0, "r".into(), 0), (1, "r".into(), 0)],
            "what was on its way is void"
        );
        directory.set(ShardId(0), &room("r"), 0);
        assert_eq!(told(&mut directory), []);
        assert_eq!(directory.room_count(), 0);
    }

    #[test]
    fn members_on_other_instances_are_elsewhere_for_every_shard() {
        let mut directory = Directory::default();
        let told = |directory: &mut Directory, instances: u32| {
            let mut told = Vec::new();
            let tell = |shard: ShardId, _, others| told.push((shard.0, others));
            directory.take_room_counts(&mut [9; 2], |_| instances, tell);
            directory.check_invariants();
            told
        };
        directory.set(ShardId(0), &room("r"), 5);
        directory.changed_elsewhere(&"r".into());
        assert_eq!(told(&mut directory, 7), [(0, 7)]);
        directory.set(ShardId(1), &room("r"), 2);
        assert_eq!(told(&mut directory, 7), [(0, 9), (1, 12)]);
        directory.changed_elsewhere(&"r".into());
        assert_eq!(told(&mut directory, 0), [(0, 2), (1, 5)]);
    }

    #[test]
    fn more_changed_rooms_than_fit_wait_for_the_next_time() {
        let mut directory = Directory::default();
        for n in 0..=ROOM_COUNTS_MAX {
            directory.set(ShardId(0), &room(&n.to_string()), 1);
            directory.set(ShardId(1), &room(&n.to_string()), 1);
        }
        assert_eq!(told(&mut directory).len(), 2 * ROOM_COUNTS_MAX);
        assert_eq!(told(&mut directory).len(), 2);
    }

    #[test]
    fn the_largest_rooms_come_first_and_equal_ones_by_name() {
        let mut directory = Directory::default();
        for (name, count) in [("c", 1), ("a", 1), ("b", 9), ("d", 1)] {
            directory.set(ShardId(0), &room(name), count);
        }
        let names = |count| {
            let rooms = directory.largest_rooms(count);
            rooms.iter().map(|(room, _)| room.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(3), ["b", "a", "c"]);
        assert_eq!(names(9).len(), 4);
        assert_eq!(names(0), [""; 0]);
    }
}
