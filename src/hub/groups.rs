//! Connections by name: what users and rooms are to a hub.
//!
//! Owns the interned names, the members of each, the places reserved for those that control has not let in yet, and
//! what control was told about them. Never knows a connection beyond its slot. Invariants: a group exists exactly
//! while it has members, reservations, or control must still learn that it has neither; a group whose count differs
//! from what control was told waits in `changed`, once.

use std::{collections::VecDeque, hash::BuildHasher, num::NonZeroU32, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::pages::Pages;

/// Names a group while it exists; the number is used again afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupKey(NonZeroU32);

impl GroupKey {
    fn new(index: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    fn index(self) -> u32 {
        self.0.get() - 1
    }
}

/// A connection's place in a group, kept by the connection so that it can leave without a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) group: GroupKey,
    /// Index into the group's members.
    pub(super) position: u32,
}

/// All users, or all rooms, of a hub.
#[derive(Debug)]
pub(super) struct Groups {
    groups: Pages<Group>,
    free: Vec<GroupKey>,
    by_name: HashTable<GroupKey>,
    hasher: FixedState,
    changed: VecDeque<GroupKey>,
    /// Groups with at least one member or reservation.
    populated: usize,
}

#[derive(Debug)]
struct Group {
    name: Arc<str>,
    members: Members,
    /// Places of those that are not members yet, and may never be.
    reserved: u32,
    /// What control was told last.
    told: u32,
    /// Members on the other shards, as control said last; 0: never.
    others: u32,
    /// Whether it is in `changed`.
    waiting: bool,
}

/// Most users have one connection, and many rooms one member.
#[derive(Debug)]
enum Members {
    One(u32),
    Many(Vec<u32>),
}

impl Group {
    /// What control is told.
    fn count(&self) -> u32 {
        self.members.len() + self.reserved
    }
}

impl Groups {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            groups: Pages::new(),
            free: Vec::new(),
            by_name: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            changed: VecDeque::new(),
            populated: 0,
        }
    }

    /// Groups with at least one member or reservation.
    pub(super) const fn populated(&self) -> usize {
        self.populated
    }

    pub(super) fn find(&self, name: &str) -> Option<GroupKey> {
        let groups = &self.groups;
        let same = |key: &GroupKey| groups.get(key.index()).is_some_and(|group| *group.name == *name);
        self.by_name.find(self.hasher.hash_one(name), same).copied()
    }

    /// The slots of the members, in no order.
    pub(super) fn members(&self, key: GroupKey) -> &[u32] {
        self.groups.get(key.index()).map_or(&[], |group| group.members.as_slice())
    }

    /// Members and reservations.
    pub(super) fn count(&self, key: GroupKey) -> u32 {
        self.groups.get(key.index()).map_or(0, Group::count)
    }

    /// Members on all shards: those of this hub, and those of the others as well as is known here.
    pub(super) fn total(&self, key: GroupKey) -> u32 {
        self.groups.get(key.index()).map_or(0, |group| group.members.len().saturating_add(group.others))
    }

    pub(super) fn set_others(&mut self, name: &str, others: u32) {
        if let Some(group) = self.find(name).and_then(|key| self.groups.get_mut(key.index())) {
            group.others = others;
        }
    }

    pub(super) fn name(&self, key: GroupKey) -> Option<&Arc<str>> {
        self.groups.get(key.index()).map(|group| &group.name)
    }

    /// Adds a member; it must not be one yet.
    pub(super) fn join(&mut self, name: &Arc<str>, slot: u32) -> Seat {
        let Some(key) = self.find(name) else {
            let key = self.begin(name, Members::One(slot));
            self.populated += 1;
            self.note_change(key);
            return Seat { group: key, position: 0 };
        };
        let mut position = 0;
        if let Some(group) = self.groups.get_mut(key.index()) {
            self.populated += usize::from(group.count() == 0);
            position = group.members.len();
            group.members.push(slot);
        }
        self.note_change(key);
        Seat { group: key, position }
    }

    /// Keeps a place for somebody who may become a member.
    pub(super) fn reserve(&mut self, name: &Arc<str>) -> GroupKey {
        let key = self.find(name).unwrap_or_else(|| self.begin(name, Members::Many(Vec::new())));
        if let Some(group) = self.groups.get_mut(key.index()) {
            self.populated += usize::from(group.count() == 0);
            group.reserved += 1;
        }
        self.note_change(key);
        key
    }

    /// Gives a reserved place up.
    pub(super) fn release(&mut self, key: GroupKey) {
        if let Some(group) = self.groups.get_mut(key.index()) {
            group.reserved -= 1;
            self.populated -= usize::from(group.count() == 0);
        }
        self.note_change(key);
    }

    /// Makes a member of whom a place was reserved for; control counts it already.
    pub(super) fn settle(&mut self, key: GroupKey, slot: u32) -> Seat {
        let mut position = 0;
        if let Some(group) = self.groups.get_mut(key.index()) {
            group.reserved -= 1;
            position = group.members.len();
            group.members.push(slot);
        }
        Seat { group: key, position }
    }

    /// Takes a member out. The member that was moved into its position, if any, is returned: its seat must say so.
    pub(super) fn leave(&mut self, seat: Seat) -> Option<u32> {
        let group = self.groups.get_mut(seat.group.index())?;
        let moved = group.members.swap_remove(seat.position);
        self.populated -= usize::from(group.count() == 0);
        self.note_change(seat.group);
        moved
    }

    /// Control learns the present count by another message.
    pub(super) fn set_told(&mut self, key: GroupKey) {
        if let Some(group) = self.groups.get_mut(key.index()) {
            group.told = group.count();
        }
    }

    /// Whether control has something to learn.
    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Reports counts that differ from what control was told, until `report` does not take one.
    pub(super) fn take_changes(&mut self, report: &mut dyn FnMut(&Arc<str>, u32) -> bool) -> bool {
        while let Some(key) = self.changed.front().copied() {
            if let Some(group) = self.groups.get_mut(key.index()) {
                let count = group.count();
                if count != group.told && !report(&group.name, count) {
                    return false;
                }
                group.told = count;
                group.waiting = false;
                if count == 0 {
                    self.remove(key);
                }
            }
            self.changed.pop_front();
        }
        true
    }

    fn note_change(&mut self, key: GroupKey) {
        let Some(group) = self.groups.get_mut(key.index()) else { return };
        if !group.waiting {
            group.waiting = true;
            self.changed.push_back(key);
        }
    }

    fn begin(&mut self, name: &Arc<str>, members: Members) -> GroupKey {
        let name = Arc::clone(name);
        self.insert(Group { name, members, reserved: 0, told: 0, others: 0, waiting: false })
    }

    fn insert(&mut self, group: Group) -> GroupKey {
        let key = self.free.pop().unwrap_or_else(|| GroupKey::new(self.groups.len() as u32));
        let hash = self.hasher.hash_one(&*group.name);
        self.groups.insert(key.index(), group);
        let (groups, hasher) = (&self.groups, &self.hasher);
        self.by_name.insert_unique(hash, key, |other| {
            groups.get(other.index()).map_or(0, |group| hasher.hash_one(&*group.name))
        });
        key
    }

    fn remove(&mut self, key: GroupKey) {
        let Some(group) = self.groups.remove(key.index()) else { return };
        if let Ok(entry) = self.by_name.find_entry(self.hasher.hash_one(&*group.name), |other| *other == key)
        {
            entry.remove();
        }
        self.free.push(key);
    }

    /// Panics where the state contradicts itself; returns the number of seats taken, and of places reserved.
    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self) -> (usize, usize) {
        let mut populated = 0;
        let mut waiting = 0;
        let (mut seats, mut reserved) = (0, 0);
        for group in self.groups.iter() {
            let count = group.count();
            assert!(count > 0 || group.waiting, "{} is empty and nobody will hear of it", group.name);
            assert!(count == group.told || group.waiting, "control does not know {}", group.name);
            assert!(self.find(&group.name).is_some(), "{} is not in the index", group.name);
            populated += usize::from(count > 0);
            waiting += usize::from(group.waiting);
            seats += group.members.len() as usize;
            reserved += group.reserved as usize;
        }
        assert_eq!((self.populated, self.changed.len()), (populated, waiting));
        assert_eq!(self.by_name.len(), self.groups.len());
        (seats, reserved)
    }
}

