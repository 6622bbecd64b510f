//! The one hash that builds and instances agree on.
//!
//! Owns nothing. FNV-1a, 64 bits: its definition is a line, it has no seed and never changes. Not for what strangers choose:
//! whoever wants two texts with one hash finds them.

/// Hash of some texts; 0xff, which no UTF-8 has, stands between them.
pub fn fnv1a(parts: &[&[u8]]) -> u64 {
    let mut hash = OFFSET_BASIS;
    for (index, part) in parts.iter().enumerate() {
        let between: &[u8] = if index == 0 { &[] } else { &[0xff] };
        for byte in between.iter().chain(*part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
    hash
}

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(&[b""]), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(&[b"a"]), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(&[b"foobar"]), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn texts_are_kept_apart() {
        assert_ne!(fnv1a(&[b"ab", b"c"]), fnv1a(&[b"a", b"bc"]));
        assert_ne!(fnv1a(&[b"abc"]), fnv1a(&[b"abc", b""]));
    }
}
