//! Identifiers that name their owner.
//!
//! Owns the packing of a connection's id. Never looks anything up: which shard owns a connection is arithmetic,
//! and an id that outlived its connection is recognised by its generation.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

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

/// Where a client comes from, as far as clients can be told apart by it: an IPv4 address, or an IPv6 /64, all of whose
/// addresses one subscriber has (RFC 6177 §2). The default stands for clients whose address is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Network(u64);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // Within ::/8, which no IPv6 client has an address of (RFC 4291 §2.4), so that the two never meet.
            IpAddr::V4(address) => Self(u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((Ipv6Addr::to_bits(address) >> 64) as u64),
        }
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
    #[test]
    fn a_network_is_an_ipv4_address_or_an_ipv6_64() {
        let of = |text: &str| Network::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"), "as a listener on :: sees IPv4 clients");
        for (one, other) in [
            ("2001:db8:1:2::1", "2001:db8:1:3::1"),
            ("192.0.2.1", "192.0.2.2"),
            ("32.1.13.184", "2001:db8::"),
        ] {
            assert_ne!(of(one), of(other));
        }
    }
}
