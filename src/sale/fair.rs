//! The order of those who came before the opening.

use aws_lc_rs::hmac;

/// What the pre-queue is ordered by, ascending: HMAC-SHA-256 (RFC 2104) of the holder under the queue's seed.
pub fn order_key(seed: &[u8; 32], holder: &str) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), holder.as_bytes());
    let mut key = [0; 32];
    key.copy_from_slice(tag.as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_hmac_of_the_holder_under_the_seed() {
        // Computed with Python's hmac module.
        let key = order_key(&[7; 32], "u:42");
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "b98f5b6531bbb743c4cb3555e7bd1eaba02706d89481e6d00b29394e62df7a78");
    }
}