impl Members {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }

    fn len(&self) -> u32 {
        self.as_slice().len() as u32
    }

    fn push(&mut self, slot: u32) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, slot]),
            Self::Many(slots) if slots.is_empty() => *self = Self::One(slot),
            Self::Many(slots) => slots.push(slot),
        }
    }

    fn swap_remove(&mut self, position: u32) -> Option<u32> {
        match self {
            Self::One(_) => {
                *self = Self::Many(Vec::new());
                None
            }
            Self::Many(slots) => {
                let position = position as usize;
                slots.swap_remove(position);
                let moved = slots.get(position).copied();
                match **slots {
                    [last] => *self = Self::One(last),
                    // A room that emptied after a sale gives its memory back, without doing so at every step.
                    _ if slots.len() < slots.capacity() / 4 => slots.shrink_to(slots.len() * 2),
                    _ => {}
                }
                moved
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_one_connection_is_small() {
        assert!(size_of::<Option<Group>>() <= 56, "{}", size_of::<Option<Group>>());
    }

    fn changes(groups: &mut Groups) -> Vec<(String, u32)> {
        let mut list = Vec::new();
        groups.take_changes(&mut |name, count| {
            list.push((name.to_string(), count));
            true
        });
        groups.check_invariants();
        list
    }

    #[test]
    fn members_join_and_leave_in_any_order() {
        let mut groups = Groups::new(1);
        let name: Arc<str> = "event:1".into();
        let mut seats: Vec<Seat> = (0..5).map(|slot| groups.join(&name, slot)).collect();
        let key = groups.find("event:1").unwrap();
        for slot in [2_u32, 0, 4, 3, 1] {
            let seat = seats[slot as usize];
            assert_eq!(groups.members(key)[seat.position as usize], slot);
            if let Some(moved) = groups.leave(seat) {
                seats[moved as usize].position = seat.position;
            }
            groups.check_invariants();
        }
        assert_eq!((groups.count(key), groups.populated()), (0, 0));
        assert_eq!(changes(&mut groups), []);
        assert_eq!(groups.find("event:1"), None);
    }

    #[test]
    fn control_hears_the_newest_count_once() {
        let mut groups = Groups::new(1);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        groups.join(&a, 1);
        let second = groups.join(&a, 2);
        groups.join(&b, 1);
        assert_eq!(changes(&mut groups), [("a".into(), 2), ("b".into(), 1)]);
        assert!(!groups.has_changes());
        groups.leave(second);
        groups.join(&a, 3);
        assert_eq!(changes(&mut groups), [], "two again");
    }

    #[test]
    fn what_control_does_not_take_is_kept() {
        let mut groups = Groups::new(1);
        let seat = groups.join(&"a".into(), 1);
        groups.join(&"b".into(), 1);
        assert!(!groups.take_changes(&mut |name, _| &**name == "a"));
        groups.leave(seat);
        groups.check_invariants();
        assert_eq!(changes(&mut groups), [("b".into(), 1), ("a".into(), 0)]);
    }

    #[test]
    fn what_another_message_told_is_not_told_again() {
        let mut groups = Groups::new(1);
        let seat = groups.join(&"a".into(), 1);
        groups.set_told(seat.group);
        assert_eq!(changes(&mut groups), []);
        groups.leave(seat);
        assert_eq!(changes(&mut groups), [("a".into(), 0)]);
    }

    #[test]
    fn the_total_is_of_the_members_here_and_elsewhere() {
        let mut groups = Groups::new(1);
        let seat = groups.join(&"a".into(), 1);
        groups.set_others("a", 9);
        groups.join(&"a".into(), 2);
        assert_eq!(groups.total(seat.group), 11);
        groups.set_others("nobody is here", 9);
        assert_eq!(groups.find("nobody is here"), None);
    }

    #[test]
    fn a_reserved_place_counts_and_is_no_member() {
        let mut groups = Groups::new(1);
        let key = groups.reserve(&"a".into());
        assert_eq!((groups.count(key), groups.members(key).len(), groups.populated()), (1, 0, 1));
        groups.set_told(key);
        assert_eq!(changes(&mut groups), []);
        let seat = groups.settle(key, 7);
        assert_eq!((groups.count(key), groups.members(key)), (1, &[7][..]));
        assert_eq!(changes(&mut groups), [], "control counted it when it was reserved");
        assert_eq!(groups.reserve(&"a".into()), key);
        groups.leave(seat);
        assert_eq!((groups.count(key), groups.populated()), (1, 1));
        groups.release(key);
        assert_eq!((changes(&mut groups), groups.populated()), (vec![("a".into(), 0)], 0));
        assert_eq!(groups.find("a"), None);
    }
}
