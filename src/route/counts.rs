//! What shards were told of the members that a room has elsewhere.
//!
//! Owns the difference between what is and what was told, until it is told. Never sends more than a mailbox can
//! spare: what is untold waits its turn. Invariant: a room where any shard was told something else than holds waits
//! in the queue, once. A shard counts its own members itself, so that a room of one shard alone costs nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{ids::ShardId, limits::ROOM_COUNTS_MAX};

/// The counts told, by room; a room whose shards all believe to be alone has no entry.
#[derive(Debug, Default)]
pub(super) struct RoomCounts {
    rooms: HashMap<Arc<str>, Told>,
    queue: VecDeque<Arc<str>>,
}

#[derive(Debug, Default)]
struct Told {
    /// Members elsewhere, as each shard was told last; a shard that is not listed believes 0. `None`: nobody knows,
    /// since the shard forgot the room, before or after what was told reached it.
    shards: Vec<(ShardId, Option<u32>)>,
    /// Whether the room is in the queue.
    waits: bool,
}

impl Told {
    fn knows(&self, shard: ShardId, others: u32) -> bool {
        let told = self.shards.iter().find(|(told, _)| *told == shard);
        told.map_or(Some(0), |(_, told)| *told) == Some(others)
    }

    fn set(&mut self, shard: ShardId, others: u32) {
        self.shards.retain(|(told, _)| *told != shard);
        if others > 0 {
            self.shards.push((shard, Some(others)));
        }
    }
}

impl RoomCounts {
    /// The room's members changed on a shard while several shards hold it, or did until now.
    pub(super) fn changed(&mut self, room: &Arc<str>) {
        let told = self.rooms.entry(room.clone()).or_default();
        if !std::mem::replace(&mut told.waits, true) {
            self.queue.push_back(room.clone());
        }
    }

    /// The shard has no member any more, and forgets what it was told.
    pub(super) fn forgotten(&mut self, room: &Arc<str>, shard: ShardId) {
        let told = self.rooms.get_mut(room).and_then(|told| {
            let entry = told.shards.iter_mut().find(|(told, _)| *told == shard);
            entry.map(|(_, told)| told)
        });
        if let Some(told) = told {
            *told = None;
            self.changed(room);
        }
    }

    /// Tells each shard what it does not know: at most [`ROOM_COUNTS_MAX`] rooms, and as long as the shard can spare
    /// the room in its mailbox. `held`: the shards that hold a room, each with its members, and those on other
    /// instances.
    pub(super) fn take(
        &mut self,
        mut held: impl FnMut(&Arc<str>) -> (Vec<(ShardId, u32)>, u32),
        spare: &mut [usize],
        mut tell: impl FnMut(ShardId, Arc<str>, u32),
    ) {
        for _ in 0..self.queue.len().min(ROOM_COUNTS_MAX) {
            let Some(room) = self.queue.pop_front() else { break };
            let Some(told) = self.rooms.get_mut(&room) else { continue };
            let (held, instances) = held(&room);
            let here: u32 = held.iter().map(|(_, members)| members).sum();
            let total = here.saturating_add(instances);
            let gone = told.shards.iter().map(|(shard, _)| *shard);
            let gone =
                gone.filter(|shard| !held.iter().any(|(held, _)| held == shard)).map(|shard| (shard, 0));
            let due: Vec<(ShardId, u32)> =
                held.iter().map(|(shard, members)| (*shard, total - members)).chain(gone).collect();
            let mut left = false;
            for (shard, others) in due {
                if told.knows(shard, others) {
                    continue;
                }
                match spare.get_mut(shard.index()) {
                    Some(spare) if *spare > 0 => {
                        *spare -= 1;
                        told.set(shard, others);
                        tell(shard, room.clone(), others);
                    }
                    _ => left = true,
                }
            }
            told.waits = left;
            if left {
                self.queue.push_back(room);
            } else if told.shards.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }

    /// Panics when the invariant above does not hold.
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.rooms.values().filter(|told| told.waits).count(), self.queue.len());
        for (room, told) in &self.rooms {
            assert!(told.waits || !told.shards.is_empty(), "{room} is remembered for nothing");
            let settled = told.shards.iter().all(|(_, told)| told.is_some_and(|told| told > 0));
            assert!(told.waits || settled, "{room} is untold");
        }
    }
}
