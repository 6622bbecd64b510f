//! Identifiers that name their owner.
//!
//! Owns the packing of a connection's id. Never looks anything up: which shard owns a connection is arithmetic,
//! and an id that outlived its connection is recognised by its generation.

use std::fmt;

/// One shard: one executor, one core, one hub. `0 <= index < shard count <= 1024`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// Position in the shard tables of topology, mesh and metrics.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

const SLOT_BITS: u32 = 24;
const GENERATION_BITS: u32 = 24;

/// One connection: shard (16 bits), generation (24 bits), slot (24 bits).
///
/// The slot is reused after a connection ends, with the next generation; generations wrap after 16 million
/// reuses of one slot, longer than any message that could carry the old id is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl ConnId {
    /// Slots a shard can have.
    pub const SLOT_COUNT_MAX: u32 = 1 << SLOT_BITS;

    /// Packs the three parts; `slot < SLOT_COUNT_MAX`, the generation is taken modulo 2^24.
    pub fn new(shard: ShardId, generation: u32, slot: u32) -> Self {
        debug_assert!(slot < Self::SLOT_COUNT_MAX);
        let generation = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
        Self(
            (u64::from(shard.0) << (SLOT_BITS + GENERATION_BITS))
                | (generation << SLOT_BITS)
                | u64::from(slot),
        )
    }

    /// The inverse of [`ConnId::as_u64`].
    pub fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// The packed form, as epoll and the timer wheel carry it.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The shard that owns the connection.
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> (SLOT_BITS + GENERATION_BITS)) as u16)
    }

    /// Index into the shard's connection tables.
    pub fn slot(self) -> usize {
        (self.0 & u64::from(Self::SLOT_COUNT_MAX - 1)) as usize
    }

    /// How often the slot had been used before, modulo 2^24.
    pub fn generation(self) -> u32 {
        ((self.0 >> SLOT_BITS) & ((1 << GENERATION_BITS) - 1)) as u32
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.shard().0, self.slot(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_names_shard_slot_and_generation() {
        let conn = ConnId::new(ShardId(7), 9, 1234);
        assert_eq!((conn.shard(), conn.generation(), conn.slot()), (ShardId(7), 9, 1234));
        assert_eq!(ConnId::from_u64(conn.as_u64()), conn);
    }

    #[test]
    fn generations_wrap_without_touching_the_shard() {
        let conn = ConnId::new(ShardId(3), u32::MAX, 0);
        assert_eq!((conn.shard(), conn.generation()), (ShardId(3), (1 << 24) - 1));
    }
}
